//! What is said in conversations: fragments and the end of a turn on socket B, and the wait for cards of knowledge.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use earpiece_simulator::platform::{To, Uplink};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::flow::{Flow, Missed};
use super::rig::{Of, Phase, Scene};

/// Fragments of one question. The last one names the interaction, so that no two questions are the same: what was found
/// for one would be shown to the other, and nothing searched.
pub(crate) const FRAGMENTS_PER_QUESTION: u64 = 5;

/// What people ask.
const QUESTIONS: [[&str; 4]; 4] = [
    ["hello I am calling because", "the lights on my router", "have been blinking red", "since yesterday evening"],
    ["I am traveling to Spain", "on Monday and wanted to know", "what the prices for data", "are over there"],
    ["there is a charge on my bill", "that is there twice", "and I would like to have", "one of them back"],
    ["the Wi-Fi in my bedroom", "is very slow", "and the router is", "on the other side of the house"],
];

/// When questions got their cards.
pub(crate) type CameAt = Arc<Mutex<Vec<Instant>>>;

/// At a rate; each may take so long. Also tells when each of the cards came.
pub(crate) async fn paced(
    scene: &Arc<Scene>,
    phase: Phase,
    per_second: u32,
    seconds: u32,
    patience: Duration,
) -> (Flow, Vec<Instant>) {
    let came = CameAt::default();
    let work = |nth, _due| {
        let (scene, came) = (Arc::clone(scene), Arc::clone(&came));
        async move {
            let (took, came_at) = ask(&scene, phase, nth, patience).await?;
            came.lock().unwrap_or_else(PoisonError::into_inner).push(came_at);
            Ok(took)
        }
    };
    let flow = Flow::paced(per_second, seconds, work).await;
    let came = std::mem::take(&mut *came.lock().unwrap_or_else(PoisonError::into_inner));
    (flow, came)
}

/// As fast as they go.
pub(crate) async fn saturated(scene: &Arc<Scene>, at_once: u32, seconds: u32, patience: Duration) -> Flow {
    let scene = Arc::clone(scene);
    let work = move |nth, _since| {
        let scene = Arc::clone(&scene);
        async move { ask(&scene, Phase::Insights, nth, patience).await.map(|(took, _)| took) }
    };
    Flow::saturated(at_once, seconds, work).await
}

/// Says the nth question of a phase in an interaction of its own. Tells how long after the end of the turn its cards
/// were posted, and when that was.
async fn ask(scene: &Scene, phase: Phase, nth: u64, patience: Duration) -> Result<(Duration, Instant), Missed> {
    let interaction = phase.interaction(Of::Talk, nth);
    let interaction = interaction.as_str();
    let arrival = scene.arrivals.expect(interaction);
    let mut since = Instant::now();
    for event in events(interaction, nth) {
        since = Instant::now();
        if scene.platform.send_event(Uplink::Insights, &event, To::Newest).await == 0 {
            scene.arrivals.give_up(interaction);
            return Err("no socket");
        }
    }
    if let Ok(Ok(came_at)) = timeout(patience, arrival).await {
        return Ok((came_at.saturating_duration_since(since), came_at));
    }
    scene.arrivals.give_up(interaction);
    Err("not in time")
}

/// The fragments, and the end of the turn.
fn events(interaction: &str, nth: u64) -> impl Iterator<Item = Value> {
    let place = usize::try_from(nth % QUESTIONS.len() as u64).unwrap_or_default();
    let words = QUESTIONS.get(place).into_iter().flatten().map(|words| (*words).to_owned());
    let said = words.chain([format!("my number is {interaction}")]);
    let fragments =
        said.map(move |text| json!({ "type": "TRANSCRIPT_FRAGMENT", "interactionId": interaction, "text": text }));
    fragments.chain([json!({ "type": "DIALOG_STATE", "interactionId": interaction, "state": "TURN_END" })])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_as_many_fragments_as_are_counted_and_then_the_turn_ends() {
        let events: Vec<Value> = events("7", 3).collect();
        assert_eq!(events.first().map(|event| event["interactionId"].clone()), Some("7".into()));
        let fragments = events.iter().filter(|event| event["type"] == "TRANSCRIPT_FRAGMENT").count() as u64;
        assert_eq!(fragments, FRAGMENTS_PER_QUESTION);
        assert_eq!(events.last().map(|event| event["state"].clone()), Some("TURN_END".into()));
    }
}
