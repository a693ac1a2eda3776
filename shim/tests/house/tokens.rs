//! JWTs at the handshake, checked with the keys of our own token endpoint.

use std::time::{SystemTime, UNIX_EPOCH};

use earpiece_access::issue::{Claims, SigningKey, sign};
use earpiece_access::settings::{AUDIENCE, ISSUER, JWKS};
use earpiece_core::contact::ContactKey;
use earpiece_shim::settings::AUDIO_TOKENS;
use earpiece_store::StoredKey;
use futures_util::future::join_all;

use crate::stage::{House, close_code, contact, init};

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292 billion")
}

/// A key whose public half is in the house's table.
async fn key_of(house: &House) -> SigningKey {
    let now_s = now_s();
    let key = SigningKey::generate(now_s).expect("a key");
    let stored = |body: String| StoredKey { kid: key.kid.clone(), created_at_s: now_s, body };
    let private = stored(serde_json::to_string(&key).expect("JSON"));
    let public = stored(key.jwk.to_string());
    assert!(house.store.add_signing_key(&private, &public, None, now_s + 3600).await.expect("a store"));
    key
}

fn claims(bound_to: Option<ContactKey>) -> Claims {
    let now_s = now_s();
    Claims {
        iss: Some("earpiece".to_owned()),
        aud: Some("calls".to_owned()),
        sub: "studio".to_owned(),
        iat: now_s,
        nbf: now_s,
        exp: now_s + 300,
        jti: format!("{:032x}", fastrand::u128(..)),
        scope: "audio".to_owned(),
        bus_no: bound_to.map(|contact| contact.bus_no),
        contact_id: bound_to.map(|contact| contact.contact_id),
        one_time: None,
    }
}

async fn open() -> (House, SigningKey) {
    let house = House::open(&[(JWKS, "table"), (ISSUER, "earpiece"), (AUDIENCE, "calls")]).await;
    let key = key_of(&house).await;
    (house, key)
}

#[tokio::test]
async fn a_token_of_ours_lets_its_contact_stream_and_no_other() {
    let (house, key) = open().await;
    let token = sign(&key, &claims(Some(contact(1)))).expect("a token");
    let (answer, _socket) = house.shake(&init(contact(1), Some(token.reveal()))).await;
    assert_eq!(answer["command"], "CONNECTED", "{answer}");
    let (answer, mut socket) = house.shake(&init(contact(2), Some(token.reveal()))).await;
    assert_eq!(answer["command"], "ERROR", "{answer}");
    assert_eq!(close_code(&mut socket).await, 1008);
    assert_eq!(house.metric(r#"earpiece_auth_refusals_total{door="shim",reason="foreign_contact"}"#).await, 1);
    assert_eq!(house.metric(r#"earpiece_stream_refusals_total{reason="forbidden"}"#).await, 1);
}

#[tokio::test]
async fn a_one_time_token_opens_once() {
    let (house, key) = open().await;
    let once = Claims { one_time: Some(true), ..claims(None) };
    let token = sign(&key, &once).expect("a token");
    let (answer, _socket) = house.shake(&init(contact(3), Some(token.reveal()))).await;
    assert_eq!(answer["command"], "CONNECTED", "{answer}");
    let (answer, _socket) = house.shake(&init(contact(4), Some(token.reveal()))).await;
    assert_eq!(answer["command"], "ERROR", "{answer}");
    assert_eq!(house.metric(r#"earpiece_auth_refusals_total{door="shim",reason="replayed"}"#).await, 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_counted_by_its_reason() {
    let (house, key) = open().await;
    let stranger = SigningKey { kid: key.kid.clone(), ..SigningKey::generate(now_s()).expect("a key") };
    let good = claims(None);
    let of = |claims: &Claims| sign(&key, claims).expect("a token").reveal().to_owned();
    let refused = [
        ("missing", String::new()),
        ("wrong", "guess".to_owned()),
        ("expired", of(&Claims { nbf: now_s() - 900, iat: now_s() - 900, exp: now_s() - 600, ..good.clone() })),
        ("not_yet_valid", of(&Claims { nbf: now_s() + 600, exp: now_s() + 900, ..good.clone() })),
        ("audience", of(&Claims { aud: Some("others".to_owned()), ..good.clone() })),
        ("issuer", of(&Claims { iss: Some("others".to_owned()), ..good.clone() })),
        ("scope", of(&Claims { scope: "listen".to_owned(), ..good.clone() })),
        ("signature", sign(&stranger, &good).expect("a token").reveal().to_owned()),
    ];
    // Each for a business unit of its own, and all at once: wrong tokens are answered after a pause that grows.
    let asked = refused.iter().zip(1..).map(async |((reason, token), bus_no)| {
        let contact = ContactKey { bus_no, contact_id: 5 };
        let (answer, _socket) = house.shake(&init(contact, Some(token))).await;
        assert_eq!(answer["command"], "ERROR", "{reason}: {answer}");
        assert!(token.is_empty() || !answer.to_string().contains(token));
    });
    join_all(asked).await;
    for (reason, _) in refused {
        let name = format!(r#"earpiece_auth_refusals_total{{door="shim",reason="{reason}"}}"#);
        assert_eq!(house.metric(&name).await, 1, "{reason}");
    }
}

#[tokio::test]
async fn static_tokens_open_beside_jwts() {
    let house = House::open(&[(JWKS, "table"), (AUDIO_TOKENS, "abc")]).await;
    let (answer, _socket) = house.shake(&init(contact(6), Some("abc"))).await;
    assert_eq!(answer["command"], "CONNECTED", "{answer}");
}
