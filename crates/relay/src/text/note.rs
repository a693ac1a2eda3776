//! One utterance, as it is posted to the assist app, and as it is kept until it has arrived: both are the same JSON.

use earpiece_core::contact::ContactKey;
use earpiece_core::protocol::Params;
use earpiece_core::protocol::utterance::{Participant, Utterance};
use earpiece_core::secret::Private;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Version of the note. It changes only when a reader of the old one would go wrong.
const VERSION: u32 = 1;

/// One utterance for the assist app. Its words print as their size.
#[derive(Debug, Clone, PartialEq)]
pub struct UtteranceNote {
    /// Which contact.
    pub contact: ContactKey,
    /// Ours, and the same in every attempt: the `Idempotency-Key`.
    pub request_id: String,
    /// Who said it.
    pub participant: Participant,
    /// What was said; empty only where `data` says it.
    pub text: Private<String>,
    /// Links, images and the like.
    pub data: Option<Private<Value>>,
    /// What is configured in the Agent Assist Hub, or only its identifier.
    pub app_config: Params,
    /// Fields that no document names, as they came.
    pub unknown: Private<Map<String, Value>>,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub received_at_ms: i64,
    /// Which delivery this is, from 1.
    pub attempt: u32,
}

/// What was kept is no note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what was kept of an utterance cannot be read")]
pub struct UnreadableNote;

/// The JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    r#type: String,
    version: u32,
    contact: ContactKey,
    request_id: String,
    participant: String,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(default)]
    app_config: Value,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    unknown: Map<String, Value>,
    received_at_ms: i64,
    attempt: u32,
}

impl UtteranceNote {
    /// The first note of an utterance that was just accepted under `request_id`. CXone's token stays behind.
    #[must_use]
    pub fn new(utterance: &Utterance, request_id: impl Into<String>, received_at_ms: i64) -> Self {
        Self {
            contact: utterance.contact,
            request_id: request_id.into(),
            participant: utterance.participant,
            text: utterance.message_body.clone(),
            data: utterance.message_data.clone(),
            app_config: utterance.app_config.clone(),
            unknown: utterance.unknown.clone(),
            received_at_ms,
            attempt: 1,
        }
    }

    /// The JSON to post and to keep: **the words are in it**.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        let wire = Wire {
            r#type: "utterance".into(),
            version: VERSION,
            contact: self.contact,
            request_id: self.request_id.clone(),
            participant: self.participant.label().into(),
            text: self.text.reveal().clone(),
            data: self.data.as_ref().map(|data| data.reveal().clone()),
            app_config: self.app_config.to_value(),
            unknown: self.unknown.reveal().clone(),
            received_at_ms: self.received_at_ms,
            attempt: self.attempt,
        };
        // Maps with text as keys and numbers that are none too large: there is nothing that could not be written.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// Reads what [`Self::to_payload`] wrote, and ignores what it does not know.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn from_payload(payload: &[u8]) -> Result<Self, UnreadableNote> {
        let wire: Wire = serde_json::from_slice(payload).map_err(|_| UnreadableNote)?;
        let participant = Participant::ALL.into_iter().find(|participant| participant.label() == wire.participant);
        Ok(Self {
            contact: wire.contact,
            request_id: wire.request_id,
            participant: participant.ok_or(UnreadableNote)?,
            text: Private::new(wire.text),
            data: wire.data.map(Private::new),
            app_config: Params::read(wire.app_config),
            unknown: Private::new(wire.unknown),
            received_at_ms: wire.received_at_ms,
            attempt: wire.attempt,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn utterance(body: &Value) -> Utterance {
        Utterance::parse(body.to_string().as_bytes()).unwrap()
    }

    fn body() -> Value {
        json!({
            "authorizationHeader": "hunter2", "contactId": 466_000_000_001_u64, "busNo": 4_595_000, "tenantId": "t",
            "participantId": "PATRON", "messageBody": "where is my order", "messageMetaData": { "links": ["a"] },
            "agentAssistAppConfig": "{\"id\": 7}", "channel": "chat",
        })
    }

    fn posted(note: &UtteranceNote) -> Value {
        serde_json::from_slice(&note.to_payload()).unwrap()
    }

    #[test]
    fn what_is_posted_is_what_the_document_says_and_holds_no_token() {
        let note = UtteranceNote::new(&utterance(&body()), "r-1", 1_700_000_000_000);
        let expected = json!({
            "type": "utterance", "version": 1, "contact": { "busNo": 4_595_000, "contactId": 466_000_000_001_u64 },
            "requestId": "r-1", "participant": "patron", "text": "where is my order", "data": { "links": ["a"] },
            "appConfig": { "id": 7 }, "unknown": { "channel": "chat" }, "receivedAtMs": 1_700_000_000_000_i64,
            "attempt": 1,
        });
        assert_eq!(posted(&note), expected);
    }

    #[test]
    fn what_was_not_said_is_left_out() {
        let body = json!({ "contactId": 1, "busNo": 2, "participantId": "agent", "messageBody": "hi" });
        let posted = posted(&UtteranceNote::new(&utterance(&body), "r", 5));
        assert!(posted.get("data").is_none() && posted.get("unknown").is_none());
        assert_eq!(posted["appConfig"], Value::Null);
    }

    #[test]
    fn a_note_prints_no_word() {
        let printed = format!("{:?}", UtteranceNote::new(&utterance(&body()), "r-1", 5));
        for private in ["order", "links", "hunter2", "chat"] {
            assert!(!printed.contains(private), "{printed}");
        }
    }

    #[test]
    fn what_is_no_note_is_not_read_as_one() {
        for payload in ["", "null", "{}", "[1]", r#"{"type":"utterance","version":1}"#] {
            assert_eq!(UtteranceNote::from_payload(payload.as_bytes()), Err(UnreadableNote), "{payload}");
        }
        let mut stranger = posted(&UtteranceNote::new(&utterance(&body()), "r", 5));
        stranger["participant"] = "robot".into();
        assert_eq!(UtteranceNote::from_payload(stranger.to_string().as_bytes()), Err(UnreadableNote));
    }

    proptest! {
        #[test]
        fn what_was_kept_is_posted_again_unchanged(
            text in ".+", config in prop::option::of(".*"), link in prop::option::of(".*"), extra in ".*", attempt: u32,
        ) {
            let mut body = json!({ "contactId": 1, "busNo": 2, "participantId": "system", "messageBody": text, "x": extra });
            if let Some(config) = config {
                body["agentAssistAppConfig"] = config.into();
            }
            if let Some(link) = link {
                body["messageData"] = json!([link]);
            }
            let mut note = UtteranceNote::new(&utterance(&body), "r", 5);
            note.attempt = attempt;
            let again = UtteranceNote::from_payload(&note.to_payload()).unwrap();
            prop_assert_eq!(again.text.reveal(), &text);
            prop_assert_eq!(again.to_payload(), note.to_payload());
        }
    }
}
