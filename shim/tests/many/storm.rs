//! Knowledge is refused, and nobody else notices.

use earpiece_simulator::platform::{Fault, FaultKind, Kind, On, Received, To, Uplink};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::stage::{PATIENCE, SUGGESTIONS, Stage, submit};

/// Searches that are refused: far more than are made while the test runs.
const REFUSALS: u32 = 1_000_000;
const INTERACTIONS: usize = 60;
const SUGGESTIONS_EACH: usize = 5;
const SUBMITTERS: usize = 16;

/// What every interaction keeps asking about.
async fn speak(stage: &Stage, round: usize) {
    for interaction in 0..INTERACTIONS {
        let name = interaction.to_string();
        let text = format!("My bill of month {round} is too high, I want a refund, says caller {interaction}.");
        for event in [
            json!({ "type": "TRANSCRIPT_FRAGMENT", "interactionId": name, "text": text }),
            json!({ "type": "DIALOG_STATE", "interactionId": name, "state": "TURN_END" }),
        ] {
            stage.platform.send_event(Uplink::Insights, &event, To::All).await;
        }
    }
}

fn refused(received: &Received) -> usize {
    received.of(Kind::Search).filter(|record| record.status == 429).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn suggestions_flow_while_every_search_is_answered_429_and_knowledge_comes_after_it() {
    let stage = Stage::open().await;
    let storm = Fault::once(On::Search, FaultKind::TooManyRequests).times(REFUSALS).retry_after_s(0);
    stage.platform.fault(storm).expect("it applies");
    let _shim = stage.start("2s");
    stage.held(SUGGESTIONS).await;
    for uplink in [Uplink::Suggestions, Uplink::Insights] {
        assert!(stage.platform.wait_for_socket(uplink, PATIENCE).await);
    }
    speak(&stage, 0).await;
    let raging = stage.platform.wait_for(PATIENCE, |received| (refused(received) > 0).then_some(refused(received)));
    let refused_before = raging.await.expect("a search is refused");

    let (stage_ref, each) = (&stage, 0..INTERACTIONS * SUGGESTIONS_EACH);
    let submitted = stream::iter(each).map(|nth| async move {
        let (interaction, suggestion) = ((nth % INTERACTIONS).to_string(), format!("s{}", nth / INTERACTIONS));
        let taken = submit(&stage_ref.store, &interaction, &suggestion).await.expect("a store that answers");
        taken.expect("it is taken");
    });
    submitted.buffer_unordered(SUBMITTERS).collect::<()>().await;
    let all = INTERACTIONS * SUGGESTIONS_EACH;
    let arrived =
        stage.platform.wait_for(PATIENCE, |received| (received.tally().suggestions == all as u64).then_some(()));
    arrived.await.expect("every suggestion arrives");
    assert_eq!(stage.platform.tally().searches, 0, "the storm was on all the time");
    assert_eq!(stage.platform.faults().len(), 1, "and it is still on");

    // It is no storm if nobody is out in it.
    speak(&stage, 1).await;
    let more = stage.platform.wait_for(PATIENCE, |received| (refused(received) > refused_before).then_some(()));
    more.await.expect("searches go on being refused");
    stage.platform.clear_faults();
    let told = stage.platform.wait_for(PATIENCE, |received| {
        let told = (0..INTERACTIONS)
            .all(|nth| received.of(Kind::Insight).any(|record| record.is_taken() && record.is_of(&nth.to_string())));
        told.then_some(())
    });
    told.await.expect("knowledge was only late");
}
