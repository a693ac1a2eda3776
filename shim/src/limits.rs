//! Every limit of the shim in one struct: what may come in, how much at once, and how long anything may take.

use std::time::Duration;

/// The shim's limits. The names say what they bound; units are last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The init message must be complete within this.
    pub init_deadline: Duration,
    /// Size of the init message.
    pub init_bytes_max: usize,
    /// Size of one audio frame.
    pub frame_bytes_max: usize,
    /// Live streams on this task.
    pub streams_max: usize,
    /// Live streams of one business unit on this task.
    pub streams_per_business_unit_max: usize,
    /// New sockets per second on this task; twice as many may come at once.
    pub opens_per_second_max: u32,
    /// Sockets that are held back after a wrong token, each for as long as its failures ask for. Above it the least delay
    /// holds for everyone.
    pub penalties_max: usize,
    /// Control frames (pings, pongs) that a peer may send at once.
    pub control_frames_max: u32,
    /// Control frames that a peer may send per second, for longer.
    pub control_frames_per_second: u32,
    /// HTTP connections that are not (yet) audio sockets.
    pub connections_max: usize,
    /// Audio kept for a slow sink.
    pub ring: Duration,
    /// How long the answer to CXone waits for the store.
    pub store_deadline: Duration,
    /// For how long a claim or an end is tried in the background.
    pub store_patience: Duration,
    /// No audio for so long is a hold by silence.
    pub silence: Duration,
    /// Nothing at all for so long asks the peer for a sign of life.
    pub ping: Duration,
    /// Nothing at all for so long means the peer is dead.
    pub dead: Duration,
    /// How long a closing socket may take to go.
    pub farewell: Duration,
    /// A contact with no open stream for so long is over.
    pub quiet: Duration,
    /// How often a live stream is noted in the store.
    pub checkpoint: Duration,
    /// A stream that was not noted for so long belonged to a task that died.
    pub stale: Duration,
    /// How often the store is asked for contacts that are due.
    pub sweep: Duration,
    /// Contacts that are finished at once.
    pub finishers_max: usize,
    /// How long a finished contact stays in the store.
    pub retain: Duration,
    /// Everything is over within this after the shutdown signal, whatever happens.
    pub drain_deadline: Duration,
    /// Live sockets that are told to go elsewhere, per second. Raised if the deadline would not hold.
    pub drain_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            init_deadline: Duration::from_secs(5),
            init_bytes_max: 64 * 1024,
            frame_bytes_max: 64 * 1024,
            streams_max: 2500,
            streams_per_business_unit_max: 2500,
            opens_per_second_max: 500,
            penalties_max: 1024,
            control_frames_max: 60,
            control_frames_per_second: 2,
            connections_max: 4096,
            ring: Duration::from_secs(10),
            store_deadline: Duration::from_millis(500),
            store_patience: Duration::from_mins(15),
            silence: Duration::from_secs(2),
            ping: Duration::from_secs(20),
            dead: Duration::from_mins(1),
            farewell: Duration::from_secs(2),
            quiet: Duration::from_mins(15),
            checkpoint: Duration::from_mins(1),
            stale: Duration::from_mins(3),
            sweep: Duration::from_secs(5),
            finishers_max: 2,
            retain: Duration::from_hours(30 * 24),
            drain_deadline: Duration::from_secs(110),
            drain_per_second: 100,
        }
    }
}

impl Limits {
    /// The stream machine's share of the limits.
    #[must_use]
    pub fn patience(&self) -> earpiece_core::contact::stream::Patience {
        earpiece_core::contact::stream::Patience {
            init_us: as_us(self.init_deadline),
            silence_us: as_us(self.silence),
            ping_us: as_us(self.ping),
            dead_us: as_us(self.dead),
            farewell_us: as_us(self.farewell),
        }
    }
}

/// A duration in microseconds.
pub(crate) fn as_us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A duration in milliseconds.
pub(crate) fn as_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
