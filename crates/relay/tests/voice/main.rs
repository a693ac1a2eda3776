//! The voice relay against an assist app on a real socket: what integrators are promised in `docs/assist-app.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod app;

use std::time::Duration;

use app::{App, Heard, Peer};
use earpiece_core::contact::event::AppEvent;
use earpiece_core::contact::facts::{CloseReason, LostReason};
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_core::secret::Secret;
use earpiece_relay::{Counter, Start, VoiceRelay, VoiceSettings};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(8);

fn settings(app: &App) -> VoiceSettings {
    let mut settings = VoiceSettings::new(Secret::new(format!("ws://{}/voice?token=t0p", app.address())));
    settings.backoff_base_ms = 5;
    settings.backoff_cap_ms = 20;
    settings.jitter_seed = Some(7);
    // These apps say nothing after `stop`.
    settings.last_words_ms = 10;
    settings
}

fn relay(settings: &VoiceSettings) -> VoiceRelay {
    VoiceRelay::new(settings).unwrap()
}

fn start(stream: StreamId) -> Start {
    Start {
        contact: ContactKey { bus_no: 1, contact_id: 2 },
        stream,
        perspective: Perspective::Tx,
        generation: Some(1),
        app_params: json!({"language": "en"}),
        app_config: json!("plain"),
        unknown: Some(json!({"new": 1})),
    }
}

fn open(relay: &VoiceRelay) -> (earpiece_relay::Tap, mpsc::Receiver<AppEvent>) {
    let (sender, events) = mpsc::channel(64);
    (relay.open(start(StreamId::new()), sender), events)
}

/// The sample at a position: distinct enough for a shifted or repeated one to be noticed.
fn audio(from: u64, count: u64) -> Vec<u8> {
    (from..from + count).map(|at| u8::try_from(at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).unwrap()).collect()
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let since = Instant::now();
    while !reached() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(2)).await;
    }
}

async fn counted(counter: &Counter, at_least: u64) {
    until("the counter never got there", || counter.get() >= at_least).await;
}

async fn drained(relay: &VoiceRelay) {
    timeout(PATIENCE, relay.drained()).await.expect("a stream's task outlived its flush time");
}

#[tokio::test]
async fn the_first_frame_is_start_exactly_as_documented() {
    let mut app = App::listen().await;
    let mut settings = settings(&app);
    settings.authorization = Some(Secret::new("Bearer s3cret"));
    let relay = relay(&settings);
    let stream = StreamId::new();
    let (sender, _events) = mpsc::channel(1);
    let mut tap = relay.open(Start { generation: None, ..start(stream) }, sender);
    let mut peer = app.accept().await;
    assert_eq!(peer.path_and_query, "/voice?token=t0p");
    assert_eq!(peer.authorization.as_deref(), Some("Bearer s3cret"));
    let expected = |generation: &str, position: u64| {
        let stream = serde_json::to_string(&stream).unwrap();
        format!(
            r#"{{"type":"start","version":1,"contact":{{"busNo":1,"contactId":2}},"streamId":{stream},"perspective":"TX","generation":{generation},"encoding":"audio/x-mulaw","rate":8000,"channels":1,"position":{position},"clock":{position},"appParams":{{"language":"en"}},"appConfig":"plain","unknown":{{"new":1}}}}"#
        )
    };
    assert_eq!(peer.text().await, expected("null", 0));
    tap.set_generation(3);
    tap.push(&audio(0, 800));
    assert_eq!(peer.bytes().await, audio(0, 800));
    peer.say(r#"{"type":"ack","position":800}"#).await;
    // The acknowledgement has arrived when what follows it has.
    peer.say("no event").await;
    counted(&relay.counters().ignored_frames, 1).await;
    drop(peer);
    assert_eq!(app.accept().await.text().await, expected("3", 800), "the generation as it is known by then");
}

#[tokio::test]
async fn audio_arrives_whole_in_chunks_of_at_most_100_ms_and_stop_ends_it() {
    let mut app = App::listen().await;
    let relay = relay(&settings(&app));
    let (mut tap, _events) = open(&relay);
    let mut pushed = 0;
    for frame in [160, 1, 4_000, 799, 801, 33] {
        tap.push(&audio(pushed, frame));
        pushed += frame;
    }
    tap.silence(80);
    tap.stop(CloseReason::PeerClosed);
    let mut peer = app.accept().await;
    let mut heard = Heard::default();
    heard.listen(&mut peer).await;
    assert_eq!(heard.audio, audio(0, pushed));
    assert!(heard.longest_chunk <= 800 && heard.lost.is_empty());
    assert_eq!((heard.silence, heard.stop.as_deref(), heard.close), (80, Some("peer_closed"), Some(1000)));
    drained(&relay).await;
    let counters = relay.counters();
    assert_eq!((counters.bytes_sent.get(), counters.samples_lost.get(), counters.disconnects.get()), (pushed, 0, 0));
    assert_eq!(counters.ring_samples.get(), 0, "the gauge is given back");
}

#[tokio::test]
async fn after_every_break_the_replay_gives_each_sample_exactly_once() {
    let mut app = App::listen().await;
    let relay = relay(&settings(&app));
    let (mut tap, _events) = open(&relay);
    let mut heard = Heard::default();
    let mut pushed = 0;
    for round in 0..6_u64 {
        let mut peer = app.accept().await;
        peer.say(r#"{"type":"ack","position":0}"#).await;
        for _ in 0..20 {
            tap.push(&audio(pushed, 160));
            pushed += 160;
        }
        // Hear some, acknowledge, hear some more and break without a word about that.
        heard.hear_until(&mut peer, pushed - 1_600).await;
        peer.say(&json!({"type": "ack", "position": heard.position()}).to_string()).await;
        heard.hear_until(&mut peer, pushed - 800 * (round % 2)).await;
        drop(peer);
        counted(&relay.counters().disconnects, round + 1).await;
    }
    tap.stop(CloseReason::Superseded);
    let mut peer = app.accept().await;
    heard.listen(&mut peer).await;
    assert_eq!(heard.audio, audio(0, pushed));
    assert!(heard.lost.is_empty() && heard.jumped == 0);
    assert!(heard.repeated > 0, "something was in fact sent again");
    drained(&relay).await;
    assert_eq!(relay.counters().samples_lost.get(), 0);
}

#[tokio::test]
async fn an_app_that_never_acknowledges_gets_the_last_second_again() {
    let mut app = App::listen().await;
    let relay = relay(&settings(&app));
    let (mut tap, _events) = open(&relay);
    tap.push(&audio(0, 24_000));
    let mut peer = app.accept().await;
    let mut heard = Heard::default();
    heard.hear_until(&mut peer, 24_000).await;
    drop(peer);
    counted(&relay.counters().disconnects, 1).await;
    let mut peer = app.accept().await;
    assert!(peer.text().await.contains(r#""position":16000,"clock":16000"#));
    assert_eq!(peer.bytes().await, audio(16_000, 800));
}

#[tokio::test]
async fn an_app_that_does_not_read_loses_its_oldest_audio_by_name_and_push_never_waits() {
    let mut app = App::listen().await;
    let mut settings = settings(&app);
    settings.ring_ms = 1_000;
    let relay = relay(&settings);
    let (mut tap, _events) = open(&relay);
    let mut peer = app.accept().await;
    let mut pushed = 0;
    let mut slowest = Duration::ZERO;
    // Far more than the kernel buffers of both sides take, while the app reads nothing.
    while pushed < 2_000_000 {
        let since = Instant::now();
        tap.push(&audio(pushed, 8_000));
        slowest = slowest.max(since.elapsed());
        pushed += 8_000;
        tokio::task::yield_now().await;
    }
    assert!(slowest < Duration::from_millis(500), "a push took {slowest:?}");
    let lost_range = tap.take_lost().unwrap();
    assert_eq!(lost_range.reason, LostReason::RelayRingFull);
    let more: Vec<_> = std::iter::from_fn(|| tap.take_lost()).collect();
    let samples = lost_range.samples + more.iter().map(|lost| lost.samples).sum::<u64>();
    assert_eq!(samples, relay.counters().samples_lost.get());
    tap.stop(CloseReason::PeerClosed);
    let mut heard = Heard::default();
    heard.listen(&mut peer).await;
    assert_eq!(heard.lost.iter().map(|(_, samples)| samples).sum::<u64>(), samples);
    assert_eq!(heard.lost[0], (lost_range.first_sample, lost_range.samples));
    assert_eq!(heard.position(), pushed);
    assert!(heard.audio_is(audio), "what arrived is what was pushed there");
    drained(&relay).await;
}

#[tokio::test]
async fn an_app_that_comes_late_gets_the_newest_seconds_and_the_loss_before_them() {
    let mut app = App::listen().await;
    let mut settings = settings(&app);
    settings.ring_ms = 500;
    settings.connect_timeout_ms = 50;
    let relay = relay(&settings);
    let (mut tap, _events) = open(&relay);
    // Nobody answers the upgrade, so attempts time out.
    counted(&relay.counters().connect_failures, 2).await;
    tap.push(&audio(0, 10_000));
    let (mut peer, start) = app.accept_live().await;
    assert!(start.contains(r#""position":0,"clock":0"#), "{start}");
    assert_eq!(peer.text().await, r#"{"type":"gap","position":0,"samples":6000,"reason":"lost","clock":0}"#);
    assert_eq!(peer.bytes().await, audio(6_000, 800));
    let lost = tap.take_lost().unwrap();
    assert_eq!((lost.first_sample, lost.samples), (0, 6_000));
}

#[tokio::test]
async fn an_acknowledgement_frees_the_ring() {
    let mut app = App::listen().await;
    let relay = relay(&settings(&app));
    let (mut tap, _events) = open(&relay);
    let mut peer = app.accept().await;
    peer.say(r#"{"type":"ack","position":0}"#).await;
    peer.text().await;
    tap.push(&audio(0, 16_000));
    let mut heard = Heard::default();
    heard.hear_until(&mut peer, 16_000).await;
    counted(&relay.counters().ring_samples, 16_000).await;
    peer.say(r#"{"type":"ack","position":15000}"#).await;
    until("the ring still holds acknowledged audio", || relay.counters().ring_samples.get() == 1_000).await;
}

#[tokio::test]
async fn what_the_app_says_comes_out_as_events_with_their_type() {
    let mut app = App::listen().await;
    let relay = relay(&settings(&app));
    let (sender, mut events) = mpsc::channel(64);
    let stream = StreamId::new();
    let tap = relay.open(start(stream), sender);
    let mut peer = app.accept().await;
    peer.say(r#"{"type":"transcript","text":"my card is 4111"}"#).await;
    peer.say(r#"{"type":"ack","position":0}"#).await;
    peer.say(r#"{"type":"suggestion","content":"offer a refund"}"#).await;
    peer.say(r#"{"sentiment":-0.7}"#).await;
    for (kind, field) in [("transcript", "text"), ("suggestion", "content"), ("unknown", "sentiment")] {
        let event = timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        assert_eq!((event.kind.as_str(), event.stream), (kind, stream));
        assert!(event.body.reveal().get(field).is_some());
        assert!(event.at_us > 1_700_000_000_000_000);
        assert!(!format!("{event:?}").contains("4111"));
    }
    tap.stop(CloseReason::PeerClosed);
}

#[tokio::test]
async fn events_that_nobody_takes_are_dropped_and_counted() {
    let mut app = App::listen().await;
    let relay = relay(&settings(&app));
    let (sender, events) = mpsc::channel(2);
    let tap = relay.open(start(StreamId::new()), sender);
    let mut peer = app.accept().await;
    for _ in 0..5 {
        peer.say(r#"{"type":"transcript"}"#).await;
    }
    counted(&relay.counters().events_dropped, 3).await;
    assert_eq!(events.len(), 2);
    drop(tap);
}

#[tokio::test]
async fn a_stream_that_stops_while_the_app_is_away_tries_until_its_flush_time_is_over() {
    let app = App::listen().await;
    let mut settings = settings(&app);
    settings.flush_ms = 200;
    settings.last_words_ms = 0;
    settings.connect_timeout_ms = 30;
    let relay = relay(&settings);
    let (mut tap, _events) = open(&relay);
    tap.push(&audio(0, 1_000));
    counted(&relay.counters().connect_failures, 1).await;
    let before = relay.counters().connect_failures.get();
    let since = Instant::now();
    let mut stopped = tap.stop(CloseReason::Drained);
    drained(&relay).await;
    assert!(since.elapsed() >= Duration::from_millis(200));
    assert!(relay.counters().connect_failures.get() > before, "it went on trying");
    assert_eq!(relay.counters().samples_lost.get(), 1_000);
    let lost = stopped.take_lost().expect("named");
    assert_eq!((lost.first_sample, lost.samples, stopped.take_lost()), (0, 1_000, None));
    assert_eq!(relay.counters().ring_samples.get(), 0);
}

#[tokio::test]
async fn a_stop_in_a_long_pause_is_delivered_at_once() {
    let mut app = App::listen().await;
    let mut settings = settings(&app);
    settings.backoff_base_ms = 300_000;
    settings.backoff_cap_ms = 300_000;
    let relay = relay(&settings);
    let (mut tap, _events) = open(&relay);
    drop(app.accept().await);
    counted(&relay.counters().disconnects, 1).await;
    tap.push(&audio(0, 100));
    tap.stop(CloseReason::PeerVanished);
    let mut heard = Heard::default();
    heard.listen(&mut app.accept().await).await;
    assert_eq!((heard.audio, heard.stop.as_deref()), (audio(0, 100), Some("peer_vanished")));
    drained(&relay).await;
}

#[tokio::test]
async fn a_tap_that_is_dropped_ends_its_stream_as_internal() {
    let mut app = App::listen().await;
    let relay = relay(&settings(&app));
    let (tap, _events) = open(&relay);
    drop(tap);
    let mut heard = Heard::default();
    heard.listen(&mut app.accept().await).await;
    assert_eq!(heard.stop.as_deref(), Some("internal"));
    drained(&relay).await;
}

#[tokio::test]
async fn a_stuck_app_harms_only_its_own_stream() {
    let mut app = App::listen().await;
    let mut settings = settings(&app);
    settings.flush_ms = 300;
    let relay = relay(&settings);
    let (mut stuck, _stuck_events) = open(&relay);
    let stuck_peer = app.accept().await;
    stuck.push(&audio(0, 200_000));
    let mut others: Vec<(earpiece_relay::Tap, Peer)> = Vec::new();
    for _ in 0..10 {
        let (tap, _) = open(&relay);
        others.push((tap, app.accept().await));
    }
    for (mut tap, mut peer) in others {
        tap.push(&audio(0, 8_000));
        tap.stop(CloseReason::PeerClosed);
        let mut heard = Heard::default();
        heard.listen(&mut peer).await;
        assert_eq!(heard.audio, audio(0, 8_000));
    }
    drop((stuck, stuck_peer));
    drained(&relay).await;
}

#[tokio::test]
async fn wss_is_ready_without_a_provider_being_chosen_by_anybody_else() {
    match VoiceRelay::new(&VoiceSettings::new(Secret::new("wss://assist.example/"))) {
        Ok(_) => {}
        Err(error) => assert!(error.to_string().contains("root certificates"), "{error}"),
    }
}
