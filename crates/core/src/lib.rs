//! What is true without a network.
//!
//! CXone's language ([`protocol`]), a contact and its streams and their time ([`contact`]), audio as bytes and samples
//! ([`audio`]), the help that goes back to the agent ([`assist`]), who may speak to us ([`access`]), and the words that
//! every other crate uses for faults ([`error`]), secrets ([`secret`]) and measurements ([`telemetry`]).
//!
//! No tokio, no AWS, no TLS and no clock lives here: time comes in as a value, effects go out as values.

pub mod access;
pub mod assist;
pub mod audio;
pub mod config;
pub mod contact;
pub mod error;
pub mod protocol;
pub mod secret;
pub mod telemetry;
