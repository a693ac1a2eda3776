//! The front of the recorder.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::contact::facts::StreamFacts;
use earpiece_core::contact::ledger::Ledger;
use earpiece_core::contact::{ContactKey, StreamId};
use object_store::ObjectStore;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::block::Pool;
use crate::counter::Counters;
use crate::error::{Error, OpenError};
use crate::event::EventLog;
use crate::finish::{self, Finished};
use crate::open::{self, Opened};
use crate::segment::Segment;
use crate::setting::{Cadence, Resolved, Settings};
use crate::survey;
use crate::tap::Tap;
use crate::writer::Writer;

/// Contacts that are finished at the same time. Each holds some 15 MB while its recording is written.
const FINISHES_MAX: usize = 4;

/// Turns streams into segments while the call runs, and contacts into recordings when they end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Inner>);

/// What taps and finishes share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Resolved,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) writer: Writer,
    /// Writes what has to be on the disk before it is acknowledged.
    pub(crate) pieces: Writer,
    pub(crate) store: Arc<dyn ObjectStore>,
    finishes: Semaphore,
}

impl Recorder {
    /// Opens a folder, which is made if it does not exist, or `s3://bucket/prefix` (feature `s3`; credentials, region
    /// and endpoint from the usual `AWS_…` environment).
    ///
    /// # Errors
    /// When the location or a setting is not usable, or the folder cannot be written to. S3 is not spoken to yet.
    pub fn open(location: &str, settings: Settings) -> Result<Self, OpenError> {
        let Opened { segments, results, cadence } = open::open(location)?;
        Self::on(segments, results, &settings, cadence)
    }

    /// A recorder whose segments and whose finished files go through these stores, which are two views of one.
    pub(crate) fn on(
        segments: Arc<dyn ObjectStore>,
        results: Arc<dyn ObjectStore>,
        settings: &Settings,
        usual: Cadence,
    ) -> Result<Self, OpenError> {
        let settings = settings.resolve(usual)?;
        let counters = Arc::new(Counters::default());
        let writer = Writer::new(segments, settings.retries, settings.writers, Arc::clone(&counters));
        Ok(Self(Arc::new(Inner {
            settings,
            pool: Pool::new(Arc::clone(&counters)),
            pieces: writer.beside(Arc::clone(&results), settings.writers),
            writer,
            store: results,
            finishes: Semaphore::new(FINISHES_MAX),
            counters,
        })))
    }

    /// Length of a segment in milliseconds: what goes into [`earpiece_core::contact::facts::StreamFacts::segment_ms`].
    #[must_use]
    pub fn segment_ms(&self) -> u32 {
        self.0.settings.segment_ms
    }

    /// The way into the recording for one stream. It lives in the stream's task, inside a Tokio runtime.
    #[must_use]
    pub fn tap(&self, contact: ContactKey, stream: StreamId) -> Tap {
        Tap::new(Arc::clone(&self.0), contact, stream)
    }

    /// Writes one piece of a stream, for handlers that live no longer than one message: it is in the store, and on the
    /// disk, when this returns.
    ///
    /// `facts` speak of the stream up to this piece at least, `first_sample` is the index of the piece's first sample.
    /// Pieces may come in any order and more than once: the same piece is the same object, whose facts may know more
    /// when it comes again. A piece without samples carries facts alone: the beginning of a stream, or its end.
    ///
    /// # Errors
    /// [`Error::NotWritten`] when the store did not take it, after all retries: it may have arrived nevertheless.
    /// [`Error::NotWritable`] when the facts do not speak of the whole piece.
    pub async fn write_piece(&self, facts: &StreamFacts, first_sample: u64, samples: &[u8]) -> Result<(), Error> {
        let segment = Segment::of_piece(facts, first_sample, samples)?;
        let _flight = self.0.pieces.flights.begin(facts.contact);
        if self.0.pieces.write(&segment).await { Ok(()) } else { Err(Error::NotWritten { contact: facts.contact }) }
    }

    /// Where the assist app's events of a stream go whose audio is written by [`Recorder::write_piece`]. They leave with
    /// [`Recorder::write_events`].
    #[must_use]
    pub fn events(&self, stream: StreamId) -> EventLog {
        EventLog::new(stream, self.0.settings.events_bytes_max, Arc::clone(&self.0.counters))
    }

    /// Writes the events that were gathered since the last time, if there are any, as a segment without samples. It tries
    /// as long as for the last segment of a stream; events that come meanwhile wait for the next time.
    ///
    /// `facts` are those of the stream at any time, so long as a piece was written with them, too: a finish goes by those
    /// that know most. `now_us` is the time in microseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`Error::NotWritten`] when the store did not take it, after all retries. The events are dropped then, and the next
    /// segment tells how many they were. [`Error::NotWritable`] when the facts have no form as JSON.
    pub async fn write_events(&self, facts: &StreamFacts, log: &EventLog, now_us: i64) -> Result<(), Error> {
        let events = log.take();
        if events.is_empty() {
            return Ok(());
        }
        let segment = Segment::of_events(facts, events)?;
        let writer = &self.0.writer;
        let _flight = writer.flights.begin(facts.contact);
        if writer.write_last(&segment, Instant::now() + self.0.settings.retries.last()).await {
            return Ok(());
        }
        self.0.counters.gave_up_segment();
        log.lose(&segment.events, now_us);
        Err(Error::NotWritten { contact: facts.contact })
    }

    /// [`Recorder::finish_with`] no further events.
    ///
    /// # Errors
    /// As [`Recorder::finish_with`].
    pub async fn finish(&self, contact: ContactKey) -> Result<Finished, Error> {
        self.finish_with(contact, &[]).await
    }

    /// Turns the segments of a contact into its recording, ledger and events. Among the events are `extra_events`,
    /// which nobody wrote into a segment: what the Studio script told, say. Each is a JSON object with `atUs`, the time
    /// in microseconds since the Unix epoch by which it is put in order; one that is there already is not written twice.
    ///
    /// Streams of the contact that this process still writes are waited for, as long as their retries may last. May be
    /// called again at any time: after an interruption it gives what it would have given, and with nothing new it gives
    /// the ledger that is there. A contact of which no segment was ever written gets an empty ledger.
    ///
    /// # Errors
    /// When the store fails, when the recording would exceed 4 GiB, or when the files of an earlier finish cannot be
    /// read. All segments are kept then.
    pub async fn finish_with(&self, contact: ContactKey, extra_events: &[Value]) -> Result<Finished, Error> {
        let inner = &self.0;
        let patience = inner.settings.retries.last_max();
        if tokio::time::timeout(patience, inner.writer.flights.landed(contact)).await.is_err() {
            tracing::warn!(%contact, "finishing a contact of which segments are still being written");
        }
        // Never closed, so the permit is only ever waited for.
        let _permit = inner.finishes.acquire().await;
        finish::finish(inner, contact, extra_events).await
    }

    /// Contacts that have segments and no end, and of which nothing was written for `idle`: `limit` at most, in no
    /// order.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unfinished(&self, limit: usize, idle: Duration) -> Result<Vec<ContactKey>, Error> {
        survey::unfinished(&self.0.store, limit, idle).await
    }

    /// What is known of a contact: the ledger as it was written or, while there are segments that no finish has used, as
    /// it would be if every stream were to stop at its last segment. `None` for a contact without either.
    ///
    /// # Errors
    /// When the store fails, or the ledger of an earlier finish cannot be read.
    pub async fn ledger(&self, contact: ContactKey) -> Result<Option<Ledger>, Error> {
        finish::ledger_so_far(&self.0, contact).await
    }

    /// Resolves when no segment is queued or in the air: for shutting down, after all taps were closed. On a busy server
    /// that moment may never come.
    pub async fn flushed(&self) {
        self.0.writer.flights.all_landed().await;
    }

    /// What the recorder did so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }
}
