//! The way back to the agent: what is to be said to CXone leaves here, and what CXone says about it comes in.
//!
//! | module | holds |
//! | --- | --- |
//! | [`settings`] | every setting, and what makes a configuration valid |
//! | [`metrics`] | what is measured, as Prometheus text |
//! | [`ear`] | the shim's own transcripts on their way to the insight side |
//! | `open` | from settings to what [`run`] works with |
//! | `lease` | exactly one task does a piece of work |
//! | `link` | one long-lived socket to CXone: opened, lost, opened again |
//! | `outbox` | what has to leave is claimed, sent and settled, in order per interaction |
//! | `suggestions` | socket A: suggestions out; acknowledgements and answers in |
//! | `insights`, `search` | socket B: transcripts in; cards of knowledge out |
//! | `popups` | socket C: events of interactions in; cards that warn the agent out |
//! | `webhook` | signed callbacks to the user's own systems |
//!
//! Any number of tasks may run this on one store. Each of the three sockets, with the lanes of the outbox behind it, is
//! worked by the one task that holds its lease; the rules that must hold whoever works are in the store and in
//! [`earpiece_core::assist`], and not here.

mod clock;
pub mod ear;
mod insights;
mod lease;
mod link;
pub mod metrics;
mod open;
mod outbox;
mod popups;
mod recent;
mod run;
mod search;
pub mod settings;
mod submit;
mod suggestions;
mod webhook;

pub use ear::{Ear, Heard, Said, channel};
pub use metrics::Metrics;
pub use open::{Config, OpenError};
pub use run::{Parts, run};
pub use settings::{Settings, Which};
pub use submit::submit;

#[cfg(test)]
mod tests;
