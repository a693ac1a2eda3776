//! `demo`: a whole call in one process, and the help that comes back to its agent, as a live timeline; and then the proof
//! that what was written down is what happened.

mod assistance;
mod card;
mod check;
mod desk;
mod house;
mod knowledge;
mod script;
mod summary;
mod timeline;

use std::path::{Path, PathBuf};
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::{AppEvent, ContactEvent, What};
use earpiece_core::contact::ledger::Ledger;
use earpiece_simulator::platform::{Answer, Record, To, Uplink};
use earpiece_simulator::{Call, CallError, CallReport, Progress};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::assistance::Books;
use self::desk::Desk;
use self::house::House;
use self::script::{ANGER_SAID, CONTACT, Script, anger};
use self::summary::{Files, Story};
use self::timeline::{Timeline, Who};
use crate::args::DemoArgs;
use crate::clips;
use crate::paint::Tone;
use crate::stage::Stage;
use crate::trouble::{Trouble, chain};

/// How often the strips move.
const TICK: Duration = Duration::from_millis(100);

/// What is never waited for longer: a demo that hangs says so.
const PATIENCE: Duration = Duration::from_secs(36);

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
    // Boxed: what starts everything is large, and the whole demo would carry the room for it.
    let house = Box::pin(House::open(&args.data, script.lines.clone())).await?;
    introduce(stage, &house, &args.data);
    let mut scene = Scene { house, desk: Desk::default(), timeline: Timeline::new(stage), knows_turns: false };
    let outcome = follow(&script, &mut scene).await;
    scene.timeline.close();
    let verdict = match outcome {
        Ok(call) => conclude(stage, &mut scene, &args.data, &call, began).await,
        Err(trouble) => Err(trouble),
    };
    if args.keep && verdict.is_ok() {
        stay(stage, &mut scene).await?;
    }
    let closed = scene.house.close().await;
    verdict.and(closed)
}

fn introduce(stage: &Stage, house: &House, data: &Path) {
    let paint = stage.paint;
    stage.line("");
    stage.line(format!(
        "  {}: a live call from CXone to an assist app, and help back to the agent",
        paint.tone(Tone::Bold, "Earpiece")
    ));
    stage.line("");
    for (tone, name, place) in [
        (Tone::Peer, "CXone", "simulated: its media server dials as the real one does".to_owned()),
        (Tone::Ours, "Earpiece", format!("{}, its state in memory", house.url)),
        (Tone::App, "Assist app", format!("{}, a small reference app that knows its lines", house.app.url())),
        (Tone::Good, "Agent desk", format!("simulated: CXone's platform, {}", house.platform.url())),
        (Tone::Faint, "On disk", data.display().to_string()),
    ] {
        stage.line(format!("  {}  {place}", paint.tone(tone, format!("{name:10}"))));
    }
    stage.line("");
}

/// What runs, who looks at it, and what is shown.
struct Scene<'a> {
    house: House,
    desk: Desk,
    timeline: Timeline<'a>,
    /// Whether it was said already that CXone tells the end of each turn.
    knows_turns: bool,
}

/// What happens next.
enum Next {
    /// Earpiece, or the assist app.
    Event(Result<ContactEvent, RecvError>),
    /// Something came to CXone's platform.
    Records(Vec<Record>),
    /// The agent has thought.
    Thought,
}

impl Scene<'_> {
    /// Waits for the next thing. Loses nothing when dropped.
    async fn next(&mut self) -> Next {
        tokio::select! {
            // What Earpiece heard comes before what came of it.
            biased;
            event = self.house.events.recv() => Next::Event(event),
            records = self.desk.news(&self.house.platform) => Next::Records(records),
            () = self.desk.thought() => Next::Thought,
        }
    }

    /// Shows it, and lets CXone and the agent do what follows. Gives the event back, if it was one.
    async fn show(&mut self, next: Next) -> Result<Option<ContactEvent>, Trouble> {
        match next {
            Next::Event(event) => {
                let Some(event) = seen(event)? else { return Ok(None) };
                self.timeline.event(&event);
                if let What::App(said) = &event.what {
                    self.desk.app_said(event.contact, said);
                    self.turn_over(event.contact, said).await;
                }
                return Ok(Some(event));
            }
            Next::Records(records) => {
                for record in records {
                    if self.desk.is_connected_by(&record) {
                        let what = "has CXone's three sockets: suggestions, insights, events";
                        self.timeline.say(Who::Earpiece, what);
                    }
                    if let Some(arrival) = self.desk.take(&record) {
                        self.timeline.arrival(&arrival);
                    }
                }
            }
            Next::Thought => {
                while let Some(decision) = self.desk.decide() {
                    self.timeline.decision(&decision);
                    let platform = &self.house.platform;
                    match decision.answer {
                        Answer::Accepted => platform.accept(&decision.interaction, &decision.id).await,
                        Answer::Dismissed => platform.dismiss(&decision.interaction, &decision.id).await,
                    };
                }
            }
        }
        Ok(None)
    }

    /// CXone hears, too, when somebody has finished a sentence, and says so on its insight stream.
    async fn turn_over(&mut self, contact: ContactKey, said: &AppEvent) {
        if said.kind != "transcript" {
            return;
        }
        let is_agent = said.body.reveal()["participantId"] == "agent";
        let state = if is_agent { "AGENT_SILENT" } else { "CUSTOMER_SILENT" };
        if !std::mem::replace(&mut self.knows_turns, true) {
            self.timeline.say(Who::Cxone, &format!("says on its insight stream: {state}, a turn is over"));
        }
        let frame = json!({ "type": "DIALOG_STATE", "interactionId": contact.contact_id.to_string(), "state": state });
        self.house.platform.send_event(Uplink::Insights, &frame, To::All).await;
    }

    /// The caller was put on hold and cut off: CXone says what that does to them, and repeats itself.
    async fn anger(&mut self) {
        self.timeline.warn(Who::Cxone, "says that the contact is angry (−0.80), and says it twice");
        self.desk.event_begins();
        for _ in 0..ANGER_SAID {
            let sockets = self.house.platform.send_event(Uplink::Interactions, &anger(), To::All).await;
            self.desk.event_heard(sockets);
        }
    }
}

/// Places the call and tells what happens until its recording is written.
async fn follow(script: &Script, scene: &mut Scene<'_>) -> Result<CallReport, Trouble> {
    let deadline = Instant::now() + PATIENCE;
    let (news, mut progress) = mpsc::channel::<Progress>(NEWS_MAX);
    // Dropped with this function: whatever ends it ends the call.
    let (_hang_up, hung_up) = watch::channel(false);
    scene.timeline.say(Who::Cxone, "dials twice: TX, the contact's voice, and RX, the agent's");
    let plan = script.call(scene.house.url.clone());
    let mut call = tokio::spawn(Call::new(plan).watched_by(news).stop_when(hung_up).place());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut report = None;
    let (mut was_cut_off, mut is_finished) = (false, false);
    loop {
        tokio::select! {
            // What CXone did comes before what Earpiece made of it.
            biased;
            Some(progress) = progress.recv() => {
                scene.timeline.progress(&progress);
                match progress {
                    Progress::Dropped { .. } => was_cut_off = true,
                    Progress::Reconnected { .. } if std::mem::take(&mut was_cut_off) => scene.anger().await,
                    _ => {}
                }
            }
            next = scene.next() => {
                let Some(event) = scene.show(next).await? else { continue };
                let is_the_end = matches!(event.what, What::Finished { .. }) && scene.timeline.is_over();
                is_finished |= is_the_end && event.contact == CONTACT;
            }
            placed = &mut call, if report.is_none() => {
                let placed = placed.map_err(|error| Trouble::failed(format!("the call ended badly: {error}")))?;
                report = Some(placed.map_err(|error| refused(&error))?);
            }
            _ = ticks.tick() => scene.timeline.tick(&scene.house.app),
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
    scene: &mut Scene<'_>,
    data: &Path,
    call: &CallReport,
    began: std::time::Instant,
) -> Result<(), Trouble> {
    let folder = data.join("contacts").join(CONTACT.bus_no.to_string()).join(CONTACT.contact_id.to_string());
    let (recording_file, ledger_file, events_file) =
        (folder.join("recording.wav"), folder.join("ledger.json"), folder.join("events.jsonl"));
    let house = &scene.house;
    let books = Books::settled(house).await?;
    let mut figures = scene.desk.take_figures();
    books.complete(&mut figures);
    // Read from disk, as anybody would: what counts is what was written.
    let recording = read(&recording_file).await?;
    let ledger: Ledger = serde_json::from_slice(&read(&ledger_file).await?)
        .map_err(|error| Trouble::failed(format!("{} is no ledger: {error}", ledger_file.display())))?;
    let heard = |perspective: &_| house.app.heard(CONTACT, perspective);
    let mut checks = check::all(call, &ledger, &recording, &heard);
    checks.extend(books.checks(&figures));
    let is_good = checks.iter().all(|check| check.ok);

    let files = Files { recording: &recording_file, ledger: &ledger_file, events: &events_file };
    let (audit_records, ledger) = (books.audit.len(), &ledger);
    let story = Story { call, ledger, recording: &recording, figures: &figures, audit_records, checks: &checks, files };
    summary::print(stage, &story);
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    stage.document(&json!({
        "ok": is_good,
        "contact": CONTACT,
        "checks": checks,
        "assistance": figures,
        "auditRecords": audit_records,
        "call": call,
        "ledger": ledger,
        "files": { "recording": recording_file, "ledger": ledger_file, "events": events_file },
        "audioUrl": house.url,
        "assistUrl": house.app.url(),
        "platformUrl": house.platform.url(),
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
async fn stay(stage: &Stage, scene: &mut Scene<'_>) -> Result<(), Trouble> {
    // As it was started: nobody has put it anywhere yet.
    let program = std::env::args().next().unwrap_or_else(|| "earpiece".to_owned());
    let paint = stage.paint;
    let house = &scene.house;
    stage.line("");
    stage.line(format!("  {}", paint.tone(Tone::Bold, "Still up, until Ctrl-C. From another terminal:")));
    stage.line(format!("    {program} call --url {} --hold silence --drop", house.url));
    stage.line(format!("    curl {}", house.url.replacen("ws://", "http://", 1).replace("/audio", "/metrics")));
    stage.line(format!("    curl '{}/_platform/received?kind=suggest,insight,card'", house.platform.url()));
    loop {
        tokio::select! {
            next = scene.next() => drop(scene.show(next).await?),
            interrupted = tokio::signal::ctrl_c() => {
                return interrupted.map_err(|error| Trouble::failed(format!("cannot listen for Ctrl-C: {error}")));
            }
        }
    }
}
