//! What the Studio script says of a contact (contract §4): kept as it came, and taken into account where the contact's
//! end is decided (`ending`).

use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::ScriptEventKind;

use crate::attribute::{Item, expiry_s, is_expired, is_unexpired, n, number, optional, required, s, seconds, text};
use crate::client::Store;
use crate::contact::ContactState;
use crate::error::{StoreError, fits};
use crate::item;
use crate::key::{EVENT_PREFIX, Key, partition_of};
use crate::read::{Query, or_logged};
use crate::table::{DUE_AT_MS, EXPIRES_AT_S};
use crate::utterance::ID_BYTES_MAX;
use crate::write::{Change, Outcome};

const KIND: &str = "event_kind";
const AT_MS: &str = "event_at_ms";
const AGENT_ID: &str = "agent_id";
const REQUEST_ID: &str = "request_id";

/// A contact event of the Studio script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedEvent {
    /// What happened.
    pub kind: ScriptEventKind,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The agent that has the contact, if the script said so.
    pub agent_id: Option<String>,
    /// Which request brought it. The same event of the same request is noted once.
    pub request_id: String,
}

impl Store {
    /// Notes a contact event for `keep_ms`, and lets the contact know, if there is one: while it is on hold its quiet
    /// period does not end, for `hold_max_ms` at most; a start, a resume and the next handshake end the hold; an end is
    /// [`Store::request_end`].
    ///
    /// Events may come late and in any order: one that is older than the newest known changes no hold. Returns whether
    /// the contact is known; of one that is over, only the event is kept.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when an id does not fit; otherwise when the table did not do it. Noting it again does
    /// no harm.
    pub async fn note_event(
        &self,
        contact: &ContactKey,
        event: &NotedEvent,
        now_ms: i64,
        hold_max_ms: u64,
        keep_ms: u64,
    ) -> Result<bool, StoreError> {
        fits("a request id", event.request_id.len(), ID_BYTES_MAX)?;
        fits("an agent id", event.agent_id.as_ref().map_or(0, String::len), ID_BYTES_MAX)?;
        let key = Key::event(contact, event.at_ms, &event.request_id);
        self.change_item(&key, noting(event, now_ms, keep_ms)).await?;

        // A clock that is ahead must not outdo the events that follow.
        let at_ms = event.at_ms.min(now_ms);
        let change = match event.kind {
            ScriptEventKind::End => return self.request_end(contact, now_ms).await,
            ScriptEventKind::Hold => hold(at_ms, hold_max_ms),
            ScriptEventKind::Start | ScriptEventKind::Resume => {
                // Without a hold there is nothing to bring back to the sweep.
                if let Some(is_known) = self.resume(contact, at_ms, now_ms).await? {
                    return Ok(is_known);
                }
                Change::new()
            }
        };
        let change = known_and_live(said(change, at_ms), now_ms);
        Ok(match self.change(contact, change).await? {
            Outcome::Applied(_) => true,
            Outcome::Refused(standing) => standing.is_some_and(|standing| !standing.is_expired(now_ms)),
        })
    }

    /// At most `limit` events of a contact, the newest ones, in the order of their times.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn contact_events(
        &self,
        contact: &ContactKey,
        now_ms: i64,
        limit: usize,
    ) -> Result<Vec<NotedEvent>, StoreError> {
        let query = Query::prefix(&partition_of(contact), EVENT_PREFIX).newest_first();
        let unexpired =
            |item: &Item| if is_expired(item, seconds(now_ms)) { None } else { or_logged(item, read(item)) };
        let mut events = self.query(&query, limit, unexpired).await?;
        events.reverse();
        Ok(events)
    }

    /// Ends a hold. Somebody has to look at the contact again at once: its due time may be the end of the hold that it
    /// would have been. Returns whether the contact is known, or `None` when it is not on hold.
    async fn resume(&self, contact: &ContactKey, at_ms: i64, now_ms: i64) -> Result<Option<bool>, StoreError> {
        let change = Change::new()
            .only_if(format!("attribute_exists({})", item::HOLD_SINCE_MS))
            .remove(item::HOLD_SINCE_MS)
            .remove(item::HOLD_UNTIL_MS)
            .set(DUE_AT_MS, ":now")
            .value(":now", n(now_ms));
        Ok(match self.change(contact, known_and_live(said(change, at_ms), now_ms)).await? {
            Outcome::Applied(_) => Some(true),
            Outcome::Refused(None) => Some(false),
            Outcome::Refused(Some(_)) => None,
        })
    }
}

fn noting(event: &NotedEvent, now_ms: i64, keep_ms: u64) -> Change {
    let change = Change::new()
        .set(KIND, ":kind")
        .set(AT_MS, ":at")
        .set(REQUEST_ID, ":request")
        .set(EXPIRES_AT_S, ":expires")
        .value(":kind", s(event.kind.label()))
        .value(":at", n(event.at_ms))
        .value(":request", s(event.request_id.clone()))
        .value(":expires", n(expiry_s(now_ms, keep_ms)))
        .quietly();
    match &event.agent_id {
        Some(agent_id) => change.set(AGENT_ID, ":agent").value(":agent", s(agent_id.clone())),
        None => change,
    }
}

/// The first word of a hold counts: a script that repeats it does not make it longer.
fn hold(at_ms: i64, hold_max_ms: u64) -> Change {
    Change::new()
        .set(item::HOLD_SINCE_MS, &format!("if_not_exists({}, :at)", item::HOLD_SINCE_MS))
        .set(item::HOLD_UNTIL_MS, &format!("if_not_exists({}, :hold_until)", item::HOLD_UNTIL_MS))
        .value(":hold_until", n(at_ms.saturating_add_unsigned(hold_max_ms)))
}

/// Something the script said. What is older than the newest that it said changes nothing.
fn said(change: Change, at_ms: i64) -> Change {
    let newest_ms = item::SCRIPT_AT_MS;
    change
        .only_if(format!("attribute_not_exists({newest_ms}) OR {newest_ms} <= :at"))
        .set(newest_ms, ":at")
        .value(":at", n(at_ms))
}

fn known_and_live(change: Change, now_ms: i64) -> Change {
    change
        .only_if(format!("{} = :live", item::STATE))
        .only_if(is_unexpired())
        .value(":live", s(ContactState::Live.label()))
        .value(":now_s", n(seconds(now_ms)))
}

fn read(item: &Item) -> Result<NotedEvent, StoreError> {
    let kind = required(item, KIND, |value| ScriptEventKind::parse(value.as_s().ok()?))?;
    Ok(NotedEvent {
        kind,
        at_ms: required(item, AT_MS, number)?,
        agent_id: optional(item, AGENT_ID, text)?,
        request_id: required(item, REQUEST_ID, text)?,
    })
}
