//! Somebody who signs tokens: written from the RFCs, and not with the library that judges them.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(super) const ISSUER: &str = "https://issuer.example.com";
pub(super) const AUDIENCE: &str = "earpiece";

pub(super) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292 billion")
}

/// An RSA key, and the id under which it is known.
pub(super) struct Signer {
    pair: KeyPair,
    pub(super) kid: String,
    pub(super) jwk: Value,
}

impl Signer {
    pub(super) fn new(kid: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let public = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let (n, e) = (BASE64_URL_SAFE_NO_PAD.encode(public.n), BASE64_URL_SAFE_NO_PAD.encode(public.e));
        let jwk = json!({"kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig", "n": n, "e": e});
        Self { pair, kid: kid.to_owned(), jwk }
    }

    /// Claims that are good for everything now, changed by `changes`, under this key's signature.
    pub(super) fn token(&self, changes: &Value) -> String {
        let message = unsigned(&json!({"alg": "RS256", "typ": "JWT", "kid": self.kid}), &claims(changes));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = SystemRandom::new();
        self.pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).expect("a signature");
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and claims, and no signature.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A token under the "signature" of whoever knows this text, for which a public key may be taken.
pub(super) fn hmac_token(kid: &str, key: &str, claims: &Value) -> String {
    let message = unsigned(&json!({"alg": "HS256", "typ": "JWT", "kid": kid}), claims);
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), message.as_bytes());
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac))
}

/// Claims that are good for everything now, changed by `changes`.
pub(super) fn claims(changes: &Value) -> Value {
    let now_s = now_s();
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "studio", "iat": now_s, "nbf": now_s, "exp": now_s + 600,
        "jti": "a token of the tests", "scope": "utterances events audio listen",
    });
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

/// The claims of a token.
pub(super) fn claims_in(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON")
}
