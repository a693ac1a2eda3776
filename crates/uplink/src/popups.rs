//! Socket C: events of interactions come in; where a trigger fires, the agent gets a popup, once.
//!
//! The reader only judges. What fires goes to a wide bounded queue, and from there workers write the mark and the entry
//! in one transaction; only then is a card sent, by the lane. Marks seen lately are remembered, which saves the store
//! most repeats; the mark in the store is what decides.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use earpiece_core::assist::card::PopupCard;
use earpiece_core::assist::interaction::{Context, OnFailure};
use earpiece_core::assist::trigger::Triggers;
use earpiece_core::assist::{Entry, InteractionId, Lane, Payload};
use earpiece_core::protocol::platform::interactions::{InteractionEvent, read};
use earpiece_core::secret::Private;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, error, warn};

use crate::clock::now_ms;
use crate::lease::Held;
use crate::link::{Ends, Link};
use crate::outbox::{self, Carrier, Delivery, Fate};
use crate::recent::Recent;
use crate::run::Shared;
use crate::settings::Which;

/// Events that fired and wait for their mark. When it is full the socket is read no further.
const QUEUE_MAX: usize = 65_536;
/// Workers that write marks.
const WORKERS: usize = 32;
/// Marks that are remembered.
const MARKED_MAX: usize = 65_536;
/// First pause before a mark is written again; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
/// No pause before a mark is written again is longer.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Socket C and its lane.
#[derive(Clone)]
pub(crate) struct Popups {
    shared: Arc<Shared>,
}

impl Popups {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Does the work while the lease is held.
    pub(crate) async fn work(self, mut held: Held) {
        let shared = self.shared;
        // A holder between may have taken marks back: what was known under an earlier lease counts for nothing.
        let marked = Arc::new(Marked::new());
        let carrier = Arc::new(Cards { shared: Arc::clone(&shared), marked: Arc::clone(&marked) });
        let lane = outbox::work(Arc::clone(&shared), carrier, held.clone());
        let Some(triggers) = shared.settings.triggers.clone() else {
            // Nothing fires; what fired under an earlier configuration still leaves.
            lane.await;
            return;
        };
        let (link, Ends { frames, sender: _ }) = Link::new(shared.cxone.clone(), Which::Popups, shared.metrics.clone());
        let (close, closing) = watch::channel(false);
        let close_in_time = async move {
            held.ending().await;
            close.send_replace(true);
        };
        let reader = Reader { shared: Arc::clone(&shared), marked, triggers };
        tokio::join!(lane, close_in_time, link.run(closing), reader.read_all(frames));
    }
}

/// Popups that are known to have their mark.
struct Marked {
    marks: Mutex<Recent<(InteractionId, String), ()>>,
}

impl Marked {
    fn new() -> Self {
        Self { marks: Mutex::new(Recent::new(MARKED_MAX)) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Recent<(InteractionId, String), ()>) -> T) -> T {
        act(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has(&self, interaction: &InteractionId, trigger: &str) -> bool {
        self.with(|marks| marks.get(&(interaction.clone(), trigger.to_owned())).is_some())
    }

    fn add(&self, interaction: &InteractionId, trigger: &str) {
        self.with(|marks| marks.insert((interaction.clone(), trigger.to_owned()), ()));
    }

    /// The mark was taken back: the trigger may fire again.
    fn forget(&self, interaction: &InteractionId, trigger: &str) {
        self.with(|marks| marks.remove(&(interaction.clone(), trigger.to_owned())));
    }
}

/// Judges events and writes marks.
#[derive(Clone)]
struct Reader {
    shared: Arc<Shared>,
    marked: Arc<Marked>,
    triggers: Arc<Triggers>,
}

impl Reader {
    /// Reads until the link has ended and everything that fired has its mark.
    async fn read_all(self, mut frames: mpsc::Receiver<Private<String>>) {
        let (queue, fired) = mpsc::channel::<InteractionEvent>(QUEUE_MAX);
        let fired = Arc::new(tokio::sync::Mutex::new(fired));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(self.clone().mark_all(Arc::clone(&fired)));
        }
        while let Some(frame) = frames.recv().await {
            if let Some(event) = self.judged(frame.reveal()) {
                self.put(&queue, event).await;
            }
        }
        drop(queue);
        while workers.join_next().await.is_some() {}
    }

    /// The event, if a trigger fires that is not known to have fired for this interaction before.
    fn judged(&self, text: &str) -> Option<InteractionEvent> {
        let Ok(event) = read(text) else {
            debug!(uplink = Which::Popups.label(), bytes = text.len(), "an event could not be read");
            return None;
        };
        let is_new = self.triggers.judge(&event).iter().any(|fired| !self.marked.has(&event.id, fired.name()));
        is_new.then_some(event)
    }

    async fn put(&self, queue: &mpsc::Sender<InteractionEvent>, event: InteractionEvent) {
        let full = match queue.try_send(event) {
            Ok(()) => return,
            Err(full) => full,
        };
        if let mpsc::error::TrySendError::Full(event) = full {
            self.shared.metrics.popup("held_back");
            // The workers end only with the queue.
            let _ = queue.send(event).await;
        }
    }

    async fn mark_all(self, fired: Arc<tokio::sync::Mutex<mpsc::Receiver<InteractionEvent>>>) {
        loop {
            let next = fired.lock().await.recv().await;
            let Some(event) = next else { return };
            for fired in self.triggers.judge(&event) {
                if !self.marked.has(&event.id, fired.name()) {
                    self.mark(&event.id, fired.name(), &fired.card(&event, now_ms())).await;
                }
            }
        }
    }

    /// Writes the mark and the entry, as often as it takes: the event does not come again.
    async fn mark(&self, interaction: &InteractionId, trigger: &str, card: &PopupCard) {
        let mut pause = PAUSE;
        loop {
            let now_ms = now_ms();
            let cx = Context { id: interaction, now_ms };
            let keep_ms = self.shared.settings.keep_ms();
            let marking = self
                .shared
                .store
                .step_interaction(interaction, now_ms, keep_ms, |document| document.popup(&cx, trigger, card));
            match marking.await {
                Ok(is_new) => {
                    self.marked.add(interaction, trigger);
                    if is_new {
                        self.shared.metrics.popup("pending");
                    }
                    return;
                }
                Err(problem) if problem.is_transient() => {
                    warn!(%problem, "a popup could not be noted; trying again");
                    self.shared.metrics.store_error("popup_mark");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(problem) => {
                    error!(%interaction, trigger, %problem, "a popup could not be noted");
                    self.shared.metrics.store_error("popup_mark");
                    return;
                }
            }
        }
    }
}

/// The lane of popups.
struct Cards {
    shared: Arc<Shared>,
    marked: Arc<Marked>,
}

impl Carrier for Cards {
    const LANE: Lane = Lane::Popups;
    /// A request with one refresh of the token and one repeat takes less.
    const CLAIM: Duration = Duration::from_mins(1);
    const GIVES_UP: bool = true;

    async fn carry(&self, entry: &Entry) -> Delivery {
        let Payload::Popup { card, .. } = &entry.payload else { return Delivery::Never { reason: "lane" } };
        Delivery::of(Self::LANE, self.shared.cxone.post_card(&entry.interaction, card).await)
    }

    fn on_failure(&self, trigger: &str) -> OnFailure {
        let triggers = self.shared.settings.triggers.as_ref();
        triggers.map_or(OnFailure::DeadLetter, |triggers| triggers.on_failure(trigger))
    }

    fn settled(&self, entry: &Entry, fate: Fate) {
        let Payload::Popup { trigger, .. } = &entry.payload else { return };
        let outcome = match fate {
            Fate::Delivered => "sent",
            Fate::Dead { .. } if self.on_failure(trigger) == OnFailure::Free => {
                self.marked.forget(&entry.interaction, trigger);
                "freed"
            }
            Fate::Dead { .. } => "dead",
            Fate::Expired => return,
        };
        self.shared.metrics.popup(outcome);
    }
}
