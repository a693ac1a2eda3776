//! The document of one interaction, and every step by which it may change.
//!
//! A step reads nothing but the document and its arguments, changes the document, and returns its [`Effects`]: entries
//! to put, close or bury, and audit records. Whoever holds the store writes the document (on condition that it has not
//! changed since it was read) and the effects in one transaction, or none of it, and steps again on what is there now.
//! So any number of tasks may step at once, and every step may come twice, late or out of order: one that has nothing
//! left to do changes nothing and has no effects.
//!
//! `suggestions` holds the steps of suggestions, `deliveries` those of popups, cards, feedback and webhooks,
//! `letters` those of entries that cannot be delivered, and `step` the bookkeeping that all of them share.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::InteractionId;
use super::audit;
use super::outbox::Entry;

mod deliveries;
mod letters;
mod seen;
mod step;
mod suggestions;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use seen::Seen;

/// Popups that one interaction can have: more triggers than one configuration may hold.
pub const POPUPS_MAX: usize = 96;
/// The longest trigger name and the longest card id of a popup, in bytes.
pub const POPUP_NAME_BYTES_MAX: usize = 96;
/// Cards in one [`super::Payload::Insights`]; further ones are left for the next search.
pub const CARDS_MAX: usize = 32;
/// Living entries of one interaction. While there are so many, no cards are taken, and feedback and webhooks become dead
/// letters at once: that takes hours of answers while nothing at all can be delivered.
pub const OPEN_MAX: usize = 2048;
/// Dead letters that the document itself remembers; of older ones, their own mark is believed.
pub const BURIED_MAX: usize = 256;
/// How long after its window a suggestion that was sent and never answered keeps its slot, in milliseconds.
pub const LAPSE_GRACE_MS: i64 = 10 * 60 * 1000;
/// The longest window by which a sent suggestion keeps its slot, in milliseconds.
pub const LAPSE_WINDOW_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// What is known of one interaction. Its JSON form has short names and leaves out what is empty, because it is written
/// with every step.
#[derive(Clone, Default, Serialize, Deserialize, PartialEq, Debug)]
#[serde(default)]
pub struct Interaction {
    /// Suggestions that wait to be sent or to be answered, oldest first.
    #[serde(rename = "a", skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<Active>,
    /// How many suggestions the agent took up.
    #[serde(rename = "y", skip_serializing_if = "is_zero_count")]
    pub accepted: u32,
    /// How many the agent dismissed.
    #[serde(rename = "n", skip_serializing_if = "is_zero_count")]
    pub dismissed: u32,
    /// The popup of each trigger that has fired, by the trigger's name.
    #[serde(rename = "p", skip_serializing_if = "BTreeMap::is_empty")]
    pub popups: BTreeMap<String, PopupMark>,
    /// Whether a popup was refused because there were [`POPUPS_MAX`]: recorded once, and not with every event.
    #[serde(rename = "pf", skip_serializing_if = "std::ops::Not::not")]
    pub popups_full: bool,
    /// Ids of the cards that were queued for this interaction.
    #[serde(rename = "s", skip_serializing_if = "Seen::is_empty")]
    pub shown: Seen,
    /// Judgements of cards that were queued.
    #[serde(rename = "f", skip_serializing_if = "Seen::is_empty")]
    pub feedback: Seen,
    /// Entries that live: put, and neither closed nor buried.
    #[serde(rename = "o", skip_serializing_if = "BTreeSet::is_empty")]
    pub open: BTreeSet<u64>,
    /// Entries that are dead letters: the latest [`BURIED_MAX`].
    #[serde(rename = "b", skip_serializing_if = "BTreeSet::is_empty")]
    pub buried: BTreeSet<u64>,
    /// Dead letters below this number may have been forgotten.
    #[serde(rename = "bf", skip_serializing_if = "is_zero")]
    pub buried_floor: u64,
    /// The sequence number of the next entry.
    #[serde(rename = "q", skip_serializing_if = "is_zero")]
    pub next_seq: u64,
    /// The end of the audit chain.
    #[serde(rename = "h", skip_serializing_if = "audit::Head::is_empty")]
    pub audit: audit::Head,
}

impl Interaction {
    /// Whether nothing waits to leave and no answer is expected.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.active.is_empty() && self.open.is_empty()
    }

    /// The active suggestion with this id.
    #[must_use]
    pub fn slot(&self, suggestion_id: &str) -> Option<&Active> {
        self.active.iter().find(|slot| slot.id == suggestion_id)
    }
}

/// A suggestion that holds one of the slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Its id.
    #[serde(rename = "i")]
    pub id: String,
    /// Sequence number of its entry.
    #[serde(rename = "q")]
    pub seq: u64,
    /// How far it has come.
    #[serde(rename = "s")]
    pub state: ActiveState,
    /// When it was taken, in milliseconds since the Unix epoch.
    #[serde(rename = "t")]
    pub since_ms: i64,
    /// The end of its window.
    #[serde(rename = "e")]
    pub ends_ms: i64,
    /// When its frame was written.
    #[serde(rename = "w", skip_serializing_if = "Option::is_none", default)]
    pub sent_ms: Option<i64>,
    /// Whether CXone has acknowledged it.
    #[serde(rename = "k", skip_serializing_if = "std::ops::Not::not", default)]
    pub acked: bool,
}

/// How far a suggestion has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ActiveState {
    /// Waits to be sent.
    #[serde(rename = "q")]
    Queued,
    /// Its frame was written.
    #[serde(rename = "s")]
    Sent,
}

/// What became of the popup of one trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PopupMark {
    /// How far it has come.
    #[serde(rename = "s")]
    pub state: PopupState,
    /// Sequence number of its entry.
    #[serde(rename = "q")]
    pub seq: u64,
    /// Id of its card.
    #[serde(rename = "c")]
    pub card_id: String,
    /// When it came so far, in milliseconds since the Unix epoch.
    #[serde(rename = "t")]
    pub at_ms: i64,
}

/// How far a popup has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PopupState {
    /// Written before dispatch; whoever holds the lane's lease delivers it.
    #[serde(rename = "p")]
    Pending,
    /// Delivered.
    #[serde(rename = "d")]
    Done,
    /// A dead letter, or dropped by an operator. The trigger does not fire again.
    #[serde(rename = "x")]
    Dead,
}

/// On which interaction, and when.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Which interaction.
    pub id: &'a InteractionId,
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// What has to be written together with the document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// New entries, on condition that their numbers are free. One with [`Entry::dead`] is a dead letter from the start.
    pub put: Vec<Entry>,
    /// Sequence numbers of entries, living or dead, that are over.
    pub close: Vec<u64>,
    /// Sequence numbers of entries that become dead letters, and why.
    pub bury: Vec<(u64, &'static str)>,
    /// Records of what happened, in order.
    pub audit: Vec<audit::Record>,
}

impl Effects {
    /// Whether there is nothing to write. The document has not changed then either.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.close.is_empty() && self.bury.is_empty() && self.audit.is_empty()
    }
}

/// A suggestion that was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Submitted {
    /// Sequence number of its entry.
    pub seq: u64,
    /// The score that is sent, after the nudge.
    pub relevance_score: f64,
}

/// What the agent made of a suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Took it up.
    Accepted,
    /// Dismissed it.
    Dismissed,
}

impl Answer {
    /// Every answer.
    pub const ALL: [Self; 2] = [Self::Accepted, Self::Dismissed];

    /// The word in webhooks and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Dismissed => "dismissed",
        }
    }
}

/// Which webhooks are configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hooks {
    /// [`super::Hook::KbSync`].
    pub kb_sync: bool,
    /// [`super::Hook::OnAccept`].
    pub on_accept: bool,
}

/// What becomes of a trigger whose popup cannot be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// It may fire again.
    Free,
    /// It stays as it is, and the popup becomes a dead letter for an operator.
    #[default]
    DeadLetter,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero_count(count: &u32) -> bool {
    *count == 0
}
