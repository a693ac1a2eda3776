//! The key that tokens are signed with: kept in the table, so that every process signs with the same one, and replaced
//! when its time is over. Exactly one of many that replace it at once wins; the others take the winner's.

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
    key: Arc<SigningKey>,
    read_at_s: i64,
}

impl KeyRing {
    pub(crate) fn new(store: Store, rules: TokenRules) -> Self {
        Self { store, rules, held: Mutex::new(None) }
    }

    /// The key to sign with now.
    pub(crate) async fn current(&self, now_s: i64) -> Result<Arc<SigningKey>, KeyError> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| self.is_current(held, now_s)) {
            return Ok(Arc::clone(&held.key));
        }
        let read = self.read_or_make(now_s).await;
        let key = match (read, held.as_ref()) {
            (Ok(key), _) => key,
            // Its public half is published for longer than tokens live, so a table that is away stops nobody at once.
            (Err(error), Some(old)) if now_s < self.last_use_s(&old.key) => {
                warn!(?error, "the signing key could not be read again; the last one is used");
                return Ok(Arc::clone(&old.key));
            }
            (Err(error), _) => return Err(error),
        };
        let key = Arc::new(key);
        *held = Some(Held { key: Arc::clone(&key), read_at_s: now_s });
        Ok(key)
    }

    /// The key set as it is published.
    pub(crate) async fn published(&self) -> Result<String, StoreError> {
        published_keys(&self.store).await
    }

    async fn read_or_make(&self, now_s: i64) -> Result<SigningKey, KeyError> {
        let stored = self.newest(now_s).await?;
        let is_due = stored.as_ref().is_none_or(|key| now_s >= self.rotation_s(key));
        if !is_due && let Some(key) = stored {
            return Ok(key);
        }
        let made = SigningKey::generate(now_s).map_err(|_| KeyError::Unusable)?;
        if self.add(&made, stored.as_ref()).await? {
            info!(kid = made.kid, replaces = stored.map(|old| old.kid), "a new signing key");
            return Ok(made);
        }
        self.newest(now_s).await?.ok_or(KeyError::Unavailable)
    }

    async fn newest(&self, now_s: i64) -> Result<Option<SigningKey>, KeyError> {
        let stored = self.store.signing_key(now_s).await.map_err(|error| {
            warn!(%error, "the signing key could not be read");
            KeyError::Unavailable
        })?;
        let Some(stored) = stored else { return Ok(None) };
        // The reason is not logged: it may repeat what it could not read.
        serde_json::from_str(&stored.body).map(Some).map_err(|_| KeyError::Unusable)
    }

    async fn add(&self, made: &SigningKey, old: Option<&SigningKey>) -> Result<bool, KeyError> {
        let body = serde_json::to_string(made).map_err(|_| KeyError::Unusable)?;
        let private = StoredKey { kid: made.kid.clone(), created_at_s: made.created_at_s, body };
        let public = StoredKey { body: made.jwk.to_string(), ..private.clone() };
        let replaces = old.map(|old| old.kid.as_str());
        self.store.add_signing_key(&private, &public, replaces, self.end_s(made)).await.map_err(|error| {
            warn!(%error, "a signing key could not be added");
            KeyError::Unavailable
        })
    }

    fn is_current(&self, held: &Held, now_s: i64) -> bool {
        let is_fresh = (0..seconds(READ_AGAIN_AFTER)).contains(&(now_s - held.read_at_s));
        is_fresh && now_s < self.rotation_s(&held.key)
    }

    /// When it is replaced.
    fn rotation_s(&self, key: &SigningKey) -> i64 {
        key.created_at_s.saturating_add(seconds(self.rules.rotation))
    }

    /// Until when it may be used where the table is away.
    fn last_use_s(&self, key: &SigningKey) -> i64 {
        self.rotation_s(key).saturating_add(seconds(self.rules.ttl))
    }

    /// When its public half may go: a token's life after the key's last use.
    fn end_s(&self, key: &SigningKey) -> i64 {
        self.rotation_s(key).saturating_add(seconds(self.rules.ttl.saturating_mul(2)))
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
