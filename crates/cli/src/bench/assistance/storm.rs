//! CXone answers every search with 429 for a while: are suggestions held up, and what becomes of the questions?

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::telemetry as names;
use earpiece_simulator::platform::{Fault, FaultKind, Kind, On, Received, Record};
use serde::Serialize;
use tokio::time::Instant;

use super::flow::Flow;
use super::rig::{Phase, Scene};
use super::{suggestions, talk};
use crate::args::AssistanceArgs;
use crate::trouble::{Trouble, chain};

/// What a 429 asks for: CXone's own default.
const RETRY_AFTER_S: u32 = 5;

/// How long questions may take once there is no storm.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Suggestions and questions beside each other.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Beside {
    /// Suggestions at their rate.
    pub(crate) suggestions: Flow,
    /// Questions at theirs; their times are from the end of a turn to the cards.
    pub(crate) questions: Flow,
}

/// What the storm did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Storm {
    /// What went on meanwhile.
    #[serde(flatten)]
    pub(crate) beside: Beside,
    /// How long it was, in milliseconds.
    pub(crate) length_ms: u64,
    /// Searches that CXone answered with 429.
    pub(crate) searches_refused: u64,
    /// Searches that were not answered because of the storm, these included: CXone was not even asked for the others.
    pub(crate) searches_limited: u64,
    /// Questions whose cards came while it was on.
    pub(crate) delivered_meanwhile: u64,
    /// Questions whose cards came afterwards.
    pub(crate) delivered_afterwards: u64,
    /// How long after its end the last of them came, in milliseconds.
    pub(crate) last_after_ms: u64,
}

/// Without a storm.
pub(crate) async fn calm(scene: &Arc<Scene>, args: &AssistanceArgs) -> Beside {
    let (suggestions, (questions, _)) = tokio::join!(
        suggestions::paced(scene, Phase::Calm, args.rate, args.seconds),
        talk::paced(scene, Phase::Calm, args.questions_per_second, args.seconds, PATIENCE),
    );
    Beside { suggestions, questions }
}

/// With one.
///
/// # Errors
///
/// When the platform does not take the fault.
pub(crate) async fn storm(scene: &Arc<Scene>, args: &AssistanceArgs) -> Result<Storm, Trouble> {
    let length = Duration::from_secs(args.storm_seconds.into());
    let length_ms = u64::from(args.storm_seconds) * 1000;
    let limited = format!("{}{{outcome=\"limited\"}}", names::SEARCHES);
    let limited_before = scene.counted(&limited);
    let newest_before = scene.platform.look(Received::newest);
    let fault = Fault::once(On::Search, FaultKind::TooManyRequests).for_ms(length_ms).retry_after_s(RETRY_AFTER_S);
    scene.platform.fault(fault).map_err(|error| Trouble::failed(chain(&error)))?;
    let over_at = Instant::now() + length;
    let (suggestions, (questions, came_at)) = tokio::join!(
        suggestions::paced(scene, Phase::Storm, args.rate, args.storm_seconds),
        talk::paced(scene, Phase::Storm, args.questions_per_second, args.storm_seconds, length + PATIENCE),
    );
    let refused = scene.platform.look(|received| {
        let is_refused = |record: &&Record| record.kind == Kind::Search && record.status == 429;
        received.since(newest_before).filter(is_refused).count() as u64
    });
    let afterwards: Vec<&Instant> = came_at.iter().filter(|came_at| **came_at >= over_at).collect();
    let last_after = afterwards.iter().map(|came_at| **came_at - over_at).max().unwrap_or_default();
    Ok(Storm {
        length_ms,
        searches_refused: refused,
        searches_limited: scene.counted(&limited).saturating_sub(limited_before),
        delivered_meanwhile: (came_at.len() - afterwards.len()) as u64,
        delivered_afterwards: afterwards.len() as u64,
        last_after_ms: u64::try_from(last_after.as_millis()).unwrap_or(u64::MAX),
        beside: Beside { suggestions, questions },
    })
}
