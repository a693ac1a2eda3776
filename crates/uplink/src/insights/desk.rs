//! The one place of a task where everything that is said comes together: buffers, questions, and the lookups under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::assist::transcript::BufferLimits;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout_at};
use tracing::error;

use super::buffers::{Buffers, Flushed, INTERACTIONS_MAX, Name};
use super::lookup::{Lookup, Outcome};
use super::queries::{Queries, Query};
use crate::ear::{Heard, Hearing, Said};
use crate::lease::stopped;

/// Lookups at a time.
const LOOKUPS_MAX: usize = 16;
/// Things that were said and are taken at a time.
const BATCH_MAX: usize = 256;
/// How often it is looked whether the folder of knowledge has changed.
const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// How often what is kept here is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// How long lookups may take when this task goes away.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// Everything that was said and has not become cards yet.
pub(crate) struct Desk {
    lookup: Arc<Lookup>,
    buffers: Buffers,
    queries: Queries,
    under_way: JoinSet<(Query, Outcome)>,
    /// For whom: also known when a lookup panics.
    askers: HashMap<Id, Name>,
    refreshing: JoinSet<()>,
    /// Zero of the milliseconds in which buffers and questions count.
    zero: Instant,
}

impl Desk {
    pub(crate) fn new(lookup: Arc<Lookup>, limits: BufferLimits) -> Self {
        Self {
            lookup,
            buffers: Buffers::new(limits, INTERACTIONS_MAX),
            queries: Queries::default(),
            under_way: JoinSet::new(),
            askers: HashMap::new(),
            refreshing: JoinSet::new(),
            zero: Instant::now(),
        }
    }

    /// Works until `closing` is up; then what was said is looked up at once, as far as there is time.
    pub(crate) async fn run(
        mut self,
        mut heard: mpsc::Receiver<Heard>,
        mut hearing: Hearing,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let (mut is_read, mut is_hearing) = (true, true);
        let mut refresh = interval_at(Instant::now() + REFRESH_EVERY, REFRESH_EVERY);
        let mut measure = interval_at(Instant::now() + MEASURE_EVERY, MEASURE_EVERY);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        measure.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.begin_lookups();
            let wakes_at = self.wakes_at();
            tokio::select! {
                taken = heard.recv_many(&mut batch, BATCH_MAX), if is_read => {
                    is_read = taken > 0;
                    // The end of a turn that CXone tells of must not overtake the words of it that the app has told.
                    while let Some(said) = hearing.try_next() {
                        self.take(&said, "app");
                    }
                    for said in batch.drain(..) {
                        self.take(&said, "cxone");
                    }
                }
                said = hearing.next(), if is_hearing => match said {
                    Some(said) => self.take(&said, "app"),
                    None => is_hearing = false,
                },
                () = sleep_until(wakes_at.unwrap_or(self.zero)), if wakes_at.is_some() => self.tick(),
                Some(ended) = self.under_way.join_next_with_id() => self.ended(ended),
                _ = refresh.tick(), if self.refreshing.is_empty() => {
                    let lookup = Arc::clone(&self.lookup);
                    self.refreshing.spawn(async move { lookup.search.refresh().await });
                }
                Some(_) = self.refreshing.join_next() => {}
                _ = measure.tick() => {
                    self.lookup.metrics.interactions_tracked(self.buffers.len());
                    self.lookup.metrics.fragments_dropped(hearing.take_dropped());
                }
                () = stopped(&mut closing) => break,
            }
        }
        // What is in the queues was said before.
        while let Ok(said) = heard.try_recv() {
            self.take(&said, "cxone");
        }
        while let Some(Some(said)) = hearing.next().now_or_never() {
            self.take(&said, "app");
        }
        self.finish().await;
        self.lookup.metrics.interactions_tracked(0);
        self.lookup.metrics.fragments_dropped(hearing.take_dropped());
    }

    fn take(&mut self, heard: &Heard, source: &'static str) {
        let flushed = match &heard.what {
            Said::Fragment { text, at_ms: _ } => {
                self.lookup.metrics.fragment(source);
                self.buffers.hear(&heard.interaction, text.reveal(), self.now_ms())
            }
            Said::TurnEnd => self.buffers.turn(&heard.interaction).into_iter().collect(),
        };
        self.ask(flushed);
    }

    fn tick(&mut self) {
        let now_ms = self.now_ms();
        let flushed = self.buffers.tick(now_ms);
        self.queries.tick(now_ms);
        self.ask(flushed);
    }

    fn ask(&mut self, flushed: Vec<Flushed>) {
        let now_ms = self.now_ms();
        for words in flushed {
            if !self.queries.add(words, now_ms) {
                self.lookup.metrics.fragments_dropped(1);
            }
        }
    }

    fn begin_lookups(&mut self) {
        while self.under_way.len() < LOOKUPS_MAX
            && let Some((name, query)) = self.queries.next()
        {
            if query.is_stale(self.now_ms()) {
                self.lookup.metrics.search("failed");
                self.queries.done(&name);
                continue;
            }
            let (lookup, asker) = (Arc::clone(&self.lookup), Arc::clone(&name));
            let task = self.under_way.spawn(async move {
                let outcome = lookup.look_up(&asker, &query.words).await;
                (query, outcome)
            });
            self.askers.insert(task.id(), name);
        }
    }

    fn ended(&mut self, ended: Result<(Id, (Query, Outcome)), JoinError>) {
        match ended {
            Ok((id, (query, outcome))) => {
                let Some(name) = self.askers.remove(&id) else { return };
                match outcome {
                    Outcome::Over => self.queries.done(&name),
                    Outcome::Later { at } => {
                        let at_ms = self.ms_of(at).saturating_add(1);
                        self.queries.put_off(&name, query, at_ms);
                    }
                }
            }
            Err(broken) => {
                error!("a lookup panicked");
                if let Some(name) = self.askers.remove(&broken.id()) {
                    self.queries.done(&name);
                }
            }
        }
    }

    async fn finish(&mut self) {
        let flushed = self.buffers.flush();
        self.ask(flushed);
        let deadline = Instant::now() + FINISH_MAX;
        loop {
            self.begin_lookups();
            match timeout_at(deadline, self.under_way.join_next_with_id()).await {
                Ok(Some(ended)) => self.ended(ended),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// When a buffer or a question is due.
    fn wakes_at(&self) -> Option<Instant> {
        let at_ms = self.buffers.wakes_at_ms().into_iter().chain(self.queries.wakes_at_ms()).min()?;
        Some(self.zero + Duration::from_millis(at_ms.max(0).unsigned_abs()))
    }

    fn now_ms(&self) -> i64 {
        self.ms_of(Instant::now())
    }

    fn ms_of(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.zero).as_millis()).unwrap_or(i64::MAX)
    }
}
