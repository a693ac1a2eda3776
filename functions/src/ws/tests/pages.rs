//! Pages that listen.

use serde_json::{Value, json};

use super::super::limits::LISTENING_MAX;
use super::CONTACT;
use super::house::{Event, House};

const PAGE: &str = "page=";

fn wish(action: &str) -> Value {
    json!({"action": action, "busNo": CONTACT.bus_no, "contactId": CONTACT.contact_id.to_string()})
}

#[tokio::test]
async fn a_page_listens_until_it_says_no_more() {
    let house = House::open().await;
    house.connect(Event::of(PAGE)).await;
    for _ in 0..2 {
        house.message(Event::of(PAGE).json("m", &wish("subscribe"))).await;
        let answer = json!({"type": "subscribed", "busNo": CONTACT.bus_no, "contactId": CONTACT.contact_id});
        assert_eq!(house.gateway.last(PAGE), answer);
        assert_eq!(house.listeners().await, [PAGE]);
    }
    house.message(Event::of(PAGE).json("m", &wish("unsubscribe"))).await;
    assert_eq!(house.gateway.last(PAGE)["type"], "unsubscribed");
    assert!(house.listeners().await.is_empty());
}

#[tokio::test]
async fn a_page_that_leaves_listens_no_more() {
    let house = House::open().await;
    house.message(Event::of(PAGE).json("m", &wish("subscribe"))).await;
    house.disconnect(Event::of(PAGE)).await;
    assert!(house.listeners().await.is_empty());
    house.message(Event::of(PAGE).json("m", &wish("subscribe"))).await;
    assert!(house.listeners().await.is_empty(), "the wish came after the end");
}

#[tokio::test]
async fn a_page_that_leaves_while_it_asks_leaves_no_trace() {
    let house = House::open().await;
    for round in 0..20 {
        let page = format!("page{round}=");
        let (asked, left) = tokio::join!(
            house.message(Event::of(&page).json("m", &wish("subscribe"))),
            house.disconnect(Event::of(&page))
        );
        assert_eq!((asked, left), (200, 200));
        assert!(house.listeners().await.is_empty(), "{round}");
    }
}

#[tokio::test]
async fn what_a_page_cannot_ask_for_is_named() {
    let house = House::open().await;
    for (message, text) in [
        (json!({"action": "shout"}), "`action` must be `subscribe` or `unsubscribe`"),
        (json!({"action": 5}), "`action` must be `subscribe` or `unsubscribe`"),
        (json!({"action": "subscribe", "contactId": 1}), "`busNo` must be a whole number of at most 64 bits"),
        (
            json!({"action": "unsubscribe", "busNo": 1, "contactId": "x"}),
            "`contactId` must be a whole number of at most 64 bits",
        ),
    ] {
        assert_eq!(house.message(Event::of(PAGE).json("m", &message)).await, 200);
        assert_eq!(house.gateway.last(PAGE), json!({"command": "ERROR", "messageType": "COMMAND", "message": text}));
    }
    assert!(!house.gateway.is_over(PAGE));
}

#[tokio::test]
async fn a_page_listens_to_so_many_contacts_and_no_more() {
    let house = House::open().await;
    for contact in 0..=LISTENING_MAX {
        let message = json!({"action": "subscribe", "busNo": 1, "contactId": contact});
        house.message(Event::of(PAGE).json(&contact.to_string(), &message)).await;
    }
    assert_eq!(
        house.gateway.last(PAGE)["message"],
        format!("one connection listens to at most {LISTENING_MAX} contacts")
    );
}
