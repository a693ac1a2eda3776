//! A handshake takes a perspective of a contact, in one conditional write.
//!
//! The newest handshake wins. CXone may shake hands again while an old socket still lingers, on another task and in
//! any order: a handshake that is not newer than the current stream's is refused, so that a late old socket never
//! takes a stream back, and of handshakes in the same microsecond exactly one wins.

use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::error::Kind;
use earpiece_core::protocol::perspective::Perspective;

use crate::attribute::{n, s, seconds};
use crate::client::Store;
use crate::contact::{ContactRecord, ContactState, StreamRecord};
use crate::error::StoreError;
use crate::item::{self, Slot, Stored};
use crate::key::contact_shard;
use crate::table;
use crate::write::{Change, Outcome};

/// A handshake that wants a perspective.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Which contact.
    pub contact: ContactKey,
    /// Whose voice.
    pub perspective: &'a Perspective,
    /// Which socket. A claim may be repeated with the same id: it is then answered as the first time.
    pub stream: StreamId,
    /// When the handshake came, in microseconds since the Unix epoch.
    pub opened_at_us: i64,
    /// Which task holds the socket.
    pub task: &'a str,
    /// The time, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How long the stream may go without a checkpoint before its task counts as dead, in milliseconds. It is kept
    /// with the stream: whoever looks at the contact goes by it, and not by what holds for its own streams.
    pub stale_after_ms: u64,
}

/// A claim that won.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The generation of the perspective that this stream is.
    pub generation: u64,
    /// The contact right after the claim.
    pub record: ContactRecord,
    /// Whether the contact was over, or being finished, and lives again through this claim.
    pub reopened: bool,
}

/// A claim that did not win.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// A handshake that is as new or newer holds the perspective.
    #[error("generation {} holds the perspective", current.generation)]
    Superseded {
        /// The stream that holds it.
        current: StreamRecord,
    },
    /// The store did not do it. After [`StoreError::Timeout`] it may have been done: repeat the claim.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ClaimError {
    /// The fault's kind, for metrics and answers.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Superseded { .. } => Kind::Superseded,
            Self::Store(error) => error.kind(),
        }
    }
}

impl Store {
    /// Takes a perspective for a stream: creates the contact, continues it, or brings it back when it was over. In the
    /// last case an end that was requested or begun no longer counts. A hold is over in each case.
    ///
    /// Generations go on counting even over a contact that had expired but was not deleted yet.
    ///
    /// # Errors
    /// [`ClaimError::Superseded`] when the handshake is not newer than the current stream's; [`ClaimError::Store`]
    /// when the table did not do it.
    pub async fn claim(&self, claim: &Claim<'_>) -> Result<Claimed, ClaimError> {
        let slot = Slot::of(claim.perspective);
        match self.change(&claim.contact, change_for(claim, slot)).await? {
            Outcome::Applied(stored) => claimed(stored, slot).ok_or_else(|| damaged(slot).into()),
            Outcome::Refused(stored) => match stored {
                Some(stored) => refused(stored, slot, claim.stream),
                // The condition holds for every absent item.
                None => Err(StoreError::Contended.into()),
            },
        }
    }
}

fn change_for(claim: &Claim<'_>, slot: Slot) -> Change {
    let of = |field| slot.attribute(field);
    let (stream, opened) = (of("stream"), of("opened_at_us"));
    let newest_wins = format!(
        "attribute_not_exists({stream}) OR {expires} <= :now_s OR ({opened} < :opened AND {stream} <> :me)",
        expires = table::EXPIRES_AT_S,
    );
    reopen(Change::new())
        .only_if(newest_wins)
        .set(item::OPENED_AT_US, &format!("if_not_exists({}, :opened)", item::OPENED_AT_US))
        .set(table::DUE_SHARD, ":shard")
        .set(table::DUE_AT_MS, ":stale_at")
        .set(of("claimed_over"), &format!("if_not_exists({}, :live)", item::STATE))
        .set(&stream, ":me")
        .set(of("generation"), &format!("if_not_exists({}, :zero) + :one", of("generation")))
        .set(&opened, ":opened")
        .set(of("task"), ":task")
        .set(of("open"), ":true")
        .set(of("samples"), ":zero")
        .set(of("seen_at_ms"), ":now")
        .set(of("stale_after_ms"), ":stale_after")
        .remove(of("close_reason"))
        .remove(item::END_REQUESTED_AT_MS)
        .remove(item::HOLD_SINCE_MS)
        .remove(item::HOLD_UNTIL_MS)
        .value(":me", s(claim.stream.to_string()))
        .value(":opened", n(claim.opened_at_us))
        .value(":task", s(claim.task))
        .value(":shard", s(contact_shard(&claim.contact)))
        .value(":stale_at", n(claim.now_ms.saturating_add_unsigned(claim.stale_after_ms)))
        .value(":stale_after", n(claim.stale_after_ms))
        .value(":now", n(claim.now_ms))
        .value(":now_s", n(seconds(claim.now_ms)))
        .value(":zero", n(0))
        .value(":true", aws_sdk_dynamodb::types::AttributeValue::Bool(true))
}

/// Makes a contact live, whatever it was: what an end, a finisher and a time to live left behind goes away.
/// Uses the value `:live`.
pub(crate) fn reopen(change: Change) -> Change {
    [
        item::FINISHER_TASK,
        item::FINISHER_LEASE_UNTIL_MS,
        item::FINISHED_BY,
        item::ENDED_AT_MS,
        item::END_REASON,
        table::EXPIRES_AT_S,
    ]
    .into_iter()
    .fold(change, Change::remove)
    .set(item::STATE, ":live")
    .value(":live", s(ContactState::Live.label()))
}

fn claimed(stored: Stored, slot: Slot) -> Option<Claimed> {
    let generation = stored.record.streams.get(slot.label)?.generation;
    let reopened = stored.was_reopened_by(slot);
    Some(Claimed { generation, record: stored.record, reopened })
}

/// A refusal by a stream of our own id is our own success: the request was sent twice, and the first one arrived.
fn refused(stored: Stored, slot: Slot, me: StreamId) -> Result<Claimed, ClaimError> {
    match stored.record.streams.get(slot.label) {
        Some(current) if current.stream != me => Err(ClaimError::Superseded { current: current.clone() }),
        _ => claimed(stored, slot).ok_or_else(|| damaged(slot).into()),
    }
}

fn damaged(slot: Slot) -> StoreError {
    StoreError::Damaged { attribute: slot.attribute("stream") }
}
