//! What runs beside the streams: doors of others, pages that listen, protection from being scaled in.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use earpiece_core::contact::event::ScriptEventKind;
use earpiece_shim::Doors;
use earpiece_shim::settings::{CONNECTIONS_URL, ECS_AGENT_URI, QUIET_PERIOD};
use earpiece_store::NotedEvent;
use futures_util::{FutureExt as _, SinkExt as _};
use http::Response;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tokio_websockets::Message;

use crate::stage::{House, PATIENCE, contact, http_stand_in, init};

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("in our time")
}

#[tokio::test]
async fn doors_of_others_answer_what_the_task_itself_does_not_know() {
    let doors: Doors = Arc::new(|request, peer| {
        async move {
            let said = format!("{} {} for {}", request.method(), request.uri().path(), peer.ip());
            Response::new(Full::new(Bytes::from(said)).boxed())
        }
        .boxed()
    });
    let extra = "# HELP earpiece_auth_refusals_total Elsewhere.\n# TYPE earpiece_auth_refusals_total counter\n\
                 earpiece_auth_refusals_total{door=\"http\",reason=\"wrong\"} 3\n\
                 # HELP earpiece_utterances_total U.\n# TYPE earpiece_utterances_total counter\n\
                 earpiece_utterances_total{outcome=\"accepted\"} 5\n";
    let house = House::open_with(&[], |parts| {
        parts.doors = Some(doors);
        parts.extra_metrics = Some(Arc::new(|| extra.to_owned()));
    })
    .await;
    let answer = house.request("POST", "/contacts/1/2/events", &[], b"{}").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "POST /contacts/1/2/events for 127.0.0.1"));
    assert_eq!(house.request("GET", "/healthz", &[], b"").await.body, "alive\n");
    assert_eq!(house.metric(r#"earpiece_utterances_total{outcome="accepted"}"#).await, 5);
    let metrics = house.request("GET", "/metrics", &[], b"").await.body;
    assert_eq!(metrics.matches("# TYPE earpiece_auth_refusals_total ").count(), 1, "{metrics}");
    assert!(metrics.contains(r#"earpiece_auth_refusals_total{door="http",reason="wrong"} 3"#), "{metrics}");
}

#[tokio::test]
async fn pages_that_listen_are_told_and_those_that_have_gone_are_forgotten() {
    let answer = |line: &str, _: &[u8]| if line.contains("gone") { (410, "") } else { (200, "") };
    let (url, mut heard) = http_stand_in(answer).await;
    let house = House::open(&[(CONNECTIONS_URL, &format!("{url}/local"))]).await;
    let life_ms = 60_000;
    for page in ["page-1", "gone-2"] {
        house.store.listen(&contact(1), page, now_ms(), life_ms).await.expect("a store");
    }
    let (_, mut socket) = house.shake(&init(contact(1), None)).await;
    // Nobody listens to this one.
    let (_, _other) = house.shake(&init(contact(2), None)).await;
    house.wait_for_metric("earpiece_connections_pruned_total", 1).await;
    socket.send(Message::binary(vec![0x55; 160])).await.expect("a frame");
    socket.close().await.expect("a close");
    let mut told = Vec::new();
    while told.last() != Some(&json!("onHold")) {
        let (line, body) = tokio::time::timeout(PATIENCE, heard.recv()).await.expect("in time").expect("a request");
        let event: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(event["contactId"], 1, "{event}");
        if line.contains("gone-2") {
            assert!(told.len() <= 1, "told once, and never again: {line} {told:?}");
        } else {
            assert_eq!(line, "POST /local/@connections/page-1 HTTP/1.1");
            told.push(event["type"].clone());
        }
    }
    assert_eq!(told, [json!("streamOpened"), json!("streamClosed"), json!("onHold")]);
    assert_eq!(house.store.listeners(&contact(1), now_ms(), 10).await.expect("a store"), ["page-1"]);
}

#[tokio::test]
async fn a_task_with_a_stream_asks_not_to_be_scaled_in() {
    let granted = |_: &str, _: &[u8]| (200, r#"{"protection":{"ProtectionEnabled":true}}"#);
    let (url, mut heard) = http_stand_in(granted).await;
    let house = House::open(&[(ECS_AGENT_URI, &format!("{url}/api/task-1"))]).await;
    assert_eq!(house.metric("earpiece_scale_in_protected").await, 0);
    let (_, _socket) = house.shake(&init(contact(3), None)).await;
    let (line, body) = tokio::time::timeout(PATIENCE, heard.recv()).await.expect("in time").expect("a request");
    assert_eq!(line, "PUT /api/task-1/task-protection/v1/state HTTP/1.1");
    assert_eq!(
        serde_json::from_slice::<Value>(&body).expect("JSON"),
        json!({ "ProtectionEnabled": true, "ExpiresInMinutes": 60 })
    );
    house.wait_for_metric("earpiece_scale_in_protected", 1).await;
}

#[tokio::test]
async fn what_the_studio_script_told_is_among_the_events_of_a_finished_contact() {
    let house = House::open(&[(QUIET_PERIOD, "1s")]).await;
    let (_, mut socket) = house.shake(&init(contact(4), None)).await;
    let noted = NotedEvent {
        kind: ScriptEventKind::Start,
        at_ms: now_ms(),
        agent_id: Some("agent-9".to_owned()),
        request_id: "r-1".to_owned(),
    };
    assert!(house.store.note_event(&contact(4), &noted, now_ms(), 60_000, 3_600_000).await.expect("a store"));
    socket.send(Message::binary(vec![0x55; 160])).await.expect("a frame");
    socket.close().await.expect("a close");
    house.wait_for_metric("earpiece_contacts_finished_total", 1).await;
    let path = house.data.path().join(format!("contacts/{}/events.jsonl", contact(4)));
    let text = std::fs::read_to_string(path).expect("events");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told = events.iter().find(|event| event["type"] == "script").expect("the script's event");
    assert_eq!((&told["event"], &told["agentId"]), (&json!("start"), &json!("agent-9")));
}
