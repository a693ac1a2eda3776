//! What has to leave for CXone: the entries that steps of interactions write ([`Store::step_interaction`]).
//!
//! An entry is put, closed and buried by such steps alone. Between them its sender works on it without the document:
//! it claims the entry under the fencing token of its lease, sends it, and settles it by a step, or puts it off. An
//! entry without a dead letter's mark has no time to live, however long nothing can be sent.

use std::collections::HashSet;
use std::sync::Arc;

use aws_sdk_dynamodb::types::{Delete, TransactWriteItem};
use earpiece_core::assist::outbox::Dead;
use earpiece_core::assist::{Context, Entry, Interaction, InteractionId, Lane};
use tokio::sync::Notify;

use crate::attribute::{
    Item, WRITER, is_expired, is_text, n, new_writer, number, optional, required, s, seconds, text,
};
use crate::client::Store;
use crate::error::StoreError;
use crate::interaction::json;
use crate::key::{
    Key, OUTBOX_PREFIX, buried_shard, buried_shard_name, interaction_of, lane_shard, lane_shard_name,
    partition_of_interaction, seq_of,
};
use crate::read::{Query, or_logged};
use crate::table::{DUE_AT_MS, DUE_SHARD, DUE_SHARDS, EXPIRES_AT_S, PARTITION_KEY, SORT_KEY};
use crate::transaction::unbuilt;
use crate::write::{Change, Outcome};

/// How large what an entry sends may be as JSON, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// How many entries are read at once at most, as each brings its payload along.
pub const ENTRIES_READ_MAX: usize = 100;
/// How many interactions with due entries are read at once at most.
pub const DUE_READ_MAX: usize = 1000;

const PAYLOAD: &str = "entry_payload";
const CREATED_AT_MS: &str = "created_at_ms";
const LEAVES_UNTIL_MS: &str = "leaves_until_ms";
const ATTEMPTS: &str = "attempts";
const SENDER: &str = "sender_token";
const DEAD_REASON: &str = "dead_reason";
/// All that is asked of the index to know who has something due, and since when.
const DUE_ATTRIBUTES: &str = "pk, due_at_ms";

impl Store {
    /// Tells when this process has put something into the outbox: whoever works a lane need not wait for its next look
    /// then. Who waits already is woken; make `notified()` before you look, so that nothing is missed in between.
    #[must_use]
    pub fn outbox_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.outbox_changed)
    }

    /// At most `limit` interactions (and at most [`DUE_READ_MAX`]) with entries that are due in a lane, the longest
    /// overdue first, each once. They are read from an index that may lag behind by moments: [`Store::claim_entry`] has
    /// the last word.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn due_interactions(
        &self,
        lane: Lane,
        now_ms: i64,
        limit: usize,
    ) -> Result<Vec<InteractionId>, StoreError> {
        let limit = limit.min(DUE_READ_MAX);
        let mut seen = HashSet::new();
        let mut due = Vec::new();
        // Each shard may hold all of the longest overdue.
        for shard in 0..DUE_SHARDS {
            let query = Query::due(&lane_shard_name(lane, shard), Some(now_ms)).only(DUE_ATTRIBUTES);
            let unseen = |item: &Item| {
                let (due_at_ms, id) = or_logged(item, read_due(item))?;
                seen.insert(id.clone()).then_some((due_at_ms, id))
            };
            due.extend(self.query(&query, limit, unseen).await?);
        }
        due.sort();
        due.truncate(limit);
        Ok(due.into_iter().map(|(_, id)| id).collect())
    }

    /// When the entry of a lane is due that is due first, in milliseconds since the Unix epoch; none when the lane is
    /// empty. It is read from an index that may lag behind by moments.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn oldest_due_ms(&self, lane: Lane) -> Result<Option<i64>, StoreError> {
        let mut oldest = None;
        for shard in 0..DUE_SHARDS {
            let query = Query::due(&lane_shard_name(lane, shard), None).only(DUE_ATTRIBUTES);
            let due = self.query(&query, 1, |item| or_logged(item, required(item, DUE_AT_MS, number::<i64>))).await?;
            oldest = oldest.into_iter().chain(due).min();
        }
        Ok(oldest)
    }

    /// The entries of an interaction that wait to leave in a lane, by number, at most [`ENTRIES_READ_MAX`], including
    /// every write that was answered before. Whether they are due yet does not matter; dead letters are not among them.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn outbox(&self, id: &InteractionId, lane: Lane, now_ms: i64) -> Result<Vec<Entry>, StoreError> {
        let query = Query::prefix(&partition_of_interaction(id), OUTBOX_PREFIX);
        let shard = lane_shard(lane, id);
        let of_lane = |item: &Item| {
            let waits = is_text(item, DUE_SHARD, &shard) && !is_expired(item, seconds(now_ms));
            if waits { or_logged(item, read(item)) } else { None }
        };
        self.query(&query, ENTRIES_READ_MAX, of_lane).await
    }

    /// Claims an entry for sending it, under the fencing `token` of the lease on its lane, and counts the attempt: it
    /// is due again after `lease_ms`. False when there is nothing to send: it was closed or buried, a later token has
    /// claimed it, or the same token has and the entry is not due again. An earlier token's claim is no obstacle.
    ///
    /// # Errors
    /// When the table did not do it. It may be claimed then, and is due again after `lease_ms`.
    pub async fn claim_entry(&self, entry: &Entry, token: u64, now_ms: i64, lease_ms: u64) -> Result<bool, StoreError> {
        let claimer = new_writer();
        let is_next = format!("attribute_not_exists({SENDER}) OR {SENDER} < :token");
        let change = waiting()
            .only_if(format!("{is_next} OR ({SENDER} = :token AND {DUE_AT_MS} <= :now)"))
            .set(SENDER, ":token")
            .set(DUE_AT_MS, ":lease_until")
            .set(ATTEMPTS, &format!("{ATTEMPTS} + :one"))
            .set(WRITER, ":claimer")
            .value(":token", n(token))
            .value(":now", n(now_ms))
            .value(":lease_until", n(now_ms.saturating_add_unsigned(lease_ms)))
            .value(":claimer", s(claimer.clone()));
        let key = Key::entry(&entry.interaction, entry.seq);
        Ok(match self.change_shared_item(&key, change.quietly()).await? {
            Outcome::Applied(_) => true,
            // The request was sent twice, and the first one arrived.
            Outcome::Refused(standing) => standing.is_some_and(|standing| is_text(&standing, WRITER, &claimer)),
        })
    }

    /// Ends the claim of an entry that was not sent after all: it is due again at `due_ms`. Nothing changes when it was
    /// closed or buried, or when another token has claimed it since.
    ///
    /// # Errors
    /// When the table did not do it. It is then due when the claim runs out.
    pub async fn put_off_entry(&self, entry: &Entry, token: u64, due_ms: i64) -> Result<(), StoreError> {
        let change = waiting()
            .only_if(format!("{SENDER} = :token"))
            .set(DUE_AT_MS, ":due")
            .value(":token", n(token))
            .value(":due", n(due_ms));
        self.change_shared_item(&Key::entry(&entry.interaction, entry.seq), change.quietly()).await?;
        Ok(())
    }

    /// As [`Store::put_off_entry`], and the claim does not count as an attempt: nobody was asked to take the entry.
    ///
    /// # Errors
    /// When the table did not do it. It is then due when the claim runs out, and the claim has counted.
    pub async fn put_off_entry_uncounted(&self, entry: &Entry, token: u64, due_ms: i64) -> Result<(), StoreError> {
        let change = waiting()
            .only_if(format!("{SENDER} = :token"))
            .only_if(format!("{ATTEMPTS} > :zero"))
            .set(DUE_AT_MS, ":due")
            .set(ATTEMPTS, &format!("{ATTEMPTS} - :one"))
            .value(":token", n(token))
            .value(":zero", n(0))
            .value(":due", n(due_ms));
        self.change_shared_item(&Key::entry(&entry.interaction, entry.seq), change.quietly()).await?;
        Ok(())
    }

    /// At most `limit` dead letters (and at most [`ENTRIES_READ_MAX`]), those that were buried first first. They are
    /// read from an index that may lag behind by moments, and no clock is asked: one whose time is over is among them
    /// until it is deleted, and can no longer be brought back.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn dead_entries(&self, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let limit = limit.min(ENTRIES_READ_MAX);
        let mut dead = Vec::new();
        // Each shard may hold all of the oldest; no more payloads than needed are held at once.
        for shard in 0..DUE_SHARDS {
            let query = Query::due(&buried_shard_name(shard), None);
            dead.extend(self.query(&query, limit, |item| or_logged(item, read(item))).await?);
            dead.sort_by(|one: &Entry, other| {
                (one.due_ms, &one.interaction, one.seq).cmp(&(other.due_ms, &other.interaction, other.seq))
            });
            dead.truncate(limit);
        }
        Ok(dead)
    }

    /// Has a dead letter tried again, as a new entry that is due at once. False when there is none, or when the rules
    /// do not let it leave any more.
    ///
    /// # Errors
    /// As [`Store::step_interaction`].
    pub async fn revive_entry(&self, id: &InteractionId, seq: u64, now_ms: i64) -> Result<bool, StoreError> {
        let Some(entry) = self.entry(id, seq, now_ms).await?.filter(|entry| entry.dead.is_some()) else {
            return Ok(false);
        };
        let step = |interaction: &mut Interaction| {
            let effects = interaction.revived(&Context { id, now_ms }, &entry);
            (!effects.is_empty(), effects)
        };
        let revived = self.step_with(id, now_ms, None, Some(&entry), step).await?;
        Ok(revived.unwrap_or(false))
    }

    /// Drops an entry, a dead letter or not. False when there is none.
    ///
    /// # Errors
    /// As [`Store::step_interaction`].
    pub async fn drop_entry(&self, id: &InteractionId, seq: u64, now_ms: i64) -> Result<bool, StoreError> {
        let Some(entry) = self.entry(id, seq, now_ms).await? else { return Ok(false) };
        let letter = entry.dead.is_some().then_some(&entry);
        let step = |interaction: &mut Interaction| {
            let effects = interaction.dropped(&Context { id, now_ms }, &entry);
            (!effects.is_empty(), effects)
        };
        let dropped = self.step_with(id, now_ms, None, letter, step).await?;
        Ok(dropped.unwrap_or(false))
    }

    async fn entry(&self, id: &InteractionId, seq: u64, now_ms: i64) -> Result<Option<Entry>, StoreError> {
        let item = self.item(&Key::entry(id, seq)).await?;
        item.filter(|item| !is_expired(item, seconds(now_ms))).as_ref().map(read).transpose()
    }
}

/// A new entry as an item, without its key, and its size in bytes. One that is a dead letter from the start expires.
pub(crate) fn put(entry: &Entry, expires_at_s: i64) -> Result<(Item, usize), StoreError> {
    let payload = json("the payload of an outbox entry", &entry.payload, PAYLOAD_BYTES_MAX)?;
    let bytes = payload.len();
    let mut item = Item::from([
        (PAYLOAD.to_owned(), s(payload)),
        (CREATED_AT_MS.to_owned(), n(entry.created_ms)),
        (ATTEMPTS.to_owned(), n(entry.attempts)),
    ]);
    if let Some(expires_ms) = entry.expires_ms {
        item.insert(LEAVES_UNTIL_MS.to_owned(), n(expires_ms));
    }
    if let Some(token) = entry.sender {
        item.insert(SENDER.to_owned(), n(token));
    }
    let (shard, due_at_ms) = match &entry.dead {
        None => (lane_shard(entry.payload.lane(), &entry.interaction), entry.due_ms),
        Some(dead) => {
            item.insert(DEAD_REASON.to_owned(), s(dead.reason.as_str()));
            item.insert(EXPIRES_AT_S.to_owned(), n(expires_at_s));
            (buried_shard(&entry.interaction), dead.at_ms)
        }
    };
    item.extend([(DUE_SHARD.to_owned(), s(shard)), (DUE_AT_MS.to_owned(), n(due_at_ms))]);
    Ok((item, bytes))
}

/// An entry becomes a dead letter.
pub(crate) fn burying(id: &InteractionId, reason: &str, now_ms: i64, expires_at_s: i64) -> Change {
    waiting()
        .set(DEAD_REASON, ":reason")
        .set(DUE_SHARD, ":shard")
        .set(DUE_AT_MS, ":now")
        .set(EXPIRES_AT_S, ":expires")
        .value(":reason", s(reason))
        .value(":shard", s(buried_shard(id)))
        .value(":now", n(now_ms))
        .value(":expires", n(expires_at_s))
        .quietly()
}

/// An entry is over. Whoever closed it before wrote the document with it, so the document's condition is enough; but
/// the document remembers only so many dead letters, and those it forgot have to speak for themselves.
pub(crate) fn closing(
    id: &InteractionId,
    seq: u64,
    letter: Option<&Entry>,
    table: &str,
) -> Result<TransactWriteItem, StoreError> {
    let mut delete = Delete::builder().table_name(table).set_key(Some(Key::entry(id, seq).to_item()));
    if let Some(letter) = letter {
        delete = delete
            .condition_expression(format!("attribute_exists({DEAD_REASON}) AND {DUE_AT_MS} = :buried"))
            .expression_attribute_values(":buried", n(letter.due_ms));
    }
    let delete = delete.build().map_err(|error| unbuilt(&error))?;
    Ok(TransactWriteItem::builder().delete(delete).build())
}

/// A change to an entry that is there, and no dead letter.
fn waiting() -> Change {
    Change::new().only_if(format!("attribute_exists({PAYLOAD}) AND attribute_not_exists({DEAD_REASON})"))
}

fn read_due(item: &Item) -> Result<(i64, InteractionId), StoreError> {
    Ok((required(item, DUE_AT_MS, number)?, required(item, PARTITION_KEY, interaction_of)?))
}

/// A dead letter was last due when it was buried.
fn read(item: &Item) -> Result<Entry, StoreError> {
    let due_ms = required(item, DUE_AT_MS, number)?;
    let reason = optional(item, DEAD_REASON, text)?;
    Ok(Entry {
        interaction: required(item, PARTITION_KEY, interaction_of)?,
        seq: required(item, SORT_KEY, seq_of)?,
        payload: serde_json::from_str(&required(item, PAYLOAD, text)?)
            .map_err(|_| StoreError::Damaged { attribute: PAYLOAD.to_owned() })?,
        created_ms: required(item, CREATED_AT_MS, number)?,
        expires_ms: optional(item, LEAVES_UNTIL_MS, number)?,
        due_ms,
        attempts: required(item, ATTEMPTS, number)?,
        sender: optional(item, SENDER, number)?,
        dead: reason.map(|reason| Dead { reason, at_ms: due_ms }),
    })
}
