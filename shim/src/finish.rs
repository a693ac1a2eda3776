//! Contacts that are over: found, won, and finished — by this task or by any other.
//!
//! The store says which contacts are due. Every task asks; one wins each contact for the length of a lease, lays its
//! streams out and writes recording and ledger. A finisher that dies is replaced when its lease has run out.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::{ContactEvent, ScriptEvent, What};
use earpiece_store::{ContactState, Ending};
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::Task;
use crate::clock::wall_ms;
use crate::limits::as_ms;

/// How long a task may take to finish a contact before another takes over: longer than the recorder waits for its own
/// writers.
const LEASE: Duration = Duration::from_mins(10);

/// Contacts looked at in one sweep.
const DUE_MAX: usize = 100;

/// Events of the Studio script that are written into the events of one contact.
const SCRIPT_EVENTS_MAX: usize = 1000;

/// How often segments without a contact in the store are looked for.
const ADOPTION_PERIOD: Duration = Duration::from_mins(10);

/// How long after its start a task looks for the first time.
const ADOPTION_PAUSE: Duration = Duration::from_secs(5);

/// Contacts looked at in one round: more than can be live on a task, so that the live ones hide no orphan.
const ADOPTED_MAX: usize = 10_000;

/// Sweeps for as long as the process lives.
pub(crate) async fn sweep(task: Arc<Task>) {
    let finishers = Arc::new(Semaphore::new(task.limits.finishers_max));
    let at_work = Arc::new(AtWork::default());
    loop {
        tokio::time::sleep(task.limits.sweep).await;
        // What is begun now would only hold up the drain; another task will find it.
        if *task.draining.borrow() {
            return;
        }
        match task.store.due(wall_ms(), DUE_MAX).await {
            Ok(due) => {
                for record in due {
                    let Ok(place) = finishers.clone().acquire_owned().await else { return };
                    let Some(turn) = at_work.begin(record.contact) else { continue };
                    let (task, busy) = (task.clone(), task.busy());
                    tokio::spawn(async move {
                        finish_due(&task, turn.contact).await;
                        drop((turn, place, busy));
                    });
                }
            }
            Err(error) => {
                task.metrics.store_error("due");
                warn!(%error, "contacts that are due cannot be listed");
            }
        }
        task.contacts.forget_quiet(wall_ms() * 1000);
    }
}

/// The contacts that this task is finishing: the store tells tasks apart, not two attempts of one task.
#[derive(Default)]
struct AtWork(Mutex<HashSet<ContactKey>>);

/// The right to finish a contact, until it is dropped.
struct Turn {
    contact: ContactKey,
    at_work: Arc<AtWork>,
}

impl AtWork {
    fn begin(self: &Arc<Self>, contact: ContactKey) -> Option<Turn> {
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(contact);
        is_new.then(|| Turn { contact, at_work: self.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.at_work.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.contact);
    }
}

async fn finish_due(task: &Task, contact: ContactKey) {
    let ending = Ending {
        contact,
        task: &task.name,
        now_ms: wall_ms(),
        lease_ms: as_ms(LEASE).cast_unsigned(),
        quiet_ms: as_ms(task.limits.quiet).cast_unsigned(),
        stale_after_ms: as_ms(task.limits.stale).cast_unsigned(),
    };
    match task.store.begin_ending(&ending).await {
        Ok(Some(_)) => {}
        // Not over after all, or another task was quicker.
        Ok(None) => return,
        Err(error) => {
            task.metrics.store_error("begin_ending");
            warn!(%contact, %error, "the contact's end could not be begun");
            return;
        }
    }
    let Some(samples) = write(task, contact).await else { return };
    let retain_ms = as_ms(task.limits.retain).cast_unsigned();
    match task.store.finish(&contact, &task.name, wall_ms(), retain_ms).await {
        Ok(true) => {
            task.metrics.contacts_finished.inc();
            task.contacts.forget(contact);
            task.contacts.tell(contact, wall_ms() * 1000, What::Finished { samples });
            info!(%contact, samples, "contact finished");
        }
        Ok(false) => info!(%contact, "the contact came back while it was finished"),
        Err(error) => {
            // The lease runs out, and finishing again from the same facts gives the same result.
            task.metrics.store_error("finish");
            warn!(%contact, %error, "the contact's end could not be noted");
        }
    }
}

async fn write(task: &Task, contact: ContactKey) -> Option<u64> {
    let told = script_events(task, contact).await;
    match task.recorder.finish_with(contact, &told).await {
        Ok(finished) => Some(finished.ledger.samples),
        Err(error) => {
            warn!(%contact, %error, "the recording could not be finished; it is tried again");
            None
        }
    }
}

/// What the Studio script told of the contact, as pages get it. Should the store not say, the recording is finished
/// without: audio and ledger are worth more than knowing why it fell silent.
async fn script_events(task: &Task, contact: ContactKey) -> Vec<Value> {
    let noted = match task.store.contact_events(&contact, wall_ms(), SCRIPT_EVENTS_MAX).await {
        Ok(noted) => noted,
        Err(error) => {
            task.metrics.store_error("contact_events");
            warn!(%contact, %error, "what the Studio script told could not be read");
            return Vec::new();
        }
    };
    let events = noted.into_iter().map(|noted| {
        let what = What::Script(ScriptEvent { kind: noted.kind, agent_id: noted.agent_id });
        ContactEvent { contact, at_us: noted.at_ms.saturating_mul(1000), what }.to_json()
    });
    events.collect()
}

/// Finishes, from time to time, what lies in the recordings without a contact that lives in the store: segments that
/// were written while the store was away until the task died, or that came after their contact was finished.
pub(crate) async fn adopt(task: Arc<Task>) {
    loop {
        tokio::time::sleep(ADOPTION_PAUSE).await;
        match task.recorder.unfinished(ADOPTED_MAX, task.limits.stale).await {
            Ok(contacts) => {
                for contact in contacts {
                    adopt_one(&task, contact).await;
                }
            }
            Err(error) => warn!(%error, "unfinished recordings cannot be listed"),
        }
        tokio::time::sleep(ADOPTION_PERIOD).await;
    }
}

async fn adopt_one(task: &Arc<Task>, contact: ContactKey) {
    match task.store.contact(&contact, wall_ms()).await {
        Ok(Some(record)) if record.state != ContactState::Ended => {}
        Ok(_) => {
            let busy = task.busy();
            if let Some(samples) = write(task, contact).await {
                info!(%contact, samples, "an orphaned recording was finished");
            }
            drop(busy);
        }
        Err(error) => {
            task.metrics.store_error("contact");
            warn!(%contact, %error, "the contact could not be read");
        }
    }
}
