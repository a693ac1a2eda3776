//! The body of a text hook call: one thing that somebody typed (contract §2).

use serde_json::{Map, Value};

use super::fields::{Fields, ObjectWriter};
use super::{Params, ParseError};
use crate::contact::ContactKey;
use crate::secret::{Private, Secret};

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Participant {
    /// The contact.
    Patron,
    /// The agent.
    Agent,
    /// CXone itself.
    System,
}

impl Participant {
    /// Every participant.
    pub const ALL: [Self; 3] = [Self::Patron, Self::Agent, Self::System];

    /// The word on the wire, and the metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Patron => "patron",
            Self::Agent => "agent",
            Self::System => "system",
        }
    }

    fn read(value: &Value) -> Option<Self> {
        let text = value.as_str()?.trim();
        Self::ALL.into_iter().find(|participant| participant.label().eq_ignore_ascii_case(text))
    }
}

/// One thing that somebody typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Utterance {
    /// The header configured in the Agent Assist Hub, if it comes in the body: without blanks and a leading `Bearer`.
    pub authorization_header: Option<Secret>,
    /// `busNo` and `contactId`.
    pub contact: ContactKey,
    /// Not needed, as CXone says.
    pub tenant_id: Option<String>,
    /// Who said it.
    pub participant: Participant,
    /// What was said; empty only where `message_data` says it.
    pub message_body: Private<String>,
    /// Links, images and the like: `messageData`, or `messageMetaData` where that is absent.
    pub message_data: Option<Private<Value>>,
    /// The configuration of the app, or only its identifier.
    pub app_config: Params,
    /// Fields that no document names, and known ones of an unexpected type, under the names they came with.
    pub unknown: Private<Map<String, Value>>,
}

impl Utterance {
    /// Reads the body: UTF-8 JSON, with or without a byte order mark.
    ///
    /// # Errors
    /// When it is not a JSON object, or `contactId`, `busNo`, `participantId` or `messageBody` is missing or not what it
    /// must be. The error names the field and holds nothing of the body.
    pub fn parse(body: &[u8]) -> Result<Self, ParseError> {
        Self::from_fields(Fields::read(body)?)
    }

    /// Reads a body that was read as JSON already.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_value(body: Value) -> Result<Self, ParseError> {
        Self::from_fields(Fields::of(body)?)
    }

    fn from_fields(mut fields: Fields) -> Result<Self, ParseError> {
        let contact_id = fields.required_id("contactId")?;
        let bus_no = fields.required_id("busNo")?;
        let participant = read_participant(&mut fields)?;
        let message_data = read_data(&mut fields);
        let message_body = read_body(&mut fields, message_data.is_some())?;
        Ok(Self {
            authorization_header: fields.token("authorizationHeader"),
            contact: ContactKey { bus_no, contact_id },
            tenant_id: fields.text("tenantId"),
            participant,
            message_body: Private::new(message_body),
            message_data: message_data.map(Private::new),
            app_config: fields.params("agentAssistAppConfig"),
            unknown: fields.into_unknown(),
        })
    }

    /// How many fields were kept as unknown.
    #[must_use]
    pub fn unknown_fields(&self) -> u64 {
        u64::try_from(self.unknown.reveal().len()).unwrap_or(u64::MAX)
    }

    /// The body under its documented names, to send: **the token and the words are in it**.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut body = ObjectWriter::new(&self.unknown);
        body.put("authorizationHeader", self.authorization_header.as_ref().map(Secret::reveal));
        body.put("contactId", Some(self.contact.contact_id));
        body.put("busNo", Some(self.contact.bus_no));
        body.put("tenantId", self.tenant_id.as_deref());
        body.put("participantId", Some(self.participant.label()));
        body.put("messageBody", Some(self.message_body.reveal().as_str()));
        body.put("messageData", self.message_data.as_ref().map(|data| data.reveal().clone()));
        body.put("messageMetaData", None::<Value>);
        body.put("agentAssistAppConfig", self.app_config.to_field());
        body.finish()
    }

    /// The body to send: **the token and the words are in it**. What [`Self::parse`] makes of it equals this utterance.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }
}

fn read_participant(fields: &mut Fields) -> Result<Participant, ParseError> {
    match fields.any("participantId") {
        None => Err(fields.error("participantId", "is missing")),
        Some(value) => Participant::read(&value)
            .ok_or_else(|| fields.error("participantId", "must be `patron`, `agent` or `system`")),
    }
}

/// The documents name this field twice and differently. Should both come, neither is lost.
fn read_data(fields: &mut Fields) -> Option<Value> {
    let data = fields.any("messageData");
    let meta_data = fields.any("messageMetaData");
    match (data, meta_data) {
        (Some(data), Some(meta_data)) => {
            fields.leave("messageMetaData", meta_data);
            Some(data)
        }
        (data, meta_data) => data.or(meta_data),
    }
}

fn read_body(fields: &mut Fields, has_data: bool) -> Result<String, ParseError> {
    match fields.any("messageBody") {
        Some(Value::String(text)) if has_data || !text.is_empty() => Ok(text),
        None if has_data => Ok(String::new()),
        Some(Value::String(_)) => Err(fields.error("messageBody", "must not be empty without `messageData`")),
        None => Err(fields.error("messageBody", "is missing")),
        Some(_) => Err(fields.error("messageBody", "must be text")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::protocol::generators;

    fn parse(value: &Value) -> Result<Utterance, ParseError> {
        Utterance::parse(value.to_string().as_bytes())
    }

    /// A good body with one field set to a value.
    fn with(name: &str, value: Value) -> Value {
        let mut body = json!({"contactId": 1, "busNo": 2, "participantId": "patron", "messageBody": "hello"});
        body[name] = value;
        body
    }

    #[test]
    fn a_body_with_every_documented_field_is_read_and_written() {
        let body = json!({
            "authorizationHeader": "abc",
            "contactId": 466_000_000_001_u64,
            "busNo": 4_595_000,
            "tenantId": "t-1",
            "participantId": "agent",
            "messageBody": "How may I help?",
            "messageData": {"links": ["https://example.com"]},
            "agentAssistAppConfig": {"id": 7},
        });
        let read = parse(&body).unwrap();
        assert_eq!(read.authorization_header, Some(Secret::new("abc")));
        assert_eq!(read.contact, ContactKey { bus_no: 4_595_000, contact_id: 466_000_000_001 });
        assert_eq!(read.participant, Participant::Agent);
        assert_eq!(read.message_body.reveal(), "How may I help?");
        assert_eq!(read.unknown_fields(), 0);
        assert_eq!(read.to_value(), body);
    }

    #[test]
    fn participants_are_read_in_any_case() {
        for (text, expected) in [
            ("patron", Participant::Patron),
            ("Patron", Participant::Patron),
            ("AGENT", Participant::Agent),
            (" system ", Participant::System),
        ] {
            assert_eq!(parse(&with("participantId", json!(text))).unwrap().participant, expected);
        }
    }

    #[test]
    fn data_is_read_under_either_name_and_never_lost() {
        let read = parse(&with("messageMetaData", json!({"image": 1}))).unwrap();
        assert_eq!(read.to_value()["messageData"], json!({"image": 1}));

        let mut both = with("messageData", json!("first"));
        both["MessageMetaData"] = json!("second");
        let read = parse(&both).unwrap();
        assert_eq!(read.message_data, Some(Private::new(json!("first"))));
        assert_eq!(read.unknown.reveal()["messageMetaData"], json!("second"));
        assert_eq!(parse(&read.to_value()).unwrap(), read);
    }

    #[test]
    fn the_configuration_may_be_an_object_or_only_its_identifier() {
        for (form, expected) in [
            (json!({"a": 1}), json!({"a": 1})),
            (json!("{\"a\":1}"), json!({"a": 1})),
            (json!("cfg-0042"), json!("cfg-0042")),
            (json!("0042"), json!("0042")),
            (json!(42), json!(42)),
        ] {
            assert_eq!(parse(&with("agentAssistAppConfig", form)).unwrap().app_config.to_value(), expected);
        }
    }

    #[test]
    fn an_utterance_without_words_needs_data() {
        for words in [json!(""), json!(null)] {
            let mut body = with("messageBody", words.clone());
            assert_eq!(parse(&body).unwrap_err().field, "messageBody", "{words}");
            body["messageData"] = json!({"image": "1.png"});
            assert_eq!(parse(&body).unwrap().message_body.reveal(), "");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_quoted() {
        for (name, value, expected) in [
            ("contactId", json!("hunter2"), "`contactId` must be a whole number of at most 64 bits"),
            ("busNo", json!(-1), "`busNo` must be a whole number of at most 64 bits"),
            ("busNo", json!(null), "`busNo` is missing"),
            ("participantId", json!("hunter2"), "`participantId` must be `patron`, `agent` or `system`"),
            ("participantId", json!(1), "`participantId` must be `patron`, `agent` or `system`"),
            ("participantId", json!(null), "`participantId` is missing"),
            ("messageBody", json!(""), "`messageBody` must not be empty without `messageData`"),
            ("messageBody", json!(["hunter2"]), "`messageBody` must be text"),
            ("messageBody", json!(null), "`messageBody` is missing"),
        ] {
            assert_eq!(parse(&with(name, value)).unwrap_err().to_string(), expected);
        }
        assert_eq!(parse(&json!([])).unwrap_err().to_string(), "the message must be a JSON object");
    }

    #[test]
    fn unknown_fields_and_unexpected_types_are_kept_and_counted() {
        let mut body = with("tenantId", json!(5));
        body["channel"] = json!("chat");
        let read = parse(&body).unwrap();
        assert_eq!((read.tenant_id.as_deref(), read.unknown_fields()), (None, 2));
        assert_eq!(read.to_value(), body);
    }

    #[test]
    fn debug_prints_no_token_and_no_word() {
        let mut body = with("messageBody", json!("hunter2"));
        for name in ["authorizationHeader", "messageData", "messageMetaData", "agentAssistAppConfig", "x"] {
            body[name] = json!("hunter2");
        }
        let printed = format!("{:?}", parse(&body).unwrap());
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    fn utterance() -> impl Strategy<Value = Utterance> {
        (
            generators::token(),
            generators::contact(),
            prop::option::of(generators::text()),
            prop::sample::select(Participant::ALL.to_vec()),
            generators::text(),
            prop::option::of(generators::some_json()),
            generators::params(),
            generators::unknown(),
        )
            .prop_map(|(token, contact, tenant_id, participant, body, message_data, app_config, unknown)| {
                let body = if body.is_empty() && message_data.is_none() { "hello".to_owned() } else { body };
                Utterance {
                    authorization_header: token,
                    contact,
                    tenant_id,
                    participant,
                    message_body: Private::new(body),
                    message_data,
                    app_config,
                    unknown,
                }
            })
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in any::<Vec<u8>>()) {
            let _ = Utterance::parse(&body);
        }

        #[test]
        fn no_json_panics(value in generators::json()) {
            let _ = Utterance::from_value(value);
        }

        #[test]
        fn whatever_was_read_is_read_again_from_what_is_written(body in generators::utterance_form()) {
            let read = Utterance::from_value(body).unwrap();
            prop_assert_eq!(Utterance::parse(read.to_json().as_bytes()).unwrap(), read);
        }

        #[test]
        fn whatever_is_made_here_is_read_as_it_was_made(utterance in utterance()) {
            prop_assert_eq!(Utterance::parse(utterance.to_json().as_bytes()).unwrap(), utterance);
        }
    }
}
