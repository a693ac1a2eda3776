//! Client of CXone's platform: tokens, discovery, REST, and the three sockets (contract §5 A–C).
//!
//! | module | holds |
//! | --- | --- |
//! | `client` | [`Cxone`]: what the rest of the house asks for |
//! | [`settings`] | everything that can be configured, checked at start |
//! | `template`, `addresses`, `directory` | addresses as templates, and discovery |
//! | `credentials`, `secrets_manager` | who we are: environment, file or Secrets Manager, read again while running |
//! | `grant`, `token` | one request for a token; tokens kept, renewed early, asked for once |
//! | `gate`, `circuit`, `retry_after` | the one way out for requests: budget, hold, circuit |
//! | `dial`, `socket` | long-lived sockets with their pings |
//!
//! What is sent, when, and how often it is tried again is decided above: nothing here keeps a queue. No token, word,
//! address or query is in any log line, error or `Debug` of this crate.

pub mod settings;

mod addresses;
mod circuit;
mod client;
mod counters;
mod credentials;
mod dial;
mod directory;
mod endpoint;
mod error;
mod gate;
mod grant;
mod retry_after;
mod secrets_manager;
mod socket;
mod template;
mod token;

#[cfg(test)]
mod tests;

pub use client::Cxone;
pub use counters::{Counters, EndpointCounters};
pub use endpoint::{Endpoint, Outcome, Uplink};
pub use error::CxoneError;
pub use settings::Settings;
pub use socket::{Closed, Socket};
