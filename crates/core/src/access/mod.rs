//! Who may speak to us: the judgement of tokens, and the pause after a wrong one.
//!
//! Shared by everything that takes a call, so that the rules exist once. Nothing here waits, reads a clock or logs.
//! A token that is right is never refused or delayed because others were wrong: CXone's media servers share addresses
//! between tenants. Therefore [`Verifier`] knows nothing of [`Penalties`], and those nothing of successes.

mod penalty;
mod verify;

pub use penalty::{Penalties, PenaltyRules, Who};
pub use verify::{PRESENTED_MAX, Verdict, Verifier, bare_token, digest_from_hex};
