//! `recording.wav`, written in windows, so that no call is ever in memory as a whole.
//!
//! What lies where is said by the ledger alone. On each channel the newest stream wins over what others have at the
//! same time, even where it lost samples itself: so the recording does not depend on which segments are still there.
//! Samples come from segments, or from the recording of an earlier finish where their segments are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use earpiece_core::audio::wav::{self, Channels as WavChannels, Format};
use earpiece_core::contact::ledger::{Channels, Ledger, Piece};
use earpiece_core::contact::{ContactKey, SAMPLE_RATE_HZ, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;

use crate::error::Error;
use crate::name;
use crate::span;
use crate::survey::{Found, READS_MAX, Stretch};

/// Samples per window: 30 s.
const WINDOW_SAMPLES: u64 = 30 * SAMPLE_RATE_HZ as u64;

/// Recordings below this size are written with one request, larger ones in parts of it. 5 MiB is what S3 demands of a
/// part; with this, the most parts it allows hold more than a WAV file can.
const PART_BYTES: usize = 5 << 20;

/// Parts that are uploaded at the same time.
const PARTS_MAX: usize = 2;

/// µ-law for nothing at all.
const SILENCE: u8 = 0xFF;

/// How much of an earlier recording is read to learn its form; ours need 58 bytes.
const HEAD_BYTES: u64 = 4 << 10;

/// Everything that decides what the recording sounds like.
pub(crate) struct Composition<'a> {
    pub(crate) store: &'a Arc<dyn ObjectStore>,
    pub(crate) contact: ContactKey,
    pub(crate) ledger: &'a Ledger,
    pub(crate) found: &'a BTreeMap<StreamId, Found>,
    /// Pieces that an earlier finish laid out; in its recording they lie where they lie now.
    pub(crate) earlier: Option<&'a Ledger>,
}

/// The recording of an earlier finish.
#[derive(Clone, Copy)]
struct Base {
    channels: WavChannels,
    data_at: u64,
    /// Moments that it has.
    frames: u64,
}

/// Samples of a segment, and where in the window they go.
struct Take<'a> {
    stretch: &'a Stretch,
    samples: Range<u64>,
    at: usize,
}

/// What is put on a window, one after the other.
enum Stroke<'a> {
    /// A stretch that a piece claims: what the earlier recording has of it, or silence.
    Ground { is_earlier: bool, area: Range<usize> },
    /// Samples from a segment.
    Samples(Take<'a>),
}

/// A window on the recording: a plane of samples for each channel.
struct Canvas {
    planes: [Vec<u8>; 2],
    channels: Channels,
}

impl Composition<'_> {
    /// Writes `recording.wav`.
    pub(crate) async fn write(&self) -> Result<(), Error> {
        let channels = match self.ledger.channels {
            Channels::Mono => WavChannels::Mono,
            Channels::Stereo => WavChannels::Stereo,
        };
        let samples = self.ledger.samples;
        let header = wav::header(Format::Ulaw, channels, samples, &[])
            .map_err(|error| Error::wav(self.contact, samples, error))?;
        let base = self.base().await?;
        let target = name::recording(self.contact);
        let mut file =
            BufWriter::with_capacity(Arc::clone(self.store), target, PART_BYTES).with_max_concurrency(PARTS_MAX);
        let written = self.write_windows(&mut file, header, base).await;
        if written.is_err() {
            // What was uploaded so far would be paid for until somebody finds it.
            let _ = file.abort().await;
            return written;
        }
        let padding = wav::padding(Format::Ulaw, channels, samples);
        let ended = async {
            file.put(Bytes::from_static(padding)).await?;
            file.shutdown().await.map_err(object_store_error)
        };
        ended.await.map_err(Error::store("write a recording"))
    }

    async fn write_windows(&self, file: &mut BufWriter, header: Vec<u8>, base: Option<Base>) -> Result<(), Error> {
        file.put(header.into()).await.map_err(Error::store("write a recording"))?;
        let pieces = self.pieces_by_age();
        let mut from = 0;
        while from < self.ledger.samples {
            let window = from..(from + WINDOW_SAMPLES).min(self.ledger.samples);
            from = window.end;
            let audio = self.window(&window, &pieces, base).await?;
            file.put(audio.into()).await.map_err(Error::store("write a recording"))?;
        }
        Ok(())
    }

    /// Every piece, the oldest stream's first, and whether it was laid out by an earlier finish.
    fn pieces_by_age(&self) -> Vec<(&Piece, bool)> {
        let key = |piece: &Piece| (piece.stream, piece.first_sample);
        let earlier: BTreeSet<_> = self.earlier.iter().flat_map(|ledger| &ledger.pieces).map(key).collect();
        let mut pieces: Vec<_> =
            self.ledger.pieces.iter().map(|piece| (piece, earlier.contains(&key(piece)))).collect();
        pieces.sort_by_key(|(piece, _)| key(piece));
        pieces
    }

    async fn window(
        &self,
        window: &Range<u64>,
        pieces: &[(&Piece, bool)],
        base: Option<Base>,
    ) -> Result<Vec<u8>, Error> {
        let mut canvas = Canvas::new(index(window.end - window.start), self.ledger.channels);
        let ground = match base {
            Some(base) => self.ground(base, window).await?,
            None => Bytes::new(),
        };
        // Boxed and gathered before any is polled: a lazy stream of borrowing closures would not be `Send`.
        let reads: Vec<BoxFuture<'_, _>> = pieces
            .iter()
            .filter(|(piece, _)| piece.position < window.end && window.start < piece.end())
            .flat_map(|(piece, is_earlier)| self.strokes(piece, *is_earlier, window))
            .map(|(perspective, stroke)| self.read(perspective, stroke).boxed())
            .collect();
        let mut strokes = futures_util::stream::iter(reads).buffered(READS_MAX);
        while let Some((perspective, stroke, bytes)) = strokes.try_next().await? {
            match stroke {
                Stroke::Ground { is_earlier: true, area } => {
                    let channels = base.map_or(WavChannels::Mono, |base| base.channels);
                    canvas.restore(perspective, area, &ground, channels);
                }
                Stroke::Ground { is_earlier: false, area } => canvas.clear(perspective, area),
                Stroke::Samples(take) => canvas.paint(perspective, take.at, &bytes),
            }
        }
        Ok(canvas.into_frames())
    }

    /// A stroke with the bytes that it puts down.
    async fn read<'a>(
        &self,
        perspective: &'a Perspective,
        stroke: Stroke<'a>,
    ) -> Result<(&'a Perspective, Stroke<'a>, Bytes), Error> {
        let bytes = match &stroke {
            Stroke::Ground { .. } => Bytes::new(),
            Stroke::Samples(take) => self.samples(take).await?,
        };
        Ok((perspective, stroke, bytes))
    }

    /// What a piece puts on a window, in order.
    fn strokes<'a>(
        &'a self,
        piece: &'a Piece,
        is_earlier: bool,
        window: &Range<u64>,
    ) -> Vec<(&'a Perspective, Stroke<'a>)> {
        let positions = span::shared(&(piece.position..piece.end()), window);
        let area = index(positions.start - window.start)..index(positions.end - window.start);
        let samples =
            positions.start - piece.position + piece.first_sample..positions.end - piece.position + piece.first_sample;
        let stretches = self.found.get(&piece.stream).map_or(&[][..], |found| &found.stretches);
        let takes = stretches.iter().filter_map(|stretch| {
            let shared = span::shared(&stretch.samples, &samples);
            let at = area.start + index(shared.start.saturating_sub(samples.start));
            (!shared.is_empty()).then_some(Stroke::Samples(Take { stretch, samples: shared, at }))
        });
        let ground = std::iter::once(Stroke::Ground { is_earlier, area: area.clone() });
        ground.chain(takes).map(|stroke| (&piece.perspective, stroke)).collect()
    }

    async fn samples(&self, take: &Take<'_>) -> Result<Bytes, Error> {
        let path = name::segment(self.contact, take.stretch.name);
        let at = take.stretch.data_at + (take.samples.start - take.stretch.samples.start);
        let range = at..at + (take.samples.end - take.samples.start);
        self.store.get_range(&path, range).await.map_err(Error::store("read a segment"))
    }

    /// The earlier recording, if there is anything in it that we need.
    async fn base(&self) -> Result<Option<Base>, Error> {
        let Some(earlier) = self.earlier.filter(|ledger| !ledger.pieces.is_empty()) else { return Ok(None) };
        let unreadable = || Error::UnreadableRecording { contact: self.contact };
        let action = "read an earlier recording";
        let path = name::recording(self.contact);
        let size = match self.store.head(&path).await {
            Ok(object) => object.size,
            Err(object_store::Error::NotFound { .. }) => return Err(unreadable()),
            Err(error) => return Err(Error::store(action)(error)),
        };
        let head = self.store.get_range(&path, 0..HEAD_BYTES.min(size)).await.map_err(Error::store(action))?;
        let wav = wav::parse(&head).map_err(|_| unreadable())?;
        let data_at = wav.data.as_ptr().addr().saturating_sub(head.as_ptr().addr()) as u64;
        let frames = (size - data_at) / u64::from(wav.channels.count());
        // It may be longer, if the finish that wrote it did not come as far as its ledger.
        if wav.format != Format::Ulaw || frames < earlier.samples {
            return Err(unreadable());
        }
        Ok(Some(Base { channels: wav.channels, data_at, frames }))
    }

    /// What the earlier recording has of a window.
    async fn ground(&self, base: Base, window: &Range<u64>) -> Result<Bytes, Error> {
        let frames = span::shared(window, &(0..base.frames));
        if frames.is_empty() {
            return Ok(Bytes::new());
        }
        let frame_bytes = u64::from(base.channels.count());
        let range = base.data_at + frames.start * frame_bytes..base.data_at + frames.end * frame_bytes;
        let read = self.store.get_range(&name::recording(self.contact), range).await;
        read.map_err(Error::store("read an earlier recording"))
    }
}

impl Canvas {
    fn new(samples: usize, channels: Channels) -> Self {
        let right = match channels {
            Channels::Mono => 0,
            Channels::Stereo => samples,
        };
        Self { planes: [vec![SILENCE; samples], vec![SILENCE; right]], channels }
    }

    /// The channels that a perspective is heard on: left the contact, right the agent, and both what is neither.
    fn heard_on(&self, perspective: &Perspective) -> Range<usize> {
        match (self.channels, perspective) {
            (Channels::Mono, _) | (Channels::Stereo, Perspective::Tx) => 0..1,
            (Channels::Stereo, Perspective::Rx) => 1..2,
            (Channels::Stereo, Perspective::Mix | Perspective::Unknown(_)) => 0..2,
        }
    }

    fn clear(&mut self, perspective: &Perspective, area: Range<usize>) {
        let heard_on = self.heard_on(perspective);
        for plane in &mut self.planes[heard_on] {
            plane[area.clone()].fill(SILENCE);
        }
    }

    fn paint(&mut self, perspective: &Perspective, at: usize, samples: &[u8]) {
        let heard_on = self.heard_on(perspective);
        for plane in &mut self.planes[heard_on] {
            plane[at..at + samples.len()].copy_from_slice(samples);
        }
    }

    /// Puts back what the earlier recording has: channel by channel, or its only one on each.
    fn restore(&mut self, perspective: &Perspective, area: Range<usize>, ground: &[u8], channels: WavChannels) {
        let heard_on = self.heard_on(perspective);
        let step = usize::from(channels.count());
        for (channel, plane) in self.planes.iter_mut().enumerate().filter(|(channel, _)| heard_on.contains(channel)) {
            let samples = ground.iter().skip(channel.min(step - 1)).step_by(step);
            for (slot, sample) in plane[area.clone()].iter_mut().zip(samples.skip(area.start)) {
                *slot = *sample;
            }
        }
    }

    fn into_frames(self) -> Vec<u8> {
        let [left, right] = self.planes;
        match self.channels {
            Channels::Mono => left,
            Channels::Stereo => {
                let mut frames = vec![SILENCE; left.len() * 2];
                wav::interleave_into(&left, &right, &mut frames);
                frames
            }
        }
    }
}

/// A length within a window as an index. Windows are far below what an index can be.
fn index(samples: u64) -> usize {
    usize::try_from(samples).unwrap_or(usize::MAX)
}

/// The writer speaks the language of files, and means that of stores.
fn object_store_error(error: std::io::Error) -> object_store::Error {
    error.downcast().unwrap_or_else(|error| object_store::Error::Generic { store: "upload", source: Box::new(error) })
}
