//! What makes two utterances the same one (contract §2 names no id, so this is ours to say).

use earpiece_core::protocol::Utterance;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The field under which some callers send an id of their own.
const REQUEST_ID: &str = "requestId";

/// The name of an utterance within its contact: 64 hexadecimal digits.
///
/// An `Idempotency-Key` names it alone. Without one, it is who said what, and the caller's own id of the request where
/// it sends one: so saying "yes" twice within the window is two utterances to a caller that tells them apart.
pub(crate) fn dedupe_key(utterance: &Utterance, idempotency_key: Option<&str>) -> String {
    let mut parts = Parts(Sha256::new());
    parts.add(&utterance.contact.bus_no.to_be_bytes());
    parts.add(&utterance.contact.contact_id.to_be_bytes());
    if let Some(key) = idempotency_key {
        parts.add(b"key");
        parts.add(key.as_bytes());
        return parts.hex();
    }
    parts.add(b"words");
    parts.add(utterance.participant.label().as_bytes());
    parts.add(utterance.message_body.reveal().as_bytes());
    parts.add_json(utterance.message_data.as_ref().map(earpiece_core::secret::Private::reveal));
    let unknown = utterance.unknown.reveal();
    parts.add_json(unknown.iter().find(|(name, _)| name.eq_ignore_ascii_case(REQUEST_ID)).map(|(_, id)| id));
    parts.hex()
}

/// Digests parts so that no two lists of parts run into the same bytes.
struct Parts(Sha256);

impl Parts {
    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn add_json(&mut self, value: Option<&Value>) {
        match value {
            Some(value) => self.add(value.to_string().as_bytes()),
            None => self.add(b""),
        }
    }

    fn hex(self) -> String {
        self.0.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            hex.push(char::from_digit((byte >> 4).into(), 16).unwrap_or('0'));
            hex.push(char::from_digit((byte & 15).into(), 16).unwrap_or('0'));
            hex
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(changes: &[(&str, Value)], idempotency_key: Option<&str>) -> String {
        let mut body = json!({"contactId": 1, "busNo": 2, "participantId": "patron", "messageBody": "hello"});
        for (name, value) in changes {
            body[*name] = value.clone();
        }
        dedupe_key(&Utterance::from_value(body).unwrap(), idempotency_key)
    }

    #[test]
    fn the_same_words_of_the_same_person_are_the_same_utterance_however_they_are_written() {
        let plain = key(&[], None);
        assert_eq!(plain.len(), 64);
        assert_eq!(key(&[("contactId", json!("1")), ("participantId", json!("PATRON"))], None), plain);
        assert_eq!(key(&[("tenantId", json!("t")), ("authorizationHeader", json!("new token"))], None), plain);
    }

    #[test]
    fn anything_that_was_said_otherwise_makes_another() {
        let keys = [
            key(&[], None),
            key(&[("contactId", json!(2))], None),
            key(&[("busNo", json!(1))], None),
            key(&[("participantId", json!("agent"))], None),
            key(&[("messageBody", json!("hello "))], None),
            key(&[("messageData", json!({"a": 1}))], None),
            key(&[("messageData", json!("hello")), ("messageBody", json!(""))], None),
            key(&[("requestId", json!(1))], None),
            key(&[("RequestID", json!(2))], None),
            key(&[], Some("a")),
            key(&[], Some("b")),
            key(&[("contactId", json!(2))], Some("a")),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn an_idempotency_key_names_the_utterance_alone() {
        assert_eq!(key(&[], Some("a")), key(&[("messageBody", json!("other words"))], Some("a")));
    }
}
