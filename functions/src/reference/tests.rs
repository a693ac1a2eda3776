//! The document against the program: routes, statuses, examples and real answers. Neither can change without the other.

use std::collections::BTreeSet;

use earpiece_core::protocol::Utterance;
use lambda_http::Body;
use lambda_http::http::Request as HttpRequest;

use super::*;
use crate::testing::{HOOK, House, body_of, get, guarded, post, utterance, with_header};

const SUGGESTIONS: &str = "/contacts/1/2/suggestions";

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

fn operation(document: &Value, route: Route) -> Value {
    document["paths"][route.path()][route.method().to_lowercase()].clone()
}

/// The answer of an operation, with a reference to a shared one followed.
fn response(document: &Value, route: Route, status: &str) -> Value {
    let response = operation(document, route)["responses"][status].clone();
    match response["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap().clone(),
        None => response,
    }
}

/// A validator of one schema of the document, with everything that it refers to beside it.
fn validator(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    jsonschema::options().should_validate_formats(true).build(&whole).unwrap()
}

#[test]
fn the_document_has_every_route_and_status_of_the_program_and_no_other() {
    let document = document();
    let mut written = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for status in operation["responses"].as_object().unwrap().keys() {
                written.insert((path.clone(), method.to_uppercase(), status.parse::<u16>().unwrap()));
            }
        }
    }
    let mut real = BTreeSet::new();
    for route in Route::ALL {
        for status in route.statuses().iter().chain(&[405]) {
            real.insert((route.path().to_owned(), route.method().to_owned(), *status));
        }
    }
    assert_eq!(written, real);
}

#[test]
fn every_example_is_what_its_schema_says() {
    let document = document();
    let mut checked = 0;
    let mut check = |media: &Value, place: &str| {
        let validator = validator(&document, &media["schema"]);
        let several = media["examples"].as_object().into_iter().flat_map(|examples| examples.values());
        for example in several.map(|example| &example["value"]).chain(media.get("example")) {
            let errors: Vec<String> = validator.iter_errors(example).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{place}: {errors:?}");
            checked += 1;
        }
    };
    for route in Route::ALL {
        let operation = operation(&document, route);
        for media in operation["requestBody"]["content"].as_object().into_iter().flat_map(|content| content.values()) {
            check(media, route.label());
        }
        for status in operation["responses"].as_object().unwrap().keys() {
            let response = response(&document, route, status);
            for media in response["content"].as_object().unwrap().values() {
                check(media, &format!("{} {status}", route.label()));
            }
        }
    }
    assert!(checked > 50, "{checked}");
}

fn examples(route: Route) -> Vec<Value> {
    let document = document();
    let media = &operation(&document, route)["requestBody"]["content"]["application/json"];
    let several = media["examples"].as_object().into_iter().flat_map(|examples| examples.values());
    several.map(|example| example["value"].clone()).chain(media.get("example").cloned()).collect()
}

#[tokio::test]
async fn every_example_of_a_request_is_taken_and_its_answer_is_what_the_document_says() {
    let house = House::open().await;
    let document = document();
    for (route, path, status) in [
        (Route::TextHook, HOOK, 200),
        (Route::ContactEvents, "/contacts/4595000/466000000001/events", 200),
        (Route::ContactSuggestions, "/contacts/4595000/466000000001/suggestions", 202),
        (Route::InteractionSuggestions, "/interactions/466000000002/suggestions", 202),
        (Route::TryInit, Route::TryInit.path(), 200),
    ] {
        let examples = examples(route);
        assert!(!examples.is_empty());
        for example in examples {
            let answer = house.send(post(path, &example)).await;
            conforms(&document, route, &answer);
            assert_eq!(answer.status(), status, "{}", body_of(&answer));
        }
    }
    assert_eq!(examples(Route::TryInit), [example_init()], "the example is the one that is offered");
    for example in examples(Route::TextHook) {
        Utterance::from_value(example).unwrap();
    }
}

#[tokio::test]
async fn answers_of_all_kinds_are_what_the_document_says() {
    let document = document();
    let house = House::with(guarded()).await;
    let get_routes = Route::ALL.into_iter().filter(|route| route.method() == "GET");
    for route in get_routes {
        conforms(&document, route, &house.send(get(route.path())).await);
        conforms(&document, route, &house.send(post(route.path(), &json!({}))).await);
    }
    let token = |request| with_header(request, "authorization", crate::testing::TOKEN);
    let events = |ids: &str| format!("/contacts/{ids}/events");
    let good = json!({"id": "a", "content": "x", "relevanceScore": 1});
    let low = json!({"id": "a", "content": "x", "relevanceScore": 0});
    let text = HttpRequest::post(HOOK).header("content-type", "text/plain").body(Body::from("x")).unwrap();
    for (route, request, status) in [
        (Route::TextHook, post(HOOK, &utterance("x")), 401),
        (Route::TextHook, token(post(HOOK, &json!({"contactId": 1}))), 400),
        (Route::TextHook, text, 415),
        (Route::TextHook, get(HOOK), 405),
        (Route::ContactEvents, post(&events("1/2"), &json!({"event": "hold"})), 401),
        (Route::ContactEvents, token(post(&events("x/2"), &json!({"event": "hold"}))), 400),
        (Route::ContactEvents, token(post(&events("1/2"), &json!({"event": "what"}))), 400),
        (Route::ContactSuggestions, post(SUGGESTIONS, &good), 401),
        (Route::ContactSuggestions, token(post(SUGGESTIONS, &json!({"content": "x"}))), 400),
        (Route::ContactSuggestions, token(post(SUGGESTIONS, &good)), 202),
        (Route::ContactSuggestions, token(post(SUGGESTIONS, &good)), 409),
        (Route::InteractionSuggestions, token(post("/interactions/3/suggestions", &low)), 422),
        (Route::InteractionSuggestions, get("/interactions/3/suggestions"), 405),
        (Route::Token, post("/oauth/token", &json!({})), 404),
        (Route::TryInit, post(Route::TryInit.path(), &json!({"executionInfo": {"busNo": 1}})), 400),
        (Route::TryInit, get(Route::TryInit.path()), 405),
    ] {
        let answer = house.send(request).await;
        assert_eq!(answer.status(), status, "{}", body_of(&answer));
        conforms(&document, route, &answer);
    }
    let nowhere = house.send(get("/nowhere")).await;
    assert_eq!((nowhere.status().as_u16(), body_of(&nowhere)["error"]["kind"].clone()), (404, json!("not_found")));
}

#[tokio::test]
async fn a_refused_init_message_gets_the_frame_of_the_socket_and_the_field_that_is_wrong() {
    let house = House::open().await;
    let (status, body) = house.ask(post(Route::TryInit.path(), &json!({"executionInfo": {"contactId": "x"}}))).await;
    assert_eq!(status, 400);
    assert_eq!((&body["command"], &body["error"]["field"]), (&json!("ERROR"), &json!("executionInfo.contactId")));
    let (_, body) = house.ask(post(Route::TryInit.path(), &example_init())).await;
    assert_eq!(body, serde_json::from_str::<Value>(earpiece_core::protocol::message::CONNECTED).unwrap());
}

#[test]
fn the_documents_say_the_version_of_the_program() {
    for document in [OPENAPI, ASYNCAPI] {
        let document: Value = serde_json::from_str(document).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}

fn conforms(document: &Value, route: Route, answer: &Answer) {
    let status = answer.status().as_str().to_owned();
    let body = body_of(answer);
    let schema = &response(document, route, &status)["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{} answers {status}, which is not in the document", route.label());
    let errors: Vec<String> = validator(document, schema).iter_errors(&body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{} {status}: {errors:?} in {body}", route.label());
    assert_eq!(answer.headers()["content-type"], "application/json");
}
