//! Values of attributes, written and read: what every item is made of.

use std::collections::HashMap;
use std::str::FromStr;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::error::StoreError;
use crate::table::EXPIRES_AT_S;

/// An item as it travels.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Counts the writes of an item: a decision that was made on a read is written only if this did not move.
pub(crate) const VERSION: &str = "item_version";
/// A token of the one call that made a write which others may race for: it tells an own write whose answer was lost,
/// and which the SDK then sent again, from somebody else's.
pub(crate) const WRITER: &str = "writer";

pub(crate) fn s(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

#[expect(clippy::needless_pass_by_value, reason = "numbers are copied")]
pub(crate) fn n(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) const fn flag_of(value: bool) -> AttributeValue {
    AttributeValue::Bool(value)
}

pub(crate) fn bytes_of(value: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// A value for [`WRITER`] that nobody else uses.
pub(crate) fn new_writer() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// Reads an attribute that may lack.
pub(crate) fn optional<T>(
    item: &Item,
    name: &str,
    read: fn(&AttributeValue) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    let Some(value) = item.get(name) else { return Ok(None) };
    read(value).map(Some).ok_or_else(|| StoreError::Damaged { attribute: name.to_owned() })
}

/// Reads an attribute that has to be there.
pub(crate) fn required<T>(item: &Item, name: &str, read: fn(&AttributeValue) -> Option<T>) -> Result<T, StoreError> {
    optional(item, name, read)?.ok_or_else(|| StoreError::Damaged { attribute: name.to_owned() })
}

pub(crate) fn text(value: &AttributeValue) -> Option<String> {
    value.as_s().ok().cloned()
}

pub(crate) fn parsed<T: FromStr>(value: &AttributeValue) -> Option<T> {
    value.as_s().ok()?.parse().ok()
}

pub(crate) fn number<T: FromStr>(value: &AttributeValue) -> Option<T> {
    value.as_n().ok()?.parse().ok()
}

pub(crate) fn flag(value: &AttributeValue) -> Option<bool> {
    value.as_bool().ok().copied()
}

pub(crate) fn bytes(value: &AttributeValue) -> Option<Vec<u8>> {
    value.as_b().ok().map(|blob| blob.as_ref().to_vec())
}

/// Whether an attribute holds exactly this text.
pub(crate) fn is_text(item: &Item, name: &str, expected: &str) -> bool {
    item.get(name).and_then(|value| value.as_s().ok()).is_some_and(|value| value == expected)
}

/// Time to live is counted in whole seconds: the second that a time lies in.
pub(crate) const fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}

/// The second at which something expires that is kept for `keep_ms`: rounded up, so that nothing goes early.
pub(crate) const fn expiry_s(now_ms: i64, keep_ms: u64) -> i64 {
    seconds(now_ms.saturating_add_unsigned(keep_ms).saturating_add(999))
}

/// Whether an item counts as absent, though DynamoDB has not deleted it yet. One without a time to live never does.
pub(crate) fn is_expired(item: &Item, now_s: i64) -> bool {
    item.get(EXPIRES_AT_S).and_then(number).is_some_and(|expires_at_s: i64| expires_at_s <= now_s)
}

/// The condition that an item is absent or expired. `present` is an attribute that it has; needs the value `:now_s`.
pub(crate) fn is_absent(present: &str) -> String {
    format!("attribute_not_exists({present}) OR {EXPIRES_AT_S} <= :now_s")
}

/// The condition that an item which is there has not expired. Needs the value `:now_s`.
pub(crate) fn is_unexpired() -> String {
    format!("attribute_not_exists({EXPIRES_AT_S}) OR {EXPIRES_AT_S} > :now_s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_kept_for_its_whole_time() {
        assert_eq!(expiry_s(1, 1000), 2);
        assert_eq!(expiry_s(0, 1000), 1);
        assert_eq!(expiry_s(i64::MAX, u64::MAX), seconds(i64::MAX));
    }

    #[test]
    fn an_item_expires_at_its_second_and_one_without_time_to_live_never() {
        let mortal = Item::from([(EXPIRES_AT_S.to_owned(), n(100))]);
        assert!(!is_expired(&mortal, 99));
        assert!(is_expired(&mortal, 100));
        assert!(!is_expired(&Item::new(), i64::MAX));
    }

    #[test]
    fn bytes_come_back_as_they_went() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes(&bytes_of(&all)), Some(all));
        assert_eq!(bytes(&s("text")), None);
    }
}
