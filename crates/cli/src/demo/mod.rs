//! `demo`: a whole call in one process, as a live timeline, and then the proof that what was written down is what
//! happened.

mod check;
mod house;
mod script;
mod summary;
mod timeline;

use std::path::{Path, PathBuf};
use std::time::Duration;

use earpiece_core::contact::event::{ContactEvent, What};
use earpiece_core::contact::ledger::Ledger;
use earpiece_simulator::{Call, CallError, CallReport, Progress};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::house::House;
use self::script::{CONTACT, Script};
use self::summary::Files;
use self::timeline::{Timeline, Who};
use crate::args::DemoArgs;
use crate::clips;
use crate::paint::Tone;
use crate::stage::Stage;
use crate::trouble::{Trouble, chain};

/// How often the strips move.
const TICK: Duration = Duration::from_millis(100);

/// What is never waited for longer: a demo that hangs says so.
const PATIENCE: Duration = Duration::from_secs(38);

/// News of the call that may wait to be shown.
const NEWS_MAX: usize = 256;

/// Runs the demo.
///
/// # Errors
///
/// When something cannot be started, the call does not go through, or what was written down is not what happened.
pub(crate) async fn run(args: &DemoArgs, stage: &Stage) -> Result<(), Trouble> {
    let began = std::time::Instant::now();
    let script = Script::new(&clips::all()?)?;
    let mut house = House::open(&args.data, script.lines.clone()).await?;
    introduce(stage, &house, &args.data);
    let mut timeline = Timeline::new(stage);
    let outcome = follow(&script, &mut house, &mut timeline).await;
    timeline.close();
    let verdict = match outcome {
        Ok(call) => conclude(stage, &house, &args.data, &call, began).await,
        Err(trouble) => Err(trouble),
    };
    if args.keep && verdict.is_ok() {
        stay(stage, &mut house, &mut timeline).await?;
    }
    let closed = house.close().await;
    verdict.and(closed)
}

fn introduce(stage: &Stage, house: &House, data: &Path) {
    let paint = stage.paint;
    stage.line("");
    stage.line(format!(
        "  {}: a live call, from CXone to an assist app and onto disk",
        paint.tone(Tone::Bold, "Earpiece")
    ));
    stage.line("");
    for (tone, name, place) in [
        (Tone::Peer, "CXone", "simulated: its media server dials as the real one does".to_owned()),
        (Tone::Ours, "Earpiece", format!("{}, its state in memory", house.url)),
        (Tone::App, "Assist app", format!("{}, a small reference app that knows its lines", house.app.url())),
        (Tone::Faint, "On disk", data.display().to_string()),
    ] {
        stage.line(format!("  {}  {place}", paint.tone(tone, format!("{name:10}"))));
    }
    stage.line("");
}

/// Places the call and tells what happens until its recording is written.
async fn follow(script: &Script, house: &mut House, timeline: &mut Timeline<'_>) -> Result<CallReport, Trouble> {
    let deadline = Instant::now() + PATIENCE;
    let (news, mut progress) = mpsc::channel::<Progress>(NEWS_MAX);
    // Dropped with this function: whatever ends it ends the call.
    let (_hang_up, hung_up) = watch::channel(false);
    timeline.say(Who::Cxone, "dials twice: TX, the contact's voice, and RX, the agent's");
    let mut call = tokio::spawn(Call::new(script.call(house.url.clone())).watched_by(news).stop_when(hung_up).place());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut report = None;
    let mut is_finished = false;
    loop {
        tokio::select! {
            // What CXone did comes before what Earpiece made of it.
            biased;
            Some(progress) = progress.recv() => timeline.progress(&progress),
            event = house.events.recv() => {
                let Some(event) = seen(event)? else { continue };
                timeline.event(&event);
                is_finished |= event.contact == CONTACT && timeline.is_over() && matches!(event.what, What::Finished { .. });
            }
            placed = &mut call, if report.is_none() => {
                let placed = placed.map_err(|error| Trouble::failed(format!("the call ended badly: {error}")))?;
                report = Some(placed.map_err(|error| refused(&error))?);
            }
            _ = ticks.tick() => timeline.tick(&house.app),
            () = sleep_until(deadline) => {
                return Err(Trouble::failed(format!("the demo was not over after {} s", PATIENCE.as_secs()))
                    .next("a machine that is less busy; or EARPIECE_LOG=debug to see what it waits for"));
            }
        }
        if is_finished && let Some(report) = report.take() {
            return Ok(report);
        }
    }
}

/// An event, unless some were missed; then the recording still says all.
fn seen(event: Result<ContactEvent, RecvError>) -> Result<Option<ContactEvent>, Trouble> {
    match event {
        Ok(event) => Ok(Some(event)),
        Err(RecvError::Lagged(_)) => Ok(None),
        Err(RecvError::Closed) => Err(Trouble::failed("the shim went away in mid-call")),
    }
}

fn refused(error: &CallError) -> Trouble {
    let detail = match error {
        CallError::NotAccepted(report) => {
            let sockets = report.legs.iter().flat_map(|leg| &leg.sockets);
            let errors: Vec<&str> = sockets.filter_map(|socket| socket.error.as_deref()).collect();
            if errors.is_empty() { String::new() } else { format!(": {}", errors.join("; ")) }
        }
        CallError::Plan(_) => String::new(),
    };
    Trouble::failed(format!("{}{detail}", chain(error))).next("EARPIECE_LOG=info earpiece demo")
}

/// Compares, sums up, and says where everything is.
async fn conclude(
    stage: &Stage,
    house: &House,
    data: &Path,
    call: &CallReport,
    began: std::time::Instant,
) -> Result<(), Trouble> {
    let folder = data.join("contacts").join(CONTACT.bus_no.to_string()).join(CONTACT.contact_id.to_string());
    let (recording_file, ledger_file, events_file) =
        (folder.join("recording.wav"), folder.join("ledger.json"), folder.join("events.jsonl"));
    // Read from disk, as anybody would: what counts is what was written.
    let recording = read(&recording_file).await?;
    let ledger: Ledger = serde_json::from_slice(&read(&ledger_file).await?)
        .map_err(|error| Trouble::failed(format!("{} is no ledger: {error}", ledger_file.display())))?;
    let heard = |perspective: &_| house.app.heard(CONTACT, perspective);
    let checks = check::all(call, &ledger, &recording, &heard);
    let is_good = checks.iter().all(|check| check.ok);

    let files = Files { recording: &recording_file, ledger: &ledger_file, events: &events_file };
    summary::print(stage, call, &ledger, &recording, &checks, &files);
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    stage.document(&json!({
        "ok": is_good,
        "contact": CONTACT,
        "checks": checks,
        "call": call,
        "ledger": ledger,
        "files": { "recording": recording_file, "ledger": ledger_file, "events": events_file },
        "audioUrl": house.url,
        "assistUrl": house.app.url(),
        "tookMs": took_ms,
    }))?;
    if is_good {
        return Ok(());
    }
    if stage.json {
        return Err(Trouble::told());
    }
    let names: Vec<&str> = checks.iter().filter(|check| !check.ok).map(|check| check.what.as_str()).collect();
    Err(Trouble::failed(format!("this does not hold: {}", names.join("; ")))
        .next("again, on a machine that is less busy; if it fails there too, it is a defect worth a report"))
}

async fn read(file: &PathBuf) -> Result<Vec<u8>, Trouble> {
    tokio::fs::read(file).await.map_err(|error| Trouble::failed(format!("{} cannot be read: {error}", file.display())))
}

/// Stays up and shows further calls, until Ctrl-C.
async fn stay(stage: &Stage, house: &mut House, timeline: &mut Timeline<'_>) -> Result<(), Trouble> {
    // As it was started: nobody has put it anywhere yet.
    let program = std::env::args().next().unwrap_or_else(|| "earpiece".to_owned());
    let paint = stage.paint;
    stage.line("");
    stage.line(format!("  {}", paint.tone(Tone::Bold, "Still up, until Ctrl-C. From another terminal:")));
    stage.line(format!("    {program} call --url {} --hold silence --drop", house.url));
    stage.line(format!("    curl {}", house.url.replacen("ws://", "http://", 1).replace("/audio", "/metrics")));
    loop {
        tokio::select! {
            event = house.events.recv() => {
                if let Some(event) = seen(event)? {
                    timeline.event(&event);
                }
            }
            interrupted = tokio::signal::ctrl_c() => {
                return interrupted.map_err(|error| Trouble::failed(format!("cannot listen for Ctrl-C: {error}")));
            }
        }
    }
}
