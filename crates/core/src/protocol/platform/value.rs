//! Reads the values of CXone's frames in each of their forms.

use serde_json::Value;

use super::super::ParseError;
use super::super::fields::Fields;
use super::super::instant::{EARLIEST_MS, LATEST_MS, parse_rfc3339_ms};
use super::{FRAME_BYTES_MAX, ID_BYTES_MAX, KIND_BYTES_MAX};
use crate::assist::InteractionId;

/// The fields of a frame that is not too long.
pub(super) fn frame(text: &str) -> Result<Fields, ParseError> {
    if text.len() > FRAME_BYTES_MAX {
        return Err(ParseError::of_message(format!("must not be longer than {FRAME_BYTES_MAX} bytes")));
    }
    Fields::read(text.as_bytes())
}

/// The `type` of a frame; empty where there is none.
pub(super) fn kind(fields: &mut Fields) -> String {
    fields.text("type").unwrap_or_default().trim().to_owned()
}

/// A type that nobody knows, if it looks like a name: whatever else came in its place may not be repeated.
pub(super) fn unknown_kind(kind: String) -> String {
    let is_name = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_name && (1..=KIND_BYTES_MAX).contains(&kind.len()) { kind } else { "unknown".to_owned() }
}

/// The id of an interaction.
pub(super) fn interaction_id(fields: &mut Fields, name: &'static str) -> Result<InteractionId, ParseError> {
    let text = required_id_text(fields, name)?;
    InteractionId::parse(&text).map_err(|_| {
        let problem = format!("must be 1 to {} of A-Z, a-z, 0-9, `_`, `.`, `:` and `-`", InteractionId::BYTES_MAX);
        fields.error(name, &problem)
    })
}

/// The id of a suggestion or an insight.
pub(super) fn id(fields: &mut Fields, name: &'static str) -> Result<String, ParseError> {
    let text = required_id_text(fields, name)?;
    if text.len() > ID_BYTES_MAX {
        return Err(fields.error(name, &format!("must not be longer than {ID_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn required_id_text(fields: &mut Fields, name: &'static str) -> Result<String, ParseError> {
    match fields.any(name) {
        None => Err(fields.error(name, "is missing")),
        Some(value) => id_text(&value).ok_or_else(|| fields.error(name, "must be text or a whole number")),
    }
}

/// An id that is not blank, as text. A fraction is none, even where it is whole: past 2⁵³ it would be another id.
pub(super) fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// A finite number, or its text.
pub(super) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// An instant in milliseconds since the Unix epoch: such a number, its text, or RFC 3339.
pub(super) fn instant_ms(value: &Value) -> Option<i64> {
    if let Some(at_ms) = value.as_str().and_then(|text| parse_rfc3339_ms(text.trim())) {
        return Some(at_ms);
    }
    let at_ms = number(value)?.round();
    #[expect(clippy::cast_precision_loss, reason = "instants are far below 2⁵³ milliseconds, where f64 is exact")]
    let range = EARLIEST_MS as f64..=LATEST_MS as f64;
    #[expect(clippy::cast_possible_truncation, reason = "rounded, and within the range of an instant")]
    range.contains(&at_ms).then_some(at_ms as i64)
}

/// A length of time in whole milliseconds; the fraction of one is dropped.
pub(super) fn duration_ms(value: &Value) -> Option<u64> {
    let duration_ms = number(value)?.trunc();
    #[expect(clippy::cast_precision_loss, reason = "far below 2⁵³ milliseconds, where f64 is exact")]
    let range = 0.0..=LATEST_MS as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, not negative, and in range")]
    range.contains(&duration_ms).then_some(duration_ms as u64)
}
