//! `call`: one call to any endpoint that claims to speak the hook, and an exact report of what it answered.

mod hostile;
mod plan;
mod report;

use std::path::Path;
use std::time::Duration;

use earpiece_core::contact::{ContactKey, SAMPLES_PER_MS};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_simulator::{Call, CallError, CallPlan, CallReport, HoldBy, Progress};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::args::CallArgs;
use crate::figure;
use crate::paint::Tone;
use crate::stage::Stage;
use crate::trouble::{Trouble, chain};

/// News of the call that may wait to be shown.
const NEWS_MAX: usize = 256;

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

/// What is most often wrong when an endpoint is not there at all.
const NOT_REACHED: &str =
    "is it running, and is the URL right? `earpiece serve` starts one on ws://127.0.0.1:8080/audio";

/// Places the call, or misbehaves.
///
/// # Errors
///
/// When the plan makes no sense, a leg was refused or broke, or a misbehaviour was not taken as the contract wants.
pub(crate) async fn run(args: &CallArgs, stage: &Stage) -> Result<(), Trouble> {
    match args.misbehave {
        Some(kind) => hostile::run(args, kind, stage).await,
        None => converse(args, stage).await,
    }
}

async fn converse(args: &CallArgs, stage: &Stage) -> Result<(), Trouble> {
    let plan = plan::of(args).await?;
    if let Some(folder) = &args.save_sent {
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(|error| Trouble::usage(format!("{} cannot be made: {error}", folder.display())))?;
    }
    let names: Vec<String> = plan.legs.iter().map(|leg| word(&leg.perspective)).collect();
    let watch = Watch { stage, names: &names, samples: plan::samples(&plan), contact: plan.contact };
    let placed = watch.place(plan).await;
    let (report, refusal) = match placed {
        Ok(report) => (report, None),
        Err(CallError::NotAccepted(report)) => (*report, Some("no leg of the call was accepted")),
        Err(error @ CallError::Plan(_)) => return Err(Trouble::usage(chain(&error)).next("earpiece call --help")),
    };
    if let Some(folder) = &args.save_sent {
        save(folder, &report).await?;
    }
    let faults = report::faults(&report);
    report::print(stage, &report);
    stage.document(&json!({ "ok": faults.is_empty(), "faults": faults, "call": report::document(&report) }))?;
    if faults.is_empty() {
        return Ok(());
    }
    if stage.json {
        return Err(Trouble::told());
    }
    let next = if report::was_reached(&report) {
        "the answers above say what the endpoint did not like; --token, --token-in and --url are the usual suspects"
    } else {
        NOT_REACHED
    };
    Err(Trouble::failed(refusal.map_or_else(|| faults.join("; "), str::to_owned)).next(next))
}

/// The perspective as people know it, or as it was sent.
fn word(perspective: &Value) -> String {
    match Perspective::read(perspective) {
        Perspective::Unknown(raw) => raw,
        known => known.label().to_owned(),
    }
}

/// The call while it runs.
struct Watch<'a> {
    stage: &'a Stage,
    names: &'a [String],
    samples: u64,
    contact: ContactKey,
}

impl Watch<'_> {
    async fn place(&self, plan: CallPlan) -> Result<CallReport, CallError> {
        let (news, mut progress) = mpsc::channel(NEWS_MAX);
        let (hang_up, is_over) = watch::channel(false);
        let call = Call::new(plan).watched_by(news).stop_when(is_over).place();
        tokio::pin!(call);
        let bar = self.stage.bar(self.samples);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut started = None;
        self.stage.line(format!("  calling as contact {}", self.contact));
        let placed = loop {
            tokio::select! {
                biased;
                Some(progress) = progress.recv() => {
                    if progress == Progress::Started {
                        started = Some(Instant::now());
                    }
                    self.tell(&progress, started);
                }
                placed = &mut call => break placed,
                _ = ticks.tick() => self.advance(&bar, started),
                // Whatever else happens to the signal, the call goes on until it is over.
                Ok(()) = tokio::signal::ctrl_c(), if !*hang_up.borrow() => {
                    self.stage.line("  hanging up");
                    hang_up.send_replace(true);
                }
            }
        };
        while let Ok(progress) = progress.try_recv() {
            self.tell(&progress, started);
        }
        bar.finish_and_clear();
        placed
    }

    fn advance(&self, bar: &ProgressBar, started: Option<Instant>) {
        let Some(started) = started else { return };
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let samples = (elapsed_ms * SAMPLES_PER_MS).min(self.samples);
        bar.set_position(samples);
        bar.set_message(format!("{} of {}", figure::seconds(samples), figure::seconds(self.samples)));
    }

    fn tell(&self, progress: &Progress, started: Option<Instant>) {
        let leg = |leg: &usize| self.names.get(*leg).map_or("?", String::as_str);
        let (text, tone) = match progress {
            Progress::Connected { leg: index, connect_us, ack_us } => {
                let (connect, ack) = (figure::millis(*connect_us), figure::millis(*ack_us));
                (format!("{} open after {connect}, CONNECTED after another {ack}", leg(index)), Tone::Good)
            }
            Progress::Refused { leg: index, close: Some(code) } => {
                (format!("{} refused with close code {code}", leg(index)), Tone::Bad)
            }
            Progress::Refused { leg: index, close: None } => (format!("{} not accepted", leg(index)), Tone::Bad),
            Progress::Started | Progress::Speaking { .. } => return,
            Progress::Conference { samples, .. } => {
                (format!("a further person speaks for {}", figure::seconds(*samples)), Tone::Odd)
            }
            Progress::Hold { samples, by, .. } => {
                let how = match by {
                    HoldBy::Close => "sockets closed",
                    HoldBy::Silence => "sockets open and silent",
                };
                (format!("hold for {}: {how}", figure::seconds(*samples)), Tone::Odd)
            }
            Progress::Dropped { leg: index, .. } => (format!("{} cut without a close frame", leg(index)), Tone::Odd),
            Progress::Lost { leg: index, .. } => (format!("{} lost its connection", leg(index)), Tone::Bad),
            Progress::Reconnected { leg: index, resumes_at_sample } => {
                (format!("{} goes on at {}", leg(index), figure::seconds(*resumes_at_sample)), Tone::Good)
            }
            Progress::GaveUp { leg: index } => (format!("{} stays away", leg(index)), Tone::Bad),
            Progress::Finished { samples } => (format!("over after {}", figure::seconds(*samples)), Tone::Good),
        };
        let paint = self.stage.paint;
        let at_ms = started.map_or(0, |started| u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        let time = paint.tone(Tone::Faint, format!("{:>8}", figure::decimal(at_ms, 3)));
        self.stage.line(format!("{time}  {}", paint.tone(tone, text)));
    }
}

/// Writes the bytes of every leg.
async fn save(folder: &Path, report: &CallReport) -> Result<(), Trouble> {
    for (index, leg) in report.legs.iter().enumerate() {
        let name = Perspective::read(&leg.perspective).label().to_ascii_lowercase();
        let is_taken = report.legs[..index]
            .iter()
            .any(|other| Perspective::read(&other.perspective).label() == Perspective::read(&leg.perspective).label());
        let name = if is_taken { format!("{name}-{}", index + 1) } else { name };
        let file = folder.join(format!("{name}.ul"));
        let audio = leg.audio_sent.as_deref().unwrap_or_default();
        tokio::fs::write(&file, audio)
            .await
            .map_err(|error| Trouble::failed(format!("{} cannot be written: {error}", file.display())))?;
    }
    Ok(())
}
