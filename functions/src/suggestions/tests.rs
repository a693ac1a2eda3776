//! Suggestions through the doors, on the embedded store: every answer, races, and what the assist app answers to text.

use std::time::Duration;

use earpiece_access::issue::{Claims, sign};
use earpiece_core::assist::{
    Answer as AgentsAnswer, Context, Entry, Hooks, Interaction, InteractionId, Lane, Payload, audit,
};
use earpiece_core::config::{EmptyEnv, Overlay};
use earpiece_core::protocol::Utterance;
use earpiece_core::telemetry::SUGGESTIONS;
use earpiece_relay::text::UtteranceNote;
use lambda_http::Body;
use lambda_http::http::Request as HttpRequest;
use serde_json::{Value, json};

use super::*;
use crate::settings::{self, AUDIT_KEEP, CXONE_BUS_NO, SuggestionRules, TEXT_BUDGET};
use crate::testing::{CONTACT, HOOK, House, TOKEN, env, get, guarded, post, published_key, utterance, with_header};

const BY_CONTACT: &str = "/contacts/4595000/466000000001/suggestions";
const BY_INTERACTION: &str = "/interactions/466000000001/suggestions";
const DAY_MS: u64 = 86_400_000;

/// A suggestion that every rule lets pass.
fn good(id: &str) -> Value {
    json!({ "id": id, "content": "Offer to resend the parcel.", "relevanceScore": 0.9 })
}

fn with(mut suggestion: Value, name: &str, value: Value) -> Value {
    suggestion[name] = value;
    suggestion
}

fn interaction() -> InteractionId {
    InteractionId::from(&CONTACT)
}

fn open_env() -> Overlay<EmptyEnv> {
    env().with(&settings::TEXT_TOKENS, settings::NONE)
}

async fn waiting(house: &House) -> Vec<Entry> {
    house.store.outbox(&interaction(), Lane::Suggestions, wall_ms()).await.unwrap()
}

/// The agent answers so many suggestions, one after the other.
async fn agent_answers(house: &House, answer: AgentsAnswer, count: usize) {
    for index in 0..count {
        let id = format!("{answer:?}-{index}");
        assert_eq!(house.ask(post(BY_CONTACT, &good(&id))).await.0, 202);
        let (interaction, now_ms) = (interaction(), wall_ms());
        let context = Context { id: &interaction, now_ms };
        let hooks = Hooks { kb_sync: false, on_accept: false };
        let answering = |state: &mut Interaction| state.answered(&context, &id, answer, hooks);
        assert!(house.store.step_interaction(&interaction, now_ms, DAY_MS, answering).await.unwrap());
    }
}

fn counted(house: &House, outcome: &str) -> u64 {
    let series = format!("{SUGGESTIONS}{{outcome=\"{outcome}\"}} ");
    let metrics = house.doors.metrics();
    metrics.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_suggestion_is_accepted_by_contact_and_by_interaction_into_the_same_outbox() {
    let house = House::open().await;
    let (status, first) = house.ask(post(BY_CONTACT, &good("a"))).await;
    let expected = json!({
        "status": "accepted", "interactionId": "466000000001", "suggestionId": "a", "relevanceScore": 0.9, "active": 1,
    });
    assert_eq!((status, first), (202, expected));
    let (status, second) = house.ask(post(BY_INTERACTION, &good("b"))).await;
    assert_eq!((status, &second["active"]), (202, &json!(2)));

    let waiting = waiting(&house).await;
    let sent: Vec<_> = waiting.iter().map(|entry| entry.payload.subject().to_owned()).collect();
    assert_eq!(sent, ["a", "b"], "in the order in which they came");
    let Payload::Suggestion(suggestion) = &waiting[0].payload else { panic!("another kind") };
    assert_eq!(suggestion.content.reveal(), "Offer to resend the parcel.");
    assert_eq!(counted(&house, "accepted"), 2);
}

#[tokio::test]
async fn a_suggestion_without_an_id_gets_one_that_the_answer_says() {
    let house = House::open().await;
    for body in [json!({"content": "a", "relevanceScore": 1}), with(good("x"), "id", Value::Null)] {
        let (status, answer) = house.ask(post(BY_CONTACT, &body)).await;
        let id = answer["suggestionId"].as_str().unwrap_or_default().to_owned();
        assert_eq!((status, id.len()), (202, 32), "{answer}");
        assert!(waiting(&house).await.iter().any(|entry| entry.payload.subject() == id));
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_not_quoted() {
    let house = House::open().await;
    let window = |start: &str, end: &str| with(good("a"), "contextWindow", json!({"start": start, "end": end}));
    for (path, body, field) in [
        (BY_CONTACT, json!([]), Value::Null),
        (BY_CONTACT, json!("hunter2"), Value::Null),
        (BY_CONTACT, with(good("a"), "id", json!(["hunter2"])), json!("id")),
        (BY_CONTACT, with(good("a"), "content", json!("")), json!("content")),
        (BY_CONTACT, with(good("a"), "content", json!("hunter2".repeat(600))), json!("content")),
        (BY_CONTACT, with(good("a"), "priority", json!("hunter2")), json!("priority")),
        (BY_CONTACT, with(good("a"), "relevanceScore", json!("hunter2")), json!("relevanceScore")),
        (BY_CONTACT, with(good("a"), "relevanceScore", json!(1.01)), json!("relevanceScore")),
        (BY_CONTACT, window("hunter2", "2026-01-31T12:00:00Z"), json!("contextWindow.start")),
        (BY_CONTACT, window("2026-01-31T12:00:00Z", "hunter2"), json!("contextWindow.end")),
        ("/contacts/hunter2/1/suggestions", good("a"), json!("busNo")),
        ("/contacts/1/hunter2/suggestions", good("a"), json!("contactId")),
        ("/interactions/hunter2%20/suggestions", good("a"), json!("interactionId")),
    ] {
        let (status, answer) = house.ask(post(path, &body)).await;
        assert_eq!((status, &answer["error"]["kind"]), (400, &json!("bad_input")), "{path}: {answer}");
        assert_eq!(answer["error"]["field"], field, "{answer}");
        assert!(!answer.to_string().contains("hunter2"), "{answer}");
    }
    assert_eq!(waiting(&house).await, []);
}

#[tokio::test]
async fn a_body_that_is_too_large_or_no_json_and_another_method_have_their_own_answers() {
    let house = House::open().await;
    let raw = |content_type: &str, body: &[u8]| {
        HttpRequest::post(BY_CONTACT).header("content-type", content_type).body(Body::Binary(body.to_vec())).unwrap()
    };
    for (request, status) in [
        (post(BY_CONTACT, &with(good("a"), "extra", json!("x".repeat(BODY_BYTES_MAX)))), 413),
        (raw("text/plain", b"{}"), 415),
        (raw("application/json", b"{"), 400),
        (get(BY_CONTACT), 405),
        (get(BY_INTERACTION), 405),
        (post("/interactions/1/2/suggestions", &good("a")), 404),
    ] {
        assert_eq!(house.ask(request).await.0, status);
    }
}

#[tokio::test]
async fn the_longest_content_is_taken_however_it_is_escaped() {
    let house = House::open().await;
    let escaped = "\\u0061".repeat(4096);
    let body = format!(r#"{{"content":"{escaped}","relevanceScore":0.9}}"#);
    let request = HttpRequest::post(BY_CONTACT).header("content-type", "application/json").body(Body::Text(body));
    assert_eq!(house.ask(request.unwrap()).await.0, 202);
}

/// Contract §5 A, the first rule.
#[tokio::test]
async fn a_sixth_active_suggestion_is_answered_409_with_the_figures() {
    let house = House::open().await;
    for index in 0..5 {
        assert_eq!(house.ask(post(BY_CONTACT, &good(&index.to_string()))).await.0, 202);
    }
    let (status, answer) = house.ask(post(BY_CONTACT, &good("5"))).await;
    let expected = json!({
        "error": {"kind": "rejected", "message": "5 suggestions are active and 5 may be"},
        "rule": "active_max", "figures": {"active": 5, "max": 5},
    });
    assert_eq!((status, answer), (409, expected));
    assert_eq!((waiting(&house).await.len(), counted(&house, "refused")), (5, 1));
    let (_, answer) = house.ask(post(BY_CONTACT, &good("0"))).await;
    assert_eq!(answer["rule"], json!("active_max"), "asked before the others");
}

/// Contract §5 A, the other rules in their order.
#[tokio::test]
async fn a_duplicate_a_window_and_a_relevance_are_answered_with_their_rule() {
    let house = House::open().await;
    assert_eq!(house.ask(post(BY_CONTACT, &good("a"))).await.0, 202);
    let past = json!({"start": "2026-01-31T12:00:00Z", "end": "2026-01-31T12:05:00Z"});
    let low = with(good("b"), "relevanceScore", json!(0.69));
    let low_and_late = with(low.clone(), "contextWindow", past.clone());
    for (body, status, rule, figure) in [
        (with(with(good("a"), "contextWindow", past), "relevanceScore", json!(0.1)), 409, "duplicate_id", "id"),
        (low_and_late, 422, "context_window", "end"),
        (low, 422, "relevance_min", "min"),
    ] {
        let (got, answer) = house.ask(post(BY_CONTACT, &body)).await;
        assert_eq!((got, &answer["rule"], &answer["error"]["kind"]), (status, &json!(rule), &json!("rejected")));
        assert!(!answer["figures"][figure].is_null(), "{answer}");
        assert!(answer["figures"]["rule"].is_null(), "{answer}");
    }
    assert_eq!(waiting(&house).await.len(), 1);
}

/// Contract §5 A: the acceptance rate is measured.
#[tokio::test]
async fn the_answer_says_the_score_as_it_is_sent() {
    let house = House::open().await;
    let score = async |id: &str| {
        let (status, answer) = house.ask(post(BY_CONTACT, &good(id))).await;
        assert_eq!(status, 202, "{answer}");
        answer["relevanceScore"].as_f64().unwrap()
    };
    agent_answers(&house, AgentsAnswer::Accepted, 5).await;
    assert!((score("after five accepted").await - 0.95).abs() < 1e-9);
    agent_answers(&house, AgentsAnswer::Dismissed, 15).await;
    assert!((score("after many dismissed").await - 0.85).abs() < 1e-9);
}

#[tokio::test]
async fn a_refusal_is_in_the_audit_as_well_as_what_was_taken() {
    let house = House::open().await;
    house.ask(post(BY_CONTACT, &good("a"))).await;
    house.ask(post(BY_CONTACT, &good("a"))).await;
    let records = house.store.audit(&interaction()).await.unwrap();
    assert_eq!(records.iter().filter(|record| record.event == "refused").count(), 1, "{records:?}");
    assert_eq!(records.len(), 2);
    assert!(!format!("{records:?}").contains("parcel"), "no words");
}

#[tokio::test]
async fn only_a_token_of_the_scope_and_the_contact_submits() {
    let house = House::with(guarded().with(&CXONE_BUS_NO, CONTACT.bus_no.to_string())).await;
    let key = published_key(&house.store).await;
    let token = |scope: &str, bus_no: Option<u64>, contact_id: Option<u64>| {
        let claims = Claims { scope: scope.into(), bus_no, contact_id, ..crate::testing::claims() };
        sign(&key, &claims).unwrap().reveal().to_owned()
    };
    let (ours, contact) = (Some(CONTACT.bus_no), Some(CONTACT.contact_id));
    for path in [BY_CONTACT, BY_INTERACTION] {
        assert_eq!(house.ask(post(path, &good("a"))).await.0, 401, "{path}");
        for (index, (token, status)) in [
            ("wrong".to_owned(), 401),
            (token("utterances events audio listen", None, None), 403),
            (token("suggestions", ours, Some(1)), 403),
            (token("suggestions", Some(1), None), 403),
            (token("suggestions", ours, contact), 202),
            (TOKEN.to_owned(), 202),
        ]
        .into_iter()
        .enumerate()
        {
            let request = with_header(post(path, &good(&format!("{path} {index}"))), "authorization", &token);
            let (got, answer) = house.ask(request).await;
            assert_eq!(got, status, "{path} {index}: {answer}");
        }
    }
    assert_eq!(waiting(&house).await.len(), 4);
}

#[tokio::test]
async fn a_bound_token_is_not_good_for_an_interaction_whose_business_unit_nobody_knows() {
    let house = House::with(guarded()).await;
    let key = published_key(&house.store).await;
    let bound = Claims { scope: "suggestions".into(), bus_no: Some(CONTACT.bus_no), ..crate::testing::claims() };
    let token = sign(&key, &bound).unwrap();
    let submit = |path: &str| with_header(post(path, &good("a")), "authorization", token.reveal());
    assert_eq!(house.ask(submit(BY_INTERACTION)).await.0, 403);
    assert!(house.doors.metrics().contains("reason=\"foreign_contact\""));
    assert_eq!(house.ask(submit(BY_CONTACT)).await.0, 202);
}

#[tokio::test]
async fn a_token_for_one_use_is_still_good_after_a_request_that_has_to_be_corrected() {
    let house = House::with(guarded()).await;
    let key = published_key(&house.store).await;
    let claims = Claims { one_time: Some(true), scope: "suggestions".into(), ..crate::testing::claims() };
    let token = sign(&key, &claims).unwrap();
    for (score, status) in [(json!(2), 400), (json!(0.8), 202), (json!(0.8), 401)] {
        let body = with(good("a"), "relevanceScore", score);
        let request = with_header(post(BY_CONTACT, &body), "authorization", token.reveal());
        assert_eq!(house.ask(request).await.0, status);
    }
}

#[tokio::test]
async fn a_contact_of_another_business_unit_than_the_uplinks_is_answered_409() {
    let house = House::with(open_env().with(&CXONE_BUS_NO, CONTACT.bus_no.to_string())).await;
    let (status, answer) = house.ask(post("/contacts/1/466000000001/suggestions", &good("a"))).await;
    assert_eq!((status, &answer["rule"]), (409, &json!("business_unit")));
    assert_eq!(answer["figures"], json!({"busNo": 1, "expected": CONTACT.bus_no}));
    assert_eq!(waiting(&house).await, []);
    assert_eq!(house.ask(post(BY_CONTACT, &good("a"))).await.0, 202);
}

#[tokio::test]
async fn who_submits_too_often_is_told_when_to_come_again_and_utterances_still_pass() {
    let few =
        open_env().with(&settings::SUGGESTIONS_PER_SECOND_MAX, "1").with(&settings::UTTERANCES_PER_SECOND_MAX, "1");
    let house = House::with(few).await;
    let mut refused = 0;
    // Ten in each window of ten seconds: more than two windows cannot pass meanwhile.
    for index in 0..25 {
        let path = format!("/contacts/4595000/{index}/suggestions");
        let answer = house.send(post(&path, &good("a"))).await;
        if answer.status() == 429 {
            assert_eq!(answer.headers()["retry-after"], "1");
            refused += 1;
        }
    }
    assert!((5..=15).contains(&refused), "{refused}");
    assert_eq!(house.ask(post("/contacts/1/100/suggestions", &good("a"))).await.0, 202, "another business unit");
    assert_eq!(house.ask(post(HOOK, &utterance("x"))).await.0, 200);
}

#[tokio::test]
async fn without_the_store_nothing_is_promised() {
    let House { embedded, doors, .. } = House::open().await;
    embedded.stop().await;
    let answer = doors.answer(post(BY_CONTACT, &good("a")), None).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"].to_str().unwrap()), (503, &"1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_submitters_at_once_exactly_five_are_taken_and_the_audit_has_all() {
    let house = Arc::new(House::open().await);
    let mut submitters = tokio::task::JoinSet::new();
    for index in 0..50 {
        let house = Arc::clone(&house);
        let path = if index % 2 == 0 { BY_CONTACT } else { BY_INTERACTION };
        submitters.spawn(async move { house.ask(post(path, &good(&index.to_string()))).await });
    }
    let answers = submitters.join_all().await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|(status, _)| *status == 202);
    assert_eq!(taken.len(), 5, "{answers:?}");
    assert!(refused.iter().all(|(status, answer)| *status == 409 && answer["rule"] == "active_max"), "{answers:?}");
    let mut told: Vec<&str> = taken.iter().map(|(_, answer)| answer["suggestionId"].as_str().unwrap()).collect();
    let waiting = waiting(&house).await;
    let mut sent: Vec<&str> = waiting.iter().map(|entry| entry.payload.subject()).collect();
    told.sort_unstable();
    sent.sort_unstable();
    assert_eq!(told, sent);
    let records = house.store.audit(&interaction()).await.unwrap();
    assert_eq!(records.len(), 50);
    assert_eq!(audit::verify(records.into_iter(), None).unwrap().count, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_submitters_of_one_id_one_is_taken() {
    let house = Arc::new(House::open().await);
    let mut submitters = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let house = Arc::clone(&house);
        submitters.spawn(async move { house.ask(post(BY_CONTACT, &good("same"))).await });
    }
    let answers = submitters.join_all().await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 202).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|(status, answer)| *status == 202 || answer["rule"] == "duplicate_id"), "{answers:?}");
    assert_eq!(waiting(&house).await.len(), 1);
}

// ---- from the assist app's answers to text ----

fn event(id: &str) -> Value {
    with(good(id), "type", json!("suggestion"))
}

fn note(request_id: &str) -> UtteranceNote {
    UtteranceNote::new(&Utterance::from_value(utterance("help")).unwrap(), request_id, wall_ms())
}

/// A desk of its own, so that its counts and what it has under way can be seen.
fn desk(store: &Store, bus_no: Option<u64>) -> (Desk, Arc<Counters>) {
    let counters = Arc::new(Counters::new("test"));
    let rules = SuggestionRules { bus_no, per_second_max: 1, keep: Duration::from_hours(24) };
    (Desk::new(store.clone(), Arc::clone(&counters), rules), counters)
}

/// When all that a desk has under way is done.
async fn done(desk: &Desk) {
    let all = u32::try_from(UNDER_WAY_MAX).unwrap();
    drop(desk.under_way.acquire_many(all).await.unwrap());
}

#[tokio::test]
async fn what_the_app_suggests_in_its_answer_to_text_is_submitted_and_what_cannot_be_read_is_counted() {
    let house = House::with(open_env().with(&TEXT_BUDGET, "20s")).await;
    house.app.set_body(json!({"events": [
        event("a"), {"type": "suggestion", "text": "no content"}, {"type": "note", "content": "x", "relevanceScore": 1},
        with(event("b"), "id", Value::Null), with(event("c"), "relevanceScore", json!(0.1)),
    ]}));
    let (status, answer) = house.ask(post(HOOK, &utterance("help"))).await;
    assert_eq!((status, &answer["status"]), (200, &json!("accepted")));
    let waiting = waiting(&house).await;
    let sent: Vec<&str> = waiting.iter().map(|entry| entry.payload.subject()).collect();
    assert_eq!(sent, ["a", &format!("{}-2", answer["requestId"].as_str().unwrap())]);
    for (outcome, count) in [("accepted", 2), ("unreadable", 1), ("refused", 1)] {
        assert_eq!(counted(&house, outcome), count, "{outcome}");
    }
}

#[tokio::test]
async fn what_the_app_suggests_when_an_utterance_is_delivered_later_is_submitted_too() {
    let house = House::open().await;
    house.app.set_status(503);
    house.ask(post(HOOK, &utterance("help"))).await;
    house.app.set_status(200);
    house.app.set_body(json!({"events": [event("late")]}));
    assert_eq!(house.doors.reaper().sweep_once(wall_ms() + 3_600_000).await.delivered, 1);
    assert_eq!(waiting(&house).await.len(), 1);
}

#[tokio::test]
async fn the_answer_to_cxone_does_not_wait_for_the_store_and_the_suggestion_is_kept_all_the_same() {
    let house = House::open().await;
    let (desk, counters) = desk(&house.store, None);
    desk.take_from_app(&note("r"), &[event("a")], Duration::ZERO).await;
    done(&desk).await;
    assert_eq!(counters.total(SUGGESTIONS, &[("outcome", "accepted")]), 1);
    assert_eq!(waiting(&house).await.len(), 1);
}

#[tokio::test]
async fn what_nobody_could_wait_for_any_more_is_counted_and_dropped() {
    let house = House::open().await;
    let (desk, counters) = desk(&house.store, None);
    let all = desk.under_way.acquire_many(u32::try_from(UNDER_WAY_MAX).unwrap()).await.unwrap();
    desk.take_from_app(&note("r"), &[event("a"), event("b")], Duration::from_secs(1)).await;
    assert_eq!(counters.total(SUGGESTIONS, &[("outcome", "dropped")]), 2);
    drop(all);
    assert_eq!(waiting(&house).await, []);
}

#[tokio::test]
async fn of_one_answer_no_more_than_the_limit_is_taken_and_none_for_another_business_unit() {
    let house = House::open().await;
    let (ours, counters) = desk(&house.store, None);
    let many: Vec<Value> = (0..SUGGESTIONS_PER_ANSWER_MAX + 3).map(|index| event(&index.to_string())).collect();
    ours.take_from_app(&note("r"), &many, Duration::from_mins(1)).await;
    let total = |outcome| counters.total(SUGGESTIONS, &[("outcome", outcome)]);
    assert_eq!((total("accepted"), total("refused"), total("dropped")), (5, SUGGESTIONS_PER_ANSWER_MAX as u64 - 5, 3));

    let (foreign, counters) = desk(&house.store, Some(1));
    foreign.take_from_app(&note("r"), &[event("x")], Duration::from_mins(1)).await;
    assert_eq!(counters.total(SUGGESTIONS, &[("outcome", "foreign")]), 1);
}

#[tokio::test]
async fn an_answer_that_comes_again_suggests_nothing_twice() {
    let house = House::open().await;
    let (desk, counters) = desk(&house.store, None);
    let unnamed = with(event("x"), "id", Value::Null);
    for _ in 0..2 {
        desk.take_from_app(&note("r"), &[event("a"), unnamed.clone()], Duration::from_mins(1)).await;
    }
    let sent: Vec<_> = waiting(&house).await.iter().map(|entry| entry.payload.subject().to_owned()).collect();
    assert_eq!(sent, ["a", "r-1"]);
    assert_eq!(counters.total(SUGGESTIONS, &[("outcome", "refused")]), 2);
}

#[tokio::test]
async fn a_suggestion_of_the_app_that_the_store_does_not_take_is_counted_as_lost() {
    let (desk, counters) = desk(&Store::connect_local("http://127.0.0.1:1", "calls"), None);
    desk.take_from_app(&note("r"), &[event("a")], Duration::from_mins(1)).await;
    assert_eq!(counters.total(SUGGESTIONS, &[("outcome", "lost")]), 1);
}

#[test]
fn the_settings_of_suggestions_are_read_and_judged() {
    let read = |env| crate::settings::Settings::read(&env).map(|settings| settings.suggestions);
    let expected = SuggestionRules { bus_no: None, per_second_max: 50, keep: Duration::from_hours(400 * 24) };
    assert_eq!(read(open_env()).unwrap(), expected);
    assert_eq!(read(open_env().with(&CXONE_BUS_NO, "7")).unwrap().bus_no, Some(7));
    for env in [open_env().with(&CXONE_BUS_NO, "x"), open_env().with(&AUDIT_KEEP, "1s")] {
        assert!(read(env).is_err());
    }
}
