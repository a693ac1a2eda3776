//! Writes JSON objects with their fields in the order in which they are put.

use serde_json::Value;

/// A JSON object that is being written.
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    /// Puts a text, a number or a truth value.
    pub(super) fn put(self, name: &'static str, value: impl Into<Value>) -> Self {
        self.put_raw(name, &value.into().to_string())
    }

    /// Puts an object.
    pub(super) fn put_object(self, name: &'static str, value: Self) -> Self {
        self.put_raw(name, &value.finish())
    }

    /// Puts an array of objects.
    pub(super) fn put_objects(self, name: &'static str, values: impl Iterator<Item = Self>) -> Self {
        let items: Vec<String> = values.map(Self::finish).collect();
        self.put_raw(name, &format!("[{}]", items.join(",")))
    }

    /// The object as JSON text.
    pub(super) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn put_raw(mut self, name: &'static str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&Value::from(name).to_string());
        self.0.push(':');
        self.0.push_str(json);
        self
    }
}
