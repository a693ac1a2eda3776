//! What is held for the assist app: the newest audio of one stream, the silences in it, what was lost, and what may
//! have to be sent again. Sans I/O: bytes come in, items to send go out, nothing here waits or knows the time.
//!
//! Everything is placed by *position*: the index of a sample in its stream. Positions on one line, left to right:
//!
//! ```text
//!        resume point          base            cursor              head
//!   ─ gone ──┬── dropped ───────┬─── to replay ───┬──── not sent ────┤
//!            acknowledged       oldest held       next to send       next to come
//! ```
//!
//! Audio leaves the ring in front only, so what is missing for the app is always one range that ends at `base`: when
//! the cursor lies before `base`, the next item is a loss. An app that acknowledges is owed everything it did not
//! confirm; one that never does is taken to have heard what the socket took, but for the replay window.

pub(crate) mod blocks;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use blocks::Blocks;
use bytes::{Bytes, BytesMut};

/// Silences held for one stream. Beyond it, further ones are joined to the last.
pub(crate) const MARKS_MAX: usize = 64;

/// Ranges of lost samples that wait to be taken. Beyond it, further ones are joined to the last.
pub(crate) const LOSSES_MAX: usize = 64;

/// Stretches under way whose fate is open. Beyond it, the oldest counts as lost.
const DOUBTS_MAX: usize = 16;

/// Limits of a ring, in samples (one byte each).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Audio held at most.
    pub(crate) held_samples_max: u64,
    /// Audio kept after it was sent to an app that never acknowledges.
    pub(crate) replay_samples: u64,
    /// Audio in one item at most.
    pub(crate) chunk_samples: u64,
}

/// How eager the caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Full chunks, and partial ones only before a silence.
    Full,
    /// Partial chunks too.
    Partial,
    /// Everything, the silence at the end too: no audio will follow.
    All,
}

/// Something to send. `clock` is the position plus all silence before it, in samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// Audio from `position` on.
    Audio { position: u64, samples: Bytes },
    /// Time passed without audio.
    Silence { position: u64, clock: u64, samples: u64 },
    /// These samples are gone; audio goes on behind them.
    Lost { position: u64, clock: u64, samples: u64 },
}

/// A range of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first_sample: u64,
    pub(crate) samples: u64,
}

impl Range {
    const fn end(self) -> u64 {
        self.first_sample + self.samples
    }

    /// The part that lies at `position` and behind it.
    fn from(self, position: u64) -> Self {
        let first_sample = self.first_sample.max(position).min(self.end());
        Self { first_sample, samples: self.end() - first_sample }
    }
}

/// A silence before the sample at `position`.
#[derive(Debug)]
struct Mark {
    position: u64,
    /// Silence in the stream before this one.
    before: u64,
    samples: u64,
}

/// The ring of one stream.
#[derive(Debug)]
pub(crate) struct Ring {
    limits: Limits,
    audio: Blocks,
    base: u64,
    cursor: u64,
    /// The furthest that was ever taken to be sent.
    taken: u64,
    /// The furthest that a socket took.
    sent: u64,
    /// The app has everything before this; `None` until it acknowledges for the first time.
    acked: Option<u64>,
    /// Whether samples before this are lost has been decided.
    settled: u64,
    /// Silences not yet dropped, in order; the first `told` of them lie behind the cursor.
    marks: VecDeque<Mark>,
    told: usize,
    silence: u64,
    /// Ranges that were under way when what follows them was lost. Settled, but not counted.
    doubts: VecDeque<Range>,
    losses: Vec<Range>,
}

impl Ring {
    /// An empty ring at position 0. Allocates nothing yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            audio: Blocks::new(to_len(limits.replay_samples)),
            base: 0,
            cursor: 0,
            taken: 0,
            sent: 0,
            acked: None,
            settled: 0,
            marks: VecDeque::new(),
            told: 0,
            silence: 0,
            doubts: VecDeque::new(),
            losses: Vec::new(),
        }
    }

    /// Where the next sample will be.
    pub(crate) const fn head(&self) -> u64 {
        self.base + self.held()
    }

    /// Samples held.
    pub(crate) const fn held(&self) -> u64 {
        self.audio.len() as u64
    }

    /// Samples held that were not taken since the connection began.
    pub(crate) fn pending(&self) -> u64 {
        self.head() - self.cursor.max(self.base)
    }

    /// Where the head must be for a full chunk to be ready.
    pub(crate) fn full_at(&self) -> u64 {
        self.cursor.max(self.base) + self.limits.chunk_samples
    }

    /// Adds audio and drops the oldest beyond the limit. Returns how many samples became lost.
    pub(crate) fn push(&mut self, samples: &[u8]) -> u64 {
        let room = to_len(self.limits.held_samples_max).saturating_sub(self.audio.len());
        let overflow = samples.len().saturating_sub(room);
        let from_ring = overflow.min(self.audio.len());
        self.audio.discard(from_ring);
        self.base += overflow as u64;
        self.audio.append(&samples[overflow - from_ring..]);
        if overflow == 0 {
            return 0;
        }
        self.drop_marks();
        if self.base <= self.cursor {
            return 0;
        }
        // What is under way to the app may still arrive: whether it did is known when it is confirmed, or at the end
        // of the connection.
        let first_sample = self.settled.max(self.confirmed());
        let mut lost = 0;
        if self.cursor > first_sample {
            if self.doubts.len() >= DOUBTS_MAX {
                lost += self.doubts.pop_front().map_or(0, |doubt| self.count(doubt));
            }
            self.doubts.push_back(Range { first_sample, samples: self.cursor - first_sample });
            self.settled = self.cursor;
        }
        lost + self.settle(self.base)
    }

    /// Notes that time passed without audio.
    pub(crate) fn silence(&mut self, samples: u64) {
        if samples == 0 {
            return;
        }
        let position = self.head();
        let before = self.silence;
        self.silence += samples;
        let untold = self.marks.len() > self.told;
        let full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some(last) if untold && (last.position == position || full) => last.samples += samples,
            _ => {
                if full {
                    // All are told: the oldest would serve a replay only, and later clocks make up for it.
                    self.marks.pop_front();
                    self.told -= 1;
                }
                self.marks.push_back(Mark { position, before, samples });
            }
        }
    }

    /// The next item to send, if one is ready.
    pub(crate) fn take(&mut self, want: Want) -> Option<Item> {
        let (position, clock) = (self.cursor, self.clock());
        if position < self.base {
            self.advance(self.base);
            return Some(Item::Lost { position, clock, samples: self.base - position });
        }
        let head = self.head();
        let mark = self.marks.get(self.told);
        if let Some(mark) = mark.filter(|mark| mark.position == position) {
            // How long it is, is known when audio follows.
            if head == position && want != Want::All {
                return None;
            }
            let samples = mark.samples;
            self.told += 1;
            return Some(Item::Silence { position, clock, samples });
        }
        let end = mark.map_or(head, |mark| mark.position);
        let ready = end - position;
        let cut = mark.is_some() || want != Want::Full;
        if ready == 0 || (ready < self.limits.chunk_samples && !cut) {
            return None;
        }
        let count = to_len(ready.min(self.limits.chunk_samples));
        let mut samples = BytesMut::with_capacity(count);
        self.audio.read(to_len(position - self.base), count, |piece| samples.extend_from_slice(piece));
        self.advance(position + count as u64);
        Some(Item::Audio { position, samples: samples.freeze() })
    }

    /// The socket took everything that was taken from the ring so far.
    pub(crate) fn flushed(&mut self) {
        self.sent = self.sent.max(self.cursor);
        self.drop_doubts();
        if self.acked.is_none() {
            self.forget_before(self.sent.saturating_sub(self.limits.replay_samples));
        }
    }

    /// The app has everything before `position`. One beyond what was sent counts as all that was sent.
    pub(crate) fn ack(&mut self, position: u64) {
        if self.acked.is_none() {
            // What was let go before the app's first word counted as heard, and stays so.
            self.settled = self.settled.max(self.base);
        }
        let acked = position.min(self.taken).max(self.acked.unwrap_or(0));
        self.acked = Some(acked);
        self.sent = self.sent.max(acked);
        self.drop_doubts();
        if acked > self.cursor {
            self.advance(acked);
        }
        self.forget_before(acked);
    }

    /// A connection begins: goes back to what the app may not have. Returns the position to begin with, its clock, and
    /// how many samples became lost because they can no longer be replayed.
    pub(crate) fn restart(&mut self) -> (u64, u64, u64) {
        let lost = self.settle_doubts() + self.settle(self.base);
        self.cursor = match self.acked {
            Some(acked) => acked,
            None if self.sent < self.base => self.sent,
            None => self.base,
        };
        self.told = self.marks.iter().take_while(|mark| mark.position < self.cursor).count();
        (self.cursor, self.clock(), lost)
    }

    /// The stream is over and nothing more will be sent: what the app was not given is lost. Returns how much.
    pub(crate) fn abandon(&mut self) -> u64 {
        self.settle_doubts() + self.settle(self.head())
    }

    /// Takes the oldest range of lost samples.
    pub(crate) fn take_lost(&mut self) -> Option<Range> {
        if self.losses.is_empty() { None } else { Some(self.losses.remove(0)) }
    }

    /// Gives back memory that steady audio would want again at once.
    pub(crate) fn release(&mut self) {
        self.audio.release();
    }

    /// Position plus silence before it, at the cursor.
    fn clock(&self) -> u64 {
        self.cursor + self.marks.get(self.told).map_or(self.silence, |mark| mark.before)
    }

    fn advance(&mut self, cursor: u64) {
        self.cursor = cursor;
        self.taken = self.taken.max(cursor);
        while self.marks.get(self.told).is_some_and(|mark| mark.position < cursor) {
            self.told += 1;
        }
    }

    /// Lets go of audio that will not be replayed.
    fn forget_before(&mut self, position: u64) {
        if position > self.base {
            self.audio.discard(to_len(position - self.base));
            self.base = position;
            self.drop_marks();
        }
    }

    fn drop_doubts(&mut self) {
        let confirmed = self.confirmed();
        self.doubts.retain(|doubt| doubt.end() > confirmed);
    }

    /// Drops silences before `base`. Those that were not told yet are told at `base`, as one: no time goes missing.
    fn drop_marks(&mut self) {
        let mut carried: Option<Mark> = None;
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.position < self.base) {
            if self.told > 0 {
                self.told -= 1;
                continue;
            }
            let first = carried.get_or_insert(Mark { position: self.base, before: mark.before, samples: 0 });
            first.samples += mark.samples;
        }
        if let Some(mark) = carried {
            self.marks.push_front(mark);
        }
    }

    /// The app is known, or as good as known, to have everything before this.
    fn confirmed(&self) -> u64 {
        self.acked.unwrap_or(self.sent)
    }

    /// Decides about the samples before `end`, which the ring can no longer give: those that the app is not known to
    /// have are lost.
    fn settle(&mut self, end: u64) -> u64 {
        let first_sample = self.settled.max(self.confirmed());
        self.settled = self.settled.max(end);
        self.count(Range { first_sample, samples: end.saturating_sub(first_sample) })
    }

    /// The connection is over: what was under way and is not confirmed did not arrive, as far as anybody knows.
    fn settle_doubts(&mut self) -> u64 {
        let confirmed = self.confirmed();
        std::mem::take(&mut self.doubts).into_iter().map(|doubt| self.count(doubt.from(confirmed))).sum()
    }

    fn count(&mut self, lost: Range) -> u64 {
        if lost.samples == 0 {
            return 0;
        }
        let full = self.losses.len() >= LOSSES_MAX;
        match self.losses.last_mut() {
            Some(newest) if full || newest.end() == lost.first_sample => newest.samples += lost.samples,
            _ => self.losses.push(lost),
        }
        lost.samples
    }
}

/// A number of samples that are in memory, as a length.
fn to_len(samples: u64) -> usize {
    usize::try_from(samples).unwrap_or(usize::MAX)
}
