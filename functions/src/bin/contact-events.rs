//! The function behind contact events.

use std::process::ExitCode;

use earpiece_functions::contact_events::ContactEvents;
use earpiece_functions::start;

fn main() -> ExitCode {
    start::http("contact-events", ContactEvents::open, async |handler, request| handler.answer(&request).await)
}
