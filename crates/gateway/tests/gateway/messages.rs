//! What becomes of messages.

use std::collections::BTreeSet;
use std::sync::Arc;

use earpiece_gateway::{InvokeError, Settings};
use futures_util::SinkExt as _;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_websockets::Message;

use crate::stage::{Stage, closed, content, functions, heard_json};

#[tokio::test]
async fn a_message_goes_to_the_function_of_its_route() {
    let mut settings = Settings::default();
    settings.routes.by_action.insert("subscribe".into(), "ws-subscribe".into());
    let stage = Stage::start(settings, content()).await;
    let (mut socket, id) = stage.open().await;
    let mut message_ids = BTreeSet::new();
    for (body, function, key) in [
        (r#"{"action":"subscribe","busNo":1}"#, "ws-subscribe", "subscribe"),
        (r#"{"action":"other"}"#, "ws-message", "$default"),
        ("f39/", "ws-message", "$default"),
    ] {
        socket.send(Message::text(body)).await.unwrap();
        let event = stage.asked_of(function).await;
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!(body), &json!(false)));
        let context = &event["requestContext"];
        assert_eq!((&context["routeKey"], &context["connectionId"]), (&json!(key), &json!(id)));
        assert_eq!((&context["eventType"], &context["messageDirection"]), (&json!("MESSAGE"), &json!("IN")));
        message_ids.insert(context["messageId"].as_str().unwrap().to_owned());
    }
    assert_eq!(message_ids.len(), 3);
}

#[tokio::test]
async fn a_message_in_several_frames_arrives_as_one() {
    let stage = Stage::start(Settings::default(), content()).await;
    let mut socket = stage.try_connect("/", 1000).await.unwrap();
    stage.asked_of("ws-connect").await;
    let body = "é".repeat(5000);
    socket.send(Message::text(body.clone())).await.unwrap();
    assert_eq!(stage.asked_of("ws-message").await["body"], body);
}

#[tokio::test]
async fn a_route_that_converts_marks_base64_and_refuses_the_rest() {
    let settings = Settings { convert_to_binary: ["$default".to_owned()].into(), ..Settings::default() };
    let stage = Stage::start(settings, content()).await;
    let (mut socket, id) = stage.open().await;
    socket.send(Message::text("f39/fw==")).await.unwrap();
    let event = stage.asked_of("ws-message").await;
    assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("f39/fw=="), &json!(true)));
    socket.send(Message::text("{}")).await.unwrap();
    let told = heard_json(&mut socket).await;
    assert_eq!((&told["message"], &told["connectionId"]), (&json!("Unable to transform request"), &json!(id)));
    stage.nothing_asked().await;
}

#[tokio::test]
async fn a_function_that_fails_is_told_to_the_client_and_the_connection_lives_on() {
    let failing = functions(|_, event| match event["body"].as_str() {
        Some("bad") => Err(InvokeError::Failed),
        _ => Ok(json!({ "statusCode": 200 })),
    });
    let stage = Stage::start(Settings::default(), failing).await;
    let (mut socket, id) = stage.open().await;
    socket.send(Message::text("bad")).await.unwrap();
    let event = stage.asked_of("ws-message").await;
    let expected = json!({
        "message": "Internal server error",
        "connectionId": id,
        "requestId": event["requestContext"]["requestId"],
    });
    assert_eq!(heard_json(&mut socket).await, expected);
    socket.send(Message::text("good")).await.unwrap();
    assert_eq!(stage.asked_of("ws-message").await["body"], "good");
}

#[tokio::test]
async fn a_function_in_this_process_that_panics_takes_nothing_with_it() {
    let panicking = functions(|_, event| match event["body"].as_str() {
        Some("bad") => panic!("as it should"),
        _ => Ok(json!({ "statusCode": 200 })),
    });
    let stage = Stage::start(Settings::default(), panicking).await;
    let (mut socket, _) = stage.open().await;
    socket.send(Message::text("bad")).await.unwrap();
    stage.asked_of("ws-message").await;
    assert_eq!(heard_json(&mut socket).await["message"], "Internal server error");
    socket.send(Message::text("good")).await.unwrap();
    assert_eq!(stage.asked_of("ws-message").await["body"], "good");
}

#[tokio::test]
async fn messages_of_one_connection_are_asked_about_together_up_to_a_limit_and_none_is_lost() {
    const MESSAGES: usize = 20;
    const AT_ONCE: usize = 3;
    let gate = Arc::new(Semaphore::new(0));
    let opener = gate.clone();
    let slow = Arc::new(move |name: String, _| -> futures_util::future::BoxFuture<'static, _> {
        let gate = gate.clone();
        Box::pin(async move {
            if name == "ws-message" {
                gate.acquire().await.unwrap().forget();
            }
            Ok(json!({ "statusCode": 200 }))
        })
    });
    let settings = Settings { in_flight_per_connection_max: AT_ONCE, ..Settings::default() };
    let stage = Stage::start(settings, slow).await;
    let (mut socket, id) = stage.open().await;
    for number in 0..MESSAGES {
        socket.send(Message::text(number.to_string())).await.unwrap();
    }
    let mut bodies = BTreeSet::new();
    for _ in 0..AT_ONCE {
        bodies.insert(stage.asked_of("ws-message").await["body"].as_str().unwrap().to_owned());
    }
    // The connection still hears what others tell it; had it read on, the next message would have been asked about.
    assert_eq!(stage.connections(http::Method::POST, &id, "{}").await.status(), 200);
    stage.nothing_asked().await;
    for _ in AT_ONCE..MESSAGES {
        opener.add_permits(1);
        bodies.insert(stage.asked_of("ws-message").await["body"].as_str().unwrap().to_owned());
    }
    assert_eq!(bodies.len(), MESSAGES);
}

#[tokio::test]
async fn a_binary_frame_closes_with_1003_and_what_came_before_is_still_heard() {
    let stage = Stage::start(Settings::default(), content()).await;
    let (mut socket, _) = stage.open().await;
    socket.feed(Message::text("before")).await.unwrap();
    socket.send(Message::binary(&b"\xff\x7f"[..])).await.unwrap();
    assert_eq!(closed(&mut socket).await, 1003);
    assert_eq!(stage.asked_of("ws-message").await["body"], "before");
    assert_eq!(stage.asked_of("ws-disconnect").await["requestContext"]["disconnectStatusCode"], 1003);
}

#[tokio::test]
async fn frames_up_to_32_kib_and_messages_up_to_128_kib_pass_and_larger_ones_close_with_1009() {
    let stage = Stage::start(Settings::default(), content()).await;
    for (frame_bytes, message_bytes, is_allowed) in [
        (32 * 1024, 128 * 1024, true),
        (32 * 1024, 32 * 1024, true),
        (32 * 1024 + 1, 32 * 1024 + 1, false),
        (32 * 1024, 128 * 1024 + 1, false),
    ] {
        let mut socket = stage.try_connect("/", frame_bytes).await.unwrap();
        stage.asked_of("ws-connect").await;
        let body = "x".repeat(message_bytes);
        socket.send(Message::text(body.clone())).await.unwrap();
        if is_allowed {
            assert_eq!(stage.asked_of("ws-message").await["body"], body);
            socket.send(Message::close(None, "")).await.unwrap();
        } else {
            assert_eq!(closed(&mut socket).await, 1009, "{frame_bytes} {message_bytes}");
        }
        let context = stage.asked_of("ws-disconnect").await["requestContext"].clone();
        assert_eq!(context["disconnectStatusCode"], if is_allowed { 1005 } else { 1009 });
    }
}
