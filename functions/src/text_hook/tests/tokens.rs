//! Who may bring an utterance: every way in, and every way in which a token can be wrong.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use earpiece_access::issue::{Claims, SigningKey, sign};
use earpiece_core::telemetry::AUTH_REFUSALS;
use lambda_http::request::from_str;
use serde_json::{Value, json};

use crate::answer::Request;
use crate::clock::wall_s;
use crate::settings;
use crate::testing::{CONTACT, HOOK, House, TOKEN, claims, guarded, post, published_key, utterance, with_header};

fn bearing(token: &str) -> Request {
    // Each with words of its own: repeats are another matter.
    let words = uuid::Uuid::now_v7().to_string();
    with_header(post(HOOK, &utterance(&words)), "authorization", &format!("Bearer {token}"))
}

fn in_body(token: &Value) -> Value {
    let mut body = utterance(&uuid::Uuid::now_v7().to_string());
    body["authorizationHeader"] = token.clone();
    body
}

fn signed(key: &SigningKey, change: impl FnOnce(&mut Claims)) -> String {
    let mut claims = claims();
    change(&mut claims);
    sign(key, &claims).unwrap().reveal().to_owned()
}

fn refusals(house: &House, reason: &str) -> bool {
    house.doors.metrics().contains(&format!("{AUTH_REFUSALS}{{door=\"http\",reason=\"{reason}\"}}"))
}

#[tokio::test]
async fn a_static_token_opens_from_the_header_and_from_the_body() {
    let house = House::with(guarded()).await;
    assert_eq!(house.ask(bearing(TOKEN)).await.0, 200);
    assert_eq!(house.ask(bearing("older")).await.0, 200, "several are good while they are rotated");
    assert_eq!(house.ask(post(HOOK, &in_body(&json!(TOKEN)))).await.0, 200);
    let wrong_header = with_header(post(HOOK, &in_body(&json!(TOKEN))), "authorization", "other");
    assert_eq!(house.ask(wrong_header).await.0, 200, "one right token is enough");

    let answer = house.send(post(HOOK, &utterance("x"))).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["www-authenticate"]), (401, &"Bearer".parse().unwrap()));
    assert_eq!(house.ask(bearing("other")).await.0, 401);
    assert!(refusals(&house, "missing") && refusals(&house, "wrong"));
    assert_eq!(house.app.taken().len(), 4);
}

#[tokio::test]
async fn of_a_bad_token_and_a_bad_body_the_token_is_named_only_where_no_other_can_be_in_the_body() {
    let house = House::with(guarded()).await;
    let bad = json!({"contactId": "x"});
    assert_eq!(house.ask(with_header(post(HOOK, &bad), "authorization", "other")).await.0, 401);
    assert_eq!(house.ask(with_header(post(HOOK, &bad), "authorization", TOKEN)).await.0, 400);
    assert_eq!(house.ask(post(HOOK, &bad)).await.0, 400);
    let with_token = json!({"contactId": "x", "AuthorizationHeader": TOKEN});
    assert_eq!(house.ask(with_header(post(HOOK, &with_token), "authorization", "other")).await.0, 400);
}

#[tokio::test]
async fn a_good_jwt_opens_and_every_bad_one_is_refused_and_counted_by_its_fault() {
    let house = House::with(guarded()).await;
    let key = published_key(&house.store).await;
    let other_key = SigningKey::generate(0).unwrap();
    let hour_ago = |claims: &mut Claims| (claims.iat, claims.nbf, claims.exp) = (1, 1, claims.exp - 3600);
    let in_an_hour = |claims: &mut Claims| claims.nbf += 3600;

    assert_eq!(house.ask(bearing(&signed(&key, |_| {}))).await.0, 200);
    let own =
        |claims: &mut Claims| (claims.bus_no, claims.contact_id) = (Some(CONTACT.bus_no), Some(CONTACT.contact_id));
    assert_eq!(house.ask(bearing(&signed(&key, own))).await.0, 200);
    assert_eq!(house.ask(post(HOOK, &in_body(&json!(signed(&key, own))))).await.0, 200);

    let forged = SigningKey { kid: key.kid.clone(), ..other_key.clone() };
    for (token, status, reason) in [
        (signed(&key, hour_ago), 401, "expired"),
        (signed(&key, in_an_hour), 401, "not_yet_valid"),
        (signed(&key, |claims| claims.aud = Some("else".into())), 401, "audience"),
        (signed(&key, |claims| claims.iss = Some("https://else".into())), 401, "issuer"),
        (signed(&key, |claims| claims.scope = "events".into()), 403, "scope"),
        (signed(&key, |claims| claims.bus_no = Some(1)), 403, "foreign_contact"),
        (signed(&forged, |_| {}), 401, "signature"),
        (signed(&other_key, |_| {}), 401, "unknown_key"),
        (with_algorithm(&key, "none"), 401, "algorithm"),
        (with_algorithm(&key, "HS256"), 401, "algorithm"),
        (with_algorithm(&key, "RS256"), 401, "algorithm"),
    ] {
        let (got, answer) = house.ask(bearing(&token)).await;
        assert_eq!(got, status, "{reason}: {answer}");
        assert!(refusals(&house, reason), "{reason} in\n{}", house.doors.metrics());
    }
    assert_eq!(house.app.taken().len(), 3);
}

#[tokio::test]
async fn a_token_for_one_use_is_good_once_however_often_and_wherever_it_comes() {
    let house = House::with(guarded()).await;
    let key = published_key(&house.store).await;
    let token = signed(&key, |claims| claims.one_time = Some(true));
    let statuses = futures_util::future::join_all((0..20).map(|_| house.ask(bearing(&token)))).await;
    let good = statuses.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!((good, statuses.iter().filter(|(status, _)| *status == 401).count()), (1, 19));
    assert!(refusals(&house, "replayed"));
    assert_eq!(house.app.taken().len(), 1);
}

#[tokio::test]
async fn a_token_for_one_use_is_still_good_after_a_request_that_was_refused_for_something_else() {
    let house = House::with(guarded().with(&settings::UTTERANCES_PER_SECOND_MAX, "1")).await;
    let key = published_key(&house.store).await;
    let token = signed(&key, |claims| claims.one_time = Some(true));
    let large = format!(r#"{{"a":[{}]}}"#, vec!["1e9"; 50_000].join(","));
    let said = utterance("x").to_string();
    let swollen = format!(r#"{},"messageData":{large}}}"#, said.strip_suffix('}').unwrap());
    let swollen = lambda_http::http::Request::post(HOOK)
        .header("content-type", "application/json")
        .body(lambda_http::Body::Text(swollen))
        .unwrap();
    let long_key = "k".repeat(crate::text_hook::IDEMPOTENCY_KEY_BYTES_MAX + 1);
    for (request, status) in [
        (post(HOOK, &json!({"contactId": "x"})), 400),
        (with_header(post(HOOK, &utterance("x")), "idempotency-key", &long_key), 400),
        (swollen, 413),
    ] {
        assert_eq!(house.ask(with_header(request, "authorization", &token)).await.0, status);
    }
    // The business unit's share of this window and the next is used up by others.
    let window_s = wall_s() - wall_s().rem_euclid(10);
    for start_s in [window_s, window_s + 10] {
        for _ in 0..10 {
            assert!(house.store.count_request(CONTACT.bus_no, start_s, 10).await.unwrap());
        }
    }
    assert_eq!(house.ask(bearing(&token)).await.0, 429);
    assert!(!refusals(&house, "replayed") && house.app.taken().is_empty());

    let patient = House::over(guarded(), house.embedded, house.store).await;
    assert_eq!(patient.ask(bearing(&token)).await.0, 200);
    assert_eq!(patient.ask(bearing(&token)).await.0, 401);
    assert!(refusals(&patient, "replayed"));
}

#[tokio::test]
async fn what_the_authorizer_found_out_is_believed_from_the_context_alone_and_holds_for_its_contact() {
    let house = House::with(guarded()).await;
    let event = |context: &Value, headers: &Value| {
        let body = utterance(&uuid::Uuid::now_v7().to_string()).to_string();
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": HOOK, "rawQueryString": "",
            "headers": headers, "body": body, "isBase64Encoded": false,
            "requestContext": {
                "stage": "$default", "authorizer": context,
                "http": {"method": "POST", "path": HOOK, "sourceIp": "192.0.2.1"},
            },
        });
        from_str(&event.to_string()).unwrap()
    };
    let json_type = json!({"content-type": "application/json"});
    let granted = json!({"lambda": {"scope": "utterances", "busNo": CONTACT.bus_no.to_string()}});
    assert_eq!(house.ask(event(&granted, &json_type)).await.0, 200);
    for (context, status) in [
        (json!({"lambda": {"scope": "utterances", "busNo": "1"}}), 403),
        (json!({"lambda": {"scope": "events"}}), 403),
        (json!({"lambda": {"scope": "", "busNo": "1"}}), 403),
        (json!({"lambda": {"user": "somebody else's authorizer"}}), 401),
        (json!({"jwt": {"claims": {"scope": "*"}, "scopes": null}}), 401),
    ] {
        assert_eq!(house.ask(event(&context, &json_type)).await.0, status, "{context}");
    }
    // A header that says the same is a header.
    let claimed =
        json!({"content-type": "application/json", "scope": "*", "x-amzn-request-context": granted.to_string()});
    assert_eq!(house.ask(event(&json!({}), &claimed)).await.0, 401);
}

/// The token of somebody who names another algorithm: unsigned, or signed with what everybody knows, the public key.
fn with_algorithm(key: &SigningKey, algorithm: &str) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({"alg": algorithm, "kid": key.kid, "typ": "JWT"});
    let signed = format!("{}.{}", encode(&header), encode(&serde_json::to_value(claims()).unwrap()));
    if algorithm == "none" {
        return format!("{signed}.");
    }
    let public = hmac::Key::new(hmac::HMAC_SHA256, key.jwk.to_string().as_bytes());
    let tag = hmac::sign(&public, signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref()))
}
