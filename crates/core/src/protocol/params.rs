//! `appParams` and `appConfig`: what a script or the Agent Assist Hub hands to the assist app (contract §1.3, §4).
//!
//! Studio builds these as text, so one object may come as an object, as JSON text, as JSON text inside JSON text, or
//! with raw line ends inside its strings. All of these are brought to one form here; what the parameters mean is the
//! assist app's business.

use serde_json::{Map, Value};

use crate::secret::{Private, Size};

/// How often text is read as JSON that again turns out to be text.
pub const TEXT_LEVELS_MAX: usize = 3;

/// How deep JSON text may nest and still be taken as JSON. Half of what the parser takes, so that the object that was
/// text can be put inside a message and that message can be read again.
pub const TEXT_DEPTH_MAX: usize = 64;

/// Parameters, in the form to forward. They belong to the people on the call and print as their size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Params {
    /// The field was not there.
    #[default]
    Absent,
    /// The field was null.
    Null,
    /// An object, however many layers of text were around it.
    Object(Private<Map<String, Value>>),
    /// Plain text, or an identifier. A scalar in text stays text: `"0042"` is a name and not a number.
    Text(Private<String>),
    /// A number, a boolean or an array, the last also out of text.
    Other(Private<Value>),
}

impl Params {
    /// Reads parameters in any form.
    #[must_use]
    pub fn read(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Object(fields) => Self::Object(Private::new(fields)),
            Value::String(text) => Self::read_text(text),
            other => Self::Other(Private::new(other)),
        }
    }

    /// The normalised form, to forward: an object wherever there was one, null where there was nothing.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Absent | Self::Null => Value::Null,
            Self::Object(fields) => Value::Object(fields.reveal().clone()),
            Self::Text(text) => Value::String(text.reveal().clone()),
            Self::Other(value) => value.reveal().clone(),
        }
    }

    /// The field to write: nothing if there was no field.
    pub(super) fn to_field(&self) -> Option<Value> {
        (*self != Self::Absent).then(|| self.to_value())
    }

    fn read_text(text: String) -> Self {
        let mut inner = text.clone();
        for _ in 0..TEXT_LEVELS_MAX {
            match json_in(&inner) {
                Some(Value::Object(fields)) => return Self::Object(Private::new(fields)),
                Some(items @ Value::Array(_)) => return Self::Other(Private::new(items)),
                Some(Value::String(unwrapped)) => inner = unwrapped,
                Some(Value::Null | Value::Bool(_) | Value::Number(_)) | None => {
                    return Self::Text(Private::new(inner));
                }
            }
        }
        if json_in(&inner).is_some_and(|value| !is_scalar_but_text(&value)) {
            // Wrapped once more than is looked into: it goes on as it came, since half unwrapped it would be read
            // differently by whoever reads it next.
            return Self::Text(Private::new(text));
        }
        Self::Text(Private::new(inner))
    }
}

impl Size for Map<String, Value> {
    fn size(&self) -> usize {
        self.len()
    }
}

const fn is_scalar_but_text(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(_) | Value::Number(_))
}

/// The JSON that a text holds, if it holds any and does not nest too deep.
fn json_in(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}');
    let value = serde_json::from_str(text).ok().or_else(|| {
        let is_mendable = text.bytes().any(|byte| byte < b' ');
        is_mendable.then(|| serde_json::from_str(&with_controls_escaped(text)).ok())?
    })?;
    nests_at_most(&value, TEXT_DEPTH_MAX).then_some(value)
}

/// Escapes control characters inside string literals: Studio's `asJSON()` leaves them raw, which JSON forbids.
fn with_controls_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut in_literal = false;
    let mut after_backslash = false;
    for character in text.chars() {
        if in_literal && character < ' ' {
            if after_backslash {
                // A backslash before a raw line end escapes nothing that JSON knows: it was meant as itself.
                escaped.push('\\');
                after_backslash = false;
            }
            push_escape(&mut escaped, character);
            continue;
        }
        escaped.push(character);
        if after_backslash {
            after_backslash = false;
        } else if character == '"' {
            in_literal = !in_literal;
        } else {
            after_backslash = in_literal && character == '\\';
        }
    }
    escaped
}

fn push_escape(out: &mut String, control: char) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let code = control as usize;
    out.push_str("\\u00");
    out.push(HEX[(code >> 4) & 0xF]);
    out.push(HEX[code & 0xF]);
}

/// Whether a value has at most `levels` levels of arrays and objects.
fn nests_at_most(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| nests_at_most(item, levels - 1)),
        Value::Object(fields) => levels > 0 && fields.values().all(|field| nests_at_most(field, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::protocol::generators;

    /// Wraps a JSON text into a JSON string literal so many times.
    fn wrapped(json_text: &str, times: usize) -> String {
        (0..times).fold(json_text.to_owned(), |text, _| Value::String(text).to_string())
    }

    #[test]
    fn every_documented_form_of_one_object_comes_out_the_same() {
        let object = json!({"name": "Ann", "note": "a\r\nb"});
        for form in [
            object.clone(),
            json!(object.to_string()),
            json!(format!("\u{feff} {object}\r\n")),
            json!(wrapped(&object.to_string(), 1)),
            json!(wrapped(&object.to_string(), 2)),
            json!("{\"name\":\"Ann\",\"note\":\"a\r\nb\"}"),
            json!("{\r\n\t\"name\": \"Ann\",\r\n\t\"note\": \"a\r\nb\"\r\n}"),
            json!("\"{\\\"name\\\":\\\"Ann\\\",\\\"note\\\":\\\"a\r\nb\\\"}\""),
        ] {
            let read = Params::read(form.clone());
            assert!(matches!(read, Params::Object(_)), "{form}");
            assert_eq!(read.to_value(), object, "{form}");
        }
    }

    #[test]
    fn what_is_no_object_keeps_its_own_form() {
        assert_eq!(Params::default().to_value(), Value::Null);
        assert_eq!(Params::read(json!(null)), Params::Null);
        for value in [json!("plain text"), json!(""), json!("{broken"), json!("0042"), json!("42"), json!("null")] {
            let read = Params::read(value.clone());
            assert!(matches!(read, Params::Text(_)), "{value}");
            assert_eq!(read.to_value(), value);
        }
        for value in [json!(42), json!(true), json!(["a", {"b": 1}])] {
            let read = Params::read(value.clone());
            assert!(matches!(read, Params::Other(_)), "{value}");
            assert_eq!(read.to_value(), value);
        }
        assert_eq!(Params::read(json!("[1, 2]")).to_value(), json!([1, 2]));
        assert_eq!(Params::read(json!("\"quoted\"")).to_value(), json!("quoted"));
    }

    #[test]
    fn text_wrapped_more_often_than_is_looked_into_goes_on_as_it_came() {
        let object = json!({"a": 1}).to_string();
        let deepest_read = wrapped(&object, TEXT_LEVELS_MAX - 1);
        assert_eq!(Params::read(json!(deepest_read)).to_value(), json!({"a": 1}));
        let too_deep = json!(wrapped(&object, TEXT_LEVELS_MAX));
        assert_eq!(Params::read(too_deep.clone()).to_value(), too_deep);
        let plain_inside = json!(wrapped("\"plain\"", TEXT_LEVELS_MAX - 1));
        assert_eq!(Params::read(plain_inside).to_value(), json!("plain"));
    }

    #[test]
    fn every_control_character_inside_a_string_is_read_as_itself() {
        for code in 0_u8..0x20 {
            let character = char::from(code);
            let text = format!("{{\"a\":\"x{character}y\"}}");
            assert_eq!(Params::read(json!(text)).to_value(), json!({ "a": format!("x{character}y") }));
        }
    }

    #[test]
    fn escapes_and_backslashes_around_raw_line_ends_keep_their_meaning() {
        for (text, expected) in [
            ("{\"a\":\"say \\\"hi\\\"\nbye\"}", "say \"hi\"\nbye"),
            ("{\"a\":\"C:\\\\\nD\"}", "C:\\\nD"),
            ("{\"a\":\"C:\\\nD\"}", "C:\\\nD"),
            ("{\"a\":\"\\u0041\n\"}", "A\n"),
        ] {
            assert_eq!(Params::read(json!(text)).to_value(), json!({ "a": expected }), "{text:?}");
        }
    }

    #[test]
    fn text_that_nests_too_deep_stays_text() {
        for (levels, is_read) in [(TEXT_DEPTH_MAX, true), (TEXT_DEPTH_MAX + 1, false), (127, false), (100_000, false)] {
            let text = "[".repeat(levels) + &"]".repeat(levels);
            for form in [text.clone(), wrapped(&text, 1)] {
                assert_eq!(matches!(Params::read(json!(form)), Params::Other(_)), is_read, "{levels}");
            }
        }
        let objects = "{\"a\":".repeat(500);
        assert!(matches!(Params::read(json!(objects)), Params::Text(_)));
    }

    #[test]
    fn debug_prints_sizes_and_no_content() {
        let printed = format!(
            "{:?} {:?} {:?}",
            Params::read(json!({"card": 4111})),
            Params::read(json!("hunter2")),
            Params::read(json!([4111]))
        );
        assert_eq!(printed, "Object(Private(1)) Text(Private(7)) Other(Private(1))");
    }

    proptest! {
        #[test]
        fn reading_what_was_written_gives_the_same(value in generators::params_form()) {
            let read = Params::read(value);
            prop_assert_eq!(Params::read(read.to_value()), read);
        }

        #[test]
        fn no_text_panics(text in generators::text()) {
            let read = Params::read(Value::String(text));
            prop_assert_eq!(Params::read(read.to_value()), read);
        }

        #[test]
        fn raw_controls_never_change_what_an_object_says(key in generators::text(), said in generators::text()) {
            // What a serializer writes that escapes nothing but quotes and backslashes.
            let literal = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let text = format!("{{{}:\n{}}}", literal(&key), literal(&said));
            let object = json!({ key: said });
            prop_assert_eq!(Params::read(json!(text)).to_value(), object);
        }
    }
}
