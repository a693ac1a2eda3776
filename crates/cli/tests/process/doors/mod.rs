//! The serverless doors of `earpiece serve` as their users meet them: over real sockets, in a process that is killed
//! when a test says so.
//!
//! | module | what users get |
//! | --- | --- |
//! | `text` | what got a 200 reaches the assist app once, whoever goes away meanwhile |
//! | `auth` | a token opens what it is good for, at every door, and nothing else |
//! | `socket` | audio, acknowledgements and events through the WebSocket API |
//! | `crash` | what was acknowledged survives `kill -9` |
//! | `tls` | everything over TLS, and certificates that change |
//! | `secrets` | nothing secret or said in what is printed, counted or, as to tokens, kept |
//! | `caller`, `app`, `keys` | the other sides: who calls, the assist app, who signs tokens |

mod app;
mod auth;
mod caller;
mod crash;
mod keys;
mod secrets;
mod socket;
mod text;
mod tls;

/// A machine that stands still for seconds, as shared ones do, must not be taken for a store, a caller or an app that is
/// away.
const PATIENT: [(&str, &str); 3] =
    [("EARPIECE_INIT_DEADLINE", "60s"), ("EARPIECE_STORE_DEADLINE", "10s"), ("EARPIECE_TEXT_BUDGET", "20s")];

/// That, and what a test wants otherwise.
fn patient<'a>(environment: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&PATIENT, environment].concat()
}
