//! What the assist app says on a voice socket that is meant for the agent: suggestions into the outbox, transcripts to
//! the insight side.
//!
//! Nobody who says something waits: each queue is bounded, and what does not fit is counted. Suggestions of one contact
//! are taken in their order. The rules are in `core`, the sending is in `earpiece_uplink`.

use std::time::Duration;

use earpiece_core::assist::{InteractionId, Rejection, Rules, Suggestion};
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::AppEvent;
use earpiece_core::secret::Private;
use earpiece_store::Store;
use earpiece_uplink::{Ear, Heard, Metrics, Said};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::clock::wall_ms;

/// Suggestions on their way to the store at the same time. One contact's stay behind one another.
const LANES: u64 = 16;
/// Suggestions that may wait in one lane: as many as the store takes in some seconds.
const LANE_SUGGESTIONS_MAX: usize = 256;

/// How long the last suggestions may take to be written when this task goes away.
const EMPTIED_MAX: Duration = Duration::from_secs(2);
/// Tries to write one suggestion.
const TRIES_MAX: u32 = 5;
/// First pause before a suggestion is written again; it doubles.
const PAUSE: Duration = Duration::from_millis(50);

/// The type of a suggestion, and of a transcript, on a voice socket.
const SUGGESTION: &str = "suggestion";
const TRANSCRIPT: &str = "transcript";

/// What suggestions are judged by, and how long the record of them is kept.
#[derive(Debug, Clone)]
pub struct Rulebook {
    /// The rules.
    pub rules: Rules,
    /// How long an interaction and its audit are kept after its last change.
    pub keep: Duration,
    /// The business unit that CXone's credentials belong to, where it is set: suggestions of others have no way out.
    pub bus_no: Option<u64>,
}

/// Where the streams of this task put what the assist app says.
pub(crate) struct Assistance {
    ear: Ear,
    lanes: Vec<mpsc::Sender<(InteractionId, Suggestion)>>,
    /// Suggestions that wait, or are on their way to the store.
    waiting: watch::Sender<usize>,
    metrics: Metrics,
    bus_no: Option<u64>,
}

impl Assistance {
    /// Opens the queues, and works them until the returned set is dropped.
    pub(crate) fn open(store: &Store, ear: Ear, metrics: Metrics, book: &Rulebook) -> (Self, JoinSet<()>) {
        let mut at_work = JoinSet::new();
        let count = watch::Sender::new(0_usize);
        let lanes = (0..LANES).map(|_| {
            let (lane, waiting) = mpsc::channel(LANE_SUGGESTIONS_MAX);
            at_work.spawn(submit_each(store.clone(), waiting, count.clone(), metrics.clone(), book.clone()));
            lane
        });
        let lanes = lanes.collect();
        (Self { ear, lanes, waiting: count.clone(), metrics, bus_no: book.bus_no }, at_work)
    }

    /// Takes what is meant for the agent, and leaves the rest.
    pub(crate) fn hear(&self, contact: ContactKey, event: &AppEvent) {
        if self.bus_no.is_some_and(|ours| ours != contact.bus_no) {
            if event.kind == SUGGESTION {
                self.metrics.suggestion("foreign");
            }
            return;
        }
        match event.kind.as_str() {
            SUGGESTION => self.suggestion(contact, event),
            TRANSCRIPT => self.transcript(contact, event),
            _ => {}
        }
    }

    fn suggestion(&self, contact: ContactKey, event: &AppEvent) {
        let Some(suggestion) = read(event, wall_ms()) else { return self.metrics.suggestion("unreadable") };
        let lane = usize::try_from(contact.contact_id % LANES).unwrap_or_default();
        self.waiting.send_modify(|count| *count += 1);
        let is_taken =
            self.lanes.get(lane).is_some_and(|lane| lane.try_send((contact_id(contact), suggestion)).is_ok());
        if !is_taken {
            self.waiting.send_modify(|count| *count = count.saturating_sub(1));
            self.metrics.suggestion("dropped");
        }
    }

    /// Waits until nothing is on its way to the store any more, but not for ever.
    pub(crate) async fn emptied(&self) {
        let mut waiting = self.waiting.subscribe();
        let emptied = waiting.wait_for(|count| *count == 0);
        if tokio::time::timeout(EMPTIED_MAX, emptied).await.is_err() {
            warn!(count = *self.waiting.borrow(), "suggestions of the app were not kept before the end");
        }
    }

    /// What may still change is not looked up.
    fn transcript(&self, contact: ContactKey, event: &AppEvent) {
        let body = event.body.reveal();
        let is_final = body.get("final").and_then(Value::as_bool).unwrap_or(true);
        let Some(text) = body.get("text").and_then(Value::as_str).filter(|_| is_final) else { return };
        let text = Private::new(text.to_owned());
        let what = Said::Fragment { text, at_ms: event.at_us.div_euclid(1000) };
        self.ear.hear(Heard { interaction: contact_id(contact), what });
    }
}

fn contact_id(contact: ContactKey) -> InteractionId {
    InteractionId::from(&contact)
}

/// One without an id is named by its stream and its instant: an app that says it twice says two.
fn read(event: &AppEvent, now_ms: i64) -> Option<Suggestion> {
    let mut body = event.body.reveal().clone();
    let fields = body.as_object_mut()?;
    if fields.get("id").is_none_or(Value::is_null) {
        fields.insert("id".to_owned(), json!(format!("{}-{}", event.stream, event.at_us)));
    }
    match Suggestion::read(&body, now_ms) {
        Ok(suggestion) => Some(suggestion),
        Err(fault) => {
            debug!(stream = %event.stream, why = %fault.public, "a suggestion of the app cannot be read");
            None
        }
    }
}

async fn submit_each(
    store: Store,
    mut waiting: mpsc::Receiver<(InteractionId, Suggestion)>,
    count: watch::Sender<usize>,
    metrics: Metrics,
    book: Rulebook,
) {
    while let Some((interaction, suggestion)) = waiting.recv().await {
        submit(&store, &interaction, &suggestion, &metrics, &book).await;
        count.send_modify(|count| *count = count.saturating_sub(1));
    }
}

async fn submit(
    store: &Store,
    interaction: &InteractionId,
    suggestion: &Suggestion,
    metrics: &Metrics,
    book: &Rulebook,
) {
    let keep_ms = u64::try_from(book.keep.as_millis()).unwrap_or(u64::MAX);
    let mut may_be_kept = false;
    for attempt in 0..TRIES_MAX {
        let judged = earpiece_uplink::submit(store, interaction, suggestion, &book.rules, keep_ms, wall_ms()).await;
        match judged {
            Ok(Ok(_)) => return metrics.suggestion("accepted"),
            // An earlier try was carried out, and its answer was lost.
            Ok(Err(Rejection::Duplicate { .. })) if may_be_kept => return metrics.suggestion("accepted"),
            Ok(Err(rejection)) => {
                info!(%interaction, rule = rejection.rule(), "a suggestion of the app was refused");
                return metrics.suggestion("refused");
            }
            Err(error) if error.is_transient() && attempt + 1 < TRIES_MAX => {
                may_be_kept = true;
                tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
            }
            Err(error) => {
                warn!(%interaction, %error, "a suggestion of the app could not be kept");
                return metrics.suggestion("lost");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use earpiece_core::contact::StreamId;

    use super::*;

    fn event(body: Value) -> AppEvent {
        AppEvent { stream: StreamId::new(), at_us: 5_000, kind: SUGGESTION.to_owned(), body: Private::new(body) }
    }

    #[test]
    fn a_suggestion_without_an_id_is_named_by_its_stream_and_its_instant() {
        let bare = event(json!({ "type": "suggestion", "content": "Ask.", "relevanceScore": 0.9 }));
        let read_once = read(&bare, 1).expect("a suggestion");
        assert_eq!(read_once.id, format!("{}-5000", bare.stream));
        let named = event(json!({ "type": "suggestion", "id": "s1", "content": "Ask.", "relevanceScore": 0.9 }));
        assert_eq!(read(&named, 1).expect("a suggestion").id, "s1");
    }

    #[tokio::test]
    async fn what_becomes_of_the_apps_suggestions_is_counted() {
        let metrics = Metrics::new().expect("metrics");
        let book = Rulebook { rules: Rules::default(), keep: Duration::from_hours(24), bus_no: Some(4) };
        let embedded = earpiece_store::Embedded::memory().expect("a store");
        let store = embedded.store("calls").await.expect("a table");
        let (ear, _hearing) = earpiece_uplink::channel();
        let (assistance, mut at_work) = Assistance::open(&store, ear, metrics.clone(), &book);
        let ours = ContactKey { bus_no: 4, contact_id: 77 };
        let good = json!({ "type": "suggestion", "id": "s1", "content": "Ask.", "relevanceScore": 0.9 });
        assistance.hear(ContactKey { bus_no: 5, ..ours }, &event(good.clone()));
        assistance.hear(ours, &event(json!({ "type": "suggestion", "id": "s2" })));
        for _ in 0..2 {
            assistance.hear(ours, &event(good.clone()));
        }
        drop(assistance);
        while at_work.join_next().await.is_some() {}
        let text = metrics.text();
        for outcome in ["foreign", "unreadable", "accepted", "refused"] {
            let line = format!("earpiece_suggestions_total{{outcome=\"{outcome}\"}} 1\n");
            assert!(text.contains(&line), "{outcome} in:\n{text}");
        }
        let waiting = store.outbox(&contact_id(ours), earpiece_core::assist::Lane::Suggestions, wall_ms()).await;
        assert_eq!(waiting.expect("entries").len(), 1);
        embedded.stop().await;
    }

    #[test]
    fn what_is_no_suggestion_is_not_taken_for_one() {
        assert!(read(&event(json!({ "type": "suggestion" })), 1).is_none());
        assert!(read(&event(json!("suggestion")), 1).is_none());
    }
}
