//! The whole way, from taps over segments to recordings, on a folder, in memory, and on a store that misbehaves.

mod chance;
mod interrupted;
mod outage;
mod pieces;
mod recording;
#[cfg(feature = "s3")]
mod s3;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::audio::wav;
use earpiece_core::contact::event::AppEvent;
use earpiece_core::contact::facts::{CloseReason, Closed, Run, StreamFacts};
use earpiece_core::contact::ledger::{Channels, Ledger};
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_core::secret::Private;
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};

use crate::setting::Cadence;
use crate::{Recorder, Retries, Settings, Tap};

const CONTACT: ContactKey = ContactKey { bus_no: 7, contact_id: 42 };
const ORIGIN_US: i64 = 1_700_000_000_000_000;
const SILENCE: u8 = 0xFF;

/// Ids sort by the number that tests give them.
fn stream_id(n: u64) -> StreamId {
    format!("0190{n:028x}").parse().expect("an id")
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

fn settings() -> Settings {
    Settings {
        segment_ms: Some(1_000),
        ring_ms: 2_000,
        retries: Retries {
            attempts_max: 3,
            backoff_base_ms: 100,
            backoff_cap_ms: 1_000,
            attempt_ms: 1_000,
            last_ms: 120_000,
        },
        ..Settings::default()
    }
}

fn recorder(store: &Arc<dyn ObjectStore>) -> Recorder {
    recorder_with(store, settings())
}

fn recorder_with(store: &Arc<dyn ObjectStore>, settings: Settings) -> Recorder {
    Recorder::on(Arc::clone(store), Arc::clone(store), &settings, Cadence::FOLDER).expect("valid settings")
}

/// Settings with which a closed stream gets one round of retries and no more.
fn impatient() -> Settings {
    let settings = settings();
    Settings { retries: Retries { last_ms: 0, ..settings.retries }, ..settings }
}

/// A stream as its task would keep it: its tap, its facts, and what was said on it.
struct Voice {
    tap: Tap,
    facts: StreamFacts,
    said: Vec<u8>,
    /// In milliseconds since the origin.
    now_ms: i64,
}

impl Voice {
    fn new(recorder: &Recorder, n: u64, perspective: Perspective, now_ms: i64) -> Self {
        let facts = StreamFacts {
            contact: CONTACT,
            stream: stream_id(n),
            perspective,
            generation: Some(n),
            opened_us: ORIGIN_US + now_ms * 1_000,
            degraded: false,
            task: "task".into(),
            segment_ms: recorder.segment_ms(),
            frames: 0,
            samples: 0,
            frame_samples: None,
            runs: Vec::new(),
            runs_joined: 0,
            lost: Vec::new(),
            closed: None,
            telemetry: None,
            unknown_fields: 0,
        };
        Self { tap: recorder.tap(CONTACT, stream_id(n)), facts, said: Vec::new(), now_ms }
    }

    fn now_us(&self) -> i64 {
        ORIGIN_US + self.now_ms * 1_000
    }

    /// Speaks in frames of 20 ms. What is said is never silence, and different everywhere.
    fn say(&mut self, ms: i64) {
        if self.facts.runs.last().is_none_or(|run| run.anchor_us + run.samples.cast_signed() * 125 < self.now_us()) {
            let (first_sample, anchor_us) = (self.facts.samples, self.now_us());
            self.facts.runs.push(Run { first_sample, samples: 0, anchor_us, drift_samples: 0 });
        }
        for _ in 0..ms / 20 {
            let seed = self.facts.generation.unwrap_or(0) * 77_777;
            let frame: Vec<u8> = (0..160).map(|i| sample(seed + self.facts.samples + i)).collect();
            self.tap.push(&frame);
            self.said.extend(&frame);
            self.facts.frames += 1;
            self.facts.samples += 160;
            self.facts.runs.last_mut().expect("a run").samples += 160;
            self.now_ms += 20;
        }
    }

    fn wait(&mut self, ms: i64) {
        self.now_ms += ms;
    }

    fn note_lost(&mut self) {
        self.facts.lost.extend(std::iter::from_fn(|| self.tap.take_lost()));
    }

    fn cut(&mut self) {
        self.note_lost();
        self.tap.cut(self.now_us(), &self.facts);
    }

    /// Ends the stream; what it had said and what was known of it.
    fn close(mut self) -> Said {
        self.note_lost();
        self.facts.closed = Some(Closed { at_us: self.now_us(), reason: CloseReason::PeerClosed });
        self.tap.close(&self.facts);
        Said { facts: self.facts, samples: self.said }
    }

    /// Its task dies.
    fn die(self) -> Said {
        Said { facts: self.facts, samples: self.said }
    }
}

/// What was said on a stream.
#[derive(Clone)]
struct Said {
    facts: StreamFacts,
    samples: Vec<u8>,
}

fn sample(n: u64) -> u8 {
    let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed.to_le_bytes()[7] % 0xFE
}

fn event(stream: StreamId, at_us: i64, text: &str) -> AppEvent {
    AppEvent { stream, at_us, kind: "transcript".into(), body: Private::new(json!({ "text": text })) }
}

async fn object(store: &Arc<dyn ObjectStore>, path: &str) -> Vec<u8> {
    store.get(&Path::from(path)).await.expect("it is there").bytes().await.expect("read").to_vec()
}

/// Everything in a store, by name.
async fn everything(store: &Arc<dyn ObjectStore>) -> BTreeMap<String, Vec<u8>> {
    let objects: Vec<_> = store.list(None).try_collect().await.expect("listed");
    let mut all = BTreeMap::new();
    for path in objects.into_iter().map(|object| object.location.to_string()) {
        let bytes = object(store, &path).await;
        all.insert(path, bytes);
    }
    all
}

async fn names(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    everything(store).await.into_keys().collect()
}

async fn events(store: &Arc<dyn ObjectStore>) -> Vec<Value> {
    let file = object(store, "contacts/7/42/events.jsonl").await;
    let lines = file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

/// The channels of the recording: left, and right if there is one.
async fn channels(store: &Arc<dyn ObjectStore>) -> Vec<Vec<u8>> {
    let file = object(store, "contacts/7/42/recording.wav").await;
    let wav = wav::parse(&file).expect("a WAV file");
    assert_eq!((wav.format, wav.missing_bytes), (wav::Format::Ulaw, 0));
    assert!(file.len().is_multiple_of(2), "chunks are padded");
    match wav.channels {
        wav::Channels::Mono => vec![wav.data.to_vec()],
        wav::Channels::Stereo => {
            let (frames, _) = wav.data.as_chunks::<2>();
            (0..2).map(|channel| frames.iter().map(|frame| frame[channel]).collect()).collect()
        }
    }
}

/// Checks the recording against what was said: what the ledger places lies there, what it calls lost is silent, as is
/// all the rest; and everything that was said is either placed or lost, or was unwritten when its task died.
async fn assert_recording_is(store: &Arc<dyn ObjectStore>, ledger: &Ledger, said: &[Said]) {
    assert_eq!(
        serde_json::from_slice::<Ledger>(&object(store, "contacts/7/42/ledger.json").await).ok().as_ref(),
        Some(ledger)
    );
    let recorded = channels(store).await;
    assert_eq!(recorded.len(), usize::from(ledger.channels.count()));
    let length = usize::try_from(ledger.samples).expect("short");
    let mut expected = vec![vec![SILENCE; length]; recorded.len()];
    let mut said: Vec<&Said> = said.iter().collect();
    said.sort_by_key(|said| said.facts.stream);
    let mut without_place: BTreeMap<Perspective, u64> = BTreeMap::new();
    for said in said {
        let mut accounted = vec![false; said.samples.len()];
        for piece in ledger.pieces.iter().filter(|piece| piece.stream == said.facts.stream) {
            for (position, n) in (piece.position..piece.end()).zip(piece.first_sample..) {
                let (position, n) = (usize::try_from(position).expect("short"), usize::try_from(n).expect("short"));
                accounted[n] = true;
                let is_lost = ledger.lost.iter().any(|lost| {
                    lost.stream == piece.stream
                        && lost.reason.is_missing_from_recording()
                        && (lost.position..lost.position + lost.samples).contains(&(position as u64))
                });
                for (channel, plane) in expected.iter_mut().enumerate() {
                    let is_heard = match (ledger.channels, &piece.perspective) {
                        (Channels::Stereo, Perspective::Tx) => channel == 0,
                        (Channels::Stereo, Perspective::Rx) => channel == 1,
                        _ => true,
                    };
                    if is_heard {
                        plane[position] = if is_lost { SILENCE } else { said.samples[n] };
                    }
                }
            }
        }
        let known = ledger.streams.iter().find(|facts| facts.stream == said.facts.stream);
        let known = known.map_or(0, |facts| usize::try_from(facts.samples).expect("short"));
        let cut = accounted[..known].iter().filter(|is_accounted| !**is_accounted).count() as u64;
        *without_place.entry(said.facts.perspective.clone()).or_default() += cut;
        if known < said.samples.len() {
            assert!(said.facts.closed.is_none(), "a stream that was closed lacks samples");
        }
    }
    for (perspective, cut) in without_place {
        let overlaps = ledger.overlaps.iter().filter(|overlap| overlap.perspective == perspective);
        let overlapped: u64 = overlaps.map(|overlap| overlap.samples).sum();
        assert!(cut <= overlapped, "{cut} samples of {perspective} have no place, and {overlapped} were overlapped");
    }
    for (channel, (recorded, expected)) in recorded.iter().zip(&expected).enumerate() {
        let differs = recorded.iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!((recorded.len(), differs), (expected.len(), None), "channel {channel}");
    }
}

fn samples_lost(ledger: &Ledger) -> u64 {
    ledger.lost.iter().map(|lost| lost.samples).sum()
}
