//! Segments on their way into the store: a task per flight and none between, so many writes at a time, and retries
//! that come to an end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::counter::Counters;
use crate::error::cause;
use crate::name;
use crate::segment::Segment;
use crate::setting::Retries;

/// The least pause between two rounds of retries, whatever the settings say of pauses.
const ROUND_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Writes segments.
#[derive(Debug)]
pub(crate) struct Writer {
    store: Arc<dyn ObjectStore>,
    retries: Retries,
    /// Taken for an attempt and not for the pauses between: a segment that waits keeps nobody else from writing.
    permits: Semaphore,
    counters: Arc<Counters>,
    pub(crate) flights: Arc<Flights>,
}

/// Why an attempt failed.
enum Failure {
    Store(object_store::Error),
    TimeOut,
}

impl Writer {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, retries: Retries, writers: usize, counters: Arc<Counters>) -> Self {
        Self { store, retries, permits: Semaphore::new(writers), counters, flights: Arc::default() }
    }

    /// A writer to another view of the same store, so that whoever waits for flights waits for those of both.
    pub(crate) fn beside(&self, store: Arc<dyn ObjectStore>, writers: usize) -> Self {
        let (counters, flights) = (Arc::clone(&self.counters), Arc::clone(&self.flights));
        Self { store, retries: self.retries, permits: Semaphore::new(writers), counters, flights }
    }

    /// Writes one segment of a stream that has no later cut: tries until `deadline`, but once at least. Whether it is in
    /// the store now.
    pub(crate) async fn write_last(&self, segment: &Segment, deadline: Instant) -> bool {
        loop {
            if self.write(segment).await {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            let pause_max = self.retries.pause_max(u32::MAX).max(ROUND_PAUSE_MIN);
            tokio::time::sleep(ROUND_PAUSE_MIN.max(part_of(pause_max))).await;
        }
    }

    /// Writes one segment; whether it is in the store now.
    pub(crate) async fn write(&self, segment: &Segment) -> bool {
        let Ok(payload) = segment.payload() else {
            tracing::error!(contact = %segment.contact, stream = %segment.name.stream, "a segment has no form as a file");
            return false;
        };
        let location = name::segment(segment.contact, segment.name);
        for attempt in 1..=self.retries.attempts_max {
            if attempt > 1 {
                tokio::time::sleep(part_of(self.retries.pause_max(attempt - 1))).await;
            }
            let failure = {
                let Ok(_permit) = self.permits.acquire().await else { return false };
                let put = self.store.put(&location, payload.clone());
                match tokio::time::timeout(self.retries.attempt(), put).await {
                    Ok(Ok(_)) => {
                        self.counters.wrote_segment(payload.content_length() as u64);
                        return true;
                    }
                    Ok(Err(error)) => Failure::Store(error),
                    Err(_) => Failure::TimeOut,
                }
            };
            self.counters.failed_write();
            let cause = match failure {
                Failure::Store(error) => cause(&error),
                Failure::TimeOut => "it took too long".to_owned(),
            };
            if attempt < self.retries.attempts_max {
                tracing::debug!(contact = %segment.contact, stream = %segment.name.stream, attempt, cause, "a segment is not written yet");
            } else {
                tracing::warn!(contact = %segment.contact, stream = %segment.name.stream, attempt, cause, "a segment could not be written");
            }
        }
        false
    }
}

/// Full jitter: streams that failed together do not come back together.
fn part_of(pause_max: Duration) -> Duration {
    pause_max.mul_f64(fastrand::f64())
}

/// Which contacts have segments in the air.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    of_contact: Mutex<HashMap<ContactKey, u32>>,
    landed: Notify,
}

impl Flights {
    /// A flight that lasts until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, contact: ContactKey) -> Flight {
        *self.lock().entry(contact).or_default() += 1;
        Flight { flights: Arc::clone(self), contact }
    }

    /// Resolves when nothing is in the air.
    pub(crate) async fn all_landed(&self) {
        self.wait_until(HashMap::is_empty).await;
    }

    /// Resolves when nothing of a contact is in the air.
    pub(crate) async fn landed(&self, contact: ContactKey) {
        self.wait_until(|of_contact| !of_contact.contains_key(&contact)).await;
    }

    async fn wait_until(&self, is_enough: impl Fn(&HashMap<ContactKey, u32>) -> bool) {
        loop {
            let mut landed = std::pin::pin!(self.landed.notified());
            // Before looking, or a landing between looking and waiting would be missed.
            landed.as_mut().enable();
            if is_enough(&self.lock()) {
                return;
            }
            landed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContactKey, u32>> {
        self.of_contact.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Segments of one stream in the air.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    contact: ContactKey,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut of_contact = self.flights.lock();
        if let Some(count) = of_contact.get_mut(&self.contact) {
            *count -= 1;
            if *count == 0 {
                of_contact.remove(&self.contact);
            }
        }
        drop(of_contact);
        self.flights.landed.notify_waiters();
    }
}
