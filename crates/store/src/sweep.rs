//! Contacts are read: one of them, those that are due, those that live.

use earpiece_core::contact::ContactKey;

use crate::attribute::Item;
use crate::client::Store;
use crate::contact::ContactRecord;
use crate::error::StoreError;
use crate::item::Stored;
use crate::key::{Key, contact_shard_name};
use crate::read::{Query, or_logged};
use crate::table::DUE_SHARDS;

impl Store {
    /// What is known about a contact, including every write that was answered before. A contact whose time to live is
    /// over counts as absent, deleted or not.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn contact(&self, contact: &ContactKey, now_ms: i64) -> Result<Option<ContactRecord>, StoreError> {
        Ok(self.stored(contact, now_ms).await?.map(|stored| stored.record))
    }

    /// At most `limit` contacts that somebody has to look at, the longest overdue first. They are read from an index
    /// that may lag behind by moments: [`Store::begin_ending`] has the last word.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn due(&self, now_ms: i64, limit: usize) -> Result<Vec<ContactRecord>, StoreError> {
        let mut due = Vec::new();
        // Each shard may hold all of the longest overdue.
        for shard in 0..DUE_SHARDS {
            let query = Query::due(&contact_shard_name(shard), Some(now_ms));
            due.extend(self.query(&query, limit, readable).await?);
        }
        due.sort_by_key(|record| (record.due_at_ms, record.contact));
        due.truncate(limit);
        Ok(due)
    }

    /// At most `limit` contacts that are not finished, by key. They are read from an index that may lag behind by
    /// moments. Contacts whose record can expire are finished, so none of these has.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn live(&self, limit: usize) -> Result<Vec<ContactRecord>, StoreError> {
        let mut live = Vec::new();
        for shard in 0..DUE_SHARDS {
            let query = Query::due(&contact_shard_name(shard), None);
            live.extend(self.query(&query, limit - live.len(), readable).await?);
        }
        live.sort_by_key(|record| record.contact);
        Ok(live)
    }

    /// Reads one contact with what only this crate needs; an expired one is absent.
    pub(crate) async fn stored(&self, contact: &ContactKey, now_ms: i64) -> Result<Option<Stored>, StoreError> {
        let item = self.item(&Key::contact(contact)).await?;
        let stored = item.as_ref().map(Stored::read).transpose()?;
        Ok(stored.filter(|stored| !stored.is_expired(now_ms)))
    }
}

fn readable(item: &Item) -> Option<ContactRecord> {
    or_logged(item, Stored::read(item)).map(|stored| stored.record)
}
