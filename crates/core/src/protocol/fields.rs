//! Takes a JSON object apart field by field, and puts one together again.
//!
//! A name is matched exactly first and without regard to ASCII case second, because peers built on .NET read and write
//! either. Whatever is not taken, or has a type that its field cannot have, stays behind as unknown under the name it
//! came with.

use serde_json::{Map, Value};

use super::ParseError;
use super::params::Params;
use crate::access::bare_token;
use crate::secret::{Private, Secret};

/// .NET's UTF-8 encoder writes this in front of a text unless told not to.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The fields of one JSON object that have not been taken yet.
pub(super) struct Fields {
    /// Path of the object within the message; empty for the message itself.
    path: &'static str,
    rest: Map<String, Value>,
}

impl Fields {
    /// Reads a whole message.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ParseError> {
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        // serde_json's own text is not used: a position says where to look and cannot quote the input.
        let value: Value = serde_json::from_slice(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            ParseError::of_message(format!("cannot be read as JSON (line {line}, column {column})"))
        })?;
        Self::of(value)
    }

    /// Takes a whole message that was read as JSON already.
    pub(super) fn of(value: Value) -> Result<Self, ParseError> {
        match value {
            Value::Object(rest) => Ok(Self { path: "", rest }),
            _ => Err(ParseError::of_message("must be a JSON object")),
        }
    }

    /// An object without which there is no going on.
    pub(super) fn required_object(&mut self, name: &'static str) -> Result<Self, ParseError> {
        match self.required(name)? {
            Value::Object(rest) => Ok(Self { path: name, rest }),
            _ => Err(self.error(name, "must be a JSON object")),
        }
    }

    /// An object that may be absent.
    pub(super) fn object(&mut self, name: &'static str) -> Option<Self> {
        self.take_if(name, |value| match value {
            Value::Object(rest) => Ok(Self { path: name, rest }),
            other => Err(other),
        })
    }

    /// An id without which there is no going on: an integer or a numeric string, 0 to 2⁶⁴ − 1.
    pub(super) fn required_id(&mut self, name: &'static str) -> Result<u64, ParseError> {
        let value = self.required(name)?;
        whole_number(&value).ok_or_else(|| self.error(name, "must be a whole number of at most 64 bits"))
    }

    /// A number that may be absent, in the same forms as an id.
    pub(super) fn id(&mut self, name: &'static str) -> Option<u64> {
        self.take_if(name, |value| whole_number(&value).ok_or(value))
    }

    /// A text that may be absent.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.take_if(name, |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    /// A credential that may be absent: without blanks and `Bearer`, and nothing if nothing is left.
    pub(super) fn token(&mut self, name: &'static str) -> Option<Secret> {
        let presented = self.text(name)?;
        let token = bare_token(&presented);
        (!token.is_empty()).then(|| Secret::new(token))
    }

    /// A value of any type that may be absent; null is absent.
    pub(super) fn any(&mut self, name: &'static str) -> Option<Value> {
        self.take_if(name, Ok)
    }

    /// A value of any type, where null differs from absent.
    pub(super) fn raw(&mut self, name: &'static str) -> Option<Value> {
        self.take(name).map(|(_, value)| value)
    }

    /// Parameters in any form.
    pub(super) fn params(&mut self, name: &'static str) -> Params {
        self.raw(name).map_or(Params::Absent, Params::read)
    }

    /// Leaves a value behind as unknown.
    pub(super) fn leave(&mut self, name: &str, value: Value) {
        self.rest.insert(name.to_owned(), value);
    }

    /// Everything that was not taken.
    pub(super) fn into_unknown(self) -> Private<Map<String, Value>> {
        Private::new(self.rest)
    }

    /// An error about a field of this object.
    pub(super) fn error(&self, name: &str, problem: &str) -> ParseError {
        let field = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        ParseError::of_field(field, problem)
    }

    fn required(&mut self, name: &'static str) -> Result<Value, ParseError> {
        self.any(name).ok_or_else(|| self.error(name, "is missing"))
    }

    fn take_if<T>(&mut self, name: &'static str, read: impl FnOnce(Value) -> Result<T, Value>) -> Option<T> {
        let (key, value) = self.take(name)?;
        if value.is_null() {
            return None;
        }
        match read(value) {
            Ok(known) => Some(known),
            Err(unexpected) => {
                self.rest.insert(key, unexpected);
                None
            }
        }
    }

    fn take(&mut self, name: &'static str) -> Option<(String, Value)> {
        if let Some(exact) = self.rest.remove_entry(name) {
            return Some(exact);
        }
        let key = self.rest.keys().find(|key| key.eq_ignore_ascii_case(name))?.clone();
        self.rest.remove_entry(&key)
    }
}

/// Reads an integer or a numeric string. A fraction is refused even where it is whole (`1e3`): past 2⁵³ such a number
/// would name another contact.
fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => {
            let digits = text.trim();
            // `parse` alone would take a leading plus.
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        }
        _ => None,
    }
}

/// Puts a JSON object together: unknown fields as they came, known ones under their documented names.
pub(super) struct ObjectWriter(Map<String, Value>);

impl ObjectWriter {
    /// Starts with the unknown fields.
    pub(super) fn new(unknown: &Private<Map<String, Value>>) -> Self {
        Self(unknown.reveal().clone())
    }

    /// Writes a known field. One that is absent is left out, except where an unknown field bears its name in another
    /// case and would be taken for it: there it is written as null.
    pub(super) fn put(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        match value {
            Some(value) => {
                self.0.insert(name.to_owned(), value.into());
            }
            None if self.has_only_in_another_case(name) => {
                self.0.insert(name.to_owned(), Value::Null);
            }
            None => {}
        }
    }

    /// The object.
    pub(super) fn finish(self) -> Value {
        Value::Object(self.0)
    }

    fn has_only_in_another_case(&self, name: &str) -> bool {
        !self.0.contains_key(name) && self.0.keys().any(|key| key.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::of(value).unwrap()
    }

    #[test]
    fn ids_are_read_up_to_their_edges_and_not_beyond() {
        for (value, expected) in [
            (json!(0), Some(0)),
            (json!("0"), Some(0)),
            (json!(u64::MAX), Some(u64::MAX)),
            (json!("18446744073709551615"), Some(u64::MAX)),
            (json!("007"), Some(7)),
            (json!(" 12 "), Some(12)),
            (json!("18446744073709551616"), None),
            (serde_json::from_str("18446744073709551616").unwrap(), None),
            (serde_json::from_str("1e3").unwrap(), None),
            (serde_json::from_str("-0").unwrap(), None),
            (json!(-1), None),
            (json!("-1"), None),
            (json!("+1"), None),
            (json!(1.5), None),
            (json!(1.0), None),
            (json!("1.5"), None),
            (json!("1e3"), None),
            (json!("1 2"), None),
            (json!("0x10"), None),
            (json!("٣"), None),
            (json!(""), None),
            (json!("  "), None),
            (json!(true), None),
            (json!([1]), None),
            (json!({}), None),
        ] {
            assert_eq!(whole_number(&value), expected, "{value}");
        }
    }

    #[test]
    fn the_exact_name_goes_before_one_in_another_case() {
        let mut both = fields(json!({"ACTIONTYPE": "loud", "actionType": "exact"}));
        assert_eq!(both.text("actionType").as_deref(), Some("exact"));
        assert_eq!(both.into_unknown().reveal().len(), 1);

        let mut other = fields(json!({"ActionType": "pascal"}));
        assert_eq!(other.text("actionType").as_deref(), Some("pascal"));
        assert!(other.into_unknown().reveal().is_empty());
    }

    #[test]
    fn a_value_of_an_unexpected_type_stays_behind_under_the_name_it_came_with() {
        let mut given = fields(json!({"ActionType": 5, "actionId": "five"}));
        assert_eq!(given.text("actionType"), None);
        assert_eq!(given.id("actionId"), None);
        assert_eq!(Value::Object(given.into_unknown().into_inner()), json!({"ActionType": 5, "actionId": "five"}));
    }

    #[test]
    fn a_credential_that_is_blank_is_absent() {
        for blank in [json!(""), json!("  "), json!("Bearer"), json!("bearer  "), json!(null)] {
            assert_eq!(fields(json!({ "token": blank })).token("token"), None);
        }
    }

    #[test]
    fn an_absent_field_is_written_as_null_only_where_another_case_would_be_taken_for_it() {
        let mut writer = ObjectWriter::new(&Private::new(Map::from_iter([("Name".to_owned(), json!(5))])));
        writer.put("name", None::<String>);
        writer.put("other", None::<String>);
        assert_eq!(writer.finish(), json!({"Name": 5, "name": null}));
    }

    #[test]
    fn an_error_about_syntax_tells_the_place_and_quotes_nothing() {
        let error = Fields::read(b"{\n\"authenticationToken\": hunter2}").err().unwrap();
        assert_eq!(error.to_string(), "the message cannot be read as JSON (line 2, column 24)");
    }
}
