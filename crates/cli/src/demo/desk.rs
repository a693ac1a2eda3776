//! The agent's desk: what reaches it through CXone's platform, how long that took, and what the agent does about it.
//!
//! What arrives is read from the platform's books, never from Earpiece. Both sides are on one clock here, so the
//! latencies are true to the millisecond.

use std::collections::{BTreeSet, VecDeque};
use std::future::pending;
use std::time::Duration;

use earpiece_core::assist::card::SNIPPET_CHARS_MAX;
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::AppEvent;
use earpiece_simulator::Platform;
use earpiece_simulator::platform::{Answer, Kind, Received, Record, Uplink};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::script::{ADVICE, interaction};
use crate::clock::now_ms;

/// Moments that are remembered; with `--keep`, calls of others come and go for days.
const MOMENTS_MAX: usize = 256;

/// How long one wait for news lasts; then the next begins.
const NEWS: Duration = Duration::from_mins(1);

/// Something that reached the agent.
pub(crate) struct Arrival {
    /// Of which interaction.
    pub(crate) interaction: String,
    /// How long after its cause, in milliseconds: the app's frame, the words, the event.
    pub(crate) after_ms: Option<u64>,
    /// What.
    pub(crate) what: What,
}

/// What can reach the agent.
pub(crate) enum What {
    /// A suggestion.
    Suggestion {
        /// Its id.
        id: String,
        /// Its words.
        content: String,
    },
    /// Cards of knowledge, the best first.
    Knowledge(Vec<Article>),
    /// A popup.
    Popup {
        /// What it is about.
        title: String,
        /// Its words.
        content: String,
    },
}

/// A card of knowledge.
pub(crate) struct Article {
    /// Its title.
    pub(crate) title: String,
    /// How it begins.
    pub(crate) snippet: String,
    /// How well it fits, from 0 to 1.
    pub(crate) score: f64,
}

impl Article {
    /// Whether the article goes on behind what is shown of it.
    pub(crate) fn is_cut(&self) -> bool {
        self.snippet.chars().count() >= SNIPPET_CHARS_MAX
    }
}

/// What the agent decided.
pub(crate) struct Decision {
    /// In which interaction.
    pub(crate) interaction: String,
    /// About which suggestion.
    pub(crate) id: String,
    /// What.
    pub(crate) answer: Answer,
}

/// The figures of the demo's own interaction.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    /// Suggestions, in order of arrival.
    pub(crate) suggestions: Vec<Suggested>,
    /// Cards of knowledge, in order of arrival.
    pub(crate) knowledge: Vec<Known>,
    /// Popups, in order of arrival.
    pub(crate) popups: Vec<Popped>,
    /// On how many sockets CXone's events about the caller went out.
    pub(crate) events_heard: usize,
}

/// A suggestion that arrived.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Suggested {
    /// Its id.
    pub(crate) id: String,
    /// From the app's frame to CXone's socket, in milliseconds.
    pub(crate) after_ms: Option<u64>,
    /// What the agent did with it.
    pub(crate) answer: Option<Answer>,
    /// When, in milliseconds since the Unix epoch.
    #[serde(skip)]
    pub(crate) answered_at_ms: Option<i64>,
    /// From the agent's answer to Earpiece's record of it, in milliseconds.
    pub(crate) closed_after_ms: Option<u64>,
}

/// A card of knowledge that arrived.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Known {
    /// The article's id.
    pub(crate) id: String,
    /// From the words to the card, in milliseconds.
    pub(crate) after_ms: Option<u64>,
}

/// A popup that arrived.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Popped {
    /// The card's id.
    pub(crate) id: String,
    /// From the first event to the card, in milliseconds.
    pub(crate) after_ms: Option<u64>,
}

/// What something follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    /// The app suggested it.
    Frame { id: String },
    /// Words were heard.
    Words,
    /// CXone said something of the interaction.
    Event,
}

/// A suggestion that the agent thinks about.
struct Thought {
    due: Instant,
    decision: Decision,
}

/// The desk, and the agent at it.
#[derive(Default)]
pub(crate) struct Desk {
    seen: u64,
    moments: VecDeque<(String, Cause, i64)>,
    sockets: BTreeSet<&'static str>,
    thoughts: Vec<Thought>,
    figures: Figures,
}

impl Desk {
    /// Waits for records that have not been seen; none after a while. Loses nothing when dropped.
    pub(crate) async fn news(&self, platform: &Platform) -> Vec<Record> {
        let unseen = |received: &Received| {
            let records: Vec<Record> = received.since(self.seen).cloned().collect();
            (!records.is_empty()).then_some(records)
        };
        platform.wait_for(NEWS, unseen).await.unwrap_or_default()
    }

    /// Waits until the agent has made up their mind about something.
    pub(crate) async fn thought(&self) {
        match self.thoughts.iter().map(|thought| thought.due).min() {
            Some(due) => sleep_until(due).await,
            None => pending().await,
        }
    }

    /// What the agent has decided by now, if anything.
    pub(crate) fn decide(&mut self) -> Option<Decision> {
        let now = Instant::now();
        let ripe = self.thoughts.iter().position(|thought| thought.due <= now)?;
        let decision = self.thoughts.remove(ripe).decision;
        if decision.interaction == interaction().as_str()
            && let Some(figure) = self.figures.suggestions.iter_mut().find(|figure| figure.id == decision.id)
        {
            figure.answer = Some(decision.answer);
            figure.answered_at_ms = Some(now_ms());
        }
        Some(decision)
    }

    /// Notes what the app said: help may follow from it.
    pub(crate) fn app_said(&mut self, contact: ContactKey, said: &AppEvent) {
        let body = said.body.reveal();
        let cause = match said.kind.as_str() {
            "transcript" => Cause::Words,
            "suggestion" => Cause::Frame { id: text(body, "id") },
            _ => return,
        };
        self.note(contact.contact_id.to_string(), cause, said.at_us.div_euclid(1_000));
    }

    /// Notes that CXone says something of the demo's own interaction from now on.
    pub(crate) fn event_begins(&mut self) {
        self.note(interaction().to_string(), Cause::Event, now_ms());
    }

    /// Notes on how many sockets it went out.
    pub(crate) fn event_heard(&mut self, sockets: usize) {
        self.figures.events_heard += sockets;
    }

    fn note(&mut self, interaction: String, cause: Cause, at_ms: i64) {
        if self.moments.len() == MOMENTS_MAX {
            self.moments.pop_front();
        }
        self.moments.push_back((interaction, cause, at_ms));
    }

    /// How long it took since the latest such cause. Moments are whole milliseconds, cut off on either side.
    fn since(&self, interaction: &str, cause: &Cause, at_ms: i64) -> Option<u64> {
        let mut latest = self.moments.iter().rev();
        let (_, _, began_ms) = latest.find(|(whose, what, _)| whose == interaction && what == cause)?;
        Some(u64::try_from(at_ms - began_ms).unwrap_or(0))
    }

    /// Whether this record opened the last of CXone's three sockets; told once.
    pub(crate) fn is_connected_by(&mut self, record: &Record) -> bool {
        let was = self.sockets.len();
        match record.kind {
            // Socket A is of use once its token was taken.
            Kind::Auth if record.is_taken() => drop(self.sockets.insert(Uplink::Suggestions.label())),
            Kind::Opened if record.status == 101 => {
                let opened =
                    Uplink::ALL.map(Uplink::label).into_iter().find(|label| record.id.as_deref() == Some(label));
                self.sockets.extend(opened.filter(|&label| label != Uplink::Suggestions.label()));
            }
            _ => {}
        }
        was < Uplink::ALL.len() && self.sockets.len() == Uplink::ALL.len()
    }

    /// Takes a record: something for the agent, or nothing.
    pub(crate) fn take(&mut self, record: &Record) -> Option<Arrival> {
        self.seen = self.seen.max(record.number);
        let (whose, body) = (record.interaction.as_deref()?, record.json()?);
        if !record.is_taken() {
            return None;
        }
        let id = record.id.as_deref().unwrap_or_default();
        let (cause, what) = match record.kind {
            Kind::Suggest => {
                self.think(whose, id);
                let content = text(&body["suggestion"], "content");
                (Cause::Frame { id: id.to_owned() }, What::Suggestion { id: id.to_owned(), content })
            }
            Kind::Insight => (Cause::Words, What::Knowledge(articles(&body))),
            Kind::Card => (Cause::Event, What::Popup { title: text(&body, "title"), content: text(&body, "content") }),
            _ => return None,
        };
        let after_ms = self.since(whose, &cause, record.at_ms);
        if whose == interaction().as_str() {
            self.count(record.kind, id, &body, after_ms);
        }
        Some(Arrival { interaction: whose.to_owned(), after_ms, what })
    }

    /// The agent makes up their mind as the script says.
    fn think(&mut self, interaction: &str, id: &str) {
        let Some(advice) = ADVICE.iter().find(|advice| advice.id == id) else { return };
        let due = Instant::now() + Duration::from_millis(advice.thought_ms);
        let decision = Decision { interaction: interaction.to_owned(), id: id.to_owned(), answer: advice.answer };
        self.thoughts.push(Thought { due, decision });
    }

    fn count(&mut self, kind: Kind, id: &str, body: &Value, after_ms: Option<u64>) {
        let id = id.to_owned();
        match kind {
            Kind::Suggest => {
                let (answer, answered_at_ms, closed_after_ms) = (None, None, None);
                self.figures.suggestions.push(Suggested { id, after_ms, answer, answered_at_ms, closed_after_ms });
            }
            Kind::Insight => {
                let cards = body["insights"].as_array().into_iter().flatten();
                self.figures.knowledge.extend(cards.map(|card| Known { id: text(card, "id"), after_ms }));
            }
            Kind::Card => self.figures.popups.push(Popped { id, after_ms }),
            _ => {}
        }
    }

    /// The figures so far.
    pub(crate) fn take_figures(&mut self) -> Figures {
        std::mem::take(&mut self.figures)
    }
}

fn articles(body: &Value) -> Vec<Article> {
    let article = |card: &Value| Article {
        title: text(card, "title"),
        snippet: text(card, "snippet"),
        score: card["score"].as_f64().unwrap_or_default(),
    };
    body["insights"].as_array().into_iter().flatten().map(article).collect()
}

fn text(of: &Value, field: &str) -> String {
    of[field].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_agent_answers_each_suggestion_after_thinking_and_only_those_of_the_script() {
        let mut desk = Desk::default();
        for id in [ADVICE[0].id, ADVICE[1].id, "another"] {
            desk.think("99", id);
        }
        assert!(desk.decide().is_none(), "nothing is decided at once");
        let mut decided = Vec::new();
        let begun = Instant::now();
        for _ in &ADVICE {
            desk.thought().await;
            let decision = desk.decide().expect("a decision");
            decided.push((decision.id, decision.answer, begun.elapsed().as_millis()));
        }
        let expected = [&ADVICE[1], &ADVICE[0]];
        assert_eq!(decided, expected.map(|advice| (advice.id.to_owned(), advice.answer, advice.thought_ms.into())));
        assert!(desk.thoughts.is_empty());
    }

    #[test]
    fn a_latency_counts_from_the_latest_such_cause_of_the_same_interaction() {
        let mut desk = Desk::default();
        desk.note("1".into(), Cause::Words, 100);
        desk.note("2".into(), Cause::Words, 170);
        desk.note("1".into(), Cause::Words, 150);
        desk.note("1".into(), Cause::Event, 180);
        assert_eq!(desk.since("1", &Cause::Words, 190), Some(40));
        assert_eq!(desk.since("1", &Cause::Words, 149), Some(0), "both clocks are cut off to milliseconds");
        assert_eq!(desk.since("1", &Cause::Frame { id: "tip-1".into() }, 190), None);
    }

    #[test]
    fn moments_are_bounded_and_the_oldest_go_first() {
        let mut desk = Desk::default();
        for number in 0..=MOMENTS_MAX {
            desk.note(number.to_string(), Cause::Words, 0);
        }
        assert_eq!(desk.moments.len(), MOMENTS_MAX);
        assert_eq!((desk.since("0", &Cause::Words, 1), desk.since("1", &Cause::Words, 1)), (None, Some(1)));
    }
}
