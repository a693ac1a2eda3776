//! The server that is measured: `earpiece serve` as a process of its own, on a temporary folder.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use earpiece_core::secret::Secret;
use earpiece_shim::settings;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::args::StreamsArgs;
use crate::bench::temporary::{TemporaryFolder, nanoseconds};
use crate::trouble::Trouble;

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(20);

/// Streams beyond those of the load for which there is room.
const SPARE_STREAMS: u32 = 100;

/// A running server. Dropping it kills it and takes its folder away.
pub(crate) struct Server {
    child: Child,
    pid: u32,
    address: SocketAddr,
    token: String,
    // Behind the child, so that nobody writes into it any more when it goes.
    _folder: TemporaryFolder,
}

impl Server {
    /// Starts one whose limits have room for the load.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or is not ready in time.
    pub(crate) async fn start(args: &StreamsArgs) -> Result<Self, Trouble> {
        let folder = TemporaryFolder::make()?;
        let program = std::env::current_exe()
            .map_err(|error| Trouble::failed(format!("this program does not know where it is: {error}")))?;
        let streams_max = (args.streams + SPARE_STREAMS).to_string();
        let opens_max = args.opens_per_second.saturating_mul(2).max(500).to_string();
        let token = format!("{:016x}", nanoseconds());
        let log = std::env::var(settings::LOG.name).unwrap_or_else(|_| "error".into());
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path())
            .env(settings::STREAMS_MAX.name, &streams_max)
            .env(settings::STREAMS_PER_BUSINESS_UNIT_MAX.name, &streams_max)
            .env(settings::OPENS_PER_SECOND_MAX.name, opens_max)
            // Finishing contacts is another load than streaming.
            .env(settings::QUIET_PERIOD.name, "1h")
            .env(settings::AUDIO_TOKENS.name, &token)
            .env(settings::LOG.name, log)
            .env_remove(settings::ASSIST_URL.name)
            .env_remove(settings::RECORDINGS.name)
            .env_remove(settings::TOKEN_SOURCES.name)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Trouble::failed(format!("the server cannot be started: {error}")))?;
        let address = timeout(START, ready(&mut child))
            .await
            .map_err(|_| Trouble::failed(format!("the server was not ready after {} s", START.as_secs())))?
            .ok_or_else(|| {
                Trouble::failed("the server has ended before it was ready; what it said is above")
                    .next("earpiece serve --listen 127.0.0.1:0 --data /tmp/some-folder")
            })?;
        let pid = child.id().ok_or_else(|| Trouble::failed("the server has ended at once"))?;
        Ok(Self { child, pid, address, token, _folder: folder })
    }

    /// Its audio socket.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/audio", self.address)
    }

    /// The token that it accepts.
    pub(crate) fn token(&self) -> Secret {
        Secret::new(self.token.clone())
    }

    /// Its process.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it. There is nothing in it that anybody wants to keep, so there is no drain.
    pub(crate) async fn stop(mut self) {
        // It has ended by itself already if this fails.
        let _ = self.child.kill().await;
    }
}

/// The address in the one line that it prints when it is ready.
async fn ready(child: &mut Child) -> Option<SocketAddr> {
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    let line = lines.next_line().await.ok().flatten()?;
    line.strip_prefix("listening on ")?.parse().ok()
}
