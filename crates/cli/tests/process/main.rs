//! The real program as a process: killed, restarted, drained, misconfigured, listened to at trace, and each of its
//! commands beside a running server.
//!
//! These live with the program, because only its own package's tests are given its path. Everything that can be seen
//! without a process of its own is tested in `tests/e2e`.

mod assistance;
mod commands;
mod demo;
mod doors;
mod kill;
mod platform;
mod serve;

use std::io::Write as _;

use earpiece_core::contact::ContactKey;
use earpiece_core::secret::Secret;
use earpiece_core::telemetry;
use earpiece_simulator::{AssistApp, AssistSettings, Call, CallPlan, InitShape, Line, Params, Step, TokenPlace, place};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use self::serve::{PATIENCE, Serve, file, program};

pub(crate) const CONTACT: ContactKey = ContactKey { bus_no: 4711, contact_id: 42 };

/// A call that is over when the test says so, and not before.
pub(crate) const LONG_MS: u64 = 120_000;

pub(crate) fn data() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

pub(crate) fn speech(samples: usize) -> Vec<u8> {
    (0..samples).map(|index| (index.wrapping_mul(7919) / 11 % 251).to_le_bytes()[0]).collect()
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
    let log = serve.terminate().await;
    assert!(log.contains("stream opened"), "it was listened to:\n{log}");
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "closely:\n{log}");
    assert!(!log.contains("marker-"), "{}", log.lines().find(|line| line.contains("marker-")).unwrap_or_default());
}

#[test]
fn every_fault_of_the_configuration_is_told_at_once_with_exit_code_2() {
    let data = data();
    let output = program()
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
    let plan = CallPlan::new(serve.url(), CONTACT)
        .leg("MIX", speech(1_600))
        .reconnects_max(0)
        .step(Step::Speak { ms: LONG_MS });
    let (hang_up, is_over) = watch::channel(false);
    let call = tokio::spawn(Call::new(plan).stop_when(is_over).place());
    // An idle connection, which the drain must not wait for.
    let mut probe = std::net::TcpStream::connect(serve.address).expect("a connection");
    probe.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    serve.reaches(telemetry::STREAMS_LIVE, 1).await;
    let said = serve.terminate().await;
    assert!(said.contains("phase=\"done\""), "{said}");
    for phase in ["earpiece: draining: ", "earpiece: drained; "] {
        assert!(said.contains(phase), "a person sees each phase, whatever is logged: {said}");
    }
    hang_up.send_replace(true);
    let report = call.await.expect("no panic").expect("a call");
    assert_eq!(report.legs[0].sockets[0].close.as_ref().expect("closed by the server").code, 1012);
}
