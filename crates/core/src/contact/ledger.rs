//! What all streams of a contact did, laid out on one clock.
//!
//! [`Ledger::lay_out`] is a pure function of the facts of all streams and, for a contact that was finished before and
//! came back, of the ledger written then. The clock counts samples from the contact's first one. Positions that were
//! laid out once never move; a newer generation wins over what an older one said at the same time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::facts::{CloseReason, LostReason, Run, StreamFacts};
use super::timeline::US_PER_SAMPLE;
use super::{ContactKey, SAMPLES_PER_MS, StreamId};
use crate::protocol::perspective::Perspective;

/// A gap below this many samples is a matter of measurement when frame sizes vary: 10 ms.
const GAP_SAMPLES_MIN: u64 = 80;

/// Gaps are rounded to whole frames up to this size, 60 ms: a larger frame says more about a sender's buffer than about
/// its clock.
const ROUNDED_FRAME_SAMPLES_MAX: u64 = 480;

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
    /// Every stream, by the time of its handshake.
    pub streams: Vec<StreamFacts>,
    /// Where each stretch of audio lies.
    pub pieces: Vec<Piece>,
    /// Where a perspective has no audio between its first and its last sample.
    pub gaps: Vec<Gap>,
    /// Where two streams, or two runs of a stream, claimed the same time.
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

/// A stretch claimed twice. The newer stream's audio is in the recording; within one stream nothing is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overlap {
    /// Whose voice.
    pub perspective: Perspective,
    /// Where the overlap begins.
    pub position: u64,
    /// Number of samples.
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
        let numbered: Vec<(StreamId, Perspective, u64)> = fresh
            .iter()
            .filter_map(|facts| Some((facts.stream, facts.perspective.clone(), facts.generation?)))
            .collect();
        for mut facts in fresh {
            settle_open_end(&mut facts);
            number_generation(&ledger.streams, &numbered, &mut facts);
            layout.stream(&facts);
            match ledger.streams.iter_mut().find(|known| known.stream == facts.stream) {
                Some(known) => *known = facts,
                None => ledger.streams.push(facts),
            }
        }
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

/// A stream that was accepted while the store was away takes the number after the one before it, if no later stream has
/// taken that; else it stays without: numbers of a perspective only ever rise.
fn number_generation(known: &[StreamFacts], numbered: &[(StreamId, Perspective, u64)], facts: &mut StreamFacts) {
    if facts.generation.is_none() {
        let before = known.iter().filter(|other| other.perspective == facts.perspective && other.stream < facts.stream);
        let next = before.filter_map(|other| other.generation).max().unwrap_or(0) + 1;
        let is_taken = |(stream, perspective, generation): &(StreamId, Perspective, u64)| {
            *stream > facts.stream && *perspective == facts.perspective && *generation <= next
        };
        facts.generation = (!numbered.iter().any(is_taken)).then_some(next);
    }
}

/// One perspective while it is laid out.
#[derive(Debug, Default)]
struct Lane {
    pieces: Vec<Piece>,
    /// Pieces below this index were in a recording already and never move.
    fixed: usize,
    /// How the last stream ended.
    closed: Option<CloseReason>,
}

impl Lane {
    fn end(&self) -> u64 {
        self.pieces.iter().map(Piece::end).max().unwrap_or(0)
    }

    /// Adds a piece; one that continues the last without a gap (a burst after a stall) becomes part of it.
    fn push(&mut self, piece: Piece) {
        let continues = |last: &Piece| {
            last.stream == piece.stream
                && last.end() == piece.position
                && last.first_sample + last.samples == piece.first_sample
        };
        match self.pieces[self.fixed..].last_mut() {
            Some(last) if continues(last) => last.samples += piece.samples,
            _ => self.pieces.push(piece),
        }
    }
}

/// The work in progress.
struct Layout {
    /// When position 0 was, for what is laid out now.
    clock_us: i64,
    lanes: BTreeMap<Perspective, Lane>,
    /// Samples of a stream that were laid out before.
    placed: BTreeMap<StreamId, u64>,
    gaps: Vec<Gap>,
    overlaps: Vec<Overlap>,
    lost: Vec<LostAt>,
    unwritten: Vec<Unwritten>,
    /// Gaps and losses below these indices were in a ledger before.
    fixed_gaps: usize,
    fixed_lost: usize,
}

impl Layout {
    fn new(previous: &Ledger) -> Self {
        let mut lanes: BTreeMap<Perspective, Lane> = BTreeMap::new();
        let mut placed: BTreeMap<StreamId, u64> = BTreeMap::new();
        for piece in &previous.pieces {
            lanes.entry(piece.perspective.clone()).or_default().pieces.push(piece.clone());
            let end = piece.first_sample + piece.samples;
            placed.entry(piece.stream).and_modify(|known| *known = (*known).max(end)).or_insert(end);
        }
        for facts in &previous.streams {
            // What a finished stream once had is placed, whether or not a newer generation cut it.
            placed
                .entry(facts.stream)
                .and_modify(|known| *known = (*known).max(facts.samples))
                .or_insert(facts.samples);
            if let Some(lane) = lanes.get_mut(&facts.perspective) {
                lane.closed = facts.closed.map(|closed| closed.reason);
            }
        }
        for lane in lanes.values_mut() {
            lane.fixed = lane.pieces.len();
        }
        Self {
            clock_us: previous.clock_us(),
            lanes,
            placed,
            gaps: previous.gaps.clone(),
            overlaps: previous.overlaps.clone(),
            lost: previous.lost.clone(),
            unwritten: previous.unwritten.clone(),
            fixed_gaps: previous.gaps.len(),
            fixed_lost: previous.lost.len(),
        }
    }

    fn stream(&mut self, facts: &StreamFacts) {
        let placed = self.placed.get(&facts.stream).copied().unwrap_or(0);
        let mut first_of_stream = placed == 0;
        for run in &facts.runs {
            let Some(run) = beyond(*run, placed) else { continue };
            self.run(facts, run, first_of_stream);
            first_of_stream = false;
        }
        self.lost_of(facts, placed);
        let lane = self.lanes.entry(facts.perspective.clone()).or_default();
        lane.closed = facts.closed.map(|closed| closed.reason);
        let is_named = self.unwritten.iter().any(|unwritten| unwritten.stream == facts.stream);
        if lane.closed == Some(CloseReason::TaskLost) && !is_named {
            let samples_max = u64::from(facts.segment_ms) * SAMPLES_PER_MS;
            let position = lane.end();
            self.unwritten.push(Unwritten {
                stream: facts.stream,
                perspective: facts.perspective.clone(),
                position,
                samples_max,
            });
        }
    }

    fn run(&mut self, facts: &StreamFacts, run: Run, first_of_stream: bool) {
        let wanted = position_of(self.clock_us, run.anchor_us);
        let lane = self.lanes.entry(facts.perspective.clone()).or_default();
        let first_of_lane = lane.pieces.is_empty();
        let end = lane.end();
        let closed = lane.closed;
        let is_fenced = first_of_stream && closed.is_some_and(is_fence);
        let position = if wanted >= end {
            end + whole_frames(wanted - end, facts.frame_samples)
        } else if is_fenced && end - wanted >= gap_samples_min(facts.frame_samples) {
            let (cut, samples) = cut_back(lane, wanted);
            self.forget_from(&facts.perspective, cut);
            let perspective = facts.perspective.clone();
            self.overlaps.push(Overlap { perspective, position: cut, samples, stream: facts.stream });
            cut
        } else {
            // Two clocks disagree, or the sender's runs fast: what was said is said one after the other, and nothing of
            // a stream that ended in order is cut.
            if end - wanted >= gap_samples_min(facts.frame_samples) {
                self.overlaps.push(Overlap {
                    perspective: facts.perspective.clone(),
                    position: wanted,
                    samples: end - wanted,
                    stream: facts.stream,
                });
            }
            end
        };
        if position > end {
            let reason = if first_of_lane {
                GapReason::NotYetConnected
            } else if first_of_stream {
                gap_reason(closed)
            } else {
                GapReason::Silence
            };
            let next_generation = facts.generation.filter(|_| first_of_stream);
            let gap = Gap {
                perspective: facts.perspective.clone(),
                position: end,
                samples: position - end,
                reason,
                next_generation,
            };
            if let Some(unwritten) = self
                .unwritten
                .iter_mut()
                .rfind(|unwritten| unwritten.perspective == gap.perspective && unwritten.position == gap.position)
            {
                unwritten.samples_max = unwritten.samples_max.min(gap.samples);
            }
            self.gaps.push(gap);
        }
        let lane = self.lanes.entry(facts.perspective.clone()).or_default();
        lane.push(Piece {
            stream: facts.stream,
            perspective: facts.perspective.clone(),
            first_sample: run.first_sample,
            samples: run.samples,
            position,
        });
    }

    /// Lets go of what was noted about a perspective from a position on, because a newer generation lies there now. What
    /// was in a ledger before stays.
    fn forget_from(&mut self, perspective: &Perspective, cut: u64) {
        let mut index = 0;
        self.gaps.retain_mut(|gap| {
            index += 1;
            if index <= self.fixed_gaps || gap.perspective != *perspective || gap.position + gap.samples <= cut {
                return true;
            }
            gap.samples = cut.saturating_sub(gap.position);
            gap.samples > 0
        });
        let mut index = 0;
        self.lost.retain_mut(|lost| {
            index += 1;
            if index <= self.fixed_lost || lost.perspective != *perspective || lost.position + lost.samples <= cut {
                return true;
            }
            lost.samples = cut.saturating_sub(lost.position);
            lost.samples > 0
        });
        for unwritten in self.unwritten.iter_mut().filter(|unwritten| unwritten.perspective == *perspective) {
            unwritten.position = unwritten.position.min(cut);
        }
    }

    fn lost_of(&mut self, facts: &StreamFacts, placed: u64) {
        let Some(lane) = self.lanes.get(&facts.perspective) else { return };
        for lost in facts.lost.iter().filter(|lost| lost.first_sample + lost.samples > placed) {
            for piece in lane.pieces.iter().filter(|piece| piece.stream == facts.stream) {
                let from = lost.first_sample.max(piece.first_sample).max(placed);
                let until = (lost.first_sample + lost.samples).min(piece.first_sample + piece.samples);
                if from < until {
                    self.lost.push(LostAt {
                        stream: facts.stream,
                        perspective: facts.perspective.clone(),
                        position: piece.position + (from - piece.first_sample),
                        samples: until - from,
                        reason: lost.reason,
                    });
                }
            }
        }
    }

    fn write_into(self, ledger: &mut Ledger) {
        let two_sided = self.lanes.keys().any(|key| matches!(key, Perspective::Tx | Perspective::Rx));
        // A recording that was stereo once stays so: what is in it does not move.
        if two_sided {
            ledger.channels = Channels::Stereo;
        }
        ledger.samples = self.lanes.values().map(Lane::end).max().unwrap_or(0);
        ledger.pieces = self.lanes.into_values().flat_map(|lane| lane.pieces).collect();
        ledger.pieces.sort_by_key(|piece| piece.position);
        ledger.gaps = self.gaps;
        ledger.gaps.sort_by_key(|gap| gap.position);
        ledger.overlaps = self.overlaps;
        ledger.lost = self.lost;
        ledger.unwritten = self.unwritten;
    }
}

/// Cuts what older generations said from `wanted` on, but for what is in a recording already. Gives the position from
/// which the lane is free, and how many samples of audio went.
fn cut_back(lane: &mut Lane, wanted: u64) -> (u64, u64) {
    let audio = |lane: &Lane| lane.pieces.iter().map(|piece| piece.samples).sum::<u64>();
    let before = audio(lane);
    let fixed_end = lane.pieces[..lane.fixed].iter().map(Piece::end).max().unwrap_or(0);
    let cut = wanted.max(fixed_end);
    let mut index = 0;
    lane.pieces.retain_mut(|piece| {
        let is_fixed = index < lane.fixed;
        index += 1;
        if is_fixed || piece.end() <= cut {
            return true;
        }
        piece.samples = cut.saturating_sub(piece.position);
        piece.samples > 0
    });
    (cut, before - audio(lane))
}

/// Whether a stream that ended so may have gone on after a newer one had begun.
const fn is_fence(closed: CloseReason) -> bool {
    matches!(closed, CloseReason::Superseded | CloseReason::PeerDead | CloseReason::TaskLost)
}

/// The part of a run that was not laid out before.
fn beyond(run: Run, placed: u64) -> Option<Run> {
    let skip = placed.saturating_sub(run.first_sample).min(run.samples);
    (run.samples > skip).then(|| Run {
        first_sample: run.first_sample + skip,
        samples: run.samples - skip,
        anchor_us: run.anchor_us + as_us(skip),
        drift_samples: run.drift_samples,
    })
}

const fn gap_reason(closed: Option<CloseReason>) -> GapReason {
    match closed {
        Some(CloseReason::PeerClosed) => GapReason::Closed,
        Some(CloseReason::Drained) => GapReason::Drained,
        None | Some(CloseReason::TaskLost | CloseReason::Internal) => GapReason::TaskLost,
        Some(
            CloseReason::PeerVanished
            | CloseReason::PeerDead
            | CloseReason::PeerViolation
            | CloseReason::ProtocolViolation
            | CloseReason::TooLarge
            | CloseReason::Superseded,
        ) => GapReason::Dropped,
    }
}

/// Media servers tick in frames: a gap is a whole number of them, if the sender has one frame size.
fn whole_frames(samples: u64, frame_samples: Option<u32>) -> u64 {
    match frame_samples.map(u64::from) {
        Some(frame) if (1..=ROUNDED_FRAME_SAMPLES_MAX).contains(&frame) => (samples + frame / 2) / frame * frame,
        _ if samples < GAP_SAMPLES_MIN => 0,
        _ => samples,
    }
}

fn gap_samples_min(frame_samples: Option<u32>) -> u64 {
    let frame = frame_samples.map(u64::from).filter(|frame| (1..=ROUNDED_FRAME_SAMPLES_MAX).contains(frame));
    frame.map_or(GAP_SAMPLES_MIN, |frame| frame.div_ceil(2))
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
