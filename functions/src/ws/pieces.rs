//! Where pieces are written: a shim, which also tells the assist app, or the recordings themselves.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use earpiece_core::contact::facts::StreamFacts;
use earpiece_core::error::{Fault, Kind};
use earpiece_core::secret::Private;
use earpiece_core::telemetry::SINK_ERRORS;
use earpiece_https::client::{Client, Limits as RequestLimits};
use earpiece_recorder::Recorder;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use serde_json::Value;
use tracing::warn;

use std::sync::Arc;

use super::limits::Limits;
use crate::counters::Counters;
use crate::settings::Ingest;
use crate::start::{Setup, StartError};

/// The shim's answers are short.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Facts above this size as base64 do not go into a header: the piece is written here, and the assist app misses it.
/// Few streams have so many runs.
const FACTS_BYTES_MAX: usize = 48 << 10;

/// A piece of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    /// The stream up to here, at least.
    pub(super) facts: &'a StreamFacts,
    /// What the assist app is to be told of the stream, which a shim does once.
    pub(super) app: Option<&'a Private<Value>>,
    /// Index, in the stream, of the first sample.
    pub(super) first_sample: u64,
    /// None in a piece that carries facts alone.
    pub(super) samples: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Facts without audio: the beginning of a stream, or its end. The assist app does not hear of it.
    pub(super) const fn of_facts(facts: &'a StreamFacts) -> Self {
        Self { facts, app: None, first_sample: facts.samples, samples: &[] }
    }
}

/// Where pieces go. A piece that was written is there for good, by whichever way.
#[derive(Clone)]
pub struct Pieces {
    shim: Option<Shim>,
    recorder: Option<Recorder>,
}

/// The shim's ingest address.
#[derive(Clone)]
struct Shim {
    client: Client,
    ingest: Ingest,
    counters: Arc<Counters>,
}

impl Pieces {
    /// For a function to which no audio comes.
    #[must_use]
    pub const fn nowhere() -> Self {
        Self { shim: None, recorder: None }
    }

    /// Recordings alone.
    #[must_use]
    pub const fn recorded(recorder: Recorder) -> Self {
        Self { shim: None, recorder: Some(recorder) }
    }

    /// The shim first, and what it does not take is written here.
    #[must_use]
    pub const fn handed_over(
        client: Client,
        ingest: Ingest,
        recorder: Option<Recorder>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { shim: Some(Shim { client, ingest, counters }), recorder }
    }

    /// As the settings say.
    ///
    /// # Errors
    /// When there is neither a shim nor a place for recordings, or one of them cannot be used.
    pub fn open(setup: &Setup) -> Result<Self, StartError> {
        let recorder = setup.recorder()?;
        match (&setup.settings.ingest, recorder) {
            (Some(ingest), recorder) => {
                let counters = Arc::clone(&setup.counters);
                Ok(Self::handed_over(setup.client()?, ingest.clone(), recorder, counters))
            }
            (None, Some(recorder)) => Ok(Self::recorded(recorder)),
            (None, None) => Err(StartError::new("EARPIECE_RECORDINGS is not set: audio would go nowhere")),
        }
    }

    /// Whether a shim gets them first, and the assist app hears what is in them.
    pub(super) const fn are_handed_over(&self) -> bool {
        self.shim.is_some()
    }

    /// Writes a piece; it is where it stays when this returns. The same piece may be written again.
    pub(super) async fn write(&self, piece: Piece<'_>, limits: &Limits) -> Result<(), Fault> {
        if let Some(shim) = &self.shim
            && shim.took(piece, limits.ingest).await
        {
            return Ok(());
        }
        let Some(recorder) = &self.recorder else {
            return Err(Fault::new(Kind::Unavailable, "the audio could not be handed over"));
        };
        let written = recorder.write_piece(piece.facts, piece.first_sample, piece.samples);
        match tokio::time::timeout(limits.write, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::new(error.kind(), "the recordings did not take it")),
            Err(_) => Err(Fault::new(Kind::Unavailable, "the recordings did not take it in time")),
        }
    }

    /// Tells the shim that no more is to be expected of a stream. Without it the shim finds out by itself.
    pub(super) async fn end(&self, facts: &StreamFacts, limits: &Limits) {
        if let Some(shim) = &self.shim {
            let address = format!("{}/end", shim.ingest.url.reveal());
            shim.post(&address, Piece::of_facts(facts), limits.ingest).await;
        }
    }
}

impl Shim {
    async fn took(&self, piece: Piece<'_>, deadline: Duration) -> bool {
        let is_taken = self.post(self.ingest.url.reveal(), piece, deadline).await;
        if !is_taken {
            self.counters.count(SINK_ERRORS, &[("sink", "ingest")]);
        }
        is_taken
    }

    async fn post(&self, address: &str, piece: Piece<'_>, deadline: Duration) -> bool {
        let facts = piece.facts;
        let Some(request) = self.request(address, piece) else {
            warn!(contact = %facts.contact, stream = %facts.stream, "a piece cannot be put into a request");
            return false;
        };
        let limits = RequestLimits { deadline, answer_bytes_max: ANSWER_BYTES_MAX };
        match self.client.send(request, limits).await {
            Ok(answer) if answer.status() == StatusCode::OK => true,
            Ok(answer) => {
                warn!(contact = %facts.contact, status = answer.status().as_u16(), "the shim did not take a piece");
                false
            }
            Err(failure) => {
                warn!(contact = %facts.contact, %failure, "the shim did not take a piece");
                false
            }
        }
    }

    fn request(&self, address: &str, piece: Piece<'_>) -> Option<Request<Bytes>> {
        let Piece { facts, app, first_sample, samples } = piece;
        let encoded = BASE64_STANDARD.encode(serde_json::to_vec(facts).ok()?);
        if encoded.len() > FACTS_BYTES_MAX {
            return None;
        }
        let mut request = Request::post(address)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("earpiece-contact", facts.contact.to_string())
            .header("earpiece-stream", facts.stream.to_string())
            .header("earpiece-perspective", facts.perspective.label())
            .header("earpiece-generation", facts.generation.unwrap_or_default())
            .header("earpiece-first-sample", first_sample)
            .header("earpiece-facts", encoded);
        if let Some(app) = app {
            let mut app = HeaderValue::from_str(&BASE64_STANDARD.encode(app.reveal().to_string())).ok()?;
            app.set_sensitive(true);
            request = request.header("earpiece-app", app);
        }
        if let Some(token) = &self.ingest.token {
            let mut token = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).ok()?;
            token.set_sensitive(true);
            request = request.header(AUTHORIZATION, token);
        }
        request.body(Bytes::copy_from_slice(samples)).ok()
    }
}
