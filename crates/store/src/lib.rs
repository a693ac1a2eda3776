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
//! | [`sweep`] | contacts are read: one of them, those that are due, those that live |
//! | [`script`] | what the Studio script says of a contact: holds and ends that are known |
//! | [`utterance`] | an utterance is accepted once, and kept until it is delivered |
//! | [`connection`] | an API Gateway connection and its document |
//! | [`listener`] | which connections listen to a contact |
//! | [`interaction`] | the document of an interaction, stepped together with its outbox entries and audit records |
//! | [`outbox`] | what has to leave for CXone: due, claimed, put off, buried and brought back |
//! | [`audit`] | the record of what happened to an interaction |
//! | [`lease`] | of many tasks exactly one does what only one may do |
//! | [`keys`] | the signing keys of the token server |
//! | [`onetime`] | what may be used once |
//! | [`rate`] | how often a business unit asks |
//! | [`read`] | how much is read at a time |
//! | [`error`] | what can go wrong, classed once |
//! | `embedded` | a DynamoDB in this process (feature `embedded`) |
//! | `conformance` | what every DynamoDB has to pass (feature `conformance`) |
//!
//! | item | `pk` | `sk` | lives |
//! | --- | --- | --- | --- |
//! | contact, with the current stream of each perspective | `CONTACT#{busNo}#{contactId}` | `CONTACT` | until it is finished, and as long as the caller retains it |
//! | utterance | the contact's | `UTTERANCE#{key}` | until it is delivered, and for the window of duplicates; a dead letter as long as the caller keeps it |
//! | contact event | the contact's | `EVENT#{atMs}#{requestId}` | as long as the caller keeps it |
//! | listener | the contact's | `LISTENER#{connectionId}` | as long as its connection may |
//! | connection | `CONNECTION#{connectionId}` | `CONNECTION` | as long as a connection may |
//! | interaction | `INTERACTION#{interactionId}` | `INTERACTION` | until nothing of it waits to leave, and as long as the caller keeps it after its last step |
//! | outbox entry | the interaction's | `OUTBOX#{seq}` (12 digits) | until it is closed; a dead letter as long as the caller keeps it |
//! | audit record | the interaction's | `AUDIT#{number}` (12 digits) | as long as the caller keeps it |
//! | lease | `LEASE#{name}` | `LEASE` | for ever, as its tokens must not begin again |
//! | private signing key | `SIGNING` | `HEAD` | until it expires or is replaced |
//! | public signing key | `JWKS` | `{kid}` | until it expires |
//! | one-time id | `ONETIME#{id}` | `ONETIME` | until what it stands for expires |
//! | requests of a business unit | `RATE#{busNo}` | `{second}` | five minutes |
//!
//! The sparse index `due` holds contacts (`due_shard` `0` … `3`), utterances (`U0` … `U3`) and those that are dead
//! letters (`D0` … `D3`), outbox entries by lane (suggestions `OS0` … `OS3`, insights `OI0` …, popups `OP0` …, webhooks
//! `OW0` …) and those that are dead letters (`OX0` …), each by `due_at_ms`: who sweeps one kind never sees another.
//!
//! There is one adapter and no second store: locally the same code talks to another endpoint. Every change that can
//! race is one conditional write on one item, or one transaction. What has expired counts as absent, whether DynamoDB
//! has deleted it or not. No clock is read here: the time comes in as an argument, in milliseconds (`_ms`),
//! microseconds (`_us`) or seconds (`_s`) since the Unix epoch.

mod attribute;
pub mod audit;
pub mod claim;
pub mod client;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod connection;
pub mod contact;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod ending;
pub mod error;
pub mod interaction;
mod item;
mod key;
pub mod keys;
pub mod lease;
pub mod listener;
pub mod onetime;
pub mod outbox;
pub mod rate;
pub mod read;
pub mod script;
mod sdk;
pub mod stream;
pub mod sweep;
pub mod table;
mod transaction;
pub mod utterance;
mod write;

pub use claim::{Claim, ClaimError, Claimed};
pub use client::Store;
pub use connection::ConnectionRecord;
pub use contact::{ContactRecord, ContactState, Finisher, Hold, StreamRecord};
pub use earpiece_core::contact::state::EndReason;
#[cfg(feature = "embedded")]
pub use embedded::{Embedded, EmbeddedError};
pub use ending::Ending;
pub use error::StoreError;
pub use interaction::InteractionRecord;
pub use keys::StoredKey;
pub use lease::LeaseRecord;
pub use script::NotedEvent;
pub use stream::{Checkpoint, StreamEnd, StreamError};
pub use utterance::{Acceptance, Accepted, DueUtterance};
