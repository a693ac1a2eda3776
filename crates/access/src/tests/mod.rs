//! The guard with real keys of every kind.

mod cache;
mod garbage;
mod issued;
mod matrix;
mod settings;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use earpiece_core::access::Verifier;
use earpiece_core::contact::ContactKey;
use earpiece_core::secret::Secret;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::issue::{SigningKey, key_set};
use crate::{FetchError, Grant, Guard, Jwt, KeyFetch, Keys, OneTimePolicy, Refusal, Rules, Scope, Wanted};

const NOW_S: i64 = 1_800_000_000;
const LEEWAY_S: i64 = 30;
const SECRET: &str = "a shared secret of more than 32 bytes";
const CONTACT: ContactKey = ContactKey { bus_no: 4_595_000, contact_id: 7 };
const WANTED: Wanted = Wanted { scope: Scope::Audio, contact: Some(CONTACT), now_s: NOW_S };

/// One key of each family for all tests: RSA keys take their time.
static ES: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(NOW_S).unwrap());
static RS: LazyLock<RsaKey> = LazyLock::new(RsaKey::generate);

struct RsaKey {
    pair: KeyPair,
    jwk: Value,
}

impl RsaKey {
    fn generate() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let (n, e) = (BASE64_URL_SAFE_NO_PAD.encode(public.n), BASE64_URL_SAFE_NO_PAD.encode(public.e));
        let jwk = json!({"kty": "RSA", "kid": "rsa", "alg": "RS256", "use": "sig", "n": n, "e": e});
        Self { pair, jwk }
    }

    fn sign(&self, message: &str) -> String {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        BASE64_URL_SAFE_NO_PAD.encode(signature)
    }
}

/// Somebody who signs: an algorithm, a key and the key's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    Hs,
    Rs,
    Es,
}

impl Signer {
    const ALL: [Self; 3] = [Self::Hs, Self::Rs, Self::Es];

    fn head(self) -> Value {
        match self {
            Self::Hs => json!({"alg": "HS256", "typ": "JWT"}),
            Self::Rs => json!({"alg": "RS256", "typ": "JWT", "kid": "rsa"}),
            Self::Es => json!({"alg": "ES256", "typ": "JWT", "kid": ES.kid}),
        }
    }

    fn sign(self, head: &Value, claims: &Value) -> String {
        let message = message(head, claims);
        let sign = |key, algorithm| jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
        let signature = match self {
            Self::Hs => sign(EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256),
            Self::Rs => RS.sign(&message),
            Self::Es => sign(es_key(&ES), Algorithm::ES256),
        };
        format!("{message}.{signature}")
    }

    /// A token with usual claims, changed by `changes` (`null` takes one away).
    fn token(self, changes: &Value) -> String {
        self.sign(&self.head(), &claims(changes))
    }

    /// A guard that accepts what this signer signs, and knows the public keys of all.
    fn guard(self) -> Guard {
        self.guard_with(rules())
    }

    fn guard_with(self, rules: Rules) -> Guard {
        let keys = match self {
            Self::Hs => Keys::Hs256(Secret::new(SECRET)),
            Self::Rs => Keys::Rs256(constant(public_keys())),
            Self::Es => Keys::Es256(constant(public_keys())),
        };
        Guard::new(Verifier::new([]), Some(Jwt::new(keys, rules).unwrap()))
    }
}

fn es_key(key: &SigningKey) -> EncodingKey {
    EncodingKey::from_ec_der(&BASE64_STANDARD.decode(key.pkcs8.reveal()).unwrap())
}

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn message(head: &Value, claims: &Value) -> String {
    format!("{}.{}", part(head), part(claims))
}

fn rules() -> Rules {
    Rules {
        issuer: Some("https://issuer".into()),
        audience: Some("earpiece".into()),
        leeway: Duration::from_secs(30),
        one_time: OneTimePolicy::Allowed,
    }
}

fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://issuer", "aud": "earpiece", "sub": "studio", "jti": "j1",
        "iat": NOW_S - 60, "nbf": NOW_S - 60, "exp": NOW_S + 600,
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn public_keys() -> String {
    key_set([RS.jwk.clone(), ES.jwk.clone()]).to_string()
}

fn constant(text: String) -> KeyFetch {
    Arc::new(move || {
        let text = text.clone();
        Box::pin(async move { Ok(text) })
    })
}

/// An issuer whose answers can be changed, and who counts the questions.
#[derive(Clone, Default)]
struct Issuer {
    inner: Arc<IssuerState>,
}

#[derive(Default)]
struct IssuerState {
    /// Absent: it does not answer at all.
    answer: Mutex<Option<Result<String, FetchError>>>,
    /// How long it takes.
    delay: Mutex<Duration>,
    asked: AtomicUsize,
}

impl Issuer {
    fn answering(text: impl Into<String>) -> Self {
        let issuer = Self::default();
        issuer.answers(text);
        issuer
    }

    fn answers(&self, text: impl Into<String>) {
        *self.inner.answer.lock().unwrap() = Some(Ok(text.into()));
    }

    fn answers_after(&self, delay: Duration, text: impl Into<String>) {
        self.answers(text);
        *self.inner.delay.lock().unwrap() = delay;
    }

    fn fails(&self) {
        *self.inner.answer.lock().unwrap() = Some(Err(FetchError::new("it is away")));
    }

    fn hangs(&self) {
        *self.inner.answer.lock().unwrap() = None;
    }

    fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::SeqCst)
    }

    fn fetch(&self) -> KeyFetch {
        let inner = Arc::clone(&self.inner);
        Arc::new(move || {
            inner.asked.fetch_add(1, Ordering::SeqCst);
            let answer = inner.answer.lock().unwrap().clone();
            let delay = *inner.delay.lock().unwrap();
            Box::pin(async move {
                // As over a network, others get their turn before the answer comes.
                tokio::task::yield_now().await;
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            })
        })
    }

    fn guard(&self) -> Guard {
        Guard::new(Verifier::new([]), Some(Jwt::new(Keys::Es256(self.fetch()), rules()).unwrap()))
    }
}

async fn judged(guard: &Guard, token: &str) -> Result<Grant, Refusal> {
    guard.judge([token], &WANTED).await
}
