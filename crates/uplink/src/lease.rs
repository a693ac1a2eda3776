//! Exactly one task does a piece of work.
//!
//! The lease is one item in the store: who holds it, a token that grows with every change of hands (it fences what the
//! former holder may still be about to write), and a beat that grows with every renewal. Nobody compares clocks: a
//! candidate watches the beat by its own monotonic clock, and takes over when it stood still for a whole lease. The
//! holder counts from before it asked for its last renewal, and gives up a margin earlier than that; so it has stopped
//! before anybody else may begin.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use earpiece_store::{LeaseRecord, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{error, info, warn};

use crate::metrics::Metrics;
use crate::settings::Which;

/// How long work may take to finish what it began when this task goes away.
pub(crate) const HAND_OVER_MAX: Duration = Duration::from_secs(3);

/// Leases that this process holds.
pub(crate) type HeldCount = Arc<AtomicU32>;

/// The intervals of a lease, all of them parts of its length.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// A beat that stood still for so long belongs to a dead holder.
    lease: Duration,
    /// The holder stops so long after it asked for its last renewal.
    valid: Duration,
    /// Pause between two renewals.
    renew: Duration,
    /// How long one renewal may take, and the pause after one that failed.
    patience: Duration,
    /// Pause between two looks of a candidate; also what a candidate waits longer for each lease that its process holds
    /// already, so that leases spread over tasks.
    look: Duration,
}

impl Times {
    fn of(lease: Duration) -> Self {
        Self { lease, valid: lease * 4 / 5, renew: lease / 3, patience: lease / 10, look: lease / 20 }
    }
}

/// The right to do the work, for as long as it lasts.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    token: u64,
    until: watch::Receiver<Instant>,
    ending: watch::Receiver<bool>,
}

impl Held {
    /// The fencing token: whoever holds the lease later has a larger one.
    pub(crate) const fn token(&self) -> u64 {
        self.token
    }

    /// Whether nobody else can hold the lease now. Asked before anything is sent.
    pub(crate) fn is_current(&self) -> bool {
        Instant::now() < *self.until.borrow()
    }

    /// Whether the work should finish what it began and return.
    pub(crate) fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Resolves when the work should finish what it began and return.
    pub(crate) async fn ending(&mut self) {
        stopped(&mut self.ending).await;
    }
}

/// Resolves when a flag is up. A flag whose owner is gone never rises: then the whole task is on its way out.
pub(crate) async fn stopped(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|is_up| *is_up).await.is_err() {
        pending::<()>().await;
    }
}

/// Strives for one lease, and does the work while it has it.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Store,
    which: Which,
    /// Nobody else's name, not even that of this process in another life.
    holder: String,
    times: Times,
    /// What this task waits before it takes a lease for the first time: tasks that start together begin with different
    /// leases.
    first_wait: Duration,
    held: HeldCount,
    metrics: Metrics,
}

/// Why the work was over.
enum End {
    /// Somebody else has the lease, or may have it soon.
    Lost,
    /// This task goes away.
    HandedOver,
    /// The work returned or panicked by itself.
    Broke,
}

impl Keeper {
    /// `rank` is the place of this lease among those that the task strives for.
    pub(crate) fn new(
        store: Store,
        which: Which,
        holder: String,
        lease: Duration,
        rank: u32,
        held: HeldCount,
        metrics: Metrics,
    ) -> Self {
        let times = Times::of(lease);
        Self { store, which, holder, times, first_wait: times.look * rank, held, metrics }
    }

    /// Strives for the lease until `stopping`. A holder that stops lets the work finish, and then gives the lease back,
    /// so that a successor need not wait.
    pub(crate) async fn run<W, F>(self, mut stopping: watch::Receiver<bool>, work: W)
    where
        W: Fn(Held) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        pause(self.first_wait, &mut stopping).await;
        while let Some((mine, asked_at)) = self.obtain(&mut stopping).await {
            self.held.fetch_add(1, Ordering::Relaxed);
            self.metrics.lease(self.which.label(), true);
            info!(lease = self.which.label(), token = mine.token, "lease taken");
            let end = self.hold(mine, asked_at, &mut stopping, &work).await;
            self.metrics.lease(self.which.label(), false);
            self.held.fetch_sub(1, Ordering::Relaxed);
            match end {
                End::HandedOver => info!(lease = self.which.label(), "lease given back"),
                End::Lost => warn!(lease = self.which.label(), "lease lost; the work was stopped"),
                End::Broke => {
                    error!(lease = self.which.label(), "the work under this lease broke off; it begins again");
                    // Somebody else may do better meanwhile.
                    pause(self.times.lease, &mut stopping).await;
                }
            }
        }
    }

    /// Waits until the lease is free and takes it; also tells since when it counts. `None`: this task goes away.
    async fn obtain(&self, stopping: &mut watch::Receiver<bool>) -> Option<(LeaseRecord, Instant)> {
        let mut watcher = Watcher::new(self.times.lease);
        let mut has_waited = false;
        while !*stopping.borrow() {
            let seen = match self.store.lease(self.which.label()).await {
                Ok(seen) => seen,
                Err(problem) => {
                    self.store_failed("lease_read", &problem);
                    pause(self.times.patience, stopping).await;
                    continue;
                }
            };
            let leases_held = self.held.load(Ordering::Relaxed);
            if !watcher.is_free(seen.as_ref(), &self.holder, Instant::now()) {
                has_waited = false;
                pause(self.times.look, stopping).await;
            } else if leases_held > 0 && !has_waited {
                // Others that hold fewer go first.
                has_waited = true;
                pause(self.times.look * leases_held, stopping).await;
            } else {
                let asked_at = Instant::now();
                match self.store.take_lease(self.which.label(), &self.holder, seen.as_ref()).await {
                    Ok(Some(mine)) => return Some((mine, asked_at)),
                    Ok(None) => {}
                    // If it was taken all the same, the next look finds our own name and takes it again.
                    Err(problem) => {
                        self.store_failed("lease_take", &problem);
                        pause(self.times.patience, stopping).await;
                    }
                }
            }
        }
        None
    }

    async fn hold<W, F>(
        &self,
        mut mine: LeaseRecord,
        asked_at: Instant,
        stopping: &mut watch::Receiver<bool>,
        work: &W,
    ) -> End
    where
        W: Fn(Held) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let (until, held_until) = watch::channel(asked_at + self.times.valid);
        let (ending, is_ending) = watch::channel(false);
        let held = Held { token: mine.token, until: held_until, ending: is_ending };
        let mut running = Running(tokio::spawn(work(held)));
        let mut renew_at = asked_at + self.times.renew;
        let mut cut_off_at = None;
        let end = loop {
            let valid_until = *until.borrow();
            tokio::select! {
                _ = &mut running.0 => break if cut_off_at.is_some() { End::HandedOver } else { End::Broke },
                () = sleep_until(valid_until) => break End::Lost,
                () = stopped(stopping), if cut_off_at.is_none() => {
                    ending.send_replace(true);
                    cut_off_at = Some(Instant::now() + HAND_OVER_MAX);
                }
                () = sleep_until(cut_off_at.unwrap_or(valid_until)), if cut_off_at.is_some() => break End::HandedOver,
                () = sleep_until(renew_at) => {
                    let asked_at = Instant::now();
                    let patient_until = valid_until.min(asked_at + self.times.patience);
                    match timeout_at(patient_until, self.store.renew_lease(&mine)).await {
                        Ok(Ok(Some(renewed))) => {
                            mine = renewed;
                            until.send_replace(asked_at + self.times.valid);
                            renew_at = asked_at + self.times.renew;
                        }
                        Ok(Ok(None)) => break End::Lost,
                        Ok(Err(problem)) => {
                            self.store_failed("lease_renew", &problem);
                            renew_at = Instant::now() + self.times.patience;
                        }
                        Err(_) => {
                            warn!(lease = self.which.label(), "the store did not renew the lease in time");
                            self.metrics.store_error("lease_renew");
                            renew_at = Instant::now();
                        }
                    }
                }
            }
        };
        running.stop().await;
        if !matches!(end, End::Lost)
            && let Err(problem) = self.store.release_lease(&mine).await
        {
            self.store_failed("lease_release", &problem);
        }
        end
    }

    fn store_failed(&self, operation: &'static str, problem: &earpiece_store::StoreError) {
        warn!(lease = self.which.label(), operation, %problem, "the store failed");
        self.metrics.store_error(operation);
    }
}

/// Sleeps, unless this task goes away.
async fn pause(length: Duration, stopping: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        () = stopped(stopping) => {}
    }
}

/// The work, which does not outlive whoever started it.
struct Running(JoinHandle<()>);

impl Running {
    /// Stops it, and returns when it has stopped.
    async fn stop(&mut self) {
        if !self.0.is_finished() {
            self.0.abort();
            // It says that it was aborted, which is known.
            let _ = (&mut self.0).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Judges whether the holder of a lease lives. Pure: the caller reads and waits.
#[derive(Debug)]
struct Watcher {
    lease: Duration,
    /// Token and beat that were seen last, and since when.
    seen: Option<(u64, u64, Instant)>,
}

impl Watcher {
    const fn new(lease: Duration) -> Self {
        Self { lease, seen: None }
    }

    /// Whether the lease may be taken: nobody ever held it, it was given back, the record is our own (an answer of the
    /// store was lost, or we stopped for want of renewals and nobody came), or its beat stood still for a whole lease.
    fn is_free(&mut self, record: Option<&LeaseRecord>, holder: &str, now: Instant) -> bool {
        let Some(record) = record else { return true };
        if record.released || record.holder == holder {
            return true;
        }
        match self.seen {
            Some((token, beat, since)) if (token, beat) == (record.token, record.beat) => now - since >= self.lease,
            _ => {
                self.seen = Some((record.token, record.beat, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn record(token: u64, beat: u64) -> LeaseRecord {
        LeaseRecord { name: "suggestions".to_owned(), holder: "other".to_owned(), token, beat, released: false }
    }

    #[test]
    fn a_lease_is_free_only_when_its_beat_stood_still_for_a_whole_lease_by_our_own_clock() {
        let (mut watcher, start) = (Watcher::new(LEASE), Instant::now());
        assert!(!watcher.is_free(Some(&record(1, 7)), "me", start), "just seen for the first time");
        assert!(!watcher.is_free(Some(&record(1, 7)), "me", start + LEASE - Duration::from_millis(1)));
        assert!(watcher.is_free(Some(&record(1, 7)), "me", start + LEASE));
        assert!(!watcher.is_free(Some(&record(1, 8)), "me", start + LEASE), "a new beat starts a new lease");
        assert!(!watcher.is_free(Some(&record(2, 8)), "me", start + LEASE * 2), "and so does a new holder");
        assert!(watcher.is_free(Some(&record(2, 8)), "me", start + LEASE * 3));
    }

    #[test]
    fn a_lease_that_nobody_had_or_that_was_given_back_or_is_ours_is_free_at_once() {
        let (mut watcher, now) = (Watcher::new(LEASE), Instant::now());
        assert!(watcher.is_free(None, "me", now));
        assert!(watcher.is_free(Some(&LeaseRecord { released: true, ..record(1, 1) }), "me", now));
        assert!(watcher.is_free(Some(&record(1, 1)), "other", now));
    }

    #[test]
    fn a_holder_has_stopped_before_a_candidate_may_begin_and_a_dead_one_is_replaced_within_15_s() {
        let times = Times::of(LEASE);
        assert!(times.valid < times.lease);
        assert!(times.renew + 3 * times.patience < times.valid, "a few failed renewals are survived");
        // Seen one look late, noticed one look late, after two looks of courtesy for leases held already.
        let replaced_after = times.look + times.lease + times.look + 2 * times.look;
        assert!(replaced_after < Duration::from_secs(13));
    }
}
