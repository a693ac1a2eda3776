//! `bench assistance`: the way back to the agent. How fast is a suggestion, what do transcripts cost, and does a storm of
//! 429s on knowledge hold anything else up?
//!
//! | module | holds |
//! | --- | --- |
//! | `rig` | store, platform and task, in this process |
//! | `arrivals` | when something has come to the platform |
//! | `flow` | load at a rate or as fast as it goes |
//! | `suggestions`, `talk` | the two sorts of load |
//! | `storm` | both beside each other, with CXone refusing searches and without |
//! | `memory` | what an interaction costs that is listened to |
//! | `table` | what is shown |

mod arrivals;
mod flow;
mod memory;
mod rig;
mod storm;
mod suggestions;
mod table;
mod talk;

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, interval};

use self::flow::Flow;
use self::memory::Memory;
use self::rig::{Phase, Rig, Scene};
use self::storm::{Beside, Storm};
use super::host;
use crate::args::AssistanceArgs;
use crate::figure;
use crate::paint::Tone;
use crate::serve::from_store;
use crate::stage::Stage;
use crate::trouble::Trouble;

/// How often a bar moves.
const TICK: Duration = Duration::from_millis(200);

/// About how long measuring memory takes.
const MEMORY: Duration = Duration::from_secs(15);

/// What a suggestion may take in the storm, 99 times of 100.
const STORM_P99_US_MAX: u64 = 250_000;

/// Dead letters that are counted; more are not told apart.
const DEAD_MAX: usize = 1000;

/// Everything that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    /// What an interaction costs that is listened to.
    pub(crate) memory: Memory,
    /// Suggestions and questions at their rates.
    pub(crate) calm: Beside,
    /// The same in the storm.
    pub(crate) storm: Storm,
    /// Suggestions of another process, at their rate.
    pub(crate) elsewhere: Flow,
    /// Suggestions as fast as they go.
    pub(crate) saturated: Flow,
    /// Questions as fast as they go; their times are from the end of a turn to the cards.
    pub(crate) insights: Flow,
    /// What is wrong.
    pub(crate) faults: Vec<String>,
}

/// Measures.
///
/// # Errors
///
/// When something cannot be started, or something was lost.
pub(crate) async fn run(args: &AssistanceArgs, stage: &Stage) -> Result<(), Trouble> {
    let rig = stage.meanwhile("starting a store, a platform and a task", Rig::start()).await?;
    let mut measured = measure(args, stage, &rig).await?;
    measured.faults = faults(&measured, &rig.scene).await?;
    stage.meanwhile("ending them", rig.stop()).await;
    tell(args, stage, &measured)
}

async fn measure(args: &AssistanceArgs, stage: &Stage, rig: &Rig) -> Result<Measured, Trouble> {
    let scene = &rig.scene;
    let seconds = Duration::from_secs(args.seconds.into());
    let storm_seconds = Duration::from_secs(args.storm_seconds.into());
    // Memory first: later, what others have given back would be taken again and not be seen.
    let memory = shown(stage, "1 of 6: memory", MEMORY, memory::measure(rig, args.tracked)).await?;
    let calm = shown(stage, "2 of 6: suggestions at a rate", seconds, storm::calm(scene, args)).await;
    let storm = shown(stage, "3 of 6: in the storm", storm_seconds, storm::storm(scene, args)).await?;
    let elsewhere = suggestions::paced(scene, Phase::Elsewhere, args.rate, args.seconds);
    let elsewhere = shown(stage, "4 of 6: suggestions of another process", seconds, elsewhere).await;
    let saturated = suggestions::saturated(scene, Phase::Saturated, args.at_once, args.seconds);
    let saturated = shown(stage, "5 of 6: suggestions as fast as they go", seconds, saturated).await;
    let insights = talk::saturated(scene, args.at_once, args.seconds, storm::PATIENCE);
    let insights = shown(stage, "6 of 6: transcripts as fast as they go", seconds, insights).await;
    Ok(Measured { memory, calm, storm, elsewhere, saturated, insights, faults: Vec::new() })
}

/// Does work that takes about so long, and shows how far it should be.
async fn shown<T>(stage: &Stage, what: &str, about: Duration, work: impl Future<Output = T>) -> T {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let bar = stage.bar(millis(about));
    bar.set_message(what.to_owned());
    let began = Instant::now();
    let mut ticks = interval(TICK);
    let mut work = Box::pin(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = ticks.tick() => bar.set_position(millis(began.elapsed().min(about))),
        }
    };
    bar.finish_and_clear();
    done
}

/// What was lost, sent twice or not allowed.
async fn faults(measured: &Measured, scene: &Scene) -> Result<Vec<String>, Trouble> {
    let Measured { calm, storm, elsewhere, saturated, insights, .. } = measured;
    let flows = [
        ("suggestions at a rate", &calm.suggestions),
        ("questions before the storm", &calm.questions),
        ("suggestions in the storm", &storm.beside.suggestions),
        ("questions in the storm", &storm.beside.questions),
        ("suggestions of another process", elsewhere),
        ("suggestions as fast as they go", saturated),
        ("questions as fast as they go", insights),
    ];
    let mut faults: Vec<String> = flows.iter().filter_map(|(what, flow)| flow.faults(what)).collect();
    let tally = scene.platform.tally();
    for (what, count) in [
        ("suggestions came twice", tally.suggestions_repeated),
        ("things came that CXone's documents do not allow", tally.violations),
    ] {
        if count > 0 {
            faults.push(format!("{} {what}", figure::count(count)));
        }
    }
    let dead = scene.near.dead_entries(DEAD_MAX).await.map_err(|error| from_store(&error))?;
    if !dead.is_empty() {
        faults.push(figure::plural(dead.len() as u64, "dead letter"));
    }
    Ok(faults)
}

fn tell(args: &AssistanceArgs, stage: &Stage, measured: &Measured) -> Result<(), Trouble> {
    for line in table::markdown(args, measured, &host::describe()) {
        stage.line(line);
    }
    stage.document(&json!({
        "ok": measured.faults.is_empty(),
        "asked": {
            "rate": args.rate,
            "seconds": args.seconds,
            "stormSeconds": args.storm_seconds,
            "questionsPerSecond": args.questions_per_second,
            "atOnce": args.at_once,
            "tracked": args.tracked,
        },
        "host": host::describe(),
        "measured": measured,
    }))?;
    let paint = stage.paint;
    stage.line("");
    let p99_us = measured.storm.beside.suggestions.latency.p99_us;
    let target = format!(
        "p99 in the storm {}; the target is under {}",
        figure::millis(p99_us),
        figure::millis(STORM_P99_US_MAX)
    );
    stage.line(format!("{} {target}", paint.mark(p99_us < STORM_P99_US_MAX)));
    if measured.faults.is_empty() {
        stage.line(format!("{} nothing was lost, and nothing came twice", paint.mark(true)));
        return Ok(());
    }
    for fault in &measured.faults {
        stage.line(format!("{} {}", paint.mark(false), paint.tone(Tone::Bad, fault)));
    }
    Err(Trouble::told())
}
