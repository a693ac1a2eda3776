//! The one way in which the table is written: a conditional update of one contact.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use earpiece_core::contact::ContactKey;

use crate::client::Store;
use crate::error::{StoreError, classify};
use crate::item::{Item, Stored, VERSION, n, partition_of, s};
use crate::table::{CONTACT_SORT, PARTITION_KEY, SORT_KEY};

/// What became of a conditional write. In both cases the contact is as it was at that instant.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The condition held; this is the contact after the write.
    Applied(Stored),
    /// The condition failed; this is the contact as it stands, if there is one.
    Refused(Option<Stored>),
}

/// A change to one contact and the condition under which it is made. Attribute names are chosen so that none is a
/// reserved word of DynamoDB and expressions read as they are.
#[derive(Debug, Default)]
pub(crate) struct Change {
    set: Vec<String>,
    remove: Vec<String>,
    only_if: Vec<String>,
    values: HashMap<String, AttributeValue>,
}

impl Change {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sets an attribute to an expression over the item *before* the write.
    pub(crate) fn set(mut self, attribute: impl AsRef<str>, expression: &str) -> Self {
        self.set.push(format!("{} = {expression}", attribute.as_ref()));
        self
    }

    /// Removes an attribute; that it is absent is no error.
    pub(crate) fn remove(mut self, attribute: impl Into<String>) -> Self {
        self.remove.push(attribute.into());
        self
    }

    /// Adds a condition; all have to hold.
    pub(crate) fn only_if(mut self, condition: impl Into<String>) -> Self {
        self.only_if.push(condition.into());
        self
    }

    /// Gives a `:name` its value. DynamoDB refuses names that no expression uses.
    pub(crate) fn value(mut self, name: &str, value: AttributeValue) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    fn update_expression(&self) -> String {
        let mut parts = vec![format!("ADD {VERSION} :one")];
        for (verb, clauses) in [("SET", &self.set), ("REMOVE", &self.remove)] {
            if !clauses.is_empty() {
                parts.push(format!("{verb} {}", clauses.join(", ")));
            }
        }
        parts.join(" ")
    }

    fn condition_expression(&self) -> String {
        self.only_if.iter().map(|condition| format!("({condition})")).collect::<Vec<_>>().join(" AND ")
    }
}

impl Store {
    /// Makes a change if its condition holds. Every change counts the item's version up.
    pub(crate) async fn change(&self, contact: &ContactKey, change: Change) -> Result<Outcome, StoreError> {
        let _turn = self.turn().await;
        let sent = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(key_of(contact)))
            .update_expression(change.update_expression())
            .condition_expression(change.condition_expression())
            .set_expression_attribute_values(Some(change.value(":one", n(1)).values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match sent {
            Ok(answer) => Stored::read(&answer.attributes.unwrap_or_default()).map(Outcome::Applied),
            Err(SdkError::ServiceError(service)) if service.err().is_conditional_check_failed_exception() => {
                let standing = match service.into_err() {
                    UpdateItemError::ConditionalCheckFailedException(failed) => failed.item,
                    _ => None,
                };
                // An endpoint may answer "no item" as an empty one.
                let standing = standing.filter(|item| !item.is_empty());
                standing.as_ref().map(Stored::read).transpose().map(Outcome::Refused)
            }
            Err(error) => Err(classify(&error)),
        }
    }
}

/// The key of a contact's item.
pub(crate) fn key_of(contact: &ContactKey) -> Item {
    Item::from([(PARTITION_KEY.to_owned(), s(partition_of(contact))), (SORT_KEY.to_owned(), s(CONTACT_SORT))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_and_conditions_are_joined_and_every_write_counts() {
        let change = Change::new()
            .set("tx_open", ":false")
            .set("tx_samples", ":samples")
            .remove("expires_at")
            .only_if("a = :a OR b = :b")
            .only_if("c = :c");
        assert_eq!(
            change.update_expression(),
            "ADD item_version :one SET tx_open = :false, tx_samples = :samples REMOVE expires_at"
        );
        assert_eq!(change.condition_expression(), "(a = :a OR b = :b) AND (c = :c)");
    }
}
