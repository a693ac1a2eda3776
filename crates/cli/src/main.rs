//! `earpiece`: the demo, a local server, calls, load, and a look into the store.
//!
//! | module | holds |
//! | --- | --- |
//! | `args` | every command, flag and help text |
//! | `demo` | a whole call in one process, as a live timeline |
//! | `serve` | the shim on embedded state |
//! | `call` | one call to any endpoint that claims to speak the hook |
//! | `bench` | many streams in real time, and what they cost the server |
//! | `contacts` | what the store and the recordings know |
//! | `folder` | a data folder: one process works on it, others find that process |
//! | `clips`, `voice` | speech that comes with the program, and speech from files |
//! | `stage`, `paint`, `figure`, `meter` | what is shown, how it looks |
//! | `trouble` | what is said when something does not work, and the exit code |
//!
//! What does not live here: anything that a call needs when nobody watches.

mod args;
mod bench;
mod call;
mod clips;
mod contacts;
mod demo;
mod figure;
mod folder;
mod meter;
mod paint;
mod serve;
mod stage;
mod trouble;
mod voice;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};
use crate::stage::Stage;
use crate::trouble::Trouble;

fn main() -> ExitCode {
    let args = Args::parse();
    let stage = Stage::open(args.json);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::failed(format!("no runtime could be started: {error}")))
        .and_then(|runtime| runtime.block_on(carry_out(args.command.unwrap_or_default(), &stage)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            stage.trouble(&trouble);
            trouble.exit_code()
        }
    }
}

async fn carry_out(command: Command, stage: &Stage) -> Result<(), Trouble> {
    match command {
        Command::Demo(args) => demo::run(&args, stage).await,
        Command::Serve(args) => serve::run(&args, stage).await,
        Command::Call(args) => call::run(&args, stage).await,
        Command::Bench(args) => bench::run(&args, stage).await,
        Command::Contacts(args) => contacts::run(&args, stage).await,
    }
}
