//! The function behind the reference endpoints and the documents.

use std::process::ExitCode;

use earpiece_functions::reference::Reference;
use earpiece_functions::start;

fn main() -> ExitCode {
    start::http("reference", Reference::open, async |handler, request| handler.answer(&request))
}
