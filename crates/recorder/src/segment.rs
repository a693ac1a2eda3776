//! A segment as bytes: a playable µ-law WAV (mono) with two chunks before the audio, `earp` (the stream's facts so far,
//! JSON) and `evts` (the assist app's events since the last segment, JSON lines).

use std::ops::Range;

use bytes::Bytes;
use earpiece_core::audio::wav::{self, Channels, Chunk, Format, WavError};
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::facts::StreamFacts;
use object_store::PutPayload;

use crate::error::Error;
use crate::event::Events;
use crate::name::SegmentName;

const FACTS: [u8; 4] = *b"earp";
const EVENTS: [u8; 4] = *b"evts";

/// What no segment of ours can exceed (the limits of segment, ring and events are below it): anything larger is not
/// read.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 24 << 20;

/// A segment on its way into the store. What is written under its name never changes, however often it is tried.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) contact: ContactKey,
    pub(crate) name: SegmentName,
    /// The stream's facts, JSON.
    pub(crate) facts: Vec<u8>,
    pub(crate) events: Events,
    /// The audio, without a gap.
    pub(crate) blocks: Vec<Bytes>,
}

/// The serials of pieces without samples: the first segment of a stream, and the one that tells how it ended.
const BEGINNING: u32 = 1;
const END: u32 = 2;

impl Segment {
    /// A piece of a stream, with the facts that go with it.
    pub(crate) fn of_piece(facts: &StreamFacts, first_sample: u64, samples: &[u8]) -> Result<Self, Error> {
        let not_writable = |what| Error::NotWritable { contact: facts.contact, what };
        if first_sample.saturating_add(samples.len() as u64) > facts.samples {
            return Err(not_writable("a piece of which its facts know nothing"));
        }
        let serial = match (samples.is_empty(), facts.closed) {
            (false, _) => 0,
            (true, None) => BEGINNING,
            (true, Some(_)) => END,
        };
        Ok(Self {
            contact: facts.contact,
            name: SegmentName { stream: facts.stream, first_sample, serial },
            facts: serde_json::to_vec(facts).map_err(|_| not_writable("the facts of a stream"))?,
            events: Events::default(),
            blocks: (!samples.is_empty()).then(|| Bytes::copy_from_slice(samples)).into_iter().collect(),
        })
    }

    /// What the assist app said of a stream whose audio is written in pieces. Several may write such segments, now and
    /// later, and know nothing of each other: a serial by chance keeps their names apart.
    pub(crate) fn of_events(facts: &StreamFacts, events: Events) -> Result<Self, Error> {
        let name = SegmentName { stream: facts.stream, first_sample: facts.samples, serial: fastrand::u32(END + 1..) };
        let facts_json = serde_json::to_vec(facts)
            .map_err(|_| Error::NotWritable { contact: facts.contact, what: "the facts of a stream" })?;
        Ok(Self { contact: facts.contact, name, facts: facts_json, events, blocks: Vec::new() })
    }

    pub(crate) fn samples(&self) -> u64 {
        self.blocks.iter().map(|block| block.len() as u64).sum()
    }

    /// Which samples of the stream it has.
    pub(crate) fn span(&self) -> Range<u64> {
        self.name.first_sample..self.name.first_sample + self.samples()
    }

    /// The object: what stands before the audio, then the blocks as they are.
    pub(crate) fn payload(&self) -> Result<PutPayload, WavError> {
        let samples = self.samples();
        let events = self.events.to_lines(self.name.stream);
        let mut extra = vec![Chunk { id: FACTS, body: &self.facts }];
        if !events.is_empty() {
            extra.push(Chunk { id: EVENTS, body: &events });
        }
        let header = wav::header(Format::Ulaw, Channels::Mono, samples, &extra)?;
        let padding = wav::padding(Format::Ulaw, Channels::Mono, samples);
        let before = std::iter::once(Bytes::from(header));
        let after = std::iter::once(Bytes::from_static(padding)).filter(|padding| !padding.is_empty());
        Ok(before.chain(self.blocks.iter().cloned()).chain(after).collect())
    }
}

/// A segment as it was found in the store.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) facts: StreamFacts,
    pub(crate) events: Bytes,
    /// Where in the object its audio lies: one byte per sample.
    pub(crate) data: Range<u64>,
}

/// Reads a segment; `None` when it is none, is cut off, or speaks of another stream than its name.
pub(crate) fn read(object: &Bytes, contact: ContactKey, name: SegmentName) -> Option<Read> {
    let wav = wav::parse(object).ok()?;
    let is_ours = (wav.format, wav.channels, wav.missing_bytes) == (Format::Ulaw, Channels::Mono, 0);
    let facts: StreamFacts = serde_json::from_slice(wav.chunk(FACTS)?).ok()?;
    let is_named_rightly = facts.contact == contact
        && facts.stream == name.stream
        && name.first_sample.checked_add(wav.data.len() as u64).is_some()
        && (name.serial == 0 || wav.data.is_empty());
    let events = wav.chunk(EVENTS).map_or_else(Bytes::new, |events| object.slice_ref(events));
    let data_at = wav.data.as_ptr().addr().checked_sub(object.as_ptr().addr())? as u64;
    let data = data_at..data_at + wav.data.len() as u64;
    (is_ours && is_named_rightly).then_some(Read { facts, events, data })
}
