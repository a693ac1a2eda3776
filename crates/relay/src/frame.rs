//! The JSON text frames of `docs/assist-app.md`: what Earpiece says, and how what the app says is read. Audio travels as
//! binary frames without a header and needs no code here.

use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::{ContactKey, SAMPLE_RATE_HZ, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use serde::Serialize;
use serde_json::Value;

/// Version of the protocol, told in `start`. It changes only when a reader of the old one would go wrong.
const VERSION: u32 = 1;

/// The kind of an event whose `type` is missing or is no short plain word.
const KIND_UNKNOWN: &str = "unknown";

/// Longest `type` that becomes an event's kind, in bytes.
const KIND_BYTES_MAX: usize = 64;

/// A frame to the app.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Say<'a> {
    Start(Hello<'a>),
    Gap { position: u64, samples: u64, reason: GapReason, clock: u64 },
    Stop { position: u64, reason: CloseReason },
}

/// Why positions or time jump.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GapReason {
    Silence,
    Lost,
}

/// Content of `start`. Its `Debug` must not be reached: it holds the script's parameters.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hello<'a> {
    version: u32,
    contact: ContactKey,
    stream_id: StreamId,
    perspective: &'a Perspective,
    generation: Option<u64>,
    encoding: &'static str,
    rate: u32,
    channels: u32,
    position: u64,
    clock: u64,
    app_params: &'a Value,
    app_config: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<&'a Value>,
}

impl std::fmt::Debug for Hello<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello").field("contact", &self.contact).field("stream", &self.stream_id).finish_non_exhaustive()
    }
}

impl<'a> Say<'a> {
    /// `start`, for a connection that begins at a position.
    pub(crate) const fn start(start: &'a crate::Start, generation: Option<u64>, position: u64, clock: u64) -> Self {
        Self::Start(Hello {
            version: VERSION,
            contact: start.contact,
            stream_id: start.stream,
            perspective: &start.perspective,
            generation,
            encoding: "audio/x-mulaw",
            rate: SAMPLE_RATE_HZ,
            channels: 1,
            position,
            clock,
            app_params: &start.app_params,
            app_config: &start.app_config,
            unknown: start.unknown.as_ref(),
        })
    }
}

/// A text frame from the app, understood as far as the relay has to.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// The app has everything before this position.
    Ack(u64),
    /// Something for whoever watches the contact.
    Event { kind: String, body: Value },
    /// Nothing we can use.
    Nonsense,
}

/// Reads a text frame. Never fails: an app that says something odd keeps its audio.
pub(crate) fn read(text: &str) -> Heard {
    let Ok(body @ Value::Object(_)) = serde_json::from_str::<Value>(text) else {
        return Heard::Nonsense;
    };
    let kind = body.get("type").and_then(Value::as_str).filter(|kind| is_plain_word(kind)).unwrap_or(KIND_UNKNOWN);
    if kind == "ack" {
        return body.get("position").and_then(Value::as_u64).map_or(Heard::Nonsense, Heard::Ack);
    }
    Heard::Event { kind: kind.to_owned(), body }
}

/// Kinds are printed and counted, so they must not be a place for what people said.
fn is_plain_word(kind: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/');
    !kind.is_empty() && kind.len() <= KIND_BYTES_MAX && kind.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn gaps_and_stops_are_exactly_as_documented() {
        let gap = Say::Gap { position: 800, samples: 160, reason: GapReason::Lost, clock: 900 };
        assert_eq!(
            serde_json::to_string(&gap).unwrap(),
            r#"{"type":"gap","position":800,"samples":160,"reason":"lost","clock":900}"#
        );
        let stop = Say::Stop { position: 960, reason: CloseReason::PeerClosed };
        assert_eq!(serde_json::to_string(&stop).unwrap(), r#"{"type":"stop","position":960,"reason":"peer_closed"}"#);
    }

    #[test]
    fn every_object_is_an_event_but_an_acknowledgement() {
        let event = |text: &str, kind: &str| {
            let body = serde_json::from_str(text).unwrap();
            assert_eq!(read(text), Heard::Event { kind: kind.to_owned(), body }, "{text}");
        };
        event(r#"{"type":"transcript","text":"hello","final":true}"#, "transcript");
        event(r#"{"type":"suggestion"}"#, "suggestion");
        event(r#"{"type":"com.example/card:v2"}"#, "com.example/card:v2");
        event("{}", "unknown");
        event(r#"{"type":7}"#, "unknown");
        event(r#"{"type":"my card number is 4111"}"#, "unknown");
        assert_eq!(read(r#"{"type":"ack","position":8000}"#), Heard::Ack(8000));
        let long = json!({ "type": "x".repeat(KIND_BYTES_MAX + 1) });
        assert_eq!(read(&long.to_string()), Heard::Event { kind: "unknown".to_owned(), body: long });
    }

    #[test]
    fn what_is_no_object_or_acknowledges_nothing_is_nonsense() {
        for text in [
            "",
            "hello",
            "7",
            "null",
            "[]",
            r#""ack""#,
            r#"{"type":"ack"}"#,
            r#"{"type":"ack","position":-1}"#,
            "{\"a\"",
        ] {
            assert_eq!(read(text), Heard::Nonsense, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = read(&text);
        }
    }
}
