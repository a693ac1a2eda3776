//! When a suggestion counts as sent: what CXone says of it, and what becomes of it when CXone says nothing.

use std::time::Duration;

use earpiece_core::assist::Lane;
use earpiece_simulator::platform::{AnswerPolicy, Fault, FaultKind, On, PlatformSettings, To, Uplink};
use serde_json::json;
use tokio::time::Instant;

use super::stage::{LEASE, PATIENCE, Stage, Task, id, steady};
use crate::clock::now_ms;
use crate::{Settings, Which};

/// So long that no test waits for its end.
const LONG: Duration = Duration::from_mins(10);
const SENT: &str = "earpiece_suggestions_total{outcome=\"sent\"}";
const REPEATED: &str = "earpiece_suggestions_total{outcome=\"repeated\"}";

fn silent() -> AnswerPolicy {
    AnswerPolicy { never_ack: true, ..AnswerPolicy::default() }
}

/// A platform that acknowledges nothing.
async fn silent_stage() -> Stage {
    Stage::with(PlatformSettings { policy: silent(), ..PlatformSettings::default() }).await
}

fn waiting(ack_wait: Duration) -> Settings {
    Settings { ack_wait, ..steady(Which::Suggestions) }
}

/// Breaks the connection; the next one is acknowledged on.
async fn break_off(stage: &Stage, task: &Task, kind: FaultKind) {
    stage.platform.fault(Fault::once(On::Suggestions, kind)).unwrap();
    task.counted("earpiece_uplink_breaks_total{uplink=\"suggestions\"}", 1).await;
    // The next one comes after a second at the earliest.
    stage.platform.set_policy(AnswerPolicy::default());
}

async fn is_queued(stage: &Stage, interaction: &str) -> bool {
    !stage.store.outbox(&id(interaction), Lane::Suggestions, 0).await.unwrap().is_empty()
}

/// What came, in the order in which it came, once for each time.
async fn came(stage: &Stage, count: usize) -> Vec<String> {
    stage.suggested(count).await.into_iter().map(|(_, suggestion)| suggestion).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_settles_a_suggestion_in_one_write() {
    let stage = Stage::new().await;
    let task = stage.task_with("a", waiting(LONG)).await;
    stage.submit("7", "s").await.unwrap();
    task.counted(SENT, 1).await;
    assert!(!is_queued(&stage, "7").await);
    assert_eq!(stage.audited("7").await, ["queued", "injected", "acknowledged"]);
    // Submitted, claimed, acknowledged: the claim is the entry's, so the document was written twice.
    assert_eq!(stage.store.interaction(&id("7"), 0).await.unwrap().version, 2);
    task.counted("earpiece_suggestion_ack_seconds_count", 1).await;
    task.counted("earpiece_outbox_entries_total{lane=\"suggestions\",outcome=\"delivered\"}", 1).await;
    task.stop().await;
    assert_eq!(stage.platform.tally().suggestions_repeated, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_acknowledged_counts_as_sent_when_its_connection_stood_long_enough() {
    let stage = silent_stage().await;
    let wait = Duration::from_millis(500);
    let task = stage.task_with("a", waiting(wait)).await;
    stage.submit("7", "s0").await.unwrap();
    stage.suggested(1).await;
    let came_at = Instant::now();
    // Those behind do not wait.
    stage.submit("7", "s1").await.unwrap();
    stage.suggested(2).await;
    task.counted(SENT, 2).await;
    assert!(came_at.elapsed() >= wait / 2, "{:?}", came_at.elapsed());
    assert_eq!(stage.audited("7").await, ["queued", "queued", "injected", "injected"]);
    let tally = stage.platform.tally();
    assert_eq!((tally.suggestions, tally.suggestions_repeated), (2, 0));
    task.counted("earpiece_suggestion_ack_seconds_count", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_connection_carried_last_arrives_again_in_its_order_under_the_same_ids() {
    for kind in [FaultKind::Abort, FaultKind::HalfClose, FaultKind::Close1011] {
        let stage = silent_stage().await;
        let task = stage.task_with("a", waiting(LONG)).await;
        for suggestion in ["s0", "s1", "s2"] {
            stage.submit("7", suggestion).await.unwrap();
        }
        assert_eq!(came(&stage, 3).await, ["s0", "s1", "s2"]);
        assert!(is_queued(&stage, "7").await, "nobody has said that they have it");
        break_off(&stage, &task, kind).await;
        stage.submit("7", "s3").await.unwrap();
        stage.drained(Lane::Suggestions).await;
        assert_eq!(came(&stage, 7).await.split_off(3), ["s0", "s1", "s2", "s3"], "{kind:?}");
        task.counted(SENT, 4).await;
        assert_eq!(stage.platform.tally().suggestions, 4);
        let events = stage.audited("7").await;
        for once in ["injected", "acknowledged"] {
            assert_eq!(events.iter().filter(|event| *event == once).count(), 4, "{kind:?}: {events:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_counted_as_one_and_not_as_another_suggestion() {
    let stage = silent_stage().await;
    let task = stage.task_with("a", waiting(LONG)).await;
    stage.submit("7", "s").await.unwrap();
    stage.suggested(1).await;
    break_off(&stage, &task, FaultKind::Abort).await;
    task.counted(SENT, 1).await;
    task.counted(REPEATED, 1).await;
    task.counted("earpiece_suggestion_latency_seconds_count", 1).await;
    let tally = stage.platform.tally();
    assert_eq!((tally.suggestions, tally.suggestions_repeated), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_after_every_acknowledgement_repeats_nothing() {
    let stage = Stage::new().await;
    let task = stage.task_with("a", waiting(LONG)).await;
    for interaction in 0..30 {
        stage.submit(&interaction.to_string(), "s").await.unwrap();
    }
    task.counted(SENT, 30).await;
    stage.platform.fault(Fault::once(On::Suggestions, FaultKind::Abort)).unwrap();
    task.counted("earpiece_uplink_breaks_total{uplink=\"suggestions\"}", 1).await;
    stage.submit("30", "s").await.unwrap();
    task.counted(SENT, 31).await;
    task.counted(REPEATED, 0).await;
    let tally = stage.platform.tally();
    assert_eq!((tally.suggestions, tally.suggestions_repeated), (31, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_settles_what_was_never_acknowledged() {
    let stage = silent_stage().await;
    let task = stage.task_with("a", waiting(LONG)).await;
    stage.submit("7", "s").await.unwrap();
    stage.suggested(1).await;
    assert!(stage.platform.accept("7", "s").await);
    task.counted("earpiece_suggestions_total{outcome=\"taken_up\"}", 1).await;
    task.counted(SENT, 1).await;
    assert_eq!(stage.audited("7").await, ["queued", "injected", "accepted"]);
    assert!(stage.store.interaction(&id("7"), 0).await.unwrap().interaction.is_idle());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_holder_had_written_and_nobody_acknowledged_is_written_once_more_by_its_successor() {
    let stage = silent_stage().await;
    let brief = Settings { lease: LEASE, ..waiting(LONG) };
    let first = stage.task_with("first", brief.clone()).await;
    stage.submit("7", "s").await.unwrap();
    stage.suggested(1).await;
    first.kill().await;
    let killed_at = Instant::now();
    stage.platform.set_policy(AnswerPolicy::default());
    let second = stage.task_with("second", brief).await;
    second.counted(SENT, 1).await;
    // Its claim would have lasted longer.
    assert!(killed_at.elapsed() < LEASE * 8, "{:?}", killed_at.elapsed());
    second.counted(REPEATED, 1).await;
    stage.drained(Lane::Suggestions).await;
    let tally = stage.platform.tally();
    assert_eq!((tally.suggestions, tally.suggestions_repeated), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_hand_over_repeats_nothing_though_nothing_was_acknowledged() {
    let stage = silent_stage().await;
    let first = stage.task_with("first", waiting(LONG)).await;
    for interaction in 0..20 {
        stage.submit(&interaction.to_string(), "s").await.unwrap();
    }
    stage.suggested(20).await;
    let second = stage.task_with("second", waiting(LONG)).await;
    let metrics = first.metrics.clone();
    first.stop().await;
    second.counted("earpiece_uplink_up{uplink=\"suggestions\"}", 1).await;
    stage.drained(Lane::Suggestions).await;
    let sent = format!("{SENT} 20");
    assert!(metrics.text().lines().any(|line| line == sent), "by the one that wrote them");
    let tally = stage.platform.tally();
    assert_eq!((tally.suggestions, tally.suggestions_repeated), (20, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_more_than_can_be_awaited_everything_leaves_once_all_the_same() {
    const INTERACTIONS: usize = 200;
    let stage = silent_stage().await;
    for interaction in 0..INTERACTIONS {
        stage.submit(&interaction.to_string(), "s").await.unwrap();
    }
    let task = stage.task_with("a", waiting(Duration::from_millis(300))).await;
    task.counted(SENT, INTERACTIONS as u64).await;
    stage.drained(Lane::Suggestions).await;
    let tally = stage.platform.tally();
    assert_eq!((tally.suggestions, tally.suggestions_repeated, tally.violations), (INTERACTIONS as u64, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_of_a_former_use_of_an_id_settles_nothing() {
    let stage = Stage::new().await;
    let first = stage.task_with("first", waiting(LONG)).await;
    stage.submit("7", "s").await.unwrap();
    stage.submit("7", "other").await.unwrap();
    first.counted(SENT, 2).await;
    assert!(stage.platform.dismiss("7", "s").await);
    first.counted("earpiece_suggestions_total{outcome=\"dismissed\"}", 1).await;
    first.stop().await;
    // The same id again, and nobody here may send it.
    stage.submit("7", "s").await.unwrap();
    let entry = stage.store.outbox(&id("7"), Lane::Suggestions, 0).await.unwrap().remove(0);
    assert!(stage.store.claim_entry(&entry, 1_000, now_ms(), 1).await.unwrap());
    let second = stage.task_with("second", waiting(LONG)).await;
    assert!(stage.platform.wait_for_socket(Uplink::Suggestions, PATIENCE).await);
    let again = json!({ "type": "agentassist.ack", "interactionId": "7", "suggestionId": "s" });
    assert_eq!(stage.platform.send_event(Uplink::Suggestions, &again, To::All).await, 1);
    // Read after it, by the same reader.
    assert!(stage.platform.dismiss("7", "other").await);
    second.counted("earpiece_suggestions_total{outcome=\"dismissed\"}", 1).await;
    assert!(is_queued(&stage, "7").await, "nobody has written this one");
    second.counted(SENT, 0).await;
}
