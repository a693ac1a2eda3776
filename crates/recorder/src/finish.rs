//! The steps from segments to a recording.
//!
//! Each step may be the last that a task takes. The recording is written first, then the events, then the ledger, and
//! only then are segments moved or deleted; every file is replaced as a whole. Until the ledger is written, a later
//! finish sees the earlier ledger (or none) and all segments; afterwards it sees that all of them were used. Either way
//! it comes to the same.

use std::sync::Arc;

use bytes::Bytes;
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::ledger::Ledger;
use futures_util::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;

use crate::compose::Composition;
use crate::error::Error;
use crate::event::AllEvents;
use crate::name;
use crate::recorder::Inner;
use crate::settle;
use crate::survey::Survey;

/// A contact that was finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The ledger as it was written.
    pub ledger: Ledger,
    /// Segments that this finish turned into the recording.
    pub segments: usize,
    /// Segments that could not be read. They were moved to `unreadable/` beside the recording, and what they should have
    /// held is named as lost.
    pub unreadable: usize,
}

pub(crate) async fn finish(recorder: &Inner, contact: ContactKey, extra_events: &[Value]) -> Result<Finished, Error> {
    let store = &recorder.store;
    // In this order: should another task be finishing the same contact, the segments that are gone from the survey are in
    // the ledger by then.
    let survey = Survey::of(store, contact).await?;
    let previous = read_ledger(store, contact).await?;
    let is_settled = survey.is_empty();
    let Survey { streams, mut events, used, unreadable } = survey;
    events.add_values(extra_events);
    if let Some(ledger) = previous.as_ref().filter(|_| is_settled) {
        write_events(store, contact, events).await?;
        return Ok(Finished { ledger: ledger.clone(), segments: 0, unreadable: 0 });
    }
    let finished = Finished {
        ledger: settle::lay_out(contact, previous.as_ref(), &streams),
        segments: used.len(),
        unreadable: unreadable.len(),
    };

    let (ledger, earlier) = (&finished.ledger, previous.as_ref());
    Composition { store, contact, ledger, found: &streams, earlier }.write().await?;
    write_events(store, contact, events).await?;
    write_ledger(store, contact, ledger).await?;

    recorder.counters.found_unreadable(unreadable.len() as u64);
    for segment in &unreadable {
        let moved = store.rename(segment, &name::unreadable(contact, segment)).await;
        unless_gone(moved).map_err(Error::store("move an unreadable segment aside"))?;
    }
    delete(store, used).await?;
    Ok(finished)
}

/// What is known of a contact now.
pub(crate) async fn ledger_so_far(recorder: &Inner, contact: ContactKey) -> Result<Option<Ledger>, Error> {
    let survey = match Survey::of(&recorder.store, contact).await {
        // A finish deletes them while we look: the second look finds what it wrote.
        Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => {
            Survey::of(&recorder.store, contact).await?
        }
        survey => survey?,
    };
    // After the segments, as when finishing.
    let previous = read_ledger(&recorder.store, contact).await?;
    if survey.streams.is_empty() {
        return Ok(previous);
    }
    Ok(Some(settle::lay_out_so_far(contact, previous.as_ref(), &survey.streams)))
}

async fn read_ledger(store: &Arc<dyn ObjectStore>, contact: ContactKey) -> Result<Option<Ledger>, Error> {
    let Some(bytes) = read_if_there(store, &name::ledger(contact), "read a ledger").await? else { return Ok(None) };
    let ledger = serde_json::from_slice(&bytes).ok();
    let ours = ledger.filter(|ledger: &Ledger| ledger.version == Ledger::VERSION && ledger.contact == contact);
    ours.map(Some).ok_or(Error::UnreadableLedger { contact })
}

async fn write_ledger(store: &Arc<dyn ObjectStore>, contact: ContactKey, ledger: &Ledger) -> Result<(), Error> {
    let mut json = serde_json::to_vec_pretty(ledger).map_err(|_| Error::NotWritable { contact, what: "the ledger" })?;
    json.push(b'\n');
    store.put(&name::ledger(contact), json.into()).await.map_err(Error::store("write a ledger"))?;
    Ok(())
}

/// Writes what was there and what came since, by time.
async fn write_events(store: &Arc<dyn ObjectStore>, contact: ContactKey, mut events: AllEvents) -> Result<(), Error> {
    let path = name::events(contact);
    let before = read_if_there(store, &path, "read events").await?;
    let has_news = before.is_none() || !events.is_empty();
    if let Some(before) = &before {
        events.add(before);
    }
    if !has_news {
        return Ok(());
    }
    store.put(&path, events.into_file().into()).await.map_err(Error::store("write events"))?;
    Ok(())
}

async fn delete(store: &Arc<dyn ObjectStore>, segments: Vec<Path>) -> Result<(), Error> {
    let segments = futures_util::stream::iter(segments.into_iter().map(Ok)).boxed();
    let mut deleted = store.delete_stream(segments);
    while let Some(outcome) = deleted.next().await {
        unless_gone(outcome.map(drop)).map_err(Error::store("delete a segment"))?;
    }
    Ok(())
}

/// Another task may be finishing the same contact.
fn unless_gone(outcome: object_store::Result<()>) -> object_store::Result<()> {
    match outcome {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        outcome => outcome,
    }
}

async fn read_if_there(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    action: &'static str,
) -> Result<Option<Bytes>, Error> {
    match store.get(path).await {
        Ok(object) => object.bytes().await.map(Some).map_err(Error::store(action)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(Error::store(action)(error)),
    }
}
