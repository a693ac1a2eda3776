//! The text hook through the doors, on the embedded store and a real HTTP assist app.

mod tokens;

use std::time::Duration;

use earpiece_core::telemetry::UTTERANCES;
use lambda_http::Body;
use lambda_http::http::{Method, Request as HttpRequest};
use serde_json::{Value, json};

use super::*;
use crate::delivery::PAUSE_MAX;
use crate::settings::{self, Settings};
use crate::testing::{CONTACT, HOOK, House, env, post, utterance, with_header};

const HOUR_MS: i64 = 3_600_000;

fn outcome(house: &House, outcome: &str) -> bool {
    house.doors.metrics().contains(&format!("{UTTERANCES}{{outcome=\"{outcome}\"}}"))
}

#[tokio::test]
async fn an_utterance_reaches_the_app_under_the_name_that_cxone_gets() {
    let house = House::open().await;
    let mut body = utterance("Where is my parcel?");
    body["authorizationHeader"] = json!("token-of-cxone");
    body["agentAssistAppConfig"] = json!({"id": 7});
    let (status, answer) = house.ask(post(HOOK, &body)).await;
    assert_eq!((status, &answer["status"]), (200, &json!("accepted")));
    assert_eq!((&answer["busNo"], &answer["contactId"]), (&json!(CONTACT.bus_no), &json!(CONTACT.contact_id)));

    let taken = house.app.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].headers["idempotency-key"], answer["requestId"].as_str().unwrap());
    assert_eq!(taken[0].headers["authorization"], "Bearer secret-of-the-app");
    let sent: Value = serde_json::from_slice(&taken[0].body).unwrap();
    assert_eq!(sent["text"], "Where is my parcel?");
    assert!(!sent.to_string().contains("token-of-cxone"));
    assert!(outcome(&house, "delivered"));
    assert_eq!(house.store.due_utterances(wall_ms() + HOUR_MS, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_copies_at_once_one_is_relayed_and_all_get_its_name() {
    let house = Arc::new(House::open().await);
    let mut copies = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let house = Arc::clone(&house);
        copies.spawn(async move { house.ask(post(HOOK, &utterance("yes"))).await });
    }
    let answers = copies.join_all().await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let accepted: Vec<&Value> =
        answers.iter().map(|(_, body)| body).filter(|body| body["status"] == "accepted").collect();
    assert_eq!(accepted.len(), 1);
    assert!(answers.iter().all(|(_, body)| body["requestId"] == accepted[0]["requestId"]));
    assert_eq!(house.app.taken().len(), 1);
}

#[tokio::test]
async fn an_idempotency_key_makes_other_words_the_same_utterance() {
    let house = House::open().await;
    for (words, key, expected) in [("a", "k1", "accepted"), ("b", "k1", "duplicate"), ("a", "k2", "accepted")] {
        let (_, answer) = house.ask(with_header(post(HOOK, &utterance(words)), "idempotency-key", key)).await;
        assert_eq!(answer["status"], expected, "{words} {key}");
    }
    let long = "k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1);
    let (status, answer) = house.ask(with_header(post(HOOK, &utterance("a")), "idempotency-key", &long)).await;
    assert_eq!((status, &answer["error"]["field"]), (400, &json!("Idempotency-Key")));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named_and_nothing_of_it_is_relayed() {
    let house = House::open().await;
    let raw = |content_type: &str, body: &[u8]| {
        HttpRequest::post(HOOK).header("content-type", content_type).body(Body::Binary(body.to_vec())).unwrap()
    };
    let large = format!("{{\"messageBody\":\"{}\"}}", "x".repeat(BODY_BYTES_MAX));
    let mut nobody = utterance("hunter2");
    nobody["participantId"] = json!("hunter2");
    let mut got = post(HOOK, &utterance("hunter2"));
    *got.method_mut() = Method::GET;
    for (request, status, kind, field) in [
        (post(HOOK, &nobody), 400, "bad_input", json!("participantId")),
        (post(HOOK, &json!({"busNo": 1})), 400, "bad_input", json!("contactId")),
        (raw("application/json", b"hunter2"), 400, "bad_input", Value::Null),
        (raw("application/json", b""), 400, "bad_input", Value::Null),
        (raw("text/plain", b"{}"), 415, "unsupported", Value::Null),
        (raw("application/json", large.as_bytes()), 413, "too_large", Value::Null),
        (got, 405, "unsupported", Value::Null),
        (post("/agent_assist_text_webhooks", &utterance("hunter2")), 404, "not_found", Value::Null),
    ] {
        let (got, answer) = house.ask(request).await;
        assert_eq!(
            (got, &answer["error"]["kind"], &answer["error"]["field"]),
            (status, &json!(kind), &field),
            "{answer}"
        );
        assert!(!answer.to_string().contains("hunter2"));
    }
    assert!(house.app.taken().is_empty());
}

/// `1e9` takes four bytes with its comma, and thirteen when it is written out.
#[tokio::test]
async fn what_grows_beyond_what_is_kept_when_it_is_written_out_is_the_senders_fault() {
    let house = House::open().await;
    let numbers = |count: usize| {
        let numbers = vec!["1e9"; count].join(",");
        let said = utterance("numbers").to_string();
        let body = format!(r#"{},"messageData":[{numbers}]}}"#, said.strip_suffix('}').unwrap());
        assert!(body.len() <= BODY_BYTES_MAX);
        HttpRequest::post(HOOK).header("content-type", "application/json").body(Body::Text(body)).unwrap()
    };
    let (status, answer) = house.ask(numbers(60_000)).await;
    assert_eq!((status, &answer["error"]["kind"]), (413, &json!("too_large")), "{answer}");
    assert!(!answer.to_string().contains("operator"), "{answer}");
    assert_eq!(house.ask(numbers(20_000)).await.0, 200);
    assert_eq!(house.app.taken().len(), 1);
}

#[tokio::test]
async fn where_nobody_takes_utterances_they_are_accepted_and_none_is_counted_as_delivered() {
    let house = House::open().await;
    for nobody in [Some("none"), None] {
        let env = env().with(&settings::TEXT_TOKENS, "none");
        let env = nobody.into_iter().fold(env, |env, word| env.with(&settings::ASSIST_TEXT_URL, word));
        let doors = crate::routes::Doors::new(crate::routes::Parts {
            settings: &Settings::read(&env).unwrap(),
            store: house.store.clone(),
            guard: earpiece_access::Guard::open(),
            client: earpiece_https::client::Client::new(&earpiece_https::Trust::public()).unwrap(),
            push: None,
            recorder: None,
            task: "test".into(),
        })
        .unwrap();
        let words = format!("{nobody:?}");
        assert_eq!(doors.answer(post(HOOK, &utterance(&words)), None).await.status(), 200);
        let metrics = doors.metrics();
        assert!(metrics.contains(&format!("{UTTERANCES}{{outcome=\"accepted\"}} 1")), "{metrics}");
        assert!(!metrics.contains("delivered"), "{metrics}");
    }
    assert_eq!(house.store.due_utterances(wall_ms() + HOUR_MS, 10).await.unwrap(), [], "nothing waits");
}

#[tokio::test]
async fn an_app_that_knows_no_route_or_no_credential_of_ours_gets_everything_once_that_is_corrected() {
    let house = House::open().await;
    for status in [401, 403, 404, 302] {
        house.app.set_status(status);
        assert_eq!(house.ask(post(HOOK, &utterance(&status.to_string()))).await.0, 200);
    }
    assert_eq!(house.store.dead_utterances(wall_ms(), 10).await.unwrap(), []);
    house.app.set_status(200);
    assert_eq!(house.doors.reaper().sweep_once(wall_ms() + HOUR_MS).await.delivered, 4);
}

#[tokio::test]
async fn what_the_app_did_not_take_got_a_200_and_is_delivered_by_the_sweep() {
    let house = House::open().await;
    house.app.set_status(503);
    let (status, answer) = house.ask(post(HOOK, &utterance("help"))).await;
    assert_eq!((status, &answer["status"]), (200, &json!("accepted")));
    let (_, again) = house.ask(post(HOOK, &utterance("help"))).await;
    assert_eq!((&again["status"], &again["requestId"]), (&json!("duplicate"), &answer["requestId"]));

    let reaper = house.doors.reaper();
    assert_eq!(reaper.sweep_once(wall_ms()).await.delivered, 0, "its first delivery may still be under way");
    let away = reaper.sweep_once(wall_ms() + HOUR_MS).await;
    assert_eq!((away.delivered, away.undelivered), (0, 1));
    house.app.set_status(200);
    assert_eq!(reaper.sweep_once(wall_ms() + 2 * HOUR_MS).await.delivered, 1);
    assert_eq!(reaper.sweep_once(wall_ms() + 3 * HOUR_MS).await.delivered, 0);

    let keys: Vec<_> = house.app.taken().iter().map(|taken| taken.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == answer["requestId"].as_str().unwrap()));
    let attempts: Vec<Value> = house
        .app
        .taken()
        .iter()
        .map(|taken| serde_json::from_slice::<Value>(&taken.body).unwrap()["attempt"].clone())
        .collect();
    assert_eq!(attempts, [1, 2, 3]);
}

#[tokio::test]
async fn an_app_that_is_not_there_or_too_slow_costs_cxone_no_more_than_the_budget() {
    let house = House::with(env().with(&settings::TEXT_TOKENS, "none").with(&settings::TEXT_BUDGET, "50ms")).await;
    // It accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let env = env()
        .with(&settings::TEXT_TOKENS, "none")
        .with(&settings::TEXT_BUDGET, "50ms")
        .with(&settings::ASSIST_TEXT_URL, url);
    let settings = Settings::read(&env).unwrap();
    let doors = crate::routes::Doors::new(crate::routes::Parts {
        settings: &settings,
        store: house.store.clone(),
        guard: earpiece_access::Guard::open(),
        client: earpiece_https::client::Client::new(&earpiece_https::Trust::public()).unwrap(),
        push: None,
        recorder: None,
        task: "test".into(),
    })
    .unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), doors.answer(post(HOOK, &utterance("help")), None));
    assert_eq!(answer.await.expect("within the budget").status(), 200);
    assert_eq!(house.store.due_utterances(wall_ms() + HOUR_MS, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_app_refuses_is_a_dead_letter_that_can_be_revived() {
    let house = House::open().await;
    house.app.set_status(422);
    let (status, _) = house.ask(post(HOOK, &utterance("help"))).await;
    assert_eq!(status, 200);
    assert_eq!(house.doors.reaper().sweep_once(wall_ms() + HOUR_MS).await, crate::reaper::Swept::default());
    let dead = house.store.dead_utterances(wall_ms(), 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(outcome(&house, "dead"));

    house.app.set_status(200);
    assert!(house.store.revive_utterance(&CONTACT, &dead[0].key, wall_ms()).await.unwrap());
    assert_eq!(house.doors.reaper().sweep_once(wall_ms() + 1).await.delivered, 1);
}

#[tokio::test]
async fn after_its_last_attempt_an_utterance_is_a_dead_letter() {
    let house = House::with(env().with(&settings::TEXT_TOKENS, "none").with(&settings::TEXT_ATTEMPTS_MAX, "3")).await;
    house.app.set_status(500);
    house.ask(post(HOOK, &utterance("help"))).await;
    let mut at_ms = wall_ms();
    let mut sweeps = Vec::new();
    for _ in 0..3 {
        at_ms += i64::try_from(PAUSE_MAX.as_millis()).unwrap() + HOUR_MS;
        let swept = house.doors.reaper().sweep_once(at_ms).await;
        sweeps.push((swept.undelivered, swept.dead));
    }
    assert_eq!(sweeps, [(1, 0), (0, 1), (0, 0)]);
    assert_eq!(house.app.taken().len(), 3);
}

#[tokio::test]
async fn a_business_unit_that_asks_too_often_is_told_when_to_come_again_and_no_other_is() {
    let house =
        House::with(env().with(&settings::TEXT_TOKENS, "none").with(&settings::UTTERANCES_PER_SECOND_MAX, "1")).await;
    let mut refused = 0;
    // Ten in each window of ten seconds: more than two windows cannot pass meanwhile.
    for index in 0..25 {
        let answer = house.send(post(HOOK, &utterance(&format!("{index}")))).await;
        if answer.status() == 429 {
            assert_eq!(answer.headers()["retry-after"], "1");
            refused += 1;
        }
    }
    assert!((5..=15).contains(&refused), "{refused}");
    let mut other = utterance("x");
    other["busNo"] = json!(1);
    assert_eq!(house.ask(post(HOOK, &other)).await.0, 200);
}

#[tokio::test]
async fn without_the_store_nothing_is_promised() {
    let House { embedded, doors, app, .. } = House::open().await;
    embedded.stop().await;
    let answer = doors.answer(post(HOOK, &utterance("help")), None).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert!(app.taken().is_empty());
}

#[tokio::test]
async fn what_the_app_answers_reaches_the_pages_that_listen() {
    let house = House::open().await;
    house.store.listen(&CONTACT, "page-1", wall_ms(), 60_000).await.unwrap();
    house.app.set_body(json!({"events": [{"type": "suggestion", "text": "Offer a refund."}]}));
    house.ask(post(HOOK, &utterance("help"))).await;
    let told = house.pages.taken();
    assert_eq!(told.len(), 1);
    assert!(told[0].path.ends_with("/@connections/page-1"), "{}", told[0].path);
    let event: Value = serde_json::from_slice(&told[0].body).unwrap();
    assert_eq!((&event["type"], &event["kind"]), (&json!("app"), &json!("suggestion")));
    assert_eq!(event["contactId"], json!(CONTACT.contact_id));
}

#[test]
fn the_budget_is_what_the_invocation_has_left_and_a_deadline_out_of_reach_says_nothing() {
    let budget = Duration::from_secs(2);
    for (left_ms, expected_ms) in
        [(10_000, 2000), (2000, 1500), (400, 0), (-5, 0), (-1_780_000_000_000, 2000), (1_780_000_000_000, 2000)]
    {
        assert_eq!(within(budget, left_ms), Duration::from_millis(expected_ms), "{left_ms}");
    }
}

/// The functions' own filter at its most talkative, over everything that an utterance goes through; and over whatever
/// the other tests of this process do meanwhile, which may say none of it either.
#[tokio::test]
async fn no_log_line_holds_a_token_or_a_word_at_any_level() {
    use tracing_subscriber::layer::SubscriberExt as _;

    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::registry()
        .with(crate::start::targets(tracing::level_filters::LevelFilter::TRACE))
        .with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone()));
    // For all threads: one for this thread alone would hear nothing where another thread came by first.
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");

    let house = House::with(crate::testing::guarded()).await;
    house.store.listen(&CONTACT, "page-1", wall_ms(), 60_000).await.unwrap();
    house.app.set_body(json!({"events": [{"type": "suggestion", "text": "hunter2-answer"}]}));
    let mut good = utterance("hunter2-words");
    good["authorizationHeader"] = json!(crate::testing::TOKEN);
    good["messageData"] = json!({"hunter2-data": 1});
    assert_eq!(house.ask(post(&format!("{HOOK}?q=hunter2-query"), &good)).await.0, 200);
    let mut bad = good.clone();
    bad["authorizationHeader"] = json!("hunter2-token");
    assert_eq!(house.ask(post(HOOK, &bad)).await.0, 401);
    bad["participantId"] = json!("hunter2-participant");
    assert_eq!(house.ask(post(HOOK, &bad)).await.0, 400);
    house.app.set_status(500);
    good["messageBody"] = json!("hunter2-later");
    assert_eq!(house.ask(post(HOOK, &good)).await.0, 200);
    house.doors.reaper().sweep_once(wall_ms() + HOUR_MS).await;
    house.app.set_status(400);
    house.doors.reaper().sweep_once(wall_ms() + 2 * HOUR_MS).await;

    let lines = lines.text();
    assert!(lines.contains("utterance accepted") && lines.contains("dead letter"), "{lines}");
    for secret in ["hunter2", crate::testing::TOKEN, "secret-of-the-app"] {
        assert!(!lines.contains(secret), "{secret} in\n{lines}");
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
