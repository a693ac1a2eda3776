//! Permits are exact, and what load balancers ask is answered right.

use earpiece_shim::settings;
use earpiece_simulator::{CallPlan, Step, place};
use tokio::sync::broadcast;

use earpiece_core::contact::event::{ContactEvent, What};

use crate::house::{House, contact, dial, get, speech, wait};

fn talk(house: &House, contact_id: u64) -> CallPlan {
    CallPlan::new(house.url(), contact(contact_id))
        .leg("TX", speech(1_600, 1))
        .reconnects_max(0)
        .step(Step::Speak { ms: 60_000 })
}

async fn opened(watch: &mut broadcast::Receiver<ContactEvent>) {
    wait(watch, |event| matches!(event.what, What::StreamOpened { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_task_says_so_refuses_the_next_call_and_takes_one_again_when_one_ends() {
    let house = House::open(&[(settings::STREAMS_MAX, "2")]).await;
    let mut watch = house.watch();
    let first = tokio::spawn(place(talk(&house, 1)));
    opened(&mut watch).await;
    assert_eq!(get(house.address, "/readyz").await, (200, "ready\n".into()));
    let second = tokio::spawn(place(talk(&house, 2)));
    opened(&mut watch).await;
    assert_eq!(get(house.address, "/readyz").await, (503, "full\n".into()));
    assert_eq!(get(house.address, "/healthz").await.0, 200, "a full task is healthy");
    let refused = dial(talk(&house, 3)).await;
    assert!(!refused.legs[0].sockets.iter().any(|socket| socket.connected));
    assert_eq!(house.metric("earpiece_streams_live").await, 2);
    assert_eq!(house.metric("earpiece_stream_refusals_total{reason=\"overloaded\"}").await, 1);
    for call in [first, second] {
        call.abort();
    }
    for _ in 0..2 {
        wait(&mut watch, |event| matches!(event.what, What::StreamClosed { .. }).then_some(())).await;
    }
    let next = talk(&house, 4);
    let next = tokio::spawn(place(next));
    opened(&mut watch).await;
    next.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_business_unit_cannot_take_every_place() {
    let house = House::open(&[(settings::STREAMS_PER_BUSINESS_UNIT_MAX, "1")]).await;
    let mut watch = house.watch();
    let first = tokio::spawn(place(talk(&house, 1)));
    opened(&mut watch).await;
    let refused = dial(talk(&house, 2)).await;
    let socket = &refused.legs[0].sockets[0];
    assert!(socket.answer_text().expect("an answer").contains("every stream of this business unit is taken"));
    assert_eq!(socket.close.as_ref().expect("closed").code, 1013);
    let mut other_unit = talk(&house, 2);
    other_unit.contact.bus_no += 1;
    let other = tokio::spawn(place(other_unit));
    opened(&mut watch).await;
    first.abort();
    other.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_text_and_count_what_happened() {
    let mut house = House::open(&[]).await;
    let key = contact(9);
    let plan = CallPlan::new(house.url(), key).leg("TX", speech(1_600, 1)).step(Step::Speak { ms: 400 });
    place(plan).await.expect("a call");
    house.finished(key).await;
    assert_eq!(house.metric("earpiece_audio_bytes_total").await, 3_200);
    assert_eq!(house.metric("earpiece_audio_frames_total").await, 20);
    assert_eq!(house.metric("earpiece_stream_opens_total").await, 1);
    assert_eq!(house.metric("earpiece_stream_closes_total{reason=\"peer_closed\"}").await, 1);
    assert_eq!(house.metric("earpiece_ack_latency_seconds_count").await, 1);
    assert_eq!(house.metric("earpiece_contacts_finished_total").await, 1);
    assert_eq!(house.metric("earpiece_samples_lost_total{reason=\"recorder_ring_full\"}").await, 0);
    let (status, text) = get(house.address, "/metrics").await;
    assert_eq!(status, 200);
    for name in ["earpiece_ring_samples{sink=\"recorder\"}", "earpiece_sink_errors_total{sink=\"relay\"}"] {
        assert!(text.contains(name), "{name}");
    }
    assert_eq!(get(house.address, "/elsewhere").await.0, 404);
    assert_eq!(get(house.address, "/audio").await.0, 400, "an HTTP request to the socket's path is told what is wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_new_sockets_in_a_second_are_told_to_come_back() {
    let house = House::open(&[(settings::OPENS_PER_SECOND_MAX, "1")]).await;
    // Each knock takes its share of the rate before anything else is looked at; twice the rate may come at once.
    let mut refused = None;
    for _ in 0..50 {
        let (status, text) = get(house.address, "/audio").await;
        if status == 503 {
            refused = Some(text);
            break;
        }
        assert_eq!(status, 400, "a knock that is let in is no handshake");
    }
    assert!(refused.expect("refused").contains("too many new streams per second"));
    assert!(house.metric("earpiece_stream_refusals_total{reason=\"overloaded\"}").await >= 1);
}
