//! What nobody else comes back for: utterances that could not be delivered, and contacts that are over.
//!
//! Run on a schedule every minute, and by `earpiece serve` every few seconds. Every step is won in the store first, so
//! any number of reapers may run at once. One sweep is bounded in what it takes and in how long it works.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::{ContactEvent, ScriptEvent, What};
use earpiece_core::telemetry::{CONTACTS_FINISHED, STORE_ERRORS};
use earpiece_recorder::Recorder;
use earpiece_store::{DueUtterance, Ending, NotedEvent, Store};
use futures_util::{FutureExt as _, StreamExt as _};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::clock::{as_ms, wall_ms};
use crate::counters::Counters;
use crate::delivery::{Delivery, Outcome};
use crate::settings::Settings;
use crate::start::{Setup, StartError};

/// Utterances taken in one sweep.
pub const UTTERANCES_MAX: usize = 100;

/// Deliveries under way at once.
pub const DELIVERIES_AT_ONCE_MAX: usize = 8;

/// Contacts finished in one sweep.
pub const CONTACTS_MAX: usize = 50;

/// After this a sweep begins nothing more; what is under way is brought to its end.
pub const SWEEP_BUDGET: Duration = Duration::from_secs(20);

/// How long a reaper may take to finish a contact before another takes over: longer than a Lambda invocation can last.
pub const FINISH_LEASE: Duration = Duration::from_mins(16);

/// How long a finished contact stays in the store.
pub const RETAIN: Duration = Duration::from_hours(30 * 24);

/// Events of a Studio script that go into a contact's recording.
pub const SCRIPT_EVENTS_MAX: usize = 1000;

/// What one sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Swept {
    /// Utterances that the assist app has now.
    pub delivered: usize,
    /// Utterances that are tried again later.
    pub undelivered: usize,
    /// Utterances that became dead letters.
    pub dead: usize,
    /// Contacts whose recording and ledger are written.
    pub finished: usize,
}

/// The reaper.
#[derive(Clone)]
pub struct Reaper {
    store: Store,
    delivery: Delivery,
    recorder: Option<Recorder>,
    task: Arc<str>,
    counters: Arc<Counters>,
    quiet: Duration,
    stale: Duration,
}

impl Reaper {
    /// A reaper on these parts. Without a recorder it leaves contacts to the shim.
    #[must_use]
    pub fn new(
        store: Store,
        delivery: Delivery,
        recorder: Option<Recorder>,
        settings: &Settings,
        task: Arc<str>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { store, delivery, recorder, task, counters, quiet: settings.quiet, stale: settings.stale }
    }

    /// The function's reaper.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub async fn open(setup: &Setup) -> Result<Self, StartError> {
        let delivery = crate::text_hook::open_delivery(setup).await?;
        let recorder = setup.recorder()?;
        if recorder.is_none() {
            info!("no place for recordings: contacts are finished by the shim");
        }
        let (store, task) = (setup.store().await, Arc::clone(&setup.task));
        Ok(Self::new(store, delivery, recorder, &setup.settings, task, Arc::clone(&setup.counters)))
    }

    /// Sweeps once: utterances and contacts that are due at `now_ms`.
    pub async fn sweep_once(&self, now_ms: i64) -> Swept {
        let until = Instant::now() + SWEEP_BUDGET;
        let mut swept = self.deliver_due(now_ms, until).await;
        if let Some(recorder) = &self.recorder {
            swept.finished = self.finish_due(recorder, now_ms, until).await;
        }
        if swept != Swept::default() {
            info!(?swept, "swept");
        }
        swept
    }

    async fn deliver_due(&self, now_ms: i64, until: Instant) -> Swept {
        let due = match self.store.due_utterances(now_ms, UTTERANCES_MAX).await {
            Ok(due) => due,
            Err(error) => {
                self.store_failed("due_utterances");
                warn!(%error, "utterances that are due cannot be listed");
                return Swept::default();
            }
        };
        let mut deliveries = Vec::with_capacity(due.len());
        for utterance in &due {
            // Boxed: what the compiler works out of a stream of borrowing futures is not `Send`.
            deliveries.push(self.deliver(utterance, until).boxed());
        }
        let mut deliveries = futures_util::stream::iter(deliveries).buffer_unordered(DELIVERIES_AT_ONCE_MAX);
        let mut swept = Swept::default();
        while let Some(outcome) = deliveries.next().await {
            match outcome {
                Some(Outcome::Delivered) => swept.delivered += 1,
                Some(Outcome::Undelivered) => swept.undelivered += 1,
                Some(Outcome::Dead) => swept.dead += 1,
                None => {}
            }
        }
        swept
    }

    async fn deliver(&self, due: &DueUtterance, until: Instant) -> Option<Outcome> {
        if Instant::now() >= until {
            return None;
        }
        match self.delivery.again(due).await {
            Ok(outcome) => outcome,
            Err(error) => {
                self.store_failed("take_utterance");
                warn!(contact = %due.contact, request = due.request_id, %error, "an utterance waits for the next sweep");
                None
            }
        }
    }

    async fn finish_due(&self, recorder: &Recorder, now_ms: i64, until: Instant) -> usize {
        let due = match self.store.due(now_ms, CONTACTS_MAX).await {
            Ok(due) => due,
            Err(error) => {
                self.store_failed("due");
                warn!(%error, "contacts that are due cannot be listed");
                return 0;
            }
        };
        let mut finished = 0;
        // One after the other: each holds megabytes while its recording is written.
        for record in due {
            if Instant::now() >= until {
                break;
            }
            finished += usize::from(self.finish(recorder, record.contact, now_ms).await);
        }
        finished
    }

    async fn finish(&self, recorder: &Recorder, contact: ContactKey, now_ms: i64) -> bool {
        let ending = Ending {
            contact,
            task: &self.task,
            now_ms,
            lease_ms: as_ms(FINISH_LEASE),
            quiet_ms: as_ms(self.quiet),
            stale_after_ms: as_ms(self.stale),
        };
        match self.store.begin_ending(&ending).await {
            Ok(Some(_)) => {}
            // Not over after all, or another was quicker.
            Ok(None) => return false,
            Err(error) => {
                self.store_failed("begin_ending");
                warn!(%contact, %error, "the contact's end could not be begun");
                return false;
            }
        }
        let told = self.script_events(contact, now_ms).await;
        // Boxed: it is deep, and the compiler counts.
        let samples = match Box::pin(recorder.finish_with(contact, &told)).await {
            Ok(finished) => finished.ledger.samples,
            Err(error) => {
                warn!(%contact, %error, "the recording could not be finished; it is tried again");
                return false;
            }
        };
        match self.store.finish(&contact, &self.task, now_ms, as_ms(RETAIN)).await {
            Ok(true) => {
                self.counters.count(CONTACTS_FINISHED, &[]);
                info!(%contact, samples, "contact finished");
                self.delivery.tell(&contact, What::Finished { samples }).await;
                true
            }
            Ok(false) => {
                info!(%contact, "the contact came back while it was finished");
                false
            }
            Err(error) => {
                // The lease runs out, and finishing again from the same facts gives the same result.
                self.store_failed("finish");
                warn!(%contact, %error, "the contact's end could not be noted");
                false
            }
        }
    }

    /// What the Studio script told, for the contact's events. A recording without it is better than none.
    async fn script_events(&self, contact: ContactKey, now_ms: i64) -> Vec<Value> {
        match self.store.contact_events(&contact, now_ms, SCRIPT_EVENTS_MAX).await {
            Ok(events) => events.into_iter().map(|event| script_event(contact, event)).collect(),
            Err(error) => {
                self.store_failed("contact_events");
                warn!(%contact, %error, "finished without what the script told");
                Vec::new()
            }
        }
    }

    fn store_failed(&self, operation: &'static str) {
        self.counters.count(STORE_ERRORS, &[("operation", operation)]);
    }
}

fn script_event(contact: ContactKey, event: NotedEvent) -> Value {
    let what = What::Script(ScriptEvent { kind: event.kind, agent_id: event.agent_id });
    ContactEvent { contact, at_us: event.at_ms.saturating_mul(1000), what }.to_json()
}

/// Handles the schedule's event: what is in it does not matter.
///
/// # Errors
/// None: what fails is counted, and comes up again in the next sweep.
pub async fn on_schedule(reaper: Arc<Reaper>, _event: Value) -> Result<Swept, lambda_runtime::Error> {
    Ok(reaper.sweep_once(wall_ms()).await)
}
