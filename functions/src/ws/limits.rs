//! Every limit of the WebSocket side.

use std::time::Duration;

/// Limits that tests and operators may set. The others are constants below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A contact without an open socket for so long is over.
    pub quiet: Duration,
    /// A stream that was not heard of for so long is lost. API Gateway ends a connection that is idle for 10 minutes,
    /// and a stream with audio is noted once a minute.
    pub stale: Duration,
    /// How long a connection is remembered after its last message. It lives for 2 hours at most.
    pub memory: Duration,
    /// How long one piece of audio may take to be written, all retries included. API Gateway waits for 29 s.
    pub write: Duration,
    /// How long the shim may take for a piece before it is written here.
    pub ingest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            quiet: Duration::from_mins(15),
            stale: Duration::from_mins(15),
            memory: Duration::from_mins(135),
            write: Duration::from_secs(15),
            ingest: Duration::from_secs(3),
        }
    }
}

/// How often a change is redone because another handler was faster. Each further attempt means that one of them got
/// its own through, so messages of one connection that come at the same instant all get theirs.
pub(super) const ATTEMPTS_MAX: u32 = 200;

/// The longest pause between two attempts, in milliseconds; it grows up to there, and is jittered.
pub(super) const PAUSE_MS_MAX: u64 = 40;

/// Contacts that one connection listens to.
pub(super) const LISTENING_MAX: usize = 16;

/// Length of a message's or connection's id. API Gateway's have some 16 characters.
pub(super) const ID_BYTES_MAX: usize = 128;
