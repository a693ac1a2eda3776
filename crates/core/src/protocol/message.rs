//! Our answers on an audio socket: `CXoneWebSocketMessage` (contract §1.5).
//!
//! The bytes are exact and written by hand in the documented order of the fields. Reading, which only the simulator
//! does, takes the forms that a .NET server would write as well.

use serde_json::Value;

use super::ParseError;
use super::fields::Fields;
use crate::error::Fault;
use crate::secret::Private;

/// The answer to a good init message, byte for byte: nothing is built on the way of a call.
pub const CONNECTED: &str = r#"{"command":"CONNECTED","messageType":"COMMAND","message":"BEGIN AUDIO STREAM"}"#;

const MESSAGE_TYPE: &str = "COMMAND";
const BEGIN: &str = "BEGIN AUDIO STREAM";

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Named by the documents, without a meaning.
    Connect,
    /// The init message and its token are good.
    Connected,
    /// Something to say.
    Message,
    /// The init message or its token is bad; the close follows.
    Error,
}

impl Command {
    /// Every command, in the order of CXone's enumeration.
    pub const ALL: [Self; 4] = [Self::Connect, Self::Connected, Self::Message, Self::Error];

    /// The word on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Connected => "CONNECTED",
            Self::Message => "MESSAGE",
            Self::Error => "ERROR",
        }
    }

    /// Reads the word in any case, or its place in the enumeration (0 to 3) as a number or text: .NET writes
    /// enumerations as numbers unless told not to.
    fn read(value: &Value) -> Option<Self> {
        let place = match value {
            Value::Number(number) => number.as_u64()?,
            Value::String(text) => {
                let text = text.trim();
                let named = Self::ALL.into_iter().find(|command| command.word().eq_ignore_ascii_case(text));
                return named.or_else(|| Self::at(text.parse().ok()?));
            }
            _ => return None,
        };
        Self::at(place)
    }

    fn at(place: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(place).ok()?).copied()
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub command: Command,
    /// The type of message: `COMMAND` in all that we send.
    pub message_type: String,
    /// A text for those who run the peer. What people say never goes here, so it may be printed.
    pub message: String,
    /// Anything else; written only when there is some.
    pub parameters: Option<Private<Value>>,
}

impl Message {
    /// The answer to a good init message. The same bytes as [`CONNECTED`].
    #[must_use]
    pub fn connected() -> Self {
        Self::command(Command::Connected, BEGIN)
    }

    /// The answer to a bad init message: names the fault, and nothing that may not be shown to anybody.
    #[must_use]
    pub fn error(fault: &Fault) -> Self {
        Self::command(Command::Error, &fault.public)
    }

    fn command(command: Command, message: &str) -> Self {
        Self { command, message_type: MESSAGE_TYPE.to_owned(), message: message.to_owned(), parameters: None }
    }

    /// Reads a message: names in any case, absent texts as empty, unknown fields ignored.
    ///
    /// # Errors
    /// When it is not a JSON object, `command` is none of the known ones, or a text is not text.
    pub fn parse(frame: &[u8]) -> Result<Self, ParseError> {
        Self::from_fields(Fields::read(frame)?)
    }

    fn from_fields(mut fields: Fields) -> Result<Self, ParseError> {
        let command = fields.raw("command").as_ref().and_then(Command::read);
        let Some(command) = command else {
            return Err(fields.error("command", "must be CONNECT, CONNECTED, MESSAGE or ERROR"));
        };
        Ok(Self {
            command,
            message_type: text_or_empty(&mut fields, "messageType")?,
            message: text_or_empty(&mut fields, "message")?,
            parameters: fields.any("parameters").map(Private::new),
        })
    }

    /// The frame to send.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = format!(
            r#"{{"command":"{}","messageType":{},"message":{}"#,
            self.command.word(),
            quoted(&self.message_type),
            quoted(&self.message)
        );
        if let Some(parameters) = &self.parameters {
            json.push_str(r#","parameters":"#);
            json.push_str(&parameters.reveal().to_string());
        }
        json.push('}');
        json
    }
}

fn text_or_empty(fields: &mut Fields, name: &'static str) -> Result<String, ParseError> {
    match fields.any(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(fields.error(name, "must be text")),
    }
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::error::Kind;
    use crate::protocol::generators;

    #[test]
    fn connected_is_exactly_the_documented_bytes() {
        let expected = b"{\"command\":\"CONNECTED\",\"messageType\":\"COMMAND\",\"message\":\"BEGIN AUDIO STREAM\"}";
        assert_eq!(CONNECTED.as_bytes(), expected);
        assert_eq!(Message::connected().to_json(), CONNECTED);
        assert_eq!(Message::parse(CONNECTED.as_bytes()).unwrap(), Message::connected());
    }

    #[test]
    fn an_error_says_the_public_text_and_nothing_else() {
        let fault = Fault::new(Kind::BadInput, "`executionInfo.busNo` is \"missing\"");
        assert_eq!(
            Message::error(&fault).to_json(),
            r#"{"command":"ERROR","messageType":"COMMAND","message":"`executionInfo.busNo` is \"missing\""}"#
        );
    }

    #[test]
    fn parameters_come_last_and_only_when_there_are_some() {
        let message = Message { parameters: Some(Private::new(json!({"a": 1}))), ..Message::connected() };
        assert_eq!(
            message.to_json(),
            r#"{"command":"CONNECTED","messageType":"COMMAND","message":"BEGIN AUDIO STREAM","parameters":{"a":1}}"#
        );
    }

    #[test]
    fn commands_are_read_as_words_in_any_case_and_as_places_in_the_enumeration() {
        for (value, expected) in [
            (json!("CONNECT"), Some(Command::Connect)),
            (json!("connected"), Some(Command::Connected)),
            (json!(" Message "), Some(Command::Message)),
            (json!("Error"), Some(Command::Error)),
            (json!(0), Some(Command::Connect)),
            (json!(1), Some(Command::Connected)),
            (json!("2"), Some(Command::Message)),
            (json!(3), Some(Command::Error)),
            (json!(4), None),
            (json!(-1), None),
            (json!(u64::MAX), None),
            (json!("HELLO"), None),
            (json!(null), None),
            (json!(["CONNECTED"]), None),
        ] {
            let parsed = Message::parse(json!({ "Command": value }).to_string().as_bytes());
            assert_eq!(parsed.ok().map(|message| message.command), expected, "{value}");
        }
    }

    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        for (message, expected) in [
            (json!({}), "`command` must be CONNECT, CONNECTED, MESSAGE or ERROR"),
            (json!({"command": "ERROR", "message": 5}), "`message` must be text"),
            (json!({"command": "ERROR", "messageType": []}), "`messageType` must be text"),
            (json!([]), "the message must be a JSON object"),
        ] {
            assert_eq!(Message::parse(message.to_string().as_bytes()).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(frame in any::<Vec<u8>>()) {
            let _ = Message::parse(&frame);
        }

        #[test]
        fn no_json_panics(value in generators::json()) {
            let _ = Message::parse(value.to_string().as_bytes());
        }

        #[test]
        fn whatever_is_written_is_read_as_it_was(
            command in prop::sample::select(Command::ALL.to_vec()),
            message_type in generators::text(),
            message in generators::text(),
            parameters in prop::option::of(generators::some_json()),
        ) {
            let message = Message { command, message_type, message, parameters };
            prop_assert_eq!(Message::parse(message.to_json().as_bytes()).unwrap(), message);
        }
    }
}
