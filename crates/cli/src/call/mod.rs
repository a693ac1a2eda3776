//! `call`: one call to any endpoint that claims to speak the hook, and an exact report of what it answered.

mod report;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use earpiece_core::contact::{ContactKey, SAMPLES_PER_MS};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_core::secret::Secret;
use earpiece_simulator::{
    Call, CallError, CallPlan, CallReport, Cut, FRAME_SAMPLES, FrameShape, HoldBy, Progress, Step, TokenPlace,
};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::args::{CallArgs, Hold, TokenIn};
use crate::clips::{self, Speaker};
use crate::figure;
use crate::paint::Tone;
use crate::stage::Stage;
use crate::trouble::{Trouble, chain};
use crate::voice;

/// News of the call that may wait to be shown.
const NEWS_MAX: usize = 256;

/// Pause between the sentences of the built-in voices.
const PAUSE_SAMPLES: usize = 300 * 8;

/// How long the lost connection of `--drop` stays away before it is dialled again.
const DROP_AWAY_MS: u64 = 100;

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Places the call.
///
/// # Errors
///
/// When the plan makes no sense, or a leg was refused or broke.
pub(crate) async fn run(args: &CallArgs, stage: &Stage) -> Result<(), Trouble> {
    let plan = plan_of(args).await?;
    if let Some(folder) = &args.save_sent {
        tokio::fs::create_dir_all(folder)
            .await
            .map_err(|error| Trouble::usage(format!("{} cannot be made: {error}", folder.display())))?;
    }
    let names: Vec<String> = plan.legs.iter().map(|leg| word(&leg.perspective)).collect();
    let watch = Watch { stage, names: &names, samples: planned_samples(&plan), contact: plan.contact };
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
        "is it running, and is the URL right? `earpiece serve` starts one on ws://127.0.0.1:8080/audio"
    };
    Err(Trouble::failed(refusal.map_or_else(|| faults.join("; "), str::to_owned)).next(next))
}

/// The call that the flags describe.
async fn plan_of(args: &CallArgs) -> Result<CallPlan, Trouble> {
    let contact = ContactKey { bus_no: args.bus_no, contact_id: args.contact_id.unwrap_or_else(fresh_contact_id) };
    let mut plan = CallPlan::new(args.url.reveal(), contact);
    for (index, (usual, audio)) in voices(args).await?.into_iter().enumerate() {
        let perspective = args.perspective_as.get(index).cloned().unwrap_or(Value::String(usual.to_owned()));
        plan = plan.leg(perspective, audio);
    }
    if args.perspective_as.len() > plan.legs.len() {
        return Err(Trouble::usage(format!(
            "--perspective-as is given {} times, but the call has {}",
            args.perspective_as.len(),
            figure::plural(plan.legs.len() as u64, "leg")
        )));
    }
    if let Some(token) = &args.token {
        let place = match args.token_in {
            TokenIn::Init => TokenPlace::Init,
            TokenIn::Header => TokenPlace::Header,
            TokenIn::Query => TokenPlace::Query,
        };
        plan = plan.token(Secret::new(token.reveal()), place);
    }
    let frame_samples = args.frame_ms.map(|ms| ms * 8).or(args.frame_samples).unwrap_or(FRAME_SAMPLES);
    plan = plan.frame(FrameShape::fixed(frame_samples).with_jitter(args.jitter_ms, 0));
    if args.save_sent.is_some() {
        plan = plan.keep_audio();
    }
    Ok(with_script(plan, args, frame_samples))
}

/// The voices, with their usual perspectives.
async fn voices(args: &CallArgs) -> Result<Vec<(&'static str, Bytes)>, Trouble> {
    if let Some(mix) = &args.mix {
        return Ok(vec![("MIX", voice::read(mix).await?)]);
    }
    let mut voices = Vec::new();
    if let Some(tx) = &args.tx {
        voices.push(("TX", voice::read(tx).await?));
    }
    if let Some(rx) = &args.rx {
        voices.push(("RX", voice::read(rx).await?));
    }
    if voices.is_empty() {
        let clips = clips::all()?;
        voices.push(("TX", clips::conversation(&clips, Speaker::Contact, PAUSE_SAMPLES)));
        voices.push(("RX", clips::conversation(&clips, Speaker::Agent, PAUSE_SAMPLES)));
    }
    Ok(voices)
}

/// Speech; a hold after one half of it, a lost connection after three quarters.
fn with_script(plan: CallPlan, args: &CallArgs, frame_samples: u32) -> CallPlan {
    let longest = plan.legs.iter().map(|leg| leg.audio.len()).max().unwrap_or(0) as u64;
    let speech_ms = args.seconds.map_or(longest.div_ceil(SAMPLES_PER_MS), |seconds| seconds * 1000);
    if args.hold.is_none() && !args.drop {
        return plan.step(Step::Speak { ms: speech_ms });
    }
    // Each step is rounded up to whole frames: cut at such, so that the sum is what was asked for.
    let frame_ms = (u64::from(frame_samples) / SAMPLES_PER_MS).max(1);
    let whole = |ms: u64| ms / frame_ms * frame_ms;
    let (half_ms, quarter_ms) = (whole(speech_ms / 2), whole(speech_ms / 4));
    let mut plan = plan.step(Step::Speak { ms: half_ms });
    if let Some(hold) = args.hold {
        let by = match hold {
            Hold::Close => HoldBy::Close,
            Hold::Silence => HoldBy::Silence,
        };
        plan = plan.step(Step::Hold { ms: args.hold_ms, by });
    }
    plan = plan.step(Step::Speak { ms: quarter_ms });
    if args.drop {
        plan = plan.step(Step::Drop { leg: 0, away_ms: DROP_AWAY_MS, cut: Cut::Eof });
    }
    plan.step(Step::Speak { ms: speech_ms - half_ms - quarter_ms })
}

/// How long the call will be.
fn planned_samples(plan: &CallPlan) -> u64 {
    let ms = |step: &Step| match step {
        Step::Speak { ms } | Step::Conference { ms, .. } | Step::Hold { ms, .. } => *ms,
        Step::Drop { .. } => 0,
    };
    plan.script.iter().map(ms).sum::<u64>() * SAMPLES_PER_MS
}

/// A contact that no earlier call has used: milliseconds since the Unix epoch.
fn fresh_contact_id() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(1)
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
            Progress::Started | Progress::Speaking { .. } | Progress::Conference { .. } => return,
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    async fn plan(flags: &[&str]) -> Result<CallPlan, Trouble> {
        let line = ["earpiece", "call", "--url", "ws://127.0.0.1:1/audio"].iter().chain(flags);
        let Some(Command::Call(args)) = Args::try_parse_from(line).expect("arguments").command else {
            panic!("another command")
        };
        plan_of(&args).await
    }

    #[tokio::test]
    async fn without_files_two_built_in_voices_speak_once() {
        let plan = plan(&[]).await.expect("a plan");
        let perspectives: Vec<&Value> = plan.legs.iter().map(|leg| &leg.perspective).collect();
        assert_eq!(perspectives, ["TX", "RX"]);
        let speech = plan.legs[0].audio.len() as u64;
        assert!(planned_samples(&plan).abs_diff(speech) < SAMPLES_PER_MS);
    }

    #[tokio::test]
    async fn hold_and_drop_come_within_the_speech() {
        let plan = plan(&["--seconds", "8", "--hold", "close", "--hold-ms", "500", "--drop"]).await.expect("a plan");
        let script = format!("{:?}", plan.script);
        let expected =
            "[Speak(4000 ms), Hold(500 ms by Close), Speak(2000 ms), Drop(leg 0, 100 ms by Eof), Speak(2000 ms)]";
        assert_eq!(script, expected);
        assert_eq!(planned_samples(&plan), 8_500 * SAMPLES_PER_MS);
    }

    #[tokio::test]
    async fn perspectives_are_sent_as_given_and_not_more_than_there_are_legs() {
        let flags = ["--perspective-as", r#"["TX"]"#, "--perspective-as", "1"];
        let sent = plan(&flags).await.expect("a plan");
        assert_eq!(sent.legs.iter().map(|leg| word(&leg.perspective)).collect::<Vec<_>>(), ["TX", "RX"]);
        assert_eq!(sent.legs[0].perspective, json!(["TX"]));
        let three = [&flags[..], &["--perspective-as", "2"]].concat();
        assert!(plan(&three).await.is_err());
    }

    #[tokio::test]
    async fn the_steps_add_up_to_what_was_asked_for() {
        let plan = plan(&["--seconds", "1", "--drop"]).await.expect("a plan");
        assert_eq!(
            format!("{:?}", plan.script),
            "[Speak(500 ms), Speak(240 ms), Drop(leg 0, 100 ms by Eof), Speak(260 ms)]"
        );
    }

    #[tokio::test]
    async fn a_frame_can_be_given_in_either_unit() {
        let by_time = plan(&["--frame-ms", "30", "--jitter-ms", "5"]).await.expect("a plan");
        assert_eq!(by_time.frame, FrameShape::fixed(240).with_jitter(5, 0));
        let by_samples = plan(&["--frame-samples", "240"]).await.expect("a plan");
        assert_eq!(by_samples.frame, FrameShape::fixed(240));
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named() {
        let error = plan(&["--tx", "/nonexistent.wav"]).await.expect_err("no file").text();
        assert!(error.contains("/nonexistent.wav"), "{error}");
    }
}
