//! The function behind suggestions.

use std::process::ExitCode;

use earpiece_functions::start;
use earpiece_functions::suggestions::Suggestions;

fn main() -> ExitCode {
    start::http("suggestions", Suggestions::open, async |handler, request| handler.answer(&request).await)
}
