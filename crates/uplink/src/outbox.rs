//! What has to leave is claimed, sent and settled: one worker per lane, on the task that holds the lane's lease.
//!
//! An entry is claimed with the lease's fencing token before it is sent, and settled when its receiver has it: a step of
//! the interaction's document that also takes the entry away. Where the answer to the sending says so, that is at once;
//! a receiver that confirms later is waited for, and meanwhile the entries behind leave. A kill or a broken connection
//! between the two repeats the entry with the same ids; nothing else can. Entries of one interaction leave one after the
//! other, in their order; those of different interactions side by side. A suggestion that cannot leave holds up those
//! behind it; anything else that was put off holds up nothing.

mod carrier;
mod pace;
mod queue;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use earpiece_core::assist::interaction::{Context, OnFailure};
use earpiece_core::assist::{Entry, Interaction, InteractionId, Lane, Payload};
use earpiece_store::StoreError;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, warn};

use crate::clock::{after_ms, as_ms, now_ms};
use crate::lease::Held;
use crate::run::Shared;
pub(crate) use carrier::{Carrier, Delivery, Fate, Receipt};
use pace::{DUE_MAX, Pace};
use queue::Queue;

/// Interactions that are worked on at a time, per lane.
const CONCURRENT_MAX: usize = 64;
/// Lanes that people do not wait for are read so many times less often.
const UNHURRIED: u32 = 5;
/// Pause between two looks while nothing can be sent: all that is looked for is what grew stale.
const DOWN_POLL: Duration = Duration::from_secs(2);
/// No pause before another attempt is shorter.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// No pause of ours is longer.
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// No pause that a receiver asks for is longer.
const ASKED_PAUSE_MAX: Duration = Duration::from_hours(1);
/// First pause before a settlement is written again; it doubles up to [`SETTLE_PAUSE_MAX`].
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// No pause before a settlement is written again is longer.
const SETTLE_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Receipts that are noted at a time: when many run out together, the store has others to serve too.
const NOTED_MAX: usize = 16;
/// How long receipts are waited for when this task goes away. Well within [`crate::lease::HAND_OVER_MAX`]: the way has to
/// be closed after it, and what that tells to be noted.
const FINISH_AFTER: Duration = Duration::from_secs(1);

/// The pause after so many failed attempts: exponential with full jitter between the shortest and the longest.
fn pause_after(attempts: u32, rng: &mut fastrand::Rng) -> Duration {
    let step = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(PAUSE_MAX);
    PAUSE_MIN + step.saturating_sub(PAUSE_MIN).mul_f64(rng.f64())
}

fn key_of(entry: &Entry) -> (InteractionId, u64) {
    (entry.interaction.clone(), entry.seq)
}

/// Works one lane until its lease ends: then it finishes what is under way and returns.
pub(crate) async fn work<C: Carrier>(shared: Arc<Shared>, carrier: Arc<C>, held: Held) {
    let worker = Worker { shared, carrier, held, noting: Semaphore::new(NOTED_MAX), settling: Mutex::default() };
    worker.run().await;
}

struct Worker<C> {
    shared: Arc<Shared>,
    carrier: Arc<C>,
    held: Held,
    noting: Semaphore,
    /// Entries whose receiver has them, and of which the store does not know it yet: they are not carried again.
    settling: Mutex<HashSet<(InteractionId, u64)>>,
}

/// Something that was under way is done.
enum Done {
    /// The index was read.
    Looked(Result<Vec<InteractionId>, StoreError>),
    /// An interaction has nothing more to send at present. These entries wait for their receipt.
    Cleared(InteractionId, Vec<Entry>),
}

/// How far an entry has come.
enum Handled {
    /// It has left the lane.
    Left,
    /// It was carried, and waits for its receipt.
    Unconfirmed,
    /// It waits to be carried.
    Stays,
}

impl Handled {
    const fn settled(is_written: bool) -> Self {
        if is_written { Self::Left } else { Self::Stays }
    }
}

impl<C: Carrier> Worker<C> {
    async fn run(&self) {
        let mut held = self.held.clone();
        let changes = self.shared.store.outbox_changed();
        let change = changes.notified();
        tokio::pin!(change);
        // Whatever is put into the outbox from here on is told, also while nobody listens.
        change.as_mut().enable();
        let mut under_way: FuturesUnordered<BoxFuture<'_, Done>> = FuturesUnordered::new();
        // As many as the carrier lets wait.
        let mut unconfirmed: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        let mut queue = Queue::default();
        let mut pace = Pace::new(Instant::now());
        let began_at = Instant::now();
        let (mut is_ending, mut finish_at) = (false, None);
        loop {
            while under_way.len() <= CONCURRENT_MAX
                && let Some(id) = queue.next()
            {
                under_way.push(Box::pin(self.clear(id)));
            }
            if is_ending && under_way.is_empty() && unconfirmed.is_empty() {
                return;
            }
            let is_open = self.carrier.is_open();
            tokio::select! {
                Some(done) = under_way.next() => match done {
                    Done::Cleared(id, carried) => {
                        queue.done(&id);
                        for entry in carried {
                            unconfirmed.push(Box::pin(self.confirm(entry)));
                        }
                    }
                    Done::Looked(Ok(due)) => {
                        // Nothing leaves while there is no way: then a full look does not mean that there is more to do.
                        let found = if is_open { due.len() } else { due.len().min(DUE_MAX - 1) };
                        pace.looked(Instant::now(), found, self.poll(is_open));
                        for id in due {
                            queue.add(id);
                        }
                        if is_ending {
                            queue.clear();
                        }
                    }
                    Done::Looked(Err(problem)) => {
                        self.store_failed("outbox_due", &problem);
                        pace.looked(Instant::now(), 0, DOWN_POLL);
                    }
                },
                Some(()) = unconfirmed.next() => {}
                () = sleep_until(pace.look_at), if !pace.is_looking && queue.is_empty() && !is_ending => {
                    pace.is_looking = true;
                    // What a former holder had claimed when it died is not due yet, and is this holder's now.
                    let ahead = if began_at.elapsed() < C::CLAIM { C::CLAIM } else { Duration::ZERO };
                    under_way.push(Box::pin(self.look(ahead)));
                }
                () = &mut change => {
                    change.set(changes.notified());
                    change.as_mut().enable();
                    if is_open {
                        pace.hurry(Instant::now());
                    }
                }
                () = self.carrier.opened(), if !is_open => pace.hurry(Instant::now()),
                () = held.ending(), if !is_ending => {
                    is_ending = true;
                    finish_at = Some(Instant::now() + FINISH_AFTER);
                    queue.clear();
                }
                () = sleep_until(finish_at.unwrap_or(began_at)), if finish_at.is_some() => {
                    finish_at = None;
                    self.carrier.finish();
                }
            }
        }
    }

    /// Pause between two looks while there is something to do.
    fn poll(&self, is_open: bool) -> Duration {
        let poll = self.shared.settings.outbox_poll;
        match C::LANE {
            _ if !is_open => DOWN_POLL,
            Lane::Suggestions => poll,
            Lane::Insights | Lane::Popups | Lane::Webhooks => poll * UNHURRIED,
        }
    }

    async fn look(&self, ahead: Duration) -> Done {
        let due_by_ms = after_ms(now_ms(), ahead);
        Done::Looked(self.shared.store.due_interactions(C::LANE, due_by_ms, DUE_MAX).await)
    }

    /// Sends what an interaction has to send in this lane, in order.
    async fn clear(&self, id: InteractionId) -> Done {
        let mut unconfirmed = Vec::new();
        let entries = match self.shared.store.outbox(&id, C::LANE, now_ms()).await {
            Ok(entries) => entries,
            Err(problem) => {
                self.store_failed("outbox_read", &problem);
                return Done::Cleared(id, unconfirmed);
            }
        };
        for entry in entries {
            if self.held.is_ending() || !self.held.is_current() {
                break;
            }
            if self.carrier.awaits(&entry) || self.settling().contains(&key_of(&entry)) {
                continue;
            }
            match self.handle(&entry).await {
                Handled::Unconfirmed => unconfirmed.push(entry),
                // What is carried over REST is about something of its own, and does not wait for what failed before it.
                Handled::Stays if C::LANE == Lane::Suggestions => break,
                Handled::Stays | Handled::Left => {}
            }
        }
        Done::Cleared(id, unconfirmed)
    }

    /// Sends an entry if it can be.
    async fn handle(&self, entry: &Entry) -> Handled {
        let started_ms = now_ms();
        if entry.is_expired(started_ms) {
            return Handled::settled(self.settle(entry, Fate::Expired, started_ms).await);
        }
        if !self.is_due(entry, started_ms) || !self.carrier.is_open() {
            return Handled::Stays;
        }
        let claim = self.shared.store.claim_entry(entry, self.held.token(), started_ms, as_ms(C::CLAIM)).await;
        match claim {
            Ok(true) => {}
            // It is gone, or somebody with a newer token has it.
            Ok(false) => return Handled::Stays,
            Err(problem) => {
                self.store_failed("outbox_claim", &problem);
                return Handled::Stays;
            }
        }
        // The claim may have taken long.
        if !self.held.is_current() || entry.is_expired(now_ms()) {
            return Handled::Stays;
        }
        let attempts = entry.attempts.saturating_add(1);
        let fate = match self.carrier.carry(entry).await {
            Delivery::Delivered => Fate::Delivered,
            Delivery::Unconfirmed => return Handled::Unconfirmed,
            Delivery::Never { reason } => Fate::Dead { reason },
            Delivery::Again { .. } if C::GIVES_UP && attempts >= self.shared.settings.outbox_attempts_max => {
                Fate::Dead { reason: "attempts" }
            }
            Delivery::Again { after } => {
                let asked = after.unwrap_or_default().min(ASKED_PAUSE_MAX);
                let pause = pause_after(attempts, &mut fastrand::Rng::new()).max(asked);
                self.put_off(entry, pause).await;
                self.shared.metrics.entry(C::LANE, "retried");
                return Handled::Stays;
            }
            Delivery::NoWay => {
                self.put_off(entry, Duration::ZERO).await;
                return Handled::Stays;
            }
            Delivery::Shut { after } => {
                // Not all at the same moment when the door opens.
                let pause = after.clamp(PAUSE_MIN, ASKED_PAUSE_MAX) + PAUSE_MIN.mul_f64(fastrand::f64());
                self.put_off_uncounted(entry, pause).await;
                self.shared.metrics.entry(C::LANE, "retried");
                return Handled::Stays;
            }
        };
        Handled::settled(self.settle(entry, fate, now_ms()).await)
    }

    /// Waits for the receipt of an entry, and does what it asks for.
    async fn confirm(&self, entry: Entry) {
        let receipt = self.carrier.confirmed(&entry).await;
        if matches!(receipt, Receipt::Delivered { .. }) {
            self.settling().insert(key_of(&entry));
        }
        // Never closed.
        let _turn = self.noting.acquire().await;
        match receipt {
            Receipt::Noted => self.count(Fate::Delivered),
            Receipt::Delivered { written_ms } => {
                self.settle(&entry, Fate::Delivered, written_ms).await;
                self.settling().remove(&key_of(&entry));
            }
            // It is the next one of its interaction again, before those that were carried after it.
            Receipt::Unknown => {
                self.put_off(&entry, Duration::ZERO).await;
                self.shared.metrics.entry(C::LANE, "retried");
            }
        }
    }

    /// An entry that a former holder had claimed need not wait until that claim is over: its token is fenced off. It
    /// may also have been put off by so much; then one attempt comes early.
    fn is_due(&self, entry: &Entry, now_ms: i64) -> bool {
        let is_orphan = entry.sender.is_some_and(|sender| sender < self.held.token());
        entry.due_ms <= if is_orphan { after_ms(now_ms, C::CLAIM) } else { now_ms }
    }

    async fn put_off(&self, entry: &Entry, pause: Duration) {
        let due_ms = after_ms(now_ms(), pause);
        if let Err(problem) = self.shared.store.put_off_entry(entry, self.held.token(), due_ms).await {
            // It is due again when the claim is over.
            self.store_failed("outbox_put_off", &problem);
        }
    }

    /// Puts an entry off that nobody was asked to take: that is no attempt.
    async fn put_off_uncounted(&self, entry: &Entry, pause: Duration) {
        let due_ms = after_ms(now_ms(), pause);
        if let Err(problem) = self.shared.store.put_off_entry_uncounted(entry, self.held.token(), due_ms).await {
            self.store_failed("outbox_put_off", &problem);
        }
    }

    /// Writes what became of an entry at a moment, as often as it takes while the lease lasts. Whether it was written.
    async fn settle(&self, entry: &Entry, fate: Fate, at_ms: i64) -> bool {
        let on_failure = match &entry.payload {
            Payload::Popup { trigger, .. } => self.carrier.on_failure(trigger),
            _ => OnFailure::DeadLetter,
        };
        let (mut pause, mut may_be_written) = (SETTLE_PAUSE, false);
        while self.held.is_current() {
            let now_ms = now_ms();
            let cx = Context { id: &entry.interaction, now_ms };
            let keep_ms = self.shared.settings.keep_ms();
            let step = |document: &mut Interaction| {
                let effects = fate.apply(document, &cx, entry, at_ms, on_failure);
                (!effects.is_empty(), effects)
            };
            match self.shared.store.step_interaction(&entry.interaction, now_ms, keep_ms, step).await {
                Ok(is_news) => {
                    self.count(fate);
                    // Whoever noted it before has told of it.
                    if is_news || may_be_written {
                        self.carrier.settled(entry, fate);
                    }
                    return true;
                }
                Err(problem) if problem.is_transient() => {
                    may_be_written = true;
                    self.store_failed("outbox_settle", &problem);
                    sleep(pause).await;
                    pause = (pause * 2).min(SETTLE_PAUSE_MAX);
                }
                Err(problem) => {
                    error!(
                        lane = C::LANE.label(), interaction = %entry.interaction, seq = entry.seq, %problem,
                        "an entry was handled and the store refuses to note it; it will be handled again"
                    );
                    self.shared.metrics.store_error("outbox_settle");
                    return false;
                }
            }
        }
        false
    }

    fn settling(&self) -> MutexGuard<'_, HashSet<(InteractionId, u64)>> {
        self.settling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, fate: Fate) {
        match fate {
            Fate::Delivered => self.shared.metrics.entry(C::LANE, "delivered"),
            Fate::Dead { reason } => {
                warn!(lane = C::LANE.label(), reason, "an entry became a dead letter: see `earpiece outbox list`");
                self.shared.metrics.entry(C::LANE, "dead");
            }
            Fate::Expired => {}
        }
    }

    fn store_failed(&self, operation: &'static str, problem: &StoreError) {
        warn!(lane = C::LANE.label(), operation, %problem, "the store failed");
        self.shared.metrics.store_error(operation);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pause_is_between_a_second_and_five_minutes_and_never_above_its_step(seed: u64, attempts in 1_u32..200) {
            let pause = pause_after(attempts, &mut fastrand::Rng::with_seed(seed));
            let step = Duration::from_secs(1 << (attempts - 1).min(20));
            prop_assert!(pause >= PAUSE_MIN && pause <= step.min(PAUSE_MAX), "{attempts}: {pause:?}");
        }
    }
}
