//! Calls that go as they should, and those that do not.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use earpiece_core::contact::connection::APP_BYTES_MAX;
use earpiece_core::contact::facts::{CloseReason, StreamFacts};
use earpiece_core::secret::Secret;
use earpiece_core::telemetry::{CONNECTION_MESSAGES, CONNECTIONS_PRUNED, SINK_ERRORS};
use earpiece_https::Trust;
use earpiece_https::client::Client;
use serde_json::{Value, json};

use super::super::Pieces;
use super::house::{CONNECTION, Event, House, Peers};
use super::{CONTACT, init, now_ms, said};
use crate::settings::Ingest;

#[tokio::test]
async fn a_call_is_answered_acknowledged_piece_by_piece_and_recorded_byte_for_byte() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    let mut call = Vec::new();
    for (n, message) in ["a", "b", "c"].iter().enumerate() {
        let samples = said(n, 8_000);
        let at_ms = now_ms() + 1_000 * (i64::try_from(n).expect("few") + 1);
        let event = Event::of(CONNECTION).audio(message, &samples).at_ms(at_ms);
        assert_eq!(house.message(event).await, 200);
        assert_eq!(
            house.gateway.heard(CONNECTION).last().expect("an answer"),
            &format!(
                r#"{{"command":"MESSAGE","messageType":"EVENT","message":"AUDIO ACCEPTED","parameters":{{"firstSample":{},"messageId":"{message}","samples":8000}}}}"#,
                call.len()
            )
        );
        call.extend(samples);
    }
    assert_eq!(house.disconnect(Event::of(CONNECTION).closed(1000)).await, 200);
    let (ledger, recorded) = house.finish().await;
    assert_eq!(recorded, call);
    let [facts] = ledger.streams.as_slice() else { panic!("one stream") };
    assert_eq!(facts.closed.map(|closed| closed.reason), Some(CloseReason::PeerClosed));
    assert_eq!((facts.task.clone(), facts.generation), (format!("apigw/{CONNECTION}"), Some(1)));
    assert_eq!(facts.telemetry, Some(json!({"consumerProcessName": "media"})));
    assert!(!house.is_any_stream_open().await);
    assert_eq!(house.counters.total(CONNECTION_MESSAGES, &[("outcome", "audio")]), 3);
}

#[tokio::test]
async fn a_stream_without_audio_is_in_the_ledger_as_soon_as_it_was_answered() {
    let house = House::open().await;
    house.streaming(CONNECTION, "RX").await;
    assert_eq!(house.segments().len(), 1);
    let (ledger, _) = house.finish().await;
    assert_eq!(ledger.streams.len(), 1);
}

#[tokio::test]
async fn fifty_messages_at_once_have_every_sample_exactly_once() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    let pieces: Vec<Vec<u8>> = (0..50).map(|n| said(n, 100 + n)).collect();
    let events = pieces.iter().enumerate().map(|(n, samples)| Event::of(CONNECTION).audio(&n.to_string(), samples));
    let statuses = futures_util::future::join_all(events.map(|event| house.message(event))).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    house.disconnect(Event::of(CONNECTION)).await;

    let (ledger, recorded) = house.finish().await;
    assert_eq!(recorded.len(), pieces.iter().map(Vec::len).sum::<usize>());
    assert_eq!(ledger.lost.len(), 0);
    let acknowledged = acknowledgements(&house);
    assert_eq!(acknowledged.iter().map(|(message, _, _)| message).collect::<BTreeSet<_>>().len(), 50);
    let mut next = 0;
    for (message, first_sample, samples) in acknowledged {
        assert_eq!(first_sample, next, "pieces lie side by side");
        next += samples;
        assert_eq!(recorded[first_sample..next], pieces[message], "message {message}");
    }
}

#[tokio::test]
async fn fifty_copies_of_one_message_are_one() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    house.message(Event::of(CONNECTION).audio("0", &said(0, 500))).await;
    let copies = (0..50).map(|_| house.message(Event::of(CONNECTION).audio("1", &said(1, 700))));
    let statuses = futures_util::future::join_all(copies).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let acknowledged = acknowledgements(&house);
    assert_eq!(acknowledged.len(), 51, "every copy is answered");
    assert!(acknowledged[1..].iter().all(|answer| *answer == (1, 500, 700)), "{acknowledged:?}");
    house.disconnect(Event::of(CONNECTION)).await;
    let (ledger, recorded) = house.finish().await;
    assert_eq!((recorded, ledger.streams[0].frames), ([said(0, 500), said(1, 700)].concat(), 2));
    assert_eq!(house.counters.total(CONNECTION_MESSAGES, &[("outcome", "duplicate")]), 49);
}

/// Message, first sample and samples of every acknowledgement, by place.
fn acknowledgements(house: &House) -> Vec<(usize, usize, usize)> {
    let number = |value: &Value| usize::try_from(value.as_u64().expect("a number")).expect("small");
    let messages = house.gateway.messages(CONNECTION);
    let mut acknowledged: Vec<_> = messages
        .iter()
        .filter(|message| message["message"] == "AUDIO ACCEPTED")
        .map(|message| &message["parameters"])
        .map(|parameters| {
            let message = parameters["messageId"].as_str().expect("an id").parse().expect("a number");
            (message, number(&parameters["firstSample"]), number(&parameters["samples"]))
        })
        .collect();
    acknowledged.sort_by_key(|(_, first_sample, _)| *first_sample);
    acknowledged
}

#[tokio::test]
async fn audio_before_the_init_message_is_an_error_and_the_connection_stays() {
    let house = House::open().await;
    house.connect(Event::of(CONNECTION)).await;
    house.message(Event::of(CONNECTION).audio("a", &[1; 160])).await;
    assert_eq!(house.gateway.last(CONNECTION)["command"], "ERROR");
    house.message(Event::of(CONNECTION).json("init", &init("TX"))).await;
    assert_eq!(house.gateway.last(CONNECTION)["command"], "CONNECTED");
    assert!(!house.gateway.is_over(CONNECTION));
}

#[tokio::test]
async fn a_bad_init_message_is_answered_by_its_field_and_the_connection_is_closed_for_good() {
    let house = House::open().await;
    house.connect(Event::of(CONNECTION)).await;
    let without_bus_no = json!({"executionInfo": {"contactId": 1}});
    house.message(Event::of(CONNECTION).json("m", &without_bus_no)).await;
    assert_eq!(
        house.gateway.last(CONNECTION),
        json!({"command": "ERROR", "messageType": "COMMAND", "message": "`executionInfo.busNo` is missing"})
    );
    assert!(house.gateway.is_over(CONNECTION));
    // What was on its way already changes nothing.
    house.message(Event::of(CONNECTION).json("init", &init("TX"))).await;
    house.message(Event::of(CONNECTION).audio("a", &[1; 160])).await;
    assert!(!house.is_any_stream_open().await);
    assert!(house.segments().is_empty());
}

#[tokio::test]
async fn a_second_init_message_is_an_error_and_the_first_one_goes_on() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    house.message(Event::of(CONNECTION).json("again", &init("RX"))).await;
    assert_eq!(house.gateway.last(CONNECTION)["command"], "ERROR");
    house.message(Event::of(CONNECTION).audio("a", &[1; 160])).await;
    assert_eq!(house.gateway.last(CONNECTION)["message"], "AUDIO ACCEPTED");
}

#[tokio::test]
async fn what_is_neither_json_nor_base64_is_an_error_that_quotes_nothing() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    let mut event = Event::of(CONNECTION).json("m", &json!({}));
    for text in ["my card is 4111", "{\"my card is 4111"] {
        event = event.text(text);
        assert_eq!(house.message(event.clone()).await, 200);
        let answer = house.gateway.last(CONNECTION);
        assert_eq!(answer["command"], "ERROR");
        assert!(!answer.to_string().contains("4111"), "{answer}");
    }
}

#[tokio::test]
async fn audio_that_the_end_overtook_is_kept_and_not_acknowledged() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    house.message(Event::of(CONNECTION).audio("a", &said(0, 800))).await;
    house.gateway.vanish(CONNECTION);
    house.disconnect(Event::of(CONNECTION).closed(1006)).await;
    let before = house.gateway.heard(CONNECTION).len();
    assert_eq!(house.message(Event::of(CONNECTION).audio("b", &said(1, 400))).await, 200);
    assert_eq!(house.gateway.heard(CONNECTION).len(), before);
    let (ledger, recorded) = house.finish().await;
    assert_eq!(recorded, [said(0, 800), said(1, 400)].concat());
    assert_eq!(ledger.streams[0].closed.map(|closed| closed.reason), Some(CloseReason::PeerVanished));
}

#[tokio::test]
async fn whoever_turns_out_to_be_gone_is_seen_out_at_once() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    house.gateway.vanish(CONNECTION);
    assert_eq!(house.message(Event::of(CONNECTION).audio("a", &said(0, 800))).await, 200);
    assert_eq!(house.counters.total(CONNECTIONS_PRUNED, &[]), 1);
    assert!(house.store.connection(CONNECTION, now_ms()).await.expect("read").gone);
    assert!(!house.is_any_stream_open().await);
    assert_eq!(house.finish().await.1, said(0, 800));
}

#[tokio::test]
async fn a_stream_that_a_newer_handshake_overtook_ends_at_its_next_checkpoint() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    house.message(Event::of(CONNECTION).audio("a", &said(0, 800))).await;
    let newer = Event::of("newer=").json("init", &init("TX")).at_ms(now_ms() + 1_000);
    house.message(newer).await;
    assert_eq!(house.gateway.heard("newer=").len(), 1);
    let a_minute_later = Event::of(CONNECTION).audio("b", &said(1, 800)).at_ms(now_ms() + 61_000);
    house.message(a_minute_later).await;
    assert_eq!(house.gateway.last(CONNECTION)["command"], "ERROR");
    assert!(house.gateway.is_over(CONNECTION) && !house.gateway.is_over("newer="));
    house.message(Event::of(CONNECTION).audio("c", &said(2, 800))).await;
    house.disconnect(Event::of(CONNECTION)).await;
    let contact = house.store.contact(&CONTACT, now_ms()).await.expect("read").expect("known");
    assert!(contact.streams["TX"].open, "the newer one streams on");
    house.disconnect(Event::of("newer=")).await;
    let ledger = house.finish().await.0;
    let closed: Vec<_> = ledger.streams.iter().filter_map(|facts| facts.closed).map(|closed| closed.reason).collect();
    assert_eq!(closed, [CloseReason::Superseded, CloseReason::PeerClosed]);
    assert_eq!(ledger.streams[0].samples, 1_600, "the third piece was refused");
}

#[tokio::test]
async fn a_handshake_that_is_older_than_the_one_that_streams_is_refused() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    house.message(Event::of("late=").json("init", &init("TX")).at_ms(now_ms() - 60_000)).await;
    assert_eq!(house.gateway.last("late=")["command"], "ERROR");
    assert!(house.gateway.is_over("late=") && house.is_any_stream_open().await);
}

#[tokio::test]
async fn a_shim_gets_every_piece_first_and_what_it_does_not_take_is_written_here() {
    let (house, shim) = handing_over().await;
    house.streaming(CONNECTION, "TX").await;
    house.message(Event::of(CONNECTION).audio("a", &said(0, 800))).await;
    assert!(house.segments().is_empty());
    let asked = shim.ingested().pop().expect("a request");
    assert_eq!((asked.path.as_str(), asked.body), ("/ingest", said(0, 800)));
    assert_eq!(asked.headers["authorization"], "Bearer hunter2");
    assert_eq!(asked.headers["earpiece-contact"], CONTACT.to_string());
    assert_eq!(
        (asked.headers["earpiece-first-sample"].as_str(), asked.headers["earpiece-perspective"].as_str()),
        ("0", "TX")
    );
    let facts = BASE64_STANDARD.decode(&asked.headers["earpiece-facts"]).expect("base64");
    let facts: StreamFacts = serde_json::from_slice(&facts).expect("facts");
    assert_eq!((facts.samples, facts.stream.to_string()), (800, asked.headers["earpiece-stream"].clone()));

    shim.ingest(503);
    house.message(Event::of(CONNECTION).audio("b", &said(1, 400))).await;
    assert_eq!(house.gateway.last(CONNECTION)["message"], "AUDIO ACCEPTED");
    assert_eq!(house.segments().len(), 1);
    assert_eq!(house.counters.total(SINK_ERRORS, &[("sink", "ingest")]), 1);
    house.disconnect(Event::of(CONNECTION)).await;
    assert_eq!(shim.ingested().last().expect("a request").path, "/ingest/end");
}

/// A house whose pieces go to a shim, and the shim.
async fn handing_over() -> (House, std::sync::Arc<Peers>) {
    let house = House::open().await;
    let (shim, address) = Peers::listen().await;
    let client = Client::new(&Trust::public()).expect("a client");
    let ingest = Ingest { url: Secret::new(format!("{address}/ingest")), token: Some(Secret::new("hunter2")) };
    let pieces =
        Pieces::handed_over(client, ingest, Some(house.recorder.clone()), std::sync::Arc::clone(&house.counters));
    shim.ingest(200);
    (house.with_pieces(pieces), shim)
}

#[tokio::test]
async fn with_every_piece_a_shim_gets_what_the_assist_app_is_to_be_told_if_that_is_small() {
    let (house, shim) = handing_over().await;
    for (n, (padding, is_kept)) in [(0, true), (APP_BYTES_MAX, false)].into_iter().enumerate() {
        let connection = format!("connection-{n}=");
        let mut message = init("TX");
        message["appParams"] = json!({"language": "de-DE", "padding": "x".repeat(padding)});
        message["appConfig"] = "{\"queue\": \"billing\"}".into();
        message["colour"] = "blue".into();
        let at_ms = now_ms() + 1_000 * i64::try_from(n).expect("few");
        house.message(Event::of(&connection).json("init", &message).at_ms(at_ms)).await;
        for piece in ["a", "b"] {
            house.message(Event::of(&connection).audio(piece, &said(n, 800)).at_ms(at_ms)).await;
        }
        house.disconnect(Event::of(&connection)).await;
        let asked: Vec<_> = shim.ingested().into_iter().filter(|asked| !asked.body.is_empty()).skip(2 * n).collect();
        assert_eq!(asked.len(), 2);
        for asked in asked {
            let told = asked.headers.get("earpiece-app").map(|told| BASE64_STANDARD.decode(told).expect("base64"));
            let told = told.map(|told| serde_json::from_slice::<Value>(&told).expect("JSON"));
            let expected = json!({
                "appParams": {"language": "de-DE", "padding": ""},
                "appConfig": {"queue": "billing"},
                "unknown": {"colour": "blue"},
            });
            assert_eq!(told, is_kept.then_some(expected));
        }
    }
    assert!(shim.ingested().iter().all(|asked| !asked.body.is_empty() || !asked.headers.contains_key("earpiece-app")));
    assert_eq!(house.counters.total(CONNECTION_MESSAGES, &[("outcome", "curtailed")]), 1);
}

#[tokio::test]
async fn where_nobody_is_to_be_told_it_is_not_kept() {
    let house = House::open().await;
    let mut message = init("TX");
    message["appParams"] = json!({"language": "de-DE"});
    house.message(Event::of(CONNECTION).json("init", &message)).await;
    let record = house.store.connection(CONNECTION, now_ms()).await.expect("read");
    assert!(!record.document.to_string().contains("de-DE"), "{}", record.document);
}

#[tokio::test]
async fn audio_that_nobody_could_keep_is_not_acknowledged() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    let client = Client::new(&Trust::public()).expect("a client");
    let ingest = Ingest { url: Secret::new("http://127.0.0.1:1/ingest"), token: None };
    let pieces = Pieces::handed_over(client, ingest, None, std::sync::Arc::clone(&house.counters));
    let (recorder, house) = (house.recorder.clone(), house.with_pieces(pieces));
    assert_eq!(house.message(Event::of(CONNECTION).audio("a", &said(0, 800))).await, 503);
    assert_eq!(house.gateway.last(CONNECTION)["command"], "ERROR");
    // Another attempt of the same message: its place is kept.
    let house = house.with_pieces(Pieces::recorded(recorder));
    assert_eq!(house.message(Event::of(CONNECTION).audio("b", &said(1, 400))).await, 200);
    assert_eq!(house.message(Event::of(CONNECTION).audio("a", &said(0, 800))).await, 200);
    house.disconnect(Event::of(CONNECTION)).await;
    assert_eq!(house.finish().await.1, [said(0, 800), said(1, 400)].concat());
}

#[tokio::test]
async fn a_store_that_is_away_is_a_fault_within_bounded_time() {
    let house = House::open().await;
    let parts = super::super::Parts {
        store: earpiece_store::Store::connect_local("http://127.0.0.1:1", "calls"),
        ..house.rooms.parts.clone()
    };
    let rooms = super::super::Rooms::new(parts);
    let event = Event::of(CONNECTION).audio("a", &[1; 160]).with("$default", "MESSAGE");
    let response = tokio::time::timeout(Duration::from_secs(29), rooms.message(event)).await.expect("in time");
    assert_eq!(response.status_code, 503);
}

#[test]
fn the_handlers_can_run_on_any_thread() {
    fn can_be_sent<T: Send>(_: &T) {}
    fn check(rooms: &super::super::Rooms) {
        let event = || Event::of(CONNECTION).with("$default", "MESSAGE");
        can_be_sent(&rooms.connect(event()));
        can_be_sent(&rooms.message(event()));
        can_be_sent(&rooms.disconnect(event()));
    }
    // It is the compiler that judges.
    let _: fn(&super::super::Rooms) = check;
}
