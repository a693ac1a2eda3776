//! The init message as CXone's media server sends it, and the variants that its documents and clients show
//! (contract §1.2, §1.3).

use bytes::Bytes;
use earpiece_core::contact::ContactKey;
use earpiece_core::secret::Secret;
use serde_json::{Map, Value, json};

/// What an init message looks like. The default is the message as documented.
#[derive(Clone)]
pub struct InitShape {
    /// `appParams`: what the Studio script hands over.
    pub app_params: Params,
    /// `appConfig`: what is configured in Agent Assist Hub.
    pub app_config: Params,
    /// How numbers that name things are written.
    pub ids: Ids,
    /// Whether `systemTelemetryData` is sent.
    pub telemetry: bool,
    /// Further top-level fields that no document names.
    pub extra: Map<String, Value>,
    /// Sent instead of everything above, byte for byte, as the text frame.
    pub raw: Option<Bytes>,
}

impl Default for InitShape {
    fn default() -> Self {
        Self {
            app_params: Params::Object(json!({ "customerName": "A. Caller", "queue": "support" })),
            app_config: Params::Object(json!({ "language": "en-US" })),
            ids: Ids::Number,
            telemetry: true,
            extra: Map::new(),
            raw: None,
        }
    }
}

/// The forms in which `appParams` and `appConfig` are seen.
#[derive(Clone)]
pub enum Params {
    /// The value itself, normally an object.
    Object(Value),
    /// The value as JSON text.
    JsonText(Value),
    /// The value as JSON text inside JSON text.
    JsonInJson(Value),
    /// The value as indented JSON text with CR LF line ends, and CR LF unescaped inside each of its strings, as a
    /// Studio script's `asJSON()` leaves them.
    CrLfText(Value),
    /// Text that is no JSON.
    Plain(String),
    /// `null`.
    Null,
    /// No such field.
    Absent,
}

impl Params {
    fn to_field(&self) -> Option<Value> {
        match self {
            Self::Object(value) => Some(value.clone()),
            Self::JsonText(value) => Some(Value::String(value.to_string())),
            Self::JsonInJson(value) => Some(Value::String(Value::String(value.to_string()).to_string())),
            Self::CrLfText(value) => Some(Value::String(with_line_ends(value))),
            Self::Plain(text) => Some(Value::String(text.clone())),
            Self::Null => Some(Value::Null),
            Self::Absent => None,
        }
    }
}

/// Indented JSON with CR LF as line ends; escaped line ends inside strings become real ones.
fn with_line_ends(value: &Value) -> String {
    let indented = serde_json::to_string_pretty(value).unwrap_or_default();
    indented.replace('\n', "\r\n").replace("\\r\\n", "\r\n").replace("\\n", "\r\n")
}

/// How ids are written (contract §1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ids {
    /// As JSON numbers.
    #[default]
    Number,
    /// As text.
    Text,
}

impl Ids {
    fn write(self, id: u64) -> Value {
        match self {
            Self::Number => json!(id),
            Self::Text => json!(id.to_string()),
        }
    }
}

impl InitShape {
    /// The text frame. A token is part of it only if one is given.
    pub(crate) fn message(&self, contact: ContactKey, token: Option<&Secret>, perspective: &Value) -> Bytes {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut fields = Map::new();
        if let Some(token) = token {
            fields.insert("authenticationToken".into(), json!(token.reveal()));
        }
        fields.insert("executionInfo".into(), self.execution_info(contact));
        if self.telemetry {
            fields.insert("systemTelemetryData".into(), telemetry(contact));
        }
        fields.insert("streamPerspective".into(), perspective.clone());
        fields.insert("streamsConfiguration".into(), Value::Null);
        fields.extend(self.app_params.to_field().map(|value| ("appParams".to_owned(), value)));
        fields.extend(self.app_config.to_field().map(|value| ("appConfig".to_owned(), value)));
        fields.extend(self.extra.clone());
        Value::Object(fields).to_string().into()
    }

    fn execution_info(&self, contact: ContactKey) -> Value {
        json!({
            "contactId": self.ids.write(contact.contact_id),
            "busNo": self.ids.write(contact.bus_no),
            // The same for every leg and every re-handshake of a contact, as the script runs once.
            "requestId": self.ids.write(contact.contact_id % 1_000_000 + 7_000_000),
            "actionType": "AGENTASSIST",
            "actionId": self.ids.write(12),
            "scriptName": "Simulator\\VoiceAssist",
        })
    }
}

fn telemetry(contact: ContactKey) -> Value {
    json!({
        "consumerProcessHost": "SIM-MEDIA01",
        "consumerProcessName": "earpiece-simulator",
        "consumerProcessVersion": env!("CARGO_PKG_VERSION"),
        "inContactClusterAlias": "SIM",
        "inContactScriptEngineHost": "SIM-VC01",
        "consumerMetaData": { "masterContactId": contact.contact_id.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: ContactKey = ContactKey { bus_no: 4_594_567, contact_id: u64::MAX };

    fn parsed(shape: &InitShape) -> Value {
        serde_json::from_slice(&shape.message(CONTACT, Some(&Secret::new("t0")), &json!(["TX"]))).unwrap()
    }

    #[test]
    fn the_documented_message_has_every_documented_field() {
        let message = parsed(&InitShape::default());
        assert_eq!(message["authenticationToken"], "t0");
        assert_eq!(message["streamPerspective"], json!(["TX"]));
        assert_eq!(message["executionInfo"]["contactId"], json!(u64::MAX));
        assert_eq!(message["executionInfo"]["busNo"], json!(4_594_567));
        for field in ["requestId", "actionType", "actionId", "scriptName"] {
            assert!(!message["executionInfo"][field].is_null(), "{field}");
        }
        for field in [
            "consumerProcessHost",
            "consumerProcessName",
            "consumerProcessVersion",
            "inContactClusterAlias",
            "inContactScriptEngineHost",
            "consumerMetaData",
        ] {
            assert!(!message["systemTelemetryData"][field].is_null(), "{field}");
        }
        assert!(message["streamsConfiguration"].is_null());
    }

    #[test]
    fn params_come_in_every_form() {
        let value = json!({ "a": "first\nsecond" });
        let form = |params: Params| parsed(&InitShape { app_params: params, ..InitShape::default() });
        assert_eq!(form(Params::Object(value.clone()))["appParams"], value);
        let text = form(Params::JsonText(value.clone()))["appParams"].as_str().unwrap().to_owned();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        let twice = form(Params::JsonInJson(value.clone()))["appParams"].as_str().unwrap().to_owned();
        assert_eq!(serde_json::from_str::<String>(&twice).unwrap(), text);
        assert_eq!(form(Params::CrLfText(value))["appParams"], "{\r\n  \"a\": \"first\r\nsecond\"\r\n}");
        assert_eq!(form(Params::Plain("k=v".into()))["appParams"], "k=v");
        assert_eq!(form(Params::Null).as_object().unwrap()["appParams"], Value::Null);
        assert!(!form(Params::Absent).as_object().unwrap().contains_key("appParams"));
    }

    #[test]
    fn ids_may_be_text_fields_may_be_added_and_bytes_replaced() {
        let mut shape = InitShape { ids: Ids::Text, ..InitShape::default() };
        shape.extra.insert("newField".into(), json!(1));
        let message = parsed(&shape);
        assert_eq!(message["executionInfo"]["contactId"], u64::MAX.to_string());
        assert_eq!(message["newField"], 1);
        shape.raw = Some(Bytes::from_static(b"{"));
        assert_eq!(shape.message(CONTACT, None, &json!("RX")), &b"{"[..]);
    }
}
