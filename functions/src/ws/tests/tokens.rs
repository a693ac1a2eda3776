//! Who may come in, and what they may do.

use earpiece_access::Guard;
use earpiece_core::access::Verifier;
use earpiece_core::secret::Secret;
use earpiece_core::telemetry::AUTH_REFUSALS;
use serde_json::{Value, json};

use super::house::{CONNECTION, Event, House};
use super::{CONTACT, init};

async fn guarded() -> House {
    House::guarded(Guard::new(Verifier::new([Secret::new("hunter2")]), None)).await
}

fn init_with(token: &str) -> Value {
    let mut message = init("TX");
    message["authenticationToken"] = token.into();
    message
}

fn bound_to(bus_no: u64, contact_id: u64, scope: &str) -> Value {
    json!({"scope": scope, "busNo": bus_no.to_string(), "contactId": contact_id.to_string(), "principalId": "studio"})
}

#[tokio::test]
async fn without_an_authorizer_a_wrong_token_is_refused_at_the_door_and_a_right_one_is_enough() {
    let house = guarded().await;
    let wrong = Event::of(CONNECTION).header("Authorization", "Bearer wrong");
    assert_eq!(house.connect(wrong).await, 401);
    assert_eq!(house.counters.total(AUTH_REFUSALS, &[("door", "websocket"), ("reason", "wrong")]), 1);
    let right = Event::of(CONNECTION).header("Authorization", "Bearer hunter2");
    assert_eq!(house.connect(right).await, 200);
    house.message(Event::of(CONNECTION).json("init", &init("TX"))).await;
    assert_eq!(house.gateway.last(CONNECTION)["command"], "CONNECTED");
}

#[tokio::test]
async fn a_token_in_the_init_message_is_enough_and_none_is_not() {
    for (message, command) in
        [(init_with("Bearer hunter2"), "CONNECTED"), (init_with("x"), "ERROR"), (init("TX"), "ERROR")]
    {
        let house = guarded().await;
        assert_eq!(house.connect(Event::of(CONNECTION)).await, 200);
        house.message(Event::of(CONNECTION).json("init", &message)).await;
        assert_eq!(house.gateway.last(CONNECTION)["command"], command);
        assert_eq!(house.gateway.is_over(CONNECTION), command == "ERROR");
        assert_eq!(house.is_any_stream_open().await, command == "CONNECTED");
        assert!(!house.gateway.heard(CONNECTION).concat().contains("hunter2"));
    }
}

#[tokio::test]
async fn what_the_authorizer_said_binds_the_handshake_even_before_connect_was_seen() {
    for (context, text) in [
        (bound_to(CONTACT.bus_no, CONTACT.contact_id, "audio listen"), None),
        (bound_to(CONTACT.bus_no, CONTACT.contact_id, "*"), None),
        (bound_to(CONTACT.bus_no, 1, "audio"), Some("the token is for another contact")),
        (bound_to(1, CONTACT.contact_id, "audio"), Some("the token is for another contact")),
        (bound_to(CONTACT.bus_no, CONTACT.contact_id, "listen"), Some("the token is not good for this")),
    ] {
        let house = guarded().await;
        house.message(Event::of(CONNECTION).json("init", &init("TX")).granted(context)).await;
        let answer = house.gateway.last(CONNECTION);
        match text {
            None => assert_eq!(answer["command"], "CONNECTED"),
            Some(text) => assert_eq!((&answer["command"], &answer["message"]), (&json!("ERROR"), &json!(text))),
        }
        assert_eq!(house.gateway.is_over(CONNECTION), text.is_some());
    }
}

#[tokio::test]
async fn a_page_listens_only_to_the_contact_that_its_token_allows() {
    let house = guarded().await;
    let wish = |contact_id: u64| {
        let message = json!({"action": "subscribe", "busNo": CONTACT.bus_no, "contactId": contact_id});
        let context = bound_to(CONTACT.bus_no, CONTACT.contact_id, "listen");
        Event::of(CONNECTION).json("m", &message).granted(context)
    };
    house.message(wish(1)).await;
    assert_eq!(house.gateway.last(CONNECTION)["message"], "the token is for another contact");
    assert_eq!(house.counters.total(AUTH_REFUSALS, &[("door", "websocket"), ("reason", "foreign_contact")]), 1);
    house.message(wish(CONTACT.contact_id)).await;
    assert_eq!(house.gateway.last(CONNECTION)["type"], "subscribed");
    assert_eq!(house.listeners().await, [CONNECTION]);
}

#[tokio::test]
async fn a_page_without_any_grant_brings_a_token_or_hears_nothing() {
    let house = guarded().await;
    let mut message = json!({"action": "subscribe", "busNo": CONTACT.bus_no, "contactId": CONTACT.contact_id});
    house.message(Event::of(CONNECTION).json("m", &message)).await;
    assert_eq!(house.gateway.last(CONNECTION)["message"], "a token is required");
    message["authenticationToken"] = "hunter2".into();
    house.message(Event::of(CONNECTION).json("m", &message)).await;
    assert_eq!(house.listeners().await, [CONNECTION]);
}

#[tokio::test]
async fn a_bad_init_message_beside_a_good_one_does_not_undo_it() {
    for round in 0..10 {
        let house = guarded().await;
        let (good, bad) = (init_with("hunter2"), init_with("wrong"));
        let connection = format!("c{round}=");
        let (first, second) = tokio::join!(
            house.message(Event::of(&connection).json("good", &good)),
            house.message(Event::of(&connection).json("bad", &bad)),
        );
        assert_eq!((first, second), (200, 200));
        // Whichever was first: either the stream stands and the connection with it, or both are refused.
        assert_eq!(house.is_any_stream_open().await, !house.gateway.is_over(&connection), "{round}");
    }
}
