//! `@connections`.

use std::sync::Arc;

use earpiece_gateway::Settings;
use futures_util::SinkExt as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_websockets::Message;

use crate::stage::{Stage, closed, content, heard};

#[tokio::test]
async fn what_is_posted_arrives_as_text_and_in_order() {
    let stage = Stage::start(Settings::default(), content()).await;
    let (mut socket, id) = stage.open().await;
    for number in 0..50 {
        assert_eq!(stage.connections(Method::POST, &id, format!("{{\"n\":{number}}}")).await.status(), StatusCode::OK);
    }
    for number in 0..50 {
        assert_eq!(heard(&mut socket).await.as_text(), Some(format!("{{\"n\":{number}}}").as_str()));
    }
}

#[tokio::test]
async fn a_connection_can_be_looked_at() {
    let stage = Stage::start(Settings::default(), content()).await;
    let (_socket, id) = stage.open().await;
    let answer = stage.connections(Method::GET, &id, "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let seen: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(seen["identity"]["sourceIp"], "127.0.0.1");
    for time in ["connectedAt", "lastActiveAt"] {
        assert!(seen[time].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{seen}");
    }
}

#[tokio::test]
async fn a_deleted_connection_closes_and_is_gone() {
    let stage = Stage::start(Settings::default(), content()).await;
    let (mut socket, id) = stage.open().await;
    assert_eq!(stage.connections(Method::DELETE, &id, "").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(closed(&mut socket).await, 1000);
    stage.asked_of("ws-disconnect").await;
    for method in [Method::POST, Method::GET, Method::DELETE] {
        let answer = stage.connections(method, &id, "{}").await;
        assert_eq!(answer.status(), StatusCode::GONE);
        assert_eq!(answer.headers()["x-amzn-errortype"], "GoneException");
    }
}

#[tokio::test]
async fn what_nobody_was_ever_given_is_gone_too() {
    let stage = Stage::start(Settings::default(), content()).await;
    assert_eq!(stage.connections(Method::POST, "AAAAAAAAAAAAAAA=", "x").await.status(), StatusCode::GONE);
}

#[tokio::test]
async fn a_connection_that_the_client_closed_is_gone_before_disconnect_is_asked() {
    let stage = Stage::start(Settings::default(), content()).await;
    let (mut socket, id) = stage.open().await;
    socket.send(Message::close(None, "")).await.unwrap();
    stage.asked_of("ws-disconnect").await;
    assert_eq!(stage.connections(Method::POST, &id, "x").await.status(), StatusCode::GONE);
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_and_the_connection_stays() {
    let stage = Stage::start(Settings::default(), content()).await;
    let (mut socket, id) = stage.open().await;
    let too_large = stage.connections(Method::POST, &id, vec![b'x'; 128 * 1024 + 1]).await;
    assert_eq!(too_large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let not_text = stage.connections(Method::POST, &id, &b"\xff\xfe"[..]).await;
    assert_eq!(not_text.status(), StatusCode::BAD_REQUEST);
    let largest = "x".repeat(128 * 1024);
    assert_eq!(stage.connections(Method::POST, &id, largest.clone()).await.status(), StatusCode::OK);
    assert_eq!(heard(&mut socket).await.as_text(), Some(largest.as_str()));
}

#[tokio::test]
async fn nothing_can_be_posted_before_connect_has_answered() {
    let answered = Arc::new(Notify::new());
    let gate = answered.clone();
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
    let judging = async {
        let event = stage.asked_of("ws-connect").await;
        let id = event["requestContext"]["connectionId"].as_str().unwrap().to_owned();
        let early = stage.connections(Method::POST, &id, "early").await.status();
        answered.notify_one();
        (id, early)
    };
    let (mut socket, (id, early)) = tokio::join!(stage.connect(), judging);
    assert_eq!(early, StatusCode::GONE);
    assert_eq!(stage.connections(Method::POST, &id, "now").await.status(), StatusCode::OK);
    assert_eq!(heard(&mut socket).await.as_text(), Some("now"));
}
