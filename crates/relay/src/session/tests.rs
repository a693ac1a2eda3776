//! Sessions over memory with a clock that jumps: what happens when nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_core::secret::Secret;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::sleep;
use tokio_websockets::{ClientBuilder, Limits, ServerBuilder};

use super::*;
use crate::tap::{Shared, Tap};
use crate::{Start, VoiceRelay, VoiceSettings};

/// The app's end of a session that runs.
struct Call {
    relay: VoiceRelay,
    tap: Tap,
    app: WebSocketStream<DuplexStream>,
    events: mpsc::Receiver<AppEvent>,
    ended: JoinHandle<Ended>,
    /// How often the session was polled.
    polls: Arc<AtomicU32>,
}

fn start() -> Start {
    Start {
        contact: ContactKey { bus_no: 1, contact_id: 2 },
        stream: StreamId::new(),
        perspective: Perspective::Tx,
        generation: Some(1),
        app_params: json!({}),
        app_config: json!({}),
        unknown: None,
    }
}

fn begin(pipe_bytes: usize) -> Call {
    let mut settings = VoiceSettings::new(Secret::new("ws://assist.example"));
    settings.text_bytes_max = 2_048;
    settings.events_per_stream_max = 3;
    let relay = VoiceRelay::new(&settings).unwrap();
    let house = relay.house.clone();
    let shared = Arc::new(Shared::new(house.limits.ring, Some(1)));
    let tap = Tap::new(house.clone(), shared.clone());
    let (sender, events) = mpsc::channel(16);
    let mut worker = Worker::new(house, shared, start(), sender, fastrand::Rng::with_seed(1));
    let (ours, theirs) = duplex(pipe_bytes);
    let socket = ClientBuilder::new().limits(Limits::default().max_payload_len(Some(2_048))).take_over(ours);
    let polls = Arc::new(AtomicU32::new(0));
    let counted = polls.clone();
    let ended = tokio::spawn(async move {
        let mut session = Session::new(&mut worker, Box::new(socket));
        let mut session = Box::pin(session.run());
        poll_fn(|context| {
            counted.fetch_add(1, Ordering::Relaxed);
            session.as_mut().poll(context)
        })
        .await
    });
    Call { relay, tap, app: ServerBuilder::new().serve(theirs), events, ended, polls }
}

async fn hear(app: &mut WebSocketStream<DuplexStream>) -> Message {
    app.next().await.unwrap().unwrap()
}

async fn hear_start(app: &mut WebSocketStream<DuplexStream>) {
    assert!(hear(app).await.as_text().unwrap().starts_with(r#"{"type":"start""#));
}

#[tokio::test(start_paused = true)]
async fn audio_short_of_a_chunk_waits_for_two_chunks_time_and_no_longer() {
    let mut call = begin(4_096);
    hear_start(&mut call.app).await;
    let since = Instant::now();
    call.tap.push(&[1; 160]);
    assert_eq!(hear(&mut call.app).await.as_payload().len(), 160);
    assert_eq!(since.elapsed().as_millis(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_completes_no_chunk_wakes_nobody() {
    let mut call = begin(4_096);
    hear_start(&mut call.app).await;
    // The first sample after a pause starts the clock for a partial chunk.
    call.tap.push(&[1; 800]);
    assert_eq!(hear(&mut call.app).await.as_payload().len(), 800);
    for _ in 0..10 {
        yield_now().await;
        let polls = call.polls.load(Ordering::Relaxed);
        for _ in 0..4 {
            call.tap.push(&[1; 160]);
            yield_now().await;
        }
        assert_eq!(call.polls.load(Ordering::Relaxed), polls);
        call.tap.push(&[1; 160]);
        assert_eq!(hear(&mut call.app).await.as_payload().len(), 800);
        assert_eq!(call.polls.load(Ordering::Relaxed), polls + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_sends_the_audio_before_it_at_once() {
    let mut call = begin(4_096);
    hear_start(&mut call.app).await;
    call.tap.push(&[1; 800]);
    call.tap.push(&[2; 100]);
    hear(&mut call.app).await;
    let since = Instant::now();
    call.tap.silence(8_000);
    assert_eq!(hear(&mut call.app).await.as_payload().len(), 100);
    assert_eq!(since.elapsed().as_millis(), 0);
    call.tap.push(&[3; 800]);
    assert_eq!(
        hear(&mut call.app).await.as_text(),
        Some(r#"{"type":"gap","position":900,"samples":8000,"reason":"silence","clock":900}"#)
    );
}

#[tokio::test(start_paused = true)]
async fn an_app_that_says_nothing_is_pinged_and_then_given_up() {
    let mut call = begin(4_096);
    let since = Instant::now();
    // Nobody reads the app's end, so nobody answers pings.
    assert_eq!((&mut call.ended).await.unwrap(), Ended::Broken(Break::Silent));
    assert_eq!(since.elapsed().as_secs(), 60);
    let mut bytes = Vec::new();
    call.app.into_inner().read_to_end(&mut bytes).await.unwrap();
    // A masked, empty ping has six bytes.
    let pings = bytes.rchunks(6).take_while(|frame| frame.starts_with(&[0x89, 0x80])).count();
    assert_eq!(pings, 2, "at 20 s and at 40 s");
}

#[tokio::test(start_paused = true)]
async fn an_app_that_only_answers_pings_is_kept_for_hours() {
    let mut call = begin(4_096);
    hear_start(&mut call.app).await;
    let reading = tokio::spawn(async move {
        let mut pings = 0;
        while let Some(Ok(message)) = call.app.next().await {
            pings += u32::from(message.is_ping());
        }
        pings
    });
    sleep(Duration::from_hours(2)).await;
    assert!(!call.ended.is_finished());
    call.tap.stop(CloseReason::PeerClosed);
    assert_eq!(call.ended.await.unwrap(), Ended::Finished { in_order: true });
    assert!(reading.await.unwrap() >= 359, "one every 20 s");
}

#[tokio::test(start_paused = true)]
async fn an_app_that_talks_but_does_not_read_is_heard_and_then_given_up() {
    let mut call = begin(1_024);
    call.tap.push(&[1; 8_000]);
    let since = Instant::now();
    let (mut to_us, _unread) = {
        // The app's socket would read while it writes; so the frames are written past it.
        let io = call.app.into_inner();
        let (unread, to_us) = tokio::io::split(io);
        (to_us, unread)
    };
    let talking = tokio::spawn(async move {
        let text = br#"{"type":"transcript"}"#;
        let mut frame = vec![0x81, u8::try_from(text.len()).unwrap()];
        frame.extend_from_slice(text);
        while to_us.write_all(&frame).await.is_ok() {
            sleep(Duration::from_secs(15)).await;
        }
    });
    assert_eq!(call.ended.await.unwrap(), Ended::Broken(Break::Stuck));
    assert_eq!(since.elapsed().as_secs(), 60);
    assert_eq!(call.events.recv().await.unwrap().kind, "transcript");
    talking.abort();
}

#[tokio::test(start_paused = true)]
async fn last_words_after_stop_are_heard() {
    let mut call = begin(4_096);
    hear_start(&mut call.app).await;
    call.tap.push(&[1; 10]);
    call.tap.stop(CloseReason::PeerClosed);
    assert_eq!(hear(&mut call.app).await.as_payload().len(), 10);
    assert_eq!(hear(&mut call.app).await.as_text(), Some(r#"{"type":"stop","position":10,"reason":"peer_closed"}"#));
    sleep(Duration::from_millis(400)).await;
    call.app.send(Message::text(r#"{"type":"transcript","final":true}"#)).await.unwrap();
    let close = hear(&mut call.app).await;
    assert_eq!(close.as_close().map(|(code, _)| code), Some(CloseCode::NORMAL_CLOSURE));
    assert!(call.app.next().await.is_none());
    assert_eq!(call.ended.await.unwrap(), Ended::Finished { in_order: true });
    assert_eq!(call.events.recv().await.unwrap().kind, "transcript");
}

#[tokio::test(start_paused = true)]
async fn an_app_that_hangs_up_on_stop_is_not_called_again() {
    let mut call = begin(4_096);
    hear_start(&mut call.app).await;
    call.tap.stop(CloseReason::PeerClosed);
    assert!(hear(&mut call.app).await.is_text());
    yield_now().await;
    drop(call.app);
    assert_eq!(call.ended.await.unwrap(), Ended::Finished { in_order: false });
}

#[tokio::test(start_paused = true)]
async fn a_frame_above_the_limit_ends_the_connection_with_1009() {
    for pieces in [1, 3] {
        let mut call = begin(16_384);
        hear_start(&mut call.app).await;
        let text = format!(r#"{{"type":"{}"}}"#, "x".repeat(3_000));
        let config = tokio_websockets::Config::default().frame_size(text.len().div_ceil(pieces));
        call.app = ServerBuilder::new().config(config).serve(call.app.into_inner());
        call.app.send(Message::text(text)).await.unwrap();
        let close = hear(&mut call.app).await;
        assert_eq!(close.as_close().map(|(code, _)| code), Some(CloseCode::MESSAGE_TOO_BIG), "in {pieces} pieces");
        assert!(call.app.next().await.is_none());
        assert_eq!(call.ended.await.unwrap(), Ended::Broken(Break::TooLarge));
        assert!(call.events.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_relay_cannot_use_is_counted_and_the_connection_kept() {
    let mut call = begin(4_096);
    hear_start(&mut call.app).await;
    for message in [
        Message::text("hello"),
        Message::text("[1,2]"),
        Message::text(r#"{"type":"ack"}"#),
        Message::binary(&b"audio?"[..]),
        Message::text(r#"{"type":"transcript"}"#),
        Message::text(r#"{"type":"suggestion"}"#),
        Message::text(r#"{"mood":"good"}"#),
        Message::text(r#"{"type":"above the limit of three"}"#),
    ] {
        call.app.send(message).await.unwrap();
    }
    for kind in ["transcript", "suggestion", "unknown"] {
        assert_eq!(call.events.recv().await.unwrap().kind, kind);
    }
    call.tap.push(&[1; 800]);
    assert_eq!(hear(&mut call.app).await.as_payload().len(), 800);
    let counters = call.relay.counters();
    assert_eq!((counters.events.get(), counters.events_dropped.get(), counters.ignored_frames.get()), (3, 1, 4));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_asks_for_answers_it_does_not_read_is_left() {
    let call = begin(1_024);
    let mut to_us = call.app.into_inner();
    let mut ping = vec![0x89, 100];
    ping.extend_from_slice(&[7; 100]);
    while to_us.write_all(&ping).await.is_ok() {}
    assert_eq!(call.ended.await.unwrap(), Ended::Broken(Break::Violation));
}

#[tokio::test]
async fn a_stream_costs_little_beside_its_socket() {
    let relay = VoiceRelay::new(&VoiceSettings::new(Secret::new("ws://assist.example"))).unwrap();
    let shared = Arc::new(Shared::new(relay.house.limits.ring, None));
    let (sender, _events) = mpsc::channel(1);
    let mut worker = Worker::new(relay.house.clone(), shared, start(), sender, fastrand::Rng::with_seed(1));
    let task = size_of_val(&worker.run()) + size_of::<Worker>() + size_of::<Shared>();
    assert!(task < 2_048, "{task} bytes");
}
