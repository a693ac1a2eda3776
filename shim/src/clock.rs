//! The time since the Unix epoch, in microseconds, that never runs backwards within one stream.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that was set from the wall once and is then driven by the monotonic clock: a step of the wall clock cannot
/// tear a stream's timeline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    started_us: i64,
}

impl Clock {
    /// Sets a clock from the wall now.
    pub(crate) fn set_now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_us: crate::limits::as_us(since_epoch) }
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn now_us(&self) -> i64 {
        self.started_us + crate::limits::as_us(self.started.elapsed())
    }

    /// The instant at which this clock shows `at_us`; now, if that has passed.
    pub(crate) fn instant(&self, at_us: i64) -> Instant {
        let ahead_us = at_us.saturating_sub(self.started_us).max(0).cast_unsigned();
        self.started + std::time::Duration::from_micros(ahead_us)
    }
}

/// Milliseconds since the Unix epoch, for the store.
pub(crate) fn wall_ms() -> i64 {
    Clock::set_now().now_us() / 1000
}
