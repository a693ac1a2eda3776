//! Paths that name a contact.

use earpiece_core::contact::ContactKey;
use earpiece_core::error::Kind;

use crate::answer::Problem;

/// The texts that stand where a contact's ids do, if it is such a path with this end.
pub(crate) fn contact_ids<'a>(path: &'a str, end: &str) -> Option<(&'a str, &'a str)> {
    let (bus_no, contact_id) = path.strip_prefix("/contacts/")?.strip_suffix(end)?.split_once('/')?;
    (is_one_segment(bus_no) && is_one_segment(contact_id)).then_some((bus_no, contact_id))
}

/// The contact of these ids.
///
/// # Errors
/// [`Kind::BadInput`], naming the id that is none.
pub(crate) fn contact_of((bus_no, contact_id): (&str, &str)) -> Result<ContactKey, Problem> {
    let read = |name: &'static str, text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        digits.ok_or_else(|| {
            Problem::new(Kind::BadInput, format!("`{name}` in the path must be a whole number of at most 64 bits"))
                .at(name)
        })
    };
    Ok(ContactKey { bus_no: read("busNo", bus_no)?, contact_id: read("contactId", contact_id)? })
}

/// Whether a text is one segment of a path.
pub(crate) fn is_one_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_contact_with_digits_only() {
        assert_eq!(contact_ids("/contacts/1/2/events", "/events"), Some(("1", "2")));
        assert_eq!(contact_ids("/contacts/1/2/events", "/suggestions"), None);
        assert_eq!(contact_of(("1", "18446744073709551615")).unwrap().contact_id, u64::MAX);
        for (ids, field) in [(("+1", "2"), "busNo"), (("1", "18446744073709551616"), "contactId"), (("", ""), "busNo")]
        {
            assert_eq!(contact_of(ids).unwrap_err().field.as_deref(), Some(field));
        }
    }
}
