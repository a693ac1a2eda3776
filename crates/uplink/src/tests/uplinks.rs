//! What holds for all three sockets: credentials that are refused, connections that break, tokens that are revoked.

use std::time::Duration;

use earpiece_core::assist::Lane;
use earpiece_simulator::platform::{Fault, FaultKind, Kind, On, To, Uplink};
use serde_json::json;
use tokio::time::sleep;

use super::popups::{angry, one_card_each};
use super::stage::{PATIENCE, Stage, Task, steady};
use crate::{Settings, Which};

const ALL: [(Which, Uplink); 3] = [
    (Which::Suggestions, Uplink::Suggestions),
    (Which::Insights, Uplink::Insights),
    (Which::Popups, Uplink::Interactions),
];

fn every_uplink() -> Settings {
    Settings { uplinks: Which::ALL.into(), ..Settings::default() }
}

/// Waits until an uplink's connections have ended so often.
async fn broke(task: &Task, which: Which, times: u64) {
    task.counted(&format!("earpiece_uplink_breaks_total{{uplink=\"{}\"}}", which.label()), times).await;
}

/// Somebody asks about something that there is an article about, and is done.
async fn asks(stage: &Stage, interaction: &str) {
    let fragment = json!({ "type": "TRANSCRIPT_FRAGMENT", "interactionId": interaction, "text": "I was charged twice for the same bill" });
    let turn = json!({ "type": "DIALOG_STATE", "interactionId": interaction, "state": "TURN_END" });
    for event in [fragment, turn] {
        assert_eq!(stage.platform.send_event(Uplink::Insights, &event, To::All).await, 1, "one socket is open");
    }
}

/// Waits until cards were asked for; gives the answer's status.
async fn insights_posted(stage: &Stage, interaction: &str) -> u16 {
    let posted = stage.platform.wait_for(PATIENCE, |received| {
        received.of(Kind::Insight).find(|record| record.is_of(interaction)).map(|record| record.status)
    });
    posted.await.expect("cards in time")
}

fn times_opened(stage: &Stage, uplink: Uplink) -> usize {
    stage.platform.look(|received| {
        received.of(Kind::Opened).filter(|record| record.id.as_deref() == Some(uplink.label())).count()
    })
}

/// Every uplink stops and says so, and does not come back after its usual pause.
async fn stops_every_uplink(stage: &Stage) {
    let task = stage.task_with("a", every_uplink()).await;
    for which in Which::ALL {
        task.counted(&format!("earpiece_uplink_refused{{uplink=\"{}\"}}", which.label()), 1).await;
    }
    let tried = ALL.map(|(_, uplink)| times_opened(stage, uplink));
    assert!(tried.iter().all(|times| (1..=2).contains(times)), "{tried:?}: once, perhaps again with a fresh token");
    // Reconnecting would begin again after a second and a half at the latest.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(ALL.map(|(_, uplink)| times_opened(stage, uplink)), tried);
    for which in Which::ALL {
        task.counted(&format!("earpiece_leases_held{{lease=\"{}\"}}", which.label()), 1).await;
        task.counted(&format!("earpiece_uplink_refused{{uplink=\"{}\"}}", which.label()), 1).await;
        task.counted(&format!("earpiece_uplink_up{{uplink=\"{}\"}}", which.label()), 0).await;
    }
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_failure_stops_each_uplink_and_raises_an_alarm_instead_of_hammering() {
    let stage = Stage::new().await;
    for (_, uplink) in ALL {
        stage.platform.fault(Fault::once(uplink.into(), FaultKind::AuthFailure).times(1_000)).unwrap();
    }
    stops_every_uplink(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_the_scopes_stops_each_uplink_and_raises_an_alarm_instead_of_hammering() {
    stops_every_uplink(&Stage::with_scopes(&["knowledge:read"]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interaction_stream_that_ends_with_1006_or_1011_is_opened_again_and_events_give_cards() {
    let stage = Stage::new().await;
    let task = stage.task_with("a", steady(Which::Popups)).await;
    for (round, kind) in [FaultKind::Abort, FaultKind::Close1011].into_iter().enumerate() {
        assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
        stage.platform.fault(Fault::once(On::InteractionsStream, kind)).unwrap();
        broke(&task, Which::Popups, round as u64 + 1).await;
        assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await, "{kind:?}");
        assert_eq!(stage.platform.send_event(Uplink::Interactions, &angry(round), To::All).await, 1);
        one_card_each(&stage, round + 1).await;
    }
    assert_eq!(times_opened(&stage, Uplink::Interactions), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insight_stream_that_ends_with_1006_or_1011_is_opened_again_and_words_give_cards() {
    let stage = Stage::new().await;
    let task = stage.task_with("a", steady(Which::Insights)).await;
    for (round, kind) in [FaultKind::Abort, FaultKind::Close1011].into_iter().enumerate() {
        assert!(stage.platform.wait_for_socket(Uplink::Insights, PATIENCE).await);
        stage.platform.fault(Fault::once(On::InsightsStream, kind)).unwrap();
        broke(&task, Which::Insights, round as u64 + 1).await;
        assert!(stage.platform.wait_for_socket(Uplink::Insights, PATIENCE).await, "{kind:?}");
        asks(&stage, &round.to_string()).await;
        assert_eq!(insights_posted(&stage, &round.to_string()).await, 200, "{kind:?}");
    }
    assert_eq!(times_opened(&stage, Uplink::Insights), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_tokens_are_replaced_and_every_uplink_works_on_without_an_alarm() {
    let stage = Stage::new().await;
    let task = stage.task_with("a", every_uplink()).await;
    for (_, uplink) in ALL {
        assert!(stage.platform.wait_for_socket(uplink, PATIENCE).await);
    }
    let tokens = stage.platform.tally().tokens;
    assert!(stage.platform.revoke() > 0);
    for (which, uplink) in ALL {
        broke(&task, which, 1).await;
        assert!(stage.platform.wait_for_socket(uplink, PATIENCE).await, "{}", which.label());
    }
    assert!(stage.platform.tally().tokens > tokens, "a fresh token was asked for");
    stage.submit("1", "s").await.unwrap();
    stage.suggested(1).await;
    stage.drained(Lane::Suggestions).await;
    asks(&stage, "2").await;
    assert_eq!(insights_posted(&stage, "2").await, 200);
    assert_eq!(stage.platform.send_event(Uplink::Interactions, &angry(3), To::All).await, 1);
    task.counted("earpiece_popups_total{outcome=\"sent\"}", 1).await;
    for (which, uplink) in ALL {
        task.counted(&format!("earpiece_uplink_refused{{uplink=\"{}\"}}", which.label()), 0).await;
        assert_eq!(times_opened(&stage, uplink), 2);
    }
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn insights_that_cxone_forbids_are_asked_for_once_and_are_a_dead_letter() {
    let stage = Stage::with_scopes(&["agentassist:read", "knowledge:read"]).await;
    let task = stage.task_with("a", steady(Which::Insights)).await;
    assert!(stage.platform.wait_for_socket(Uplink::Insights, PATIENCE).await);
    asks(&stage, "1").await;
    assert_eq!(insights_posted(&stage, "1").await, 403);
    task.counted("earpiece_outbox_entries_total{lane=\"insights\",outcome=\"dead\"}", 1).await;
    stage.drained(Lane::Insights).await;
    assert_eq!(stage.platform.received_of(Kind::Insight).len(), 1);
    let dead = stage.store.dead_entries(10).await.unwrap();
    let reasons: Vec<_> = dead.iter().flat_map(|letter| &letter.dead).map(|dead| dead.reason.as_str()).collect();
    assert_eq!(reasons, ["forbidden"]);
    task.counted("earpiece_outbox_entries_total{lane=\"insights\",outcome=\"retried\"}", 0).await;
}
