//! Load of one sort, put on at a rate or as fast as it goes, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use earpiece_simulator::Latency;
use serde::Serialize;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::figure;

/// Pieces of work under way at a time where a rate is kept. Beyond, the next one waits, and its time counts from when it
/// should have begun.
const UNDER_WAY_MAX: usize = 8192;

/// Why something did not arrive: a word for the report.
pub(crate) type Missed = &'static str;

/// What came of a load.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Flow {
    /// Pieces that were begun.
    pub(crate) begun: u64,
    /// Pieces that arrived.
    pub(crate) arrived: u64,
    /// Pieces that did not, by reason.
    pub(crate) missed: BTreeMap<Missed, u64>,
    /// From the first to the end of the last, in milliseconds.
    pub(crate) elapsed_ms: u64,
    /// Pieces that arrived, per second.
    pub(crate) per_second: u64,
    /// How long each took.
    pub(crate) latency: Latency,
}

impl Flow {
    /// Puts so many pieces per second on, for so long, and waits for the last of them. Times count from when a piece
    /// was due, so that a pace that is not kept shows.
    pub(crate) async fn paced<W>(per_second: u32, seconds: u32, work: impl Fn(u64, Instant) -> W) -> Self
    where
        W: Future<Output = Result<Duration, Missed>> + Send + 'static,
    {
        let began = Instant::now();
        let mut books = Books::default();
        let mut under_way = JoinSet::new();
        for nth in 0..u64::from(per_second) * u64::from(seconds) {
            let due = began + Duration::from_micros(nth * 1_000_000 / u64::from(per_second.max(1)));
            sleep_until(due).await;
            while let Some(ended) = under_way.try_join_next() {
                books.note(ended);
            }
            if under_way.len() >= UNDER_WAY_MAX
                && let Some(ended) = under_way.join_next().await
            {
                books.note(ended);
            }
            under_way.spawn(work(nth, due));
        }
        while let Some(ended) = under_way.join_next().await {
            books.note(ended);
        }
        books.close(began.elapsed())
    }

    /// Has so many workers do one piece after the other for so long.
    pub(crate) async fn saturated<W>(
        at_once: u32,
        seconds: u32,
        work: impl Fn(u64, Instant) -> W + Clone + Send + 'static,
    ) -> Self
    where
        W: Future<Output = Result<Duration, Missed>> + Send,
    {
        let began = Instant::now();
        let until = began + Duration::from_secs(seconds.into());
        let next = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..at_once {
            let (work, next) = (work.clone(), Arc::clone(&next));
            workers.spawn(async move {
                let mut outcomes = Vec::new();
                while Instant::now() < until {
                    outcomes.push(work(next.fetch_add(1, Ordering::Relaxed), Instant::now()).await);
                }
                outcomes
            });
        }
        let mut books = Books::default();
        while let Some(ended) = workers.join_next().await {
            match ended {
                Ok(outcomes) => outcomes.into_iter().for_each(|outcome| books.note(Ok(outcome))),
                Err(broken) => books.note(Err(broken)),
            }
        }
        books.close(began.elapsed())
    }

    /// What was missed, as faults of the report.
    pub(crate) fn faults(&self, what: &str) -> Option<String> {
        let reasons: Vec<String> = self.missed.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        (!reasons.is_empty()).then(|| format!("{what} missed: {}", reasons.join(", ")))
    }
}

/// Outcomes that are being counted.
#[derive(Default)]
struct Books {
    times_us: Vec<u64>,
    missed: BTreeMap<Missed, u64>,
}

impl Books {
    fn note(&mut self, ended: Result<Result<Duration, Missed>, JoinError>) {
        match ended.unwrap_or(Err("panicked")) {
            Ok(time) => self.times_us.push(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            Err(reason) => *self.missed.entry(reason).or_default() += 1,
        }
    }

    fn close(self, elapsed: Duration) -> Flow {
        let arrived = self.times_us.len() as u64;
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Flow {
            begun: arrived + self.missed.values().sum::<u64>(),
            arrived,
            missed: self.missed,
            elapsed_ms,
            per_second: figure::divide(arrived * 1000, elapsed_ms),
            latency: Latency::of(self.times_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pace_is_kept_and_what_is_missed_is_counted_by_its_reason() {
        let flow = Flow::paced(10, 2, |nth, due| async move {
            sleep(Duration::from_millis(50)).await;
            if nth % 5 == 0 { Err("late") } else { Ok(due.elapsed()) }
        });
        let flow = flow.await;
        assert_eq!((flow.begun, flow.arrived, flow.missed.get("late")), (20, 16, Some(&4)));
        assert_eq!((flow.latency.p50_us, flow.latency.max_us), (50_000, 50_000));
        assert_eq!(flow.elapsed_ms, 1_950);
        assert!(flow.faults("suggestions").is_some_and(|fault| fault == "suggestions missed: late: 4"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pace_that_cannot_be_kept_shows_in_the_times() {
        let work = |_, due: Instant| async move {
            sleep(Duration::from_secs(10)).await;
            Ok(due.elapsed())
        };
        let latency = Flow::paced(10_000, 1, work).await.latency;
        assert_eq!(latency.p50_us / 1_000_000, 10);
        assert!(latency.max_us > 18_000_000, "what had to wait for its turn counts from when it was due: {latency:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn workers_do_one_piece_after_the_other_until_the_time_is_over() {
        let flow = Flow::saturated(3, 1, |_, since| async move {
            sleep(Duration::from_millis(100)).await;
            Ok(since.elapsed())
        });
        let flow = flow.await;
        assert_eq!((flow.arrived, flow.per_second, flow.faults("")), (30, 30, None));
    }
}
