//! Values that cannot be printed: tokens, and what people say or type.
//!
//! Both types hide their content from `Debug`, have no `Display`, and give it up only through a method whose name can
//! be searched for. A log line, an error or a metric can therefore carry one only on purpose.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A credential: a token, a key, a header value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a credential.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The credential itself, for the one place that judges or sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Something that belongs to the people on the call: words, script parameters, metadata. It prints as its size.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Private<T>(T);

impl<T> Private<T> {
    /// Wraps a private value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the place that forwards or stores it.
    pub const fn reveal(&self) -> &T {
        &self.0
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// How large a private value is: the only thing about it that may be printed.
pub trait Size {
    /// Size in bytes (text) or in entries (objects and arrays).
    fn size(&self) -> usize;
}

impl Size for String {
    fn size(&self) -> usize {
        self.len()
    }
}

impl Size for Value {
    fn size(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Bool(_) | Self::Number(_) => 1,
            Self::String(text) => text.len(),
            Self::Array(items) => items.len(),
            Self::Object(fields) => fields.len(),
        }
    }
}

impl<T: Size> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Private({})", self.0.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_type_prints_what_it_holds() {
        let printed = format!("{:?} {:?}", Secret::new("hunter2"), Private::new(String::from("my card is 4111")));
        assert_eq!(printed, "Secret Private(15)");
    }
}
