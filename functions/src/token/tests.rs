//! The authorization server through the doors, on the embedded store.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use earpiece_access::issue::SigningKey;
use earpiece_core::config::{EmptyEnv, Overlay};
use lambda_http::Body;
use lambda_http::http::Request as HttpRequest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::keys::KeyRing;
use crate::answer::Request;
use crate::settings::{TOKEN_CLIENTS, TokenRules};
use crate::testing::{CONTACT, HOOK, House, ISSUER, body_of, get, guarded, post, utterance, with_header};

use super::*;

const SECRET: &str = "a long & random=secret";

fn issuing() -> Overlay<EmptyEnv> {
    let mut digest = String::new();
    for byte in Sha256::digest(SECRET) {
        write!(digest, "{byte:02x}").unwrap();
    }
    let clients = json!([
        {"id": "studio", "secretSha256": [digest], "scope": "utterances events"},
        {"id": "bound", "secretSha256": [digest], "scope": "utterances", "busNo": CONTACT.bus_no},
    ]);
    guarded().with(&TOKEN_CLIENTS, clients.to_string())
}

fn form(fields: &[(&str, &str)]) -> Request {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    HttpRequest::post("/oauth/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::Text(body))
        .unwrap()
}

fn asking(more: &[(&str, &str)]) -> Request {
    let base = [("grant_type", "client_credentials"), ("client_id", "studio"), ("client_secret", SECRET)];
    form(&[&base, more].concat())
}

fn basic(id: &str, secret: &str) -> String {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret))))
}

fn claims_of(answer: &Value) -> Value {
    let token = answer["access_token"].as_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[tokio::test]
async fn an_issued_token_opens_the_text_hook_whichever_way_the_client_showed_its_secret() {
    let house = House::with(issuing()).await;
    let by_header =
        with_header(form(&[("grant_type", "client_credentials")]), "authorization", &basic("studio", SECRET));
    for request in [asking(&[]), by_header] {
        let answer = house.send(request).await;
        let body = body_of(&answer);
        assert_eq!(answer.status(), 200, "{body}");
        assert_eq!(
            (&answer.headers()["cache-control"], &answer.headers()["pragma"]),
            (&"no-store".parse().unwrap(), &"no-cache".parse().unwrap(),)
        );
        assert_eq!(
            (&body["token_type"], &body["expires_in"], &body["scope"]),
            (&json!("Bearer"), &json!(900), &json!("utterances events"),)
        );
        let token = format!("bearer {}", body["access_token"].as_str().unwrap());
        let said = post(HOOK, &utterance(&token));
        assert_eq!(house.ask(with_header(said, "authorization", &token)).await.0, 200);
    }
}

#[tokio::test]
async fn a_token_can_be_narrowed_and_is_refused_beyond_what_it_was_narrowed_to() {
    let house = House::with(issuing()).await;
    let narrow = [("scope", "utterances"), ("bus_no", "4595000"), ("contact_id", "7"), ("one_time", "true")];
    let (status, body) = house.ask(asking(&narrow)).await;
    assert_eq!(status, 200, "{body}");
    let claims = claims_of(&body);
    assert_eq!(
        (&claims["iss"], &claims["sub"], &claims["busNo"], &claims["contactId"], &claims["oneTime"], &claims["scope"]),
        (&json!(ISSUER), &json!("studio"), &json!(4_595_000), &json!(7), &json!(true), &json!("utterances"))
    );
    let token = body["access_token"].as_str().unwrap();
    let foreign = with_header(post(HOOK, &utterance("x")), "authorization", token);
    assert_eq!(house.ask(foreign).await.0, 403);

    let bound = [("grant_type", "client_credentials"), ("client_id", "bound"), ("client_secret", SECRET)];
    let (_, body) = house.ask(form(&bound)).await;
    assert_eq!(claims_of(&body)["busNo"], json!(CONTACT.bus_no), "a bound client's tokens are bound unasked");
}

#[tokio::test]
async fn every_wrong_request_gets_its_own_error_in_the_words_of_the_standard() {
    let house = House::with(issuing()).await;
    // None of these reaches the store, so nothing is waited for but the pauses.
    tokio::time::pause();
    let twice = form(&[("grant_type", "client_credentials"), ("scope", "events"), ("scope", "utterances")]);
    let mut no_form = asking(&[]);
    no_form.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let bound =
        [("grant_type", "client_credentials"), ("client_id", "bound"), ("client_secret", SECRET), ("bus_no", "1")];
    for (request, status, error) in [
        (no_form, 400, "invalid_request"),
        (twice, 400, "invalid_request"),
        (form(&[("client_id", "studio"), ("client_secret", SECRET)]), 400, "invalid_request"),
        (form(&[("grant_type", "client_credentials"), ("client_id", "studio")]), 400, "invalid_request"),
        (
            form(&[("grant_type", "password"), ("client_id", "studio"), ("client_secret", SECRET)]),
            400,
            "unsupported_grant_type",
        ),
        (with_header(asking(&[]), "authorization", &basic("studio", SECRET)), 400, "invalid_request"),
        (asking(&[("scope", "audio")]), 400, "invalid_scope"),
        (asking(&[("scope", "everything")]), 400, "invalid_scope"),
        (asking(&[("contact_id", "7")]), 400, "invalid_request"),
        (asking(&[("bus_no", "-1")]), 400, "invalid_request"),
        (asking(&[("one_time", "yes")]), 400, "invalid_request"),
        (form(&bound), 400, "invalid_scope"),
        (form(&[("grant_type", "client_credentials")]), 401, "invalid_client"),
        (
            form(&[("grant_type", "client_credentials"), ("client_id", "studio"), ("client_secret", "x")]),
            401,
            "invalid_client",
        ),
        (
            with_header(form(&[("grant_type", "client_credentials")]), "authorization", &basic("nobody", SECRET)),
            401,
            "invalid_client",
        ),
        (with_header(form(&[("grant_type", "client_credentials")]), "authorization", "Basic !"), 401, "invalid_client"),
        (asking(&[("scope", &"x".repeat(BODY_BYTES_MAX))]), 413, "invalid_request"),
    ] {
        let answer = house.send(request).await;
        let body = body_of(&answer);
        assert_eq!((answer.status().as_u16(), &body["error"]), (status, &json!(error)), "{body}");
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401);
        assert!(!body.to_string().contains(SECRET));
    }
    let mut got = asking(&[]);
    *got.method_mut() = lambda_http::http::Method::GET;
    assert_eq!(house.ask(got).await.0, 405);
}

#[tokio::test]
async fn a_wrong_secret_costs_more_each_time_and_a_right_one_nothing() {
    let house = House::with(issuing()).await;
    tokio::time::pause();
    let wrong = || form(&[("grant_type", "client_credentials"), ("client_id", "studio"), ("client_secret", "x")]);
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let began = tokio::time::Instant::now();
        assert_eq!(house.ask(wrong()).await.0, 401);
        pauses.push(began.elapsed().as_millis() / 100 * 100);
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 4000]);
    tokio::time::resume();
    let began = tokio::time::Instant::now();
    assert_eq!(house.ask(asking(&[])).await.0, 200);
    assert!(began.elapsed() < PENALTIES.max);
}

#[tokio::test]
async fn keys_and_metadata_are_there_for_everybody_and_only_where_tokens_are_issued() {
    let house = House::with(issuing()).await;
    let answer = house.send(get("/.well-known/jwks.json")).await;
    assert_eq!(answer.headers()["cache-control"], "public, max-age=300");
    let keys = body_of(&answer);
    let kid = keys["keys"][0]["kid"].clone();
    assert!(kid.is_string() && keys["keys"][0].get("d").is_none(), "the public half, and nothing else: {keys}");
    let (_, metadata) = house.ask(get("/.well-known/oauth-authorization-server")).await;
    assert_eq!(metadata["token_endpoint"], format!("{ISSUER}/oauth/token"));

    let none = House::with(guarded()).await;
    for request in [asking(&[]), get("/.well-known/jwks.json"), get("/.well-known/oauth-authorization-server")] {
        assert_eq!(none.ask(request).await.0, 404);
    }
}

/// What the template gives a stack without a domain of its own.
#[tokio::test]
async fn an_issuer_without_an_address_issues_tokens_that_open_and_has_no_metadata() {
    let template = include_str!("../../../template.yaml");
    assert!(template.contains("EARPIECE_JWT_ISSUER") && template.contains("urn:earpiece:${AWS::StackName}"));
    for issuer in ["urn:earpiece:calls", "https://earpiece.example.com?tenant=1"] {
        let house = House::with(issuing().with(&earpiece_access::settings::ISSUER, issuer)).await;
        let (status, body) = house.ask(asking(&[])).await;
        assert_eq!((status, &claims_of(&body)["iss"]), (200, &json!(issuer)));
        let token = body["access_token"].as_str().unwrap();
        assert_eq!(house.ask(with_header(post(HOOK, &utterance("x")), "authorization", token)).await.0, 200);
        assert_eq!(house.ask(get("/.well-known/jwks.json")).await.0, 200);
        let (status, body) = house.ask(get("/.well-known/oauth-authorization-server")).await;
        assert_eq!((status, &body["error"]["kind"]), (404, &json!("not_found")), "{body}");
    }
}

#[tokio::test]
async fn of_many_that_rotate_at_once_all_sign_with_one_key_and_the_old_one_stays_published() {
    let house = House::with(issuing()).await;
    let rules = TokenRules { ttl: Duration::from_mins(15), rotation: Duration::from_hours(24) };
    let rings: Vec<KeyRing> = (0..8).map(|_| KeyRing::new(house.store.clone(), rules)).collect();
    let day_s = 86_400;
    let now_s = wall_s();
    let kids = async |at_s: i64| {
        let keys = futures_util::future::join_all(rings.iter().map(|ring| ring.current(at_s))).await;
        let mut kids: Vec<String> = keys.into_iter().map(|key| key.unwrap().kid.clone()).collect();
        kids.dedup();
        kids
    };
    let first = kids(now_s).await;
    assert_eq!(first.len(), 1);
    assert_eq!(kids(now_s + day_s - 1).await, first);
    let second = kids(now_s + day_s).await;
    assert_eq!(second.len(), 1);
    assert_ne!(second, first);

    let published = async |at_s: i64| house.store.public_keys(at_s).await.unwrap().len();
    assert_eq!(published(now_s + day_s + 900).await, 2, "tokens that the old key signed last are still judged");
    assert_eq!(published(now_s + day_s + 2 * 900 + 1).await, 1);
}

#[tokio::test]
async fn while_the_table_is_away_the_last_key_is_used_for_no_longer_than_its_public_half_lasts() {
    let House { embedded, store, .. } = House::with(issuing()).await;
    let rules = TokenRules { ttl: Duration::from_mins(15), rotation: Duration::from_hours(24) };
    let ring = KeyRing::new(store, rules);
    let now_s = wall_s();
    let key: std::sync::Arc<SigningKey> = ring.current(now_s).await.unwrap();
    embedded.stop().await;
    assert_eq!(ring.current(now_s + 86_400 + 900).await.unwrap().kid, key.kid);
    assert_eq!(ring.current(now_s + 86_400 + 901).await, Err(keys::KeyError::Unavailable));
}

#[tokio::test]
async fn a_key_that_was_made_under_other_rules_signs_nothing_that_would_outlive_it() {
    let house = House::with(issuing()).await;
    let short = TokenRules { ttl: Duration::from_mins(15), rotation: Duration::from_hours(1) };
    let long = TokenRules { ttl: Duration::from_hours(1), rotation: Duration::from_hours(24) };
    let now_s = wall_s();
    let ring = |rules| KeyRing::new(house.store.clone(), rules);
    let first = ring(short).current(now_s).await.unwrap();

    // The table publishes it for an hour and a half: longer than it signs, and half an hour longer than a token lives.
    assert_eq!(ring(long).current(now_s + 1800).await.unwrap().kid, first.kid);
    let renewed = ring(long);
    assert_eq!(renewed.current(now_s + 1790).await.unwrap().kid, first.kid);
    let second = renewed.current(now_s + 1801).await.unwrap();
    assert_ne!(second.kid, first.kid, "a process that holds it does not go on with it either");
    assert_eq!(ring(long).current(now_s + 1801).await.unwrap().kid, second.kid);
    assert_eq!(house.store.public_keys(now_s + 1801).await.unwrap().len(), 2);

    // Back to the old rules: what is younger than their rotation is used, and then replaced.
    assert_eq!(ring(short).current(now_s + 1801 + 3599).await.unwrap().kid, second.kid);
    assert_ne!(ring(short).current(now_s + 1801 + 3600).await.unwrap().kid, second.kid);
}

#[tokio::test]
async fn of_many_that_cannot_use_a_key_before_its_rotation_one_replaces_it() {
    let house = House::with(issuing()).await;
    let short = TokenRules { ttl: Duration::from_mins(1), rotation: Duration::from_hours(1) };
    let longer = TokenRules { ttl: Duration::from_hours(2), rotation: Duration::from_hours(3) };
    let now_s = wall_s();
    let first = KeyRing::new(house.store.clone(), short).current(now_s).await.unwrap();
    let rings: Vec<KeyRing> = (0..8).map(|_| KeyRing::new(house.store.clone(), longer)).collect();
    let keys = futures_util::future::join_all(rings.iter().map(|ring| ring.current(now_s))).await;
    let mut kids: Vec<String> = keys.into_iter().map(|key| key.unwrap().kid.clone()).collect();
    kids.dedup();
    assert_eq!(kids.len(), 1);
    assert_ne!(kids[0], first.kid);
}
