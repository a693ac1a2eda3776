//! The wall clock, for whatever has to name a moment to the store or to CXone. Pauses are measured with tokio's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// A duration in milliseconds.
pub(crate) fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The moment so long after `at_ms`, in milliseconds since the Unix epoch.
pub(crate) fn after_ms(at_ms: i64, pause: Duration) -> i64 {
    at_ms.saturating_add_unsigned(as_ms(pause))
}
