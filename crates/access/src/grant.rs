//! What somebody who was let in may do.

use earpiece_core::contact::ContactKey;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;
use crate::scope::Scope;

/// What a caller may do. It is kept with a connection and passed on by an authorizer, so it can be written and read.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Who it is, as the token says (`sub`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    /// Bound to one business unit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bus_no: Option<u64>,
    /// Bound to one contact of that business unit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub contact_id: Option<u64>,
    /// Good for these scopes; absent: for all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scopes: Option<Vec<Scope>>,
    /// Present when the token is good for one use: whoever acts on the grant spends it first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub one_time: Option<OneTime>,
}

/// A token that is good for one use.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OneTime {
    /// What to remember it by: the SHA-256 of its issuer and its `jti`, in hexadecimal digits.
    pub id: String,
    /// Until when it must be remembered, in seconds since the Unix epoch. Afterwards the token is refused as expired.
    pub expires_at_s: i64,
}

impl Grant {
    /// Everything is allowed: an open door, or a static token.
    #[must_use]
    pub const fn everybody() -> Self {
        Self { subject: None, bus_no: None, contact_id: None, scopes: None, one_time: None }
    }

    /// Whether something is allowed. Where no contact is named yet, only the scope is judged: a door that learns the
    /// contact later checks again.
    ///
    /// # Errors
    ///
    /// [`Refusal::Scope`] or [`Refusal::ForeignContact`].
    pub fn check(&self, scope: Scope, contact: Option<&ContactKey>) -> Result<(), Refusal> {
        if self.scopes.as_ref().is_some_and(|scopes| !scopes.contains(&scope)) {
            return Err(Refusal::Scope);
        }
        let Some(contact) = contact else { return Ok(()) };
        let is_bus_foreign = self.bus_no.is_some_and(|bus_no| bus_no != contact.bus_no);
        let is_contact_foreign = self.contact_id.is_some_and(|contact_id| contact_id != contact.contact_id);
        if is_bus_foreign || is_contact_foreign { Err(Refusal::ForeignContact) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: ContactKey = ContactKey { bus_no: 4, contact_id: 7 };

    #[test]
    fn everybody_may_do_everything() {
        for scope in Scope::ALL {
            assert_eq!(Grant::everybody().check(scope, Some(&CONTACT)), Ok(()));
            assert_eq!(Grant::everybody().check(scope, None), Ok(()));
        }
    }

    #[test]
    fn a_binding_holds_for_the_contact_and_for_the_business_unit() {
        let grant = Grant { bus_no: Some(4), contact_id: Some(7), ..Grant::everybody() };
        assert_eq!(grant.check(Scope::Audio, Some(&CONTACT)), Ok(()));
        for foreign in [ContactKey { bus_no: 5, ..CONTACT }, ContactKey { contact_id: 8, ..CONTACT }] {
            assert_eq!(grant.check(Scope::Audio, Some(&foreign)), Err(Refusal::ForeignContact));
        }
        let whole_unit = Grant { contact_id: None, ..grant };
        assert_eq!(whole_unit.check(Scope::Audio, Some(&ContactKey { contact_id: 8, ..CONTACT })), Ok(()));
    }

    #[test]
    fn scopes_are_exact_and_an_empty_list_allows_nothing() {
        let grant = Grant { scopes: Some(vec![Scope::Listen]), ..Grant::everybody() };
        assert_eq!(grant.check(Scope::Listen, None), Ok(()));
        assert_eq!(grant.check(Scope::Audio, None), Err(Refusal::Scope));
        let nothing = Grant { scopes: Some(vec![]), ..Grant::everybody() };
        assert_eq!(nothing.check(Scope::Listen, None), Err(Refusal::Scope));
    }

    #[test]
    fn a_grant_survives_being_written_and_read() {
        let grant = Grant {
            subject: Some("studio".into()),
            bus_no: Some(4),
            contact_id: Some(7),
            scopes: Some(vec![Scope::Events]),
            one_time: Some(OneTime { id: "ab".into(), expires_at_s: 9 }),
        };
        for grant in [grant, Grant::everybody()] {
            let written = serde_json::to_string(&grant).unwrap();
            assert_eq!(serde_json::from_str::<Grant>(&written).unwrap(), grant);
        }
    }
}
