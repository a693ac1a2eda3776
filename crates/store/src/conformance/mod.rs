//! What every DynamoDB has to pass that this store stands on: the embedded one, an emulator, a real account.
//!
//! Each case uses contacts of its own, so the suite runs on a table that others use too, but for the signing keys, of
//! which a table has one. It panics where the store breaks its word. It reads the clock, as an endpoint may delete by its own what has expired.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "the suite is made of assertions")]

pub mod claims;
pub mod connections;
pub mod endings;
pub mod interactions;
pub mod keys;
pub mod leases;
pub mod limits;
pub mod outbox;
pub mod reads;
pub mod scripts;
pub mod streams;
pub mod utterances;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;

use crate::{Checkpoint, Claim, ClaimError, Claimed, ContactRecord, Ending, Store, StreamEnd, StreamError};

/// How long a stream may go without a sign of life, here.
const STALE_MS: u64 = 180_000;
/// How long a contact waits for another handshake, here: longer than a stream may be silent, as in production.
const QUIET_MS: u64 = 900_000;
/// How long a finisher has, here.
const LEASE_MS: u64 = 60_000;
/// How long a finished contact is kept, here.
const RETAIN_MS: u64 = 3_600_000;
/// More contacts than any table has that the suite runs on.
const EVERYTHING: usize = 100_000;

/// Every case, one after the other.
pub async fn all(store: &Store) {
    claims::all(store).await;
    streams::all(store).await;
    endings::all(store).await;
    reads::all(store).await;
    scripts::all(store).await;
    utterances::all(store).await;
    connections::all(store).await;
    limits::all(store).await;
    interactions::all(store).await;
    outbox::all(store).await;
    leases::all(store).await;
    keys::all(store).await;
}

/// A contact that nobody else uses, with one clock for everything that happens to it.
#[derive(Debug, Clone)]
struct Scene {
    store: Store,
    contact: ContactKey,
    /// The time at which the scene begins.
    now_ms: i64,
}

/// Tells the contacts of this run from those of other runs on the same table.
static RUN: LazyLock<u64> = LazyLock::new(|| UNIX_EPOCH.elapsed().unwrap().as_micros().try_into().unwrap());
static CONTACTS: AtomicU64 = AtomicU64::new(0);

impl Scene {
    fn new(store: &Store) -> Self {
        let contact = ContactKey { bus_no: *RUN, contact_id: CONTACTS.fetch_add(1, Ordering::Relaxed) };
        Self { store: store.clone(), contact, now_ms: clock_ms() }
    }

    /// Claims a perspective for a new stream whose handshake comes `after_us` into the scene.
    async fn claim(&self, perspective: &Perspective, after_us: i64) -> (StreamId, Result<Claimed, ClaimError>) {
        let stream = StreamId::new();
        (stream, self.claim_as(perspective, stream, after_us).await)
    }

    async fn claim_as(
        &self,
        perspective: &Perspective,
        stream: StreamId,
        after_us: i64,
    ) -> Result<Claimed, ClaimError> {
        self.store.claim(&self.claiming(perspective, stream, after_us)).await
    }

    fn claiming<'a>(&self, perspective: &'a Perspective, stream: StreamId, after_us: i64) -> Claim<'a> {
        let opened_at_us = self.now_ms * 1000 + after_us;
        let (contact, now_ms) = (self.contact, opened_at_us / 1000);
        Claim { contact, perspective, stream, opened_at_us, task: "task", now_ms, stale_after_ms: STALE_MS }
    }

    /// A stream that holds a perspective from the scene's beginning.
    async fn opened(&self, perspective: &Perspective) -> StreamId {
        let (stream, claimed) = self.claim(perspective, 0).await;
        claimed.unwrap();
        stream
    }

    async fn checkpoint(
        &self,
        perspective: &Perspective,
        stream: StreamId,
        samples: u64,
        after_ms: i64,
    ) -> Result<(), StreamError> {
        let (contact, now_ms) = (self.contact, self.now_ms + after_ms);
        let checkpoint = Checkpoint { contact, perspective, stream, samples, now_ms, stale_after_ms: STALE_MS };
        self.store.checkpoint(&checkpoint).await
    }

    async fn end(&self, perspective: &Perspective, stream: StreamId, after_ms: i64) -> Result<(), StreamError> {
        let (contact, now_ms) = (self.contact, self.now_ms + after_ms);
        let reason = CloseReason::PeerClosed;
        let end = StreamEnd { contact, perspective, stream, samples: 800, reason, now_ms, quiet_ms: QUIET_MS };
        self.store.end_stream(&end).await
    }

    async fn request_end(&self, after_ms: i64) -> bool {
        self.store.request_end(&self.contact, self.now_ms + after_ms).await.unwrap()
    }

    async fn begin_ending(&self, task: &str, after_ms: i64) -> Option<ContactRecord> {
        let (contact, now_ms) = (self.contact, self.now_ms + after_ms);
        let ending = Ending { contact, task, now_ms, lease_ms: LEASE_MS, quiet_ms: QUIET_MS, stale_after_ms: STALE_MS };
        self.store.begin_ending(&ending).await.unwrap()
    }

    async fn finish(&self, task: &str, after_ms: i64) -> bool {
        self.store.finish(&self.contact, task, self.now_ms + after_ms, RETAIN_MS).await.unwrap()
    }

    /// A contact that streamed TX for a second, was told to end, and is being finished by `task` after two.
    async fn ending(&self, task: &str) -> StreamId {
        let stream = self.opened(&Perspective::Tx).await;
        self.end(&Perspective::Tx, stream, 1000).await.unwrap();
        assert!(self.request_end(1500).await);
        self.begin_ending(task, 2000).await.unwrap();
        stream
    }

    /// The contact as it stands, which has to be there.
    async fn record(&self) -> ContactRecord {
        self.store.contact(&self.contact, self.now_ms).await.unwrap().unwrap()
    }

    /// When the contact is due, in milliseconds into the scene.
    async fn due_after_ms(&self) -> Option<i64> {
        self.record().await.due_at_ms.map(|due_at_ms| due_at_ms - self.now_ms)
    }

    async fn is_due(&self, after_ms: i64) -> bool {
        let due = self.store.due(self.now_ms + after_ms, EVERYTHING).await.unwrap();
        due.iter().any(|record| record.contact == self.contact)
    }

    async fn is_live(&self) -> bool {
        let live = self.store.live(EVERYTHING).await.unwrap();
        live.iter().any(|record| record.contact == self.contact)
    }
}

fn clock_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

const fn ms(duration_ms: u64) -> i64 {
    duration_ms.cast_signed()
}

/// Asks again while an index lags behind its table. Only a real account does; local ones answer right at once.
async fn eventually(mut ask: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..50 {
        if ask().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}
