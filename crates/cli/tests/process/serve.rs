//! `earpiece` as a process: started, asked, listened to, ended.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Nothing in these tests takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// How often something is looked at that cannot tell when it changes.
const PAUSE: Duration = Duration::from_millis(20);

/// The program, with nothing of this machine's settings.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_earpiece"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EARPIECE_")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    program().args(arguments).stdin(Stdio::null()).output().expect("the program runs")
}

/// Runs a command with `--json` that must succeed, and gives its document.
pub(crate) fn json(arguments: &[&str]) -> Value {
    let output = run(&[arguments, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{said}", output.status);
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

/// A running `earpiece serve`; killed when it is dropped.
pub(crate) struct Serve {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Reads all the while: a full pipe would stop the server.
    said: Option<JoinHandle<String>>,
}

impl Serve {
    pub(crate) fn start(data: &Path, listen: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = program();
        command.arg("serve").args(["--listen", listen]).arg("--data").arg(data).args(arguments);
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stderr = child.stderr.take().expect("piped");
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).expect("text");
            said
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let Some(Ok(address)) = line.trim().strip_prefix("listening on ").map(str::parse) else {
            let _ = child.kill();
            panic!("expected `listening on ADDR`, got {line:?}; it said:\n{}", said.join().expect("read"));
        };
        Self { child, address, said: Some(said) }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/audio", self.address)
    }

    /// One of its metrics, by its name with labels; zero while it is not there.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut peer = TcpStream::connect(self.address).expect("it listens");
        peer.write_all(b"GET /metrics HTTP/1.0\r\nhost: x\r\n\r\n").expect("a request");
        let mut answer = String::new();
        peer.read_to_string(&mut answer).expect("metrics");
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        answer.lines().find_map(value).unwrap_or(0)
    }

    /// Waits until a metric is at least so high.
    pub(crate) async fn reaches(&self, name: &str, at_least: u64) {
        let begun = Instant::now();
        while self.metric(name) < at_least {
            assert!(begun.elapsed() < PATIENCE, "{name} never reached {at_least}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(crate) fn kill_9(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("gone");
    }

    /// SIGTERM, and what it said until it was gone, which must be soon.
    pub(crate) async fn terminate(&mut self) -> String {
        let status = ended(&mut self.child).await;
        let said = self.said.take().expect("once").join().expect("read");
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// SIGTERM, and how the process ended, which must be soon.
pub(crate) async fn ended(child: &mut Child) -> ExitStatus {
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it never ended");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for a file that is written as a whole.
pub(crate) async fn file(path: &Path) -> Vec<u8> {
    let begun = Instant::now();
    loop {
        if let Ok(bytes) = std::fs::read(path) {
            return bytes;
        }
        assert!(begun.elapsed() < PATIENCE, "{} never came", path.display());
        tokio::time::sleep(PAUSE).await;
    }
}
