//! The function behind the text hook.

use std::process::ExitCode;

use earpiece_functions::start;
use earpiece_functions::text_hook::TextHook;

fn main() -> ExitCode {
    start::http("text-hook", TextHook::open, async |handler, request| handler.answer(&request).await)
}
