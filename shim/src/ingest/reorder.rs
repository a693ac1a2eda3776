//! Pieces of one stream, put back in order: pure, the time comes in as a value.
//!
//! API Gateway gives no order, and who was not answered sends again. Pieces are placed by the index of their first
//! sample; one that is missing is waited for, but neither for long nor with many others behind it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// Pieces that wait for one that is missing.
const WAITING_MAX: usize = 16;

/// How much audio waits: 32 s of it.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// How long they wait.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Audio that follows on what came before.
    Audio(Bytes),
    /// So many samples did not come, and are not waited for any longer.
    Missing(u64),
}

/// One stream's pieces.
#[derive(Debug)]
pub(crate) struct Reorder {
    /// The sample to go on with; unknown while a stream was met in its middle.
    position: Option<u64>,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    samples: Bytes,
    since: Instant,
}

impl Reorder {
    /// A stream of which the samples before `position` were taken; of which nothing is known, where that is absent.
    pub(crate) const fn new(position: Option<u64>) -> Self {
        Self { position, waiting: BTreeMap::new() }
    }

    /// The sample to go on with.
    pub(crate) const fn position(&self) -> Option<u64> {
        self.position
    }

    /// Takes a piece; whether there is anything in it that did not come before.
    pub(crate) fn take(&mut self, first_sample: u64, samples: Bytes, now: Instant) -> bool {
        let end = first_sample.saturating_add(length(&samples));
        let is_old = self.position.is_some_and(|position| end <= position);
        let is_known = self.waiting.get(&first_sample).is_some_and(|known| known.samples.len() >= samples.len());
        if samples.is_empty() || is_old || is_known {
            return false;
        }
        self.waiting.insert(first_sample, Waiting { samples, since: now });
        true
    }

    /// What comes next, if it is here or is not waited for any longer. Ask until there is nothing.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Next> {
        let bytes: usize = self.waiting.values().map(|waiting| waiting.samples.len()).sum();
        let is_full = self.waiting.len() >= WAITING_MAX || bytes >= WAITING_BYTES_MAX;
        self.step(is_full || self.wake().is_some_and(|wake| now >= wake))
    }

    /// What comes next when nothing more will come.
    pub(crate) fn rest(&mut self) -> Option<Next> {
        self.step(true)
    }

    /// When those that wait have waited long enough.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.since + WAIT_MAX).min()
    }

    fn step(&mut self, is_overdue: bool) -> Option<Next> {
        loop {
            let first_sample = *self.waiting.first_key_value()?.0;
            let position = match self.position {
                Some(position) => position,
                // A stream begins with its first sample, or where those that were met first begin.
                None if first_sample == 0 || is_overdue => first_sample,
                None => return None,
            };
            if first_sample > position {
                if is_overdue {
                    self.position = Some(first_sample);
                    return Some(Next::Missing(first_sample - position));
                }
                return None;
            }
            let (_, Waiting { mut samples, .. }) = self.waiting.pop_first()?;
            let overlap = usize::try_from(position - first_sample).unwrap_or(usize::MAX);
            // Overtaken by a longer piece that began at the same or an earlier sample.
            if overlap >= samples.len() {
                continue;
            }
            let fresh = samples.split_off(overlap);
            self.position = Some(position + length(&fresh));
            return Some(Next::Audio(fresh));
        }
    }
}

fn length(samples: &Bytes) -> u64 {
    samples.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(first_sample: u64, samples: usize) -> Bytes {
        (first_sample..).take(samples).map(|sample| (sample % 251).to_le_bytes()[0]).collect()
    }

    /// Everything that comes out now, audio as its bytes and missing samples as a number.
    fn all(reorder: &mut Reorder, now: Instant) -> Vec<Next> {
        std::iter::from_fn(|| reorder.next(now)).collect()
    }

    #[test]
    fn pieces_in_order_pass_at_once() {
        let now = Instant::now();
        let mut reorder = Reorder::new(None);
        for first in [0, 100, 200] {
            assert!(reorder.take(first, piece(first, 100), now));
            assert_eq!(all(&mut reorder, now), [Next::Audio(piece(first, 100))]);
        }
        assert_eq!((reorder.position(), reorder.wake()), (Some(300), None));
    }

    #[test]
    fn pieces_out_of_order_are_put_in_order_and_repeats_do_nothing() {
        let now = Instant::now();
        let mut reorder = Reorder::new(None);
        for first in [200, 100, 100] {
            let _ = reorder.take(first, piece(first, 100), now);
            assert_eq!(all(&mut reorder, now), []);
        }
        assert!(reorder.take(0, piece(0, 100), now));
        let expected = [0, 100, 200].map(|first| Next::Audio(piece(first, 100)));
        assert_eq!(all(&mut reorder, now), expected);
        assert!(!reorder.take(100, piece(100, 100), now));
        assert!(!reorder.take(300, Bytes::new(), now));
    }

    #[test]
    fn of_a_piece_that_overlaps_only_the_new_part_passes() {
        let now = Instant::now();
        let mut reorder = Reorder::new(Some(100));
        assert!(reorder.take(50, piece(50, 100), now));
        assert_eq!(all(&mut reorder, now), [Next::Audio(piece(100, 50))]);
        // The longer one of two that begin together, and one that lies within it.
        assert!(reorder.take(160, piece(160, 10), now));
        assert!(reorder.take(160, piece(160, 40), now));
        assert!(!reorder.take(160, piece(160, 20), now));
        assert!(reorder.take(170, piece(170, 5), now));
        assert!(reorder.take(150, piece(150, 10), now));
        assert_eq!(all(&mut reorder, now), [Next::Audio(piece(150, 10)), Next::Audio(piece(160, 40))]);
        assert!(reorder.wake().is_none());
    }

    #[test]
    fn a_missing_piece_is_waited_for_only_so_long() {
        let now = Instant::now();
        let mut reorder = Reorder::new(Some(0));
        assert!(reorder.take(100, piece(100, 100), now));
        let wake = reorder.wake().expect("something waits");
        assert_eq!(wake, now + WAIT_MAX);
        assert_eq!(all(&mut reorder, wake - Duration::from_millis(1)), []);
        assert_eq!(all(&mut reorder, wake), [Next::Missing(100), Next::Audio(piece(100, 100))]);
        assert!(!reorder.take(0, piece(0, 100), wake), "what comes too late is not played after what came later");
    }

    #[test]
    fn many_pieces_do_not_wait_for_one() {
        let now = Instant::now();
        let mut reorder = Reorder::new(Some(0));
        for index in 1..WAITING_MAX as u64 {
            assert!(reorder.take(index * 10, piece(index * 10, 10), now));
            assert_eq!(all(&mut reorder, now), []);
        }
        let last = WAITING_MAX as u64 * 10;
        assert!(reorder.take(last, piece(last, 10), now));
        let out = all(&mut reorder, now);
        assert_eq!((out.len(), &out[0]), (WAITING_MAX + 1, &Next::Missing(10)));
        assert_eq!(reorder.position(), Some(last + 10));
    }

    #[test]
    fn much_audio_does_not_wait_for_a_piece() {
        let now = Instant::now();
        let mut reorder = Reorder::new(Some(0));
        let half = WAITING_BYTES_MAX / 2;
        assert!(reorder.take(1, piece(1, half), now));
        assert_eq!(all(&mut reorder, now), []);
        assert!(reorder.take(1 + half as u64, piece(1, half), now));
        assert_eq!(all(&mut reorder, now).len(), 3);
    }

    #[test]
    fn a_stream_that_is_met_in_its_middle_begins_there_and_one_that_ends_keeps_nothing_back() {
        let now = Instant::now();
        let mut reorder = Reorder::new(None);
        assert!(reorder.take(500, piece(500, 10), now));
        assert!(reorder.take(490, piece(490, 10), now));
        assert_eq!(all(&mut reorder, now), []);
        let expected = [490, 500].map(|first| Next::Audio(piece(first, 10)));
        assert_eq!(all(&mut reorder, now + WAIT_MAX), expected);
        assert!(reorder.take(600, piece(600, 10), now));
        assert_eq!(reorder.rest(), Some(Next::Missing(90)));
        assert_eq!(reorder.rest(), Some(Next::Audio(piece(600, 10))));
        assert_eq!(reorder.rest(), None);
    }
}
