//! The push before a stand-in of API Gateway's `@connections`, over real HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use earpiece_push::{ATTEMPTS_MAX, MESSAGE_BYTES_MAX, OPERATION_TIMEOUT, Push, PushError};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What one request looked like: method, path, body.
type Seen = (String, String, Bytes);

/// Answers with the statuses of a script, then 200, and remembers what it was asked.
struct Stand {
    endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stand {
    async fn answering(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/prod", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(statuses.to_vec())));
        let asked = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, script) = (asked.clone(), script.clone());
                let service = service_fn(move |request| answer(request, seen.clone(), script.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { endpoint, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<u16>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert!(request.headers().contains_key("authorization"), "the SDK signs every request");
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    seen.lock().unwrap().push((method, path, body));
    let status = script.lock().unwrap().pop_front().unwrap_or(200);
    let body = format!(r#"{{"message":"status {status}"}}"#);
    Ok(Response::builder().status(status).body(Full::from(body)).unwrap())
}

#[tokio::test]
async fn a_frame_goes_to_its_connection_as_it_is() {
    let stand = Stand::answering(&[]).await;
    // On a loopback address, and without any credential in the environment.
    let push = Push::connect(&stand.endpoint).await;
    push.post("L0SM9cOFvHcCIhw=", b"{\"type\":\"app\"}").await.unwrap();
    push.close("L0SM9cOFvHcCIhw=").await.unwrap();
    let path = String::from("/prod/@connections/L0SM9cOFvHcCIhw=");
    let seen: Vec<_> = stand
        .seen()
        .into_iter()
        .map(|(method, path, body)| (method, path.replace("%40", "@").replace("%3D", "="), body))
        .collect();
    assert_eq!(
        seen,
        [
            (String::from("POST"), path.clone(), Bytes::from_static(b"{\"type\":\"app\"}")),
            (String::from("DELETE"), path, Bytes::new())
        ]
    );
}

#[tokio::test]
async fn a_connection_that_is_gone_is_told_and_not_tried_again() {
    let stand = Stand::answering(&[410, 410]).await;
    let push = Push::connect_local(&stand.endpoint);
    assert_eq!(push.post("a=", b"x").await, Err(PushError::Gone));
    assert_eq!(push.close("a=").await, Err(PushError::Gone));
    assert_eq!(stand.seen().len(), 2);
}

#[tokio::test]
async fn throttling_and_failures_pass_within_a_few_attempts() {
    let stand = Stand::answering(&[429, 503, 429]).await;
    Push::connect_local(&stand.endpoint).post("a=", b"x").await.unwrap();
    assert_eq!(stand.seen().len(), 4);
}

#[tokio::test]
async fn throttling_that_does_not_pass_is_told_after_a_stated_number_of_attempts() {
    let stand = Stand::answering(&[429; 10]).await;
    assert_eq!(Push::connect_local(&stand.endpoint).post("a=", b"x").await, Err(PushError::Throttled));
    assert_eq!(stand.seen().len(), ATTEMPTS_MAX as usize);
}

#[tokio::test]
async fn what_is_too_large_is_not_even_sent() {
    let stand = Stand::answering(&[413]).await;
    let push = Push::connect_local(&stand.endpoint);
    assert_eq!(push.post("a=", &vec![b'x'; MESSAGE_BYTES_MAX + 1]).await, Err(PushError::TooLarge));
    assert_eq!(stand.seen(), []);
    assert_eq!(push.post("a=", &vec![b'x'; MESSAGE_BYTES_MAX]).await, Err(PushError::TooLarge));
    assert_eq!(stand.seen().len(), 1);
}

#[tokio::test]
async fn a_missing_permission_is_no_reason_to_forget_a_connection() {
    let stand = Stand::answering(&[403]).await;
    assert_eq!(Push::connect_local(&stand.endpoint).post("a=", b"x").await, Err(PushError::Refused));
}

#[tokio::test]
async fn a_dead_endpoint_is_unavailable() {
    assert_eq!(Push::connect_local("http://127.0.0.1:1/prod").post("a=", b"x").await, Err(PushError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_answers_costs_a_stated_time_and_gets_the_frame_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let push = Push::connect_local(&format!("http://{}/prod", listener.local_addr().unwrap()));
    let asked = tokio::time::Instant::now();
    assert_eq!(push.post("a=", b"x").await, Err(PushError::Unavailable));
    assert!(asked.elapsed() <= OPERATION_TIMEOUT + Duration::from_millis(1), "{:?}", asked.elapsed());
    assert!(listener.accept().is_ok());
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "no second attempt");
}

#[test]
fn a_push_prints_nothing_of_its_endpoint() {
    assert_eq!(format!("{:?}", Push::connect_local("http://127.0.0.1:1/hunter2")), "Push");
}
