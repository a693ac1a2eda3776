//! Where the audio of each stream lies: one lane per perspective, streams in the order of their handshakes.
//!
//! In a lane nothing lies over anything else, and what is not audio is a gap. Unknown perspectives have a lane per raw
//! value.

use std::collections::BTreeMap;

use super::{Channels, Gap, GapReason, Ledger, LostAt, Overlap, Piece, Unwritten, as_us, position_of};
use crate::contact::facts::{CloseReason, Run, StreamFacts};
use crate::contact::{SAMPLES_PER_MS, StreamId};
use crate::protocol::perspective::Perspective;

/// A gap below this many samples is a matter of measurement when frame sizes vary: 10 ms.
const GAP_SAMPLES_MIN: u64 = 80;

/// Frames above this many samples say nothing about the pace of the media server: 60 ms, the longest packet that is
/// common in telephony.
const PACKET_SAMPLES_MAX: u32 = 480;

/// The sender's packet time in samples, if it is known.
type Packet = Option<u64>;

/// One perspective while it is laid out.
#[derive(Debug, Default)]
struct Lane {
    /// In the order of their positions.
    pieces: Vec<Piece>,
    /// Pieces below this index were in a recording already and never move.
    fixed: usize,
    /// How the last stream ended.
    closed: Option<CloseReason>,
}

impl Lane {
    fn end(&self) -> u64 {
        self.pieces.last().map_or(0, Piece::end)
    }

    /// One past the last position that no newer stream may take.
    fn kept_until(&self, ends: &BTreeMap<StreamId, CloseReason>) -> u64 {
        let is_kept = |index: usize, piece: &Piece| index < self.fixed || !gives_way(ends.get(&piece.stream).copied());
        let kept = self.pieces.iter().enumerate().rfind(|(index, piece)| is_kept(*index, piece));
        kept.map_or(0, |(_, piece)| piece.end())
    }

    /// Samples of audio that lie at or after `from` and before `until`.
    fn audio_between(&self, from: u64, until: u64) -> u64 {
        let shared = |piece: &Piece| piece.end().min(until).saturating_sub(piece.position.max(from));
        self.pieces.iter().rev().take_while(|piece| piece.end() > from).map(shared).sum()
    }

    /// Cuts what lies at `cut` or after.
    fn cut_back(&mut self, cut: u64) {
        self.pieces.retain_mut(|piece| {
            piece.samples = before(piece.position, piece.samples, cut);
            piece.samples > 0
        });
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
pub(super) struct Layout {
    /// When position 0 was, for what is laid out now.
    clock_us: i64,
    lanes: BTreeMap<Perspective, Lane>,
    /// Samples of a stream that were laid out before.
    placed: BTreeMap<StreamId, u64>,
    /// How each stream ended.
    ends: BTreeMap<StreamId, CloseReason>,
    gaps: Vec<Gap>,
    overlaps: Vec<Overlap>,
    lost: Vec<LostAt>,
    unwritten: Vec<Unwritten>,
}

impl Layout {
    /// What an earlier ledger says, none of which will move.
    pub(super) fn new(previous: &Ledger) -> Self {
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
        let end_of = |facts: &StreamFacts| facts.closed.map(|closed| (facts.stream, closed.reason));
        Self {
            clock_us: previous.clock_us(),
            lanes,
            placed,
            ends: previous.streams.iter().filter_map(end_of).collect(),
            gaps: previous.gaps.clone(),
            overlaps: previous.overlaps.clone(),
            lost: previous.lost.clone(),
            unwritten: previous.unwritten.clone(),
        }
    }

    /// Lays out what was not laid out before of a stream that has ended.
    pub(super) fn stream(&mut self, facts: &StreamFacts) {
        let placed = self.placed.get(&facts.stream).copied().unwrap_or(0);
        let mut first_of_stream = placed == 0;
        for run in &facts.runs {
            let Some(run) = beyond(*run, placed) else { continue };
            self.run(facts, run, first_of_stream);
            first_of_stream = false;
        }
        self.lost_of(facts, placed);
        let reason = facts.closed.map(|closed| closed.reason);
        self.ends.extend(reason.map(|reason| (facts.stream, reason)));
        self.lanes.entry(facts.perspective.clone()).or_default().closed = reason;
        if reason == Some(CloseReason::TaskLost) {
            self.unwritten_of(facts, placed);
        }
    }

    fn run(&mut self, facts: &StreamFacts, run: Run, first_of_stream: bool) {
        let packet = packet(facts.frame_samples);
        let wanted = position_of(self.clock_us, run.anchor_us);
        let lane = self.lanes.entry(facts.perspective.clone()).or_default();
        let (end, is_empty, closed) = (lane.end(), lane.pieces.is_empty(), lane.closed);
        let position = if wanted >= end {
            end + whole_packets(wanted - end, packet)
        } else if end - wanted < gap_samples_min(packet) {
            end
        } else {
            self.claimed_twice(facts, wanted, first_of_stream)
        };
        if position > end {
            let reason = match first_of_stream {
                _ if is_empty => GapReason::NotYetConnected,
                true => gap_reason(closed),
                false => GapReason::Silence,
            };
            let perspective = facts.perspective.clone();
            self.gaps.push(Gap { perspective, position: end, samples: position - end, reason, next_generation: None });
        }
        // What a dead task can have lost at most ends where somebody is heard again.
        self.unwritten.retain_mut(|unwritten| {
            if unwritten.perspective == facts.perspective {
                unwritten.samples_max = before(unwritten.position, unwritten.samples_max, position);
            }
            unwritten.samples_max > 0
        });
        self.lanes.entry(facts.perspective.clone()).or_default().push(Piece {
            stream: facts.stream,
            perspective: facts.perspective.clone(),
            first_sample: run.first_sample,
            samples: run.samples,
            position,
        });
    }

    /// Where audio goes that wants to lie at `wanted`, before the end of its lane.
    ///
    /// Only the audio of a stream that gives way is cut, and only by a newer stream: within one, the sender's clock
    /// runs fast, and its audio is contiguous; and two streams that ended properly one after the other overlap because
    /// the clocks of two tasks disagree, or because the sender was ahead of its time.
    fn claimed_twice(&mut self, facts: &StreamFacts, wanted: u64, first_of_stream: bool) -> u64 {
        let perspective = &facts.perspective;
        let lane = self.lanes.entry(perspective.clone()).or_default();
        let kept_until = if first_of_stream { lane.kept_until(&self.ends) } else { lane.end() };
        let position = wanted.max(kept_until);
        let behind = (wanted, lane.audio_between(wanted, position));
        let cut = (position, lane.audio_between(position, u64::MAX));
        for (position, samples) in [behind, cut].into_iter().filter(|(_, samples)| *samples > 0) {
            let overlap = Overlap { perspective: perspective.clone(), position, samples, stream: facts.stream };
            self.overlaps.push(overlap);
        }
        if cut.1 > 0 {
            lane.cut_back(position);
            self.gaps.retain_mut(|gap| {
                if gap.perspective == *perspective {
                    gap.samples = before(gap.position, gap.samples, position);
                }
                gap.samples > 0
            });
            self.lost.retain_mut(|lost| {
                if lost.perspective == *perspective {
                    lost.samples = before(lost.position, lost.samples, position);
                }
                lost.samples > 0
            });
        }
        position
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

    fn unwritten_of(&mut self, facts: &StreamFacts, placed: u64) {
        let lane = self.lanes.entry(facts.perspective.clone()).or_default();
        let is_named = self.unwritten.iter().any(|unwritten| unwritten.stream == facts.stream);
        // Nothing new, and somebody was heard after it: what can be said of it was said when it was laid out first.
        let is_settled = facts.samples <= placed && lane.pieces.last().is_some_and(|piece| piece.stream > facts.stream);
        if !is_named && !is_settled {
            self.unwritten.push(Unwritten {
                stream: facts.stream,
                perspective: facts.perspective.clone(),
                position: lane.end(),
                samples_max: u64::from(facts.segment_ms) * SAMPLES_PER_MS,
            });
        }
    }

    /// Writes what lies where. The ledger's streams must have their numbers.
    pub(super) fn write_into(self, ledger: &mut Ledger) {
        let two_sided = self.lanes.keys().any(|key| matches!(key, Perspective::Tx | Perspective::Rx));
        // A recording that was stereo once stays so: what is in it does not move.
        if two_sided {
            ledger.channels = Channels::Stereo;
        }
        ledger.samples = self.lanes.values().map(Lane::end).max().unwrap_or(0);
        ledger.gaps = self.gaps;
        name_next_generations(&mut ledger.gaps, &self.lanes, &ledger.streams);
        ledger.gaps.sort_by_key(|gap| gap.position);
        ledger.pieces = self.lanes.into_values().flat_map(|lane| lane.pieces).collect();
        ledger.pieces.sort_by_key(|piece| piece.position);
        ledger.overlaps = self.overlaps;
        ledger.lost = self.lost;
        ledger.unwritten = self.unwritten;
    }
}

/// A gap that ends with the first audio of a stream is told that stream's number.
fn name_next_generations(gaps: &mut [Gap], lanes: &BTreeMap<Perspective, Lane>, streams: &[StreamFacts]) {
    for gap in gaps {
        let pieces = lanes.get(&gap.perspective).map_or(&[][..], |lane| &lane.pieces);
        let gap_end = gap.position + gap.samples;
        let next = pieces.binary_search_by_key(&gap_end, |piece| piece.position).ok().map(|index| &pieces[index]);
        let opens = next.filter(|piece| piece.first_sample == 0);
        let stream = opens.and_then(|piece| streams.iter().find(|facts| facts.stream == piece.stream));
        gap.next_generation = stream.and_then(|facts| facts.generation);
    }
}

/// How much of a stretch lies before `cut`.
fn before(position: u64, samples: u64, cut: u64) -> u64 {
    cut.saturating_sub(position).min(samples)
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

/// Whether a stream that ended like this gives way to a newer one: the two really ran at once, or nobody was behind the
/// older one any more.
const fn gives_way(closed: Option<CloseReason>) -> bool {
    matches!(closed, Some(CloseReason::Superseded | CloseReason::PeerDead | CloseReason::TaskLost))
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

/// The packet time that a stream's frames show. A frame may also be whatever lay in the sender's buffer: one that is
/// too long for a packet is no measure of anything.
fn packet(frame_samples: Option<u32>) -> Packet {
    frame_samples.filter(|frame| (1..=PACKET_SAMPLES_MAX).contains(frame)).map(u64::from)
}

/// Media servers tick in packets: a gap is a whole number of them, if the sender has one packet time.
const fn whole_packets(samples: u64, packet: Packet) -> u64 {
    match packet {
        Some(packet) => (samples + packet / 2) / packet * packet,
        None if samples < GAP_SAMPLES_MIN => 0,
        None => samples,
    }
}

/// The least time, in samples, that is not a matter of measurement.
const fn gap_samples_min(packet: Packet) -> u64 {
    match packet {
        Some(packet) => packet.div_ceil(2),
        None => GAP_SAMPLES_MIN,
    }
}
