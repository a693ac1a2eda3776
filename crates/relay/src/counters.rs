//! What is measured: plain atomics, read by whoever serves `/metrics`. Units are in the names.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that many streams change.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Moves a gauge from what one stream last reported to what it holds now.
    pub(crate) fn shift(&self, from: u64, to: u64) {
        // Two's complement: adding a negative difference wraps around to the right sum.
        self.0.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
    }
}

/// What the relay did, over all streams since the process began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that reached the WebSocket upgrade.
    pub connects: Counter,
    /// Attempts that did not, time-outs included.
    pub connect_failures: Counter,
    /// Connections that ended before the stream did.
    pub disconnects: Counter,
    /// Audio bytes handed to the socket, replays included.
    pub bytes_sent: Counter,
    /// Samples that the app was not given, or (when it acknowledges) never confirmed and can no longer be given.
    pub samples_lost: Counter,
    /// Events taken from the app.
    pub events: Counter,
    /// Events that came above the limit per stream, or that nobody was ready to receive.
    pub events_dropped: Counter,
    /// Frames from the app that are no JSON object: binary, other text, an acknowledgement without a position.
    pub ignored_frames: Counter,
    /// Gauge: samples that are held in rings, as of each stream's last chunk.
    pub ring_samples: Counter,
}
