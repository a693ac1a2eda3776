//! A connection in the store, and the one way to change it.

use std::time::Duration;

use earpiece_access::Grant;
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::connection::Connection;
use earpiece_core::error::Fault;
use earpiece_store::{ConnectionRecord, StoreError};
use serde::{Deserialize, Serialize};

use super::limits::{ATTEMPTS_MAX, PAUSE_MS_MAX};
use super::visit::Visit;
use super::{Rooms, away};
use crate::clock::as_ms;

/// What is kept of a connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    /// Whether `$connect` was seen, and the connection let in.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(super) is_let_in: bool,
    /// What the token of `$connect` allows, where no authorizer says so with every event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) grant: Option<Grant>,
    #[serde(default)]
    pub(super) connection: Connection,
    /// Contacts that it listens to.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) listening: Vec<ContactKey>,
}

/// Whether a step changed the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It did: write it.
    Changed,
    /// It did not.
    Same,
}

/// A document that was read, with what the store needs to write it.
#[derive(Debug, Clone)]
pub(super) struct Page {
    record: ConnectionRecord,
    pub(super) document: Document,
}

impl Page {
    fn of(record: ConnectionRecord) -> Result<Self, StoreError> {
        let document = if record.document.is_null() {
            Document::default()
        } else {
            let damaged = |_| StoreError::Damaged { attribute: "document".to_owned() };
            Document::deserialize(&record.document).map_err(damaged)?
        };
        Ok(Self { record, document })
    }

    fn into_record(self, opened_at_ms: Option<i64>) -> Result<ConnectionRecord, StoreError> {
        let damaged = |_| StoreError::Damaged { attribute: "document".to_owned() };
        Ok(ConnectionRecord {
            gone: self.document.connection.is_gone(),
            document: serde_json::to_value(&self.document).map_err(damaged)?,
            opened_at_ms: self.record.opened_at_ms.or(opened_at_ms),
            ..self.record
        })
    }
}

impl Rooms {
    /// The connection as it stands.
    pub(super) async fn page(&self, visit: &Visit) -> Result<Page, Fault> {
        let read = self.parts.store.connection(&visit.connection, visit.now_ms).await;
        read.and_then(Page::of).map_err(|error| away("read a connection", &error))
    }

    /// Moves the connection on. `step` is made on what was read last, and again for as long as others write between;
    /// what it says in the end is what stands in the store. It must not do anything but change the document.
    pub(super) async fn change<T>(
        &self,
        visit: &Visit,
        mut page: Page,
        mut step: impl FnMut(&mut Document) -> (Step, T),
    ) -> Result<(Page, T), Fault> {
        let memory_ms = as_ms(self.parts.limits.memory);
        for attempt in 0..ATTEMPTS_MAX {
            let as_read = page.clone();
            let (changed, outcome) = step(&mut page.document);
            if changed == Step::Same {
                return Ok((as_read, outcome));
            }
            let written = match page.into_record(Some(visit.arrived_ms)) {
                Ok(record) => self.parts.store.write_connection(&record, visit.now_ms, memory_ms).await,
                Err(error) => Err(error),
            };
            let read_back = match written {
                Ok(Ok(record)) => {
                    let page = Page::of(record).map_err(|error| away("write a connection", &error))?;
                    return Ok((page, outcome));
                }
                Ok(Err(theirs)) => Page::of(theirs),
                Err(error) => Err(error),
            };
            page = read_back.map_err(|error| away("write a connection", &error))?;
            pause(attempt).await;
        }
        Err(away("write a connection", &StoreError::Contended))
    }
}

/// Full jitter under a ceiling that grows: handlers that met do not meet again.
async fn pause(attempt: u32) {
    let ceiling_ms = PAUSE_MS_MAX.min(2 + 2 * u64::from(attempt));
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=ceiling_ms))).await;
}
