//! The wall clock, for whatever has to name a moment to the store or to a token.

use std::time::{SystemTime, UNIX_EPOCH};

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

/// A duration in milliseconds.
pub(crate) fn as_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
