//! The gateway over real sockets: a client in front of it, functions behind it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod connections;
mod ends;
mod handshake;
mod lambda;
mod messages;
mod stage;
