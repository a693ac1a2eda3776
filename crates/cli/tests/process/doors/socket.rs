//! The WebSocket API: calls as base64 text, and pages that listen.

use std::collections::BTreeSet;

use earpiece_core::contact::ContactKey;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::protocol::message::CONNECTED;
use earpiece_core::telemetry::{AUDIO_BYTES, STREAM_OPENS};
use serde_json::{Value, json};

use super::PATIENT;
use super::app::App;
use super::caller::{Caller, HOOK, Socket, events_of, init, recorded, said, subscribe, utterance};
use crate::serve::Serve;
use crate::{CONTACT, data};

const QUIET: [&str; 2] = ["--quiet-period", "1s"];

/// Messages that are sent without waiting.
const AT_ONCE: usize = 50;

async fn streaming(serve: &Serve, contact: ContactKey) -> Socket {
    let mut socket = Socket::open(serve.address, "/ws").await;
    socket.say(&init(contact, None)).await;
    assert_eq!(socket.hear().await, CONNECTED);
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_acknowledged_piece_by_piece_and_recorded_to_the_byte() {
    let data = data();
    let serve = Serve::start(data.path(), "127.0.0.1:0", &QUIET, &PATIENT);
    let mut socket = streaming(&serve, CONTACT).await;
    let mut spoken = Vec::new();
    for message in 0..5 {
        let samples = said(message, 4_000 + message);
        socket.speak(&samples).await;
        let answer = socket.hear_json().await;
        assert_eq!((&answer["command"], &answer["message"]), (&json!("MESSAGE"), &json!("AUDIO ACCEPTED")));
        let parameters = &answer["parameters"];
        assert_eq!((&parameters["firstSample"], &parameters["samples"]), (&json!(spoken.len()), &json!(samples.len())));
        spoken.extend(samples);
    }
    socket.close().await;
    let (ledger, audio) = recorded(data.path(), CONTACT).await;
    assert_eq!(audio, [spoken.clone()]);
    let [stream] = ledger.streams.as_slice() else { panic!("one stream: {:?}", ledger.streams) };
    assert_eq!((stream.samples, stream.generation), (spoken.len() as u64, Some(1)));
    assert_eq!(stream.closed.map(|closed| closed.reason), Some(CloseReason::PeerClosed));
    assert!(ledger.lost.is_empty() && ledger.unwritten.is_empty(), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_pieces_at_once_every_sample_is_recorded_once() {
    const SAMPLES: usize = 160;
    let data = data();
    let serve = Serve::start(data.path(), "127.0.0.1:0", &QUIET, &PATIENT);
    let mut socket = streaming(&serve, CONTACT).await;
    let pieces: BTreeSet<Vec<u8>> = (0..AT_ONCE).map(|message| said(message, SAMPLES)).collect();
    assert_eq!(pieces.len(), AT_ONCE, "each can be told from the others");
    for piece in &pieces {
        socket.speak(piece).await;
    }
    let mut places = BTreeSet::new();
    for _ in 0..AT_ONCE {
        let answer = socket.hear_json().await;
        assert_eq!(answer["message"], "AUDIO ACCEPTED", "{answer}");
        places.insert(answer["parameters"]["firstSample"].as_u64().expect("a place"));
    }
    let expected: BTreeSet<u64> = (0..AT_ONCE as u64).map(|place| place * SAMPLES as u64).collect();
    assert_eq!(places, expected);
    socket.close().await;
    let (_, audio) = recorded(data.path(), CONTACT).await;
    let [audio] = audio.as_slice() else { panic!("one stream") };
    assert_eq!(audio.len(), AT_ONCE * SAMPLES);
    let heard: BTreeSet<Vec<u8>> = audio.chunks(SAMPLES).map(<[u8]>::to_vec).collect();
    assert!(heard == pieces, "what was recorded is what was said");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_hears_script_app_and_streams_of_its_contact_and_of_no_other() {
    let (data, app) = (data(), App::start());
    app.answers(200, json!({"events": [{"type": "suggestion", "text": "Offer a refund."}]}));
    let arguments = [QUIET[0], "1h", "--assist-text-url", &app.url];
    let serve = Serve::start(data.path(), "127.0.0.1:0", &arguments, &PATIENT);
    let other = ContactKey { contact_id: CONTACT.contact_id + 1, ..CONTACT };
    let (mut page, mut other_page) =
        (Socket::open(serve.address, "/ws").await, Socket::open(serve.address, "/ws").await);
    for (socket, contact) in [(&mut page, CONTACT), (&mut other_page, other)] {
        socket.say(&subscribe(contact, None)).await;
        let answer = json!({"type": "subscribed", "busNo": contact.bus_no, "contactId": contact.contact_id});
        assert_eq!(socket.hear_json().await, answer);
    }
    let caller = Caller::of(serve.address);
    let tell = async |contact: ContactKey, event: Value| {
        let (status, answer) = caller.post(&events_of(contact), None, &event).await;
        assert_eq!(status, 200, "{answer}");
    };
    tell(CONTACT, json!({"event": "hold", "agentId": "17"})).await;
    let heard = page.hear_json().await;
    assert_eq!((&heard["type"], &heard["event"], &heard["agentId"]), (&json!("script"), &json!("hold"), &json!("17")));

    assert_eq!(caller.post(HOOK, None, &utterance(CONTACT, "I want my money back")).await.0, 200);
    let heard = page.until(|event| event["type"] == "app").await;
    assert_eq!((&heard["kind"], &heard["body"]["text"]), (&json!("suggestion"), &json!("Offer a refund.")));
    assert_eq!(heard["contactId"], CONTACT.contact_id);

    // And what happens on the shim's own socket.
    let mut call = Socket::open(serve.address, "/audio").await;
    call.say(&init(CONTACT, None)).await;
    assert_eq!(call.hear().await, CONNECTED);
    page.until(|event| event["type"] == "streamOpened" && event["perspective"] == "TX").await;
    call.binary(said(0, 1_600)).await;
    call.close().await;
    let closed = page.until(|event| event["type"] == "streamClosed").await;
    assert_eq!((&closed["samples"], &closed["contactId"]), (&json!(1_600), &json!(CONTACT.contact_id)));

    // Whoever listens to another contact has heard nothing of it all: this is the first that comes.
    tell(other, json!({"event": "start"})).await;
    let heard = other_page.hear_json().await;
    assert_eq!((&heard["event"], &heard["contactId"]), (&json!("start"), &json!(other.contact_id)));

    let wish = json!({"action": "unsubscribe", "busNo": CONTACT.bus_no, "contactId": CONTACT.contact_id});
    page.say(&wish).await;
    page.until(|event| event["type"] == "unsubscribed").await;
    tell(CONTACT, json!({"event": "resume"})).await;
    page.say(&subscribe(CONTACT, None)).await;
    assert_eq!(page.hear_json().await["type"], "subscribed", "nothing came in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_frame_is_closed_with_1003_and_what_was_said_before_is_kept() {
    let data = data();
    let serve = Serve::start(data.path(), "127.0.0.1:0", &QUIET, &PATIENT);
    let mut socket = streaming(&serve, CONTACT).await;
    socket.speak(&said(0, 800)).await;
    assert_eq!(socket.hear_json().await["message"], "AUDIO ACCEPTED");
    socket.binary(said(1, 160)).await;
    assert_eq!(socket.close_code().await, 1003);
    let (ledger, audio) = recorded(data.path(), CONTACT).await;
    assert_eq!(audio, [said(0, 800)]);
    assert_eq!(ledger.streams[0].closed.map(|closed| closed.reason), Some(CloseReason::PeerViolation));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_named_and_disturbs_no_call() {
    let data = data();
    let serve = Serve::start(data.path(), "127.0.0.1:0", &QUIET, &PATIENT);
    let mut early = Socket::open(serve.address, "/ws").await;
    early.speak(&said(0, 160)).await;
    let answer = early.hear_json().await;
    assert_eq!(answer["message"], "audio came before the init message was answered");
    early.say(&json!({"action": "subscribe", "busNo": "marker", "contactId": 1})).await;
    assert_eq!(early.hear_json().await["message"], "`busNo` must be a whole number of at most 64 bits");
    early.say(&json!({"executionInfo": {"busNo": 1}})).await;
    let answer = early.hear_json().await;
    assert!(answer["message"].as_str().is_some_and(|text| text.contains("contactId")), "{answer}");
    assert_eq!(early.close_code().await, 1000, "a refused init message is the end");

    let mut socket = streaming(&serve, CONTACT).await;
    socket.say(&init(CONTACT, None)).await;
    assert_eq!(socket.hear_json().await["message"], "an init message was accepted before");
    socket.speak(&said(0, 160)).await;
    assert_eq!(socket.hear_json().await["message"], "AUDIO ACCEPTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_both_kinds_of_sockets_counted_is_one_value_in_the_metrics() {
    let data = data();
    let serve = Serve::start(data.path(), "127.0.0.1:0", &QUIET, &PATIENT);
    let mut socket = streaming(&serve, CONTACT).await;
    socket.speak(&said(0, 800)).await;
    assert_eq!(socket.hear_json().await["message"], "AUDIO ACCEPTED");
    let mut call = Socket::open(serve.address, "/audio").await;
    let other = ContactKey { contact_id: CONTACT.contact_id + 1, ..CONTACT };
    call.say(&init(other, None)).await;
    assert_eq!(call.hear().await, CONNECTED);
    call.binary(said(0, 1_600)).await;
    call.close().await;
    serve.reaches("earpiece_stream_closes_total{reason=\"peer_closed\"}", 1).await;
    let metrics = Caller::of(serve.address).metrics().await;
    let values = metrics.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let mut series: Vec<&str> = values.map(|(series, _)| series).collect();
    series.sort_unstable();
    let twice: Vec<_> = series.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert_eq!(twice, [""; 0], "a scraper takes one of two values and drops the other");
    assert_eq!((serve.metric(STREAM_OPENS), serve.metric(AUDIO_BYTES)), (2, 2_400));
}
