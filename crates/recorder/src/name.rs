//! Where everything lies in the store.
//!
//! ```text
//! live/{busNo}/{contactId}/{streamId}-{firstSample:012}.wav            a segment
//! live/{busNo}/{contactId}/{streamId}-{firstSample:012}-{serial}.wav   one without samples
//! contacts/{busNo}/{contactId}/recording.wav  ledger.json  events.jsonl
//! contacts/{busNo}/{contactId}/unreadable/…                            segments that were none
//! ```
//!
//! A name is only read if writing it again gives the same text, so there is one spelling of everything. An object is
//! written once and never changed: a segment without samples bears a serial because the next segment with samples
//! begins at the same sample.

use std::fmt;

use earpiece_core::contact::{ContactKey, StreamId};
use object_store::path::Path;

const LIVE: &str = "live";
const CONTACTS: &str = "contacts";

/// The name of a segment within its contact. Sorts by stream, then by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub(crate) stream: StreamId,
    pub(crate) first_sample: u64,
    /// Which one of those without samples; zero for a segment with samples.
    pub(crate) serial: u32,
}

impl SegmentName {
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix(".wav")?.splitn(3, '-');
        let name = Self {
            stream: parts.next()?.parse().ok()?,
            first_sample: parts.next()?.parse().ok()?,
            serial: parts.next().map_or(Some(0), |serial| serial.parse().ok())?,
        };
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:012}", self.stream, self.first_sample)?;
        if self.serial > 0 {
            write!(f, "-{}", self.serial)?;
        }
        f.write_str(".wav")
    }
}

pub(crate) fn live_root() -> Path {
    Path::from(LIVE)
}

pub(crate) fn live(contact: ContactKey) -> Path {
    of_contact(LIVE, contact)
}

pub(crate) fn segment(contact: ContactKey, name: SegmentName) -> Path {
    live(contact).join(name.to_string())
}

pub(crate) fn recording(contact: ContactKey) -> Path {
    of_contact(CONTACTS, contact).join("recording.wav")
}

pub(crate) fn ledger(contact: ContactKey) -> Path {
    of_contact(CONTACTS, contact).join("ledger.json")
}

pub(crate) fn events(contact: ContactKey) -> Path {
    of_contact(CONTACTS, contact).join("events.jsonl")
}

/// Where a segment goes that cannot be read: out of `live/`, or its contact would never be finished.
pub(crate) fn unreadable(contact: ContactKey, segment: &Path) -> Path {
    let name = segment.filename().unwrap_or("segment");
    of_contact(CONTACTS, contact).join("unreadable").join(name)
}

/// The contact whose segments lie in a folder under `live/`.
pub(crate) fn contact_of(folder: &Path) -> Option<ContactKey> {
    let mut parts = folder.parts().skip(1);
    let bus_no = parts.next()?.as_ref().parse().ok()?;
    let contact_id = parts.next()?.as_ref().parse().ok()?;
    let contact = ContactKey { bus_no, contact_id };
    (live(contact) == *folder).then_some(contact)
}

fn of_contact(root: &str, contact: ContactKey) -> Path {
    Path::from(root).join(contact.bus_no.to_string()).join(contact.contact_id.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTACT: ContactKey = ContactKey { bus_no: 4711, contact_id: u64::MAX };

    #[test]
    fn names_are_as_documented() {
        let stream: StreamId = "0190aaaabbbb7cccdddd000000000001".parse().expect("an id");
        let name = SegmentName { stream, first_sample: 40_000, serial: 0 };
        assert_eq!(
            segment(CONTACT, name).as_ref(),
            "live/4711/18446744073709551615/0190aaaabbbb7cccdddd000000000001-000000040000.wav"
        );
        let name = SegmentName { serial: 2, ..name };
        assert_eq!(name.to_string(), "0190aaaabbbb7cccdddd000000000001-000000040000-2.wav");
        assert_eq!(recording(CONTACT).as_ref(), "contacts/4711/18446744073709551615/recording.wav");
    }

    #[test]
    fn anything_but_the_one_spelling_is_no_segment() {
        for text in [
            "",
            ".wav",
            "0190aaaabbbb7cccdddd000000000001.wav",
            "0190aaaabbbb7cccdddd000000000001-40000.wav",
            "0190aaaabbbb7cccdddd000000000001-000000040000",
            "0190aaaabbbb7cccdddd000000000001-000000040000-0.wav",
            "0190aaaabbbb7cccdddd000000000001-000000040000-02.wav",
            "0190aaaabbbb7cccdddd000000000001-000000040000-2-3.wav",
            "0190AAAABBBB7CCCDDDD000000000001-000000040000.wav",
            "0190aaaa-bbbb-7ccc-dddd-000000000001-000000040000.wav",
            "0190aaaabbbb7cccdddd000000000001-+00000040000.wav",
            "../0190aaaabbbb7cccdddd000000000001-000000040000.wav",
        ] {
            assert_eq!(SegmentName::read(text), None, "{text}");
        }
    }

    #[test]
    fn anything_but_the_one_spelling_is_no_contact() {
        assert_eq!(contact_of(&live(CONTACT)), Some(CONTACT));
        for text in ["live", "live/1", "live/1/2/3", "live/01/2", "live/1/x", "live/-1/2", "contacts/1/2"] {
            assert_eq!(contact_of(&Path::from(text)), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_read_as_it_was_written(first_sample: u64, serial: u32) {
            let name = SegmentName { stream: StreamId::new(), first_sample, serial };
            prop_assert_eq!(SegmentName::read(&name.to_string()), Some(name));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = SegmentName::read(&text);
            let _ = contact_of(&Path::from(text));
        }
    }
}
