//! Audio that came through API Gateway, handed over in pieces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use earpiece_core::config::Setting;
use earpiece_core::contact::connection::APP_BYTES_MAX;
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_recorder::Recorder;
use earpiece_shim::settings::{ASSIST_URL, INGEST_TOKENS};
use serde_json::{Value, json};

use crate::stage::{Answer, App, House, contact};

const TOKEN: (Setting, &str) = (INGEST_TOKENS, "pieces");

/// Samples of a piece.
const PIECE: u64 = 800;

/// A stream and the audio of it.
struct Stream {
    contact: ContactKey,
    id: StreamId,
}

impl Stream {
    fn new(contact_id: u64) -> Self {
        Self { contact: contact(contact_id), id: StreamId::new() }
    }

    fn audio(first_sample: u64, samples: u64) -> Vec<u8> {
        (first_sample..first_sample + samples).map(|sample| (sample % 251).to_le_bytes()[0]).collect()
    }

    fn facts(&self, samples: u64) -> Value {
        let run =
            json!({ "firstSample": 0, "samples": samples, "anchorUs": 1_700_000_000_000_000_i64, "driftSamples": 0 });
        json!({
            "contact": self.contact, "stream": self.id, "perspective": "TX", "generation": 1,
            "openedUs": 1_700_000_000_000_000_i64, "task": "apigw/x", "segmentMs": 1000, "frames": samples / PIECE,
            "samples": samples, "runs": [run],
        })
    }

    fn headers(&self, samples: u64) -> Vec<(&'static str, String)> {
        vec![
            ("Authorization", "Bearer pieces".to_owned()),
            ("Earpiece-Contact", self.contact.to_string()),
            ("Earpiece-Stream", self.id.to_string()),
            ("Earpiece-Perspective", "TX".to_owned()),
            ("Earpiece-Generation", "1".to_owned()),
            ("Earpiece-Facts", STANDARD.encode(self.facts(samples).to_string())),
        ]
    }

    /// Hands over the piece that begins at a sample.
    async fn piece(&self, house: &House, first_sample: u64) -> Answer {
        let mut headers = self.headers(first_sample + PIECE);
        headers.push(("Earpiece-First-Sample", first_sample.to_string()));
        post(house, "/ingest", &headers, &Self::audio(first_sample, PIECE)).await
    }
}

async fn post(house: &House, path: &str, headers: &[(&'static str, String)], body: &[u8]) -> Answer {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    house.request("POST", path, &headers, body).await
}

#[tokio::test]
async fn pieces_are_recorded_and_reach_the_app_once_and_in_order_and_what_it_says_is_kept() {
    let mut app = App::open(r#"{"type":"transcript","text":"hello"}"#).await;
    let house = House::open(&[TOKEN, (ASSIST_URL, &app.url)]).await;
    let stream = Stream::new(1);
    for first_sample in [PIECE, 0, PIECE, 3 * PIECE, 2 * PIECE] {
        let answer = stream.piece(&house, first_sample).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"accepted":true}"#));
    }
    let (_, start) = app.next_text().await;
    assert_eq!((&start["type"], &start["contact"]), (&json!("start"), &json!(stream.contact)), "{start}");
    assert_eq!(house.metric("earpiece_ingest_sessions").await, 1);
    let ended = post(&house, "/ingest/end", &stream.headers(4 * PIECE), b"").await;
    assert_eq!(ended.status, 200, "{}", ended.body);
    let (audio, stop) = app.next_text().await;
    assert_eq!((&stop["type"], &stop["reason"]), (&json!("stop"), &json!("peer_closed")), "{stop}");
    assert_eq!(audio, Stream::audio(0, 4 * PIECE));
    house.wait_for_metric("earpiece_ingest_sessions", 0).await;
    // A straggler is written, and the app is not told of a stream that is over.
    assert_eq!(stream.piece(&house, 0).await.status, 200);
    assert_eq!(house.metric("earpiece_ingest_sessions").await, 0);
    assert_eq!(house.metric(r#"earpiece_ingest_pieces_total{outcome="duplicate"}"#).await, 1);

    let location = house.data.path().to_str().expect("a Unicode path");
    let recorder = Recorder::open(location, earpiece_recorder::Settings::default()).expect("a recorder");
    let ledger = recorder.ledger(stream.contact).await.expect("a ledger").expect("a contact");
    assert_eq!(ledger.samples, 4 * PIECE);
    // What the app said meanwhile is written beside the audio, and is not lost with a task that goes now.
    let data = house.close().await;
    recorder.finish(stream.contact).await.expect("finished");
    let events = data.path().join(format!("contacts/{}/events.jsonl", stream.contact));
    let events = std::fs::read_to_string(events).expect("a file of events");
    let [event] = events.lines().collect::<Vec<_>>()[..] else { panic!("one event: {events}") };
    let event: Value = serde_json::from_str(event).expect("JSON");
    assert_eq!((&event["stream"], &event["body"]["text"]), (&json!(stream.id), &json!("hello")), "{event}");
}

#[tokio::test]
async fn what_a_drain_finds_waiting_still_reaches_the_app() {
    let mut app = App::open("{}").await;
    let house = House::open(&[TOKEN, (ASSIST_URL, &app.url)]).await;
    let stream = Stream::new(2);
    assert_eq!(stream.piece(&house, 0).await.status, 200);
    assert_eq!(stream.piece(&house, 2 * PIECE).await.status, 200);
    let (_, start) = app.next_text().await;
    assert_eq!(start["type"], "start");
    house.close().await;
    let (before, gap) = app.next_text().await;
    assert_eq!((before, &gap["samples"]), (Stream::audio(0, PIECE), &json!(PIECE)), "{gap}");
    let (after, stop) = app.next_text().await;
    assert_eq!((after, &stop["reason"]), (Stream::audio(2 * PIECE, PIECE), &json!("drained")), "{stop}");
}

#[tokio::test]
async fn without_an_app_pieces_are_recorded_all_the_same() {
    let house = House::open(&[TOKEN]).await;
    let stream = Stream::new(3);
    assert_eq!(stream.piece(&house, 0).await.status, 200);
    assert_eq!(house.metric("earpiece_ingest_sessions").await, 0);
    assert_eq!(post(&house, "/ingest/end", &stream.headers(PIECE), b"").await.status, 200);
}

#[tokio::test]
async fn a_piece_without_audio_is_recorded_and_not_for_the_app() {
    let app = App::open("{}").await;
    let house = House::open(&[TOKEN, (ASSIST_URL, &app.url)]).await;
    let stream = Stream::new(7);
    let mut headers = stream.headers(0);
    headers.push(("Earpiece-First-Sample", "0".to_owned()));
    // As the handler writes a generation that it does not know.
    let mut facts = stream.facts(0);
    facts["generation"] = Value::Null;
    headers.retain(|(name, _)| !["Earpiece-Generation", "Earpiece-Facts"].contains(name));
    headers.push(("Earpiece-Generation", "0".to_owned()));
    headers.push(("Earpiece-Facts", STANDARD.encode(facts.to_string())));
    let answer = post(&house, "/ingest", &headers, b"").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(house.metric("earpiece_ingest_sessions").await, 0);
    let written = std::fs::read_dir(house.data.path().join(format!("live/{}", stream.contact))).expect("a folder");
    assert_eq!(written.count(), 1);
}

#[tokio::test]
async fn only_who_may_hands_audio_over_and_only_what_can_be_read() {
    let house = House::open(&[TOKEN]).await;
    let stream = Stream::new(4);
    let mut good = stream.headers(PIECE);
    good.push(("Earpiece-First-Sample", "0".to_owned()));
    let with = |name: &'static str, value: &str| {
        let mut headers = good.clone();
        headers.retain(|(known, _)| *known != name);
        if !value.is_empty() {
            headers.push((name, value.to_owned()));
        }
        headers
    };
    let audio = Stream::audio(0, PIECE);
    let wrong = post(&house, "/ingest", &with("Authorization", "Bearer guess"), &audio).await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.head.contains("www-authenticate: bearer"), "{}", wrong.head);
    assert_eq!(house.metric(r#"earpiece_auth_refusals_total{door="shim",reason="wrong"}"#).await, 1);
    for (name, value) in [
        ("Earpiece-Contact", "4711/5"),
        ("Earpiece-Stream", ""),
        ("Earpiece-First-Sample", "x"),
        ("Earpiece-First-Sample", "1"),
        ("Earpiece-Facts", "e30="),
    ] {
        let answer = post(&house, "/ingest", &with(name, value), &audio).await;
        assert_eq!(answer.status, 400, "{name}: {value}: {}", answer.body);
    }
    assert_eq!(post(&house, "/ingest", &good, &vec![0; 128 * 1024 + 1]).await.status, 413);
    assert_eq!(house.request("GET", "/ingest", &[], b"").await.status, 405);
    assert_eq!(house.metric(r#"earpiece_ingest_pieces_total{outcome="relayed"}"#).await, 0);
}

#[tokio::test]
async fn with_the_first_piece_that_a_task_sees_the_app_is_told_what_the_init_message_says() {
    let mut app = App::open("{}").await;
    let house = House::open(&[TOKEN, (ASSIST_URL, &app.url)]).await;
    let stream = Stream::new(9);
    let told = json!({ "appParams": { "language": "de-DE" }, "appConfig": "billing", "unknown": { "colour": "blue" } });
    let mut headers = stream.headers(PIECE);
    headers.extend([("Earpiece-App", STANDARD.encode(told.to_string())), ("Earpiece-First-Sample", "0".to_owned())]);
    assert_eq!(post(&house, "/ingest", &headers, &Stream::audio(0, PIECE)).await.status, 200);
    let (_, start) = app.next_text().await;
    assert_eq!(start["type"], "start", "{start}");
    for (name, value) in told.as_object().expect("an object") {
        assert_eq!(&start[name], value, "{start}");
    }
}

#[tokio::test]
async fn facts_of_a_stream_with_many_breaks_and_much_to_tell_the_app_fit_in() {
    let house = House::open(&[TOKEN]).await;
    let stream = Stream::new(8);
    let mut facts = stream.facts(PIECE);
    facts["runs"] = vec![facts["runs"][0].clone(); 420].into();
    let encoded = STANDARD.encode(facts.to_string());
    assert!((40 * 1024..48 * 1024).contains(&encoded.len()), "{}", encoded.len());
    let mut headers = stream.headers(PIECE);
    headers.retain(|(name, _)| *name != "Earpiece-Facts");
    let told = json!({ "appParams": "x".repeat(APP_BYTES_MAX - 64), "appConfig": null, "unknown": null }).to_string();
    assert!((APP_BYTES_MAX - 64..=APP_BYTES_MAX).contains(&told.len()), "{}", told.len());
    headers.extend([
        ("Earpiece-Facts", encoded),
        ("Earpiece-App", STANDARD.encode(told)),
        ("Earpiece-First-Sample", "0".to_owned()),
    ]);
    let answer = post(&house, "/ingest", &headers, &Stream::audio(0, PIECE)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn where_nobody_may_hand_audio_over_there_is_no_such_path() {
    let house = House::open(&[]).await;
    assert_eq!(Stream::new(5).piece(&house, 0).await.status, 404);
}

#[tokio::test]
async fn a_piece_that_cannot_be_written_is_to_be_sent_again() {
    let house = House::open(&[TOKEN]).await;
    // Nothing can be made below a file.
    std::fs::write(house.data.path().join("live"), b"").expect("a file");
    let answer = Stream::new(6).piece(&house, 0).await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert_eq!(house.metric(r#"earpiece_ingest_pieces_total{outcome="unwritten"}"#).await, 1);
}
