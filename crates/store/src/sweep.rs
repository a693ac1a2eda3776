//! Reading: one contact, the contacts that are due, the contacts that live.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use earpiece_core::contact::ContactKey;

use crate::client::Store;
use crate::contact::ContactRecord;
use crate::error::{StoreError, classify};
use crate::item::{Item, Stored, n, s};
use crate::table::{DUE_AT_MS, DUE_INDEX, DUE_SHARD, DUE_SHARDS, PARTITION_KEY};
use crate::write::key_of;

/// Items asked for in one page of the index.
pub const PAGE_ITEMS_MAX: usize = 100;

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
            due.extend(self.shard(shard, Some(now_ms), limit).await?);
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
            live.extend(self.shard(shard, None, limit - live.len()).await?);
        }
        live.sort_by_key(|record| record.contact);
        Ok(live)
    }

    /// Reads one contact with what only this crate needs; an expired one is absent.
    pub(crate) async fn stored(&self, contact: &ContactKey, now_ms: i64) -> Result<Option<Stored>, StoreError> {
        let _turn = self.turn().await;
        let answer = self
            .client
            .get_item()
            .table_name(&*self.table)
            .set_key(Some(key_of(contact)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| classify(&error))?;
        let item = answer.item.filter(|item| !item.is_empty());
        let stored = item.as_ref().map(Stored::read).transpose()?;
        Ok(stored.filter(|stored| !stored.is_expired(now_ms)))
    }

    /// At most `limit` contacts of one shard of the index, earliest due first, page by page.
    async fn shard(
        &self,
        shard: u64,
        due_until_ms: Option<i64>,
        limit: usize,
    ) -> Result<Vec<ContactRecord>, StoreError> {
        let mut records = Vec::new();
        let mut after = None;
        while records.len() < limit {
            let page = self.page(shard, due_until_ms, limit - records.len(), after).await?;
            records.extend(page.items.iter().filter_map(readable));
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        Ok(records)
    }

    async fn page(
        &self,
        shard: u64,
        due_until_ms: Option<i64>,
        limit: usize,
        after: Option<Item>,
    ) -> Result<Page, StoreError> {
        let mut conditions = vec![format!("{DUE_SHARD} = :shard")];
        let mut values: HashMap<String, AttributeValue> = HashMap::from([(":shard".into(), s(shard.to_string()))]);
        if let Some(due_until_ms) = due_until_ms {
            conditions.push(format!("{DUE_AT_MS} <= :until"));
            values.insert(":until".into(), n(due_until_ms));
        }
        let _turn = self.turn().await;
        let answer = self
            .client
            .query()
            .table_name(&*self.table)
            .index_name(DUE_INDEX)
            .key_condition_expression(conditions.join(" AND "))
            .set_expression_attribute_values(Some(values))
            .limit(i32::try_from(limit.min(PAGE_ITEMS_MAX)).unwrap_or(i32::MAX))
            .set_exclusive_start_key(after)
            .send()
            .await
            .map_err(|error| classify(&error))?;
        let last = answer.last_evaluated_key.filter(|key| !key.is_empty());
        Ok(Page { items: answer.items.unwrap_or_default(), last })
    }
}

/// An item that cannot be read must not hide the others from the sweep; it is named in the log and left alone.
fn readable(item: &Item) -> Option<ContactRecord> {
    match Stored::read(item) {
        Ok(stored) => Some(stored.record),
        Err(error) => {
            let key = item.get(PARTITION_KEY).and_then(|key| key.as_s().ok());
            tracing::error!(item = key.map(String::as_str), %error, "left out of the sweep");
            None
        }
    }
}

struct Page {
    items: Vec<Item>,
    last: Option<Item>,
}
