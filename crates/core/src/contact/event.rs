//! What happens to a contact, as told to whoever watches: the demo's live timeline, later a page that listens.
//!
//! Events are for people and pages; nothing in the way of a call waits for one to be read.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::facts::CloseReason;
use super::{ContactKey, StreamId};
use crate::protocol::perspective::Perspective;
use crate::secret::Private;

/// Pages that are told what happens to one contact, by whichever program tells them.
pub const LISTENERS_MAX: usize = 100;

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
    /// The Studio script told what happens on the platform.
    Script(ScriptEvent),
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

/// What the Studio script of a contact tells us (contract §4): known, where it would otherwise be guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptEvent {
    /// What happened.
    pub kind: ScriptEventKind,
    /// The agent that has the contact, if the script said so.
    pub agent_id: Option<String>,
}

/// The kinds of [`ScriptEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScriptEventKind {
    /// An agent has the contact.
    Start,
    /// The contact is on hold.
    Hold,
    /// The hold is over.
    Resume,
    /// The contact is over.
    End,
}

impl ScriptEventKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Start, Self::Hold, Self::Resume, Self::End];

    /// The word on the wire, and the metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Hold => "hold",
            Self::Resume => "resume",
            Self::End => "end",
        }
    }

    /// Reads the word, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label().eq_ignore_ascii_case(word.trim()))
    }
}

impl ContactEvent {
    /// The form in which pages get it: `{"type", "busNo", "contactId", "atUs", …}`. **What the assist app said is in
    /// it**; nothing else that anybody said.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut event = match &self.what {
            What::StreamOpened { stream, perspective, generation } => json!({
                "type": "streamOpened", "stream": stream, "perspective": perspective.label(), "generation": generation,
            }),
            What::Silent { perspective } => json!({ "type": "silent", "perspective": perspective.label() }),
            What::Audible { perspective, silent_ms } => {
                json!({ "type": "audible", "perspective": perspective.label(), "silentMs": silent_ms })
            }
            What::StreamClosed { stream, perspective, reason, samples } => json!({
                "type": "streamClosed", "stream": stream, "perspective": perspective.label(),
                "reason": reason.label(), "samples": samples,
            }),
            What::OnHold => json!({ "type": "onHold" }),
            What::Resumed => json!({ "type": "resumed" }),
            What::App(event) => json!({ "type": "app", "kind": event.kind, "body": event.body.reveal() }),
            What::Script(event) => json!({ "type": "script", "event": event.kind.label(), "agentId": event.agent_id }),
            What::Finished { samples } => json!({ "type": "finished", "samples": samples }),
        };
        event["busNo"] = self.contact.bus_no.into();
        event["contactId"] = self.contact.contact_id.into();
        event["atUs"] = self.at_us.into();
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_script_is_read_in_any_case_and_no_other() {
        for kind in ScriptEventKind::ALL {
            assert_eq!(ScriptEventKind::parse(&format!(" {} ", kind.label().to_uppercase())), Some(kind));
        }
        assert_eq!(ScriptEventKind::parse("stop"), None);
    }

    #[test]
    fn a_page_gets_the_contact_the_time_and_what_happened() {
        let contact = ContactKey { bus_no: 4, contact_id: 7 };
        let what = What::Script(ScriptEvent { kind: ScriptEventKind::Hold, agent_id: Some("12".into()) });
        let event = ContactEvent { contact, at_us: 5, what };
        assert_eq!(
            event.to_json(),
            json!({"type": "script", "event": "hold", "agentId": "12", "busNo": 4, "contactId": 7, "atUs": 5})
        );
    }
}
