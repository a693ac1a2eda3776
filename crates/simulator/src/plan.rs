//! What a call is to do: who calls whom, which voices, and the script they follow.
//!
//! Only the wish lives here. Where each step lies on the media clock is the timetable's.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use earpiece_core::contact::{ContactKey, SAMPLES_PER_MS};
use earpiece_core::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::init::InitShape;

/// Samples in a frame of 20 ms, the common packet time in telephony.
pub const FRAME_SAMPLES: u32 = 160;

/// Voices in one call. CXone has two (or one mixed); more are for tests of what a server does with them.
pub const LEGS_MAX: usize = 8;

/// Longest call for which [`CallPlan::keep_audio`] may be asked: two hours, so 57.6 MB per leg.
pub const KEPT_SAMPLES_MAX: u64 = 2 * 3600 * 1000 * SAMPLES_PER_MS;

/// Name of the query parameter which carries a token under [`TokenPlace::Query`].
pub const TOKEN_PARAMETER: &str = "token";

/// A call to place.
///
/// ```
/// use earpiece_core::contact::ContactKey;
/// use earpiece_simulator::{CallPlan, HoldBy, Step, tone};
/// use serde_json::json;
///
/// let plan = CallPlan::new("ws://127.0.0.1:8080/audio", ContactKey { bus_no: 1, contact_id: 42 })
///     .leg(json!("TX"), tone(440, 1000))
///     .leg(json!("RX"), tone(660, 1000))
///     .step(Step::Speak { ms: 2000 })
///     .step(Step::Hold { ms: 500, by: HoldBy::Close })
///     .step(Step::Speak { ms: 1000 });
/// assert_eq!(plan.legs.len(), 2);
/// ```
#[derive(Clone)]
pub struct CallPlan {
    /// The audio endpoint, `ws://` or `wss://`; it may carry a query string. Never printed.
    pub url: String,
    /// The contact.
    pub contact: ContactKey,
    /// The token, if any.
    pub token: Option<Secret>,
    /// Where the token goes.
    pub token_in: TokenPlace,
    /// The voices: one socket each.
    pub legs: Vec<Leg>,
    /// How audio is cut into frames and how punctual they are.
    pub frame: FrameShape,
    /// How fast the media clock runs.
    pub pace: Pace,
    /// What the init message looks like.
    pub init: InitShape,
    /// What happens, in order. Empty: the voices speak once for as long as the longest clip.
    pub script: Vec<Step>,
    /// Bound on connecting, on the WebSocket upgrade and on the answer to the init message, together.
    pub connect_timeout: Duration,
    /// How often, in the whole call, one leg dials again after the server refused, closed or lost it.
    pub reconnects_max: u32,
    /// The pauses before those.
    pub backoff: Backoff,
    /// Whether the report keeps every byte that was sent (at most [`KEPT_SAMPLES_MAX`]).
    pub keep_audio: bool,
    /// Seed of everything random: frame sizes, jitter, backoff.
    pub seed: u64,
}

impl CallPlan {
    /// A call in real time with 20 ms frames, no voices and no token yet.
    #[must_use]
    pub fn new(url: impl Into<String>, contact: ContactKey) -> Self {
        Self {
            url: url.into(),
            contact,
            token: None,
            token_in: TokenPlace::default(),
            legs: Vec::new(),
            frame: FrameShape::default(),
            pace: Pace::default(),
            init: InitShape::default(),
            script: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            reconnects_max: 5,
            backoff: Backoff::default(),
            keep_audio: false,
            seed: 1,
        }
    }

    /// Adds a voice. `perspective` is sent as it is (`"RX"`, `1`, `["TX"]`, `"weird"` …); `audio` is raw µ-law, 8000 Hz
    /// mono, and begins again when the script outlasts it. Without samples it is silence.
    #[must_use]
    pub fn leg(mut self, perspective: impl Into<Value>, audio: impl Into<Bytes>) -> Self {
        self.legs.push(Leg { perspective: perspective.into(), audio: audio.into() });
        self
    }

    /// Adds the usual two voices: TX, what the agent hears, and RX, the agent.
    #[must_use]
    pub fn both(self, contact_voice: impl Into<Bytes>, agent_voice: impl Into<Bytes>) -> Self {
        self.leg(json!("TX"), contact_voice).leg(json!("RX"), agent_voice)
    }

    /// Presents a token at a place.
    #[must_use]
    pub fn token(mut self, token: Secret, place: TokenPlace) -> Self {
        self.token = Some(token);
        self.token_in = place;
        self
    }

    /// Adds a step to the script.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.script.push(step);
        self
    }

    /// Replaces the frame shape.
    #[must_use]
    pub fn frame(mut self, frame: FrameShape) -> Self {
        self.frame = frame;
        self
    }

    /// Replaces the pace.
    #[must_use]
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Replaces the shape of the init message.
    #[must_use]
    pub fn init(mut self, init: InitShape) -> Self {
        self.init = init;
        self
    }

    /// Replaces the number of times a leg dials again.
    #[must_use]
    pub fn reconnects_max(mut self, reconnects_max: u32) -> Self {
        self.reconnects_max = reconnects_max;
        self
    }

    /// Replaces the bound on connecting and being answered.
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Asks for every byte that was sent in the report.
    #[must_use]
    pub fn keep_audio(mut self) -> Self {
        self.keep_audio = true;
        self
    }

    /// Replaces the seed of everything random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }
}

/// A URL may hold a token in its query and the init message a customer's data: neither is printed.
impl fmt::Debug for CallPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallPlan")
            .field("contact", &self.contact)
            .field("legs", &self.legs)
            .field("frame", &self.frame)
            .field("pace", &self.pace)
            .field("steps", &self.script.len())
            .finish_non_exhaustive()
    }
}

/// Where the token goes (contract §1.1, §1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenPlace {
    /// In the init message's `authenticationToken`, as CXone does.
    #[default]
    Init,
    /// In the upgrade request's `Authorization` header, with `Bearer`.
    Header,
    /// In the URL's query, as [`TOKEN_PARAMETER`].
    Query,
}

/// One voice of the call: one socket at a time.
#[derive(Clone)]
pub struct Leg {
    /// The `streamPerspective`, sent as it is.
    pub perspective: Value,
    /// Raw µ-law, 8000 Hz mono; begins again when it is over.
    pub audio: Bytes,
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leg({}, {} samples)", self.perspective, self.audio.len())
    }
}

/// How audio is cut into frames, and how punctual they are. All of it is repeatable by [`CallPlan::seed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameShape {
    /// Samples per frame.
    pub size: FrameSize,
    /// Each frame leaves up to this much late, in milliseconds. Frames never overtake each other.
    pub late_ms_max: u32,
    /// Now and then (one frame in [`FrameShape::STALL_ONE_IN`]) a frame is this late, in milliseconds, and those behind
    /// it leave with it in one burst. Zero: never.
    pub stall_ms: u32,
}

impl FrameShape {
    /// How rare a stall is.
    pub const STALL_ONE_IN: u32 = 64;

    /// Punctual frames of one size.
    #[must_use]
    pub const fn fixed(samples: u32) -> Self {
        Self { size: FrameSize::Fixed { samples }, late_ms_max: 0, stall_ms: 0 }
    }

    /// Punctual frames of random sizes, both ends included.
    #[must_use]
    pub const fn random(samples_min: u32, samples_max: u32) -> Self {
        Self { size: FrameSize::Random { samples_min, samples_max }, late_ms_max: 0, stall_ms: 0 }
    }

    /// The same sizes with jitter and stalls.
    #[must_use]
    pub const fn with_jitter(mut self, late_ms_max: u32, stall_ms: u32) -> Self {
        self.late_ms_max = late_ms_max;
        self.stall_ms = stall_ms;
        self
    }
}

impl Default for FrameShape {
    fn default() -> Self {
        Self::fixed(FRAME_SAMPLES)
    }
}

/// Samples per frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameSize {
    /// Always the same. Steps of the script last a whole number of frames.
    Fixed {
        /// Samples in each frame.
        samples: u32,
    },
    /// Anything between two sizes, both included; shorter at the end of a step. Steps of the script last a whole number
    /// of 20 ms.
    Random {
        /// Fewest samples in a frame.
        samples_min: u32,
        /// Most samples in a frame.
        samples_max: u32,
    },
}

/// How fast the media clock runs against the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Pace {
    /// 8000 samples in a second.
    #[default]
    RealTime,
    /// This many times faster (or slower, below 1).
    Speed(f64),
}

/// One step of the script. All legs share one media clock; milliseconds are rounded up to whole frames on it.
#[derive(Clone)]
pub enum Step {
    /// The voices speak on.
    Speak {
        /// For how long.
        ms: u64,
    },
    /// The call is on hold. The voices go on afterwards where they were.
    Hold {
        /// For how long.
        ms: u64,
        /// What the sockets do.
        by: HoldBy,
    },
    /// One leg's connection is lost; the call goes on at once with the next step. What that leg's voice says until it
    /// is back is lost.
    Drop {
        /// Which leg, by its index.
        leg: usize,
        /// How long it stays away before it dials again.
        away_ms: u64,
        /// How the connection is lost.
        cut: Cut,
    },
    /// The voices speak on, and a further person is mixed into what the agent hears (TX and MIX).
    Conference {
        /// For how long.
        ms: u64,
        /// The further person: raw µ-law, 8000 Hz mono; begins again when it is over.
        audio: Bytes,
    },
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Speak { ms } => write!(f, "Speak({ms} ms)"),
            Self::Hold { ms, by } => write!(f, "Hold({ms} ms by {by:?})"),
            Self::Drop { leg, away_ms, cut } => write!(f, "Drop(leg {leg}, {away_ms} ms by {cut:?})"),
            Self::Conference { ms, .. } => write!(f, "Conference({ms} ms)"),
        }
    }
}

/// How a hold looks on the wire (contract §1.7: both are seen).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldBy {
    /// Every socket is closed with 1000 and opened again at the end, with a handshake identical to the first.
    Close,
    /// The sockets stay open and nothing is sent.
    Silence,
}

/// How a connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cut {
    /// The TCP stream ends without a close frame: everything sent before still arrives.
    #[default]
    Eof,
    /// The TCP connection is reset: what the kernel had not delivered yet is lost too.
    Reset,
}

/// Pauses between attempts: doubling from `base` to `cap`, each shortened at random by up to half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub base: Duration,
    /// The longest pause.
    pub cap: Duration,
}

impl Backoff {
    /// The pause before attempt number `attempt`, counted from zero.
    pub(crate) fn pause(self, attempt: u32, rng: &mut fastrand::Rng) -> Duration {
        const DOUBLINGS_MAX: u32 = 16;
        let full = self.base.saturating_mul(1 << attempt.min(DOUBLINGS_MAX)).min(self.cap);
        full.mul_f64(0.5 + rng.f64() / 2.0)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(50), cap: Duration::from_secs(2) }
    }
}

/// A plan that cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not a `ws://` or `wss://` URL with a host, or a token that a header cannot carry.
    #[error("the URL must be ws:// or wss:// with a host, and the token printable")]
    Url,
    /// No legs, or more than [`LEGS_MAX`].
    #[error("a call has between 1 and {LEGS_MAX} legs")]
    Legs,
    /// A step names a leg that is not there.
    #[error("step {step} of the script drops a leg that the call does not have")]
    NoSuchLeg {
        /// Index of the step.
        step: usize,
    },
    /// Frames without samples, larger than the clock can hold, or a range upside down.
    #[error("a frame has between 1 and 65536 samples, the smaller bound first")]
    FrameSize,
    /// Not a finite number above zero.
    #[error("the speed must be a finite number above zero")]
    Speed,
    /// A load over TLS: its frames are prebuilt for plain sockets.
    #[error("a load goes over ws:// only")]
    Tls,
    /// A load without streams, with too many, or with nothing to open and pace them.
    #[error("a load has between 1 and {max} streams, opens at least one a second and has a pacer", max = crate::load::STREAMS_MAX)]
    Streams,
    /// A script too long to keep the audio of, or beyond what the clock can hold.
    #[error("the script is too long")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_the_cap_and_never_leaves_its_bounds() {
        let backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(1) };
        let mut rng = fastrand::Rng::with_seed(7);
        for attempt in 0..40 {
            let full = Duration::from_millis((100_u64 << attempt.min(16)).min(1000));
            for _ in 0..50 {
                let pause = backoff.pause(attempt, &mut rng);
                assert!(pause >= full / 2 && pause <= full, "attempt {attempt}: {pause:?}");
            }
        }
    }

    #[test]
    fn neither_url_nor_token_nor_audio_is_printed() {
        let plan = CallPlan::new("ws://h/?token=hunter2", ContactKey { bus_no: 1, contact_id: 2 })
            .token(Secret::new("hunter3"), TokenPlace::Query)
            .leg(json!("TX"), Bytes::from_static(b"spoken"));
        let printed = format!("{plan:?}");
        assert!(!printed.contains("hunter") && !printed.contains("spoken"), "{printed}");
        assert!(printed.contains("6 samples"), "{printed}");
    }
}
