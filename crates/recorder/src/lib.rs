//! Recordings and ledgers through an object store: a folder or S3.
//!
//! Streams become segments while a call runs, and a contact becomes a recording when it ends. Between the two lies only
//! the store: whichever task finishes a contact finds in the segments all that is known of it, whoever wrote them.
//!
//! | module | holds |
//! | --- | --- |
//! | [`recorder`](Recorder) | the front: taps out, contacts finished |
//! | `tap` | one stream's audio on its way into segments |
//! | `ring` | the audio that a tap holds, and what it had to let go |
//! | `block` | the memory that audio waits in |
//! | `event` | the assist app's events on their way into segments and out of them |
//! | `segment` | a segment as bytes |
//! | `name` | where everything lies in the store |
//! | `writer` | segments on their way into the store: concurrency, retries |
//! | `survey` | what the segments of a contact say |
//! | `settle` | which samples nobody has, and what to tell the ledger |
//! | `compose` | `recording.wav`, written in windows |
//! | `finish` | the steps from segments to a recording, each of which may be the last one a task takes |
//! | `open` | a location as a store |
//!
//! Where samples belong in time is not worked out here but in [`earpiece_core::contact::ledger`].

mod block;
mod compose;
mod counter;
mod error;
mod event;
mod finish;
mod name;
mod open;
mod recorder;
mod ring;
mod segment;
mod setting;
mod settle;
mod span;
mod survey;
mod tap;
mod writer;

pub use counter::Counters;
pub use error::{Error, OpenError};
pub use event::EventLog;
pub use finish::Finished;
pub use recorder::Recorder;
pub use setting::{Retries, Settings};
pub use tap::Tap;

#[cfg(test)]
mod tests;
