//! `bench`: what a load costs, and whether nothing of it is lost.
//!
//! | module | holds |
//! | --- | --- |
//! | `streams` | many live streams on one server |
//! | `assistance` | the way back to the agent: suggestions, insights, and a storm of 429s |
//! | `host`, `process`, `metrics` | what is known of the machine, of a process, and of a server |
//! | `table` | a measurement in Markdown |
//! | `temporary` | a folder for one measurement |

mod assistance;
mod host;
mod metrics;
mod process;
mod streams;
mod table;
mod temporary;

use crate::args::{Bench, BenchArgs};
use crate::stage::Stage;
use crate::trouble::Trouble;

/// Measures.
///
/// # Errors
///
/// When what is measured cannot be started, or something is lost.
pub(crate) async fn run(args: &BenchArgs, stage: &Stage) -> Result<(), Trouble> {
    let measuring = async {
        match &args.what {
            Bench::Streams(args) => Box::pin(streams::run(args, stage)).await,
            Bench::Assistance(args) => Box::pin(assistance::run(args, stage)).await,
        }
    };
    tokio::select! {
        measured = measuring => measured,
        // Dropping the measurement ends what it has started and takes its folder away.
        _ = tokio::signal::ctrl_c() => Err(Trouble::failed("interrupted")),
    }
}
