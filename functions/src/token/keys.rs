//! The key that tokens are signed with: kept in the table, so that every process signs with the same one, and replaced
//! when its time is over. Exactly one of many that replace it at once wins; the others take the winner's.
//!
//! Its public half is published until the moment that the table holds, and nothing is signed that would outlive it. That
//! moment was set by the rules under which the key was made, which need not be today's.

use std::sync::Arc;
use std::time::Duration;

use earpiece_access::issue::{SigningKey, key_set};
use earpiece_store::{Store, StoreError, StoredKey};
use serde_json::Value;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::clock::wall_s;
use crate::settings::TokenRules;

/// How long a process goes on with a key before it asks the table whether there is a newer one.
const READ_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// How often a key is made because the one that signs cannot be used: a process under older rules may have been faster.
const ATTEMPTS_MAX: usize = 3;

/// Why there is no key to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// The table did not give one.
    Unavailable,
    /// It gave one that cannot be read, or none could be made.
    Unusable,
}

/// The current key.
pub(crate) struct KeyRing {
    store: Store,
    rules: TokenRules,
    /// Locked over the read, so that one read is under way however many wait.
    held: Mutex<Option<Held>>,
}

#[derive(Clone)]
struct Held {
    usable: Usable,
    read_at_s: i64,
}

/// A key and the end of it.
#[derive(Clone)]
struct Usable {
    key: Arc<SigningKey>,
    /// When its public half is published no more, as the table has it.
    expires_at_s: i64,
}

impl KeyRing {
    pub(crate) fn new(store: Store, rules: TokenRules) -> Self {
        Self { store, rules, held: Mutex::new(None) }
    }

    /// The key to sign with now. Tokens that it signs now end before its public half is gone.
    pub(crate) async fn current(&self, now_s: i64) -> Result<Arc<SigningKey>, KeyError> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| self.is_current(held, now_s)) {
            return Ok(Arc::clone(&held.usable.key));
        }
        let usable = match (self.read_or_make(now_s).await, held.as_ref()) {
            (Ok(usable), _) => usable,
            // A table that is away stops nobody at once.
            (Err(error), Some(old)) if self.may_sign(&old.usable, now_s) => {
                warn!(?error, "the signing key could not be read again; the last one is used");
                return Ok(Arc::clone(&old.usable.key));
            }
            (Err(error), _) => return Err(error),
        };
        let key = Arc::clone(&usable.key);
        *held = Some(Held { usable, read_at_s: now_s });
        Ok(key)
    }

    /// The key set as it is published.
    pub(crate) async fn published(&self) -> Result<String, StoreError> {
        published_keys(&self.store).await
    }

    async fn read_or_make(&self, now_s: i64) -> Result<Usable, KeyError> {
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.newest(now_s).await?;
            let usable = stored.as_ref().filter(|stored| self.may_sign(stored, now_s));
            if let Some(usable) = usable.filter(|usable| !self.is_due(usable, now_s)) {
                return Ok(usable.clone());
            }
            let key = Arc::new(SigningKey::generate(now_s).map_err(|_| KeyError::Unusable)?);
            let made = Usable { expires_at_s: self.end_s(&key), key };
            let replaced = stored.as_ref().map(|old| old.key.kid.as_str());
            match (self.add(&made, replaced).await, usable) {
                (Ok(true), _) => {
                    info!(kid = made.key.kid, replaces = replaced, "a new signing key");
                    return Ok(made);
                }
                (Ok(false), _) => {}
                // Due is not over: the next request tries to replace it again.
                (Err(_), Some(old)) => return Ok(old.clone()),
                (Err(error), None) => return Err(error),
            }
        }
        Err(KeyError::Unavailable)
    }

    async fn newest(&self, now_s: i64) -> Result<Option<Usable>, KeyError> {
        let stored = self.store.signing_key(now_s).await.map_err(|error| {
            warn!(%error, "the signing key could not be read");
            KeyError::Unavailable
        })?;
        let Some(stored) = stored else { return Ok(None) };
        // The reason is not logged: it may repeat what it could not read.
        let key = serde_json::from_str(&stored.key.body).map_err(|_| KeyError::Unusable)?;
        Ok(Some(Usable { key: Arc::new(key), expires_at_s: stored.expires_at_s }))
    }

    async fn add(&self, made: &Usable, replaces: Option<&str>) -> Result<bool, KeyError> {
        let Usable { key, expires_at_s } = made;
        let body = serde_json::to_string(&**key).map_err(|_| KeyError::Unusable)?;
        let private = StoredKey { kid: key.kid.clone(), created_at_s: key.created_at_s, body };
        let public = StoredKey { body: key.jwk.to_string(), ..private.clone() };
        self.store.add_signing_key(&private, &public, replaces, *expires_at_s).await.map_err(|error| {
            warn!(%error, "a signing key could not be added");
            KeyError::Unavailable
        })
    }

    fn is_current(&self, held: &Held, now_s: i64) -> bool {
        let is_fresh = (0..seconds(READ_AGAIN_AFTER)).contains(&(now_s - held.read_at_s));
        is_fresh && self.may_sign(&held.usable, now_s) && !self.is_due(&held.usable, now_s)
    }

    /// Whether what it signs now is over before its public half is.
    fn may_sign(&self, usable: &Usable, now_s: i64) -> bool {
        now_s.saturating_add(seconds(self.rules.ttl)) <= usable.expires_at_s
    }

    /// Whether it is to be replaced.
    fn is_due(&self, usable: &Usable, now_s: i64) -> bool {
        now_s >= usable.key.created_at_s.saturating_add(seconds(self.rules.rotation))
    }

    /// When the public half of a new key may go: a token's life after its last use, which a table that is away may put
    /// off by as much.
    fn end_s(&self, key: &SigningKey) -> i64 {
        let life = self.rules.rotation.saturating_add(self.rules.ttl.saturating_mul(2));
        key.created_at_s.saturating_add(seconds(life))
    }
}

/// The public keys of the table as a key set.
///
/// # Errors
/// When the table did not answer.
pub async fn published_keys(store: &Store) -> Result<String, StoreError> {
    let stored = store.public_keys(wall_s()).await?;
    let readable = stored.iter().filter_map(|key| serde_json::from_str::<Value>(&key.body).ok());
    Ok(key_set(readable).to_string())
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
