//! When a popup is due, and what it says (contract §5 C).
//!
//! Triggers are configuration: a JSON array, read once at start ([`Triggers::parse`]). Judging is pure: an event in, what
//! fires out. That a popup appears only once per interaction and trigger is not decided here: it is a mark in the
//! interaction's document ([`super::interaction`]), and the card's id is the same however often one fires.
//!
//! ```json
//! [
//!   {
//!     "name": "angry-caller",
//!     "when": {"any": [
//!       {"sentimentBelow": {"score": -0.5, "confidenceAtLeast": 0.6}},
//!       {"all": [{"waitAboveMs": 120000}, {"queue": {"oneOf": ["Billing", "Returns"]}}]}
//!     ]},
//!     "queues": {"Returns": {"sentimentBelow": -0.3, "waitAboveMs": 60000}},
//!     "card": {"type": "warning", "title": "Upset customer", "content": "Sentiment {score} in {queue}."},
//!     "onFailure": "deadLetter"
//!   }
//! ]
//! ```
//!
//! | field | is |
//! | --- | --- |
//! | `name` | 1 to 64 of `a`–`z`, `0`–`9`, `-`; no two alike |
//! | `when` | one condition: `all` or `any` of several, `sentimentBelow` (a score, or `score` with `confidenceAtLeast`), `waitAboveMs`, `queue` (`oneOf` or `noneOf`), `typeIs`, `directionIs` (a word or several) |
//! | `queues` | other thresholds (`sentimentBelow`, `waitAboveMs`) in place of those in `when`, by the queue's name |
//! | `card` | `type` (`info`, `warning`, `success`, `error`), `title`, and `content`, with `{score}`, `{waitMs}`, `{queue}` where figures go, and `{{` and `}}` for braces |
//! | `onFailure` | what becomes of a popup that cannot be delivered: `deadLetter` (the default), or `free`, so that a later event may fire again |
//!
//! Thresholds are strict: a sentiment of exactly the threshold is not below it. What an event does not say never fires,
//! be it a sentiment, a wait, a queue (for `noneOf`, too) or a confidence that is asked for. Names of queues and words are
//! compared without regard to case and to blanks around them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use self::template::Template;
use super::InteractionId;
use super::card::{CardKind, CardMetadata, PopupCard};
use super::interaction::OnFailure;
use crate::protocol::instant::format_rfc3339_ms;
use crate::protocol::platform::interactions::InteractionEvent;

mod config;
mod template;

#[cfg(test)]
mod tests;

pub use config::{
    CONDITIONS_MAX, CONFIG_BYTES_MAX, DEPTH_MAX, NAME_CHARS_MAX, QUEUES_MAX, TITLE_CHARS_MAX, TRIGGERS_MAX,
    WAIT_MS_MAX, WORDS_MAX,
};
pub use template::{CONTENT_CHARS_MAX, TEMPLATE_CHARS_MAX};

/// All triggers of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Triggers(Vec<Trigger>);

impl Triggers {
    /// Reads triggers from JSON text: an array of at most [`TRIGGERS_MAX`], which may be empty.
    ///
    /// # Errors
    /// Every fault, each beginning with the JSON path of what is faulty, such as `$[0].when.any[1].waitAboveMs`. Names of
    /// fields are repeated, values are not.
    pub fn parse(json: &str) -> Result<Self, Vec<String>> {
        config::read(json).map(Self)
    }

    /// The trigger that the document describes: a sentiment below −0.5, or a wait of more than 120,000 ms.
    #[must_use]
    pub fn documented() -> Self {
        let sentiment = Condition::SentimentBelow(SentimentBelow { score: -0.5, confidence_at_least: None });
        Self(vec![Trigger {
            name: "attention".to_owned(),
            when: Condition::Any(vec![sentiment, Condition::WaitAboveMs(120_000)]),
            queues: BTreeMap::new(),
            kind: CardKind::Warning,
            title: "This customer needs care".to_owned(),
            content: Template::documented(),
            on_failure: OnFailure::DeadLetter,
        }])
    }

    /// What fires on an event: each trigger at most once, in the order of the configuration.
    #[must_use]
    pub fn judge<'a>(&'a self, event: &InteractionEvent) -> Vec<Fired<'a>> {
        self.0.iter().filter(|trigger| trigger.fires(event)).map(|trigger| Fired { trigger }).collect()
    }

    /// The names of the triggers, in the order of the configuration.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|trigger| trigger.name.as_str())
    }

    /// What becomes of a popup of a trigger that cannot be delivered. A trigger that is no longer configured has its
    /// popups dead-lettered: nothing is lost by a change of the configuration.
    #[must_use]
    pub fn on_failure(&self, name: &str) -> OnFailure {
        self.0.iter().find(|trigger| trigger.name == name).map_or(OnFailure::DeadLetter, |trigger| trigger.on_failure)
    }
}

/// One trigger: when a popup is due, and what it says.
#[derive(Debug, Clone, PartialEq)]
struct Trigger {
    name: String,
    when: Condition,
    /// By [`folded`] name.
    queues: BTreeMap<String, Thresholds>,
    kind: CardKind,
    title: String,
    content: Template,
    on_failure: OnFailure,
}

impl Trigger {
    fn fires(&self, event: &InteractionEvent) -> bool {
        let of_queue = queue_of(event).and_then(|queue| self.queues.get(&queue)).copied().unwrap_or_default();
        self.when.holds(event, of_queue)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    SentimentBelow(SentimentBelow),
    WaitAboveMs(u64),
    /// [`folded`] names.
    QueueOneOf(Vec<String>),
    /// [`folded`] names.
    QueueNoneOf(Vec<String>),
    /// [`folded`] words.
    TypeIs(Vec<String>),
    /// [`folded`] words.
    DirectionIs(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct SentimentBelow {
    score: f64,
    confidence_at_least: Option<f64>,
}

/// Thresholds that hold in one queue in place of those in the condition.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Thresholds {
    /// The confidence is replaced only if one is given.
    sentiment_below: Option<SentimentBelow>,
    wait_above_ms: Option<u64>,
}

impl Condition {
    fn holds(&self, event: &InteractionEvent, of_queue: Thresholds) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(event, of_queue)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(event, of_queue)),
            Self::SentimentBelow(threshold) => threshold.or(of_queue.sentiment_below).holds(event),
            Self::WaitAboveMs(wait_ms) => {
                let waited_ms = event.routing.as_ref().and_then(|routing| routing.queue_wait_ms);
                waited_ms.is_some_and(|waited_ms| waited_ms > of_queue.wait_above_ms.unwrap_or(*wait_ms))
            }
            Self::QueueOneOf(queues) => queue_of(event).is_some_and(|queue| queues.contains(&queue)),
            Self::QueueNoneOf(queues) => queue_of(event).is_some_and(|queue| !queues.contains(&queue)),
            Self::TypeIs(kinds) => kinds.contains(&folded(&event.kind)),
            Self::DirectionIs(directions) => {
                event.direction.as_deref().is_some_and(|direction| directions.contains(&folded(direction)))
            }
        }
    }

    /// Whether a condition of some sort is anywhere in this one.
    fn has(&self, is_sought: &impl Fn(&Self) -> bool) -> bool {
        match self {
            Self::All(conditions) | Self::Any(conditions) => conditions.iter().any(|inner| inner.has(is_sought)),
            leaf => is_sought(leaf),
        }
    }
}

impl SentimentBelow {
    fn or(self, of_queue: Option<Self>) -> Self {
        of_queue.map_or(self, |of_queue| Self {
            score: of_queue.score,
            confidence_at_least: of_queue.confidence_at_least.or(self.confidence_at_least),
        })
    }

    fn holds(self, event: &InteractionEvent) -> bool {
        let Some(sentiment) = event.sentiment else { return false };
        let is_sure = self
            .confidence_at_least
            .is_none_or(|least| sentiment.confidence.is_some_and(|confidence| confidence >= least));
        is_sure && sentiment.score < self.score
    }
}

fn queue_of(event: &InteractionEvent) -> Option<String> {
    event.routing.as_ref()?.queue_name.as_deref().map(folded)
}

/// The form in which names and words are compared.
fn folded(text: &str) -> String {
    text.trim().to_lowercase()
}

/// A trigger whose condition an event meets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fired<'a> {
    trigger: &'a Trigger,
}

impl<'a> Fired<'a> {
    /// The trigger's name, under which the popup is marked in the interaction's document.
    #[must_use]
    pub fn name(&self) -> &'a str {
        &self.trigger.name
    }

    /// The card, with the event's figures in it. `now_ms` is milliseconds since the Unix epoch. Its id depends on trigger
    /// and interaction alone.
    #[must_use]
    pub fn card(&self, event: &InteractionEvent, now_ms: i64) -> PopupCard {
        PopupCard {
            card_id: card_id(&self.trigger.name, &event.id),
            kind: self.trigger.kind,
            title: self.trigger.title.clone(),
            content: self.trigger.content.fill(event),
            metadata: CardMetadata { source: CardMetadata::SOURCE.to_owned(), timestamp: format_rfc3339_ms(now_ms) },
        }
    }

    /// What becomes of the popup if it cannot be delivered.
    #[must_use]
    pub const fn on_failure(&self) -> OnFailure {
        self.trigger.on_failure
    }
}

/// How much of the digest is in a card's id: 64 bits tell interactions of one trigger apart.
const CARD_DIGEST_BYTES: usize = 8;

/// The id of a trigger's card for an interaction: the same on every task and after every restart.
#[must_use]
pub fn card_id(trigger: &str, interaction: &InteractionId) -> String {
    let digest = Sha256::new().chain_update(trigger).chain_update([0]).chain_update(interaction.as_str()).finalize();
    digest.iter().take(CARD_DIGEST_BYTES).fold(format!("earpiece-{trigger}-"), |mut id, byte| {
        // Writing to a text cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    })
}
