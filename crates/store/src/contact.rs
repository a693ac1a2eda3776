//! What the table knows about a contact. How it is spread over attributes is the business of `item`.

use std::collections::BTreeMap;

use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::state::EndReason;
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use serde::Serialize;

/// A contact, with the current stream of each of its perspectives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContactRecord {
    /// Which contact.
    pub contact: ContactKey,
    /// Whether it lives.
    pub state: ContactState,
    /// When its first handshake came, in microseconds since the Unix epoch.
    pub opened_at_us: i64,
    /// The newest stream of each perspective, by [`Perspective::label`].
    pub streams: BTreeMap<String, StreamRecord>,
    /// Whether a contact event said that it is over.
    pub end_requested: bool,
    /// Who is writing its recording and ledger; present while it is [`ContactState::Ending`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finisher: Option<Finisher>,
    /// When somebody has to look at it again, in milliseconds since the Unix epoch; absent once it is finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at_ms: Option<i64>,
    /// When it was found to be over, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<i64>,
    /// Why it was found to be over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// The hold that the Studio script told of; absent when it told of none, or of its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// When the Studio script last said something of the contact, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script_at_ms: Option<i64>,
}

impl ContactRecord {
    /// The current stream of a perspective.
    #[must_use]
    pub fn stream(&self, perspective: &Perspective) -> Option<&StreamRecord> {
        self.streams.get(perspective.label())
    }
}

/// The stream that holds a perspective.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamRecord {
    /// Which socket.
    pub stream: StreamId,
    /// How many handshakes have taken the perspective, this one included: 1, 2, …
    pub generation: u64,
    /// When its handshake came, in microseconds since the Unix epoch.
    pub opened_at_us: i64,
    /// Which task holds the socket.
    pub task: String,
    /// Whether it still streams, as far as is known.
    pub open: bool,
    /// Samples received, as of `seen_at_ms`.
    pub samples: u64,
    /// When its task last wrote about it, in milliseconds since the Unix epoch.
    pub seen_at_ms: i64,
    /// For how long after that it counts as alive, in milliseconds, as its own task said. Tasks of several kinds share
    /// contacts, and not all of them write equally often. Absent in what was written before tasks said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_after_ms: Option<u64>,
    /// How it ended; absent while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_reason: Option<CloseReason>,
}

/// A hold that is known and not guessed: nobody is to take its silence for the end of the contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// From when on it counts no more, though nobody told of its end, in milliseconds since the Unix epoch.
    pub until_ms: i64,
}

/// Who finishes a contact, and for how long nobody else may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finisher {
    /// Which task.
    pub task: String,
    /// From when on another task may take over, in milliseconds since the Unix epoch.
    pub lease_until_ms: i64,
}

/// Whether a contact lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactState {
    /// It streams, or it is on hold.
    Live,
    /// It is over, and a task is writing its recording and ledger. Every stream is closed.
    Ending,
    /// It is over and written. Every stream is closed.
    Ended,
}

impl ContactState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Live, Self::Ending, Self::Ended];

    /// The word in the table.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ending => "ending",
            Self::Ended => "ended",
        }
    }
}
