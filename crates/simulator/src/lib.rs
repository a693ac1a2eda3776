//! CXone in a box: the media server that places calls, the platform that takes suggestions, insights and cards, and a
//! small reference assist app that hears the calls.
//!
//! | module | holds |
//! | --- | --- |
//! | [`plan`], [`init`] | what a call is to do, and how its handshake looks |
//! | [`call`] | the media server: places a call, follows its script |
//! | [`report`] | what it did, exactly |
//! | [`clip`] | µ-law audio to speak with |
//! | [`hostile`] | peers that misbehave |
//! | [`load`] | thousands of live streams, cheaply |
//! | [`assist_app`] | the reference assist app |
//! | [`platform`] | CXone's platform: OAuth, REST, the three sockets, faults |
//!
//! It knows the wire and nothing of Earpiece's inside: any endpoint that claims to speak the hook can be called, and
//! any client that speaks the assist app protocol can be heard.

pub mod assist_app;
pub mod call;
pub mod clip;
mod dial;
pub mod hostile;
pub mod init;
mod leg;
pub mod load;
pub mod plan;
pub mod platform;
pub mod report;
mod stop;
#[cfg(test)]
mod testing;
mod timetable;
mod wire;

pub use assist_app::{AssistApp, AssistSettings, CloseAfter, Faults, Heard, Hearing, Line, PauseAfter};
pub use call::{Call, CallError, Progress, place};
pub use clip::tone;
pub use hostile::{End, Misbehaviour, Outcome, misbehave};
pub use init::{Ids, InitShape, Params};
pub use load::{Latency, Load, LoadPlan, LoadProgress, LoadReport};
pub use plan::{
    Backoff, CallPlan, Cut, FRAME_SAMPLES, FrameShape, FrameSize, HoldBy, Leg, Pace, PlanError, Step, TokenPlace,
};
pub use platform::{Platform, PlatformSettings};
pub use report::{CallReport, Close, GapCause, LegReport, MediaGap, Side, SocketReport, Stretch};
