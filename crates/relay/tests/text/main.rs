//! The text relay before an assist app, over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use earpiece_core::protocol::Utterance;
use earpiece_core::secret::Secret;
use earpiece_https::Trust;
use earpiece_https::client::Client;
use earpiece_relay::text::{TextRelay, TextSettings, Undelivered, UtteranceNote};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(20);

/// What one request looked like.
struct Seen {
    line: String,
    headers: http::HeaderMap,
    body: Bytes,
}

/// An assist app that answers what it is told, and remembers what it was asked.
struct App {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl App {
    async fn answering(script: Vec<Response<Full<Bytes>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/text?token=t", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (asked, script) = (seen.clone(), Arc::new(Mutex::new(VecDeque::from(script))));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, script) = (asked.clone(), script.clone());
                let service = service_fn(move |request| answer(request, asked.clone(), script.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, seen }
    }

    fn relay(&self) -> TextRelay {
        let settings = TextSettings {
            authorization: Some(Secret::new("Bearer text")),
            ..TextSettings::new(Secret::new(self.url.clone()))
        };
        relay(settings)
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<Response<Full<Bytes>>>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    seen.lock().unwrap().push(Seen { line: format!("{} {}", head.method, head.uri), headers: head.headers, body });
    Ok(script.lock().unwrap().pop_front().unwrap_or_default())
}

fn relay(settings: TextSettings) -> TextRelay {
    TextRelay::new(Client::new(&Trust::public()).unwrap(), settings).unwrap()
}

fn status(status: u16) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::default()).unwrap()
}

fn note() -> UtteranceNote {
    let body = json!({ "contactId": 7, "busNo": 4, "participantId": "patron", "messageBody": "hello" });
    UtteranceNote::new(&Utterance::from_value(body).unwrap(), "0199a3b27c10", 1_700_000_000_000)
}

#[tokio::test]
async fn an_utterance_is_posted_with_its_key_and_the_headers_of_text() {
    let app = App::answering(Vec::new()).await;
    assert_eq!(app.relay().deliver(&note(), PATIENCE).await, Ok(Vec::new()));
    let seen = app.seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "POST /text?token=t");
    for (name, value) in
        [("authorization", "Bearer text"), ("content-type", "application/json"), ("idempotency-key", "0199a3b27c10")]
    {
        assert_eq!(seen[0].headers[name], value);
    }
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!((&body["text"], &body["requestId"]), (&json!("hello"), &json!("0199a3b27c10")));
}

#[tokio::test]
async fn a_later_attempt_posts_what_was_kept_under_the_same_key() {
    let app = App::answering(vec![status(503)]).await;
    let first = note();
    assert_eq!(app.relay().deliver(&first, PATIENCE).await, Err(Undelivered::Again { after: None }));
    let mut second = UtteranceNote::from_payload(&first.to_payload()).unwrap();
    second.attempt = 2;
    assert_eq!(app.relay().deliver(&second, PATIENCE).await, Ok(Vec::new()));
    let seen = app.seen.lock().unwrap();
    assert_eq!(seen[0].headers["idempotency-key"], seen[1].headers["idempotency-key"]);
    let bodies: Vec<Value> = seen.iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    assert_eq!((&bodies[0]["attempt"], &bodies[1]["attempt"]), (&json!(1), &json!(2)));
    assert_eq!(bodies[0]["receivedAtMs"], bodies[1]["receivedAtMs"]);
}

#[tokio::test]
async fn events_in_the_answer_come_back() {
    let events = json!({ "events": [{ "type": "suggestion", "text": "Say hello." }] });
    let app = App::answering(vec![Response::new(Full::from(events.to_string()))]).await;
    let heard = app.relay().deliver(&note(), PATIENCE).await;
    assert_eq!(heard, Ok(vec![json!({ "type": "suggestion", "text": "Say hello." })]));
}

#[tokio::test]
async fn a_busy_app_is_left_alone_as_long_as_it_says_a_refusal_is_final_and_a_detour_is_not() {
    let busy = Response::builder().status(429).header("retry-after", "7").body(Full::default()).unwrap();
    let app = App::answering(vec![busy, status(422), status(308)]).await;
    let relay = app.relay();
    let after = Some(Duration::from_secs(7));
    assert_eq!(relay.deliver(&note(), PATIENCE).await, Err(Undelivered::Again { after }));
    assert_eq!(relay.deliver(&note(), PATIENCE).await, Err(Undelivered::Refused { status: 422 }));
    assert_eq!(relay.deliver(&note(), PATIENCE).await, Err(Undelivered::Again { after: None }));
}

#[tokio::test]
async fn an_answer_above_the_limit_is_no_answer() {
    let app = App::answering(vec![Response::new(Full::from(vec![b' '; 2048]))]).await;
    let settings = TextSettings { answer_bytes_max: 1024, ..TextSettings::new(Secret::new(app.url.clone())) };
    assert_eq!(relay(settings).deliver(&note(), PATIENCE).await, Err(Undelivered::Again { after: None }));
}

#[tokio::test]
async fn an_app_that_is_away_may_come_back() {
    let settings = TextSettings::new(Secret::new("http://127.0.0.1:1/text"));
    assert_eq!(relay(settings).deliver(&note(), PATIENCE).await, Err(Undelivered::Again { after: None }));
}

#[tokio::test(start_paused = true)]
async fn the_shorter_of_both_deadlines_holds() {
    // Takes connections, and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/text", listener.local_addr().unwrap());
    let settings = TextSettings { deadline: Duration::from_secs(4), ..TextSettings::new(Secret::new(url)) };
    let relay = relay(settings);
    for (asked, expected) in [(Duration::from_secs(2), 2), (Duration::from_secs(9), 4)] {
        let begun = tokio::time::Instant::now();
        assert_eq!(relay.deliver(&note(), asked).await, Err(Undelivered::Again { after: None }));
        assert_eq!(begun.elapsed().as_secs(), expected);
    }
}

#[test]
fn a_relay_prints_nothing_of_its_address() {
    let relay = relay(TextSettings::new(Secret::new("https://hunter2.example/")));
    assert_eq!(format!("{relay:?}"), "TextRelay");
}
