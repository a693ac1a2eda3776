//! One JWT: algorithm, key, signature, claims, in this order.
//!
//! The algorithm is a matter of configuration and comes with the keys in one value ([`Keys`]), so that no token can
//! choose it and no key can be used with another: a public key is never a shared secret here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use earpiece_core::secret::Secret;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::cache::{KeyCache, KeyFetch};
use crate::claims::Claims;
use crate::grant::Grant;
use crate::guard::Wanted;
use crate::keys::Family;
use crate::refusal::Refusal;

/// A longer token is not looked at.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// A shared secret is at least as long as the digest that it keys (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// What JWTs are signed with.
#[derive(Clone)]
pub enum Keys {
    /// HMAC with SHA-256 and a shared secret of at least [`SECRET_BYTES_MIN`].
    Hs256(Secret),
    /// RSA (PKCS #1 v1.5) with SHA-256; 2048 to 8192 bits.
    Rs256(KeyFetch),
    /// ECDSA on P-256 with SHA-256.
    Es256(KeyFetch),
}

/// What else a JWT must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// `aud` must be or contain this.
    pub audience: Option<String>,
    /// By how much the issuer's clock may differ from ours.
    pub leeway: Duration,
    /// Whether tokens may or must be good for one use only.
    pub one_time: OneTimePolicy,
}

/// Whether tokens are good for one use only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OneTimePolicy {
    /// None is, whatever it says.
    Off,
    /// One that says `oneTime: true` is; it needs a `jti`.
    #[default]
    Allowed,
    /// Every one is; each needs a `jti`.
    Required,
}

/// The shared secret is too short to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shared secret must have at least {SECRET_BYTES_MIN} bytes")]
pub struct SecretTooShort;

/// Judges JWTs of one issuer.
pub struct Jwt {
    source: Source,
    rules: Rules,
}

enum Source {
    Secret(Arc<DecodingKey>),
    Set(KeyCache),
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

/// Whether it has the three parts of a JWT, and is no longer than one may be. The last part may be empty: a token
/// without a signature is refused for that reason, and not taken for something else.
pub(crate) fn looks_like_one(token: &str) -> bool {
    token.len() <= TOKEN_BYTES_MAX && token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl Jwt {
    /// A judge of tokens that are signed with `keys`. Nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// When a shared secret is too short.
    pub fn new(keys: Keys, rules: Rules) -> Result<Self, SecretTooShort> {
        let source = match keys {
            Keys::Hs256(secret) => {
                let secret = secret.reveal().as_bytes();
                if secret.len() < SECRET_BYTES_MIN {
                    return Err(SecretTooShort);
                }
                Source::Secret(Arc::new(DecodingKey::from_secret(secret)))
            }
            Keys::Rs256(fetch) => Source::Set(KeyCache::new(Family::Rsa, fetch)),
            Keys::Es256(fetch) => Source::Set(KeyCache::new(Family::P256, fetch)),
        };
        Ok(Self { source, rules })
    }

    pub(crate) const fn needs_keys(&self) -> bool {
        matches!(self.source, Source::Set(_))
    }

    pub(crate) async fn warm(&self) {
        if let Source::Set(cache) = &self.source {
            cache.warm().await;
        }
    }

    fn algorithm(&self) -> (Algorithm, &'static str) {
        match &self.source {
            Source::Secret(_) => (Algorithm::HS256, "HS256"),
            Source::Set(cache) => match cache.family() {
                Family::Rsa => (Algorithm::RS256, "RS256"),
                Family::P256 => (Algorithm::ES256, "ES256"),
            },
        }
    }

    /// Judges one token.
    pub(crate) async fn judge(&self, token: &str, wanted: &Wanted) -> Result<Grant, Refusal> {
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (head, body) = message.split_once('.').ok_or(Refusal::Malformed)?;
        let head: Head = decoded(head)?;
        let (algorithm, name) = self.algorithm();
        if head.alg != name {
            return Err(Refusal::Algorithm);
        }
        if head.crit.is_some() {
            return Err(Refusal::Malformed);
        }
        let keys = self.keys(head.kid.as_deref()).await?;
        let is_by = |key: &Arc<DecodingKey>| {
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm).unwrap_or(false)
        };
        if !keys.iter().any(is_by) {
            return Err(Refusal::Signature);
        }
        let claims: Claims = decoded(body)?;
        let grant = claims.judged(&self.rules, wanted.now_s)?;
        grant.check(wanted.scope, wanted.contact.as_ref())?;
        Ok(grant)
    }

    /// The keys that may have signed a token: those with its `kid`, nearly always one.
    async fn keys(&self, kid: Option<&str>) -> Result<Vec<Arc<DecodingKey>>, Refusal> {
        match &self.source {
            Source::Secret(key) => Ok(vec![Arc::clone(key)]),
            Source::Set(cache) => cache.find(kid).await,
        }
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwt({})", self.algorithm().1)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hs256(_) => "Keys(HS256)",
            Self::Rs256(_) => "Keys(RS256)",
            Self::Es256(_) => "Keys(ES256)",
        })
    }
}

/// A part of a token. Names that stand twice in it make it malformed: two readers could take either.
fn decoded<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, Refusal> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Refusal::Malformed)
}
