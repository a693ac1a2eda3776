//! An utterance on its way to the assist app: the first time while CXone waits, later by the sweep.
//!
//! The store holds what is not delivered; here is decided what becomes of it after each attempt. A delivery may happen
//! twice (the app took it, and the mark could not be written): the app gets the same `Idempotency-Key` both times.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::{ContactEvent, What};
use earpiece_core::telemetry::UTTERANCES;
use earpiece_relay::text::{TextRelay, Undelivered, UtteranceNote};
use earpiece_store::{DueUtterance, Store, StoreError};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::clock::{Clock, as_ms, wall_ms};
use crate::counters::Counters;
use crate::publish::Publisher;
use crate::settings::TextRules;
use crate::suggestions::Desk;

/// No pause of ours is shorter. The one after the second delivery is up to twice as long, and each further one up to
/// twice as long as the one before.
pub const PAUSE_MIN: Duration = Duration::from_secs(5);
/// No pause of ours is longer.
pub const PAUSE_MAX: Duration = Duration::from_mins(15);
/// No pause that the assist app asks for is longer.
pub const ASKED_PAUSE_MAX: Duration = Duration::from_hours(1);
/// How long a later delivery may take.
pub const LATER_DEADLINE: Duration = Duration::from_secs(10);
/// How long nobody else delivers what is being delivered, beyond the delivery's own deadline: the store's patience and
/// some. With the first delivery's deadline it is the pause before the second.
pub const LEASE_MARGIN: Duration = Duration::from_secs(15);
/// How long a dead letter is kept. What is not delivered waits until it is one, however long that takes.
pub const KEEP: Duration = Duration::from_hours(14 * 24);

/// What became of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The assist app has it, or there is none.
    Delivered,
    /// It is tried again later.
    Undelivered,
    /// It is a dead letter: refused, or tried too often.
    Dead,
}

/// Delivers utterances and notes what became of them.
#[derive(Clone)]
pub struct Delivery {
    store: Store,
    relay: Option<TextRelay>,
    publisher: Publisher,
    desk: Desk,
    counters: Arc<Counters>,
    rules: TextRules,
}

impl Delivery {
    /// `relay` is `None` where there is no assist app: then nothing waits for a delivery, and none is counted.
    #[must_use]
    pub const fn new(
        store: Store,
        relay: Option<TextRelay>,
        publisher: Publisher,
        desk: Desk,
        counters: Arc<Counters>,
        rules: TextRules,
    ) -> Self {
        Self { store, relay, publisher, desk, counters, rules }
    }

    /// Delivers what was accepted just now, within `budget`. What fails is left to the sweep, which finds it when the
    /// lease of its acceptance is over.
    pub async fn first(&self, note: &UtteranceNote, key: &str, budget: Duration) -> Outcome {
        let over_at = Instant::now() + budget;
        match self.hand_over(note, budget).await {
            Ok(events) => {
                self.delivered(&note.contact, key, &note.request_id).await;
                self.pass_on(note, &events, over_at).await;
                Outcome::Delivered
            }
            Err(Undelivered::Refused { status }) => {
                self.bury(&note.contact, key, &note.request_id, "refused", Some(status)).await;
                Outcome::Dead
            }
            Err(Undelivered::Again { .. }) => {
                info!(contact = %note.contact, request = note.request_id, "the assist app is away; delivered later");
                self.count("undelivered");
                Outcome::Undelivered
            }
        }
    }

    /// Delivers what was not delivered before, by the sweep's clock. `None` when another sweep was quicker.
    ///
    /// # Errors
    /// When the store did not say whose turn it is; the next sweep finds it again.
    pub async fn again(&self, due: &DueUtterance, clock: Clock) -> Result<Option<Outcome>, StoreError> {
        let lease = LATER_DEADLINE + LEASE_MARGIN;
        if !self.store.take_utterance(due, clock.now_ms(), as_ms(lease)).await? {
            return Ok(None);
        }
        let attempt = due.attempts.saturating_add(1);
        let Ok(mut note) = UtteranceNote::from_payload(&due.payload) else {
            self.bury(&due.contact, &due.key, &due.request_id, "unreadable", None).await;
            return Ok(Some(Outcome::Dead));
        };
        let over_at = Instant::now() + LATER_DEADLINE;
        // The delivery at acceptance was the first.
        note.attempt = attempt.saturating_add(1);
        match self.hand_over(&note, LATER_DEADLINE).await {
            Ok(events) => {
                self.delivered(&due.contact, &due.key, &due.request_id).await;
                self.pass_on(&note, &events, over_at).await;
                Ok(Some(Outcome::Delivered))
            }
            Err(Undelivered::Refused { status }) => {
                self.bury(&due.contact, &due.key, &due.request_id, "refused", Some(status)).await;
                Ok(Some(Outcome::Dead))
            }
            Err(Undelivered::Again { .. }) if note.attempt >= self.rules.attempts_max => {
                self.bury(&due.contact, &due.key, &due.request_id, "attempts", None).await;
                Ok(Some(Outcome::Dead))
            }
            Err(Undelivered::Again { after }) => {
                let pause = pause_after(attempt, after, fastrand::f64());
                self.count("undelivered");
                self.store.put_off_utterance(due, clock.now_ms().saturating_add_unsigned(as_ms(pause))).await?;
                Ok(Some(Outcome::Undelivered))
            }
        }
    }

    /// Tells the pages that listen to a contact what happened to it.
    pub(crate) async fn tell(&self, contact: &ContactKey, what: What) {
        let event = ContactEvent { contact: *contact, at_us: wall_ms().saturating_mul(1000), what };
        self.publisher.tell(contact, &[event.to_json()]).await;
    }

    async fn hand_over(&self, note: &UtteranceNote, deadline: Duration) -> Result<Vec<Value>, Undelivered> {
        match &self.relay {
            Some(relay) => relay.deliver(note, deadline).await,
            None => Ok(Vec::new()),
        }
    }

    async fn delivered(&self, contact: &ContactKey, key: &str, request_id: &str) {
        if self.relay.is_some() {
            self.count("delivered");
        }
        let window_ms = as_ms(self.rules.window);
        if let Err(error) = self.store.utterance_delivered(contact, key, request_id, wall_ms(), window_ms).await {
            warn!(%contact, request = request_id, %error, "delivered, but not noted; it is delivered again");
        }
    }

    async fn bury(&self, contact: &ContactKey, key: &str, request_id: &str, reason: &'static str, status: Option<u16>) {
        warn!(%contact, request = request_id, reason, status, "an utterance is a dead letter");
        self.count("dead");
        let buried = self.store.bury_utterance(contact, key, request_id, wall_ms(), as_ms(KEEP), reason).await;
        if let Err(error) = buried {
            warn!(%contact, request = request_id, %error, "a dead letter could not be noted; it is tried again");
        }
    }

    /// What the assist app answered: all of it for those who listen, and its suggestions for the agent's own page, both
    /// at once.
    async fn pass_on(&self, note: &UtteranceNote, events: &[Value], over_at: Instant) {
        let patience = over_at.saturating_duration_since(Instant::now());
        tokio::join!(self.publish(note, events), self.desk.take_from_app(note, events, patience));
    }

    /// What the assist app answered goes to the pages that listen, as what it says on its voice sockets does.
    async fn publish(&self, note: &UtteranceNote, events: &[Value]) {
        let at_us = wall_ms().saturating_mul(1000);
        let events: Vec<Value> = events.iter().map(|body| page_event(note, body, at_us)).collect();
        self.publisher.tell(&note.contact, &events).await;
    }

    fn count(&self, outcome: &'static str) {
        self.counters.count(UTTERANCES, &[("outcome", outcome)]);
    }
}

fn page_event(note: &UtteranceNote, body: &Value, at_us: i64) -> Value {
    let kind = body.get("type").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    json!({
        "type": "app",
        "busNo": note.contact.bus_no,
        "contactId": note.contact.contact_id,
        "atUs": at_us,
        "requestId": note.request_id,
        "kind": kind,
        "body": body,
    })
}

/// The pause after so many later deliveries: it doubles, and a random half of it is left out, so that what failed
/// together does not come back together. `chance` is 0 to 1. What the assist app asked for is kept, within reason.
fn pause_after(attempts: u32, asked: Option<Duration>, chance: f64) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << attempts.min(16)).min(PAUSE_MAX);
    let jittered = doubled.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0)).max(PAUSE_MIN);
    asked.map_or(jittered, |asked| jittered.max(asked.min(ASKED_PAUSE_MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour() {
        let longest: Vec<u64> = (0..10).map(|attempts| pause_after(attempts, None, 1.0).as_secs()).collect();
        assert_eq!(longest, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
    }

    #[test]
    fn what_the_assist_app_asks_for_is_kept_within_reason() {
        let minute = Duration::from_mins(1);
        assert_eq!(pause_after(0, Some(minute), 0.3), minute);
        assert_eq!(pause_after(9, Some(minute), 1.0), PAUSE_MAX);
        assert_eq!(pause_after(0, Some(Duration::MAX), 0.3), ASKED_PAUSE_MAX);
    }

    proptest! {
        #[test]
        fn every_pause_is_within_its_bounds(attempts: u32, chance in -1.0_f64..2.0, asked in prop::option::of(0_u64..u64::MAX)) {
            let pause = pause_after(attempts, asked.map(Duration::from_millis), chance);
            prop_assert!((PAUSE_MIN..=ASKED_PAUSE_MAX).contains(&pause));
        }
    }
}
