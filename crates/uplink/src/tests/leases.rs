//! One holder at a time, whatever happens to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use earpiece_store::{Embedded, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::road::Road;
use crate::lease::{Held, HeldCount, Keeper};
use crate::metrics::Metrics;
use crate::settings::Which;

const LEASE: Duration = Duration::from_secs(1);
/// A dead holder of a lease of 10 s is to be replaced within 15 s; this is that, and some for a busy machine.
const REPLACED_WITHIN: Duration = Duration::from_millis(2500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Began(&'static str, u64),
    Ended(&'static str),
}

/// Says that the work ended, however it ended.
struct Bell(&'static str, mpsc::UnboundedSender<Seen>);

impl Drop for Bell {
    fn drop(&mut self) {
        let _ = self.1.send(Seen::Ended(self.0));
    }
}

struct Candidate {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
    held: HeldCount,
}

fn candidate(name: &'static str, store: &Store, seen: &mpsc::UnboundedSender<Seen>) -> Candidate {
    let (stop, stopping) = watch::channel(false);
    let (store, held, seen) = (store.clone(), HeldCount::default(), seen.clone());
    let metrics = Metrics::new().unwrap();
    let keeper = Keeper::new(store, Which::Popups, name.to_owned(), LEASE, 0, Arc::clone(&held), metrics);
    let work = move |mut held: Held| {
        let seen = seen.clone();
        async move {
            let _bell = Bell(name, seen.clone());
            assert!(held.is_current());
            let _ = seen.send(Seen::Began(name, held.token()));
            held.ending().await;
        }
    };
    Candidate { task: tokio::spawn(keeper.run(stopping, work)), stop, held }
}

async fn next(seen: &mut mpsc::UnboundedReceiver<Seen>) -> Seen {
    timeout(Duration::from_secs(20), seen.recv()).await.expect("in time").expect("a candidate lives")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_holder_is_replaced_and_only_then() {
    let embedded = Embedded::memory().unwrap();
    let store = embedded.store("leases").await.unwrap();
    let (seen, mut events) = mpsc::unbounded_channel();
    let first = candidate("first", &store, &seen);
    assert_eq!(next(&mut events).await, Seen::Began("first", 1));
    let second = candidate("second", &store, &seen);
    // Renewals keep it for longer than a lease.
    sleep(LEASE * 3).await;
    assert!(events.is_empty(), "the holder lives");
    assert_eq!((first.held.load(Ordering::Relaxed), second.held.load(Ordering::Relaxed)), (1, 0));
    first.task.abort();
    let died_at = Instant::now();
    assert_eq!(next(&mut events).await, Seen::Ended("first"));
    assert_eq!(next(&mut events).await, Seen::Began("second", 2));
    assert!(died_at.elapsed() < REPLACED_WITHIN, "{:?}", died_at.elapsed());
    second.stop.send_replace(true);
    second.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let embedded = Embedded::memory().unwrap();
    let store = embedded.store("leases").await.unwrap();
    let (seen, mut events) = mpsc::unbounded_channel();
    let first = candidate("first", &store, &seen);
    assert_eq!(next(&mut events).await, Seen::Began("first", 1));
    let second = candidate("second", &store, &seen);
    first.stop.send_replace(true);
    let asked_at = Instant::now();
    first.task.await.unwrap();
    assert_eq!(next(&mut events).await, Seen::Ended("first"));
    assert_eq!(next(&mut events).await, Seen::Began("second", 2));
    assert!(asked_at.elapsed() < LEASE, "{:?}", asked_at.elapsed());
    second.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_cannot_renew_has_stopped_before_another_begins() {
    let embedded = Embedded::memory().unwrap();
    let store = embedded.store("leases").await.unwrap();
    let server = embedded.endpoint().trim_start_matches("http://").parse().unwrap();
    let road = Road::to(server).await;
    let far_store = Store::connect_local(&format!("http://{}", road.address), "leases");
    let (seen, mut events) = mpsc::unbounded_channel();
    let far = candidate("far", &far_store, &seen);
    assert_eq!(next(&mut events).await, Seen::Began("far", 1));
    let near = candidate("near", &store, &seen);
    road.cut();
    assert_eq!(next(&mut events).await, Seen::Ended("far"), "it cannot know whether it still holds it");
    assert_eq!(next(&mut events).await, Seen::Began("near", 2));
    far.task.abort();
    near.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_lease_was_taken_stops_at_its_next_renewal() {
    let embedded = Embedded::memory().unwrap();
    let store = embedded.store("leases").await.unwrap();
    let (seen, mut events) = mpsc::unbounded_channel();
    let holder = candidate("holder", &store, &seen);
    assert_eq!(next(&mut events).await, Seen::Began("holder", 1));
    // A renewal may come between the look and the taking.
    let name = Which::Popups.label();
    let thief = async {
        loop {
            let record = store.lease(name).await.unwrap();
            if let Some(taken) = store.take_lease(name, "thief", record.as_ref()).await.unwrap() {
                return taken;
            }
        }
    };
    assert_eq!(thief.await.token, 2);
    assert_eq!(next(&mut events).await, Seen::Ended("holder"));
    // The thief never renews, and is dead after a lease.
    assert_eq!(next(&mut events).await, Seen::Began("holder", 3));
    holder.task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_candidates_one_holds_at_a_time_however_often_it_changes_hands() {
    let embedded = Embedded::memory().unwrap();
    let store = embedded.store("leases").await.unwrap();
    let (seen, mut events) = mpsc::unbounded_channel();
    let names = ["a", "b", "c", "d"];
    let mut candidates: Vec<_> = names.iter().map(|name| (*name, candidate(name, &store, &seen))).collect();
    let mut last_token = 0;
    while !candidates.is_empty() {
        let Seen::Began(name, token) = next(&mut events).await else { panic!("ended before it began") };
        assert!(token > last_token);
        last_token = token;
        let place = candidates.iter().position(|(known, _)| *known == name).expect("not stopped");
        let (_, holder) = candidates.swap_remove(place);
        holder.stop.send_replace(true);
        assert_eq!(next(&mut events).await, Seen::Ended(name), "before anybody else begins");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_panics_frees_the_lease_and_begins_again() {
    let embedded = Embedded::memory().unwrap();
    let store = embedded.store("leases").await.unwrap();
    let (_stop, stopping) = watch::channel(false);
    let (seen, mut events) = mpsc::unbounded_channel();
    let metrics = Metrics::new().unwrap();
    let keeper = Keeper::new(store, Which::Popups, "me".to_owned(), LEASE, 0, HeldCount::default(), metrics);
    let work = move |held: Held| {
        let seen = seen.clone();
        async move {
            let _ = seen.send(Seen::Began("me", held.token()));
            assert!(held.token() > 1, "the first one panics");
            std::future::pending::<()>().await;
        }
    };
    let running = tokio::spawn(keeper.run(stopping, work));
    assert_eq!(next(&mut events).await, Seen::Began("me", 1));
    assert_eq!(next(&mut events).await, Seen::Began("me", 2));
    running.abort();
}
