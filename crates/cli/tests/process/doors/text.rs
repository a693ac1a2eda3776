//! The text hook: what got a 200 reaches the assist app, and once.

use std::time::Instant;

use earpiece_core::contact::ContactKey;
use earpiece_functions::text_hook::BODY_BYTES_MAX;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::app::{App, Away};
use super::caller::{Caller, HOOK, utterance};
use super::{PATIENT, patient};
use crate::serve::{PATIENCE, Serve};
use crate::{CONTACT, data};

/// Copies of one utterance that come at once.
const COPIES: usize = 50;

/// What is not taken at once is left to the sweep: the sooner, the sooner these tests are over.
const BUDGET: (&str, &str) = ("EARPIECE_TEXT_BUDGET", "50ms");

fn outcome(word: &str) -> String {
    format!("earpiece_utterances_total{{outcome=\"{word}\"}}")
}

/// An utterance that gets a 200: its name.
async fn accepted(serve: &Serve, words: &str) -> String {
    let (status, answer) = Caller::of(serve.address).post(HOOK, None, &utterance(CONTACT, words)).await;
    assert_eq!((status, &answer["status"]), (200, &json!("accepted")), "{answer}");
    answer["requestId"].as_str().expect("a name").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_copies_over_fifty_connections_the_app_gets_one() {
    let (data, app) = (data(), App::start());
    let serve = Serve::start(data.path(), "127.0.0.1:0", &["--assist-text-url", &app.url], &PATIENT);
    let mut copies = JoinSet::new();
    for _ in 0..COPIES {
        // A client of its own: a connection of its own.
        let caller = Caller::of(serve.address);
        copies.spawn(async move { caller.post(HOOK, None, &utterance(CONTACT, "Where is my parcel?")).await });
    }
    let answers = copies.join_all().await;
    let names: Vec<&Value> = answers.iter().map(|(_, answer)| &answer["requestId"]).collect();
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert!(names.iter().all(|name| *name == names[0]), "all of them get the one name: {names:?}");
    let are_accepted = answers.iter().filter(|(_, answer)| answer["status"] == "accepted").count();
    assert_eq!(are_accepted, 1, "{answers:?}");
    // The one delivery was over before its own answer.
    let taken = app.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(
        (taken[0].idempotency_key(), &taken[0].json()["text"]),
        (names[0].as_str().expect("a name"), &json!("Where is my parcel?"))
    );
    let counted = ["accepted", "duplicate", "delivered", "undelivered"].map(|word| serve.metric(&outcome(word)));
    assert_eq!(counted, [1, COPIES as u64 - 1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_absent_app_did_not_get_is_delivered_once_it_is_back_even_if_the_server_was_killed() {
    tokio::join!(delivered_when_the_app_is_back(), delivered_after_kill_9());
}

async fn delivered_when_the_app_is_back() {
    let (data, away) = (data(), Away::reserve());
    let serve = Serve::start(data.path(), "127.0.0.1:0", &["--assist-text-url", &away.url()], &patient(&[BUDGET]));
    let name = accepted(&serve, "Is anybody there?").await;
    assert_eq!(serve.metric(&outcome("undelivered")), 1);
    let app = away.listen();
    let taken = app.until(1).await;
    assert_eq!((taken[0].idempotency_key(), &taken[0].json()["text"]), (name.as_str(), &json!("Is anybody there?")));
    serve.reaches(&outcome("delivered"), 1).await;
    let (status, again) = Caller::of(serve.address).post(HOOK, None, &utterance(CONTACT, "Is anybody there?")).await;
    assert_eq!((status, &again["status"], &again["requestId"]), (200, &json!("duplicate"), &json!(name)));
    assert_eq!(app.taken().len(), 1);
}

async fn delivered_after_kill_9() {
    let (data, app) = (data(), App::start());
    let arguments = ["--assist-text-url", app.url.as_str()];
    let mut serve = Serve::start(data.path(), "127.0.0.1:0", &arguments, &patient(&[BUDGET]));
    app.hangs();
    let name = accepted(&serve, "Will this survive?").await;
    serve.kill_9();
    let before = app.taken().len();
    app.answers(200, json!({}));
    let serve = Serve::start(data.path(), "127.0.0.1:0", &arguments, &patient(&[BUDGET]));
    let taken = app.until(before + 1).await;
    let last = &taken[before];
    assert_eq!((last.idempotency_key(), &last.json()["text"]), (name.as_str(), &json!("Will this survive?")));
    assert!(last.json()["attempt"].as_u64().is_some_and(|attempt| attempt > 1), "the app can tell: {}", last.json());
    serve.reaches(&outcome("delivered"), 1).await;
    assert_eq!(app.taken().len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said_with_its_status_and_its_field() {
    const TOKEN: &str = "the-right-token";
    let (data, app) = (data(), App::start());
    let arguments = ["--assist-text-url", app.url.as_str(), "--audio-token", TOKEN];
    let serve = Serve::start(data.path(), "127.0.0.1:0", &arguments, &PATIENT);
    let caller = Caller::of(serve.address);
    let changed = |name: &str, value: Value| {
        let mut body = utterance(CONTACT, "marker-words");
        body[name] = value;
        body
    };
    for (body, field) in [
        (changed("participantId", json!("marker-participant")), "participantId"),
        (changed("contactId", json!("marker-contact")), "contactId"),
        (changed("busNo", Value::Null), "busNo"),
        (changed("messageBody", json!({"a": 1})), "messageBody"),
    ] {
        let (status, answer) = caller.post(HOOK, Some(TOKEN), &body).await;
        assert_eq!((status, &answer["error"]["field"]), (400, &json!(field)), "{answer}");
        assert!(!answer.to_string().contains("marker-"), "{answer}");
    }
    let good = utterance(CONTACT, "hello").to_string();
    let authorization = format!("Bearer {TOKEN}");
    let large = format!("{{\"messageBody\":\"{}\"}}", "x".repeat(BODY_BYTES_MAX));
    for (token, content_type, body, expected) in [
        (None, "application/json", &good, 401),
        (Some("Bearer wrong"), "application/json", &good, 401),
        (Some(authorization.as_str()), "application/json", &large, 413),
        (Some(&authorization), "text/plain", &good, 415),
        (Some(&authorization), "application/json", &good, 200),
    ] {
        let mut headers = vec![("content-type", content_type)];
        headers.extend(token.map(|token| ("authorization", token)));
        let answer = caller.send(Method::POST, HOOK, &headers, body.clone()).await;
        assert_eq!(answer.status(), expected, "{content_type} {}", body.len());
    }
    assert_eq!(caller.send(Method::GET, HOOK, &[], "").await.status(), 405);
    assert_eq!(app.taken().len(), 1, "only what is right is relayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_business_unit_that_talks_too_fast_is_told_when_to_come_again_and_others_are_heard() {
    /// Ten in a window of ten seconds.
    const PER_SECOND_MAX: (&str, &str) = ("EARPIECE_UTTERANCES_PER_SECOND_MAX", "1");
    let (data, app) = (data(), App::start());
    let serve = Serve::start(data.path(), "127.0.0.1:0", &["--assist-text-url", &app.url], &patient(&[PER_SECOND_MAX]));
    let caller = Caller::of(serve.address);
    let begun = Instant::now();
    let headers = [("content-type", "application/json")];
    // However slow the machine is, eleven of them fall into one window at some time.
    let refused = loop {
        let body = utterance(CONTACT, &format!("{:?}", begun.elapsed())).to_string();
        let answer = caller.send(Method::POST, HOOK, &headers, body).await;
        if answer.status() != 200 {
            break answer;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody is ever refused");
    };
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().expect("a value")));
    let error: Value = serde_json::from_slice(refused.body()).expect("JSON");
    assert_eq!(error["error"]["kind"], "rate_limited");
    let other = ContactKey { bus_no: CONTACT.bus_no + 1, ..CONTACT };
    assert_eq!(caller.post(HOOK, None, &utterance(other, "hello")).await.0, 200);
}
