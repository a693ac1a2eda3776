//! Functions behind Lambda's invoke API, over HTTP.

use std::convert::Infallible;

use bytes::Bytes;
use earpiece_gateway::{Invoke, Settings};
use earpiece_https::Trust;
use earpiece_https::client::Client;
use futures_util::SinkExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_websockets::Message;

use crate::stage::{Asked, Stage, heard_json};

/// Answers as the invoke API of Lambda does: `bad` makes a function throw.
async fn answer(
    request: Request<Incoming>,
    asked: mpsc::UnboundedSender<Asked>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let function = path.strip_prefix("/2015-03-31/functions/").and_then(|path| path.strip_suffix("/invocations"));
    let Some(function) = function.map(str::to_owned) else {
        return Ok(Response::builder().status(404).body(Full::default()).unwrap());
    };
    let event: Value = serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap();
    let is_bad = event["body"] == "bad";
    let _ = asked.send((function, event));
    let answer = if is_bad {
        let thrown = json!({ "errorType": "Error", "errorMessage": "hunter2" }).to_string();
        Response::builder().header("x-amz-function-error", "Unhandled").body(Full::from(thrown))
    } else {
        Response::builder().body(Full::from(json!({ "statusCode": 200 }).to_string()))
    };
    Ok(answer.unwrap())
}

async fn lambda() -> (String, mpsc::UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let service = service_fn(move |request| answer(request, sender.clone()));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (endpoint, asked)
}

fn client() -> Client {
    Client::new(&Trust::public()).unwrap()
}

#[tokio::test]
async fn functions_are_asked_through_the_invoke_api() {
    let (endpoint, asked) = lambda().await;
    let stage = Stage::with(Settings::default(), Invoke::Http { client: Box::new(client()), endpoint }, asked).await;
    let (mut socket, _) = stage.open().await;
    socket.send(Message::text("good")).await.unwrap();
    assert_eq!(stage.asked_of("ws-message").await["body"], "good");
    socket.send(Message::text("bad")).await.unwrap();
    stage.asked_of("ws-message").await;
    let told = heard_json(&mut socket).await;
    assert_eq!(told["message"], "Internal server error");
    assert!(!told.to_string().contains("hunter2"));
    socket.send(Message::close(None, "")).await.unwrap();
    assert_eq!(stage.asked_of("ws-disconnect").await["requestContext"]["disconnectStatusCode"], 1005);
}

#[tokio::test]
async fn without_functions_nobody_gets_in() {
    let (_sender, asked) = mpsc::unbounded_channel();
    let invoke = Invoke::Http { client: Box::new(client()), endpoint: "http://127.0.0.1:1".into() };
    let stage = Stage::with(Settings::default(), invoke, asked).await;
    assert_eq!(stage.try_connect("/", 1024).await.err(), Some(502));
}
