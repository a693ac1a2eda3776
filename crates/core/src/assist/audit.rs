//! The record of what happened to an interaction: append-only, and chained so that no change of it goes unseen.
//!
//! Each record carries the hash of the one before it and of its own whole content; the interaction's document carries
//! the [`Head`] of the chain. An edit, a removal, a reorder or a record from elsewhere breaks the chain at a place that
//! [`verify`] names; the head tells when the end is missing. Details are figures and digests, never words.

use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::InteractionId;

/// The hash before the first record: 64 zeros.
pub const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What may happen to an interaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// A suggestion passed the rules and waits to be sent.
    Queued,
    /// A suggestion was refused by a rule, or a popup by a limit.
    Refused,
    /// A suggestion's frame was written to CXone.
    Injected,
    /// CXone acknowledged a suggestion.
    Acknowledged,
    /// The agent took a suggestion up.
    Accepted,
    /// The agent dismissed a suggestion.
    Dismissed,
    /// A suggestion's window was over before it could be sent.
    Expired,
    /// A sent suggestion was never answered, and its slot was released.
    Lapsed,
    /// A trigger fired and its popup waits to be delivered.
    PopupPending,
    /// A popup was delivered.
    PopupDelivered,
    /// A popup could not be delivered, and its trigger may fire again.
    PopupFreed,
    /// Cards wait to be delivered.
    InsightsQueued,
    /// Cards were delivered.
    InsightsDelivered,
    /// The agent's judgement of a card waits to be delivered.
    FeedbackQueued,
    /// The agent's judgement of a card was delivered.
    FeedbackDelivered,
    /// A webhook was delivered.
    WebhookDelivered,
    /// An entry could not be delivered and became a dead letter.
    DeadLettered,
    /// An operator had a dead letter tried again.
    Revived,
    /// An operator dropped an entry.
    Dropped,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 19] = [
        Self::Queued,
        Self::Refused,
        Self::Injected,
        Self::Acknowledged,
        Self::Accepted,
        Self::Dismissed,
        Self::Expired,
        Self::Lapsed,
        Self::PopupPending,
        Self::PopupDelivered,
        Self::PopupFreed,
        Self::InsightsQueued,
        Self::InsightsDelivered,
        Self::FeedbackQueued,
        Self::FeedbackDelivered,
        Self::WebhookDelivered,
        Self::DeadLettered,
        Self::Revived,
        Self::Dropped,
    ];

    /// The word in the record.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Refused => "refused",
            Self::Injected => "injected",
            Self::Acknowledged => "acknowledged",
            Self::Accepted => "accepted",
            Self::Dismissed => "dismissed",
            Self::Expired => "expired",
            Self::Lapsed => "lapsed",
            Self::PopupPending => "popup_pending",
            Self::PopupDelivered => "popup_delivered",
            Self::PopupFreed => "popup_freed",
            Self::InsightsQueued => "insights_queued",
            Self::InsightsDelivered => "insights_delivered",
            Self::FeedbackQueued => "feedback_queued",
            Self::FeedbackDelivered => "feedback_delivered",
            Self::WebhookDelivered => "webhook_delivered",
            Self::DeadLettered => "dead_lettered",
            Self::Revived => "revived",
            Self::Dropped => "dropped",
        }
    }
}

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many records there are.
    #[serde(rename = "n")]
    pub count: u64,
    /// Hash of the last record, in hexadecimal; [`NO_HASH`] when there is none.
    #[serde(rename = "h")]
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { count: 0, hash: NO_HASH.to_owned() }
    }
}

impl Head {
    /// Whether nothing has been recorded.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// One thing that happened. Its JSON form is a line of the export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// To which interaction.
    pub interaction: InteractionId,
    /// The how manieth record of the interaction, from 1.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What: an [`Event`] label. Text, so that records of a newer version can be verified too.
    pub event: String,
    /// Id of the suggestion, card, insight or trigger it happened to.
    pub subject: String,
    /// Figures, and digests of content (`contentSha256`); never words.
    pub details: Value,
    /// Hash of the record before, in hexadecimal.
    pub previous: String,
    /// SHA-256, in hexadecimal, over `previous` and the canonical JSON of the other fields.
    pub hash: String,
}

impl Record {
    /// What `hash` has to be: SHA-256 over the bytes of `previous`, followed by the object of every field but `previous`
    /// and `hash` in canonical JSON (keys in the order of their bytes, no blanks).
    #[must_use]
    pub fn computed_hash(&self) -> String {
        let mut canonical = String::with_capacity(512);
        canonical.push_str(&self.previous);
        canonical.push_str("{\"atMs\":");
        // Writing to a text cannot fail.
        let _ = write!(canonical, "{}", self.at_ms);
        canonical.push_str(",\"details\":");
        write_canonical(&mut canonical, &self.details);
        canonical.push_str(",\"event\":");
        write_text(&mut canonical, &self.event);
        canonical.push_str(",\"interaction\":");
        write_text(&mut canonical, self.interaction.as_str());
        let _ = write!(canonical, ",\"number\":{}", self.number);
        canonical.push_str(",\"subject\":");
        write_text(&mut canonical, &self.subject);
        canonical.push('}');
        sha256_hex(canonical.as_bytes())
    }
}

/// Adds a record to a chain: the caller stores it together with the new head, or neither.
#[must_use = "a record that is not stored leaves a hole in the chain"]
pub fn append(
    head: &mut Head,
    interaction: &InteractionId,
    at_ms: i64,
    event: Event,
    subject: &str,
    details: Value,
) -> Record {
    let mut record = Record {
        interaction: interaction.clone(),
        number: head.count + 1,
        at_ms,
        event: event.label().to_owned(),
        subject: subject.to_owned(),
        details,
        previous: head.hash.clone(),
        hash: String::new(),
    };
    record.hash = record.computed_hash();
    head.count = record.number;
    head.hash.clone_from(&record.hash);
    record
}

/// A chain without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many records it has.
    pub count: u64,
}

/// Where a chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// The first number that is not as it was written.
    pub number: u64,
    /// In what way.
    pub what: BrokenKind,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} {}", self.number, self.what.sentence())
    }
}

impl std::error::Error for Broken {}

/// In what way a chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BrokenKind {
    /// The record does not match its hash, or the next one (or the head) does not follow from it.
    Edited,
    /// The record is not there, and later ones are.
    Missing,
    /// The record stands in another place, or twice.
    Reordered,
    /// The end is missing: the head counts more records.
    Truncated,
    /// The record belongs to another interaction, or the head does not know of it.
    Foreign,
}

impl BrokenKind {
    /// The word for tables and exit reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Missing => "missing",
            Self::Reordered => "reordered",
            Self::Truncated => "truncated",
            Self::Foreign => "foreign",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Edited => "was edited: it does not match its hash, or what follows does not follow from it",
            Self::Missing => "is missing",
            Self::Reordered => "does not stand in its place",
            Self::Truncated => "and what follows it is missing at the end",
            Self::Foreign => "does not belong to this chain",
        }
    }
}

/// Verifies the records of one interaction, in the order of their numbers, against the head of its chain.
///
/// The head and the records are two reads: read the head first and take no more than [`Head::count`] records, or a record
/// that is written between the two looks foreign. Without a head, a chain whose end was cut off looks whole.
///
/// # Errors
/// The first place at which the chain is broken.
pub fn verify(records: impl Iterator<Item = Record>, head: Option<&Head>) -> Result<Verified, Broken> {
    let mut records = records;
    let mut known = Head::default();
    let mut interaction = None;
    while let Some(record) = records.next() {
        let number = known.count + 1;
        let broken = |what| Err(Broken { number, what });
        if record.hash != record.computed_hash() {
            return broken(BrokenKind::Edited);
        }
        if interaction.get_or_insert_with(|| record.interaction.clone()) != &record.interaction {
            return broken(BrokenKind::Foreign);
        }
        if record.number > number {
            let stands_later = records.any(|later| later.number == number);
            return broken(if stands_later { BrokenKind::Reordered } else { BrokenKind::Missing });
        }
        if record.number < number {
            return broken(BrokenKind::Reordered);
        }
        if record.previous != known.hash {
            // The record itself is sound, so the one before it was rewritten together with its hash. Before the first
            // one there is none.
            return Err(Broken { number: known.count.max(1), what: BrokenKind::Edited });
        }
        known = Head { count: number, hash: record.hash };
    }
    head.map_or(Ok(()), |head| against_head(&known, head))?;
    Ok(Verified { count: known.count })
}

fn against_head(known: &Head, head: &Head) -> Result<(), Broken> {
    if known.count < head.count {
        return Err(Broken { number: known.count + 1, what: BrokenKind::Truncated });
    }
    if known.count > head.count {
        return Err(Broken { number: head.count + 1, what: BrokenKind::Foreign });
    }
    if known.hash != head.hash {
        return Err(Broken { number: known.count.max(1), what: BrokenKind::Edited });
    }
    Ok(())
}

/// SHA-256 in hexadecimal: what a record says of content, instead of the content.
#[must_use]
pub fn sha256_hex(content: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(content).into();
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Sorted by hand: whether `serde_json` sorts the keys of an object is decided by whoever else is in the build.
fn write_canonical(canonical: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| key.as_str());
            canonical.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    canonical.push(',');
                }
                write_text(canonical, key);
                canonical.push(':');
                write_canonical(canonical, value);
            }
            canonical.push('}');
        }
        Value::Array(items) => {
            canonical.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    canonical.push(',');
                }
                write_canonical(canonical, item);
            }
            canonical.push(']');
        }
        Value::String(text) => write_text(canonical, text),
        plain => {
            let _ = write!(canonical, "{plain}");
        }
    }
}

fn write_text(canonical: &mut String, text: &str) {
    let _ = write!(canonical, "{}", Value::from(text));
}

#[cfg(test)]
mod tests;
