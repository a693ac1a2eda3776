//! Telling the pages that listen to a contact what happens to it.
//!
//! Best effort, and bounded in every direction: a page that is slow, gone or greedy costs the caller no more than
//! [`BUDGET`].

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::LISTENERS_MAX;
use earpiece_core::telemetry::{APP_EVENTS_DROPPED, CONNECTIONS_PRUNED};
use earpiece_push::{Push, PushError};
use earpiece_store::Store;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use tracing::{debug, warn};

use crate::clock::wall_ms;
use crate::counters::Counters;

/// How long telling everybody may take.
pub const BUDGET: Duration = Duration::from_secs(1);

/// Size of one frame: API Gateway's own limit for a message.
pub const FRAME_BYTES_MAX: usize = 128 * 1024;

/// Frames told at once.
pub const FRAMES_MAX: usize = 32;

/// Posts under way at once.
const POSTS_AT_ONCE_MAX: usize = 8;

/// The way to listening pages. Without an address nobody listens, and telling costs nothing.
#[derive(Clone)]
pub struct Publisher {
    store: Store,
    push: Option<Push>,
    counters: Arc<Counters>,
}

impl Publisher {
    /// A way to the pages that the store knows.
    #[must_use]
    pub const fn new(store: Store, push: Option<Push>, counters: Arc<Counters>) -> Self {
        Self { store, push, counters }
    }

    /// Tells every page that listens to the contact. Returns how many posts were taken.
    pub async fn tell(&self, contact: &ContactKey, events: &[Value]) -> usize {
        let Some(push) = self.push.as_ref().filter(|_| !events.is_empty()) else { return 0 };
        let Ok(told) = tokio::time::timeout(BUDGET, self.tell_all(push, contact, events)).await else {
            warn!(%contact, "not every listening page could be told in time");
            return 0;
        };
        told
    }

    async fn tell_all(&self, push: &Push, contact: &ContactKey, events: &[Value]) -> usize {
        let listeners = match self.store.listeners(contact, wall_ms(), LISTENERS_MAX).await {
            Ok(listeners) => listeners,
            Err(error) => {
                warn!(%contact, %error, "who listens could not be read");
                return 0;
            }
        };
        let frames = self.frames(events);
        let mut posts = Vec::with_capacity(listeners.len());
        for connection in &listeners {
            // Boxed: what the compiler works out of a stream of borrowing futures is not `Send`.
            posts.push(self.tell_one(push, contact, connection, &frames).boxed());
        }
        let mut posts = futures_util::stream::iter(posts).buffer_unordered(POSTS_AT_ONCE_MAX);
        let mut told = 0;
        while let Some(more) = posts.next().await {
            told += more;
        }
        told
    }

    /// The frames in order, so that a page sees events as they came; a page that is gone gets no second one.
    async fn tell_one(&self, push: &Push, contact: &ContactKey, connection: &str, frames: &[Vec<u8>]) -> usize {
        let mut told = 0;
        for frame in frames {
            match push.post(connection, frame).await {
                Ok(()) => told += 1,
                Err(PushError::Gone) => {
                    self.counters.count(CONNECTIONS_PRUNED, &[]);
                    if let Err(error) = self.store.unlisten(contact, connection).await {
                        debug!(%contact, %error, "a page that is gone stays listed until it expires");
                    }
                    return told;
                }
                Err(error) => {
                    debug!(%contact, %error, "a listening page was not told");
                    self.dropped(1);
                }
            }
        }
        told
    }

    fn frames(&self, events: &[Value]) -> Vec<Vec<u8>> {
        let written = events.iter().take(FRAMES_MAX).map(|event| event.to_string().into_bytes());
        let frames: Vec<Vec<u8>> = written.filter(|frame| frame.len() <= FRAME_BYTES_MAX).collect();
        self.dropped(events.len() - frames.len());
        frames
    }

    fn dropped(&self, count: usize) {
        if count > 0 {
            self.counters.add(APP_EVENTS_DROPPED, &[("sink", "listeners")], count as u64);
        }
    }
}
