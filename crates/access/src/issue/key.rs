//! Keys of our own, and the tokens that are signed with them. ES256 throughout: whoever judges a token needs no secret.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use earpiece_core::secret::Secret;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A key to sign with. What is written of it holds the private half: it belongs into the store, and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// Its id: the thumbprint of the public half (RFC 7638).
    pub kid: String,
    /// The private half: PKCS #8 in base64.
    pub pkcs8: Secret,
    /// The public half, as it stands in a key set.
    pub jwk: Value,
    /// When it was made, in seconds since the Unix epoch.
    pub created_at_s: i64,
}

/// Why a key could not be made, or nothing be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The system gave no random numbers.
    #[error("no key could be made")]
    NoKey,
    /// The private half is damaged.
    #[error("the key cannot be used")]
    BadKey,
}

/// What a token of ours says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// Who issued it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub iss: Option<String>,
    /// For whom it is meant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aud: Option<String>,
    /// Whose it is.
    pub sub: String,
    /// When it was issued, in seconds since the Unix epoch; so are the other two.
    pub iat: i64,
    /// From when on it is valid.
    pub nbf: i64,
    /// From when on it is not.
    pub exp: i64,
    /// Its own id.
    pub jti: String,
    /// What it is good for: words between blanks ([`crate::Scope::list`]).
    pub scope: String,
    /// Binds it to a business unit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bus_no: Option<u64>,
    /// Binds it to one contact. It has no meaning without `bus_no`, and such a token is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub contact_id: Option<u64>,
    /// Makes it good for one use.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub one_time: Option<bool>,
}

impl SigningKey {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn generate(now_s: i64) -> Result<Self, SigningError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| SigningError::NoKey)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref())
            .map_err(|_| SigningError::NoKey)?;
        // An uncompressed point: a byte that says so, and two coordinates of 32 bytes.
        let point = pair.public_key().as_ref().get(1..).ok_or(SigningError::NoKey)?;
        let (x, y) = point.split_at_checked(32).ok_or(SigningError::NoKey)?;
        let (x, y) = (BASE64_URL_SAFE_NO_PAD.encode(x), BASE64_URL_SAFE_NO_PAD.encode(y));
        let kid = thumbprint(&x, &y);
        let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": x, "y": y});
        let pkcs8 = Secret::new(BASE64_STANDARD.encode(pkcs8.as_ref()));
        Ok(Self { kid, pkcs8, jwk, created_at_s: now_s })
    }
}

/// The members that make the key, in alphabetical order and without blanks (RFC 7638, section 3).
fn thumbprint(x: &str, y: &str) -> String {
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

/// Public keys as the key set that is published, and fetched by a [`crate::Guard`].
#[must_use]
pub fn key_set(jwks: impl IntoIterator<Item = Value>) -> Value {
    json!({ "keys": jwks.into_iter().collect::<Vec<_>>() })
}

/// Signs a token.
///
/// # Errors
///
/// When the key is damaged.
pub fn sign(key: &SigningKey, claims: &Claims) -> Result<Secret, SigningError> {
    let pkcs8 = BASE64_STANDARD.decode(key.pkcs8.reveal()).map_err(|_| SigningError::BadKey)?;
    let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::ES256) };
    let token = jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&pkcs8));
    token.map(Secret::new).map_err(|_| SigningError::BadKey)
}
