//! What happens to a contact, told to the pages that listen to it through API Gateway.
//!
//! Beside the calls, never in their way: what cannot be told soon is dropped and counted. Events of one contact go in
//! order; contacts are spread over a few lanes, so that a slow page holds up only those that share its lane.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::{ContactEvent, LISTENERS_MAX};
use earpiece_push::{Push, PushError};
use futures_util::future::join_all;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::Task;
use crate::clock::wall_ms;

/// Lanes that tell at the same time.
const LANES: usize = 8;

/// Events that wait in one lane.
const WAITING_MAX: usize = 256;

/// For how long it is remembered who listens: a page hears nothing for so long at first.
const REMEMBERED: Duration = Duration::from_secs(2);

/// Contacts of which a lane remembers who listens.
const CONTACTS_MAX: usize = 2048;

/// How long one page may take to be told.
const POST_DEADLINE: Duration = Duration::from_secs(3);

/// Tells pages for as long as the process lives.
pub(crate) async fn publish(task: Arc<Task>, push: Push, mut events: broadcast::Receiver<ContactEvent>) {
    let lanes: Vec<mpsc::Sender<ContactEvent>> = (0..LANES)
        .map(|_| {
            let (lane, waiting) = mpsc::channel(WAITING_MAX);
            tokio::spawn(Lane { task: task.clone(), push: push.clone(), known: HashMap::new() }.run(waiting));
            lane
        })
        .collect();
    loop {
        match events.recv().await {
            Ok(event) => {
                if lanes[lane_of(event.contact)].try_send(event).is_err() {
                    task.metrics.events_unpublished.inc();
                }
            }
            Err(RecvError::Lagged(missed)) => {
                task.metrics.events_unpublished.inc_by(missed);
                warn!(missed, "events could not be told to pages in time");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// The lane of a contact: always the same, so that its events stay in order.
fn lane_of(contact: ContactKey) -> usize {
    let mut hasher = DefaultHasher::new();
    contact.hash(&mut hasher);
    usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default()
}

struct Lane {
    task: Arc<Task>,
    push: Push,
    known: HashMap<ContactKey, Known>,
}

/// Who listens to a contact, as of when.
struct Known {
    at: Instant,
    listeners: Vec<String>,
}

impl Lane {
    async fn run(mut self, mut waiting: mpsc::Receiver<ContactEvent>) {
        while let Some(event) = waiting.recv().await {
            self.listen(event.contact).await;
            self.tell(&event).await;
        }
    }

    /// Brings up to date who listens to a contact.
    async fn listen(&mut self, contact: ContactKey) {
        let now = Instant::now();
        let is_fresh = |known: &Known| now < known.at + REMEMBERED;
        if self.known.get(&contact).is_some_and(is_fresh) {
            return;
        }
        if self.known.len() >= CONTACTS_MAX {
            self.known.retain(|_, known| is_fresh(known));
            // Still full: better to ask more often than to remember without end.
            if self.known.len() >= CONTACTS_MAX {
                self.known.clear();
            }
        }
        let asked = self.task.store.listeners(&contact, wall_ms(), LISTENERS_MAX);
        let listeners = if let Ok(Ok(listeners)) = tokio::time::timeout(POST_DEADLINE, asked).await {
            listeners
        } else {
            // Nobody is told for a while, rather than the store being asked for every event.
            self.task.metrics.store_error("listeners");
            Vec::new()
        };
        self.known.insert(contact, Known { at: now, listeners });
    }

    async fn tell(&mut self, event: &ContactEvent) {
        let Some(known) = self.known.get_mut(&event.contact) else { return };
        if known.listeners.is_empty() {
            return;
        }
        let frame: Arc<str> = event.to_json().to_string().into();
        let posts = known.listeners.iter().map(|listener| {
            let (push, listener, frame) = (&self.push, listener.clone(), frame.clone());
            async move {
                let post = push.post(&listener, frame.as_bytes());
                let posted = tokio::time::timeout(POST_DEADLINE, post).await;
                (listener, posted.unwrap_or(Err(PushError::Unavailable)))
            }
        });
        for (listener, result) in join_all(posts).await {
            match result {
                Ok(()) => {}
                Err(PushError::Gone) => {
                    known.listeners.retain(|known| *known != listener);
                    forget(&self.task, event.contact, &listener).await;
                }
                Err(error) => {
                    self.task.metrics.events_unpublished.inc();
                    debug!(contact = %event.contact, %error, "a page could not be told");
                }
            }
        }
    }
}

/// A page that has gone is not told again, by no task.
async fn forget(task: &Task, contact: ContactKey, listener: &str) {
    task.metrics.connections_pruned.inc();
    let forgotten = task.store.unlisten(&contact, listener);
    if !matches!(tokio::time::timeout(POST_DEADLINE, forgotten).await, Ok(Ok(()))) {
        task.metrics.store_error("unlisten");
    }
}
