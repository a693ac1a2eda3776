//! What has to leave: entries that a step of an interaction writes in the same transaction as their cause.
//!
//! An entry lives until it is closed (delivered, or no longer wanted) or buried (a dead letter). Each kind has a lane;
//! a lane is worked by one task at a time, in the order of the sequence numbers of each interaction.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::InteractionId;
use super::card::{Card, FeedbackAction, PopupCard};
use super::suggestion::Suggestion;
use crate::secret::Private;

/// Where an entry leaves to. Lanes do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// CXone's suggestion socket.
    Suggestions,
    /// CXone's REST endpoints for insight cards and for feedback on them.
    Insights,
    /// CXone's REST endpoint for popup cards.
    Popups,
    /// The operator's own webhooks.
    Webhooks,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 4] = [Self::Suggestions, Self::Insights, Self::Popups, Self::Webhooks];

    /// The metric label, and the word in the store and on the command line.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Suggestions => "suggestions",
            Self::Insights => "insights",
            Self::Popups => "popups",
            Self::Webhooks => "webhooks",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.label() == word)
    }
}

/// Which webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hook {
    /// Told of every suggestion that the agent took up or dismissed.
    KbSync,
    /// Told of every suggestion that the agent took up.
    OnAccept,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 2] = [Self::KbSync, Self::OnAccept];

    /// The word in event ids and bodies, and the metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::KbSync => "kbSync",
            Self::OnAccept => "onAccept",
        }
    }
}

/// What has to leave.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Payload {
    /// A frame on the suggestion socket, with the score after the nudge.
    Suggestion(Suggestion),
    /// Cards for the agent, best first.
    Insights {
        /// At least one.
        cards: Vec<Card>,
    },
    /// The agent's judgement of an insight.
    Feedback {
        /// Which insight.
        insight_id: String,
        /// The judgement.
        action: FeedbackAction,
        /// When it was passed, in milliseconds since the Unix epoch.
        at_ms: i64,
    },
    /// A popup card. Its id is derived, so that a repeat is the same card.
    Popup {
        /// The trigger that fired.
        trigger: String,
        /// The card.
        card: PopupCard,
    },
    /// A call of one of the operator's webhooks.
    Webhook {
        /// Which.
        hook: Hook,
        /// Names the event for whoever receives it twice: `{interaction}:{suggestion}:{seq}:{hook}`, with the sequence
        /// number of the suggestion.
        event_id: String,
        /// The JSON body.
        body: Private<Value>,
    },
}

impl Payload {
    /// The lane in which it leaves.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Suggestion(_) => Lane::Suggestions,
            Self::Insights { .. } | Self::Feedback { .. } => Lane::Insights,
            Self::Popup { .. } => Lane::Popups,
            Self::Webhook { .. } => Lane::Webhooks,
        }
    }

    /// Its kind: the word in the store, in lists and in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Suggestion(_) => "suggestion",
            Self::Insights { .. } => "insights",
            Self::Feedback { .. } => "feedback",
            Self::Popup { .. } => "popup",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// The id of what it is about, for lists and audit records: suggestion, first card, insight, popup card or event.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::Suggestion(suggestion) => &suggestion.id,
            Self::Insights { cards } => cards.first().map_or("", |card| card.id.as_str()),
            Self::Feedback { insight_id, .. } => insight_id,
            Self::Popup { card, .. } => &card.card_id,
            Self::Webhook { event_id, .. } => event_id,
        }
    }
}

/// Kind and id only: titles and contents are for the agent.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.label(), self.subject())
    }
}

/// One thing that has to leave.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// On behalf of which interaction.
    pub interaction: InteractionId,
    /// Its place among the interaction's entries; never given twice.
    pub seq: u64,
    /// What leaves.
    pub payload: Payload,
    /// When it was written, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// The last moment at which it may leave; absent where it never grows stale.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_ms: Option<i64>,
    /// When it may be tried next.
    pub due_ms: i64,
    /// How often it was tried.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub attempts: u32,
    /// The fencing token of whoever claimed it last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sender: Option<u64>,
    /// Why and when it became a dead letter; absent while it lives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dead: Option<Dead>,
}

impl Entry {
    /// Whether the last moment at which it could leave has passed.
    #[must_use]
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms < now_ms)
    }
}

/// Why and when an entry became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dead {
    /// Why: a word from a short list, never the text of an answer.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::assist::card::{CardKind, CardMetadata};
    use crate::assist::suggestion::{Priority, Window};

    fn payloads() -> Vec<Payload> {
        let interaction_id = InteractionId::parse("7").unwrap();
        let metadata = CardMetadata { source: "earpiece".into(), timestamp: "2025-01-31T08:30:00.000Z".into() };
        vec![
            Payload::Suggestion(Suggestion {
                id: "s-1".into(),
                content: Private::new("offer a refund".into()),
                priority: Priority::High,
                relevance_score: 0.1 + 0.7,
                context_window: Window { start_ms: 1, end_ms: 86_400_001 },
            }),
            Payload::Insights {
                cards: vec![Card {
                    id: "a-1".into(),
                    title: Private::new("offer".into()),
                    priority: 1,
                    score: 0.3,
                    citation: "https://kb.example/a-1".into(),
                    snippet: Private::new("a refund".into()),
                    interaction_id,
                }],
            },
            Payload::Feedback { insight_id: "a-1".into(), action: FeedbackAction::Rejected, at_ms: -5 },
            Payload::Popup {
                trigger: "angry".into(),
                card: PopupCard {
                    card_id: "c-1".into(),
                    kind: CardKind::Warning,
                    title: "offer".into(),
                    content: Private::new("a refund".into()),
                    metadata,
                },
            },
            Payload::Webhook {
                hook: Hook::OnAccept,
                event_id: "7:s-1:3:onAccept".into(),
                body: Private::new(json!({"offer": "refund", "n": u64::MAX})),
            },
        ]
    }

    fn entry(payload: Payload) -> Entry {
        let interaction = InteractionId::parse("7").unwrap();
        let dead = Some(Dead { reason: "attempts_max".into(), at_ms: 9 });
        let (sender, expires_ms) = (Some(4), Some(8));
        Entry { interaction, seq: 3, payload, created_ms: 1, expires_ms, due_ms: 2, attempts: 2, sender, dead }
    }

    #[test]
    fn every_kind_of_entry_is_read_as_it_was_written() {
        for payload in payloads() {
            let written = entry(payload);
            let text = serde_json::to_string(&written).unwrap();
            assert!(text.contains(&format!("\"kind\":\"{}\"", written.payload.label())), "{text}");
            assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), written);
        }
    }

    #[test]
    fn what_is_absent_is_not_written() {
        let webhook = payloads().pop().unwrap();
        let bare = Entry { attempts: 0, sender: None, expires_ms: None, dead: None, ..entry(webhook) };
        let text = serde_json::to_string(&bare).unwrap();
        for name in ["attempts", "sender", "expiresMs", "dead"] {
            assert!(!text.contains(name), "{text}");
        }
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), bare);
    }

    #[test]
    fn no_entry_prints_a_word_of_what_it_carries() {
        for payload in payloads() {
            let printed = format!("{:?}", entry(payload));
            assert!(!printed.contains("refund") && !printed.contains("offer"), "{printed}");
        }
    }

    #[test]
    fn each_kind_leaves_in_its_lane_and_lanes_have_words_of_their_own() {
        let lanes: Vec<_> = payloads().iter().map(Payload::lane).collect();
        assert_eq!(lanes, [Lane::Suggestions, Lane::Insights, Lane::Insights, Lane::Popups, Lane::Webhooks]);
        for lane in Lane::ALL {
            assert_eq!(Lane::parse(lane.label()), Some(lane));
        }
        assert_eq!(Lane::parse("letters"), None);
    }

    #[test]
    fn an_entry_is_expired_after_its_last_moment_and_not_at_it() {
        let suggestion = payloads().remove(0);
        let written = entry(suggestion);
        assert!(!written.is_expired(8));
        assert!(written.is_expired(9));
        assert!(!Entry { expires_ms: None, ..written }.is_expired(i64::MAX));
    }
}
