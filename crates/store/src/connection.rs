//! What is known about an API Gateway connection. API Gateway gives its events in no order and may give several at
//! once, so each write is made only if nobody else wrote since the record was read.

use std::fmt;

use serde_json::Value;

use crate::attribute::{
    Item, VERSION, WRITER, expiry_s, flag, flag_of, is_absent, is_expired, is_text, is_unexpired, n, new_writer,
    number, optional, required, s, seconds, text,
};
use crate::client::Store;
use crate::error::{StoreError, fits};
use crate::key::Key;
use crate::table::EXPIRES_AT_S;
use crate::utterance::ID_BYTES_MAX;
use crate::write::{Change, Outcome};

/// How large the document of a connection may be as JSON, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;

const GONE: &str = "gone";
const OPENED_AT_MS: &str = "opened_at_ms";
const DOCUMENT: &str = "document";

/// A connection as it stands in the table.
#[derive(Clone, PartialEq)]
pub struct ConnectionRecord {
    /// API Gateway's id of it.
    pub id: String,
    /// Counts the writes; 0 when it is not in the table.
    pub version: u64,
    /// Whether it was closed. This never becomes false again.
    pub gone: bool,
    /// When it was opened, in milliseconds since the Unix epoch; absent until that is known.
    pub opened_at_ms: Option<i64>,
    /// Whatever its user keeps about it; null when there is nothing.
    pub document: Value,
}

impl ConnectionRecord {
    /// A connection of which nothing is known.
    #[must_use]
    pub fn unknown(id: impl Into<String>) -> Self {
        Self { id: id.into(), version: 0, gone: false, opened_at_ms: None, document: Value::Null }
    }
}

/// The document may hold what people said.
impl fmt::Debug for ConnectionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionRecord")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("gone", &self.gone)
            .field("opened_at_ms", &self.opened_at_ms)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// What is known about a connection, including every write that was answered before. One that is not in the table,
    /// or has expired, is [`ConnectionRecord::unknown`].
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn connection(&self, id: &str, now_ms: i64) -> Result<ConnectionRecord, StoreError> {
        let item = self.item(&Key::connection(id)).await?;
        standing(item.as_ref(), id, now_ms)
    }

    /// Writes a connection if nobody else wrote it since the record was read, and keeps it for `life_ms`.
    ///
    /// Returns the record with its new version or, when somebody else was first, the record as it stands now: decide
    /// again on that one. A record that is not gone is refused in the same way over one that is.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when the document does not fit; otherwise when the table did not do it.
    pub async fn write_connection(
        &self,
        record: &ConnectionRecord,
        now_ms: i64,
        life_ms: u64,
    ) -> Result<Result<ConnectionRecord, ConnectionRecord>, StoreError> {
        let document = record.document.to_string();
        fits("the document of a connection", document.len(), DOCUMENT_BYTES_MAX)?;
        fits("a connection id", record.id.len(), ID_BYTES_MAX)?;
        let writer = new_writer();
        let change = unchanged_since(record, now_ms)
            .set(GONE, ":gone")
            .set(DOCUMENT, ":document")
            .set(EXPIRES_AT_S, ":expires")
            .set(WRITER, ":writer")
            .value(":gone", flag_of(record.gone))
            .value(":document", s(document))
            .value(":expires", n(expiry_s(now_ms, life_ms)))
            .value(":writer", s(writer.clone()));
        let change = match record.opened_at_ms {
            Some(opened_at_ms) => change.set(OPENED_AT_MS, ":opened").value(":opened", n(opened_at_ms)),
            None => change.remove(OPENED_AT_MS),
        };
        Ok(match self.change_item(&Key::connection(&record.id), change).await? {
            Outcome::Applied(item) => Ok(read(&item, &record.id)?),
            // The request was sent twice, and the first one arrived.
            Outcome::Refused(Some(item)) if is_text(&item, WRITER, &writer) => Ok(read(&item, &record.id)?),
            Outcome::Refused(item) => Err(standing(item.as_ref(), &record.id, now_ms)?),
        })
    }
}

fn unchanged_since(record: &ConnectionRecord, now_ms: i64) -> Change {
    let change = Change::new().value(":now_s", n(seconds(now_ms)));
    if record.version == 0 {
        return change.only_if(is_absent(VERSION));
    }
    let change = change.only_if(format!("{VERSION} = :read")).only_if(is_unexpired()).value(":read", n(record.version));
    if record.gone { change } else { change.only_if(format!("{GONE} = :gone")) }
}

fn standing(item: Option<&Item>, id: &str, now_ms: i64) -> Result<ConnectionRecord, StoreError> {
    match item.filter(|item| !is_expired(item, seconds(now_ms))) {
        Some(item) => read(item, id),
        None => Ok(ConnectionRecord::unknown(id)),
    }
}

fn read(item: &Item, id: &str) -> Result<ConnectionRecord, StoreError> {
    let document = required(item, DOCUMENT, text)?;
    Ok(ConnectionRecord {
        id: id.to_owned(),
        version: required(item, VERSION, number)?,
        gone: required(item, GONE, flag)?,
        opened_at_ms: optional(item, OPENED_AT_MS, number)?,
        document: serde_json::from_str(&document)
            .map_err(|_| StoreError::Damaged { attribute: DOCUMENT.to_owned() })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_does_not_print_its_document() {
        let record = ConnectionRecord {
            document: serde_json::json!({"appParams": "my card is 4111"}),
            ..ConnectionRecord::unknown("c1")
        };
        assert!(!format!("{record:?}").contains("4111"));
    }

    #[tokio::test]
    async fn a_document_that_does_not_fit_is_refused_before_it_is_sent() {
        let store = Store::connect_local("http://127.0.0.1:1", "calls");
        let record =
            ConnectionRecord { document: "x".repeat(DOCUMENT_BYTES_MAX).into(), ..ConnectionRecord::unknown("c1") };
        let refused = store.write_connection(&record, 0, 1000).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    }
}
