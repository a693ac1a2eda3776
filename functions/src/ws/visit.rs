//! An event of API Gateway as the handlers need it: who, when, and with what.

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use earpiece_access::Grant;
use earpiece_core::contact::connection::PIECE_SAMPLES_MAX;
use earpiece_core::error::{Fault, Kind};
use earpiece_core::secret::Secret;
use serde_json::Value;

use super::limits::ID_BYTES_MAX;
use crate::auth::grant_of;
use crate::clock::wall_ms;

/// With padding or without: both are in use.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Query parameters in which a client that cannot set headers (a browser) gives its token.
const TOKEN_PARAMETERS: [&str; 3] = ["token", "access_token", "authenticationToken"];

/// .NET's UTF-8 encoder writes this in front of a text unless told not to.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Who came, and when.
#[derive(Debug)]
pub(super) struct Visit {
    /// The connection.
    pub(super) connection: String,
    /// The message: the same when the event comes again.
    pub(super) message: String,
    /// When API Gateway took it in, in milliseconds since the Unix epoch.
    pub(super) arrived_ms: i64,
    /// When this handler began, in milliseconds since the Unix epoch.
    pub(super) now_ms: i64,
    /// What the authorizer said at `$connect`; API Gateway repeats it with every event.
    pub(super) granted: Option<Grant>,
}

/// What a message holds.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// A JSON object.
    Json(Value),
    /// µ-law samples.
    Audio(Vec<u8>),
    /// Nothing: a sign of life.
    Nothing,
}

impl Visit {
    /// `None` for an event without a usable connection id, which is none of API Gateway's.
    pub(super) fn read(event: &ApiGatewayWebsocketProxyRequest) -> Option<Self> {
        let context = &event.request_context;
        let is_usable = |id: &&String| !id.is_empty() && id.len() <= ID_BYTES_MAX;
        let connection = context.connection_id.as_ref().filter(is_usable)?.clone();
        // Every message has an id of its own; should there be none, the request's is the next best.
        let message = [&context.message_id, &context.extended_request_id, &context.request_id]
            .into_iter()
            .find_map(|id| id.as_ref().filter(is_usable));
        let now_ms = wall_ms();
        Some(Self {
            connection,
            message: message.cloned().unwrap_or_else(|| format!("at {now_ms}")),
            arrived_ms: Some(context.request_time_epoch).filter(|at_ms| *at_ms > 0).unwrap_or(now_ms),
            now_ms,
            granted: grant_of(&context.authorizer.fields),
        })
    }

    /// When API Gateway took the message in, in microseconds since the Unix epoch.
    pub(super) const fn arrived_us(&self) -> i64 {
        self.arrived_ms.saturating_mul(1000)
    }
}

/// The tokens of a `$connect` event.
pub(super) fn tokens(event: &ApiGatewayWebsocketProxyRequest) -> Vec<Secret> {
    let header = event.headers.get("authorization").and_then(|value| value.to_str().ok());
    let query = TOKEN_PARAMETERS.iter().filter_map(|name| event.query_string_parameters.first(name));
    header.into_iter().chain(query).filter(|token| !token.trim().is_empty()).map(Secret::new).collect()
}

/// Reads a body. Text that begins with `{` is JSON; all other text is base64, as are bodies that API Gateway converted
/// to bytes. Within base64, what is a JSON object as a whole is JSON: no audio is.
///
/// # Errors
/// A fault for the peer, which names what is wrong and quotes nothing.
pub(super) fn content(body: &str, is_base64: bool) -> Result<Content, Fault> {
    let text = body.trim();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_start();
    if text.is_empty() {
        return Ok(Content::Nothing);
    }
    if !is_base64 && text.starts_with('{') {
        return json(text.as_bytes()).map(Content::Json);
    }
    let Ok(bytes) = BASE64.decode(text) else {
        return Err(Fault::new(Kind::Unsupported, "the message must be a JSON object, or µ-law audio as base64"));
    };
    let unmarked = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    if let Some(message) = unmarked.trim_ascii_start().starts_with(b"{").then(|| json(unmarked).ok()).flatten() {
        return Ok(Content::Json(message));
    }
    match bytes.len() {
        0 => Ok(Content::Nothing),
        samples if samples > PIECE_SAMPLES_MAX as usize => {
            Err(Fault::new(Kind::TooLarge, format!("the message has more than {PIECE_SAMPLES_MAX} samples")))
        }
        _ => Ok(Content::Audio(bytes)),
    }
}

fn json(text: &[u8]) -> Result<Value, Fault> {
    // serde_json's own text is not used: a position says where to look and cannot quote the message.
    let message: Value = serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Fault::new(Kind::BadInput, format!("the message cannot be read as JSON (line {line}, column {column})"))
    })?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        BASE64.encode(bytes)
    }

    #[test]
    fn what_a_message_holds_is_told_by_its_content_however_it_travels() {
        let audio: Vec<u8> = (0..=255).collect();
        let text = r#"{"action":"subscribe"}"#;
        for (body, is_base64, expected) in [
            (text.to_owned(), false, Content::Json(json!({"action": "subscribe"}))),
            (format!("\u{feff} {text}"), false, Content::Json(json!({"action": "subscribe"}))),
            (encoded(text.as_bytes()), true, Content::Json(json!({"action": "subscribe"}))),
            (encoded(text.as_bytes()), false, Content::Json(json!({"action": "subscribe"}))),
            (encoded(&audio), true, Content::Audio(audio.clone())),
            (encoded(&audio), false, Content::Audio(audio.clone())),
            (encoded(&audio).trim_end_matches('=').to_owned(), false, Content::Audio(audio.clone())),
            // 0x7B is a sample like any other.
            (encoded(b"{\x01\x02"), true, Content::Audio(b"{\x01\x02".to_vec())),
            (String::new(), false, Content::Nothing),
            (" \r\n".to_owned(), true, Content::Nothing),
        ] {
            assert_eq!(content(&body, is_base64), Ok(expected), "{body}");
        }
    }

    #[test]
    fn what_is_neither_json_nor_base64_is_refused_without_being_quoted() {
        for (body, kind) in [("hunter2 hunter2", Kind::Unsupported), ("{\"hunter2", Kind::BadInput)] {
            let fault = content(body, false).expect_err("refused");
            assert_eq!(fault.kind, kind);
            assert!(!fault.public.contains("hunter2"), "{}", fault.public);
        }
        let large = encoded(&vec![0; PIECE_SAMPLES_MAX as usize + 1]);
        assert_eq!(content(&large, true).expect_err("too large").kind, Kind::TooLarge);
    }

    #[test]
    fn tokens_are_found_in_the_header_and_in_the_query() {
        let event: ApiGatewayWebsocketProxyRequest = serde_json::from_value(json!({
            "headers": {"Authorization": "Bearer a", "Host": "x"},
            "queryStringParameters": {"token": "b", "access_token": " ", "other": "c"},
            "requestContext": {"connectionId": "c1", "connectedAt": 1, "requestTimeEpoch": 5, "routeKey": "$connect"},
        }))
        .expect("an event");
        let found = tokens(&event);
        assert_eq!(found.iter().map(Secret::reveal).collect::<Vec<_>>(), ["Bearer a", "b"]);
        let visit = Visit::read(&event).expect("a visit");
        assert_eq!((visit.connection.as_str(), visit.arrived_ms, visit.granted), ("c1", 5, None));
    }
}
