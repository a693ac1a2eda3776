//! How connections end.

use std::time::Duration;

use earpiece_gateway::Settings;
use futures_util::SinkExt as _;
use tokio_websockets::{CloseCode, Message};

use crate::stage::{Stage, closed, content};

#[tokio::test]
async fn disconnect_hears_the_clients_own_code_and_reason() {
    let stage = Stage::start(Settings::default(), content()).await;
    let (mut socket, id) = stage.open().await;
    socket.send(Message::close(Some(CloseCode::NORMAL_CLOSURE), "bye")).await.unwrap();
    assert_eq!(closed(&mut socket).await, 1000);
    let context = stage.asked_of("ws-disconnect").await["requestContext"].clone();
    assert_eq!(
        (context["disconnectStatusCode"].as_u64(), context["disconnectReason"].as_str()),
        (Some(1000), Some("bye"))
    );
    assert_eq!(context["connectionId"], id);
}

#[tokio::test]
async fn a_client_that_vanishes_is_told_as_1006() {
    let stage = Stage::start(Settings::default(), content()).await;
    let (socket, _) = stage.open().await;
    drop(socket);
    assert_eq!(stage.asked_of("ws-disconnect").await["requestContext"]["disconnectStatusCode"], 1006);
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_told_as_1002() {
    let stage = Stage::start(Settings::default(), content()).await;
    let (mut socket, _) = stage.open().await;
    // A text frame that is no UTF-8.
    socket.send(Message::text(vec![0xff, 0xfe])).await.unwrap();
    assert_eq!(closed(&mut socket).await, 1007);
    assert_eq!(stage.asked_of("ws-disconnect").await["requestContext"]["disconnectStatusCode"], 1002);
}

#[tokio::test]
async fn an_idle_connection_is_closed_with_1001() {
    let settings = Settings { idle: Duration::from_millis(50), ..Settings::default() };
    let stage = Stage::start(settings, content()).await;
    let (mut socket, _) = stage.open().await;
    assert_eq!(closed(&mut socket).await, 1001);
    assert_eq!(stage.asked_of("ws-disconnect").await["requestContext"]["disconnectStatusCode"], 1001);
}

#[tokio::test]
async fn a_busy_connection_outlives_the_idle_time_and_not_its_life() {
    let (idle, life) = (Duration::from_secs(1), Duration::from_millis(1500));
    let stage = Stage::start(Settings { idle, life, ..Settings::default() }, content()).await;
    let opened = std::time::Instant::now();
    let (mut socket, _) = stage.open().await;
    // Every answer comes well within the idle time, so only the life can end this.
    while socket.send(Message::text("busy")).await.is_ok() {
        let (function, event) = stage.asked().await;
        if function == "ws-disconnect" {
            assert_eq!(event["requestContext"]["disconnectStatusCode"], 1001);
            break;
        }
    }
    assert!(opened.elapsed() >= life, "{:?}", opened.elapsed());
}

#[tokio::test]
async fn a_shutdown_closes_every_connection_with_1001_and_waits_for_its_disconnect() {
    let stage = Stage::start(Settings::default(), content()).await;
    let (mut one, _) = stage.open().await;
    let (mut two, _) = stage.open().await;
    let gateway = stage.gateway.clone();
    let (codes, ()) = tokio::join!(async { (closed(&mut one).await, closed(&mut two).await) }, stage.stop());
    assert_eq!(codes, (1001, 1001));
    // Nobody else holds it: every task of a connection is over.
    assert_eq!(std::sync::Arc::strong_count(&gateway), 1);
}
