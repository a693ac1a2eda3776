//! A call is heard, recorded and accounted for to the sample.

use earpiece_core::audio::wav;
use earpiece_core::contact::event::What;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::ledger::{Channels, GapReason, Ledger};
use earpiece_core::protocol::Perspective;
use earpiece_core::protocol::message::CONNECTED;
use earpiece_shim::settings;
use earpiece_simulator::{
    CallPlan, CallReport, Cut, FrameShape, GapCause, HoldBy, InitShape, LegReport, Params, Step, place,
};
use serde_json::{Value, json};

use crate::house::{House, contact, speech};

/// What the ledger says about a perspective's gaps, in the simulator's words.
fn gaps(ledger: &Ledger, perspective: &Perspective) -> Vec<(u64, u64, GapReason)> {
    let of = ledger.gaps.iter().filter(|gap| gap.perspective == *perspective);
    of.map(|gap| (gap.position, gap.samples, gap.reason)).collect()
}

fn done(leg: &LegReport) -> Vec<(u64, u64, GapReason)> {
    leg.gaps
        .iter()
        .map(|gap| {
            let reason = match gap.cause {
                GapCause::HoldClose => GapReason::Closed,
                GapCause::HoldSilence => GapReason::Silence,
                GapCause::Drop => GapReason::Dropped,
                GapCause::Server => GapReason::Drained,
            };
            (gap.at_sample, gap.samples, reason)
        })
        .collect()
}

/// One channel of a recording.
fn channel(recording: &[u8], index: usize) -> Vec<u8> {
    let wav = wav::parse(recording).expect("a WAV file");
    let channels = usize::from(wav.channels.count());
    wav.data.iter().skip(index).step_by(channels).copied().collect()
}

/// A leg's audio as it should lie in a recording of this length: what was sent where it was sent, silence elsewhere.
fn laid_out(leg: &LegReport, samples: u64) -> Vec<u8> {
    let mut expected = vec![0xFF; usize::try_from(samples).expect("fits")];
    let mut sent = leg.audio_sent.as_deref().expect("kept");
    for stretch in &leg.sent {
        let (said, rest) = sent.split_at(usize::try_from(stretch.samples).expect("fits"));
        let at = usize::try_from(stretch.at_sample).expect("fits");
        expected[at..at + said.len()].copy_from_slice(said);
        sent = rest;
    }
    expected
}

fn assert_answers_are_those_of_the_contract(report: &CallReport) {
    for socket in report.legs.iter().flat_map(|leg| &leg.sockets) {
        assert_eq!(socket.answer_text(), Some(CONNECTED));
        assert_eq!(socket.unexpected_frames, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_and_drops_are_in_the_ledger_to_the_sample_and_every_byte_is_in_its_place() {
    let mut house = House::open(&[]).await;
    let key = contact(1);
    let plan = CallPlan::new(house.url(), key)
        .both(speech(9_000, 1), speech(7_000, 2))
        .keep_audio()
        .step(Step::Speak { ms: 1_200 })
        .step(Step::Hold { ms: 700, by: HoldBy::Close })
        .step(Step::Speak { ms: 600 })
        .step(Step::Hold { ms: 900, by: HoldBy::Silence })
        .step(Step::Speak { ms: 600 })
        .step(Step::Drop { leg: 0, away_ms: 300, cut: Cut::Eof })
        .step(Step::Speak { ms: 1_200 });
    let report = place(plan).await.expect("a call");
    assert_answers_are_those_of_the_contract(&report);
    let ledger = house.finished(key).await;
    let [tx, rx] = report.legs.as_slice() else { panic!("two legs") };
    assert_eq!(gaps(&ledger, &Perspective::Tx), done(tx), "{ledger:#?}");
    assert_eq!(gaps(&ledger, &Perspective::Rx), done(rx));
    assert_eq!((tx.gaps.len(), rx.gaps.len()), (3, 2), "the call did what it was to do");
    let recording = house.recording(key);
    assert_eq!(channel(&recording, 0), laid_out(tx, ledger.samples), "left: the contact");
    assert_eq!(channel(&recording, 1), laid_out(rx, ledger.samples), "right: the agent");
    let generations: Vec<_> =
        ledger.streams.iter().map(|facts| (facts.perspective.label(), facts.generation)).collect();
    assert_eq!(generations.iter().filter(|(label, _)| *label == "TX").count(), 3);
    assert!(generations.contains(&("TX", Some(3))) && generations.contains(&("RX", Some(2))));
    assert!(ledger.lost.is_empty() && ledger.unwritten.is_empty() && ledger.overlaps.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_stream_becomes_a_mono_recording_whatever_its_frames_look_like() {
    let mut house = House::open(&[]).await;
    let key = contact(2);
    let plan = CallPlan::new(house.url(), key)
        .leg("MIX", speech(5_000, 3))
        .frame(FrameShape::random(1, 900).with_jitter(15, 120))
        .keep_audio()
        .step(Step::Speak { ms: 2_500 });
    let report = place(plan).await.expect("a call");
    let ledger = house.finished(key).await;
    assert_eq!(ledger.channels, Channels::Mono);
    assert_eq!(ledger.gaps, [], "late frames and bursts are no gaps");
    assert_eq!(channel(&house.recording(key), 0), report.legs[0].audio_sent.as_deref().expect("kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_perspective_and_of_parameters_is_answered_alike() {
    let mut house = House::open(&[]).await;
    let perspectives = [
        json!("TX"),
        json!("rx"),
        json!("Mix"),
        json!("MX"),
        json!(0),
        json!(1),
        json!("2"),
        json!(["RX"]),
        json!("both"),
    ];
    let params = [
        Params::Object(json!({"a": 1})),
        Params::JsonText(json!({"a": "b"})),
        Params::JsonInJson(json!({"a": "b"})),
        Params::CrLfText(json!({"a": "b"})),
        Params::Plain("plain".into()),
        Params::Null,
        Params::Absent,
    ];
    let forms = perspectives.iter().map(|perspective| (perspective.clone(), Params::Null));
    let forms: Vec<(Value, Params)> = forms.chain(params.into_iter().map(|params| (json!("TX"), params))).collect();
    for (index, (perspective, params)) in forms.into_iter().enumerate() {
        let key = contact(100 + index as u64);
        let init = InitShape { app_params: params.clone(), app_config: params, ..InitShape::default() };
        let plan = CallPlan::new(house.url(), key)
            .leg(perspective.clone(), speech(800, 4))
            .init(init)
            .step(Step::Speak { ms: 100 });
        let report = place(plan).await.expect("a call");
        assert_answers_are_those_of_the_contract(&report);
        let ledger = house.finished(key).await;
        assert_eq!(ledger.streams[0].perspective, Perspective::read(&perspective));
        assert_eq!(ledger.streams[0].samples, 800);
    }
    assert_eq!(house.metric("earpiece_unknown_perspectives_total").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_comes_back_after_its_end_continues_and_loses_nothing() {
    let mut house = House::open(&[]).await;
    let key = contact(3);
    let plan = |seed| {
        CallPlan::new(house.url(), key).leg("TX", speech(4_000, seed)).keep_audio().step(Step::Speak { ms: 500 })
    };
    let (first_plan, second_plan) = (plan(5), plan(6));
    let first = place(first_plan).await.expect("a call");
    let before = house.finished(key).await;
    assert_eq!(before.samples, 4_000);
    let second = place(second_plan).await.expect("a call");
    let after = house.finished(key).await;
    assert_eq!(after.pieces[0], before.pieces[0], "nothing that was recorded moved");
    assert_eq!(after.streams.iter().map(|facts| facts.generation).collect::<Vec<_>>(), [Some(1), Some(2)]);
    let recorded = channel(&house.recording(key), 0);
    assert_eq!(&recorded[..4_000], first.legs[0].audio_sent.as_deref().expect("kept"));
    assert_eq!(&recorded[recorded.len() - 4_000..], second.legs[0].audio_sent.as_deref().expect("kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_socket_takes_the_perspective_and_the_older_one_can_write_no_more() {
    let mut house = House::open(&[]).await;
    let key = contact(4);
    let mut watch = house.watch();
    let old = tokio::spawn(place(
        CallPlan::new(house.url(), key).leg("TX", speech(8_000, 7)).reconnects_max(0).step(Step::Speak { ms: 4_000 }),
    ));
    crate::house::wait(&mut watch, |event| matches!(event.what, What::StreamOpened { .. }).then_some(())).await;
    let new = CallPlan::new(house.url(), key).leg("TX", speech(8_000, 8)).step(Step::Speak { ms: 600 });
    place(new).await.expect("a call");
    let old = old.await.expect("no panic").expect("a call");
    let close = old.legs[0].sockets[0].close.clone().expect("closed by the server");
    assert_eq!(close.code, 1000);
    let ledger = house.finished(key).await;
    let reasons: Vec<_> = ledger.streams.iter().filter_map(|facts| facts.closed).map(|closed| closed.reason).collect();
    assert_eq!(reasons, [CloseReason::Superseded, CloseReason::PeerClosed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sockets_with_perspectives_that_nobody_documents_live_side_by_side() {
    let mut house = House::open(&[(settings::STALE, "3s")]).await;
    let key = contact(5);
    let plan = CallPlan::new(house.url(), key)
        .leg("AGENT", speech(8_000, 9))
        .leg("CUSTOMER", speech(8_000, 10))
        .reconnects_max(0)
        .step(Step::Speak { ms: 2_500 });
    let report = place(plan).await.expect("a call");
    let ledger = house.finished(key).await;
    assert_eq!(ledger.streams.len(), 2);
    for facts in &ledger.streams {
        assert_eq!(facts.closed.expect("an end").reason, CloseReason::PeerClosed, "its checkpoints did not end it");
    }
    let received: u64 = ledger.streams.iter().map(|facts| facts.samples).sum();
    assert_eq!(received, report.legs.iter().map(|leg| leg.samples).sum::<u64>());
}
