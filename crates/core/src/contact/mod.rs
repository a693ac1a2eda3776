//! A contact and its streams: names, state machines and time.
//!
//! | module | holds |
//! | --- | --- |
//! | [`key`] | which contact, which stream |
//! | [`stream`] | one socket: awaiting init → streaming → draining → closed |
//! | [`connection`] | the same behind API Gateway, where every message meets another process |
//! | [`state`] | one contact: perspectives, generations, fencing, hold, end |
//! | [`timeline`] | where samples belong in time: runs, anchors, drift |
//! | [`facts`] | what a stream did, as written with every segment |
//! | [`ledger`] | what all streams of a contact did, laid out on one clock |
//! | [`event`] | what happens to a contact, as told to whoever watches |
//!
//! Everything here is sans I/O: events and the time come in, effects and facts go out.

pub mod connection;
pub mod event;
pub mod facts;
pub mod key;
pub mod ledger;
pub mod state;
pub mod stream;
pub mod timeline;

pub use key::{ContactKey, StreamId};

/// Samples per millisecond: every CXone stream is 8000 Hz mono (contract §1.6).
pub const SAMPLES_PER_MS: u64 = 8;

/// Samples per second.
pub const SAMPLE_RATE_HZ: u32 = 8000;
