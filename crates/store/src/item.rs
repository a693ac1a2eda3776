//! How a contact is spread over the attributes of one item.
//!
//! Each perspective has a group of attributes with its own prefix (`tx_stream`, `tx_generation`, …), flat and not
//! nested, so that one condition expression can speak of one perspective, or of all the others.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::state::EndReason;
use earpiece_core::protocol::perspective::Perspective;

use crate::contact::{ContactRecord, ContactState, Finisher, StreamRecord};
use crate::error::StoreError;
use crate::table::{self, DUE_SHARDS};

/// An item as it travels.
pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) const STATE: &str = "contact_state";
pub(crate) const OPENED_AT_US: &str = "opened_at_us";
/// Counts the item's writes: a decision that was made on a read is written only if this did not move.
pub(crate) const VERSION: &str = "item_version";
/// Present when an end was requested. A time in the past serves as the due time of the last close.
pub(crate) const END_REQUESTED_AT_MS: &str = "end_requested_at_ms";
pub(crate) const FINISHER_TASK: &str = "finisher_task";
pub(crate) const FINISHER_LEASE_UNTIL_MS: &str = "finisher_lease_until_ms";
/// Which task finished it: tells a repeated request of the same task from somebody else's.
pub(crate) const FINISHED_BY: &str = "finished_by";
pub(crate) const ENDED_AT_MS: &str = "ended_at_ms";
pub(crate) const END_REASON: &str = "end_reason";

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
        close_reason: optional(item, &slot.attribute("close_reason"), close_reason)?,
    }))
}

fn read_finisher(item: &Item) -> Result<Option<Finisher>, StoreError> {
    let Some(task) = optional(item, FINISHER_TASK, text)? else { return Ok(None) };
    Ok(Some(Finisher { task, lease_until_ms: required(item, FINISHER_LEASE_UNTIL_MS, number)? }))
}

fn optional<T>(item: &Item, name: &str, read: fn(&AttributeValue) -> Option<T>) -> Result<Option<T>, StoreError> {
    let Some(value) = item.get(name) else { return Ok(None) };
    read(value).map(Some).ok_or_else(|| StoreError::Damaged { attribute: name.to_owned() })
}

fn required<T>(item: &Item, name: &str, read: fn(&AttributeValue) -> Option<T>) -> Result<T, StoreError> {
    optional(item, name, read)?.ok_or_else(|| StoreError::Damaged { attribute: name.to_owned() })
}

fn text(value: &AttributeValue) -> Option<String> {
    value.as_s().ok().cloned()
}

fn parsed<T: FromStr>(value: &AttributeValue) -> Option<T> {
    value.as_s().ok()?.parse().ok()
}

fn number<T: FromStr>(value: &AttributeValue) -> Option<T> {
    value.as_n().ok()?.parse().ok()
}

fn flag(value: &AttributeValue) -> Option<bool> {
    value.as_bool().ok().copied()
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

/// The partition key of a contact.
pub(crate) fn partition_of(contact: &ContactKey) -> String {
    format!("CONTACT#{}#{}", contact.bus_no, contact.contact_id)
}

fn contact_of(partition: &AttributeValue) -> Option<ContactKey> {
    let (bus_no, contact_id) = partition.as_s().ok()?.strip_prefix("CONTACT#")?.split_once('#')?;
    Some(ContactKey { bus_no: bus_no.parse().ok()?, contact_id: contact_id.parse().ok()? })
}

/// Which shard of the index a contact lies in. Contact ids are dealt out in order, so the last bits spread well.
pub(crate) fn shard_of(contact: &ContactKey) -> String {
    ((contact.bus_no ^ contact.contact_id) % DUE_SHARDS).to_string()
}

/// Time to live is counted in whole seconds.
pub(crate) const fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}

pub(crate) fn s(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

#[expect(clippy::needless_pass_by_value, reason = "numbers are copied")]
pub(crate) fn n(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

#[cfg(test)]
mod tests {
    use earpiece_core::contact::StreamId;

    use super::*;

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
            ("tx_claimed_over".into(), s("ended")),
            ("tx_stream".into(), s(stream.stream.to_string())),
            ("tx_generation".into(), n(stream.generation)),
            ("tx_opened_at_us".into(), n(stream.opened_at_us)),
            ("tx_task".into(), s(stream.task.clone())),
            ("tx_open".into(), AttributeValue::Bool(false)),
            ("tx_samples".into(), n(stream.samples)),
            ("tx_seen_at_ms".into(), n(stream.seen_at_ms)),
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
    fn an_attribute_that_lacks_or_holds_something_else_is_named() {
        for attribute in [table::PARTITION_KEY, STATE, VERSION, FINISHER_LEASE_UNTIL_MS, "tx_open", "tx_generation"] {
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
    fn every_close_reason_and_shard_survives_the_table() {
        for reason in CloseReason::ALL {
            assert_eq!(close_reason(&s(reason.label())), Some(reason));
        }
        let shards: std::collections::BTreeSet<_> =
            (0..100).map(|contact_id| shard_of(&ContactKey { bus_no: 4, contact_id })).collect();
        assert_eq!(shards.len() as u64, DUE_SHARDS);
    }
}
