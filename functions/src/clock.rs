//! The wall clock, for whatever has to name a moment to the store or to a token.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since the Unix epoch.
#[must_use]
pub fn wall_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Whole seconds since the Unix epoch.
#[must_use]
pub fn wall_s() -> i64 {
    wall_ms() / 1000
}

/// A clock that was set to a moment and goes on from there: work that takes a while names the time as it passes, and
/// begins when its caller says.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    set_to_ms: i64,
    set_at: Instant,
}

impl Clock {
    /// A clock that shows `now_ms` now.
    #[must_use]
    pub fn set_to(now_ms: i64) -> Self {
        Self { set_to_ms: now_ms, set_at: Instant::now() }
    }

    /// What it shows now, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.set_to_ms.saturating_add_unsigned(as_ms(self.set_at.elapsed()))
    }
}

/// A duration in milliseconds.
pub(crate) fn as_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
