//! The assist app hears everything, or is told what it missed; what it says is kept; and it harms nobody.

use earpiece_core::contact::event::What;
use earpiece_core::contact::facts::LostReason;
use earpiece_core::protocol::Perspective;
use earpiece_core::protocol::message::CONNECTED;
use earpiece_shim::settings;
use earpiece_simulator::{AssistApp, AssistSettings, CallPlan, CloseAfter, Faults, HoldBy, Line, Step, place};
use serde_json::json;
use tokio::net::TcpListener;

use crate::house::{House, PATIENCE, contact, speech, wait};

async fn app(script: Vec<Line>, faults: Faults) -> AssistApp {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let settings = AssistSettings { keep_audio: true, script, faults, ..AssistSettings::default() };
    AssistApp::start(listener, settings).expect("an app")
}

async fn house(app: &AssistApp) -> House {
    House::open(&[(settings::ASSIST_URL, &app.url())]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_voices_are_heard_byte_for_byte_with_their_holds_and_what_the_app_says_is_kept() {
    let script = vec![
        Line { perspective: Perspective::Tx, at_sample: 1_600, say: json!({"type": "transcript", "text": "hello"}) },
        Line { perspective: Perspective::Rx, at_sample: 3_200, say: json!({"type": "suggestion", "title": "greet"}) },
        Line { perspective: Perspective::Rx, at_sample: 4_000, say: json!({"type": "weather", "sun": true}) },
    ];
    let app = app(script, Faults::default()).await;
    let mut house = house(&app).await;
    let mut events = house.watch();
    let key = contact(1);
    let plan = CallPlan::new(house.url(), key)
        .both(speech(5_000, 1), speech(6_000, 2))
        .keep_audio()
        .step(Step::Speak { ms: 700 })
        .step(Step::Hold { ms: 500, by: HoldBy::Silence })
        .step(Step::Speak { ms: 700 });
    let report = place(plan).await.expect("a call");
    let said = wait(&mut events, |event| match &event.what {
        What::App(said) if said.kind == "weather" => Some(said.body.reveal().clone()),
        _ => None,
    });
    assert_eq!(said.await["sun"], true, "any frame of the app is told to those who watch");
    house.finished(key).await;
    for (leg, perspective) in report.legs.iter().zip([Perspective::Tx, Perspective::Rx]) {
        let heard = app.heard(key, &perspective).expect("heard");
        assert_eq!(heard.audio.as_deref(), leg.audio_sent.as_deref(), "{perspective}");
        assert_eq!((heard.lost, heard.skipped, heard.gaps.len()), (0, 0, 1));
        assert_eq!(heard.stops, ["peer_closed"]);
    }
    let kept = std::fs::read_to_string(house.data.path().join(format!("contacts/{key}/events.jsonl"))).expect("events");
    let kinds: Vec<String> = kept
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["kind"].to_string())
        .collect();
    for kind in ["\"transcript\"", "\"suggestion\"", "\"weather\""] {
        assert!(kinds.iter().any(|kept| kept == kind), "{kind} in {kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_breaks_off_is_told_everything_again_from_where_it_was() {
    let close_after = Some(CloseAfter { samples: 2_400, code: None, times: 2 });
    let app = app(Vec::new(), Faults { close_after, ..Faults::default() }).await;
    let mut house = house(&app).await;
    let key = contact(2);
    let plan = CallPlan::new(house.url(), key).leg("TX", speech(7_000, 3)).keep_audio().step(Step::Speak { ms: 3_000 });
    let report = place(plan).await.expect("a call");
    house.finished(key).await;
    let heard = app.heard(key, &Perspective::Tx).expect("heard");
    assert_eq!(heard.connections, 3);
    assert_eq!(heard.audio.as_deref(), report.legs[0].audio_sent.as_deref());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_never_comes_loses_its_own_audio_by_name_and_nobody_elses() {
    let app = app(Vec::new(), Faults { refuse: true, ..Faults::default() }).await;
    let mut house = House::open(&[(settings::ASSIST_URL, &app.url()), (settings::RING, "1s")]).await;
    let key = contact(3);
    let plan = CallPlan::new(house.url(), key).leg("TX", speech(9_000, 4)).keep_audio().step(Step::Speak { ms: 3_000 });
    let report = place(plan).await.expect("a call");
    let ledger = house.finished(key).await;
    let recording = house.recording(key);
    let wav = earpiece_core::audio::wav::parse(&recording).expect("a WAV file");
    let left: Vec<u8> = wav.data.iter().step_by(2).copied().collect();
    assert_eq!(left, report.legs[0].audio_sent.as_deref().expect("kept"), "the recording has every sample");
    assert!(ledger.lost.iter().all(|lost| lost.reason == LostReason::RelayRingFull));
    let lost: u64 = ledger.lost.iter().map(|lost| lost.samples).sum();
    assert_eq!(lost, report.legs[0].samples, "every sample that the app missed is named");
    assert_eq!(house.metric("earpiece_samples_lost_total{reason=\"relay_ring_full\"}").await, lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_away_delays_no_answer_and_hears_of_the_call_when_it_comes() {
    let app = app(Vec::new(), Faults { refuse: true, ..Faults::default() }).await;
    let house = house(&app).await;
    let key = contact(4);
    let plan = CallPlan::new(house.url(), key).leg("TX", speech(4_000, 5)).keep_audio().step(Step::Speak { ms: 4_000 });
    let call = tokio::spawn(place(plan));
    assert!(app.look(|hearing| hearing.connections == 0));
    let mut events = house.watch();
    wait(&mut events, |event| matches!(event.what, What::StreamOpened { .. }).then_some(())).await;
    app.wait_for(PATIENCE, |hearing| (hearing.refused >= 2).then_some(())).await.expect("it is tried again");
    app.set_faults(Faults::default());
    let report = call.await.expect("no panic").expect("a call");
    assert_eq!(report.legs[0].sockets[0].answer_text(), Some(CONNECTED));
    let all = report.legs[0].samples;
    let heard = app
        .wait_for(PATIENCE, |hearing| hearing.heard(key, &Perspective::Tx).filter(|heard| heard.samples == all))
        .await
        .expect("everything is heard in the end");
    assert_eq!(heard.audio.as_deref(), report.legs[0].audio_sent.as_deref());
}
