//! Help on its way back to the agent: suggestions, insight cards and popups (contract §5 A–C).
//!
//! | module | holds |
//! | --- | --- |
//! | [`suggestion`] | a suggestion and the rules it has to pass, one by one |
//! | [`interaction`] | the document of one interaction, and every step by which it may change |
//! | [`outbox`] | what has to leave: the entries that such a step writes |
//! | [`audit`] | the record of what happened, chained so that no change of it goes unseen |
//! | [`transcript`] | what was said, gathered until it is worth a search |
//! | [`card`] | what was found, as cards |
//! | [`trigger`] | when a popup is due |
//!
//! Everything is pure: time comes in as a value, effects go out as values, and whoever holds the store writes the
//! document and its effects in one transaction. No socket, no clock and no retry lives here.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contact::ContactKey;
use crate::error::{Fault, Kind};

pub mod audit;
pub mod card;
pub mod interaction;
pub mod outbox;
pub mod suggestion;
pub mod transcript;
pub mod trigger;

pub use interaction::{Active, ActiveState, Answer, Context, Effects, Hooks, Interaction, OnFailure, Submitted};
pub use outbox::{Entry, Hook, Lane, Payload};
pub use suggestion::{Priority, Rejection, Rules, Suggestion, Window};

/// An interaction: CXone's word for a contact on its platform side. Its id is the contact id as text there, and an id of
/// another form on tenants that have one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InteractionId(String);

impl InteractionId {
    /// The longest id, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Reads an id: 1 to [`Self::BYTES_MAX`] of `A-Z a-z 0-9 _ . : -`, so that it can stand in a path, a key and a log.
    ///
    /// # Errors
    /// [`Kind::BadInput`] for anything else; the text names `interactionId` and does not repeat the input.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
        if text.is_empty() || text.len() > Self::BYTES_MAX || !text.bytes().all(is_plain) {
            let problem = "`interactionId` must be 1 to 128 letters, digits, or any of `_.:-`";
            return Err(Fault::new(Kind::BadInput, problem));
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InteractionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&ContactKey> for InteractionId {
    /// The contact id in decimal. The platform's sockets name no business unit: a deployment serves one tenant there.
    fn from(contact: &ContactKey) -> Self {
        Self(contact.contact_id.to_string())
    }
}

impl TryFrom<String> for InteractionId {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        Self::parse(&text)
    }
}

impl From<InteractionId> for String {
    fn from(id: InteractionId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interaction_id_is_plain_and_bounded() {
        for good in ["1", "42", "a1b2-c3_d4.e5:f6", &"x".repeat(128)] {
            assert_eq!(InteractionId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", " 1", "1/2", "é", "a\n", "a#b", &"x".repeat(129)] {
            let fault = InteractionId::parse(bad).unwrap_err();
            assert_eq!(fault.kind, Kind::BadInput);
            assert!(fault.public.contains("interactionId"), "{fault}");
        }
    }

    #[test]
    fn an_interaction_id_that_is_not_plain_is_not_read_from_the_store_either() {
        assert_eq!(serde_json::from_str::<InteractionId>("\"7\"").unwrap(), InteractionId::parse("7").unwrap());
        assert!(serde_json::from_str::<InteractionId>("\"7/8\"").is_err());
    }

    #[test]
    fn a_contact_is_an_interaction_by_its_contact_id() {
        assert_eq!(
            InteractionId::from(&ContactKey { bus_no: 4, contact_id: u64::MAX }).as_str(),
            "18446744073709551615"
        );
    }
}
