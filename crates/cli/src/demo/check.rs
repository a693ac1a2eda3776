//! Whether what Earpiece wrote down is what CXone did: to the sample.
//!
//! The two sides know nothing of each other: the simulator keeps its own books of what it sent, the ledger says what was
//! received. Sample 0 of both is the first one of the call.

use earpiece_core::audio::ulaw;
use earpiece_core::audio::wav;
use earpiece_core::contact::ledger::{GapReason, Ledger};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_simulator::{CallReport, GapCause, Heard, LegReport};
use serde::Serialize;

use crate::figure;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What is compared.
    pub(crate) what: String,
    /// Whether it holds.
    pub(crate) ok: bool,
    /// What differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) differs: Vec<String>,
}

impl Check {
    /// A comparison, and what differed.
    pub(super) fn of(what: impl Into<String>, differs: Vec<String>) -> Self {
        Self { what: what.into(), ok: differs.is_empty(), differs }
    }
}

/// A gap, in words that both sides share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SharedGap {
    position: u64,
    samples: u64,
    reason: GapReason,
}

impl SharedGap {
    fn describe(gap: Option<&Self>) -> String {
        gap.map_or_else(
            || "none".to_owned(),
            |gap| format!("{:?} of {} samples at {}", gap.reason, gap.samples, gap.position),
        )
    }
}

/// What the assist app heard of one leg.
pub(crate) type HeardBy<'a> = &'a dyn Fn(&Perspective) -> Option<Heard>;

/// Makes every comparison.
pub(crate) fn all(call: &CallReport, ledger: &Ledger, recording: &[u8], heard: HeardBy<'_>) -> Vec<Check> {
    vec![
        Check::of("every frame and every sample that was sent has arrived", counts(call, ledger)),
        Check::of("the ledger's gaps are what CXone did, to the sample", gaps(call, ledger)),
        Check::of("every re-handshake is the next generation of the same contact", generations(call, ledger)),
        Check::of("recording.wav has every byte in its place, and silence elsewhere", recorded(call, recording)),
        Check::of("the assist app has heard every byte, in order", relayed(call, heard)),
        Check::of("nothing was lost, and nothing overlaps", losses(ledger)),
    ]
}

fn perspective(leg: &LegReport) -> Perspective {
    Perspective::read(&leg.perspective)
}

fn counts(call: &CallReport, ledger: &Ledger) -> Vec<String> {
    let mut differs = Vec::new();
    for leg in &call.legs {
        let perspective = perspective(leg);
        let streams = ledger.streams.iter().filter(|stream| stream.perspective == perspective);
        let (frames, samples) =
            streams.fold((0, 0), |(frames, samples), stream| (frames + stream.frames, samples + stream.samples));
        if (frames, samples) != (leg.frames, leg.samples) {
            differs.push(format!(
                "{perspective}: sent {} with {} samples, received {} with {}",
                figure::plural(leg.frames, "frame"),
                figure::count(leg.samples),
                figure::plural(frames, "frame"),
                figure::count(samples)
            ));
        }
    }
    if call.samples != ledger.samples {
        differs.push(format!("the call lasted {} samples, the recording has {}", call.samples, ledger.samples));
    }
    differs
}

fn gaps(call: &CallReport, ledger: &Ledger) -> Vec<String> {
    let mut differs = Vec::new();
    for leg in &call.legs {
        let perspective = perspective(leg);
        let made: Vec<SharedGap> = leg
            .gaps
            .iter()
            .map(|gap| SharedGap { position: gap.at_sample, samples: gap.samples, reason: expected_reason(gap.cause) })
            .collect();
        let found: Vec<SharedGap> = ledger
            .gaps
            .iter()
            .filter(|gap| gap.perspective == perspective)
            .map(|gap| SharedGap { position: gap.position, samples: gap.samples, reason: gap.reason })
            .collect();
        for index in 0..made.len().max(found.len()) {
            let (made, found) = (made.get(index), found.get(index));
            if made != found {
                let (made, found) = (SharedGap::describe(made), SharedGap::describe(found));
                differs.push(format!("{perspective}: CXone made {made}, the ledger has {found}"));
            }
        }
    }
    differs
}

/// What a server must take a gap for.
const fn expected_reason(cause: GapCause) -> GapReason {
    match cause {
        GapCause::HoldClose => GapReason::Closed,
        GapCause::HoldSilence => GapReason::Silence,
        GapCause::Drop | GapCause::Server => GapReason::Dropped,
    }
}

fn generations(call: &CallReport, ledger: &Ledger) -> Vec<String> {
    let mut differs = Vec::new();
    for leg in &call.legs {
        let perspective = perspective(leg);
        let sockets = leg.sockets.iter().filter(|socket| socket.connected).count() as u64;
        let expected: Vec<Option<u64>> = (1..=sockets).map(Some).collect();
        let streams = ledger.streams.iter().filter(|stream| stream.perspective == perspective);
        let found: Vec<Option<u64>> = streams.map(|stream| stream.generation).collect();
        if found != expected {
            let found: Vec<String> =
                found.iter().map(|number| number.map_or_else(|| "none".into(), |number| number.to_string())).collect();
            differs.push(format!("{perspective}: {sockets} sockets, but generations {}", found.join(", ")));
        }
    }
    differs
}

fn recorded(call: &CallReport, recording: &[u8]) -> Vec<String> {
    let wav = match wav::parse(recording) {
        Ok(wav) => wav,
        Err(error) => return vec![error.to_string()],
    };
    let channels = usize::from(wav.channels.count());
    let mut differs = Vec::new();
    for leg in &call.legs {
        let perspective = perspective(leg);
        let channel = usize::from(perspective == Perspective::Rx);
        let found = wav.data.iter().skip(channel).step_by(channels);
        let expected = laid_out(leg, wav.frames());
        if let Some(at) = found.zip(&expected).position(|(found, expected)| found != expected) {
            differs.push(format!("{perspective}: differs from sample {at} on"));
        }
    }
    differs
}

/// What the call's media clock heard of a leg: its bytes where they were sent, silence elsewhere.
pub(crate) fn laid_out(leg: &LegReport, samples: usize) -> Vec<u8> {
    let mut track = vec![ulaw::SILENCE; samples];
    let mut audio = leg.audio_sent.as_deref().unwrap_or_default().iter();
    for stretch in &leg.sent {
        let from = usize::try_from(stretch.at_sample).unwrap_or(usize::MAX);
        let count = usize::try_from(stretch.samples).unwrap_or(usize::MAX);
        // Every byte of the stretch is taken, also one for which the recording has no place.
        for (index, code) in audio.by_ref().take(count).enumerate() {
            if let Some(place) = track.get_mut(from.saturating_add(index)) {
                *place = *code;
            }
        }
    }
    track
}

fn relayed(call: &CallReport, heard: HeardBy<'_>) -> Vec<String> {
    let mut differs = Vec::new();
    for leg in &call.legs {
        let perspective = perspective(leg);
        let heard = heard(&perspective).unwrap_or_default();
        if heard.audio.as_deref() != leg.audio_sent.as_deref() {
            differs.push(format!(
                "{perspective}: {} samples sent, {} heard, {} lost on the way",
                figure::count(leg.samples),
                figure::count(heard.samples),
                figure::count(heard.lost)
            ));
        }
    }
    differs
}

fn losses(ledger: &Ledger) -> Vec<String> {
    let lost = ledger
        .lost
        .iter()
        .map(|lost| format!("{}: {} samples ({})", lost.perspective, lost.samples, lost.reason.label()));
    let unwritten = ledger.unwritten.iter().map(|unwritten| format!("{}: not written", unwritten.perspective));
    let overlaps =
        ledger.overlaps.iter().map(|overlap| format!("{}: {} samples twice", overlap.perspective, overlap.samples));
    lost.chain(unwritten).chain(overlaps).collect()
}

#[cfg(test)]
mod tests {
    use earpiece_core::audio::wav::{Channels, Format};
    use earpiece_core::contact::StreamId;
    use earpiece_core::contact::facts::{CloseReason, Closed, Run, StreamFacts};
    use earpiece_simulator::{MediaGap, SocketReport, Stretch};
    use serde_json::json;

    use super::super::script::CONTACT;
    use super::*;

    /// Two frames, a hold of three, one frame.
    fn leg() -> LegReport {
        let socket = || SocketReport { connected: true, ..SocketReport::default() };
        LegReport {
            perspective: json!("TX"),
            sockets: vec![socket(), socket()],
            sent: vec![Stretch { at_sample: 0, samples: 320 }, Stretch { at_sample: 800, samples: 160 }],
            gaps: vec![MediaGap { at_sample: 320, samples: 480, cause: GapCause::HoldClose }],
            missing_tail: None,
            frames: 3,
            samples: 480,
            late_us_max: 0,
            gave_up: false,
            audio_sent: Some((0..480).map(|index| u8::try_from(index % 251).expect("a byte")).collect()),
        }
    }

    fn call() -> CallReport {
        CallReport { contact: CONTACT, legs: vec![leg()], samples: 960, stopped: false }
    }

    fn facts(generation: u64, anchor_us: i64, frames: u64) -> StreamFacts {
        StreamFacts {
            contact: CONTACT,
            stream: StreamId::new(),
            perspective: Perspective::Tx,
            generation: Some(generation),
            opened_us: anchor_us,
            degraded: false,
            task: "test".into(),
            segment_ms: 5000,
            frames,
            samples: frames * 160,
            frame_samples: Some(160),
            runs: vec![Run { first_sample: 0, samples: frames * 160, anchor_us, drift_samples: 0 }],
            runs_joined: 0,
            lost: Vec::new(),
            closed: Some(Closed { at_us: anchor_us, reason: CloseReason::PeerClosed }),
            telemetry: None,
            unknown_fields: 0,
        }
    }

    fn ledger(second_at_us: i64) -> Ledger {
        Ledger::lay_out(CONTACT, None, vec![facts(1, 0, 2), facts(2, second_at_us, 1)])
    }

    fn recording() -> Vec<u8> {
        let left = laid_out(&leg(), 960);
        let stereo: Vec<u8> = left.iter().flat_map(|&code| [code, ulaw::SILENCE]).collect();
        wav::file(Format::Ulaw, Channels::Stereo, &stereo, &[]).expect("a file")
    }

    fn heard() -> Heard {
        Heard { samples: 480, audio: leg().audio_sent, ..Heard::default() }
    }

    #[test]
    fn a_ledger_that_says_what_was_done_passes() {
        let checks = all(&call(), &ledger(100_000), &recording(), &|_| Some(heard()));
        assert!(checks.iter().all(|check| check.ok), "{checks:#?}");
    }

    #[test]
    fn a_gap_that_is_one_frame_longer_fails_and_is_named() {
        let checks = all(&call(), &ledger(120_000), &recording(), &|_| Some(heard()));
        let gaps = &checks[1];
        assert!(!gaps.ok);
        assert_eq!(
            gaps.differs,
            ["TX: CXone made Closed of 480 samples at 320, the ledger has Closed of 640 samples at 320"]
        );
    }

    #[test]
    fn one_wrong_byte_in_the_recording_fails_and_is_named() {
        let mut recording = recording();
        let last = recording.len() - 2;
        recording[last] ^= 1;
        let checks = all(&call(), &ledger(100_000), &recording, &|_| Some(heard()));
        assert_eq!(checks[3].differs, ["TX: differs from sample 959 on"]);
    }

    #[test]
    fn what_the_assist_app_did_not_hear_fails() {
        let checks = all(&call(), &ledger(100_000), &recording(), &|_| None);
        assert!(!checks[4].ok && checks.iter().filter(|check| !check.ok).count() == 1);
    }
}
