//! JSON files: one article, or an array of them.

use serde_json::{Map, Value};

use crate::article::{Draft, Parts, Place};
use crate::error::OpenError;

/// Reads a file's articles.
pub(crate) fn read(text: &str, place: Place<'_>) -> Result<Vec<Draft>, OpenError> {
    // The parser's own words may quote the file; the place is enough.
    let value = serde_json::from_str(text).map_err(|error| OpenError::NotJson {
        path: place.path.to_owned(),
        line: error.line(),
        column: error.column(),
    })?;
    match value {
        Value::Array(items) => {
            let item = |(index, item)| article(item, Place { index: Some(index), ..place });
            items.into_iter().enumerate().map(item).collect()
        }
        one => Ok(vec![article(one, place)?]),
    }
}

fn article(value: Value, place: Place<'_>) -> Result<Draft, OpenError> {
    let Value::Object(mut fields) = value else { return Err(place.fault("an article is a JSON object")) };
    let id = match fields.remove("id") {
        Some(Value::Number(number)) if number.is_u64() => Some(number.to_string()),
        Some(Value::String(id)) if !id.trim().is_empty() => Some(id),
        // The path names a file, and a file can hold many: so an id has to be said.
        _ => return Err(place.fault("`id` must be a text or a whole number")),
    };
    let body = text(&mut fields, "body", || place.fault("`body` must be a text"))?;
    let parts = Parts {
        id,
        title: text(&mut fields, "title", || place.fault("`title` must be a text"))?,
        url: text(&mut fields, "url", || place.fault("`url` must be a text"))?,
        language: text(&mut fields, "language", || place.fault("`language` must be a text"))?,
        body: body.ok_or_else(|| place.fault("it has no `body`"))?,
    };
    Draft::new(parts, place)
}

/// A text field; `null` counts as left out.
fn text(
    fields: &mut Map<String, Value>,
    name: &str,
    fault: impl FnOnce() -> OpenError,
) -> Result<Option<String>, OpenError> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(fault()),
    }
}
