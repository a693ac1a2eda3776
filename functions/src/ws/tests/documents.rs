//! What the documents say of the socket is what it does.

use serde_json::{Value, json};

use super::house::{CONNECTION, Event, House};
use super::{CONTACT, init, said};
use crate::reference::ASYNCAPI;

fn document() -> Value {
    serde_json::from_str(ASYNCAPI).expect("JSON")
}

/// A schema of the document, with everything that it refers to.
fn schema(name: &str) -> Value {
    let document = document();
    assert!(document["components"]["schemas"][name].is_object(), "{name}");
    json!({ "$ref": format!("#/components/schemas/{name}"), "components": document["components"] })
}

fn assert_is(name: &str, value: &Value) {
    let validator = jsonschema::validator_for(&schema(name)).expect("a schema");
    let faults: Vec<String> = validator.iter_errors(value).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{value} is no {name}: {faults:?}");
}

/// A schema's name, from `{"$ref": "#/components/schemas/Name"}`.
fn name_of(reference: &Value) -> &str {
    reference["$ref"].as_str().and_then(|path| path.rsplit('/').next()).expect("a reference")
}

#[test]
fn every_example_is_what_its_schema_says_and_every_reference_leads_somewhere() {
    let document = document();
    let messages = document["components"]["messages"].as_object().expect("messages");
    for message in messages.values() {
        for example in message["examples"].as_array().into_iter().flatten() {
            assert_is(name_of(&message["payload"]), &example["payload"]);
        }
    }
    let mut unread = vec![&document];
    while let Some(value) = unread.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(path) = fields.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(&path[1..]).is_some(), "{path} leads nowhere");
                }
                unread.extend(fields.values());
            }
            Value::Array(items) => unread.extend(items),
            _ => {}
        }
    }
}

#[test]
fn the_documents_limits_are_the_codes_limits() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let samples_max = earpiece_core::contact::connection::PIECE_SAMPLES_MAX;
    assert_eq!(schemas["AudioAccepted"]["properties"]["parameters"]["properties"]["samples"]["maximum"], samples_max);
    assert_eq!(schemas["Base64Audio"]["maxLength"], samples_max / 3 * 4);
    let page = include_str!("../../../../docs/websocket.md");
    for number in [samples_max, u32::try_from(super::super::limits::LISTENING_MAX).expect("few")] {
        assert!(page.contains(&number.to_string()), "docs/websocket.md does not say {number}");
    }
}

#[test]
fn every_json_example_of_the_page_is_what_one_of_the_schemas_says() {
    let page = include_str!("../../../../docs/websocket.md");
    let examples: Vec<Value> = page
        .split("```json\n")
        .skip(1)
        .filter_map(|part| part.split("```").next())
        .flat_map(|block| {
            serde_json::Deserializer::from_str(block).into_iter().map(|value| value.expect("JSON")).collect::<Vec<_>>()
        })
        .collect();
    assert!(examples.len() >= 8, "{} examples", examples.len());
    let names = ["InitMessage", "Connected", "Error", "AudioAccepted", "Subscribe", "Subscribed", "ContactEvent"];
    for example in examples {
        let fits = |name: &&str| jsonschema::is_valid(&schema(name), &example);
        assert!(names.iter().any(fits), "{example} is none of the messages");
    }
}

#[tokio::test]
async fn every_answer_is_what_its_schema_says() {
    let house = House::open().await;
    house.message(Event::of(CONNECTION).audio("early", &said(0, 8))).await;
    house.message(Event::of(CONNECTION).json("init", &init("TX"))).await;
    house.message(Event::of(CONNECTION).audio("a", &said(0, 800))).await;
    let mut wish = json!({"action": "subscribe", "busNo": CONTACT.bus_no, "contactId": CONTACT.contact_id});
    house.message(Event::of(CONNECTION).json("s", &wish)).await;
    wish["action"] = "unsubscribe".into();
    house.message(Event::of(CONNECTION).json("u", &wish)).await;
    let names = ["Error", "Connected", "AudioAccepted", "Subscribed", "Subscribed"];
    let answers = house.gateway.messages(CONNECTION);
    assert_eq!(answers.len(), names.len());
    for (name, answer) in names.iter().zip(&answers) {
        assert_is(name, answer);
    }
}
