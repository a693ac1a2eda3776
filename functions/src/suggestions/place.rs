//! Whose agent is meant: a contact by both of its ids, or an interaction by CXone's one, and what a token may say to
//! either.
//!
//! CXone's interaction id is the contact id, which is unique within a business unit only. So the uplinks speak for one
//! business unit; where the settings name it, a contact of another is told so, and an interaction has one.

use earpiece_access::Grant;
use earpiece_core::assist::InteractionId;
use earpiece_core::contact::ContactKey;
use lambda_http::http::StatusCode;
use serde_json::json;

use super::refusal;
use crate::answer::{Answer, Problem};
use crate::path;
use crate::routes::Route;

/// What follows the ids in both paths.
const PATH_END: &str = "/suggestions";

/// The agent's interaction, and its contact as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) interaction: InteractionId,
    pub(super) contact: Option<ContactKey>,
    /// The business unit of an interaction whose id is no contact's.
    bus_no: Option<u64>,
}

impl Place {
    /// The place that a path names. `bus_no` is the business unit of the uplinks.
    ///
    /// # Errors
    /// When an id in the path cannot be one.
    pub(super) fn of(path: &str, bus_no: Option<u64>) -> Result<Self, Problem> {
        match path::contact_ids(path, PATH_END) {
            Some(ids) => {
                let contact = path::contact_of(ids)?;
                Ok(Self { interaction: InteractionId::from(&contact), contact: Some(contact), bus_no: None })
            }
            None => Self::of_interaction(interaction_in(path).unwrap_or_default(), bus_no),
        }
    }

    fn of_interaction(text: &str, bus_no: Option<u64>) -> Result<Self, Problem> {
        // Of all that an id may hold only the colon is escaped by some clients.
        let text = text.replace("%3A", ":").replace("%3a", ":");
        let interaction = InteractionId::parse(&text).map_err(|fault| Problem::from(fault).at("interactionId"))?;
        let contact_id = interaction.as_str().parse().ok();
        let contact = bus_no.zip(contact_id).map(|(bus_no, contact_id)| ContactKey { bus_no, contact_id });
        // 007 is another interaction than 7, and must not pass for its contact.
        let contact = contact.filter(|contact| InteractionId::from(contact) == interaction);
        Ok(Self { interaction, contact, bus_no })
    }

    /// Whether a grant covers what could not be compared as a contact: a token that is bound to something is not good
    /// for what nobody can say to be that.
    pub(super) fn is_open_to(&self, grant: &Grant) -> bool {
        self.contact.is_some()
            || (grant.contact_id.is_none() && grant.bus_no.is_none_or(|bound| self.bus_no == Some(bound)))
    }

    /// The answer to who means a contact of another business unit than that of the uplinks.
    pub(super) fn of_another_unit(&self, uplinks_bus_no: Option<u64>) -> Option<Answer> {
        let (contact, ours) = self.contact.zip(uplinks_bus_no)?;
        let message = "the contact is of another business unit than the CXone credentials of this deployment";
        let figures = json!({ "busNo": contact.bus_no, "expected": ours });
        (contact.bus_no != ours).then(|| refusal(StatusCode::CONFLICT, "business_unit", message, &figures))
    }
}

/// The route of a path, if it is one of the two.
pub(crate) fn route_of(path: &str) -> Option<Route> {
    if path::contact_ids(path, PATH_END).is_some() {
        return Some(Route::ContactSuggestions);
    }
    interaction_in(path).map(|_| Route::InteractionSuggestions)
}

/// The text that stands where an interaction's id does, if it is such a path.
fn interaction_in(path: &str) -> Option<&str> {
    let text = path.strip_prefix("/interactions/")?.strip_suffix(PATH_END)?;
    path::is_one_segment(text).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, bus_no: Option<u64>) -> Place {
        Place::of(path, bus_no).unwrap()
    }

    #[test]
    fn a_contact_and_its_interaction_are_the_same_place_where_the_business_unit_is_known() {
        let by_contact = place("/contacts/4/7/suggestions", Some(4));
        let by_interaction = place("/interactions/7/suggestions", Some(4));
        assert_eq!(by_contact.interaction, by_interaction.interaction);
        assert_eq!(by_interaction.contact, Some(ContactKey { bus_no: 4, contact_id: 7 }));
        assert_eq!(place("/interactions/7/suggestions", None).contact, None);
        assert_eq!(place("/interactions/007/suggestions", Some(4)).contact, None);
        assert_eq!(place("/interactions/a%3Ab/suggestions", None).interaction.as_str(), "a:b");
    }

    #[test]
    fn a_bound_token_is_good_only_for_what_is_known_to_be_its_own() {
        let bound = |bus_no, contact_id| Grant { bus_no, contact_id, ..Grant::everybody() };
        let known = place("/interactions/abc/suggestions", Some(4));
        let unknown = place("/interactions/7/suggestions", None);
        for (place, grant, is_open) in [
            (&known, Grant::everybody(), true),
            (&known, bound(Some(4), None), true),
            (&known, bound(Some(5), None), false),
            (&known, bound(Some(4), Some(7)), false),
            (&unknown, Grant::everybody(), true),
            (&unknown, bound(Some(4), None), false),
            (&unknown, bound(Some(4), Some(7)), false),
        ] {
            assert_eq!(place.is_open_to(&grant), is_open, "{place:?} {grant:?}");
        }
    }

    #[test]
    fn a_path_that_only_resembles_one_is_no_place() {
        for path in ["/interactions/suggestions", "/interactions//suggestions", "/interactions/1/2/suggestions"] {
            assert_eq!(route_of(path), None, "{path}");
        }
        for path in ["/interactions/a b/suggestions", "/contacts/1/x/suggestions"] {
            let problem = Place::of(path, None).unwrap_err();
            assert!(problem.field.is_some(), "{path}");
        }
    }
}
