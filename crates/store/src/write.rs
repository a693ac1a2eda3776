//! The one way in which the table is written: a conditional update of one item. (Only a pair of signing keys and a step
//! of an interaction take several at once, `transaction`.)

use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use earpiece_core::contact::ContactKey;

use crate::attribute::{Item, VERSION, n};
use crate::client::Store;
use crate::error::{StoreError, classify};
use crate::item::Stored;
use crate::key::Key;
use crate::transaction::{CONFLICT_PAUSES, unbuilt};

/// What became of a conditional write. In both cases the item is as it was at that instant.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// The condition held; this is the item after the write.
    Applied(T),
    /// The condition failed; this is the item as it stands, if there is one.
    Refused(Option<T>),
}

/// A change to one item and the condition under which it is made. Attribute names are chosen so that none is a
/// reserved word of DynamoDB and expressions read as they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    set: Vec<String>,
    remove: Vec<String>,
    only_if: Vec<String>,
    values: HashMap<String, AttributeValue>,
    /// Whether the item is not wanted back.
    is_quiet: bool,
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

    /// Does not ask for the item after the write: [`Outcome::Applied`] holds an empty one. For large items.
    pub(crate) const fn quietly(mut self) -> Self {
        self.is_quiet = true;
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

    fn condition_expression(&self) -> Option<String> {
        let conditions: Vec<_> = self.only_if.iter().map(|condition| format!("({condition})")).collect();
        (!conditions.is_empty()).then(|| conditions.join(" AND "))
    }

    /// The change as one of several that are made together.
    pub(crate) fn together(self, table: &str, key: &Key) -> Result<TransactWriteItem, StoreError> {
        let standing = if self.is_quiet {
            ReturnValuesOnConditionCheckFailure::None
        } else {
            ReturnValuesOnConditionCheckFailure::AllOld
        };
        let update = Update::builder()
            .table_name(table)
            .set_key(Some(key.to_item()))
            .update_expression(self.update_expression())
            .set_condition_expression(self.condition_expression())
            .set_expression_attribute_values(Some(self.value(":one", n(1)).values))
            .return_values_on_condition_check_failure(standing)
            .build()
            .map_err(|error| unbuilt(&error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

impl Store {
    /// Makes a change to a contact if its condition holds.
    pub(crate) async fn change(&self, contact: &ContactKey, change: Change) -> Result<Outcome<Stored>, StoreError> {
        match self.change_item(&Key::contact(contact), change).await? {
            Outcome::Applied(item) => Stored::read(&item).map(Outcome::Applied),
            Outcome::Refused(item) => item.as_ref().map(Stored::read).transpose().map(Outcome::Refused),
        }
    }

    /// Makes a change to an item that is also written in transactions: one that is under way is waited for.
    pub(crate) async fn change_shared_item(&self, key: &Key, change: Change) -> Result<Outcome<Item>, StoreError> {
        for pause in CONFLICT_PAUSES {
            match self.change_item(key, change.clone()).await {
                Err(StoreError::Contended) => tokio::time::sleep(pause).await,
                decided => return decided,
            }
        }
        Err(StoreError::Contended)
    }

    /// Makes a change to any item if its condition holds. Every change counts the item's version up.
    pub(crate) async fn change_item(&self, key: &Key, change: Change) -> Result<Outcome<Item>, StoreError> {
        let wanted_back = if change.is_quiet { ReturnValue::None } else { ReturnValue::AllNew };
        let _turn = self.turn().await?;
        let sent = self
            .client
            .update_item()
            .table_name(&*self.table)
            .set_key(Some(key.to_item()))
            .update_expression(change.update_expression())
            .set_condition_expression(change.condition_expression())
            .set_expression_attribute_values(Some(change.value(":one", n(1)).values))
            .return_values(wanted_back)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match sent {
            Ok(answer) => Ok(Outcome::Applied(answer.attributes.unwrap_or_default())),
            Err(SdkError::ServiceError(service)) if service.err().is_conditional_check_failed_exception() => {
                let standing = match service.into_err() {
                    UpdateItemError::ConditionalCheckFailedException(failed) => failed.item,
                    _ => None,
                };
                // An endpoint may answer "no item" as an empty one.
                Ok(Outcome::Refused(standing.filter(|item| !item.is_empty())))
            }
            Err(error) => Err(classify(&error)),
        }
    }
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
        assert_eq!(change.condition_expression().as_deref(), Some("(a = :a OR b = :b) AND (c = :c)"));
    }

    #[test]
    fn a_change_without_a_condition_sends_none() {
        assert_eq!(Change::new().set("a", ":a").condition_expression(), None);
    }
}
