//! Suggestions: submitted through the rules and the store, and waited for until their frame is at the platform.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::assist::suggestion::{Priority, Rules, Suggestion, Window};
use earpiece_core::secret::Private;
use tokio::time::{Instant, timeout};

use super::flow::{Flow, Missed};
use super::rig::{Of, Phase, Scene};
use crate::clock::now_ms;

/// After so long a suggestion is counted as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// For how long an agent has a use for one, in milliseconds.
const WINDOW_MS: i64 = 5 * 60 * 1000;

/// Interactions that get suggestions in turn, and suggestions that each of them gets: fewer than may be active, as not
/// every agent answers. Then come others.
const INTERACTIONS_IN_TURN: u64 = 256;
const PER_INTERACTION: u64 = 4;

/// At a rate, by the task itself or by another process.
pub(crate) async fn paced(scene: &Arc<Scene>, phase: Phase, per_second: u32, seconds: u32) -> Flow {
    Flow::paced(per_second, seconds, |nth, due| submit(Arc::clone(scene), phase, nth, due)).await
}

/// As fast as they go.
pub(crate) async fn saturated(scene: &Arc<Scene>, phase: Phase, at_once: u32, seconds: u32) -> Flow {
    let scene = Arc::clone(scene);
    Flow::saturated(at_once, seconds, move |nth, since| submit(Arc::clone(&scene), phase, nth, since)).await
}

/// Submits the nth of a phase, and tells how long after `since` its frame came.
async fn submit(scene: Arc<Scene>, phase: Phase, nth: u64, since: Instant) -> Result<Duration, Missed> {
    let store = if phase == Phase::Elsewhere { &scene.far } else { &scene.near };
    let interaction = phase.interaction(Of::Suggestions, interaction_of(nth));
    let now_ms = now_ms();
    let suggestion = Suggestion {
        id: format!("bench-{}-{nth}", phase as u64),
        content: Private::new("Offer the family plan: it has what was asked for, and costs 5 dollars less.".to_owned()),
        priority: Priority::High,
        relevance_score: 0.9,
        context_window: Window { start_ms: now_ms, end_ms: now_ms + WINDOW_MS },
    };
    let arrival = scene.arrivals.expect(&suggestion.id);
    let rules = Rules::default();
    let submitting = earpiece_uplink::submit(store, &interaction, &suggestion, &rules, scene.keep_ms, now_ms);
    let outcome = match submitting.await {
        Ok(Ok(_)) => match timeout(PATIENCE, arrival).await {
            Ok(Ok(came_at)) => Ok(came_at.saturating_duration_since(since)),
            Ok(Err(_)) | Err(_) => Err("not in time"),
        },
        Ok(Err(rejection)) => Err(rejection.rule()),
        Err(_) => Err("refused by the store"),
    };
    if outcome.is_err() {
        scene.arrivals.give_up(&suggestion.id);
    }
    outcome
}

/// Which interaction the nth suggestion is for.
const fn interaction_of(nth: u64) -> u64 {
    let round = nth / (INTERACTIONS_IN_TURN * PER_INTERACTION);
    round * INTERACTIONS_IN_TURN + nth % INTERACTIONS_IN_TURN
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn no_interaction_gets_more_than_may_be_active() {
        let mut suggestions = BTreeMap::<u64, u64>::new();
        for nth in 0..3 * INTERACTIONS_IN_TURN * PER_INTERACTION {
            *suggestions.entry(interaction_of(nth)).or_default() += 1;
        }
        assert_eq!(suggestions.len() as u64, 3 * INTERACTIONS_IN_TURN);
        assert!(suggestions.values().all(|count| *count == PER_INTERACTION));
        assert!(usize::try_from(PER_INTERACTION).is_ok_and(|count| count < Rules::default().active_max));
    }
}
