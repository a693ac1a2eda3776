//! One stream that is handed over in pieces: its pieces in order, into the assist app's voice socket.
//!
//! A task of its own per stream; whoever brings a piece only leaves it here and does not wait for the app.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use earpiece_core::contact::facts::{CloseReason, StreamFacts};
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_relay::{Start, Tap};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::Task;
use crate::ingest::keeper;
use crate::ingest::reorder::{Next, Reorder};

/// Pieces that wait for the session's task.
pub(crate) const ORDERS_MAX: usize = 16;

/// Events of the assist app that wait to be kept.
const APP_EVENTS_WAITING_MAX: usize = 64;

/// A stream of which nothing came for so long is closed: it goes on in a session of its own when more comes.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// How long pieces that are still missing are waited for when a stream has ended.
const STRAGGLERS_MAX: Duration = Duration::from_secs(2);

/// What a session is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Audio from this sample on.
    Piece { first_sample: u64, samples: Bytes },
    /// The stream is over, after so many samples if that is known.
    End { samples: Option<u64> },
}

/// How a session ended, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) position: Option<u64>,
    /// Whether the stream is over: what comes after that is late.
    pub(crate) is_over: bool,
}

/// A stream and the way to the app.
pub(crate) struct Session {
    task: Arc<Task>,
    contact: ContactKey,
    stream: StreamId,
    tap: Tap,
    /// Keeps what the app says, until it has said its last.
    keeper: JoinHandle<()>,
    reorder: Reorder,
    ending: Option<Ending>,
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    samples: Option<u64>,
    by: Instant,
}

impl Session {
    /// Opens the app's socket for a stream of which the samples before `position` were already sent. `facts` are those of
    /// one of its pieces. `None` where there is no app.
    pub(crate) fn open(task: Arc<Task>, facts: StreamFacts, start: Start, position: Option<u64>) -> Option<Self> {
        let (events, said) = mpsc::channel(APP_EVENTS_WAITING_MAX);
        let (contact, stream) = (start.contact, start.stream);
        let tap = task.relay.as_ref()?.open(start, events);
        debug!(%contact, %stream, "pieces of a stream are relayed");
        let keeper = tokio::spawn(keeper::keep(task.clone(), facts, said));
        Some(Self { task, contact, stream, tap, keeper, reorder: Reorder::new(position), ending: None })
    }

    /// Relays until the stream ends, falls silent, or the task goes away.
    pub(crate) async fn run(&mut self, orders: &mut mpsc::Receiver<Order>) -> CloseReason {
        let mut draining = self.task.draining.subscribe();
        let mut idle = Instant::now() + IDLE_MAX;
        loop {
            let ending = self.ending.map_or(idle, |ending| ending.by);
            let wake = self.reorder.wake().unwrap_or(idle).min(idle).min(ending);
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => {
                        idle = Instant::now() + IDLE_MAX;
                        self.take(order);
                    }
                    None => return CloseReason::PeerVanished,
                },
                _ = draining.wait_for(|draining| *draining) => return CloseReason::Drained,
                () = tokio::time::sleep_until(wake) => {}
            }
            let now = Instant::now();
            while let Some(next) = self.reorder.next(now) {
                self.relay(next);
            }
            if self.is_complete(now) {
                return CloseReason::PeerClosed;
            }
            if now >= idle {
                return CloseReason::PeerVanished;
            }
        }
    }

    pub(crate) fn take(&mut self, order: Order) {
        match order {
            Order::Piece { first_sample, samples } => {
                let is_new = self.reorder.take(first_sample, samples, Instant::now());
                self.task.metrics.ingested(if is_new { "relayed" } else { "duplicate" });
            }
            Order::End { samples } => {
                self.ending.get_or_insert(Ending { samples, by: Instant::now() + STRAGGLERS_MAX });
            }
        }
    }

    fn is_complete(&self, now: Instant) -> bool {
        let Some(ending) = self.ending else { return false };
        let has_all = match ending.samples {
            Some(samples) => self.reorder.position().unwrap_or_default() >= samples,
            None => self.reorder.wake().is_none(),
        };
        has_all || now >= ending.by
    }

    fn relay(&mut self, next: Next) {
        match next {
            Next::Audio(samples) => self.tap.push(&samples),
            // To the app it is time without audio: what it hears next keeps its place on the clock.
            Next::Missing(samples) => self.tap.silence(samples),
        }
        while let Some(lost) = self.tap.take_lost() {
            self.task.metrics.lost(lost.reason, lost.samples);
        }
    }

    /// What is to be remembered of the stream.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome { position: self.reorder.position(), is_over: self.ending.is_some() }
    }

    /// Sends what is left, and hears the app's last words.
    pub(crate) async fn settle(mut self, reason: CloseReason) {
        while let Some(next) = self.reorder.rest() {
            self.relay(next);
        }
        let samples = self.reorder.position();
        let (contact, stream) = (self.contact, self.stream);
        let mut stopped = self.tap.stop(reason);
        // Ends when the relay's task does, which is bounded by its flush time, and all is written or given up.
        let _ = self.keeper.await;
        while let Some(lost) = stopped.take_lost() {
            self.task.metrics.lost(lost.reason, lost.samples);
        }
        info!(%contact, %stream, reason = reason.label(), samples, "pieces of a stream were relayed");
    }
}

#[cfg(test)]
mod tests {
    use earpiece_core::config::{EmptyEnv, Overlay};
    use earpiece_store::Store;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::{Settings, service, settings};

    const SECOND: Duration = Duration::from_secs(1);

    /// A task whose assist app is away, and which never asks its store: time can be passed over.
    fn task() -> (Arc<Task>, TempDir) {
        let data = tempfile::tempdir().expect("a temporary folder");
        let env = Overlay::over(EmptyEnv)
            .with(&settings::RECORDINGS, data.path().to_str().expect("a Unicode path"))
            .with(&settings::ASSIST_URL, "ws://127.0.0.1:1/voice")
            .with(&settings::INGEST_TOKENS, "pieces");
        let settings = Settings::read(&env).expect("settings");
        let parts = service::parts(&settings, Store::connect_local("http://127.0.0.1:1", "none")).expect("parts");
        (Task::new(parts, None).expect("a task"), data)
    }

    fn session(task: &Arc<Task>, position: Option<u64>) -> Session {
        let facts: StreamFacts = serde_json::from_value(json!({
            "contact": ContactKey { bus_no: 1, contact_id: 2 }, "stream": StreamId::new(), "perspective": "TX",
            "generation": 1, "openedUs": 1, "task": "apigw", "segmentMs": 1000, "frames": 0, "samples": 0, "runs": [],
        }))
        .expect("facts");
        let start = Start {
            contact: facts.contact,
            stream: facts.stream,
            perspective: facts.perspective.clone(),
            generation: facts.generation,
            app_params: Value::Null,
            app_config: Value::Null,
            unknown: None,
        };
        Session::open(task.clone(), facts, start, position).expect("there is an app")
    }

    fn piece(first_sample: u64) -> Order {
        Order::Piece { first_sample, samples: Bytes::from_static(&[0x55; 160]) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_falls_silent_is_closed_and_its_place_is_known() {
        let (task, _data) = task();
        let mut session = session(&task, None);
        let (sender, mut orders) = mpsc::channel(ORDERS_MAX);
        let began = Instant::now();
        let pieces = async {
            sender.send(piece(0)).await.expect("a session");
            tokio::time::sleep(20 * SECOND).await;
            sender.send(piece(160)).await.expect("a session");
        };
        let (reason, ()) = tokio::join!(session.run(&mut orders), pieces);
        assert_eq!(reason, CloseReason::PeerVanished);
        let lasted = began.elapsed();
        assert!((50 * SECOND..51 * SECOND).contains(&lasted), "{lasted:?}");
        assert_eq!(session.outcome(), Outcome { position: Some(320), is_over: false });
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_waits_for_what_is_missing_but_not_for_long() {
        let (task, _data) = task();
        for (missing_comes, expected) in [(true, SECOND), (false, 2 * SECOND)] {
            let mut session = session(&task, Some(0));
            let (sender, mut orders) = mpsc::channel(ORDERS_MAX);
            let began = Instant::now();
            let pieces = async {
                sender.send(Order::End { samples: Some(160) }).await.expect("a session");
                tokio::time::sleep(SECOND).await;
                if missing_comes {
                    sender.send(piece(0)).await.expect("a session");
                }
            };
            let (reason, ()) = tokio::join!(session.run(&mut orders), pieces);
            let lasted = began.elapsed();
            assert_eq!(reason, CloseReason::PeerClosed);
            assert!((expected..expected + SECOND / 2).contains(&lasted), "{lasted:?}");
            assert!(session.outcome().is_over);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_a_session_at_once() {
        let (task, _data) = task();
        let mut session = session(&task, None);
        let (_sender, mut orders) = mpsc::channel(ORDERS_MAX);
        let _ = task.draining.send_replace(true);
        assert_eq!(session.run(&mut orders).await, CloseReason::Drained);
        session.settle(CloseReason::Drained).await;
        let relay = task.relay.as_ref().expect("there is an app");
        relay.drained().await;
    }
}
