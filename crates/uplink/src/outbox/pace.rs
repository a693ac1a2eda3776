//! When the index is read next. Pure: the caller reads and sleeps.

use std::time::Duration;

use tokio::time::Instant;

/// Two looks that something was put into the outbox for are no closer than this: one look sees many.
const LOOK_GAP: Duration = Duration::from_millis(20);
/// After so long without anything to do the pauses grow to [`IDLE_POLL`].
const IDLE_AFTER: Duration = Duration::from_mins(1);
/// Pause between two looks while there is nothing to do.
const IDLE_POLL: Duration = Duration::from_millis(500);
/// Interactions that one look into the index brings.
pub(super) const DUE_MAX: usize = 512;

/// When the index is read next.
pub(super) struct Pace {
    pub(super) look_at: Instant,
    pub(super) is_looking: bool,
    looked_at: Instant,
    /// Something was put into the outbox while the index was being read.
    is_hurried: bool,
    busy_at: Instant,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self { look_at: now, is_looking: false, looked_at: now, is_hurried: false, busy_at: now }
    }

    pub(super) fn looked(&mut self, now: Instant, found: usize, poll: Duration) {
        self.is_looking = false;
        self.looked_at = now;
        if found > 0 {
            self.busy_at = now;
        }
        let is_idle = now - self.busy_at >= IDLE_AFTER;
        let pause = match found {
            _ if std::mem::take(&mut self.is_hurried) => LOOK_GAP,
            // There may be more.
            DUE_MAX.. => Duration::ZERO,
            _ if is_idle => poll.max(IDLE_POLL),
            _ => poll,
        };
        self.look_at = now + pause;
    }

    pub(super) fn hurry(&mut self, now: Instant) {
        self.busy_at = now;
        self.is_hurried = self.is_looking;
        if !self.is_looking {
            self.look_at = self.look_at.min(now.max(self.looked_at + LOOK_GAP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_read_at_once_when_something_was_put_and_seldom_when_nothing_is_for_a_minute() {
        let poll = Duration::from_millis(100);
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.looked(start, 0, poll);
        assert_eq!(pace.look_at, start + poll);
        pace.hurry(start);
        assert_eq!(pace.look_at, start + LOOK_GAP, "one look sees many");
        pace.is_looking = true;
        pace.hurry(start + LOOK_GAP);
        pace.looked(start + LOOK_GAP, 0, poll);
        assert_eq!(pace.look_at, start + LOOK_GAP * 2, "put while it was read: read again");
        let later = start + LOOK_GAP + IDLE_AFTER;
        pace.looked(later, 0, poll);
        assert_eq!(pace.look_at, later + IDLE_POLL);
        pace.looked(later, 1, poll);
        assert_eq!(pace.look_at, later + poll, "busy again");
        pace.looked(later, DUE_MAX, poll);
        assert_eq!(pace.look_at, later, "there is more");
    }
}
