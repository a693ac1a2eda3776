//! Whose voice a socket carries (contract §1.3, §1.4).

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which side of the call one socket carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Perspective {
    /// What the agent hears: the contact; in a conference everybody except the agent.
    Tx,
    /// The agent talking.
    Rx,
    /// Both, mixed to one mono stream.
    Mix,
    /// Anything else: carried along as its JSON text (at most [`Perspective::UNKNOWN_BYTES_MAX`]), never guessed at.
    Unknown(String),
}

impl Perspective {
    /// How much of an unknown value is kept.
    pub const UNKNOWN_BYTES_MAX: usize = 64;

    /// Reads any of the forms that CXone's documents and clients use: `"RX"`, `"TX"`, `"MIX"` in any case, `"MX"`, the
    /// integers 0 = TX, 1 = RX, 2 = MIX, their text, or an array with one of those in it.
    #[must_use]
    pub fn read(value: &Value) -> Self {
        Self::known(value).unwrap_or_else(|| Self::Unknown(kept(value)))
    }

    fn known(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::from_text(text.trim()),
            Value::Number(number) => Self::from_number(number.as_u64()?),
            Value::Array(items) => match items.as_slice() {
                [only] if !only.is_array() => Self::known(only),
                _ => None,
            },
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "TX" => Some(Self::Tx),
            "RX" => Some(Self::Rx),
            "MIX" | "MX" => Some(Self::Mix),
            _ => Self::from_number(text.parse().ok()?),
        }
    }

    const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Tx),
            1 => Some(Self::Rx),
            2 => Some(Self::Mix),
            _ => None,
        }
    }

    /// The word for logs, metrics, object names and the store: `TX`, `RX`, `MIX` or `UNKNOWN`.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Tx => "TX",
            Self::Rx => "RX",
            Self::Mix => "MIX",
            Self::Unknown(_) => "UNKNOWN",
        }
    }

    /// The JSON value we send: a known perspective as its word, an unknown one as it came.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Unknown(raw) => serde_json::from_str(raw).unwrap_or_else(|_| Value::String(raw.clone())),
            known => Value::String(known.label().to_owned()),
        }
    }
}

/// The JSON text of an unknown value. One that is too long is cut to a JSON string that ends in an ellipsis: that is
/// still JSON, is read again as itself, and can never be taken for a perspective that the whole value was not.
fn kept(value: &Value) -> String {
    let whole = value.to_string();
    if whole.len() <= Perspective::UNKNOWN_BYTES_MAX {
        return whole;
    }
    let text = value.as_str().unwrap_or(&whole);
    let mut start = text[..text.floor_char_boundary(Perspective::UNKNOWN_BYTES_MAX)].to_owned();
    loop {
        let quoted = Value::String(format!("{start}…")).to_string();
        // Escapes make the quoted form longer than the text, so its length is what decides. Without any text left it
        // is five bytes long.
        if quoted.len() <= Perspective::UNKNOWN_BYTES_MAX || start.pop().is_none() {
            return quoted;
        }
    }
}

impl fmt::Display for Perspective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Serialize for Perspective {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Perspective {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::read(&value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::protocol::generators;

    #[test]
    fn every_documented_form_is_read() {
        for (value, expected) in [
            (json!("TX"), Perspective::Tx),
            (json!("rx"), Perspective::Rx),
            (json!("Mix"), Perspective::Mix),
            (json!("MX"), Perspective::Mix),
            (json!(0), Perspective::Tx),
            (json!(1), Perspective::Rx),
            (json!(2), Perspective::Mix),
            (json!("0"), Perspective::Tx),
            (json!("1"), Perspective::Rx),
            (json!("2"), Perspective::Mix),
            (json!(["TX"]), Perspective::Tx),
            (json!([1]), Perspective::Rx),
            (json!(["2"]), Perspective::Mix),
        ] {
            assert_eq!(Perspective::read(&value), expected, "{value}");
        }
    }

    #[test]
    fn anything_else_is_carried_and_not_guessed() {
        for value in [json!("both"), json!(3), json!(-1), json!(["RX", "TX"]), json!([["TX"]]), json!(null), json!({})]
        {
            let read = Perspective::read(&value);
            assert_eq!(read, Perspective::Unknown(value.to_string()));
            assert_eq!(read.to_value(), value);
        }
    }

    #[test]
    fn a_long_unknown_value_is_cut_and_never_becomes_a_known_one() {
        for value in [
            json!("x".repeat(1000)),
            json!("é\n\"\\".repeat(100)),
            json!(format!("TX{}!", " ".repeat(100))),
            json!(format!("{}!", "0".repeat(100))),
            json!(vec!["TX"; 100]),
            json!({"a": "\u{1f600}".repeat(100)}),
        ] {
            let read = Perspective::read(&value);
            let Perspective::Unknown(kept) = &read else { panic!("{value} was taken for {read}") };
            assert!(kept.len() <= Perspective::UNKNOWN_BYTES_MAX, "{}", kept.len());
            assert_eq!(Perspective::read(&read.to_value()), read);
        }
    }

    proptest! {
        #[test]
        fn whatever_was_read_is_read_again_from_what_is_written(value in generators::json()) {
            let read = Perspective::read(&value);
            prop_assert_eq!(Perspective::read(&read.to_value()), read);
        }
    }
}
