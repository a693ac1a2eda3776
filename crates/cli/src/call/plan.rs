//! The call that the flags describe.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use earpiece_core::contact::{ContactKey, SAMPLES_PER_MS};
use earpiece_core::secret::Secret;
use earpiece_simulator::{
    CallPlan, Cut, FRAME_SAMPLES, FrameShape, FrameSize, HoldBy, InitShape, Params, Step, TokenPlace,
};
use serde_json::{Value, json};

use crate::args::{CallArgs, CutBy, Hold, ParamsAs, TokenIn};
use crate::clips::{self, Speaker};
use crate::figure;
use crate::trouble::Trouble;
use crate::voice;

/// Pause between the sentences of the built-in voices.
const PAUSE_SAMPLES: usize = 300 * 8;

/// How long the lost connection of `--drop` stays away before it is dialled again.
const DROP_AWAY_MS: u64 = 100;

/// The call that the flags describe.
///
/// # Errors
///
/// When a file cannot be spoken, or there are more perspectives than legs.
pub(super) async fn of(args: &CallArgs) -> Result<CallPlan, Trouble> {
    let mut plan = CallPlan::new(args.url.reveal(), contact(args)).init(init_of(args.params_as));
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
    let size = args.frame_ms.map(|ms| FrameSize::Fixed { samples: ms * 8 }).or(args.frame_samples);
    let size = size.unwrap_or(FrameSize::Fixed { samples: FRAME_SAMPLES });
    plan = plan.frame(FrameShape { size, late_ms_max: args.jitter_ms, stall_ms: args.stall_ms });
    if args.save_sent.is_some() {
        plan = plan.keep_audio();
    }
    let guest = match &args.conference {
        Some(file) => Some(voice::read(file).await?),
        None => None,
    };
    Ok(with_script(plan, args, guest.as_ref()))
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

/// The init message, its parameters in a form.
fn init_of(form: ParamsAs) -> InitShape {
    let params = |value: Value, plain: &str| match form {
        ParamsAs::Object => Params::Object(value),
        ParamsAs::JsonText => Params::JsonText(value),
        ParamsAs::JsonInJson => Params::JsonInJson(value),
        ParamsAs::Crlf => Params::CrLfText(value),
        ParamsAs::Plain => Params::Plain(plain.to_owned()),
        ParamsAs::Null => Params::Null,
        ParamsAs::Absent => Params::Absent,
    };
    InitShape {
        // The line end is what makes CR LF inside a text.
        app_params: params(json!({ "customerName": "A. Caller", "note": "first line\nsecond line" }), "queue=support"),
        app_config: params(json!({ "language": "en-US" }), "en-US"),
        ..InitShape::default()
    }
}

/// Speech; a further person after one quarter of it, a hold after one half, a lost connection after three quarters.
fn with_script(mut plan: CallPlan, args: &CallArgs, guest: Option<&Bytes>) -> CallPlan {
    let longest = plan.legs.iter().map(|leg| leg.audio.len()).max().unwrap_or(0) as u64;
    let speech_ms = args.seconds.map_or(longest.div_ceil(SAMPLES_PER_MS), |seconds| seconds * 1000);
    // Each step is rounded up to whole frames: cut at such, so that the sum is what was asked for.
    let frame_ms = match plan.frame.size {
        FrameSize::Fixed { samples } => (u64::from(samples) / SAMPLES_PER_MS).max(1),
        FrameSize::Random { .. } => u64::from(FRAME_SAMPLES) / SAMPLES_PER_MS,
    };
    let whole = |ms: u64| ms / frame_ms * frame_ms;
    let joins_ms = whole(speech_ms / 4);
    let stays_ms = args.conference_ms.map_or(joins_ms, whole).max(frame_ms);
    let leaves_ms = joins_ms.saturating_add(stays_ms).min(speech_ms);
    let hold_ms = args.hold.map(|_| whole(speech_ms / 2));
    let drop_ms = args.drop.then(|| whole(speech_ms / 2) + whole(speech_ms / 4));

    let mut cuts: BTreeSet<u64> = hold_ms.into_iter().chain(drop_ms).chain([speech_ms]).collect();
    if guest.is_some() {
        cuts.extend([joins_ms, leaves_ms]);
    }
    let mut at_ms = 0;
    for until_ms in cuts {
        let ms = until_ms - at_ms;
        let present = guest.filter(|_| (joins_ms..leaves_ms).contains(&at_ms));
        if ms > 0 {
            plan = plan.step(match present {
                Some(guest) => Step::Conference { ms, audio: from(guest, at_ms - joins_ms) },
                None => Step::Speak { ms },
            });
        }
        if hold_ms == Some(until_ms)
            && let Some(hold) = args.hold
        {
            let by = match hold {
                Hold::Close => HoldBy::Close,
                Hold::Silence => HoldBy::Silence,
            };
            plan = plan.step(Step::Hold { ms: args.hold_ms, by });
        }
        if drop_ms == Some(until_ms) {
            let cut = match args.cut {
                Some(CutBy::Eof) | None => Cut::Eof,
                Some(CutBy::Reset) => Cut::Reset,
            };
            plan = plan.step(Step::Drop { leg: 0, away_ms: DROP_AWAY_MS, cut });
        }
        at_ms = until_ms;
    }
    plan
}

/// A clip that goes on where it was interrupted: each step would begin it again.
fn from(clip: &Bytes, ms: u64) -> Bytes {
    let samples = usize::try_from(ms * SAMPLES_PER_MS).unwrap_or(0);
    let at = samples.checked_rem(clip.len()).unwrap_or(0);
    if at == 0 {
        return clip.clone();
    }
    [clip.slice(at..), clip.slice(..at)].concat().into()
}

/// How long the call will be.
pub(super) fn samples(plan: &CallPlan) -> u64 {
    let ms = |step: &Step| match step {
        Step::Speak { ms } | Step::Conference { ms, .. } | Step::Hold { ms, .. } => *ms,
        Step::Drop { .. } => 0,
    };
    plan.script.iter().map(ms).sum::<u64>() * SAMPLES_PER_MS
}

/// The contact that the flags name, or one that no earlier call has used: milliseconds since the Unix epoch.
pub(super) fn contact(args: &CallArgs) -> ContactKey {
    let from_clock = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        unlike_others(u64::try_from(since.as_millis()).unwrap_or(1), std::process::id())
    };
    ContactKey { bus_no: args.bus_no, contact_id: args.contact_id.unwrap_or_else(from_clock) }
}

/// A contact id that no other program takes: those that start in the same millisecond differ in their process ids.
/// Below 2^53 until the year 2039, so that every JSON reader keeps it exact.
fn unlike_others(now_ms: u64, process: u32) -> u64 {
    const PROCESSES: u64 = 1 << 12;
    now_ms.saturating_mul(PROCESSES).saturating_add(u64::from(process) % PROCESSES)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::word;
    use super::*;
    use crate::args::{Args, Command};

    async fn plan(flags: &[&str]) -> Result<CallPlan, Trouble> {
        let line = ["earpiece", "call", "--url", "ws://127.0.0.1:1/audio"].iter().chain(flags);
        let Some(Command::Call(args)) = Args::try_parse_from(line).expect("arguments").command else {
            panic!("another command")
        };
        of(&args).await
    }

    #[test]
    fn programs_that_start_at_one_instant_place_calls_of_two_contacts() {
        let now_ms = 1_800_000_000_000;
        assert_ne!(unlike_others(now_ms, 4_095), unlike_others(now_ms, 4_096));
        assert!(unlike_others(now_ms, 4_095) < unlike_others(now_ms + 1, 0));
        assert!(unlike_others(2_160_000_000_000, u32::MAX) < 1 << 53);
    }

    #[tokio::test]
    async fn without_files_two_built_in_voices_speak_once() {
        let plan = plan(&[]).await.expect("a plan");
        let perspectives: Vec<&Value> = plan.legs.iter().map(|leg| &leg.perspective).collect();
        assert_eq!(perspectives, ["TX", "RX"]);
        let speech = plan.legs[0].audio.len() as u64;
        assert!(samples(&plan).abs_diff(speech) < SAMPLES_PER_MS);
    }

    #[tokio::test]
    async fn hold_and_drop_come_within_the_speech() {
        let plan = plan(&["--seconds", "8", "--hold", "close", "--hold-ms", "500", "--drop"]).await.expect("a plan");
        let script = format!("{:?}", plan.script);
        let expected =
            "[Speak(4000 ms), Hold(500 ms by Close), Speak(2000 ms), Drop(leg 0, 100 ms by Eof), Speak(2000 ms)]";
        assert_eq!(script, expected);
        assert_eq!(samples(&plan), 8_500 * SAMPLES_PER_MS);
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
        let script = format!("{:?}", plan.script);
        assert_eq!(script, "[Speak(740 ms), Drop(leg 0, 100 ms by Eof), Speak(260 ms)]");
    }

    #[tokio::test]
    async fn a_frame_can_be_given_in_either_unit() {
        let by_time = plan(&["--frame-ms", "30", "--jitter-ms", "5"]).await.expect("a plan");
        assert_eq!(by_time.frame, FrameShape::fixed(240).with_jitter(5, 0));
        let by_samples = plan(&["--frame-samples", "240"]).await.expect("a plan");
        assert_eq!(by_samples.frame, FrameShape::fixed(240));
        let random = plan(&["--frame-samples", "80-400", "--stall-ms", "300"]).await.expect("a plan");
        assert_eq!(random.frame, FrameShape::random(80, 400).with_jitter(0, 300));
    }

    #[tokio::test]
    async fn a_connection_can_be_lost_with_a_reset() {
        let plan = plan(&["--seconds", "1", "--drop", "--cut", "reset"]).await.expect("a plan");
        assert_eq!(format!("{:?}", plan.script[1]), "Drop(leg 0, 100 ms by Reset)");
    }

    #[tokio::test]
    async fn a_further_person_joins_after_a_quarter_and_goes_on_behind_a_hold() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("guest.ul");
        let voice: Vec<u8> = (0..24_000_u32).map(|index| (index % 251).to_le_bytes()[0]).collect();
        std::fs::write(&file, &voice).expect("a file");
        let file = file.to_str().expect("Unicode");
        let short = plan(&["--seconds", "8", "--conference", file]).await.expect("a plan");
        assert_eq!(format!("{:?}", short.script), "[Speak(2000 ms), Conference(2000 ms), Speak(4000 ms)]");
        let flags = ["--seconds", "8", "--conference", file, "--conference-ms", "9000", "--hold", "silence"];
        let long = plan(&flags).await.expect("a plan");
        let script = format!("{:?}", long.script);
        let expected = "[Speak(2000 ms), Conference(2000 ms), Hold(2000 ms by Silence), Conference(4000 ms)]";
        assert_eq!(script, expected);
        assert_eq!(samples(&long), 10_000 * SAMPLES_PER_MS, "nobody makes the call longer");
        let [_, Step::Conference { audio: before, .. }, _, Step::Conference { audio: after, .. }] = &long.script[..]
        else {
            panic!("{script}")
        };
        assert_eq!(before[..], voice[..]);
        assert_eq!(after[..], [&voice[16_000..], &voice[..16_000]].concat(), "two seconds have been said already");
    }

    #[tokio::test]
    async fn parameters_come_in_the_form_that_was_asked_for() {
        type Judge = fn(&Params) -> bool;
        let forms: [(&str, Judge); 7] = [
            ("object", |params| matches!(params, Params::Object(_))),
            ("json-text", |params| matches!(params, Params::JsonText(_))),
            ("json-in-json", |params| matches!(params, Params::JsonInJson(_))),
            ("crlf", |params| matches!(params, Params::CrLfText(_))),
            ("plain", |params| matches!(params, Params::Plain(_))),
            ("null", |params| matches!(params, Params::Null)),
            ("absent", |params| matches!(params, Params::Absent)),
        ];
        for (form, is_it) in forms {
            let init = plan(&["--params-as", form]).await.expect("a plan").init;
            assert!(is_it(&init.app_params) && is_it(&init.app_config), "{form}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named() {
        let error = plan(&["--tx", "/nonexistent.wav"]).await.expect_err("no file").text();
        assert!(error.contains("/nonexistent.wav"), "{error}");
    }
}
