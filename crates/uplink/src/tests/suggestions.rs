//! Socket A.

use std::collections::BTreeMap;
use std::time::Duration;

use earpiece_core::assist::suggestion::Rejection;
use earpiece_core::assist::{Lane, audit};
use earpiece_simulator::platform::{AnswerPolicy, Fault, FaultKind, On, PlatformSettings, To, Uplink};
use earpiece_store::Store;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::road::Road;
use super::stage::{LEASE, PATIENCE, Stage, eventually, id, settings, steady, submit_to};
use crate::{Settings, Which};

#[tokio::test(flavor = "multi_thread")]
async fn suggestions_leave_in_order_per_interaction_and_nothing_before_auth_success() {
    let platform = PlatformSettings { auth_pause: Duration::from_millis(300), ..PlatformSettings::default() };
    let stage = Stage::with(platform).await;
    for place in 0..5 {
        for interaction in 0..20 {
            stage.submit(&interaction.to_string(), &format!("s{place}")).await.unwrap();
        }
    }
    let task = stage.task_with("a", steady(Which::Suggestions)).await;
    let mut by_interaction: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (interaction, suggestion) in stage.suggested(100).await {
        by_interaction.entry(interaction).or_default().push(suggestion);
    }
    assert_eq!(by_interaction.len(), 20);
    for sent in by_interaction.values() {
        assert_eq!(sent, &["s0", "s1", "s2", "s3", "s4"]);
    }
    task.counted("earpiece_suggestions_total{outcome=\"sent\"}", 100).await;
    task.counted("earpiece_suggestion_latency_seconds_count", 100).await;
    stage.drained(Lane::Suggestions).await;
    let tally = stage.platform.tally();
    assert_eq!((tally.violations, tally.suggestions, tally.suggestions_repeated, tally.active_max), (0, 100, 0, 5));
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suggestion_of_this_process_leaves_at_once_and_one_of_another_at_the_next_poll() {
    let stage = Stage::new().await;
    let task = stage.task("a", Which::Suggestions).await;
    assert!(stage.platform.wait_for_socket(Uplink::Suggestions, PATIENCE).await);
    for (round, store) in [&task.store, &stage.store].into_iter().cycle().take(20).enumerate() {
        let submitted_at = Instant::now();
        submit_to(store, "7", &format!("s{round}"), Duration::from_mins(5)).await.unwrap();
        stage.suggested(round + 1).await;
        assert!(submitted_at.elapsed() < Duration::from_secs(2), "{:?}", submitted_at.elapsed());
        // The slot is needed again.
        eventually("noted", async || stage.audited("7").await.contains(&"injected".to_owned())).await;
        assert!(stage.platform.dismiss("7", &format!("s{round}")).await);
        eventually("the slot is free", async || {
            stage.store.interaction(&id("7"), 0).await.unwrap().interaction.active.is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_and_answers_close_the_loop_and_free_the_slot() {
    let stage = Stage::new().await;
    let task = stage.task_with("a", steady(Which::Suggestions)).await;
    for suggestion in ["s0", "s1", "s2", "s3", "s4"] {
        stage.submit("7", suggestion).await.unwrap();
    }
    assert_eq!(stage.submit("7", "s5").await, Err(Rejection::BufferFull { active: 5, max: 5 }));
    stage.suggested(5).await;
    task.counted("earpiece_suggestion_ack_seconds_count", 5).await;
    assert!(stage.platform.accept("7", "s1").await);
    assert!(stage.platform.dismiss("7", "s3").await);
    task.counted("earpiece_suggestions_total{outcome=\"taken_up\"}", 1).await;
    task.counted("earpiece_suggestions_total{outcome=\"dismissed\"}", 1).await;
    let document = stage.store.interaction(&id("7"), 0).await.unwrap().interaction;
    assert_eq!((document.active.len(), document.accepted, document.dismissed), (3, 1, 1));
    stage.submit("7", "s5").await.unwrap();
    stage.submit("7", "s6").await.unwrap();
    stage.suggested(7).await;
    assert_eq!(stage.platform.tally().active_max, 5);
    // Whatever overtook what: the record has every step, and each after its cause.
    let records = stage.store.audit(&id("7")).await.unwrap();
    for suggestion in ["s1", "s3"] {
        let events: Vec<_> =
            records.iter().filter(|record| record.subject == suggestion).map(|record| record.event.as_str()).collect();
        assert_eq!(events[..3], ["queued", "injected", "acknowledged"], "{suggestion}");
        assert!(matches!(events[3], "accepted" | "dismissed"), "{suggestion}");
    }
    assert!(audit::verify(records.into_iter(), None).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_twice_or_to_nothing_counts_once_or_not_at_all() {
    let stage = Stage::new().await;
    let task = stage.task_with("a", steady(Which::Suggestions)).await;
    stage.submit("7", "s0").await.unwrap();
    stage.suggested(1).await;
    let accepted = json!({"type": "agentassist.accepted", "interactionId": "7", "suggestionId": "s0"});
    for _ in 0..5 {
        assert_eq!(stage.platform.send_event(Uplink::Suggestions, &accepted, To::All).await, 1);
    }
    let unknown = json!({"type": "agentassist.dismissed", "interactionId": "8", "suggestionId": "s0"});
    stage.platform.send_event(Uplink::Suggestions, &unknown, To::All).await;
    stage.platform.send_text(Uplink::Suggestions, "no JSON".to_owned(), To::All).await;
    // Read after all of these by the same reader.
    stage.submit("7", "s1").await.unwrap();
    stage.suggested(2).await;
    stage.platform.dismiss("7", "s1").await;
    task.counted("earpiece_suggestions_total{outcome=\"dismissed\"}", 1).await;
    task.counted("earpiece_suggestions_total{outcome=\"taken_up\"}", 1).await;
    let document = stage.store.interaction(&id("7"), 0).await.unwrap().interaction;
    assert_eq!((document.accepted, document.dismissed), (1, 1));
    assert!(stage.audited("8").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suggestion_whose_window_is_over_is_dropped_with_its_outcome_and_never_sent() {
    let stage = Stage::new().await;
    stage.platform.fault(Fault::once(On::Suggestions, FaultKind::Unavailable).times(1000)).unwrap();
    let task = stage.task("a", Which::Suggestions).await;
    submit_to(&stage.store, "7", "late", Duration::from_millis(200)).await.unwrap();
    task.counted("earpiece_suggestions_total{outcome=\"expired\"}", 1).await;
    let document = stage.store.interaction(&id("7"), 0).await.unwrap().interaction;
    assert!(document.active.is_empty(), "its slot is free");
    assert!(stage.audited("7").await.contains(&"expired".to_owned()));
    stage.platform.clear_faults();
    stage.submit("7", "in time").await.unwrap();
    let sent = stage.suggested(1).await;
    assert_eq!(sent, [("7".to_owned(), "in time".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_with_1006_or_1011_is_made_again_and_nothing_is_lost() {
    let stage = Stage::new().await;
    let task = stage.task("a", Which::Suggestions).await;
    for (round, kind) in [FaultKind::Abort, FaultKind::Close1011, FaultKind::HalfClose].into_iter().enumerate() {
        assert!(stage.platform.wait_for_socket(Uplink::Suggestions, PATIENCE).await);
        stage.platform.fault(Fault::once(On::Suggestions, kind)).unwrap();
        task.counted("earpiece_uplink_breaks_total{uplink=\"suggestions\"}", round as u64 + 1).await;
        stage.submit(&round.to_string(), "s").await.unwrap();
        stage.suggested(round + 1).await;
    }
    stage.drained(Lane::Suggestions).await;
    assert_eq!(stage.platform.tally().suggestions, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_hold_one_socket_and_what_a_dead_holder_left_is_sent_by_the_other() {
    let stage = Stage::new().await;
    let first = stage.task("first", Which::Suggestions).await;
    first.counted("earpiece_uplink_up{uplink=\"suggestions\"}", 1).await;
    let second = stage.task("second", Which::Suggestions).await;
    sleep(LEASE * 2).await;
    assert_eq!(stage.platform.look(|received| received.ready(Uplink::Suggestions)), 1);
    stage.submit("7", "before").await.unwrap();
    stage.suggested(1).await;
    stage.drained(Lane::Suggestions).await;
    first.kill().await;
    let died_at = Instant::now();
    stage.submit("7", "while nobody holds it").await.unwrap();
    let sent = stage.suggested(2).await;
    // With the default lease of 10 s, a dead holder is to be replaced within 15 s.
    assert!(died_at.elapsed() < LEASE * 4, "{:?}", died_at.elapsed());
    assert_eq!(sent[1].1, "while nobody holds it");
    stage.drained(Lane::Suggestions).await;
    assert_eq!(stage.platform.tally().suggestions_repeated, 0);
    second.counted("earpiece_leases_held{lease=\"suggestions\"}", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_drained_hands_over_at_once_and_leaves_nothing_half_done() {
    let stage = Stage::new().await;
    let first = stage.task("first", Which::Suggestions).await;
    first.counted("earpiece_uplink_up{uplink=\"suggestions\"}", 1).await;
    let second = stage.task("second", Which::Suggestions).await;
    for interaction in 0..50 {
        stage.submit(&interaction.to_string(), "s").await.unwrap();
    }
    let asked_at = Instant::now();
    first.stop().await;
    second.counted("earpiece_uplink_up{uplink=\"suggestions\"}", 1).await;
    assert!(asked_at.elapsed() < LEASE * 2, "{:?}", asked_at.elapsed());
    stage.suggested(50).await;
    stage.drained(Lane::Suggestions).await;
    let tally = stage.platform.tally();
    assert_eq!((tally.suggestions, tally.suggestions_repeated), (50, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_loses_the_store_stops_sending_and_its_entries_are_sent_by_the_other() {
    let stage = Stage::new().await;
    let server = stage.embedded.endpoint().trim_start_matches("http://").parse().unwrap();
    let road = Road::to(server).await;
    let far_store = Store::connect_local(&format!("http://{}", road.address), "uplink");
    let one = Settings { uplinks: [Which::Suggestions].into(), ..settings() };
    let far = stage.task_on("far", one, far_store).await;
    far.counted("earpiece_uplink_up{uplink=\"suggestions\"}", 1).await;
    let near = stage.task("near", Which::Suggestions).await;
    road.cut();
    far.counted("earpiece_leases_held{lease=\"suggestions\"}", 0).await;
    far.counted("earpiece_uplink_up{uplink=\"suggestions\"}", 0).await;
    stage.submit("7", "s").await.unwrap();
    stage.suggested(1).await;
    near.counted("earpiece_suggestions_total{outcome=\"sent\"}", 1).await;
    far.counted("earpiece_suggestions_total{outcome=\"sent\"}", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_busy_platform_are_all_counted() {
    let stage = Stage::new().await;
    stage.platform.set_policy(AnswerPolicy::every(2, 1));
    let task = stage.task_with("a", steady(Which::Suggestions)).await;
    for interaction in 0..100 {
        stage.submit(&interaction.to_string(), "s").await.unwrap();
    }
    task.counted("earpiece_suggestions_total{outcome=\"taken_up\"}", 50).await;
    task.counted("earpiece_suggestions_total{outcome=\"dismissed\"}", 50).await;
    stage.drained(Lane::Suggestions).await;
    for interaction in 0..100 {
        let document = stage.store.interaction(&id(&interaction.to_string()), 0).await.unwrap().interaction;
        assert!(document.is_idle());
    }
}
