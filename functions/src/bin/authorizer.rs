//! The function that judges tokens for API Gateway.

use std::process::ExitCode;

use earpiece_functions::authorizer::Authorizer;
use earpiece_functions::start;
use serde_json::Value;

fn main() -> ExitCode {
    start::event("authorizer", Authorizer::open, async |authorizer, event: Value| authorizer.judge(&event).await)
}
