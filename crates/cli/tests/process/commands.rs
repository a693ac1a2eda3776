//! Each command as a process, beside a running server and without one.

use earpiece_core::contact::ledger::Ledger;
use earpiece_core::protocol::message::CONNECTED;
use earpiece_simulator::Misbehaviour;
use serde_json::{Value, json as value};

use crate::serve::{Serve, file, json, run};
use crate::{CONTACT, data};

const TOKEN: &str = "the-right-token";

/// Runs a command whose output is not a terminal's, and gives its exit code.
fn plain(arguments: &[&str]) -> Option<i32> {
    let output = run(arguments);
    for stream in [&output.stdout, &output.stderr] {
        assert!(!stream.contains(&0x1b), "{arguments:?}: {}", String::from_utf8_lossy(stream));
    }
    assert!(!output.stdout.is_empty() || !output.status.success(), "{arguments:?} says nothing");
    output.status.code()
}

/// Samples by the word of the perspective.
fn samples(of: &Value, legs: &str) -> Vec<(String, u64)> {
    let legs = of[legs].as_array().expect("a list");
    let one = |leg: &Value| {
        let perspective = leg["perspective"].as_str().expect("a word").to_owned();
        (perspective, leg["samples"].as_u64().expect("a count"))
    };
    let mut samples: Vec<_> = legs.iter().map(one).collect();
    samples.sort();
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_listed_shown_and_accounted_for_to_the_sample() {
    let data = data();
    let folder = data.path().to_str().expect("a Unicode path");
    let mut serve = Serve::start(data.path(), "127.0.0.1:0", &["--audio-token", TOKEN, "--quiet-period", "1s"], &[]);
    let (url, bus_no, contact_id) = (serve.url(), CONTACT.bus_no.to_string(), CONTACT.contact_id.to_string());
    let call = json(&[
        "call",
        "--url",
        &url,
        "--token",
        TOKEN,
        "--bus-no",
        &bus_no,
        "--contact-id",
        &contact_id,
        "--seconds",
        "2",
        "--frame-samples",
        "80-400",
        "--jitter-ms",
        "10",
        "--params-as",
        "json-in-json",
    ]);
    assert_eq!((&call["ok"], &call["faults"]), (&value!(true), &value!([])));
    for leg in call["call"]["legs"].as_array().expect("legs") {
        assert_eq!(leg["gaveUp"], false);
        for socket in leg["sockets"].as_array().expect("sockets") {
            assert_eq!((&socket["answer"], &socket["answerIsExact"]), (&value!(CONNECTED), &value!(true)));
        }
    }
    file(&data.path().join(format!("contacts/{CONTACT}/ledger.json"))).await;

    let check = || {
        let listed = json(&["contacts", "--data", folder]);
        let entry = &listed.as_array().expect("a list")[0];
        assert_eq!((&entry["contact"], &entry["recorded"]), (&value!(CONTACT), &value!(true)));
        let shown = json(&["contacts", "show", &bus_no, &contact_id, "--data", folder]);
        assert_eq!(samples(&shown["ledger"], "streams"), samples(&call["call"], "legs"));
        let ledger: Ledger = serde_json::from_value(shown["ledger"].clone()).expect("a ledger");
        assert!(ledger.gaps.is_empty() && ledger.lost.is_empty(), "{:?} {:?}", ledger.gaps, ledger.lost);
        assert!(shown["recording"].as_str().is_some_and(|recording| recording.ends_with("recording.wav")));
    };
    check();
    serve.terminate().await;
    // The folder alone says the same.
    check();
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_accounts_for_every_byte_of_a_server_that_runs_already() {
    let data = data();
    let serve = Serve::start(data.path(), "127.0.0.1:0", &[], &[]);
    let measured = json(&["bench", "streams", "--streams", "20", "--seconds", "2", "--url", &serve.url()]);
    assert_eq!((&measured["ok"], &measured["measured"]["faults"]), (&value!(true), &value!([])));
    let (load, server) = (&measured["measured"]["load"], &measured["measured"]["server"]);
    assert!(load["bytesSent"].as_u64().is_some_and(|bytes| bytes >= 20 * 2 * 8_000), "{load}");
    assert_eq!(load["bytesSent"], server["bytes"]);
}

#[test]
fn bench_assistance_loses_nothing_in_a_storm_and_measures_each_part() {
    let document = json(&[
        "bench",
        "assistance",
        "--rate",
        "5",
        "--seconds",
        "1",
        "--storm-seconds",
        "1",
        "--questions-per-second",
        "2",
        "--at-once",
        "2",
        "--tracked",
        "200",
    ]);
    let measured = &document["measured"];
    assert_eq!((&document["ok"], &measured["faults"]), (&value!(true), &value!([])));
    let count = |place: &str| measured.pointer(place).and_then(Value::as_u64).unwrap_or_default();
    for flow in ["/calm/suggestions", "/storm/suggestions", "/elsewhere"] {
        let (begun, arrived) = (count(&format!("{flow}/begun")), count(&format!("{flow}/arrived")));
        assert_eq!((begun, arrived), (5, 5), "{flow}");
        assert!(count(&format!("{flow}/latency/p99Us")) > 0, "{flow}");
    }
    assert!(count("/saturated/arrived") >= 2 && count("/insights/arrived") >= 2, "{measured}");
    let storm = ["/storm/searchesRefused", "/storm/deliveredMeanwhile", "/storm/deliveredAfterwards"].map(count);
    assert!(storm[0] >= 1, "the storm was felt: {measured}");
    assert_eq!(storm[1] + storm[2], 2, "every question is answered in the end: {measured}");
    assert!(storm[2] >= 1, "the one that was refused is answered afterwards: {measured}");
    assert_eq!((count("/memory/tracked"), count("/memory/trackedInTheEnd")), (200, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_writes_escape_codes_where_there_is_no_terminal() {
    let data = data();
    let folder = data.path().to_str().expect("a Unicode path");
    let mut serve = Serve::start(data.path(), "127.0.0.1:0", &["--quiet-period", "1s"], &[]);
    let url = serve.url();
    let id = CONTACT.contact_id.to_string();
    assert_eq!(plain(&["call", "--url", &url, "--bus-no", "7", "--contact-id", &id, "--seconds", "1"]), Some(0));
    assert_eq!(plain(&["call", "--url", &url, "--misbehave", "bad-json"]), Some(0));
    assert_eq!(plain(&["call", "--url", "ws://127.0.0.1:1/audio", "--seconds", "1"]), Some(1));
    assert_eq!(plain(&["contacts", "--data", folder]), Some(0));
    assert_eq!(plain(&["contacts", "show", "7", &id, "--data", folder]), Some(0));
    assert_eq!(plain(&["contacts", "show", "7", "999", "--data", folder]), Some(1));
    assert_eq!(plain(&["bench", "streams", "--streams", "2", "--seconds", "1", "--url", &url]), Some(0));
    assert!(!serve.terminate().await.contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_misbehaviour_is_taken_as_the_contract_wants() {
    let data = data();
    let environment = [("EARPIECE_INIT_DEADLINE", "1s"), ("EARPIECE_PING", "1s"), ("EARPIECE_DEAD", "2s")];
    let serve = Serve::start(data.path(), "127.0.0.1:0", &["--audio-token", TOKEN], &environment);
    let url = serve.url();
    let misbehaving = Misbehaviour::ALL.map(|kind| {
        let name = value!(kind).as_str().expect("a word").replace('_', "-");
        let url = url.clone();
        tokio::task::spawn_blocking(move || {
            let flags = ["call", "--url", &url, "--token", TOKEN, "--misbehave", &name, "--within-seconds", "6"];
            (json(&flags), kind)
        })
    });
    for peer in misbehaving {
        let (judged, kind) = peer.await.expect("exit code 0");
        assert_eq!((&judged["ok"], &judged["misbehaviour"]), (&value!(true), &value!(kind)));
        assert_eq!(judged["wanted"].as_str().is_some_and(|wanted| wanted.contains("legal")), kind.is_legal());
    }
}

#[test]
fn an_endpoint_that_takes_a_misbehaviour_otherwise_is_a_failure() {
    let data = data();
    // It asks for no token: a wrong one is as good as any.
    let serve = Serve::start(data.path(), "127.0.0.1:0", &[], &[]);
    let flags = ["call", "--url", &serve.url(), "--misbehave", "wrong-token", "--within-seconds", "3", "--json"];
    let output = run(&flags);
    assert_eq!(output.status.code(), Some(1));
    let judged: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(judged["ok"], false);
    assert_eq!(judged["faults"][0], "it answered CONNECTED where ERROR belongs");
}
