//! The front of API Gateway's WebSocket APIs, for local use: real sockets before functions that never see one.
//!
//! It does what API Gateway does with a WebSocket API and its Lambda proxy integrations, and keeps its limits: connection
//! ids, `$connect` with an authorizer before it, routes by a word in the message, `$disconnect` after the end,
//! `@connections` to send, look and close, 1003 for binary frames, 1009 above 32 KB a frame or 128 KB a message, 1001
//! after ten idle minutes or two hours, 29 seconds for a function.
//!
//! | module | holds |
//! | --- | --- |
//! | `settings` | an API and its limits |
//! | `route` | which route a message takes (pure) |
//! | `event` | what functions get (pure) |
//! | `authorize` | what an authorizer's policy allows (pure) |
//! | `guard` | the rules about frames |
//! | `invoke` | asking a function |
//! | `gateway` | from a request to an open connection |
//! | `connection` | one open connection, to its end |
//! | `connections` | all of them, and `@connections` |
//! | `serve` | a listener of its own |
//!
//! Not here: route responses, usage plans, IAM. A signature on a request to `@connections` is not looked at: whoever
//! reaches the port may send.

mod answer;
mod authorize;
mod clock;
mod connection;
mod connections;
mod event;
mod gateway;
mod guard;
mod invoke;
mod route;
mod serve;
mod settings;

pub use gateway::Gateway;
pub use invoke::{ANSWER_BYTES_MAX, InProcess, Invoke, InvokeError};
pub use route::{Selection, SelectionError};
pub use serve::{HEAD_BYTES_MAX, HEADER_TIMEOUT, HTTP_CONNECTIONS_MAX, STOP_TIMEOUT};
pub use settings::{Routes, Settings};
