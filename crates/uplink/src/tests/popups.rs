//! Socket C.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::assist::Lane;
use earpiece_core::assist::trigger::Triggers;
use earpiece_simulator::platform::{Fault, FaultKind, Kind, On, To, Uplink};
use serde_json::{Value, json};

use super::stage::{PATIENCE, Stage, eventually, id, settings, steady};
use crate::{Settings, Which};

pub(super) fn angry(interaction: usize) -> Value {
    json!({
        "id": format!("i{interaction}"), "type": "SENTIMENT", "sentiment": {"score": -0.9, "confidence": 0.95},
        "routing": {"queueWaitTimeMs": 1000, "queueName": "billing"}, "participant": {"direction": "inbound"},
    })
}

fn content(interaction: usize) -> Value {
    json!({ "id": format!("i{interaction}"), "type": "SENTIMENT", "sentiment": {"score": 0.8, "confidence": 0.95} })
}

/// One trigger, one attempt, and what becomes of the popup then.
fn one_attempt(on_failure: &str) -> Settings {
    let triggers = json!([{
        "name": "angry", "when": {"sentimentBelow": {"score": -0.5}}, "onFailure": on_failure,
        "card": {"type": "warning", "title": "Angry caller", "content": "Sentiment is {score}."},
    }]);
    let triggers = Triggers::parse(&triggers.to_string()).unwrap();
    let uplinks = [Which::Popups].into();
    Settings { uplinks, triggers: Some(Arc::new(triggers)), outbox_attempts_max: 1, ..settings() }
}

/// Waits until so many interactions have a card, and asserts that none has another.
pub(super) async fn one_card_each(stage: &Stage, interactions: usize) {
    let all = stage.platform.wait_for(PATIENCE, |received| {
        let with_card = received.interactions().filter(|(_, seen)| !seen.cards.is_empty()).count();
        (with_card >= interactions).then_some(())
    });
    all.await.expect("every card in time");
    stage.drained(Lane::Popups).await;
    let cards: Vec<usize> =
        stage.platform.look(|received| received.interactions().map(|(_, seen)| seen.cards.len()).collect());
    assert_eq!((cards.len(), cards.iter().max()), (interactions, Some(&1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_popup_is_shown_once_per_interaction_and_trigger_whatever_comes_how_often() {
    let stage = Stage::new().await;
    stage.platform.fault(Fault::once(On::InteractionsStream, FaultKind::Duplicate).times(40)).unwrap();
    let task = stage.task("a", Which::Popups).await;
    assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
    for _ in 0..3 {
        for interaction in 0..30 {
            stage.platform.send_event(Uplink::Interactions, &angry(interaction), To::All).await;
            stage.platform.send_event(Uplink::Interactions, &content(interaction + 100), To::All).await;
        }
    }
    stage.platform.send_text(Uplink::Interactions, "no JSON".to_owned(), To::All).await;
    one_card_each(&stage, 30).await;
    let tally = stage.platform.tally();
    assert_eq!((tally.cards, tally.cards_repeated, tally.violations), (30, 0, 0));
    task.counted("earpiece_popups_total{outcome=\"pending\"}", 30).await;
    task.counted("earpiece_popups_total{outcome=\"sent\"}", 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_and_a_kill_show_one_distinct_card_per_interaction() {
    let stage = Stage::new().await;
    let first = stage.task("first", Which::Popups).await;
    assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
    let second = stage.task("second", Which::Popups).await;
    for interaction in 0..40 {
        stage.platform.send_event(Uplink::Interactions, &angry(interaction), To::All).await;
    }
    let some = stage.platform.wait_for(PATIENCE, |received| (received.of(Kind::Card).count() >= 5).then_some(()));
    some.await.expect("some cards");
    first.kill().await;
    second.counted("earpiece_uplink_up{uplink=\"popups\"}", 1).await;
    // CXone tells on; what the dead task had heard and not noted is heard again.
    for interaction in (0..40).rev() {
        stage.platform.send_event(Uplink::Interactions, &angry(interaction), To::Newest).await;
    }
    one_card_each(&stage, 40).await;
    for interaction in 0..40 {
        let document = stage.store.interaction(&id(&format!("i{interaction}")), 0).await.unwrap().interaction;
        assert_eq!(document.popups.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_send_and_settle_repeats_the_same_card() {
    let stage = Stage::new().await;
    stage.platform.fault(Fault::once(On::Cards, FaultKind::Slow).delay_ms(5_000)).unwrap();
    let first = stage.task("first", Which::Popups).await;
    assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
    stage.platform.send_event(Uplink::Interactions, &angry(7), To::All).await;
    let sent = stage.platform.wait_for(PATIENCE, |received| received.of(Kind::Card).next().map(|_| ()));
    sent.await.expect("a card, not yet answered");
    first.kill().await;
    let second = stage.task("second", Which::Popups).await;
    second.counted("earpiece_popups_total{outcome=\"sent\"}", 1).await;
    let cards = stage.platform.look(|received| received.interaction("i7").unwrap().cards.clone());
    assert_eq!((cards.len(), cards[0].times), (1, 2), "the same card, twice");
    let audited = stage.audited("i7").await;
    assert_eq!(audited.iter().filter(|event| event.starts_with("popup")).count(), 2, "{audited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_is_repeated_with_the_same_card_until_it_succeeds() {
    let stage = Stage::new().await;
    stage.platform.fault(Fault::once(On::Cards, FaultKind::Unavailable).times(2)).unwrap();
    let task = stage.task("a", Which::Popups).await;
    assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
    stage.platform.send_event(Uplink::Interactions, &angry(7), To::All).await;
    one_card_each(&stage, 1).await;
    task.counted("earpiece_outbox_entries_total{lane=\"popups\",outcome=\"retried\"}", 2).await;
    task.counted("earpiece_outbox_entries_total{lane=\"popups\",outcome=\"delivered\"}", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_dead_letter_a_popup_that_fails_for_good_waits_for_an_operator() {
    let stage = Stage::new().await;
    stage.platform.fault(Fault::once(On::Cards, FaultKind::Unavailable)).unwrap();
    let task = stage.task_with("a", one_attempt("deadLetter")).await;
    assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
    stage.platform.send_event(Uplink::Interactions, &angry(7), To::All).await;
    task.counted("earpiece_popups_total{outcome=\"dead\"}", 1).await;
    // The trigger has had its turn.
    stage.platform.send_event(Uplink::Interactions, &angry(7), To::All).await;
    stage.platform.send_event(Uplink::Interactions, &angry(8), To::All).await;
    task.counted("earpiece_popups_total{outcome=\"sent\"}", 1).await;
    let dead = stage.store.dead_entries(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].dead.as_ref().unwrap().reason, "attempts");
    assert!(stage.store.revive_entry(&dead[0].interaction, dead[0].seq, crate::clock::now_ms()).await.unwrap());
    task.counted("earpiece_popups_total{outcome=\"sent\"}", 2).await;
    task.counted("earpiece_popups_total{outcome=\"pending\"}", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_free_a_popup_that_fails_for_good_may_fire_again() {
    let stage = Stage::new().await;
    stage.platform.fault(Fault::once(On::Cards, FaultKind::Unavailable)).unwrap();
    let task = stage.task_with("a", one_attempt("free")).await;
    assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
    stage.platform.send_event(Uplink::Interactions, &angry(7), To::All).await;
    task.counted("earpiece_popups_total{outcome=\"freed\"}", 1).await;
    stage.platform.send_event(Uplink::Interactions, &angry(7), To::All).await;
    task.counted("earpiece_popups_total{outcome=\"sent\"}", 1).await;
    assert!(stage.store.dead_entries(10).await.unwrap().is_empty());
    assert_eq!(stage.platform.tally().cards, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_on_cards_holds_cards_back_and_not_suggestions() {
    let stage = Stage::new().await;
    let fault = Fault::once(On::Cards, FaultKind::TooManyRequests).retry_after_s(3);
    stage.platform.fault(fault).unwrap();
    let both = Settings { uplinks: [Which::Popups, Which::Suggestions].into(), ..settings() };
    let task = stage.task_with("a", both).await;
    assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
    assert!(stage.platform.wait_for_socket(Uplink::Suggestions, PATIENCE).await);
    stage.platform.send_event(Uplink::Interactions, &angry(7), To::All).await;
    task.counted("earpiece_outbox_entries_total{lane=\"popups\",outcome=\"retried\"}", 1).await;
    for interaction in 0..20 {
        stage.submit(&interaction.to_string(), "s").await.unwrap();
    }
    stage.suggested(20).await;
    let refused_ms = stage.platform.received_of(Kind::Card)[0].at_ms;
    assert!(stage.platform.received_of(Kind::Suggest).iter().all(|record| record.at_ms < refused_ms + 3000));
    task.counted("earpiece_popups_total{outcome=\"sent\"}", 1).await;
    let tries = stage.platform.received_of(Kind::Card);
    assert!(tries[1].at_ms >= refused_ms + 2900, "Retry-After is honoured");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_cxone_forbids_is_asked_for_once_and_is_a_dead_letter() {
    let stage = Stage::with_scopes(&["interactions:read"]).await;
    let many_attempts = Settings { outbox_attempts_max: 12, ..one_attempt("deadLetter") };
    let task = stage.task_with("a", many_attempts).await;
    assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
    for interaction in [7, 8] {
        stage.platform.send_event(Uplink::Interactions, &angry(interaction), To::All).await;
        task.counted("earpiece_popups_total{outcome=\"dead\"}", interaction as u64 - 6).await;
    }
    stage.drained(Lane::Popups).await;
    let asked: Vec<_> = stage.platform.received_of(Kind::Card).into_iter().map(|asked| asked.status).collect();
    assert_eq!(asked, [403, 403], "one request for each");
    let reasons: Vec<_> = stage.store.dead_entries(10).await.unwrap().into_iter().map(|letter| letter.dead).collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons.iter().flatten().all(|dead| dead.reason == "forbidden"), "{reasons:?}");
    task.counted("earpiece_outbox_entries_total{lane=\"popups\",outcome=\"retried\"}", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_that_take_long_hold_up_neither_the_socket_nor_the_marks() {
    const INTERACTIONS: usize = 200;
    let stage = Stage::new().await;
    stage.platform.fault(Fault::once(On::Cards, FaultKind::Slow).delay_ms(5_000).times(1_000)).unwrap();
    let task = stage.task_with("a", steady(Which::Popups)).await;
    assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
    for interaction in 0..INTERACTIONS {
        stage.platform.send_event(Uplink::Interactions, &angry(interaction), To::All).await;
    }
    task.counted("earpiece_popups_total{outcome=\"pending\"}", INTERACTIONS as u64).await;
    // As many as are under way at a time, and on a busy machine those that follow the first of them.
    let asked = stage.platform.received_of(Kind::Card).len();
    assert!(asked <= INTERACTIONS * 2 / 3, "{asked} of the cards were asked for before all had their mark");
    stage.platform.clear_faults();
    one_card_each(&stage, INTERACTIONS).await;
    assert_eq!(stage.platform.tally().cards_repeated, 0);
    task.counted("earpiece_popups_total{outcome=\"sent\"}", INTERACTIONS as u64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_triggers_nothing_is_asked_of_cxone() {
    let stage = Stage::new().await;
    let quiet = Settings { uplinks: [Which::Popups].into(), triggers: None, ..settings() };
    let task = stage.task_with("a", quiet).await;
    task.counted("earpiece_leases_held{lease=\"popups\"}", 1).await;
    assert!(!stage.platform.wait_for_socket(Uplink::Interactions, Duration::from_secs(1)).await);
    eventually("nothing waits", async || stage.store.oldest_due_ms(Lane::Popups).await.unwrap().is_none()).await;
}
