//! Who may stream: the guard's judgement within its time, one-time tokens, spent, and the keys of our own tokens.

use std::sync::{Arc, OnceLock};

use earpiece_access::issue::key_set;
use earpiece_access::{FetchError, KeyFetch, Refusal, Scope, Wanted};
use earpiece_core::contact::ContactKey;
use earpiece_core::error::Fault;
use earpiece_store::Store;
use tracing::warn;

use crate::Task;
use crate::clock::wall_ms;

/// Whether one of these tokens lets its bearer stream this contact's audio. Every refusal is counted.
///
/// # Errors
///
/// Unauthorized, forbidden (a token for something else), or unavailable when that cannot be told in time.
pub(crate) async fn admit(task: &Task, presented: &[&str], contact: ContactKey) -> Result<(), Fault> {
    let judged = tokio::time::timeout(task.limits.store_deadline, judge(task, presented, contact)).await;
    judged.unwrap_or(Err(Refusal::KeysUnavailable)).map_err(|refusal| {
        task.metrics.auth_refused(refusal);
        refusal.fault()
    })
}

async fn judge(task: &Task, presented: &[&str], contact: ContactKey) -> Result<(), Refusal> {
    let now_ms = wall_ms();
    let wanted = Wanted { scope: Scope::Audio, contact: Some(contact), now_s: now_ms / 1000 };
    let grant = task.tokens.guard.judge(presented.iter().copied(), &wanted).await?;
    grant.check(Scope::Audio, Some(&contact))?;
    let Some(one_time) = grant.one_time else { return Ok(()) };
    match task.store.spend(&one_time.id, one_time.expires_at_s, now_ms).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::Replayed),
        Err(error) => {
            // Whether it was used before is not known, and that is what it is for.
            task.metrics.store_error("spend");
            warn!(%contact, %error, "a one-time token could not be spent");
            Err(Refusal::KeysUnavailable)
        }
    }
}

/// The store from which the public keys of our own token endpoint are read. Settings are read before there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct TableKeys(Arc<OnceLock<Store>>);

impl TableKeys {
    /// Names the store. The first one counts: settings are those of one task.
    pub(crate) fn read_from(&self, store: &Store) {
        let _ = self.0.set(store.clone());
    }

    /// For the guard: the keys as they stand in the table.
    pub(crate) fn fetch(&self) -> KeyFetch {
        let store = self.0.clone();
        Arc::new(move || {
            let store = store.clone();
            Box::pin(async move {
                let store = store.get().ok_or_else(|| FetchError::new("there is no store yet"))?;
                let keys = store.public_keys(wall_ms() / 1000).await;
                let keys = keys.map_err(|error| FetchError::new(error.to_string()))?;
                let keys = keys.iter().filter_map(|key| serde_json::from_str(&key.body).ok());
                Ok(key_set(keys).to_string())
            })
        })
    }
}
