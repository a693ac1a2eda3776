//! The shim for Fargate: reads its configuration, wires its parts, serves, drains on SIGTERM.

use std::process::ExitCode;

use earpiece_core::config::ProcessEnv;
use earpiece_shim::{Settings, service};
use tracing::{error, info};

/// The exit code for a configuration that cannot be used.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    service::log_to_stderr(&ProcessEnv);
    info!(version = env!("CARGO_PKG_VERSION"), "earpiece-shim");
    let settings = match Settings::read(&ProcessEnv) {
        Ok(settings) => settings,
        Err(faults) => {
            for fault in faults.lines() {
                error!("{fault}");
            }
            return ExitCode::from(MISCONFIGURED);
        }
    };
    match service::block_on(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "the shim cannot be served");
            ExitCode::FAILURE
        }
    }
}
