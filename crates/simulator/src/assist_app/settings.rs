//! How the reference app behaves: what it keeps and says, and the faults it plays on demand.

use std::fmt;
use std::time::Duration;

use earpiece_core::protocol::perspective::Perspective;
use earpiece_core::secret::Secret;
use serde_json::Value;

/// How the reference app behaves.
#[derive(Debug, Clone)]
pub struct AssistSettings {
    /// Whether every sample heard is kept, for [`super::Heard::audio`].
    pub keep_audio: bool,
    /// It acknowledges whenever it has heard this many further samples of a stream. Default: one second.
    pub ack_samples: u64,
    /// What it says, to each contact once.
    pub script: Vec<Line>,
    /// The value that a client's `Authorization` header must have; others are closed with 1008.
    pub authorization: Option<Secret>,
    /// Connections at one time; further ones are closed at once.
    pub connections_max: usize,
    /// Faults from the start.
    pub faults: Faults,
}

impl Default for AssistSettings {
    fn default() -> Self {
        Self {
            keep_audio: false,
            ack_samples: 8000,
            script: Vec::new(),
            authorization: None,
            connections_max: 10_000,
            faults: Faults::default(),
        }
    }
}

/// Something the app says when it has heard enough: a transcript, a suggestion.
#[derive(Clone)]
pub struct Line {
    /// On whose voice's socket.
    pub perspective: Perspective,
    /// When this many samples of that voice were heard, over all its streams.
    pub at_sample: u64,
    /// The JSON text frame.
    pub say: Value,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({} at {})", self.perspective, self.at_sample)
    }
}

/// What goes wrong, on purpose. May be changed while the app runs; `times` then count anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// New connections are ended before the upgrade.
    pub refuse: bool,
    /// It never acknowledges.
    pub never_ack: bool,
    /// Connections are closed after they brought some audio.
    pub close_after: Option<CloseAfter>,
    /// Connections are not read for a while after they brought some audio.
    pub pause_after: Option<PauseAfter>,
}

/// Closing connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseAfter {
    /// Samples that a connection brings before it is closed.
    pub samples: u64,
    /// The close code; none drops the connection without a close frame.
    pub code: Option<u16>,
    /// How many connections in all are treated so.
    pub times: u32,
}

/// Not reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseAfter {
    /// Samples that a connection brings before it is not read any more.
    pub samples: u64,
    /// For how long.
    pub pause: Duration,
    /// How many connections in all are treated so.
    pub times: u32,
}

impl Faults {
    /// Whether a connection that brought this many samples is to be closed now, and how.
    pub(crate) fn take_close(&mut self, samples: u64) -> Option<CloseAfter> {
        let fault = self.close_after.as_mut().filter(|fault| fault.times > 0 && samples >= fault.samples)?;
        fault.times -= 1;
        Some(fault.clone())
    }

    /// Whether a connection that brought this many samples is not to be read now, and for how long.
    pub(crate) fn take_pause(&mut self, samples: u64) -> Option<Duration> {
        let fault = self.pause_after.as_mut().filter(|fault| fault.times > 0 && samples >= fault.samples)?;
        fault.times -= 1;
        Some(fault.pause)
    }
}
