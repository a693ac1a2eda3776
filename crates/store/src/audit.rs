//! The record of what happened to an interaction, as it stands in the table. It is written by steps alone
//! ([`Store::step_interaction`]), each record only where none is that has not expired.

use earpiece_core::assist::InteractionId;
use earpiece_core::assist::audit::Record;

use crate::attribute::{Item, n, required, s, text};
use crate::client::Store;
use crate::error::StoreError;
use crate::interaction::{json, recorded_count};
use crate::key::{AUDIT_PREFIX, Key, partition_of_interaction};
use crate::read::Query;
use crate::table::EXPIRES_AT_S;

/// How large a record may be as JSON, in bytes.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// How many records of one interaction are read at most: the first ones.
pub const RECORDS_READ_MAX: usize = 100_000;

const RECORD: &str = "audit_record";

impl Store {
    /// The audit records of an interaction by number, at most [`RECORDS_READ_MAX`], including every write that was
    /// answered before.
    ///
    /// No clock is asked: those whose time is over are among them until they are deleted. Once the interaction began
    /// anew, what its earlier life left behind is not.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when a record cannot be read: leaving it out would look as if somebody had removed it.
    /// Otherwise when the table did not answer.
    pub async fn audit(&self, id: &InteractionId) -> Result<Vec<Record>, StoreError> {
        let query = Query::prefix(&partition_of_interaction(id), AUDIT_PREFIX);
        let read = self.query(&query, RECORDS_READ_MAX, |item| Some(read(item))).await?;
        let mut records = read.into_iter().collect::<Result<Vec<_>, _>>()?;
        // After the records, so that its head knows all of them that are of its life.
        if let Some(item) = self.item(&Key::interaction(id)).await? {
            let count = recorded_count(&item)?;
            records.retain(|record| record.number <= count);
        }
        Ok(records)
    }
}

/// A record as an item, without its key, and its size in bytes.
pub(crate) fn recorded(record: &Record, expires_at_s: i64) -> Result<(Item, usize), StoreError> {
    let text = json("an audit record", record, RECORD_BYTES_MAX)?;
    let bytes = text.len();
    Ok((Item::from([(RECORD.to_owned(), s(text)), (EXPIRES_AT_S.to_owned(), n(expires_at_s))]), bytes))
}

fn read(item: &Item) -> Result<Record, StoreError> {
    serde_json::from_str(&required(item, RECORD, text)?)
        .map_err(|_| StoreError::Damaged { attribute: RECORD.to_owned() })
}
