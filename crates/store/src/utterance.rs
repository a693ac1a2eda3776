//! An utterance is accepted once, and kept until it is delivered.
//!
//! One conditional write says that it is new *and* holds what has to be delivered: there is no moment at which it was
//! answered for and not kept. Until it is delivered it has no time to live, and every repeat of it is a duplicate. Its
//! due time is a lease: whoever accepted or took it has until then, and after that exactly one sweeper takes it over.
//! What cannot be delivered becomes a dead letter, which can be brought back.

use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use earpiece_core::contact::ContactKey;

use crate::attribute::{
    Item, WRITER, bytes, bytes_of, expiry_s, is_absent, is_expired, is_text, is_unexpired, n, new_writer, number,
    optional, required, s, seconds, text,
};
use crate::client::Store;
use crate::error::{StoreError, fits};
use crate::key::{Key, UTTERANCE_PREFIX, contact_of, dead_shard, dead_shard_name, waiting_shard, waiting_shard_name};
use crate::read::{Query, or_logged};
use crate::table::{DUE_AT_MS, DUE_SHARD, DUE_SHARDS, EXPIRES_AT_S, PARTITION_KEY, SORT_KEY};
use crate::write::{Change, Outcome};

/// How large a payload may be, in bytes. An item holds 400 KB with everything in it; an utterance is at most 256 KiB
/// on the wire, and what is delivered wraps it.
pub const PAYLOAD_BYTES_MAX: usize = 384 * 1024;
/// How long an id or a key may be, in bytes.
pub const ID_BYTES_MAX: usize = 512;
/// How many utterances are read at once at most, as each brings its payload along.
pub const UTTERANCES_READ_MAX: usize = 32;

const STATE: &str = "utterance_state";
const REQUEST_ID: &str = "request_id";
const PAYLOAD: &str = "payload";
const ATTEMPTS: &str = "attempts";
const ACCEPTED_AT_MS: &str = "accepted_at_ms";
/// When it was accepted, or brought back from the dead letters: its keep time counts from then.
const KEPT_SINCE_MS: &str = "kept_since_ms";
const KEEP_MS: &str = "keep_ms";
const DELIVERED_AT_MS: &str = "delivered_at_ms";
const DEAD_REASON: &str = "dead_reason";

const WAITING: &str = "waiting";
const DELIVERED: &str = "delivered";
const DEAD: &str = "dead";

/// An utterance that is to be accepted.
#[derive(Clone, Copy)]
pub struct Acceptance<'a> {
    /// Which contact.
    pub contact: ContactKey,
    /// What makes it the same as another of its contact: a hex digest.
    pub key: &'a str,
    /// Which request brought it. It must be the request's own: two with the same id are taken for one that was sent
    /// twice, and both are told that the utterance is new.
    pub request_id: &'a str,
    /// What has to be delivered; at most [`PAYLOAD_BYTES_MAX`].
    pub payload: &'a [u8],
    /// The time, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// For how long only the request itself delivers it, in milliseconds.
    pub lease_ms: u64,
    /// For how long after its delivery a repeat is a duplicate, in milliseconds.
    pub window_ms: u64,
    /// For how long its delivery is worth trying, in milliseconds: [`DueUtterance::keep_until_ms`] says when that is
    /// over. The store itself never drops what is undelivered.
    pub keep_ms: u64,
}

impl fmt::Debug for Acceptance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptance")
            .field("contact", &self.contact)
            .field("request_id", &self.request_id)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// What an utterance was accepted as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// It is kept, and the caller has it to deliver.
    New,
    /// Another request brought it before.
    Duplicate {
        /// That other request.
        request_id: String,
        /// Whether it is delivered already; otherwise it will be, or is a dead letter.
        is_delivered: bool,
    },
}

/// An utterance that is to be delivered, or that could not be.
#[derive(Clone, PartialEq, Eq)]
pub struct DueUtterance {
    /// Which contact.
    pub contact: ContactKey,
    /// The key under which it was accepted.
    pub key: String,
    /// Which request brought it.
    pub request_id: String,
    /// What has to be delivered.
    pub payload: Vec<u8>,
    /// How often a sweeper took it.
    pub attempts: u32,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub accepted_at_ms: i64,
    /// Until when its delivery is worth trying, in milliseconds since the Unix epoch.
    pub keep_until_ms: i64,
    /// When it became due, or when it was buried, in milliseconds since the Unix epoch.
    pub due_at_ms: i64,
    /// Why it is a dead letter; absent while it is none.
    pub dead_reason: Option<String>,
}

impl fmt::Debug for DueUtterance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DueUtterance")
            .field("contact", &self.contact)
            .field("request_id", &self.request_id)
            .field("payload_bytes", &self.payload.len())
            .field("attempts", &self.attempts)
            .field("due_at_ms", &self.due_at_ms)
            .field("dead_reason", &self.dead_reason)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Accepts an utterance in one write: says whether it is new, and keeps it until it is delivered.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when it does not fit; otherwise when the table did not do it. After
    /// [`StoreError::Timeout`] it may have been accepted: repeating it with the same request id does no harm.
    pub async fn accept_utterance(&self, acceptance: &Acceptance<'_>) -> Result<Accepted, StoreError> {
        let &Acceptance { contact, key, request_id, payload, .. } = acceptance;
        fits("the payload of an utterance", payload.len(), PAYLOAD_BYTES_MAX)?;
        fits("the key of an utterance", key.len(), ID_BYTES_MAX)?;
        fits("a request id", request_id.len(), ID_BYTES_MAX)?;
        let Outcome::Refused(standing) =
            self.change_item(&Key::utterance(&contact, key), accepting(acceptance)).await?
        else {
            return Ok(Accepted::New);
        };
        // The condition holds for every absent item.
        let standing = standing.ok_or(StoreError::Contended)?;
        let is_own = is_text(&standing, REQUEST_ID, request_id)
            && is_text(&standing, STATE, WAITING)
            && required(&standing, ATTEMPTS, number::<u32>)? == 0;
        if is_own {
            return Ok(Accepted::New);
        }
        let is_delivered = is_text(&standing, STATE, DELIVERED);
        Ok(Accepted::Duplicate { request_id: required(&standing, REQUEST_ID, text)?, is_delivered })
    }

    /// Notes that an utterance is delivered, and drops what was kept of it: only its key stays, for `window_ms`.
    /// Nothing changes when it is delivered already, or when another request brought it.
    ///
    /// # Errors
    /// When the table did not do it. The utterance may then be delivered twice, and never not at all.
    pub async fn utterance_delivered(
        &self,
        contact: &ContactKey,
        key: &str,
        request_id: &str,
        now_ms: i64,
        window_ms: u64,
    ) -> Result<(), StoreError> {
        let change = Change::new()
            .only_if(format!("{REQUEST_ID} = :request"))
            .only_if(format!("{STATE} <> :delivered"))
            .set(STATE, ":delivered")
            .set(DELIVERED_AT_MS, ":now")
            .set(EXPIRES_AT_S, ":expires")
            .value(":request", s(request_id))
            .value(":delivered", s(DELIVERED))
            .value(":now", n(now_ms))
            .value(":expires", n(expiry_s(now_ms, window_ms)));
        let change = [PAYLOAD, DUE_SHARD, DUE_AT_MS, DEAD_REASON, WRITER].into_iter().fold(change, Change::remove);
        self.change_item(&Key::utterance(contact, key), change.quietly()).await?;
        Ok(())
    }

    /// At most `limit` utterances (and at most [`UTTERANCES_READ_MAX`]) whose lease has run out undelivered, the
    /// longest overdue first. They are read from an index that may lag behind by moments: [`Store::take_utterance`]
    /// has the last word.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn due_utterances(&self, now_ms: i64, limit: usize) -> Result<Vec<DueUtterance>, StoreError> {
        self.utterances(waiting_shard_name, Some(now_ms), now_ms, limit).await
    }

    /// Takes a due utterance for a delivery, for the length of a lease, and counts the attempt. Of all that try,
    /// exactly one gets true.
    ///
    /// # Errors
    /// When the table did not do it.
    pub async fn take_utterance(&self, due: &DueUtterance, now_ms: i64, lease_ms: u64) -> Result<bool, StoreError> {
        let taker = new_writer();
        let change = waiting(&due.request_id)
            .only_if(format!("{DUE_AT_MS} = :read_due AND {ATTEMPTS} = :read_attempts"))
            .set(DUE_AT_MS, ":lease_until")
            .set(ATTEMPTS, ":attempts")
            .set(WRITER, ":taker")
            .value(":read_due", n(due.due_at_ms))
            .value(":read_attempts", n(due.attempts))
            .value(":lease_until", n(now_ms.saturating_add_unsigned(lease_ms)))
            .value(":attempts", n(due.attempts.saturating_add(1)))
            .value(":taker", s(taker.clone()));
        Ok(match self.change_item(&Key::utterance(&due.contact, &due.key), change.quietly()).await? {
            Outcome::Applied(_) => true,
            // The request was sent twice, and the first one arrived.
            Outcome::Refused(standing) => standing.is_some_and(|standing| is_text(&standing, WRITER, &taker)),
        })
    }

    /// Ends the lease of an utterance that was taken and not delivered: it is due again at `due_at_ms`. Nothing
    /// changes when another has taken it since, or when it is delivered after all.
    ///
    /// # Errors
    /// When the table did not do it. It is then due when the lease runs out.
    pub async fn put_off_utterance(&self, taken: &DueUtterance, due_at_ms: i64) -> Result<(), StoreError> {
        let change = waiting(&taken.request_id)
            // Whether it is given as it was read or as it was taken: others count one attempt further.
            .only_if(format!("{ATTEMPTS} <= :attempts"))
            .set(DUE_AT_MS, ":due")
            .value(":attempts", n(taken.attempts.saturating_add(1)))
            .value(":due", n(due_at_ms));
        self.change_item(&Key::utterance(&taken.contact, &taken.key), change.quietly()).await?;
        Ok(())
    }

    /// Makes an utterance a dead letter: it is due no more, and kept for `keep_ms`. Nothing changes when it is
    /// delivered after all.
    ///
    /// # Errors
    /// When the table did not do it.
    pub async fn bury_utterance(
        &self,
        contact: &ContactKey,
        key: &str,
        request_id: &str,
        now_ms: i64,
        keep_ms: u64,
        reason: &'static str,
    ) -> Result<(), StoreError> {
        let change = waiting(request_id)
            .set(STATE, ":dead")
            .set(DEAD_REASON, ":reason")
            .set(DUE_SHARD, ":shard")
            .set(DUE_AT_MS, ":now")
            .set(EXPIRES_AT_S, ":expires")
            .value(":dead", s(DEAD))
            .value(":reason", s(reason))
            .value(":shard", s(dead_shard(key)))
            .value(":now", n(now_ms))
            .value(":expires", n(expiry_s(now_ms, keep_ms)));
        self.change_item(&Key::utterance(contact, key), change.quietly()).await?;
        Ok(())
    }

    /// At most `limit` dead letters (and at most [`UTTERANCES_READ_MAX`]), those that were buried first first.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn dead_utterances(&self, now_ms: i64, limit: usize) -> Result<Vec<DueUtterance>, StoreError> {
        self.utterances(dead_shard_name, None, now_ms, limit).await
    }

    /// Makes a dead letter due at once, with all its attempts before it again. Returns whether there was one.
    ///
    /// # Errors
    /// When the table did not do it.
    pub async fn revive_utterance(&self, contact: &ContactKey, key: &str, now_ms: i64) -> Result<bool, StoreError> {
        let reviver = new_writer();
        let change = Change::new()
            .only_if(format!("{STATE} = :dead"))
            .only_if(is_unexpired())
            .set(STATE, ":waiting")
            .set(ATTEMPTS, ":zero")
            .set(DUE_SHARD, ":shard")
            .set(DUE_AT_MS, ":now")
            .set(KEPT_SINCE_MS, ":now")
            .set(WRITER, ":reviver")
            .remove(DEAD_REASON)
            .remove(EXPIRES_AT_S)
            .value(":dead", s(DEAD))
            .value(":waiting", s(WAITING))
            .value(":zero", n(0))
            .value(":shard", s(waiting_shard(key)))
            .value(":now", n(now_ms))
            .value(":now_s", n(seconds(now_ms)))
            .value(":reviver", s(reviver.clone()));
        Ok(match self.change_item(&Key::utterance(contact, key), change.quietly()).await? {
            Outcome::Applied(_) => true,
            Outcome::Refused(standing) => standing.is_some_and(|standing| is_text(&standing, WRITER, &reviver)),
        })
    }

    async fn utterances(
        &self,
        shard_name: fn(u64) -> String,
        until_ms: Option<i64>,
        now_ms: i64,
        limit: usize,
    ) -> Result<Vec<DueUtterance>, StoreError> {
        let limit = limit.min(UTTERANCES_READ_MAX);
        let unexpired =
            |item: &Item| if is_expired(item, seconds(now_ms)) { None } else { or_logged(item, read(item)) };
        let mut due = Vec::new();
        // Each shard may hold all of the longest overdue; no more payloads than needed are held at once.
        for shard in 0..DUE_SHARDS {
            due.extend(self.query(&Query::due(&shard_name(shard), until_ms), limit, unexpired).await?);
            due.sort_by(|one: &DueUtterance, other| {
                (one.due_at_ms, one.contact, &one.key).cmp(&(other.due_at_ms, other.contact, &other.key))
            });
            due.truncate(limit);
        }
        Ok(due)
    }
}

fn accepting(acceptance: &Acceptance<'_>) -> Change {
    let &Acceptance { key, request_id, payload, now_ms, lease_ms, window_ms, keep_ms, .. } = acceptance;
    let is_forgotten = format!("{STATE} = :delivered AND {DELIVERED_AT_MS} <= :window_start");
    Change::new()
        .only_if(format!("{} OR ({is_forgotten})", is_absent(STATE)))
        .set(STATE, ":waiting")
        .set(REQUEST_ID, ":request")
        .set(PAYLOAD, ":payload")
        .set(ATTEMPTS, ":zero")
        .set(ACCEPTED_AT_MS, ":now")
        .set(KEPT_SINCE_MS, ":now")
        .set(KEEP_MS, ":keep")
        .set(DUE_SHARD, ":shard")
        .set(DUE_AT_MS, ":lease_until")
        .remove(DELIVERED_AT_MS)
        .remove(DEAD_REASON)
        .remove(EXPIRES_AT_S)
        .remove(WRITER)
        .value(":waiting", s(WAITING))
        .value(":delivered", s(DELIVERED))
        .value(":request", s(request_id))
        .value(":payload", bytes_of(payload))
        .value(":zero", n(0))
        .value(":now", n(now_ms))
        .value(":now_s", n(seconds(now_ms)))
        .value(":window_start", n(now_ms.saturating_sub_unsigned(window_ms)))
        .value(":keep", n(keep_ms))
        .value(":shard", s(waiting_shard(key)))
        .value(":lease_until", n(now_ms.saturating_add_unsigned(lease_ms)))
        .quietly()
}

/// A change to an utterance that is still to be delivered.
fn waiting(request_id: &str) -> Change {
    Change::new()
        .only_if(format!("{STATE} = :is_waiting AND {REQUEST_ID} = :request"))
        .value(":is_waiting", s(WAITING))
        .value(":request", s(request_id))
}

fn read(item: &Item) -> Result<DueUtterance, StoreError> {
    let kept_since_ms: i64 = required(item, KEPT_SINCE_MS, number)?;
    Ok(DueUtterance {
        contact: required(item, PARTITION_KEY, contact_of)?,
        key: required(item, SORT_KEY, key_of)?,
        request_id: required(item, REQUEST_ID, text)?,
        payload: required(item, PAYLOAD, bytes)?,
        attempts: required(item, ATTEMPTS, number)?,
        accepted_at_ms: required(item, ACCEPTED_AT_MS, number)?,
        keep_until_ms: kept_since_ms.saturating_add_unsigned(required(item, KEEP_MS, number)?),
        due_at_ms: required(item, DUE_AT_MS, number)?,
        dead_reason: optional(item, DEAD_REASON, text)?,
    })
}

fn key_of(sort: &AttributeValue) -> Option<String> {
    sort.as_s().ok()?.strip_prefix(UTTERANCE_PREFIX).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: ContactKey = ContactKey { bus_no: 1, contact_id: 2 };

    #[test]
    fn neither_what_is_accepted_nor_what_is_due_prints_its_words() {
        let acceptance = Acceptance {
            contact: CONTACT,
            key: "key",
            request_id: "request",
            payload: b"my card is 4111",
            now_ms: 0,
            lease_ms: 0,
            window_ms: 0,
            keep_ms: 0,
        };
        let due = DueUtterance {
            contact: CONTACT,
            key: String::from("key"),
            request_id: String::from("request"),
            payload: acceptance.payload.to_vec(),
            attempts: 1,
            accepted_at_ms: 0,
            keep_until_ms: 0,
            due_at_ms: 0,
            dead_reason: None,
        };
        let printed = format!("{acceptance:?} {due:?}");
        assert!(!printed.contains("4111") && !printed.contains("52, 49, 49, 49"), "{printed}");
        assert!(printed.contains("payload_bytes: 15"), "{printed}");
    }

    #[tokio::test]
    async fn what_does_not_fit_into_an_item_is_refused_before_it_is_sent() {
        let store = Store::connect_local("http://127.0.0.1:1", "calls");
        let payload = vec![0; PAYLOAD_BYTES_MAX + 1];
        let long = "k".repeat(ID_BYTES_MAX + 1);
        let fitting = Acceptance {
            contact: CONTACT,
            key: "key",
            request_id: "request",
            payload: b"",
            now_ms: 0,
            lease_ms: 0,
            window_ms: 0,
            keep_ms: 0,
        };
        for acceptance in [
            Acceptance { payload: &payload, ..fitting },
            Acceptance { key: &long, ..fitting },
            Acceptance { request_id: &long, ..fitting },
        ] {
            let refused = store.accept_utterance(&acceptance).await;
            assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
        }
    }
}
