//! What nobody else comes back for: utterances that could not be delivered, contacts that are over, and audio that came
//! after its contact was finished.
//!
//! Run on a schedule every minute, and by `earpiece serve` every few seconds. Any number of reapers may run at once:
//! deliveries and ends are won in the store first, and finishing a recording twice comes to the same. One sweep is
//! bounded in what it takes and in how long it works.

mod adoption;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::{ContactEvent, ScriptEvent, What};
use earpiece_core::telemetry::{CONTACTS_FINISHED, STORE_ERRORS};
use earpiece_recorder::Recorder;
use earpiece_store::utterance::UTTERANCES_READ_MAX;
use earpiece_store::{DueUtterance, Ending, NotedEvent, Store};
use futures_util::{FutureExt as _, StreamExt as _};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{info, warn};

use self::adoption::Adoptions;
use crate::clock::{Clock, as_ms, wall_ms};
use crate::counters::Counters;
use crate::delivery::{Delivery, Outcome};
use crate::settings::Settings;
use crate::start::{Setup, StartError};

pub use self::adoption::{ADOPTED_MAX, ADOPTION_LISTED_MAX, ADOPTION_LISTING_MAX, ADOPTION_PERIOD};

/// Deliveries under way at once.
pub const DELIVERIES_AT_ONCE_MAX: usize = 8;

/// Contacts finished in one sweep.
pub const CONTACTS_MAX: usize = 50;

/// After this a sweep begins no delivery more; what is under way is brought to its end.
pub const DELIVERY_BUDGET: Duration = Duration::from_secs(20);

/// The same for contacts, and once more for orphaned recordings. They have time of their own, so that an app that is
/// away for hours does not keep recordings from being finished.
pub const FINISH_BUDGET: Duration = Duration::from_secs(20);

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
    /// Contacts without a life in the store whose recording and ledger have now what came late.
    pub adopted: usize,
}

impl Swept {
    /// Utterances that were delivered, or tried.
    const fn taken(&self) -> usize {
        self.delivered + self.undelivered + self.dead
    }

    const fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Delivered => self.delivered += 1,
            Outcome::Undelivered => self.undelivered += 1,
            Outcome::Dead => self.dead += 1,
        }
    }
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
    adoptions: Arc<Adoptions>,
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
        let (quiet, stale) = (settings.quiet, settings.stale);
        Self { store, delivery, recorder, task, counters, quiet, stale, adoptions: Arc::default() }
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

    /// Sweeps once: utterances and contacts that are due at `now_ms`, and from time to time what lies in the recordings
    /// without a contact.
    pub async fn sweep_once(&self, now_ms: i64) -> Swept {
        let mut swept = self.deliver_due(now_ms, Instant::now() + DELIVERY_BUDGET).await;
        if let Some(recorder) = &self.recorder {
            swept.finished = self.finish_due(recorder, now_ms, Instant::now() + FINISH_BUDGET).await;
            swept.adopted = self.adopt_orphans(recorder, now_ms).await;
        }
        if swept != Swept::default() {
            info!(?swept, "swept");
        }
        swept
    }

    /// Round after round, each as many as the store gives at once, until nothing is left that was due at `now_ms`, or
    /// time is up. What is put off is due later than that, so it comes up once in a sweep.
    async fn deliver_due(&self, now_ms: i64, until: Instant) -> Swept {
        let clock = Clock::set_to(now_ms);
        let mut swept = Swept::default();
        while Instant::now() < until {
            let due = match self.store.due_utterances(now_ms, UTTERANCES_READ_MAX).await {
                Ok(due) => due,
                Err(error) => {
                    self.store_failed("due_utterances");
                    warn!(%error, "utterances that are due cannot be listed");
                    break;
                }
            };
            let taken_before = swept.taken();
            self.deliver_round(&due, clock, until, &mut swept).await;
            // Others have them all, or the store is away: listing them again at once would give the same.
            if swept.taken() == taken_before {
                break;
            }
        }
        swept
    }

    async fn deliver_round(&self, due: &[DueUtterance], clock: Clock, until: Instant, swept: &mut Swept) {
        let mut deliveries = Vec::with_capacity(due.len());
        for utterance in due {
            // Boxed: what the compiler works out of a stream of borrowing futures is not `Send`.
            deliveries.push(self.deliver(utterance, clock, until).boxed());
        }
        let mut deliveries = futures_util::stream::iter(deliveries).buffer_unordered(DELIVERIES_AT_ONCE_MAX);
        while let Some(outcome) = deliveries.next().await {
            if let Some(outcome) = outcome {
                swept.count(outcome);
            }
        }
    }

    async fn deliver(&self, due: &DueUtterance, clock: Clock, until: Instant) -> Option<Outcome> {
        if Instant::now() >= until {
            return None;
        }
        match self.delivery.again(due, clock).await {
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
        let Some(samples) = self.write(recorder, contact, now_ms).await else {
            return false;
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

    /// Writes recording, events and ledger from everything that is there. Returns the recording's length in samples.
    async fn write(&self, recorder: &Recorder, contact: ContactKey, now_ms: i64) -> Option<u64> {
        let told = self.script_events(contact, now_ms).await;
        // Boxed: it is deep, and the compiler counts.
        match Box::pin(recorder.finish_with(contact, &told)).await {
            Ok(finished) => Some(finished.ledger.samples),
            Err(error) => {
                warn!(%contact, %error, "the recording could not be finished; it is tried again");
                None
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
