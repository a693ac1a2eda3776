//! A JSON Web Key Set (RFC 7517) as keys of one family. Everything else in it is left out: keys of other families, of
//! other curves, for encryption, too short ones, and above all shared secrets.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use crate::cache::FetchError;

/// A key set is no longer.
pub(crate) const SET_BYTES_MAX: usize = 64 * 1024;
/// Keys of one set that are looked at.
const KEYS_MAX: usize = 32;
/// Shortest and longest RSA modulus.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 2048 / 8..=8192 / 8;
/// Longest RSA exponent; all that are in use have three bytes.
const EXPONENT_BYTES_MAX: usize = 4;
/// Each coordinate of a point on P-256.
const COORDINATE_BYTES: usize = 32;

/// What kind of public key is asked for: each belongs to one algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// For RS256.
    Rsa,
    /// For ES256.
    P256,
}

/// A public key with its id.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) kid: Option<String>,
    pub(crate) key: Arc<DecodingKey>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// The keys of one family in a key set. There may be none: a new issuer has no keys yet.
pub(crate) fn parse(text: &str, family: Family) -> Result<Vec<Key>, FetchError> {
    if text.len() > SET_BYTES_MAX {
        return Err(FetchError::new("the key set is too large"));
    }
    let set: KeySet = serde_json::from_str(text).map_err(|_| FetchError::new("it is no JSON Web Key Set"))?;
    if set.keys.len() > KEYS_MAX {
        tracing::warn!(keys = set.keys.len(), looked_at = KEYS_MAX, "a key set is longer than expected");
    }
    let jwks = set.keys.into_iter().take(KEYS_MAX).filter_map(|jwk| serde_json::from_value::<Jwk>(jwk).ok());
    Ok(jwks.filter_map(|jwk| jwk.into_key(family)).collect())
}

/// The keys that may have signed a token which names `kid`. One without a name is judged only where there is no choice.
pub(crate) fn chosen(keys: &[Key], kid: Option<&str>) -> Vec<Arc<DecodingKey>> {
    match (kid, keys) {
        (Some(_), _) => keys.iter().filter(|key| key.kid.as_deref() == kid).map(|key| Arc::clone(&key.key)).collect(),
        (None, [only]) => vec![Arc::clone(&only.key)],
        (None, _) => Vec::new(),
    }
}

impl Jwk {
    fn into_key(self, family: Family) -> Option<Key> {
        let (kty, alg) = match family {
            Family::Rsa => ("RSA", "RS256"),
            Family::P256 => ("EC", "ES256"),
        };
        let is_for_another = self.alg.as_deref().is_some_and(|named| named != alg);
        let is_for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|name| name == "verify"));
        if self.kty != kty || is_for_another || !is_for_signatures {
            return None;
        }
        let key = match family {
            Family::Rsa => rsa(&self.n?, &self.e?)?,
            Family::P256 => p256(self.crv.as_deref()?, &self.x?, &self.y?)?,
        };
        Some(Key { kid: self.kid, key: Arc::new(key) })
    }
}

fn rsa(n: &str, e: &str) -> Option<DecodingKey> {
    let has_size = MODULUS_BYTES.contains(&decoded_len(n)?) && (1..=EXPONENT_BYTES_MAX).contains(&decoded_len(e)?);
    if has_size { DecodingKey::from_rsa_components(n, e).ok() } else { None }
}

fn p256(crv: &str, x: &str, y: &str) -> Option<DecodingKey> {
    let has_size = decoded_len(x)? == COORDINATE_BYTES && decoded_len(y)? == COORDINATE_BYTES;
    if crv == "P-256" && has_size { DecodingKey::from_ec_components(x, y).ok() } else { None }
}

fn decoded_len(text: &str) -> Option<usize> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok().map(|bytes| bytes.len())
}
