//! Who gets in.

use std::sync::Arc;

use earpiece_gateway::{InvokeError, Routes, Settings};
use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_websockets::Message;

use crate::stage::{Stage, content, functions};

fn authorized() -> Settings {
    Settings { authorizer: Some("authorizer".into()), ..Settings::default() }
}

fn policy(effect: &str, method_arn: &Value) -> Value {
    json!({
        "principalId": "studio",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{ "Action": "execute-api:Invoke", "Effect": effect, "Resource": method_arn }],
        },
        "context": { "busNo": "4595000" },
    })
}

#[tokio::test]
async fn a_client_gets_in_with_or_without_the_stage_and_connect_hears_what_it_said() {
    let stage = Stage::start(Settings::default(), content()).await;
    let mut sockets = Vec::new();
    for path in ["/local?token=t%20t", "/?token=t%20t"] {
        sockets.push(stage.try_connect(path, 1024).await.unwrap());
        let event = stage.asked_of("ws-connect").await;
        assert_eq!(event["queryStringParameters"]["token"], "t t");
        assert_eq!(event["requestContext"]["eventType"], "CONNECT");
        assert_eq!(event["requestContext"]["domainName"], stage.address.to_string());
    }
    assert_eq!(stage.try_connect("/elsewhere", 1024).await.err(), Some(403));
}

#[tokio::test]
async fn connect_decides_with_its_status_and_no_disconnect_follows_a_refusal() {
    let refusing = functions(|_, event| match event["queryStringParameters"]["say"].as_str() {
        Some("throw") => Err(InvokeError::Failed),
        Some(status) => Ok(json!({ "statusCode": status })),
        None => Ok(Value::Null),
    });
    let stage = Stage::start(Settings::default(), refusing).await;
    for (say, status) in [("401", 401), ("403", 403), ("500", 500), ("throw", 502), ("", 502)] {
        assert_eq!(stage.try_connect(&format!("/?say={say}"), 1024).await.err(), Some(status), "{say}");
        stage.asked_of("ws-connect").await;
    }
    stage.nothing_asked().await;
}

#[tokio::test]
async fn without_a_connect_route_everybody_gets_in() {
    let routes = Routes { connect: None, disconnect: None, ..Settings::default().routes };
    let stage = Stage::start(Settings { routes, ..Settings::default() }, content()).await;
    let mut socket = stage.connect().await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(stage.asked_of("ws-message").await["body"], "hello");
}

#[tokio::test]
async fn the_authorizer_is_asked_once_and_its_words_are_in_every_later_event() {
    let judging = functions(|name, event| match name {
        "authorizer" => Ok(policy("Allow", &event["methodArn"])),
        _ => Ok(json!({ "statusCode": 200 })),
    });
    let stage = Stage::start(authorized(), judging).await;
    let mut socket = stage.try_connect("/?token=t", 1024).await.unwrap();
    let event = stage.asked_of("authorizer").await;
    assert_eq!((&event["type"], &event["queryStringParameters"]["token"]), (&json!("REQUEST"), &json!("t")));
    socket.send(Message::text("hello")).await.unwrap();
    let mut later = vec![stage.asked_of("ws-connect").await, stage.asked_of("ws-message").await];
    socket.send(Message::close(None, "")).await.unwrap();
    later.push(stage.asked_of("ws-disconnect").await);
    for later in later {
        let expected = json!({ "principalId": "studio", "busNo": "4595000" });
        assert_eq!(later["requestContext"]["authorizer"], expected);
        assert_eq!(later["requestContext"]["connectionId"], event["requestContext"]["connectionId"]);
    }
}

#[tokio::test]
async fn whom_the_authorizer_does_not_allow_connect_never_sees() {
    let judging = functions(|_, event| match event["queryStringParameters"]["say"].as_str() {
        Some("deny") => Ok(policy("Deny", &event["methodArn"])),
        Some("elsewhere") => Ok(policy("Allow", &json!("arn:aws:execute-api:*:*:*/other/*"))),
        Some("unauthorized") => Err(InvokeError::Unauthorized),
        Some("throw") => Err(InvokeError::Failed),
        _ => Ok(json!({ "isAuthorized": true })),
    });
    let stage = Stage::start(authorized(), judging).await;
    for (say, status) in [("deny", 403), ("elsewhere", 403), ("unauthorized", 401), ("throw", 500), ("simple", 500)] {
        assert_eq!(stage.try_connect(&format!("/?say={say}"), 1024).await.err(), Some(status), "{say}");
        stage.asked_of("authorizer").await;
    }
    stage.nothing_asked().await;
}

#[tokio::test]
async fn above_the_limit_of_connections_clients_are_refused_until_one_leaves() {
    let stage = Stage::start(Settings { connections_max: 1, ..Settings::default() }, content()).await;
    let (mut first, _) = stage.open().await;
    assert_eq!(stage.try_connect("/", 1024).await.err(), Some(429));
    first.send(Message::close(None, "")).await.unwrap();
    stage.asked_of("ws-disconnect").await;
    // The place is given back when `$disconnect` was heard, which is no event of its own.
    while stage.try_connect("/", 1024).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_judged_is_disconnected_once_it_was_let_in() {
    let judged = Arc::new(Notify::new());
    let gate = judged.clone();
    let slow = Arc::new(move |name: String, _| -> futures_util::future::BoxFuture<'static, _> {
        let gate = gate.clone();
        Box::pin(async move {
            if name == "ws-connect" {
                gate.notified().await;
            }
            Ok(json!({ "statusCode": 200 }))
        })
    });
    let stage = Stage::start(Settings::default(), slow).await;
    let mut client = TcpStream::connect(stage.address).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let connect = stage.asked_of("ws-connect").await;
    drop(client);
    judged.notify_one();
    let disconnect = stage.asked_of("ws-disconnect").await;
    assert_eq!(disconnect["requestContext"]["connectionId"], connect["requestContext"]["connectionId"]);
    assert_eq!(disconnect["requestContext"]["disconnectStatusCode"], 1006);
}
