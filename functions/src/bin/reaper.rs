//! The function that runs every minute.

use std::process::ExitCode;

use earpiece_functions::reaper::{Reaper, on_schedule};
use earpiece_functions::start;

fn main() -> ExitCode {
    start::event("reaper", Reaper::open, on_schedule)
}
