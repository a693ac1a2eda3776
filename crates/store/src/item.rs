//! How a contact is spread over the attributes of one item.
//!
//! Each perspective has a group of attributes with its own prefix (`tx_stream`, `tx_generation`, …), flat and not
//! nested, so that one condition expression can speak of one perspective, or of all the others.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::state::EndReason;
use earpiece_core::protocol::perspective::Perspective;

use crate::attribute::{Item, VERSION, flag, number, optional, parsed, required, seconds, text};
use crate::contact::{ContactRecord, ContactState, Finisher, Hold, StreamRecord};
use crate::error::StoreError;
use crate::key::contact_of;
use crate::table;

pub(crate) const STATE: &str = "contact_state";
pub(crate) const OPENED_AT_US: &str = "opened_at_us";
/// Present when an end was requested. A time in the past serves as the due time of the last close.
pub(crate) const END_REQUESTED_AT_MS: &str = "end_requested_at_ms";
pub(crate) const FINISHER_TASK: &str = "finisher_task";
pub(crate) const FINISHER_LEASE_UNTIL_MS: &str = "finisher_lease_until_ms";
/// Which task finished it: tells a repeated request of the same task from somebody else's.
pub(crate) const FINISHED_BY: &str = "finished_by";
pub(crate) const ENDED_AT_MS: &str = "ended_at_ms";
pub(crate) const END_REASON: &str = "end_reason";
/// Since when the Studio script has the contact on hold; present with [`HOLD_UNTIL_MS`] while it does.
pub(crate) const HOLD_SINCE_MS: &str = "hold_since_ms";
pub(crate) const HOLD_UNTIL_MS: &str = "hold_until_ms";
/// The newest thing that the Studio script said of the contact: what comes later and is older changes nothing.
pub(crate) const SCRIPT_AT_MS: &str = "script_at_ms";

/// The attributes of one perspective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// [`Perspective::label`].
    pub(crate) label: &'static str,
    /// What its attributes begin with.
    pub(crate) prefix: &'static str,
}

impl Slot {
    const TX: Self = Self { label: "TX", prefix: "tx" };
    const RX: Self = Self { label: "RX", prefix: "rx" };
    const MIX: Self = Self { label: "MIX", prefix: "mix" };
    /// All unknown perspectives of a contact share one slot: what cannot be told apart is not kept apart.
    const UNKNOWN: Self = Self { label: "UNKNOWN", prefix: "unknown" };

    pub(crate) const ALL: [Self; 4] = [Self::TX, Self::RX, Self::MIX, Self::UNKNOWN];

    pub(crate) const fn of(perspective: &Perspective) -> Self {
        match perspective {
            Perspective::Tx => Self::TX,
            Perspective::Rx => Self::RX,
            Perspective::Mix => Self::MIX,
            Perspective::Unknown(_) => Self::UNKNOWN,
        }
    }

    pub(crate) fn attribute(self, field: &str) -> String {
        format!("{}_{field}", self.prefix)
    }

    fn others(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |slot| *slot != self)
    }

    /// The condition that no other perspective streams. Needs the value `:false`.
    pub(crate) fn others_closed(self) -> String {
        all_closed(self.others())
    }

    /// The condition that some other perspective streams. Needs the value `:true`.
    pub(crate) fn some_other_open(self) -> String {
        any_open(self.others())
    }
}

/// The condition that none of these perspectives streams. Needs the value `:false`.
pub(crate) fn all_closed(slots: impl IntoIterator<Item = Slot>) -> String {
    let closed = |slot: Slot| {
        let open = slot.attribute("open");
        format!("(attribute_not_exists({open}) OR {open} = :false)")
    };
    slots.into_iter().map(closed).collect::<Vec<_>>().join(" AND ")
}

/// The condition that one of these perspectives streams. Needs the value `:true`.
pub(crate) fn any_open(slots: impl IntoIterator<Item = Slot>) -> String {
    let open = |slot: Slot| format!("{} = :true", slot.attribute("open"));
    slots.into_iter().map(open).collect::<Vec<_>>().join(" OR ")
}

/// A contact as it lies in the table, with what only this crate needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) record: ContactRecord,
    pub(crate) version: u64,
    pub(crate) finished_by: Option<String>,
    pub(crate) expires_at_s: Option<i64>,
    /// The state that each perspective's current stream found when it claimed; live if it opened the contact.
    claimed_over: BTreeMap<&'static str, ContactState>,
}

impl Stored {
    /// Whether it counts as absent, though DynamoDB has not deleted it yet.
    pub(crate) fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_at_s.is_some_and(|expires_at_s| expires_at_s <= seconds(now_ms))
    }

    /// Whether the current stream of a perspective brought back a contact that was over.
    pub(crate) fn was_reopened_by(&self, slot: Slot) -> bool {
        self.claimed_over.get(slot.label).is_some_and(|over| *over != ContactState::Live)
    }

    /// Reads an item.
    pub(crate) fn read(item: &Item) -> Result<Self, StoreError> {
        let mut streams = BTreeMap::new();
        let mut claimed_over = BTreeMap::new();
        for slot in Slot::ALL {
            if let Some(stream) = read_stream(item, slot)? {
                streams.insert(slot.label.to_owned(), stream);
            }
            if let Some(over) = optional(item, &slot.attribute("claimed_over"), state)? {
                claimed_over.insert(slot.label, over);
            }
        }
        let record = ContactRecord {
            contact: required(item, table::PARTITION_KEY, contact_of)?,
            state: required(item, STATE, state)?,
            opened_at_us: required(item, OPENED_AT_US, number)?,
            streams,
            end_requested: item.contains_key(END_REQUESTED_AT_MS),
            finisher: read_finisher(item)?,
            due_at_ms: optional(item, table::DUE_AT_MS, number)?,
            ended_at_ms: optional(item, ENDED_AT_MS, number)?,
            end_reason: optional(item, END_REASON, end_reason)?,
            hold: read_hold(item)?,
            script_at_ms: optional(item, SCRIPT_AT_MS, number)?,
        };
        Ok(Self {
            record,
            version: required(item, VERSION, number)?,
            finished_by: optional(item, FINISHED_BY, text)?,
            expires_at_s: optional(item, table::EXPIRES_AT_S, number)?,
            claimed_over,
        })
    }
}

fn read_stream(item: &Item, slot: Slot) -> Result<Option<StreamRecord>, StoreError> {
    let Some(stream) = optional(item, &slot.attribute("stream"), parsed)? else { return Ok(None) };
    Ok(Some(StreamRecord {
        stream,
        generation: required(item, &slot.attribute("generation"), number)?,
        opened_at_us: required(item, &slot.attribute("opened_at_us"), number)?,
        task: required(item, &slot.attribute("task"), text)?,
        open: required(item, &slot.attribute("open"), flag)?,
        samples: required(item, &slot.attribute("samples"), number)?,
        seen_at_ms: required(item, &slot.attribute("seen_at_ms"), number)?,
        stale_after_ms: optional(item, &slot.attribute("stale_after_ms"), number)?,
        close_reason: optional(item, &slot.attribute("close_reason"), close_reason)?,
    }))
}

fn read_finisher(item: &Item) -> Result<Option<Finisher>, StoreError> {
    let Some(task) = optional(item, FINISHER_TASK, text)? else { return Ok(None) };
    Ok(Some(Finisher { task, lease_until_ms: required(item, FINISHER_LEASE_UNTIL_MS, number)? }))
}

fn read_hold(item: &Item) -> Result<Option<Hold>, StoreError> {
    let Some(since_ms) = optional(item, HOLD_SINCE_MS, number)? else { return Ok(None) };
    Ok(Some(Hold { since_ms, until_ms: required(item, HOLD_UNTIL_MS, number)? }))
}

fn state(value: &AttributeValue) -> Option<ContactState> {
    let word = value.as_s().ok()?;
    ContactState::ALL.into_iter().find(|state| state.label() == word)
}

fn end_reason(value: &AttributeValue) -> Option<EndReason> {
    let word = value.as_s().ok()?;
    EndReason::ALL.into_iter().find(|reason| reason.label() == word)
}

fn close_reason(value: &AttributeValue) -> Option<CloseReason> {
    let word = value.as_s().ok()?;
    CloseReason::ALL.into_iter().find(|reason| reason.label() == word)
}

#[cfg(test)]
mod tests {
    use earpiece_core::contact::{ContactKey, StreamId};

    use super::*;
    use crate::attribute::{n, s};
    use crate::key::partition_of;

    fn item() -> (Item, ContactRecord) {
        let contact = ContactKey { bus_no: u64::MAX, contact_id: u64::MAX };
        let stream = StreamRecord {
            stream: StreamId::new(),
            generation: u64::MAX,
            opened_at_us: i64::MAX,
            task: String::from("task-1"),
            open: false,
            samples: u64::MAX,
            seen_at_ms: -1,
            stale_after_ms: Some(u64::MAX),
            close_reason: Some(CloseReason::TaskLost),
        };
        let item = Item::from([
            (table::PARTITION_KEY.into(), s(partition_of(&contact))),
            (STATE.into(), s("ending")),
            (OPENED_AT_US.into(), n(i64::MIN)),
            (VERSION.into(), n(7)),
            (END_REQUESTED_AT_MS.into(), n(5)),
            (FINISHER_TASK.into(), s("task-2")),
            (FINISHER_LEASE_UNTIL_MS.into(), n(9)),
            (table::DUE_AT_MS.into(), n(9)),
            (ENDED_AT_MS.into(), n(6)),
            (END_REASON.into(), s("event")),
            (HOLD_SINCE_MS.into(), n(3)),
            (HOLD_UNTIL_MS.into(), n(8)),
            (SCRIPT_AT_MS.into(), n(4)),
            ("tx_claimed_over".into(), s("ended")),
            ("tx_stream".into(), s(stream.stream.to_string())),
            ("tx_generation".into(), n(stream.generation)),
            ("tx_opened_at_us".into(), n(stream.opened_at_us)),
            ("tx_task".into(), s(stream.task.clone())),
            ("tx_open".into(), AttributeValue::Bool(false)),
            ("tx_samples".into(), n(stream.samples)),
            ("tx_seen_at_ms".into(), n(stream.seen_at_ms)),
            ("tx_stale_after_ms".into(), n(u64::MAX)),
            ("tx_close_reason".into(), s(CloseReason::TaskLost.label())),
        ]);
        let record = ContactRecord {
            contact,
            state: ContactState::Ending,
            opened_at_us: i64::MIN,
            streams: BTreeMap::from([(String::from("TX"), stream)]),
            end_requested: true,
            finisher: Some(Finisher { task: String::from("task-2"), lease_until_ms: 9 }),
            due_at_ms: Some(9),
            ended_at_ms: Some(6),
            end_reason: Some(EndReason::Event),
            hold: Some(Hold { since_ms: 3, until_ms: 8 }),
            script_at_ms: Some(4),
        };
        (item, record)
    }

    #[test]
    fn an_item_reads_as_the_record_it_stands_for() {
        let (item, record) = item();
        let stored = Stored::read(&item).unwrap();
        assert_eq!(stored.record, record);
        assert_eq!(stored.version, 7);
        assert!(stored.was_reopened_by(Slot::TX));
        assert!(!stored.was_reopened_by(Slot::RX));
    }

    #[test]
    fn a_stream_that_was_written_before_it_said_when_it_is_stale_can_be_read() {
        let (mut item, _) = item();
        item.remove("tx_stale_after_ms");
        assert_eq!(Stored::read(&item).unwrap().record.streams["TX"].stale_after_ms, None);
    }

    #[test]
    fn an_attribute_that_lacks_or_holds_something_else_is_named() {
        for attribute in
            [table::PARTITION_KEY, STATE, VERSION, FINISHER_LEASE_UNTIL_MS, HOLD_UNTIL_MS, "tx_open", "tx_generation"]
        {
            let damaged = Err(StoreError::Damaged { attribute: attribute.to_owned() });
            let (mut item, _) = item();
            item.insert(attribute.to_owned(), AttributeValue::Null(true));
            assert_eq!(Stored::read(&item).map(|_| ()), damaged);
            item.remove(attribute);
            assert_eq!(Stored::read(&item).map(|_| ()), damaged);
        }
    }

    #[test]
    fn an_item_expires_at_its_second_and_not_before() {
        let (mut item, _) = item();
        assert!(!Stored::read(&item).unwrap().is_expired(i64::MAX));
        item.insert(table::EXPIRES_AT_S.to_owned(), n(100));
        let stored = Stored::read(&item).unwrap();
        assert!(!stored.is_expired(99_999));
        assert!(stored.is_expired(100_000));
    }

    #[test]
    fn every_perspective_has_a_slot_of_its_label() {
        let perspectives =
            [Perspective::Tx, Perspective::Rx, Perspective::Mix, Perspective::Unknown(String::from("3"))];
        for (perspective, slot) in perspectives.iter().zip(Slot::ALL) {
            assert_eq!(Slot::of(perspective), slot);
            assert_eq!(perspective.label(), slot.label);
        }
    }

    #[test]
    fn every_close_reason_survives_the_table() {
        for reason in CloseReason::ALL {
            assert_eq!(close_reason(&s(reason.label())), Some(reason));
        }
    }
}
