//! All shared state: one DynamoDB table, and the only code that knows it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`client`] | [`Store`]: the connection, its timeouts and limits |
//! | [`table`] | what the table looks like, and making one for local use |
//! | [`contact`] | what is known about a contact |
//! | [`claim`] | a handshake takes a perspective of a contact |
//! | [`stream`] | the holder of a perspective says that it lives, or that it ended |
//! | [`ending`] | a contact ends, and exactly one task finishes it |
//! | [`sweep`] | reading: one contact, those that are due, those that live |
//! | [`error`] | what can go wrong, classed once |
//! | `embedded` | a DynamoDB in this process (feature `embedded`) |
//! | `conformance` | what every DynamoDB has to pass (feature `conformance`) |
//!
//! There is one adapter and no second store: locally the same code talks to another endpoint. Every change that can
//! race is one conditional write on one item. No clock is read here: the time comes in as an argument, in
//! milliseconds (`_ms`) or microseconds (`_us`) since the Unix epoch.

pub mod claim;
pub mod client;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod contact;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod ending;
pub mod error;
mod item;
pub mod stream;
pub mod sweep;
pub mod table;
mod write;

pub use claim::{Claim, ClaimError, Claimed};
pub use client::Store;
pub use contact::{ContactRecord, ContactState, Finisher, StreamRecord};
pub use earpiece_core::contact::state::EndReason;
#[cfg(feature = "embedded")]
pub use embedded::{Embedded, EmbeddedError};
pub use ending::Ending;
pub use error::StoreError;
pub use stream::{Checkpoint, StreamEnd, StreamError};
