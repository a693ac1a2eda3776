//! The holder of a perspective says that it lives (a checkpoint, at most once a minute) or that it ended.
//!
//! Both are conditional on still being the current stream. Both also bring a contact back that was ended *over* a
//! living stream: a task that could not reach the store for a while counts as dead, and its streams as
//! [`CloseReason::TaskLost`]; when it comes back, it has audio that the finisher did not see, so the contact has to
//! be finished again.

use aws_sdk_dynamodb::types::AttributeValue;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::error::Kind;
use earpiece_core::protocol::perspective::Perspective;

use crate::attribute::{is_unexpired, n, s, seconds};
use crate::claim::reopen;
use crate::client::Store;
use crate::contact::StreamRecord;
use crate::error::StoreError;
use crate::item::{self, Slot, Stored};
use crate::key::contact_shard;
use crate::table;
use crate::write::{Change, Outcome};

/// How often a write is tried whose form depends on whether other perspectives stream. Each further attempt needs one
/// of them to have opened or closed since the last, so two nearly always suffice.
pub(crate) const FORMS_TRIED_MAX: usize = 6;

/// A sign of life.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint<'a> {
    /// Which contact.
    pub contact: ContactKey,
    /// Whose voice.
    pub perspective: &'a Perspective,
    /// Which socket.
    pub stream: StreamId,
    /// Samples received so far.
    pub samples: u64,
    /// The time, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How long it may be until the next checkpoint before the task counts as dead, in milliseconds. Replaces what the
    /// claim said.
    pub stale_after_ms: u64,
}

/// The end of a stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamEnd<'a> {
    /// Which contact.
    pub contact: ContactKey,
    /// Whose voice.
    pub perspective: &'a Perspective,
    /// Which socket.
    pub stream: StreamId,
    /// Samples received in all.
    pub samples: u64,
    /// Why it ended.
    pub reason: CloseReason,
    /// The time, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How long the contact waits for another handshake after its last stream, in milliseconds.
    pub quiet_ms: u64,
}

/// A stream that no longer has anything to say in its contact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A newer handshake holds the perspective. For a stream that ends anyway this is no fault.
    #[error("generation {} holds the perspective", current.generation)]
    Superseded {
        /// The stream that holds it.
        current: StreamRecord,
    },
    /// The contact is not known (any more), never knew this stream, or (for a checkpoint) knows that it ended.
    #[error("the contact does not know this stream as open")]
    Gone,
    /// The store did not do it. After [`StoreError::Timeout`] it may have been done: repeating it does no harm.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StreamError {
    /// The fault's kind, for metrics and answers.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Superseded { .. } => Kind::Superseded,
            Self::Gone => Kind::NotFound,
            Self::Store(error) => error.kind(),
        }
    }
}

impl Store {
    /// Says that a stream lives, and puts off the moment at which its task counts as dead.
    ///
    /// # Errors
    /// [`StreamError::Superseded`] and [`StreamError::Gone`] when the stream is not current or not open any more;
    /// [`StreamError::Store`] when the table did not do it.
    pub async fn checkpoint(&self, checkpoint: &Checkpoint<'_>) -> Result<(), StreamError> {
        let &Checkpoint { contact, perspective, stream, samples, now_ms, stale_after_ms } = checkpoint;
        let slot = Slot::of(perspective);
        let change = seen(Change::new(), slot, stream, samples, now_ms)
            .set(slot.attribute("open"), ":true")
            .remove(slot.attribute("close_reason"))
            .set(table::DUE_SHARD, ":shard")
            .set(table::DUE_AT_MS, ":stale_at")
            .value(":shard", s(contact_shard(&contact)))
            .set(slot.attribute("stale_after_ms"), ":stale_after")
            .value(":stale_after", n(stale_after_ms))
            .value(":stale_at", n(now_ms.saturating_add_unsigned(stale_after_ms)));
        match self.change(&contact, change).await? {
            Outcome::Applied(_) => Ok(()),
            Outcome::Refused(stored) => {
                current(stored.as_ref(), slot, stream, now_ms)?;
                Err(StreamError::Gone)
            }
        }
    }

    /// Ends a stream. Ending it twice is ending it once.
    ///
    /// When no other perspective streams, the contact is due after the quiet period, or at once if its end was
    /// requested; while another streams, its due time stays. Which of the two it is, is part of the condition, so when
    /// two perspectives end in the same instant, one of them sees the other closed.
    ///
    /// # Errors
    /// [`StreamError::Superseded`] and [`StreamError::Gone`] when the stream is not current, which leaves nothing to
    /// end; [`StreamError::Store`] when the table did not do it.
    pub async fn end_stream(&self, end: &StreamEnd<'_>) -> Result<(), StreamError> {
        let slot = Slot::of(end.perspective);
        for form in 0..FORMS_TRIED_MAX {
            let change = if form % 2 == 0 { last_ends(end, slot) } else { one_of_several_ends(end, slot) };
            let Outcome::Refused(stored) = self.change(&end.contact, change).await? else { return Ok(()) };
            let mine = current(stored.as_ref(), slot, end.stream, end.now_ms)?;
            let ended_before = !mine.open && mine.close_reason != Some(CloseReason::TaskLost);
            if ended_before {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }
}

/// No other perspective streams: the contact falls quiet. The requested end lies in the past, so it is due at once.
fn last_ends(end: &StreamEnd<'_>, slot: Slot) -> Change {
    let due_at = format!("if_not_exists({}, :quiet_at)", item::END_REQUESTED_AT_MS);
    closed(end, slot)
        .only_if(slot.others_closed())
        .set(table::DUE_SHARD, ":shard")
        .set(table::DUE_AT_MS, &due_at)
        .value(":shard", s(contact_shard(&end.contact)))
        .value(":quiet_at", n(end.now_ms.saturating_add_unsigned(end.quiet_ms)))
}

/// Another perspective streams: the contact stays due when that one's task would count as dead.
fn one_of_several_ends(end: &StreamEnd<'_>, slot: Slot) -> Change {
    closed(end, slot).only_if(slot.some_other_open())
}

fn closed(end: &StreamEnd<'_>, slot: Slot) -> Change {
    seen(Change::new(), slot, end.stream, end.samples, end.now_ms)
        .set(slot.attribute("open"), ":false")
        .set(slot.attribute("close_reason"), ":reason")
        .value(":false", AttributeValue::Bool(false))
        .value(":reason", s(end.reason.label()))
}

/// A write of the current stream about itself. A stream that closed by itself stays closed: its late or repeated
/// checkpoint does not bring it back.
fn seen(change: Change, slot: Slot, stream: StreamId, samples: u64, now_ms: i64) -> Change {
    let of = |field| slot.attribute(field);
    reopen(change)
        .only_if(format!("{} = :me", of("stream")))
        .only_if(format!("{} = :true OR {} = :task_lost", of("open"), of("close_reason")))
        .only_if(is_unexpired())
        .set(of("samples"), ":samples")
        .set(of("seen_at_ms"), ":now")
        .value(":me", s(stream.to_string()))
        .value(":true", AttributeValue::Bool(true))
        .value(":task_lost", s(CloseReason::TaskLost.label()))
        .value(":samples", n(samples))
        .value(":now", n(now_ms))
        .value(":now_s", n(seconds(now_ms)))
}

/// The stream's own record, if it still holds its perspective.
fn current(stored: Option<&Stored>, slot: Slot, me: StreamId, now_ms: i64) -> Result<&StreamRecord, StreamError> {
    let stored = stored.filter(|stored| !stored.is_expired(now_ms)).ok_or(StreamError::Gone)?;
    let current = stored.record.streams.get(slot.label).ok_or(StreamError::Gone)?;
    if current.stream == me { Ok(current) } else { Err(StreamError::Superseded { current: current.clone() }) }
}
