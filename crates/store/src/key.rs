//! Where everything lies: the keys of all items, written and read.

use aws_sdk_dynamodb::types::AttributeValue;
use earpiece_core::assist::{InteractionId, Lane};
use earpiece_core::contact::ContactKey;

use crate::attribute::{Item, s};
use crate::table::{CONTACT_SORT, DUE_SHARDS, JWKS_PARTITION, PARTITION_KEY, SIGNING_PARTITION, SORT_KEY};

/// What the sort keys of a contact's utterances begin with.
pub(crate) const UTTERANCE_PREFIX: &str = "UTTERANCE#";
/// What the sort keys of a contact's listeners begin with.
pub(crate) const LISTENER_PREFIX: &str = "LISTENER#";
/// What the sort keys of a contact's events begin with.
pub(crate) const EVENT_PREFIX: &str = "EVENT#";
/// What the sort keys of an interaction's outbox entries begin with.
pub(crate) const OUTBOX_PREFIX: &str = "OUTBOX#";
/// What the sort keys of an interaction's audit records begin with.
pub(crate) const AUDIT_PREFIX: &str = "AUDIT#";
/// The latest time that fits into the sort key of an event, in milliseconds since the Unix epoch: in the year 2286.
const EVENT_AT_MS_MAX: i64 = 9_999_999_999_999;

/// The key of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) partition: String,
    pub(crate) sort: String,
}

impl Key {
    fn new(partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Self { partition: partition.into(), sort: sort.into() }
    }

    pub(crate) fn contact(contact: &ContactKey) -> Self {
        Self::new(partition_of(contact), CONTACT_SORT)
    }

    pub(crate) fn utterance(contact: &ContactKey, key: &str) -> Self {
        Self::new(partition_of(contact), format!("{UTTERANCE_PREFIX}{key}"))
    }

    pub(crate) fn listener(contact: &ContactKey, connection: &str) -> Self {
        Self::new(partition_of(contact), format!("{LISTENER_PREFIX}{connection}"))
    }

    /// Events lie in the order of their times. A time before 1970 or after 2286 is put at that end.
    pub(crate) fn event(contact: &ContactKey, at_ms: i64, request_id: &str) -> Self {
        let at_ms = at_ms.clamp(0, EVENT_AT_MS_MAX);
        Self::new(partition_of(contact), format!("{EVENT_PREFIX}{at_ms:013}#{request_id}"))
    }

    pub(crate) fn rate(bus_no: u64, second: i64) -> Self {
        Self::new(format!("RATE#{bus_no}"), second.to_string())
    }

    pub(crate) fn one_time(id: &str) -> Self {
        Self::new(format!("ONETIME#{id}"), "ONETIME")
    }

    pub(crate) fn connection(id: &str) -> Self {
        Self::new(format!("CONNECTION#{id}"), "CONNECTION")
    }

    /// The document of an interaction.
    pub(crate) fn interaction(id: &InteractionId) -> Self {
        Self::new(partition_of_interaction(id), "INTERACTION")
    }

    /// Entries lie in the order of their numbers, as long as those have at most twelve digits.
    pub(crate) fn entry(id: &InteractionId, seq: u64) -> Self {
        Self::new(partition_of_interaction(id), format!("{OUTBOX_PREFIX}{seq:012}"))
    }

    /// Records lie in the order of their numbers, as long as those have at most twelve digits.
    pub(crate) fn audit(id: &InteractionId, number: u64) -> Self {
        Self::new(partition_of_interaction(id), format!("{AUDIT_PREFIX}{number:012}"))
    }

    pub(crate) fn lease(name: &str) -> Self {
        Self::new(format!("LEASE#{name}"), "LEASE")
    }

    pub(crate) fn signing() -> Self {
        Self::new(SIGNING_PARTITION, "HEAD")
    }

    pub(crate) fn public_key(kid: &str) -> Self {
        Self::new(JWKS_PARTITION, kid)
    }

    pub(crate) fn to_item(&self) -> Item {
        Item::from([(PARTITION_KEY.to_owned(), s(self.partition.clone())), (SORT_KEY.to_owned(), s(self.sort.clone()))])
    }
}

/// The partition of a contact: of itself, its utterances, listeners and events.
pub(crate) fn partition_of(contact: &ContactKey) -> String {
    format!("CONTACT#{}#{}", contact.bus_no, contact.contact_id)
}

/// The contact whose partition this is.
pub(crate) fn contact_of(partition: &AttributeValue) -> Option<ContactKey> {
    let (bus_no, contact_id) = partition.as_s().ok()?.strip_prefix("CONTACT#")?.split_once('#')?;
    Some(ContactKey { bus_no: bus_no.parse().ok()?, contact_id: contact_id.parse().ok()? })
}

/// The partition of an interaction: of its document, its outbox entries and its audit records.
pub(crate) fn partition_of_interaction(id: &InteractionId) -> String {
    format!("INTERACTION#{id}")
}

/// The interaction whose partition this is.
pub(crate) fn interaction_of(partition: &AttributeValue) -> Option<InteractionId> {
    InteractionId::parse(partition.as_s().ok()?.strip_prefix("INTERACTION#")?).ok()
}

/// The number of the outbox entry that has this sort key.
pub(crate) fn seq_of(sort: &AttributeValue) -> Option<u64> {
    sort.as_s().ok()?.strip_prefix(OUTBOX_PREFIX)?.parse().ok()
}

/// The shard of the index in which a contact is due. Contact ids are dealt out in order, so the last bits spread well.
pub(crate) fn contact_shard(contact: &ContactKey) -> String {
    contact_shard_name((contact.bus_no ^ contact.contact_id) % DUE_SHARDS)
}

pub(crate) fn contact_shard_name(shard: u64) -> String {
    shard.to_string()
}

/// The shard in which an utterance is due. One contact's utterances are spread over all of them.
pub(crate) fn waiting_shard(key: &str) -> String {
    waiting_shard_name(spread(key))
}

pub(crate) fn waiting_shard_name(shard: u64) -> String {
    format!("U{shard}")
}

/// The shard in which a dead letter lies.
pub(crate) fn dead_shard(key: &str) -> String {
    dead_shard_name(spread(key))
}

pub(crate) fn dead_shard_name(shard: u64) -> String {
    format!("D{shard}")
}

/// The shard in which an interaction's entries of a lane are due: one for all of them, so that they come together.
pub(crate) fn lane_shard(lane: Lane, id: &InteractionId) -> String {
    lane_shard_name(lane, spread(id.as_str()))
}

pub(crate) fn lane_shard_name(lane: Lane, shard: u64) -> String {
    let letter = match lane {
        Lane::Suggestions => 'S',
        Lane::Insights => 'I',
        Lane::Popups => 'P',
        Lane::Webhooks => 'W',
    };
    format!("O{letter}{shard}")
}

/// The shard in which an interaction's dead letters lie.
pub(crate) fn buried_shard(id: &InteractionId) -> String {
    buried_shard_name(spread(id.as_str()))
}

pub(crate) fn buried_shard_name(shard: u64) -> String {
    format!("OX{shard}")
}

fn spread(key: &str) -> u64 {
    key.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % DUE_SHARDS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const CONTACT: ContactKey = ContactKey { bus_no: 4, contact_id: u64::MAX };

    #[test]
    fn a_partition_names_its_contact() {
        assert_eq!(contact_of(&s(partition_of(&CONTACT))), Some(CONTACT));
        for other in ["CONTACT#4", "CONTACT#4#x", "CONNECTION#4#5", ""] {
            assert_eq!(contact_of(&s(other)), None, "{other}");
        }
    }

    #[test]
    fn a_partition_names_its_interaction_and_a_sort_key_its_entry() {
        let id = InteractionId::parse("a1:b-2").unwrap();
        assert_eq!(interaction_of(&s(partition_of_interaction(&id))), Some(id.clone()));
        for other in ["INTERACTION#", "INTERACTION#a#b", "CONTACT#4#5", ""] {
            assert_eq!(interaction_of(&s(other)), None, "{other}");
        }
        let sorts = [0, 9, 10, 999_999_999_999].map(|seq| Key::entry(&id, seq).sort);
        assert!(sorts.is_sorted());
        assert_eq!(sorts.map(|sort| seq_of(&s(sort))), [0, 9, 10, 999_999_999_999].map(Some));
        assert_eq!(seq_of(&s(Key::audit(&id, 1).sort)), None);
    }

    #[test]
    fn events_sort_by_their_times_and_no_time_falls_out_of_the_row() {
        let sort = |at_ms| Key::event(&CONTACT, at_ms, "r").sort;
        let sorts = [i64::MIN, 5, 40, 1_700_000_000_000, i64::MAX].map(sort);
        assert!(sorts.is_sorted());
        assert_eq!(sorts.map(|sort| sort.len()), [sort(0).len(); 5]);
    }

    #[test]
    fn every_shard_is_used_and_no_kind_lies_in_the_shards_of_another() {
        let contacts: BTreeSet<_> =
            (0..100).map(|contact_id| contact_shard(&ContactKey { bus_no: 4, contact_id })).collect();
        let waiting: BTreeSet<_> = (0..100).map(|key| waiting_shard(&format!("{key:064x}"))).collect();
        let dead: BTreeSet<_> = (0..100).map(|key| dead_shard(&format!("{key:064x}"))).collect();
        let interactions: Vec<_> = (0..100).map(|id| InteractionId::parse(&format!("{id}")).unwrap()).collect();
        let lanes: BTreeSet<_> =
            Lane::ALL.iter().flat_map(|lane| interactions.iter().map(|id| lane_shard(*lane, id))).collect();
        let buried: BTreeSet<_> = interactions.iter().map(buried_shard).collect();
        let together: BTreeSet<_> = contacts.iter().chain(&waiting).chain(&dead).chain(&lanes).chain(&buried).collect();
        assert_eq!([contacts.len(), waiting.len(), dead.len(), lanes.len(), buried.len()], [4, 4, 4, 16, 4]);
        assert_eq!(together.len(), 32);
        assert_eq!(contacts, (0..DUE_SHARDS).map(contact_shard_name).collect());
        assert_eq!(waiting, (0..DUE_SHARDS).map(waiting_shard_name).collect());
        assert_eq!(dead, (0..DUE_SHARDS).map(dead_shard_name).collect());
        assert_eq!(buried, (0..DUE_SHARDS).map(buried_shard_name).collect());
        let named = Lane::ALL.iter().flat_map(|lane| (0..DUE_SHARDS).map(|shard| lane_shard_name(*lane, shard)));
        assert_eq!(lanes, named.collect());
    }
}
