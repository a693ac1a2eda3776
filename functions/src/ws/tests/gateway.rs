//! The handlers behind a real socket, through the local front of API Gateway, which gives no order either.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use earpiece_core::protocol::message::CONNECTED;
use earpiece_gateway::{Gateway, Invoke, InvokeError, Settings};
use earpiece_push::Push;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_websockets::{ClientBuilder, Message};

use super::super::{Parts, Rooms};
use super::house::House;
use super::{CONTACT, init, said};

/// Lambda, as far as the gateway can tell.
fn lambda(rooms: Rooms) -> Invoke {
    Invoke::InProcess(Arc::new(move |function: String, event: Value| {
        let rooms = rooms.clone();
        async move {
            let event = serde_json::from_value(event).map_err(|_| InvokeError::Failed)?;
            let response = match function.as_str() {
                "ws-connect" => rooms.connect(event).await,
                "ws-disconnect" => rooms.disconnect(event).await,
                _ => rooms.message(event).await,
            };
            serde_json::to_value(response).map_err(|_| InvokeError::Failed)
        }
        .boxed()
    }))
}

#[tokio::test]
async fn a_call_and_a_page_through_a_real_socket() {
    let house = House::open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let push = Some(Push::connect_local(&format!("http://{address}/local")));
    let rooms = Rooms::new(Parts { push, ..house.rooms.parts.clone() });
    let gateway = Gateway::new(Settings::default(), lambda(rooms));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(gateway.serve(listener, stopped.map(drop)));

    let address = format!("ws://{address}/local").parse().expect("an address");
    let (mut socket, _) = ClientBuilder::from_uri(address).connect().await.expect("connected");
    let mut ask = async |message: String| {
        socket.send(Message::text(message)).await.expect("sent");
        let answer = socket.next().await.expect("an answer").expect("a frame");
        answer.as_text().expect("text").to_owned()
    };
    assert_eq!(ask(init("TX").to_string()).await, CONNECTED);
    for message in 0..5 {
        let answer: Value = serde_json::from_str(&ask(BASE64_STANDARD.encode(said(message, 800))).await).expect("JSON");
        assert_eq!(answer["parameters"]["firstSample"], message * 800, "{answer}");
    }
    let wish = json!({"action": "subscribe", "busNo": CONTACT.bus_no, "contactId": CONTACT.contact_id});
    assert!(ask(wish.to_string()).await.contains("subscribed"));
    assert_eq!(house.listeners().await.len(), 1);
    socket.close().await.expect("closed");
    // It stops when every end was heard.
    drop(stop);
    serving.await.expect("stopped");
    assert!(!house.is_any_stream_open().await && house.listeners().await.is_empty());
    assert_eq!(house.finish().await.1, (0..5).flat_map(|message| said(message, 800)).collect::<Vec<_>>());
}
