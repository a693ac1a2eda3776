//! A thousand interactions: what CXone's stream says of each, what the assist app suggests, and what the agents answer.
//!
//! Everything follows from the interaction's number, so that what has to come of it is known beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use earpiece_core::assist::audit::Event;
use earpiece_core::assist::suggestion::Rejection;
use earpiece_simulator::platform::{Kind, Platform};
use earpiece_store::Store;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::stage::{id, submit};

/// Interactions.
pub(crate) const INTERACTIONS: usize = 1_000;
/// Of ten interactions, those that cross a trigger.
const CROSSING_OF_TEN: usize = 6;
/// Of so many interactions one gets more suggestions than there are slots.
const CROWDED_EVERY: usize = 20;
/// Of so many interactions the agent of one answers nothing, so that its slots are full.
const UNANSWERED_EVERY: usize = 2 * CROWDED_EVERY;
/// Contact ids have twelve digits.
const FIRST_CONTACT: usize = 500_000_000_000;

pub(crate) fn name(interaction: usize) -> String {
    (FIRST_CONTACT + interaction).to_string()
}

/// Whether the agent is to get a popup.
pub(crate) const fn crosses(interaction: usize) -> bool {
    interaction % 10 < CROSSING_OF_TEN
}

pub(crate) const fn is_crowded(interaction: usize) -> bool {
    interaction.is_multiple_of(CROWDED_EVERY)
}

/// An event of the stream.
fn event(interaction: usize, kind: &str, score: f64, wait_ms: u64) -> Value {
    json!({
        "id": name(interaction), "type": kind, "sentiment": { "score": score, "confidence": 0.9 },
        "routing": { "queueWaitTimeMs": wait_ms, "queueName": "billing" },
        "participant": { "direction": "inbound" },
    })
}

/// How an interaction stands. One that crosses does so by its sentiment, by its wait, or by both; one that does not is
/// as near to both limits as it can be.
pub(crate) fn state(interaction: usize) -> Value {
    match (crosses(interaction), interaction % 3) {
        (false, _) => event(interaction, "STATE", -0.5, 120_000),
        (true, 0) => event(interaction, "STATE", -0.51, 1_000),
        (true, 1) => event(interaction, "STATE", 0.3, 120_001),
        (true, _) => event(interaction, "STATE", -0.9, 600_000),
    }
}

/// Everything that the stream says of an interaction in time: how it began, how it stands, and that again.
pub(crate) fn states(interaction: usize) -> Vec<Value> {
    let began = event(interaction, "CONNECT", 0.1, 1_000);
    vec![began.clone(), state(interaction), began, state(interaction)]
}

/// The ids of the suggestions of a wave. The second wave comes later, when some of the first have been answered.
pub(crate) fn suggestions(interaction: usize, wave: usize) -> Vec<String> {
    let numbers = match (is_crowded(interaction), wave) {
        (true, 0) => 0..8,
        (true, _) => 8..12,
        (false, 0) => 0..1 + interaction % 2,
        (false, _) => 0..0,
    };
    numbers.map(|number| format!("s{number}")).collect()
}

/// What an agent does with a suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Accepted,
    Dismissed,
    /// Its id is submitted twice: as long as it is active it must not be taken again.
    Ignored,
}

pub(crate) fn fate(interaction: &str, suggestion: &str) -> Fate {
    let contact: usize = interaction.parse().expect("a number");
    if (contact - FIRST_CONTACT).is_multiple_of(UNANSWERED_EVERY) {
        return Fate::Ignored;
    }
    let number: usize = suggestion[1..].parse().expect("a number");
    match number % 3 {
        0 => Fate::Accepted,
        1 => Fate::Dismissed,
        _ => Fate::Ignored,
    }
}

/// What became of everything that was submitted.
#[derive(Debug, Default)]
pub(crate) struct Submissions {
    /// By interaction.
    pub(crate) taken: BTreeMap<String, BTreeSet<String>>,
    /// By rule.
    pub(crate) refused: BTreeMap<&'static str, usize>,
    /// The store did not say what became of it, and it was submitted again.
    pub(crate) unclear: usize,
}

impl Submissions {
    pub(crate) fn taken(&self) -> usize {
        self.taken.values().map(BTreeSet::len).sum()
    }

    /// How many of them agents answer.
    pub(crate) fn answers(&self) -> usize {
        let answers = |(name, ids): (&String, &BTreeSet<String>)| {
            ids.iter().filter(|suggestion| fate(name, suggestion) != Fate::Ignored).count()
        };
        self.taken.iter().map(answers).sum()
    }

    fn take(&mut self, interaction: &str, suggestion: &str) {
        let is_new = self.taken.entry(interaction.to_owned()).or_default().insert(suggestion.to_owned());
        assert!(is_new, "{interaction}/{suggestion} was taken twice");
    }
}

/// Submits suggestions from as many tasks as there are stores. Neighbours in the list race with one another.
pub(crate) async fn submit_all(stores: &[Store], work: Vec<(String, String)>, done: &Arc<Mutex<Submissions>>) {
    let work = Arc::new(work);
    let next = Arc::new(AtomicUsize::new(0));
    let mut submitters = JoinSet::new();
    for store in stores.iter().map(Store::clone) {
        let (work, next, done) = (work.clone(), next.clone(), done.clone());
        submitters.spawn(async move {
            while let Some((interaction, suggestion)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                submit_one(&store, interaction, suggestion, &done).await;
            }
        });
    }
    while let Some(ended) = submitters.join_next().await {
        ended.expect("a submitter that does not panic");
    }
}

async fn submit_one(store: &Store, interaction: &str, suggestion: &str, done: &Mutex<Submissions>) {
    loop {
        match submit(store, interaction, suggestion).await {
            Ok(Ok(_)) => return done.lock().await.take(interaction, suggestion),
            Ok(Err(rejection)) => {
                let is_expected = matches!(rejection, Rejection::BufferFull { .. } | Rejection::Duplicate { .. });
                assert!(is_expected, "{interaction}/{suggestion} was refused by {}", rejection.rule());
                *done.lock().await.refused.entry(rejection.rule()).or_default() += 1;
                return;
            }
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                done.lock().await.unclear += 1;
                // The answer may have been lost, and not the suggestion: the record tells.
                if was_taken(store, interaction, suggestion).await {
                    return done.lock().await.take(interaction, suggestion);
                }
            }
        }
    }
}

async fn was_taken(store: &Store, interaction: &str, suggestion: &str) -> bool {
    let records = store.audit(&id(interaction)).await.expect("a store that answers");
    records.iter().any(|record| record.event == Event::Queued.label() && record.subject == suggestion)
}

/// The agents: each suggestion is answered as soon as it is on the desktop, some answers are given twice. Never
/// returns.
pub(crate) async fn answer_all(platform: &Platform) {
    let mut seen = 0;
    loop {
        let news = platform.wait_for(Duration::MAX, |received| {
            let (since, newest) = (seen, received.newest());
            let came = received.since(since).filter(|record| record.kind == Kind::Suggest);
            let came: Vec<_> = came.filter_map(|record| record.interaction.clone().zip(record.id.clone())).collect();
            seen = newest;
            (!came.is_empty()).then_some(came)
        });
        for (place, (interaction, suggestion)) in news.await.into_iter().flatten().enumerate() {
            let times = if place % 4 == 0 { 2 } else { 1 };
            for _ in 0..times {
                match fate(&interaction, &suggestion) {
                    Fate::Accepted => platform.accept(&interaction, &suggestion).await,
                    Fate::Dismissed => platform.dismiss(&interaction, &suggestion).await,
                    Fate::Ignored => break,
                };
            }
        }
    }
}
