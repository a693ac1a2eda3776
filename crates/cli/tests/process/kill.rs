//! kill -9 in mid-call: what is left, with and without a caller who comes back.

use std::path::{Path, PathBuf};

use earpiece_core::audio::wav;
use earpiece_core::contact::StreamId;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::ledger::{GapReason, Ledger};
use earpiece_core::telemetry;
use earpiece_simulator::{Call, CallPlan, Progress, Step};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::serve::{PATIENCE, Serve, file, json};
use crate::{CONTACT, LONG_MS, data, speech};

const SEGMENT: (&str, &str) = ("EARPIECE_SEGMENT", "1s");
const SEGMENT_SAMPLES: u64 = 8_000;

/// Three segments of each stream, and a third of the next: no segment is being cut just then.
const KILLED_AT_MS: u64 = 3_300;

/// What the kernel may have taken for a process that was already dead.
const IN_FLIGHT_SAMPLES: u64 = 1_600;

/// News of a call that may wait.
const NEWS_MAX: usize = 64;

/// Waits until the caller has spoken up to the moment of the kill, and the server is known to listen to both streams.
/// The caller's clock says when: the server's counts move as its segments are cut, which is the moment to avoid.
async fn in_mid_call(serve: &Serve, mut progress: mpsc::Receiver<Progress>) {
    let spoken = async {
        while let Some(progress) = progress.recv().await {
            if matches!(progress, Progress::Speaking { at_sample, .. } if at_sample > 0) {
                return;
            }
        }
        panic!("the call is over");
    };
    timeout(PATIENCE, spoken).await.expect("a call in real time");
    serve.reaches(telemetry::STREAMS_LIVE, 2).await;
    serve.reaches(telemetry::AUDIO_BYTES, 2 * SEGMENT_SAMPLES).await;
}

async fn ledger(data: &Path) -> Ledger {
    let json = file(&data.join(format!("contacts/{CONTACT}/ledger.json"))).await;
    serde_json::from_slice(&json).expect("a ledger")
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_the_contact_goes_on_as_the_next_generation_and_misses_at_most_one_segment() {
    let data = data();
    let arguments = ["--quiet-period", "2s"];
    let environment = [SEGMENT];
    let mut serve = Serve::start(data.path(), "127.0.0.1:0", &arguments, &environment);
    let voice = speech(60_000);
    let plan = CallPlan::new(serve.url(), CONTACT)
        .both(voice.clone(), voice)
        .keep_audio()
        .reconnects_max(500)
        .step(Step::Speak { ms: KILLED_AT_MS })
        .step(Step::Speak { ms: 5_700 });
    let (news, progress) = mpsc::channel(NEWS_MAX);
    let call = tokio::spawn(Call::new(plan).watched_by(news).place());
    in_mid_call(&serve, progress).await;
    serve.kill_9();
    let listen = serve.address.to_string();
    let again = Serve::start(data.path(), &listen, &arguments, &environment);
    let report = call.await.expect("no panic").expect("a call");
    let ledger = ledger(data.path()).await;
    drop(again);

    let recording = file(&data.path().join(format!("contacts/{CONTACT}/recording.wav"))).await;
    let wav = wav::parse(&recording).expect("a WAV file");
    for (channel, leg) in report.legs.iter().enumerate() {
        let perspective = ["TX", "RX"][channel];
        let streams: Vec<_> = ledger.streams.iter().filter(|facts| facts.perspective.label() == perspective).collect();
        assert_eq!(streams.iter().map(|facts| facts.generation).collect::<Vec<_>>(), [Some(1), Some(2)]);
        assert_eq!(streams[0].closed.expect("an end").reason, CloseReason::TaskLost);
        let [before, after] = leg.sent.as_slice() else { panic!("one outage: {:?}", leg.sent) };
        let missing = before.samples - streams[0].samples;
        assert!(missing <= SEGMENT_SAMPLES + IN_FLIGHT_SAMPLES, "{perspective} misses {missing} samples");
        assert_eq!(streams[1].samples, after.samples, "the new generation lost nothing");
        let gap = ledger.gaps.iter().find(|gap| gap.perspective.label() == perspective).expect("a gap");
        assert_eq!(gap.reason, GapReason::TaskLost);
        assert_eq!((gap.position, gap.next_generation), (streams[0].samples, Some(2)));
        assert!(gap.samples >= missing, "what is missing lies in the gap");
        let unwritten = ledger.unwritten.iter().find(|lost| lost.perspective.label() == perspective);
        assert_eq!(unwritten.expect("named").position, streams[0].samples);
        assert_eq!(unwritten.expect("named").samples_max, gap.samples.min(SEGMENT_SAMPLES));

        let recorded: Vec<u8> = wav.data.iter().skip(channel).step_by(2).copied().collect();
        let sent = leg.audio_sent.as_deref().expect("kept");
        let kept = usize::try_from(streams[0].samples).expect("fits");
        assert_eq!(recorded[..kept], sent[..kept], "what was written before the kill is in its place");
        let resumed = usize::try_from(gap.position + gap.samples).expect("fits");
        let tail = &sent[usize::try_from(before.samples).expect("fits")..];
        assert_eq!(&recorded[resumed..resumed + tail.len()], tail, "and what was said after it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_contact_ledger_and_audio_are_there_although_nobody_calls_again() {
    let data = data();
    let folder = data.path().to_str().expect("a Unicode path");
    // Long: only the restart, and neither a caller nor the end of the contact, may bring it back.
    let arguments = ["--quiet-period", "1h"];
    let mut serve = Serve::start(data.path(), "127.0.0.1:0", &arguments, &[SEGMENT]);
    let voice = speech(60_000);
    let plan = CallPlan::new(serve.url(), CONTACT)
        .both(voice.clone(), voice)
        .keep_audio()
        .reconnects_max(0)
        .step(Step::Speak { ms: KILLED_AT_MS })
        .step(Step::Speak { ms: LONG_MS });
    let (news, progress) = mpsc::channel(NEWS_MAX);
    let (hang_up, is_over) = watch::channel(false);
    let call = tokio::spawn(Call::new(plan).watched_by(news).stop_when(is_over).place());
    in_mid_call(&serve, progress).await;
    serve.kill_9();
    hang_up.send_replace(true);
    let report = call.await.expect("no panic").expect("a call");
    let again = Serve::start(data.path(), "127.0.0.1:0", &arguments, &[SEGMENT]);

    let (bus_no, contact_id) = (CONTACT.bus_no.to_string(), CONTACT.contact_id.to_string());
    let shown = json(&["contacts", "show", &bus_no, &contact_id, "--data", folder]);
    assert_eq!(shown["record"]["contact"], serde_json::json!(CONTACT));
    let ledger: Ledger = serde_json::from_value(shown["ledger"].clone()).expect("a ledger");
    assert_eq!(ledger.streams.len(), 2);
    for leg in &report.legs {
        let perspective = leg.perspective.as_str().expect("a word");
        let stream = ledger.streams.iter().find(|facts| facts.perspective.label() == perspective).expect("a stream");
        let missing = leg.samples - stream.samples;
        assert!(missing <= SEGMENT_SAMPLES + IN_FLIGHT_SAMPLES, "{perspective} misses {missing} samples");
        assert!(stream.samples > SEGMENT_SAMPLES, "{perspective} kept {}", stream.samples);
        let sent = leg.audio_sent.as_deref().expect("kept");
        assert_eq!(audio_on_disk(data.path(), stream.stream), sent[..usize::try_from(stream.samples).expect("fits")]);
        assert_eq!(stream.closed, None, "nobody knows yet that its task will not come back");
    }
    drop(again);
}

/// The segments of a stream, one behind the other: their names sort as the stream goes.
fn audio_on_disk(data: &Path, stream: StreamId) -> Vec<u8> {
    let live = data.join(format!("live/{CONTACT}"));
    let mut segments: Vec<_> = std::fs::read_dir(live)
        .expect("segments")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&stream.to_string())))
        .collect();
    segments.sort();
    let audio = |path: &PathBuf| {
        let file = std::fs::read(path).expect("a segment");
        wav::parse(&file).expect("a playable file").data.to_vec()
    };
    segments.iter().flat_map(audio).collect()
}
