//! The Lambda handlers: everything of Earpiece that lives for one event.
//!
//! | module | holds |
//! | --- | --- |
//! | [`text_hook`] | an utterance comes in |
//! | [`delivery`] | an utterance goes out, now or later |
//! | [`contact_events`] | the Studio script says what happens to a contact |
//! | [`suggestions`] | help for the agent comes in |
//! | [`token`] | the authorization server: tokens, our public keys |
//! | [`authorizer`] | the verifier in front of both kinds of API |
//! | [`ws`] | the routes of the WebSocket API |
//! | [`reference`](mod@reference) | examples and documents |
//! | [`reaper`] | what nobody else comes back for |
//! | [`publish`] | telling pages that listen |
//! | [`routes`] | every HTTP route, and all of them in one process |
//! | [`answer`], [`auth`] | HTTP answers; who a request comes from |
//! | [`settings`], [`start`], [`clock`], [`counters`] | what every function begins with, and counts |
//!
//! A handler takes a request and gives an answer: it does not fail, and a client's fault is an answer, too. All state is
//! in the store, so any number of processes may handle the events of one contact.

pub mod answer;
pub mod auth;
pub mod authorizer;
pub mod clock;
pub mod contact_events;
pub mod counters;
pub mod delivery;
mod path;
pub mod publish;
pub mod reaper;
pub mod reference;
pub mod routes;
pub mod settings;
pub mod start;
pub mod suggestions;
pub mod text_hook;
pub mod token;
pub mod ws;

#[cfg(test)]
mod testing;
