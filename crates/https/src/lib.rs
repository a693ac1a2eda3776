//! One HTTPS client and one TLS server side for everybody.
//!
//! | module | holds |
//! | --- | --- |
//! | [`client`] | requests to others: one deadline, a bounded answer, pooled connections |
//! | [`trust`] | whose certificates the client believes |
//! | `aws` | AWS's SDK on that client (feature `aws`) |
//! | [`server`] | TLS for our own listeners, with certificates that are renewed while it runs |
//!
//! What is asked of whom, and what an answer means, is decided by the callers. Nothing here prints an address, a query
//! or a header.

#[cfg(feature = "aws")]
pub mod aws;
pub mod client;
pub mod server;
pub mod trust;

pub use client::Client;
pub use trust::{Trust, TrustError};

#[cfg(test)]
mod tests;
