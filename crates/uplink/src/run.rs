//! Wiring: which task strives for which lease, and what it does while it has it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::assist::Lane;
use earpiece_cxone::Cxone;
use earpiece_https::Client;
use earpiece_knowledge::Knowledge;
use earpiece_store::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{error, info, warn};

use crate::clock::now_ms;
use crate::ear::Hearing;
use crate::insights::Insights;
use crate::lease::{HAND_OVER_MAX, Held, HeldCount, Keeper, stopped};
use crate::metrics::Metrics;
use crate::popups::Popups;
use crate::settings::{Settings, Which};
use crate::suggestions::Suggestions;

/// How often the age of what waits, and the dead letters, are measured.
const MEASURE_EVERY: Duration = Duration::from_secs(15);
/// Dead letters that are counted; more are not told apart.
const DEAD_COUNTED_MAX: usize = 100;
/// Beyond what the work may take to finish: for the store to take the leases back.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// What the uplinks are made of.
#[derive(Debug)]
pub struct Parts {
    /// Name of this task, in logs and in leases.
    pub task: String,
    /// The store.
    pub store: Store,
    /// CXone; `None` where there are no credentials for it: then nothing leaves.
    pub cxone: Option<Cxone>,
    /// Articles that are searched instead of CXone's.
    pub knowledge: Option<Knowledge>,
    /// For webhooks.
    pub https: Client,
    /// Checked settings.
    pub settings: Settings,
    /// Where everything is counted.
    pub metrics: Metrics,
}

/// What every part of the uplinks needs.
pub(crate) struct Shared {
    pub(crate) task: String,
    pub(crate) store: Store,
    pub(crate) cxone: Cxone,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("task", &self.task).finish_non_exhaustive()
    }
}

/// Takes part in the uplinks until `shutdown`; then finishes what is under way, gives the leases back and returns,
/// within five seconds or so. What another task could not do is never left half done: it is in the outbox.
pub async fn run(parts: Parts, hearing: Hearing, shutdown: impl Future<Output = ()> + Send) {
    let Parts { task, store, cxone, knowledge, https, settings, metrics } = parts;
    let Some(cxone) = cxone else {
        info!("no credentials for CXone: nothing is sent to agents from here");
        shutdown.await;
        return;
    };
    let shared = Arc::new(Shared { task, store, cxone, settings, metrics });
    let (stop, stopping) = watch::channel(false);
    let mut running = JoinSet::new();
    let insights = Insights::new(Arc::clone(&shared), knowledge);
    running.spawn(insights.clone().hear(hearing, stopping.clone()));
    running.spawn(measure(Arc::clone(&shared), stopping.clone()));
    let suggestions = Suggestions::new(Arc::clone(&shared), https);
    let popups = Popups::new(Arc::clone(&shared));
    // Not even this task in another life has the same name: its former self is fenced off like anybody else.
    let holder = format!("{}/{:016x}", shared.task, fastrand::u64(..));
    let (held, shift) = (HeldCount::default(), fastrand::u32(..3));
    for (which, place) in Which::ALL.into_iter().zip(shift..) {
        if !shared.settings.uplinks.contains(&which) {
            continue;
        }
        let lease = shared.settings.lease;
        let (store, held, metrics) = (shared.store.clone(), Arc::clone(&held), shared.metrics.clone());
        let keeper = Keeper::new(store, which, holder.clone(), lease, place % 3, held, metrics);
        let stopping = stopping.clone();
        match which {
            Which::Suggestions => {
                let suggestions = suggestions.clone();
                running.spawn(async move { keeper.run(stopping, |held: Held| suggestions.clone().work(held)).await });
            }
            Which::Insights => {
                let insights = insights.clone();
                running.spawn(async move { keeper.run(stopping, |held: Held| insights.clone().work(held)).await });
            }
            Which::Popups => {
                let popups = popups.clone();
                running.spawn(async move { keeper.run(stopping, |held: Held| popups.clone().work(held)).await });
            }
        }
    }
    shutdown.await;
    stop.send_replace(true);
    let settled = async {
        while let Some(ended) = running.join_next().await {
            if ended.is_err() {
                error!("a part of the uplinks panicked");
            }
        }
    };
    if timeout(HAND_OVER_MAX + RELEASE_MAX, settled).await.is_err() {
        warn!("the uplinks were cut off; their leases are free when they run out");
    }
}

/// Measures what waits, on every task: when nobody holds a lease, somebody has to see it.
async fn measure(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut every = interval(MEASURE_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => measure_once(&shared).await,
            () = stopped(&mut stopping) => return,
        }
    }
}

/// Measures now.
pub(crate) async fn measure_once(shared: &Shared) {
    shared.metrics.cxone(&shared.cxone.snapshot());
    for lane in Lane::ALL {
        match shared.store.oldest_due_ms(lane).await {
            Ok(oldest_ms) => {
                let age_ms = oldest_ms.map_or(0, |due_ms| now_ms().saturating_sub(due_ms).max(0));
                shared.metrics.outbox_age(lane, Duration::from_millis(age_ms.unsigned_abs()));
            }
            Err(problem) => {
                warn!(lane = lane.label(), %problem, "the age of the outbox could not be measured");
                shared.metrics.store_error("outbox_age");
            }
        }
    }
    match shared.store.dead_entries(DEAD_COUNTED_MAX).await {
        Ok(dead) => shared.metrics.outbox_dead(dead.len()),
        Err(problem) => {
            warn!(%problem, "the dead letters could not be counted");
            shared.metrics.store_error("outbox_dead");
        }
    }
}
