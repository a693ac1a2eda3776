//! What happens to a contact, as told to whoever watches: the demo's live timeline, later a page that listens.
//!
//! Events are for people and pages; nothing in the way of a call waits for one to be read.

use serde::Serialize;
use serde_json::Value;

use super::facts::CloseReason;
use super::{ContactKey, StreamId};
use crate::protocol::perspective::Perspective;
use crate::secret::Private;

/// Something that happened to a contact.
#[derive(Debug, Clone)]
pub struct ContactEvent {
    /// Which contact.
    pub contact: ContactKey,
    /// When, in microseconds since the Unix epoch.
    pub at_us: i64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum What {
    /// A socket was answered `CONNECTED`.
    StreamOpened {
        /// Which socket.
        stream: StreamId,
        /// Whose voice.
        perspective: Perspective,
        /// Its generation; absent when the store was slow.
        generation: Option<u64>,
    },
    /// A stream fell silent for longer than the threshold: hold by silence.
    Silent {
        /// Whose voice.
        perspective: Perspective,
    },
    /// Audio came again after silence.
    Audible {
        /// Whose voice.
        perspective: Perspective,
        /// For how long nothing came, in milliseconds.
        silent_ms: u64,
    },
    /// A socket ended.
    StreamClosed {
        /// Which socket.
        stream: StreamId,
        /// Whose voice.
        perspective: Perspective,
        /// Why.
        reason: CloseReason,
        /// Samples received on it.
        samples: u64,
    },
    /// Every stream is closed: the contact is on hold, or over.
    OnHold,
    /// A first stream came after a hold.
    Resumed,
    /// The assist app said something.
    App(AppEvent),
    /// The contact is over, and its recording and ledger are written.
    Finished {
        /// Length of the recording in samples.
        samples: u64,
    },
}

/// A JSON text frame from the assist app.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppEvent {
    /// The stream whose voice socket it came on.
    pub stream: StreamId,
    /// When it came, in microseconds since the Unix epoch.
    pub at_us: i64,
    /// The frame's `type`, or `unknown`.
    pub kind: String,
    /// The whole frame.
    pub body: Private<Value>,
}
