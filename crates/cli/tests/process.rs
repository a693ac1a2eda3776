//! The real program as a process: killed, restarted, drained, misconfigured, and listened to at trace.
//!
//! These live with the program, because only its own package's tests are given its path. Everything that can be seen
//! without a process of its own is tested in `tests/e2e`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use earpiece_core::audio::wav;
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::ledger::{GapReason, Ledger};
use earpiece_core::secret::Secret;
use earpiece_simulator::{AssistApp, AssistSettings, CallPlan, InitShape, Line, Params, Step, TokenPlace, place};
use serde_json::json;
use tempfile::TempDir;

/// Nothing in these tests takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_mins(1);

const CONTACT: ContactKey = ContactKey { bus_no: 4711, contact_id: 42 };

/// A running `earpiece serve`; killed when it is dropped.
struct Serve {
    child: Child,
    address: SocketAddr,
}

impl Serve {
    fn start(data: &Path, listen: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_earpiece"));
        command.arg("serve").args(["--listen", listen]).arg("--data").arg(data).args(arguments);
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ").map(str::parse);
        let Some(Ok(address)) = address else {
            let mut said = String::new();
            let _ = child.kill();
            child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
            panic!("expected `listening on ADDR`, got {line:?}; it said:\n{said}");
        };
        Self { child, address }
    }

    fn url(&self) -> String {
        format!("ws://{}/audio", self.address)
    }

    fn kill_9(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("gone");
    }

    /// SIGTERM, and what it said until it was gone.
    fn terminate(&mut self) -> String {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill");
        assert!(killed.success());
        let mut said = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        let status = self.child.wait().expect("gone");
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

fn data() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn speech(samples: usize) -> Vec<u8> {
    (0..samples).map(|index| (index.wrapping_mul(7919) / 11 % 251).to_le_bytes()[0]).collect()
}

/// Waits for a file that is written as a whole.
async fn file(path: &Path) -> Vec<u8> {
    let begun = Instant::now();
    loop {
        if let Ok(bytes) = std::fs::read(path) {
            return bytes;
        }
        assert!(begun.elapsed() < PATIENCE, "{} never came", path.display());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ledger(data: &Path) -> Ledger {
    let json = file(&data.join(format!("contacts/{CONTACT}/ledger.json"))).await;
    serde_json::from_slice(&json).expect("a ledger")
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_the_contact_goes_on_as_the_next_generation_and_misses_at_most_one_segment() {
    const SEGMENT_SAMPLES: u64 = 8_000;
    let data = data();
    let arguments = ["--quiet-period", "2s"];
    let environment = [("EARPIECE_SEGMENT", "1s")];
    let mut serve = Serve::start(data.path(), "127.0.0.1:0", &arguments, &environment);
    let voice = speech(60_000);
    let plan = CallPlan::new(serve.url(), CONTACT)
        .both(voice.clone(), voice)
        .keep_audio()
        .reconnects_max(500)
        .step(Step::Speak { ms: 9_000 });
    let call = tokio::spawn(place(plan));
    tokio::time::sleep(Duration::from_millis(3_300)).await;
    serve.kill_9();
    let listen = serve.address.to_string();
    let again = Serve::start(data.path(), &listen, &arguments, &environment);
    let report = call.await.expect("no panic").expect("a call");
    let ledger = ledger(data.path()).await;
    drop(again);

    let recording = file(&data.path().join(format!("contacts/{CONTACT}/recording.wav"))).await;
    let wav = wav::parse(&recording).expect("a WAV file");
    for (channel, leg) in report.legs.iter().enumerate() {
        let perspective = ["TX", "RX"][channel];
        let streams: Vec<_> = ledger.streams.iter().filter(|facts| facts.perspective.label() == perspective).collect();
        assert_eq!(streams.iter().map(|facts| facts.generation).collect::<Vec<_>>(), [Some(1), Some(2)]);
        assert_eq!(streams[0].closed.expect("an end").reason, CloseReason::TaskLost);
        let [before, after] = leg.sent.as_slice() else { panic!("one outage: {:?}", leg.sent) };
        let missing = before.samples - streams[0].samples;
        // A frame or two may have been taken by the kernel for a process that was already dead.
        assert!(missing <= SEGMENT_SAMPLES + 1_600, "{perspective} misses {missing} samples");
        assert_eq!(streams[1].samples, after.samples, "the new generation lost nothing");
        let gap = ledger.gaps.iter().find(|gap| gap.perspective.label() == perspective).expect("a gap");
        assert_eq!(gap.reason, GapReason::TaskLost);
        assert_eq!((gap.position, gap.next_generation), (streams[0].samples, Some(2)));
        assert!(gap.samples >= missing, "what is missing lies in the gap");
        let unwritten = ledger.unwritten.iter().find(|lost| lost.perspective.label() == perspective);
        assert_eq!(unwritten.expect("named").position, streams[0].samples);
        assert_eq!(unwritten.expect("named").samples_max, gap.samples.min(SEGMENT_SAMPLES));

        let recorded: Vec<u8> = wav.data.iter().skip(channel).step_by(2).copied().collect();
        let sent = leg.audio_sent.as_deref().expect("kept");
        let kept = usize::try_from(streams[0].samples).expect("fits");
        assert_eq!(recorded[..kept], sent[..kept], "what was written before the kill is in its place");
        let resumed = usize::try_from(gap.position + gap.samples).expect("fits");
        let tail = &sent[usize::try_from(before.samples).expect("fits")..];
        assert_eq!(&recorded[resumed..resumed + tail.len()], tail, "and what was said after it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_secret_or_said_is_in_a_log_even_at_trace() {
    let data = data();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let say = json!({"type": "transcript", "text": "marker-transcript"});
    let script = vec![Line { perspective: earpiece_core::protocol::Perspective::Tx, at_sample: 800, say }];
    let app = AssistApp::start(listener, AssistSettings { script, ..AssistSettings::default() }).expect("an app");
    let assist_url = format!("{}?token=marker-assist-query", app.url());
    let mut serve = Serve::start(
        data.path(),
        "127.0.0.1:0",
        &["--audio-token", "marker-token", "--assist-url", &assist_url, "--quiet-period", "1s"],
        &[("EARPIECE_LOG", "trace"), ("EARPIECE_ASSIST_AUTHORIZATION", "Bearer marker-assist-header")],
    );
    let knock = |token: &str, at, params: &str| {
        let init = InitShape { app_params: Params::Plain(params.into()), ..InitShape::default() };
        CallPlan::new(serve.url(), CONTACT)
            .leg("TX", speech(1_600))
            .token(Secret::new(token), at)
            .init(init)
            .reconnects_max(0)
            .connect_timeout(PATIENCE)
            .step(Step::Speak { ms: 800 })
    };
    for at in [TokenPlace::Init, TokenPlace::Header, TokenPlace::Query] {
        place(knock("marker-token", at, "marker-params")).await.expect("a call");
        assert!(place(knock("marker-wrong-token", at, "marker-params")).await.is_err());
    }
    let mut broken = knock("marker-token", TokenPlace::Init, "marker-params");
    broken.init.raw = Some(r#"{"executionInfo":"marker-broken"#.into());
    assert!(place(broken).await.is_err());
    let events = file(&data.path().join(format!("contacts/{CONTACT}/events.jsonl"))).await;
    assert!(String::from_utf8_lossy(&events).contains("marker-transcript"), "what the app said is kept with the call");
    let log = serve.terminate();
    assert!(
        log.contains("stream opened") && log.contains("TRACE") || log.contains("DEBUG"),
        "it was listened to:\n{log}"
    );
    assert!(!log.contains("marker-"), "{}", log.lines().find(|line| line.contains("marker-")).unwrap_or_default());
}

#[test]
fn every_fault_of_the_configuration_is_told_at_once_with_exit_code_2() {
    let data = data();
    let output = Command::new(env!("CARGO_BIN_EXE_earpiece"))
        .args(["serve", "--listen", "127.0.0.1:0", "--quiet-period", "soon", "--data"])
        .arg(data.path())
        .env("EARPIECE_RING", "a lot")
        .env("EARPIECE_ASSIST_URL", "http://marker-secret")
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for name in ["EARPIECE_QUIET_PERIOD", "EARPIECE_RING", "EARPIECE_ASSIST_URL"] {
        assert!(said.contains(name), "{name} in:\n{said}");
    }
    assert!(!said.contains("marker-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_sends_live_calls_elsewhere_and_ends_well() {
    let data = data();
    let mut serve = Serve::start(data.path(), "127.0.0.1:0", &[], &[]);
    let plan =
        CallPlan::new(serve.url(), CONTACT).leg("MIX", speech(1_600)).reconnects_max(0).step(Step::Speak { ms: 3_000 });
    let call = tokio::spawn(place(plan));
    let mut probe = std::net::TcpStream::connect(serve.address).expect("a connection");
    probe.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    tokio::time::sleep(Duration::from_millis(700)).await;
    let log = tokio::task::spawn_blocking(move || serve.terminate()).await.expect("no panic");
    assert!(log.contains("phase=\"done\""), "{log}");
    let report = call.await.expect("no panic").expect("a call");
    assert_eq!(report.legs[0].sockets[0].close.as_ref().expect("closed by the server").code, 1012);
}
