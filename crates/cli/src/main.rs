//! `earpiece`: the demo, a local server, calls, load, and a look into the store.
//!
//! | module | holds |
//! | --- | --- |
//! | `args` | every command, flag and help text |
//! | `demo` | a whole call in one process, as a live timeline |
//! | `serve` | the shim on embedded state |
//! | `call` | one call to any endpoint that claims to speak the hook |
//! | `bench` | many streams in real time, and what they cost the server |
//! | `gateway` | the front of API Gateway's WebSocket APIs, before Lambda functions on this machine |
//! | `token` | secrets that people configure |
//! | `contacts` | what the store and the recordings know |
//! | `utterances` | dead letters of the text hook: what could not be delivered, and another try |
//! | `outbox` | dead letters of the way back: what could not be sent, and another try |
//! | `audit` | whether the record of an interaction is whole |
//! | `platform` | CXone's platform, for those without a tenant |
//! | `source` | where those look: a server's state, a folder, a table on AWS |
//! | `folder` | a data folder: one process works on it, others find that process |
//! | `clips`, `voice` | speech that comes with the program, and speech from files |
//! | `clock` | what time it is |
//! | `stage`, `paint`, `figure`, `meter` | what is shown, how it looks |
//! | `trouble` | what is said when something does not work, and the exit code |
//!
//! What does not live here: anything that a call needs when nobody watches.

mod args;
mod audit;
mod bench;
mod call;
mod clips;
mod clock;
mod contacts;
mod demo;
mod figure;
mod folder;
mod gateway;
mod meter;
mod outbox;
mod paint;
mod platform;
mod serve;
mod source;
mod stage;
mod token;
mod trouble;
mod utterances;
mod voice;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio::runtime::Runtime;

use crate::args::{Args, Command};
use crate::stage::Stage;
use crate::trouble::Trouble;

/// How long a write that hangs, or a task that nobody waits for, may keep the process from ending.
const END: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = Args::parse();
    let stage = Stage::open(args.json);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::failed(format!("no runtime could be started: {error}")))
        .and_then(|runtime| to_the_end(runtime, carry_out(args.command.unwrap_or_default(), &stage)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            stage.trouble(&trouble);
            trouble.exit_code()
        }
    }
}

/// Runs the work, and then does not wait for what it has left behind.
fn to_the_end<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(END);
    outcome
}

async fn carry_out(command: Command, stage: &Stage) -> Result<(), Trouble> {
    match command {
        Command::Demo(args) => demo::run(&args, stage).await,
        // Boxed: it holds every door, and the other commands need not make room for it.
        Command::Serve(args) => Box::pin(serve::run(&args, stage)).await,
        Command::Call(args) => call::run(&args, stage).await,
        Command::Gateway(args) => gateway::run(&args, stage).await,
        Command::Token(args) => token::run(&args, stage),
        Command::Bench(args) => bench::run(&args, stage).await,
        Command::Contacts(args) => contacts::run(&args, stage).await,
        Command::Utterances(args) => utterances::run(&args, stage).await,
        Command::Outbox(args) => outbox::run(&args, stage).await,
        Command::Audit(args) => audit::run(&args, stage).await,
        Command::Platform(args) => platform::run(&args, stage).await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_write_that_hangs_does_not_keep_the_process_from_ending() {
        let runtime = Runtime::new().expect("a runtime");
        let (release, hangs) = mpsc::channel::<()>();
        let began = Instant::now();
        to_the_end(runtime, async move {
            let (hanging, hung) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let _ = hanging.send(());
                // Bounded, so that a defect fails this test and does not hang it.
                let _ = hangs.recv_timeout(END * 20);
            });
            hung.await.expect("it hangs");
        });
        assert!(began.elapsed() < END * 10, "{:?}", began.elapsed());
        drop(release);
    }
}
