//! Suggestions that were written to the socket and that CXone is not known to have read: in memory only. What is here is
//! claimed in the store, so that whoever comes after a kill sends it again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use earpiece_core::assist::{Entry, InteractionId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::clock::now_ms;
use crate::recent::Recent;

/// Suggestions whose acknowledgement is awaited at a time: a kill repeats at most as many. Beyond it a suggestion counts
/// as sent once it is written.
pub(super) const AWAITED_MAX: usize = 64;
/// How long a suggestion waits for a place among them. While CXone acknowledges, one is free in a moment.
pub(super) const ROOM_WAIT: Duration = Duration::from_secs(1);
/// Suggestions that are remembered as perhaps read, after their connection broke.
const DOUBTFUL_MAX: usize = 4096;

type Name = (InteractionId, String);

/// What is known of the frame of a suggestion.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    /// Number of its entry.
    pub(super) seq: u64,
    /// When it was written, for latencies.
    pub(super) written_at: Instant,
    /// The same in milliseconds since the Unix epoch.
    pub(super) written_ms: i64,
    /// On which connection; none until the kernel has it.
    connection: Option<u64>,
    /// Up when CXone has spoken of it and the store knows.
    noted: Arc<watch::Sender<bool>>,
}

/// A flight, and its place among those that are awaited.
#[derive(Debug)]
struct Place {
    flight: Flight,
    /// None where there was no room: whoever wrote it settles it at once.
    room: Option<OwnedSemaphorePermit>,
}

impl Place {
    const fn is_of(&self, entry: &Entry) -> bool {
        self.flight.seq == entry.seq
    }
}

/// Every flight.
#[derive(Debug)]
pub(super) struct Flights {
    room: Arc<Semaphore>,
    /// No acknowledgement has come since one was waited for in vain. Then waiting for a place would only cost time.
    is_silent: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Bounded by the places, and by what the lane works on at a time.
    flying: HashMap<Name, Place>,
    doubtful: Recent<Name, Flight>,
}

impl Flights {
    pub(super) fn new(awaited_max: usize) -> Self {
        let known = Known { flying: HashMap::new(), doubtful: Recent::new(DOUBTFUL_MAX) };
        Self {
            room: Arc::new(Semaphore::new(awaited_max)),
            is_silent: AtomicBool::new(false),
            known: Mutex::new(known),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A suggestion is about to be written. Whether there is room to wait for its acknowledgement.
    pub(super) async fn begin(&self, entry: &Entry) -> bool {
        let room = if self.is_silent.load(Ordering::Relaxed) {
            Arc::clone(&self.room).try_acquire_owned().ok()
        } else {
            timeout(ROOM_WAIT, Arc::clone(&self.room).acquire_owned()).await.ok().and_then(Result::ok)
        };
        let is_awaited = room.is_some();
        let flight = Flight {
            seq: entry.seq,
            written_at: Instant::now(),
            written_ms: now_ms(),
            connection: None,
            noted: Arc::new(watch::Sender::new(false)),
        };
        let name = name_of(entry);
        let mut known = self.known();
        known.doubtful.remove(&name);
        known.flying.insert(name, Place { flight, room });
        is_awaited
    }

    /// A suggestion was written.
    pub(super) fn written(&self, entry: &Entry, connection: u64) {
        if let Some(place) = self.known().flying.get_mut(&name_of(entry)).filter(|place| place.is_of(entry)) {
            place.flight.connection = Some(connection);
        }
    }

    /// On which connection a suggestion was written whose acknowledgement is awaited.
    pub(super) fn connection(&self, entry: &Entry) -> Option<u64> {
        self.known().flying.get(&name_of(entry)).filter(|place| place.is_of(entry))?.flight.connection
    }

    /// Where and when a suggestion was written, and what resolves when the store knows that CXone has it.
    pub(super) fn awaited(&self, entry: &Entry) -> Option<(u64, i64, impl Future<Output = ()> + Send + use<>)> {
        let known = self.known();
        let flight = &known.flying.get(&name_of(entry)).filter(|place| place.is_of(entry))?.flight;
        let (connection, written_ms) = (flight.connection?, flight.written_ms);
        // Holds the sender, too: it cannot be closed.
        let noted = Arc::clone(&flight.noted);
        let is_noted = async move {
            let _ = noted.subscribe().wait_for(|is_noted| *is_noted).await;
        };
        Some((connection, written_ms, is_noted))
    }

    /// The store knows that CXone has what was on a flight.
    pub(super) fn noted(&self, interaction: &InteractionId, suggestion: &str, flight: &Flight) {
        let name = (interaction.clone(), suggestion.to_owned());
        let is_of = |place: &Place| place.flight.seq == flight.seq;
        let mut known = self.known();
        match known.flying.get(&name) {
            Some(place) if is_of(place) && place.room.is_none() => drop(known.flying.remove(&name)),
            // Whoever awaits it forgets it.
            Some(place) if is_of(place) => drop(place.flight.noted.send_replace(true)),
            _ => {}
        }
    }

    /// The frame of a suggestion that CXone speaks of: perhaps one whose connection has broken since.
    pub(super) fn find(&self, interaction: &InteractionId, suggestion: &str) -> Option<Flight> {
        let name = (interaction.clone(), suggestion.to_owned());
        let mut known = self.known();
        if let Some(place) = known.flying.get(&name) {
            return Some(place.flight.clone());
        }
        known.doubtful.get(&name).cloned()
    }

    /// Whether a suggestion was written before, on a connection that broke.
    pub(super) fn is_doubtful(&self, entry: &Entry) -> bool {
        self.known().doubtful.get(&name_of(entry)).is_some_and(|flight| flight.seq == entry.seq)
    }

    /// The connection broke, and nobody can tell whether CXone has read it.
    pub(super) fn doubt(&self, entry: &Entry) {
        let name = name_of(entry);
        let mut known = self.known();
        if known.flying.get(&name).is_some_and(|place| place.is_of(entry))
            && let Some(place) = known.flying.remove(&name)
        {
            known.doubtful.insert(name, place.flight);
        }
    }

    /// It is known what became of it, or it was not written.
    pub(super) fn forget(&self, entry: &Entry) {
        let name = name_of(entry);
        let mut known = self.known();
        // Its id may be in use again.
        if known.flying.get(&name).is_some_and(|place| place.is_of(entry)) {
            known.flying.remove(&name);
        }
    }

    /// An acknowledgement came.
    pub(super) fn heard_ack(&self) {
        self.is_silent.store(false, Ordering::Relaxed);
    }

    /// An acknowledgement did not come in time.
    pub(super) fn waited_in_vain(&self) {
        self.is_silent.store(true, Ordering::Relaxed);
    }
}

fn name_of(entry: &Entry) -> Name {
    (entry.interaction.clone(), entry.payload.subject().to_owned())
}

#[cfg(test)]
mod tests {
    use earpiece_core::assist::Payload;
    use earpiece_core::assist::suggestion::{Priority, Suggestion, Window};
    use earpiece_core::secret::Private;

    use super::*;

    fn entry(id: &str, seq: u64) -> Entry {
        let suggestion = Suggestion {
            id: id.to_owned(),
            content: Private::new("Offer the family plan.".to_owned()),
            priority: Priority::High,
            relevance_score: 0.9,
            context_window: Window { start_ms: 0, end_ms: i64::MAX },
        };
        Entry {
            interaction: InteractionId::parse("7").unwrap(),
            seq,
            payload: Payload::Suggestion(suggestion),
            created_ms: 0,
            expires_ms: None,
            due_ms: 0,
            attempts: 1,
            sender: Some(1),
            dead: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_limit_a_suggestion_waits_for_room_and_then_is_not_awaited() {
        let flights = Flights::new(2);
        assert!(flights.begin(&entry("a", 0)).await && flights.begin(&entry("b", 1)).await);
        let (began_at, third) = (Instant::now(), entry("c", 2));
        assert!(!flights.begin(&third).await, "nothing became free");
        assert_eq!(began_at.elapsed(), ROOM_WAIT);
        flights.forget(&third);
        let freed = async {
            tokio::task::yield_now().await;
            flights.forget(&entry("a", 0));
        };
        let began_at = Instant::now();
        assert_eq!(tokio::join!(flights.begin(&third), freed), (true, ()));
        assert!(began_at.elapsed() < ROOM_WAIT, "as soon as there is room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_acknowledges_nothing_is_not_waited_for() {
        let flights = Flights::new(1);
        assert!(flights.begin(&entry("a", 0)).await);
        flights.waited_in_vain();
        let began_at = Instant::now();
        assert!(!flights.begin(&entry("b", 1)).await);
        assert_eq!(began_at.elapsed(), Duration::ZERO);
        flights.heard_ack();
        assert!(!flights.begin(&entry("c", 2)).await);
        assert_eq!(began_at.elapsed(), ROOM_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_on_a_broken_connection_is_known_until_it_is_written_again() {
        let flights = Flights::new(1);
        let (first, same_id) = (entry("a", 0), entry("a", 5));
        flights.begin(&first).await;
        assert_eq!(flights.connection(&first), None, "not written yet");
        flights.written(&first, 3);
        assert_eq!(flights.connection(&first), Some(3));
        flights.doubt(&first);
        assert_eq!(flights.connection(&first), None);
        assert!(flights.is_doubtful(&first) && !flights.is_doubtful(&same_id));
        assert_eq!(flights.find(&first.interaction, "a").map(|flight| flight.seq), Some(0));
        assert!(flights.begin(&same_id).await, "it keeps no place");
        assert_eq!(flights.find(&first.interaction, "a").map(|flight| flight.seq), Some(5));
        assert!(!flights.is_doubtful(&first));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_noted_before_anybody_waits_for_it_is_noted() {
        let flights = Flights::new(1);
        let flying = entry("a", 0);
        flights.begin(&flying).await;
        let flight = flights.find(&flying.interaction, "a").unwrap();
        flights.noted(&flying.interaction, "a", &flight);
        flights.written(&flying, 1);
        let (connection, _, noted) = flights.awaited(&flying).unwrap();
        assert_eq!(connection, 1);
        timeout(Duration::from_secs(1), noted).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_late_does_not_touch_the_next_use_of_its_id() {
        let flights = Flights::new(2);
        let (first, second) = (entry("a", 0), entry("a", 5));
        flights.begin(&first).await;
        flights.written(&first, 1);
        let former = flights.find(&first.interaction, "a").unwrap();
        flights.begin(&second).await;
        flights.written(&second, 1);
        flights.noted(&first.interaction, "a", &former);
        flights.forget(&first);
        flights.doubt(&first);
        assert!(flights.awaited(&first).is_none() && flights.connection(&first).is_none());
        let (_, _, noted) = flights.awaited(&second).unwrap();
        assert!(timeout(Duration::from_secs(1), noted).await.is_err(), "nobody spoke of this one");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_what_is_over_whether_there_was_room_or_not() {
        let flights = Flights::new(1);
        let (with_room, without) = (entry("a", 0), entry("b", 1));
        assert!(flights.begin(&with_room).await && !flights.begin(&without).await);
        let flight = flights.find(&without.interaction, "b").unwrap();
        flights.noted(&without.interaction, "b", &flight);
        flights.forget(&with_room);
        assert!(flights.known().flying.is_empty());
        assert_eq!(flights.room.available_permits(), 1);
    }
}
