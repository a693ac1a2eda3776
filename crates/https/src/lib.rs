//! One HTTPS client and one TLS server side for everything that is not AWS.
//!
//! | module | holds |
//! | --- | --- |
//! | [`client`] | requests to others: one deadline, a bounded answer, pooled connections |
//! | [`trust`] | whose certificates the client believes |
//! | [`server`] | TLS for our own listeners, with certificates that are renewed while it runs |
//!
//! What is asked of whom, and what an answer means, is decided by the callers. Nothing here prints an address, a query
//! or a header.

pub mod client;
pub mod server;
pub mod trust;

pub use client::Client;
pub use trust::{Trust, TrustError};

#[cfg(test)]
mod tests;
