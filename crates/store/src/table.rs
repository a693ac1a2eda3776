//! What the table looks like. The names here are the table's contract with whatever creates it in an account.

use std::time::Duration;

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};

use crate::client::Store;
use crate::error::{StoreError, classify};

/// The table's partition key.
pub const PARTITION_KEY: &str = "pk";
/// The table's sort key.
pub const SORT_KEY: &str = "sk";
/// The sort key of a contact.
pub const CONTACT_SORT: &str = "CONTACT";
/// The partition of the token server's private signing key: a policy with `dynamodb:LeadingKeys` keeps it apart.
pub const SIGNING_PARTITION: &str = "SIGNING";
/// The partition of the public halves of all signing keys.
pub const JWKS_PARTITION: &str = "JWKS";
/// The sparse index of what somebody has to look at: contacts that are not finished, utterances and outbox entries that
/// are not delivered, and dead letters.
pub const DUE_INDEX: &str = "due";
/// The index's partition key: `"0"` … `"3"` for contacts, `"U0"` … `"U3"` for utterances, `"D0"` … `"D3"` for
/// utterances that are dead letters; `"OS0"`, `"OI0"`, `"OP0"`, `"OW0"` … for the lanes of outbox entries, `"OX0"` …
/// for those that are dead letters.
pub const DUE_SHARD: &str = "due_shard";
/// The index's sort key, in milliseconds since the Unix epoch.
pub const DUE_AT_MS: &str = "due_at_ms";
/// The time-to-live attribute, in seconds since the Unix epoch.
pub const EXPIRES_AT_S: &str = "expires_at";
/// How many partitions of the index each kind is spread over, so that no single one takes every write.
pub const DUE_SHARDS: u64 = 4;

/// The whole table, as data: what [`Store::create_table`] makes here, a template has to make in an account.
pub const DEFINITION: Definition = Definition {
    key: [(PARTITION_KEY, AttributeKind::Text), (SORT_KEY, AttributeKind::Text)],
    due_index: DUE_INDEX,
    due_key: [(DUE_SHARD, AttributeKind::Text), (DUE_AT_MS, AttributeKind::Number)],
    due_projects_all: true,
    time_to_live: EXPIRES_AT_S,
    on_demand: true,
};

/// The shape of a table with one sparse index. Keys are given as partition key, then sort key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// The table's key.
    pub key: [(&'static str, AttributeKind); 2],
    /// The name of the index.
    pub due_index: &'static str,
    /// The index's key.
    pub due_key: [(&'static str, AttributeKind); 2],
    /// Whether the index carries whole items.
    pub due_projects_all: bool,
    /// The time-to-live attribute.
    pub time_to_live: &'static str,
    /// Whether it is billed by the request.
    pub on_demand: bool,
}

/// The type of a key attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeKind {
    /// `S`.
    Text,
    /// `N`.
    Number,
}

impl AttributeKind {
    /// DynamoDB's letter for it.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Text => "S",
            Self::Number => "N",
        }
    }
}

/// How often a new table is asked whether it is ready.
const READY_POLLS_MAX: u32 = 100;
/// The pause between two such questions.
const READY_POLL_PAUSE: Duration = Duration::from_millis(100);

impl Store {
    /// Makes the table for local use, as [`DEFINITION`] says, and returns when it is ready. A table that is already
    /// there is left alone, but for its time to live.
    ///
    /// # Errors
    /// Whatever the endpoint answers; [`StoreError::Timeout`] when the table is not ready after ten seconds.
    pub async fn create_table(&self) -> Result<(), StoreError> {
        let built = |error: aws_sdk_dynamodb::error::BuildError| StoreError::Refused {
            code: String::from("BuildError"),
            message: error.to_string(),
        };
        let keys = DEFINITION.key.into_iter().chain(DEFINITION.due_key);
        let attributes = keys.map(|(name, kind)| attribute(name, kind)).collect::<Result<_, _>>().map_err(built)?;
        let _turn = self.turn().await?;
        let created = self
            .client
            .create_table()
            .table_name(&*self.table)
            .billing_mode(BillingMode::PayPerRequest)
            .set_attribute_definitions(Some(attributes))
            .set_key_schema(Some(key_schema(DEFINITION.key).map_err(built)?))
            .global_secondary_indexes(due_index().map_err(built)?)
            .send()
            .await;
        match created {
            Err(error) if error.code() != Some("ResourceInUseException") => return Err(classify(&error)),
            _ => self.table_is_ready().await?,
        }
        self.enable_time_to_live().await
    }

    async fn table_is_ready(&self) -> Result<(), StoreError> {
        for _ in 0..READY_POLLS_MAX {
            let described =
                self.client.describe_table().table_name(&*self.table).send().await.map_err(|e| classify(&e))?;
            if described.table().and_then(|table| table.table_status()) == Some(&TableStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(READY_POLL_PAUSE).await;
        }
        Err(StoreError::Timeout)
    }

    async fn enable_time_to_live(&self) -> Result<(), StoreError> {
        let described =
            self.client.describe_time_to_live().table_name(&*self.table).send().await.map_err(|e| classify(&e))?;
        let status = described.time_to_live_description().and_then(|description| description.time_to_live_status());
        if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
            return Ok(());
        }
        let specification =
            TimeToLiveSpecification::builder().enabled(true).attribute_name(DEFINITION.time_to_live).build().map_err(
                |error| StoreError::Refused { code: String::from("BuildError"), message: error.to_string() },
            )?;
        self.client
            .update_time_to_live()
            .table_name(&*self.table)
            .time_to_live_specification(specification)
            .send()
            .await
            .map_err(|e| classify(&e))?;
        Ok(())
    }
}

type Built<T> = Result<T, aws_sdk_dynamodb::error::BuildError>;

fn attribute(name: &str, kind: AttributeKind) -> Built<AttributeDefinition> {
    let kind = match kind {
        AttributeKind::Text => ScalarAttributeType::S,
        AttributeKind::Number => ScalarAttributeType::N,
    };
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build()
}

fn key_schema([(partition, _), (sort, _)]: [(&str, AttributeKind); 2]) -> Built<Vec<KeySchemaElement>> {
    [(partition, KeyType::Hash), (sort, KeyType::Range)]
        .map(|(name, kind)| KeySchemaElement::builder().attribute_name(name).key_type(kind).build())
        .into_iter()
        .collect()
}

fn due_index() -> Built<GlobalSecondaryIndex> {
    GlobalSecondaryIndex::builder()
        .index_name(DEFINITION.due_index)
        .set_key_schema(Some(key_schema(DEFINITION.due_key)?))
        .projection(Projection::builder().projection_type(ProjectionType::All).build())
        .build()
}
