//! The ways in which the table is read: one item by its key, or a row of items page by page.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::attribute::{Item, n, s};
use crate::client::Store;
use crate::error::{StoreError, classify};
use crate::key::Key;
use crate::table::{DUE_AT_MS, DUE_INDEX, DUE_SHARD, PARTITION_KEY, SORT_KEY};

/// Items asked for in one page of a query.
pub const PAGE_ITEMS_MAX: usize = 100;

/// A row of items.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// The index has its own order, and may lag behind the table by moments.
    index: Option<&'static str>,
    condition: String,
    values: HashMap<String, AttributeValue>,
    newest_first: bool,
    /// The attributes that are wanted; all where this is absent.
    only: Option<&'static str>,
}

impl Query {
    /// One shard of the index, earliest due first, all of it or only what is due.
    pub(crate) fn due(shard: &str, until_ms: Option<i64>) -> Self {
        let mut condition = format!("{DUE_SHARD} = :shard");
        let mut values = HashMap::from([(String::from(":shard"), s(shard))]);
        if let Some(until_ms) = until_ms {
            condition = format!("{condition} AND {DUE_AT_MS} <= :until");
            values.insert(String::from(":until"), n(until_ms));
        }
        Self { index: Some(DUE_INDEX), condition, values, newest_first: false, only: None }
    }

    /// A whole partition, by sort key.
    pub(crate) fn partition(partition: &str) -> Self {
        let values = HashMap::from([(String::from(":partition"), s(partition))]);
        Self {
            index: None,
            condition: format!("{PARTITION_KEY} = :partition"),
            values,
            newest_first: false,
            only: None,
        }
    }

    /// The items of a partition whose sort keys begin so.
    pub(crate) fn prefix(partition: &str, prefix: &str) -> Self {
        let mut query = Self::partition(partition);
        query.condition = format!("{} AND begins_with({SORT_KEY}, :prefix)", query.condition);
        query.values.insert(String::from(":prefix"), s(prefix));
        query
    }

    /// Leaves everything out of the answers but these attributes, which have to be separated by commas.
    pub(crate) const fn only(mut self, attributes: &'static str) -> Self {
        self.only = Some(attributes);
        self
    }

    /// Turns the order round.
    pub(crate) const fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }
}

impl Store {
    /// Reads one item, including every write that was answered before.
    pub(crate) async fn item(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        let _turn = self.turn().await?;
        let answer = self
            .client
            .get_item()
            .table_name(&*self.table)
            .set_key(Some(key.to_item()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| classify(&error))?;
        // An endpoint may answer "no item" as an empty one.
        Ok(answer.item.filter(|item| !item.is_empty()))
    }

    /// At most `limit` of a row, without those that `read` leaves out.
    pub(crate) async fn query<T>(
        &self,
        query: &Query,
        limit: usize,
        mut read: impl FnMut(&Item) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let mut after = None;
        while found.len() < limit {
            // Not only as many as are still wanted: where many are left out, that would be a request for each of them.
            let page = self.page(query, limit, after).await?;
            found.extend(page.items.iter().filter_map(&mut read));
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn page(&self, query: &Query, limit: usize, after: Option<Item>) -> Result<Page, StoreError> {
        let _turn = self.turn().await?;
        let answer = self
            .client
            .query()
            .table_name(&*self.table)
            .set_index_name(query.index.map(str::to_owned))
            .key_condition_expression(&query.condition)
            .set_expression_attribute_values(Some(query.values.clone()))
            .set_projection_expression(query.only.map(str::to_owned))
            .scan_index_forward(!query.newest_first)
            // An index cannot be asked for what is certain.
            .consistent_read(query.index.is_none())
            .limit(i32::try_from(limit.min(PAGE_ITEMS_MAX)).unwrap_or(i32::MAX))
            .set_exclusive_start_key(after)
            .send()
            .await
            .map_err(|error| classify(&error))?;
        let last = answer.last_evaluated_key.filter(|key| !key.is_empty());
        Ok(Page { items: answer.items.unwrap_or_default(), last })
    }
}

/// An item that cannot be read must not hide the others of its row; it is named in the log and left alone.
pub(crate) fn or_logged<T>(item: &Item, read: Result<T, StoreError>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(error) => {
            let key = item.get(PARTITION_KEY).and_then(|key| key.as_s().ok());
            tracing::error!(item = key.map(String::as_str), %error, "left out of what was read");
            None
        }
    }
}

struct Page {
    items: Vec<Item>,
    last: Option<Item>,
}
