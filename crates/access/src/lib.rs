//! Who may speak to us, and what each of them may touch.
//!
//! A [`Guard`] stands at every door (HTTP, WebSocket, shim) and judges what a request presents: static tokens, which
//! may do everything, and JWTs, which may be bound to a business unit, to one contact, and to some [`Scope`]s.
//!
//! | module | holds |
//! | --- | --- |
//! | `guard` | the front: static tokens first, then JWTs |
//! | `jwt` | one JWT: algorithm, key, signature, claims, in this order |
//! | `claims` | what a JWT says, read strictly |
//! | `keys` | a JSON Web Key Set as keys of one family |
//! | `cache` | key sets that are fetched: how long they hold, when to ask again |
//! | `grant`, `scope`, `refusal` | what a judgement says |
//! | [`settings`] | the JWT part of the configuration |
//! | [`issue`] | the other side: keys, signed tokens, and the clients that get them |
//!
//! Nothing here spends a one-time token, counts a refusal or knows a wire: the doors do. No token is ever printed.

mod cache;
mod claims;
mod grant;
mod guard;
pub mod issue;
mod jwt;
mod keys;
mod refusal;
mod scope;
pub mod settings;

pub use cache::{FetchError, KeyFetch};
pub use grant::{Grant, OneTime};
pub use guard::{Guard, Wanted};
pub use jwt::{Jwt, Keys, OneTimePolicy, Rules, SECRET_BYTES_MIN, SecretTooShort};
pub use refusal::Refusal;
pub use scope::Scope;

#[cfg(test)]
mod tests;
