//! What all streams of a contact did, laid out on one clock.
//!
//! [`Ledger::lay_out`] is a pure function of the facts of all streams and, for a contact that was finished before and
//! came back, of the ledger written then. The clock counts samples from the contact's first one. Positions that were
//! laid out once never move; a stream that had been fenced gives way to a newer one that was there at the same time.
//!
//! Here are the document and its clock; where a stream's audio goes is worked out in `layout`, and how streams are
//! numbered in `generation`.

mod generation;
mod layout;

use serde::{Deserialize, Serialize};

use super::facts::{CloseReason, LostReason, StreamFacts};
use super::timeline::US_PER_SAMPLE;
use super::{ContactKey, SAMPLES_PER_MS, StreamId};
use crate::protocol::perspective::Perspective;
use layout::Layout;

/// A contact that was finished and comes back later than this, in samples, continues after so much silence: 15 min. A
/// recording is no place for the days between.
const RETURN_SAMPLES_MAX: u64 = 15 * 60 * 1000 * SAMPLES_PER_MS;

/// The call on one clock. All positions and lengths are samples at 8000 Hz from the contact's first sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Version of this document.
    pub version: u32,
    /// Which contact.
    pub contact: ContactKey,
    /// When position 0 was, in microseconds since the Unix epoch.
    pub origin_us: i64,
    /// Length of the recording.
    pub samples: u64,
    /// Time that was left out of the recording, because the contact was over and came back much later.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub skips: Vec<Skip>,
    /// How the recording's channels are used.
    pub channels: Channels,
    /// Every stream, by the time of its handshake. A stream that no number can be told for has none.
    pub streams: Vec<StreamFacts>,
    /// Where each stretch of audio lies.
    pub pieces: Vec<Piece>,
    /// Where a perspective has no audio between its first and its last sample.
    pub gaps: Vec<Gap>,
    /// Where two streams, or two runs of a stream, claimed the same time, in the order in which they were laid out.
    pub overlaps: Vec<Overlap>,
    /// Samples that arrived but that a sink lost.
    pub lost: Vec<LostAt>,
    /// Streams whose task died: what it had received but not yet written.
    pub unwritten: Vec<Unwritten>,
}

/// Time that was left out of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skip {
    /// Where on the clock it would lie.
    pub position: u64,
    /// How much, in samples.
    pub samples: u64,
}

/// How the recording's channels are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channels {
    /// One channel: the contact was sent as MIX, or with a perspective that nobody documents.
    Mono,
    /// Left: the contact (TX). Right: the agent (RX). A mixed stream, should one be among them, is on both.
    Stereo,
}

impl Channels {
    /// How many.
    #[must_use]
    pub const fn count(self) -> u16 {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}

/// A stretch of one stream's samples and where it lies on the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Piece {
    /// Which stream.
    pub stream: StreamId,
    /// Whose voice.
    pub perspective: Perspective,
    /// Index, in the stream, of the first sample.
    pub first_sample: u64,
    /// Number of samples.
    pub samples: u64,
    /// Where the first sample lies on the contact's clock.
    pub position: u64,
}

impl Piece {
    /// One past the last position.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.position + self.samples
    }
}

/// Why a perspective has no audio for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The perspective joined later than the contact's first sample.
    NotYetConnected,
    /// The socket stayed open and nothing came: hold by silence, or audio lost before it reached us.
    Silence,
    /// The peer had closed the socket: hold by close.
    Closed,
    /// The connection had broken.
    Dropped,
    /// Our task was going away.
    Drained,
    /// Our task had died.
    TaskLost,
}

/// A stretch without audio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// Whose voice is missing.
    pub perspective: Perspective,
    /// Where the first missing sample would be.
    pub position: u64,
    /// Number of samples.
    pub samples: u64,
    /// Why.
    pub reason: GapReason,
    /// The generation that the gap ends with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_generation: Option<u64>,
}

/// Time that was claimed twice.
///
/// An older stream that had been fenced, or that nobody was behind any more, gives way: its audio from `position` on is
/// not in the recording. Otherwise clocks disagree, nothing is cut, and the later audio lies after the earlier. Streams
/// of an unknown perspective with the same raw value are no exception: if both really ran at once, the later one lies
/// after the earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overlap {
    /// Whose voice.
    pub perspective: Perspective,
    /// Where the overlap begins.
    pub position: u64,
    /// How many samples of older audio lay there: those that were cut, or those that the later audio lies behind.
    pub samples: u64,
    /// The stream that came later.
    pub stream: StreamId,
}

/// Samples that a sink lost, on the contact's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostAt {
    /// Which stream.
    pub stream: StreamId,
    /// Whose voice.
    pub perspective: Perspective,
    /// Where the first lost sample would be.
    pub position: u64,
    /// Number of samples.
    pub samples: u64,
    /// Which sink, and why.
    pub reason: LostReason,
}

/// What a task that died had received but not yet written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unwritten {
    /// Which stream.
    pub stream: StreamId,
    /// Whose voice.
    pub perspective: Perspective,
    /// Where the first such sample would be.
    pub position: u64,
    /// At most so many samples: one segment, or less when the next generation began sooner.
    pub samples_max: u64,
}

impl Ledger {
    /// The version that this code writes.
    pub const VERSION: u32 = 1;

    /// Lays out all streams of a contact on one clock.
    ///
    /// `streams` are the facts found in segments; a stream whose facts are also in `previous` replaces them, and only
    /// its samples beyond those already placed are laid out.
    #[must_use]
    pub fn lay_out(contact: ContactKey, previous: Option<Self>, streams: Vec<StreamFacts>) -> Self {
        let first_anchor_us = streams.iter().flat_map(|facts| &facts.runs).map(|run| run.anchor_us).min();
        let opened_us = streams.iter().map(|facts| facts.opened_us).min();
        let mut ledger = previous.unwrap_or_else(|| Self {
            version: Self::VERSION,
            contact,
            origin_us: first_anchor_us.or(opened_us).unwrap_or_default(),
            samples: 0,
            skips: Vec::new(),
            channels: Channels::Mono,
            streams: Vec::new(),
            pieces: Vec::new(),
            gaps: Vec::new(),
            overlaps: Vec::new(),
            lost: Vec::new(),
            unwritten: Vec::new(),
        });
        ledger.skip_to(&streams);
        let mut layout = Layout::new(&ledger);
        let mut fresh = streams;
        fresh.sort_by_key(|facts| facts.stream);
        for facts in &mut fresh {
            settle_open_end(facts);
            layout.stream(facts);
        }
        generation::merge(&mut ledger.streams, fresh);
        layout.write_into(&mut ledger);
        ledger
    }
}

impl Ledger {
    /// When position 0 would have been, had nothing been left out.
    fn clock_us(&self) -> i64 {
        self.origin_us + as_us(self.skips.iter().map(|skip| skip.samples).sum())
    }

    /// Leaves out most of the time between the end of a finished contact and its return.
    fn skip_to(&mut self, streams: &[StreamFacts]) {
        let is_known = |facts: &&StreamFacts| self.streams.iter().any(|known| known.stream == facts.stream);
        let back_us =
            streams.iter().filter(|facts| !is_known(facts)).flat_map(|facts| &facts.runs).map(|run| run.anchor_us);
        let (Some(back_us), false) = (back_us.min(), self.pieces.is_empty()) else { return };
        let away = position_of(self.clock_us(), back_us).saturating_sub(self.samples);
        if away > RETURN_SAMPLES_MAX {
            self.skips.push(Skip { position: self.samples, samples: away - RETURN_SAMPLES_MAX });
        }
    }
}

/// Facts without an end belong to a task that died.
fn settle_open_end(facts: &mut StreamFacts) {
    if facts.closed.is_none() {
        let heard_until_us = facts.runs.last().map_or(facts.opened_us, |run| run.anchor_us + as_us(run.samples));
        facts.closed = Some(super::facts::Closed { at_us: heard_until_us, reason: CloseReason::TaskLost });
    }
}

/// An instant on the contact's clock, to the nearest sample; nothing lies before its zero.
fn position_of(origin_us: i64, at_us: i64) -> u64 {
    let since_us = at_us.saturating_sub(origin_us).max(0).cast_unsigned();
    let us_per_sample = US_PER_SAMPLE.cast_unsigned();
    (since_us + us_per_sample / 2) / us_per_sample
}

const fn as_us(samples: u64) -> i64 {
    samples.cast_signed() * US_PER_SAMPLE
}

#[cfg(test)]
mod tests;
