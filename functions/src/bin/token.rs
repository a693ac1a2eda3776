//! The function behind the token endpoint and our public keys.

use std::process::ExitCode;

use earpiece_functions::start;
use earpiece_functions::token::TokenServer;

fn main() -> ExitCode {
    start::http("token", TokenServer::open, async |handler, request| handler.answer(&request).await)
}
