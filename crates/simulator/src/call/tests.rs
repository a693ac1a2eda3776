//! Calls against a tiny endpoint. Time is virtual: a frame that leaves a microsecond late is seen to.

use std::time::Duration;

use bytes::Bytes;
use earpiece_core::audio::ulaw;
use earpiece_core::contact::ContactKey;
use earpiece_core::secret::Secret;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::plan::{Cut, FrameShape, Pace, Step, TokenPlace};
use crate::report::{GapCause, MediaGap, Side, Stretch};
use crate::testing::{CONNECTED, Endpoint as Server, Heard, Manner};

const CONTACT: ContactKey = ContactKey { bus_no: 7, contact_id: 99 };

/// Audio in which every position can be told from its neighbours.
fn numbered(samples: u32, seed: u32) -> Bytes {
    (0..samples).map(|index| u8::try_from((index.wrapping_mul(2_654_435_761) ^ seed) >> 24).unwrap()).collect()
}

fn plan(server: &Server) -> CallPlan {
    CallPlan::new(&server.url, CONTACT).leg(json!("TX"), numbered(80_000, 1)).keep_audio()
}

/// What a frame's arrival says about when it left, in microseconds after the first frame's own beginning.
fn left_us(heard: &Heard) -> Vec<u128> {
    let zero = heard.frames[0].0;
    heard.frames.iter().map(|(at, _)| (*at - zero).as_micros()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_byte_arrives_on_its_20_millisecond_deadline() {
    let server = Server::start(&[Manner::Listen]).await;
    let report = place(plan(&server).step(Step::Speak { ms: 500 })).await.unwrap();

    let heard = &server.over(1).await[0];
    assert_eq!(heard.audio(), numbered(80_000, 1)[..4000]);
    assert_eq!(left_us(heard), (0..25).map(|frame| frame * 20_000).collect::<Vec<u128>>());
    assert_eq!(heard.close, Some(1000));

    let leg = &report.legs[0];
    assert_eq!(leg.audio_sent.as_deref(), Some(&heard.audio()[..]));
    assert_eq!((leg.frames, leg.samples, report.samples), (25, 4000, 4000));
    assert_eq!(leg.sent, [Stretch { at_sample: 0, samples: 4000 }]);
    assert_eq!(leg.gaps, []);
    assert_eq!(leg.sockets.len(), 1);
    assert_eq!(leg.sockets[0].answer_text(), Some(CONNECTED));
    assert!(leg.sockets[0].ack_us.is_some() && leg.sockets[0].error.is_none(), "{leg:?}");
    assert_eq!(leg.sockets[0].close.as_ref().map(|close| (close.code, close.by)), Some((1000, Side::Us)));
    assert!(report.is_clean() && !report.stopped);
}

#[tokio::test(start_paused = true)]
async fn a_hold_by_close_reopens_with_an_identical_handshake_and_its_gap_is_exact() {
    let server = Server::start(&[Manner::Listen]).await;
    let plan = plan(&server)
        .leg(json!(1), numbered(80_000, 2))
        .step(Step::Speak { ms: 100 })
        .step(Step::Hold { ms: 300, by: HoldBy::Close })
        .step(Step::Speak { ms: 100 });
    let report = place(plan).await.unwrap();
    server.over(4).await;

    for (leg, perspective) in [(0, json!("TX")), (1, json!(1))] {
        let sockets = server.of(&perspective);
        assert_eq!(sockets.len(), 2);
        assert_eq!(sockets[0].init, sockets[1].init);
        assert_eq!((sockets[0].close, sockets[1].close), (Some(1000), Some(1000)));
        let leg = &report.legs[leg];
        let [gap] = leg.gaps[..] else { panic!("{:?}", leg.gaps) };
        assert_eq!((gap.at_sample, gap.cause), (800, GapCause::HoldClose));
        // The hold is 2400 samples; the handshake after it may cost whole frames.
        assert!(gap.samples >= 2400 && gap.samples.is_multiple_of(160), "{gap:?}");
        let heard: Vec<usize> = sockets.iter().map(|heard| heard.audio().len()).collect();
        let sent: Vec<u64> = leg.sockets.iter().map(|socket| socket.samples).collect();
        assert_eq!(heard.iter().map(|&bytes| bytes as u64).collect::<Vec<_>>(), sent);
        // On the wall clock the first frame after the hold is as far from the first one of the call as the gap says.
        let between = sockets[1].frames[0].0 - sockets[0].frames[0].0;
        assert_eq!(between.as_micros(), u128::from(gap.at_sample + gap.samples) * 125);
        // The voice goes on where it was, less what the handshake cost.
        let lost = usize::try_from(gap.samples - 2400).unwrap();
        let clip = if leg.perspective == json!(1) { numbered(80_000, 2) } else { numbered(80_000, 1) };
        assert_eq!(sockets[1].audio(), clip[800 + lost..1600]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_by_silence_keeps_the_socket_and_resumes_on_time() {
    let server = Server::start(&[Manner::Listen]).await;
    let plan = plan(&server)
        .step(Step::Speak { ms: 60 })
        .step(Step::Hold { ms: 1000, by: HoldBy::Silence })
        .step(Step::Speak { ms: 40 });
    let report = place(plan).await.unwrap();
    let heard = server.over(1).await;
    assert_eq!(heard.len(), 1);
    assert_eq!(left_us(&heard[0]), [0, 20_000, 40_000, 1_060_000, 1_080_000]);
    assert_eq!(report.legs[0].gaps, [MediaGap { at_sample: 480, samples: 8000, cause: GapCause::HoldSilence }]);
    assert_eq!(heard[0].audio(), numbered(80_000, 1)[..800]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_leg_loses_its_audio_while_the_other_goes_on() {
    for cut in [Cut::Eof, Cut::Reset] {
        let server = Server::start(&[Manner::Listen]).await;
        let plan = plan(&server)
            .leg(json!("RX"), numbered(80_000, 2))
            .step(Step::Speak { ms: 200 })
            .step(Step::Drop { leg: 0, away_ms: 100, cut })
            .step(Step::Speak { ms: 400 });
        let report = place(plan).await.unwrap();
        server.over(3).await;

        let (tx, rx) = (server.of(&json!("TX")), server.of(&json!("RX")));
        assert_eq!((tx.len(), rx.len()), (2, 1));
        assert_eq!(tx[0].close, None, "a cut connection sends no close frame");
        assert_eq!(tx[0].init, tx[1].init);
        assert_eq!(rx[0].audio(), numbered(80_000, 2)[..4800]);
        assert_eq!(report.legs[1].gaps, []);

        let [gap] = report.legs[0].gaps[..] else { panic!("{:?}", report.legs[0].gaps) };
        assert_eq!((gap.at_sample, gap.cause), (1600, GapCause::Drop));
        assert!(gap.samples >= 800 && gap.samples.is_multiple_of(160), "{gap:?}");
        let resumed = usize::try_from(gap.at_sample + gap.samples).unwrap();
        let clip = numbered(80_000, 1);
        assert_eq!(tx[0].audio(), clip[..1600]);
        assert_eq!(tx[1].audio(), clip[resumed..4800]);
        assert!(report.legs[0].sockets[0].cut);
        assert_eq!(report.legs[0].samples + gap.samples, 4800);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_restarts_or_vanishes_is_dialled_again() {
    for manners in
        [&[Manner::CloseAfter(5, 1012), Manner::Listen] as &'static [Manner], &[Manner::VanishAfter(5), Manner::Listen]]
    {
        let server = Server::start(manners).await;
        let report = place(plan(&server).step(Step::Speak { ms: 1000 })).await.unwrap();
        server.over(2).await;
        let leg = &report.legs[0];
        let [gap] = leg.gaps[..] else { panic!("{:?}", leg.gaps) };
        assert_eq!(gap.cause, GapCause::Server);
        assert!(gap.at_sample >= 800 && gap.samples.is_multiple_of(160), "{gap:?}");
        assert_eq!(leg.samples + gap.samples, 8000);
        assert_eq!(server.heard()[1].init, server.heard()[0].init);
        assert!(report.is_clean());
        if let Manner::CloseAfter(..) = manners[0] {
            assert_eq!(leg.sockets[0].close.as_ref().map(|close| (close.code, close.by)), Some((1012, Side::Server)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_closing_is_given_up_after_the_stated_number_of_attempts() {
    let server = Server::start(&[Manner::CloseAfter(1, 1012)]).await;
    let report = place(plan(&server).step(Step::Speak { ms: 60_000 }).reconnects_max(3)).await.unwrap();
    assert_eq!(report.legs[0].sockets.len(), 4);
    assert!(report.legs[0].gave_up && !report.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_says_why_and_is_not_tried_again() {
    let server = Server::start(&[Manner::Refuse(1008)]).await;
    let Err(CallError::NotAccepted(report)) = place(plan(&server)).await else { panic!("accepted") };
    let [socket] = &report.legs[0].sockets[..] else { panic!("{report:?}") };
    assert!(socket.answer_text().unwrap().contains("ERROR") && !socket.connected);
    assert_eq!(socket.close.as_ref().map(|close| close.code), Some(1008));
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_server_is_tried_again() {
    let server = Server::start(&[Manner::Refuse(1013), Manner::Listen]).await;
    let report = place(plan(&server).step(Step::Speak { ms: 40 })).await.unwrap();
    assert_eq!(report.legs[0].sockets.iter().map(|socket| socket.connected).collect::<Vec<_>>(), [false, true]);
    assert_eq!(report.legs[0].gaps, [], "the clock starts when the call is answered");
}

#[tokio::test]
async fn nobody_listening_is_an_error_without_the_url() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let plan = CallPlan::new(format!("ws://{address}/?token=hunter2"), CONTACT).leg(json!("TX"), vec![1]);
    let Err(CallError::NotAccepted(report)) = place(plan.reconnects_max(1)).await else { panic!("accepted") };
    assert_eq!(report.legs[0].sockets.len(), 2);
    let error = report.legs[0].sockets[0].error.clone().unwrap();
    assert!(error.contains("could not connect") && !error.contains("hunter2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_token_goes_where_it_was_told() {
    let server = Server::start(&[Manner::Listen]).await;
    for place_of_token in [TokenPlace::Init, TokenPlace::Header, TokenPlace::Query] {
        let plan = plan(&server).token(Secret::new("t k"), place_of_token).step(Step::Speak { ms: 20 });
        place(plan).await.unwrap();
    }
    let heard = server.over(3).await;
    let in_init = |heard: &Heard| serde_json::from_str::<Value>(&heard.init).unwrap()["authenticationToken"].clone();
    assert_eq!(heard.iter().map(in_init).collect::<Vec<_>>(), [json!("t k"), json!(null), json!(null)]);
    assert_eq!(heard[1].authorization.as_deref(), Some("Bearer t k"));
    assert_eq!((heard[0].authorization.as_deref(), heard[0].target.as_str()), (None, "/audio"));
    assert_eq!(heard[2].target, "/audio?token=t%20k");
}

#[tokio::test(start_paused = true)]
async fn a_conference_is_mixed_into_what_the_agent_hears_and_nowhere_else() {
    let server = Server::start(&[Manner::Listen]).await;
    let (contact, agent, guest) = (ulaw::encode(1000), ulaw::encode(2000), ulaw::encode(3000));
    let plan = CallPlan::new(&server.url, CONTACT)
        .both(vec![contact], vec![agent])
        .step(Step::Speak { ms: 20 })
        .step(Step::Conference { ms: 20, audio: vec![guest].into() })
        .step(Step::Speak { ms: 20 });
    place(plan).await.unwrap();
    server.over(2).await;
    let both = ulaw::encode(ulaw::decode(contact) + ulaw::decode(guest));
    let expected = [[contact; 160], [both; 160], [contact; 160]].concat();
    assert_eq!(server.of(&json!("TX"))[0].audio(), expected);
    assert_eq!(server.of(&json!("RX"))[0].audio(), [agent; 480]);
}

#[tokio::test(start_paused = true)]
async fn random_frames_with_jitter_carry_the_same_bytes_and_can_be_repeated() {
    let server = Server::start(&[Manner::Listen]).await;
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let frame = FrameShape::random(1, 700).with_jitter(30, 150);
        let report = place(plan(&server).frame(frame).seed(5).step(Step::Speak { ms: 3000 })).await.unwrap();
        assert_eq!(report.legs[0].samples, 24_000);
        assert_eq!(report.legs[0].sent, [Stretch { at_sample: 0, samples: 24_000 }]);
    }
    for heard in server.over(2).await {
        assert_eq!(heard.audio(), numbered(80_000, 1)[..24_000]);
        let mut position = 0;
        for (at, frame) in &heard.frames {
            position += frame.len();
            let due = Duration::from_micros(position as u64 * 125);
            let late = (*at - heard.acked).saturating_sub(due);
            assert!(late <= Duration::from_millis(152), "late by {late:?}");
        }
        sizes.push(heard.frames.iter().map(|(_, frame)| frame.len()).collect::<Vec<_>>());
    }
    assert_eq!(sizes[0], sizes[1]);
    assert!(sizes[0].iter().any(|&size| size != sizes[0][0]));
}

#[tokio::test(start_paused = true)]
async fn a_call_may_run_faster_than_real_time() {
    let server = Server::start(&[Manner::Listen]).await;
    let begun = Instant::now();
    let report = place(plan(&server).pace(Pace::Speed(10.0)).step(Step::Speak { ms: 10_000 })).await.unwrap();
    assert_eq!(report.samples, 80_000);
    assert!(begun.elapsed() < Duration::from_millis(1100), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_stopped_closes_cleanly_and_reports_what_it_sent() {
    let server = Server::start(&[Manner::Listen]).await;
    let (tell, stop) = watch::channel(false);
    let (watcher, mut progress) = mpsc::channel(64);
    let plan = plan(&server).step(Step::Speak { ms: 100 }).step(Step::Speak { ms: 3_600_000 });
    let call = tokio::spawn(Call::new(plan).watched_by(watcher).stop_when(stop).place());
    while progress.recv().await != Some(Progress::Speaking { at_sample: 800, samples: 28_800_000 }) {}
    tell.send(true).unwrap();
    let report = call.await.unwrap().unwrap();
    assert!(report.stopped);
    let heard = &server.over(1).await[0];
    assert_eq!((heard.audio().len() as u64, heard.close), (report.samples, Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_hears_the_call_in_order() {
    let server = Server::start(&[Manner::Listen]).await;
    let (watcher, mut progress) = mpsc::channel(64);
    let plan = plan(&server)
        .step(Step::Speak { ms: 20 })
        .step(Step::Drop { leg: 0, away_ms: 20, cut: Cut::Eof })
        .step(Step::Speak { ms: 200 })
        .step(Step::Hold { ms: 20, by: HoldBy::Silence });
    Call::new(plan).watched_by(watcher).place().await.unwrap();
    let mut words = Vec::new();
    while let Some(news) = progress.recv().await {
        words.push(serde_json::to_value(news).unwrap()["type"].as_str().unwrap().to_owned());
    }
    let expected =
        ["connected", "started", "speaking", "dropped", "speaking", "connected", "reconnected", "hold", "finished"];
    assert_eq!(words, expected);
}
