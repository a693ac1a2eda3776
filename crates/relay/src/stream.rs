//! One stream's task: a connection, a pause, a connection … until the stream stops; then what is left, and the end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use earpiece_core::contact::event::AppEvent;
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::House;
use crate::backoff::Backoff;
use crate::connect::{ConnectError, Socket, connect};
use crate::session::{Ended, Session};
use crate::tap::Shared;

/// A connection that lived this long was a good one: the pauses begin again at the base.
const STABLE: Duration = Duration::from_secs(10);

/// What the assist app is told about a stream at the beginning of every connection.
#[derive(Clone)]
pub struct Start {
    /// Which contact.
    pub contact: ContactKey,
    /// Which socket of CXone's.
    pub stream: StreamId,
    /// Whose voice.
    pub perspective: Perspective,
    /// Its generation; `None` while a slow store has not answered. See [`crate::Tap::set_generation`].
    pub generation: Option<u64>,
    /// The Studio script's parameters, forwarded as they are.
    pub app_params: Value,
    /// The configuration from the Agent Assist Hub, forwarded as it is.
    pub app_config: Value,
    /// Fields of the init message that no document names, if there were any.
    pub unknown: Option<Value>,
}

impl fmt::Debug for Start {
    /// Without the parameters: they belong to the people on the call.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("contact", &self.contact)
            .field("stream", &self.stream)
            .field("perspective", &self.perspective)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Whether the app is out of reach, for the whole process: one line when it goes and one when it is back, however many
/// streams notice.
#[derive(Debug, Default)]
pub(crate) struct Outage(AtomicBool);

impl Outage {
    fn noticed(&self, error: &ConnectError) {
        if !self.0.swap(true, Ordering::Relaxed) {
            warn!(%error, "the assist app is out of reach; every stream keeps trying");
        }
    }

    fn over(&self) {
        if self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed) {
            info!("the assist app is reachable again");
        }
    }
}

/// The task of one stream.
pub(crate) struct Worker {
    pub(crate) house: Arc<House>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) start: Start,
    pub(crate) events: mpsc::Sender<AppEvent>,
    pub(crate) events_left: u32,
    pub(crate) held: Held,
    backoff: Backoff,
}

impl Worker {
    pub(crate) fn new(
        house: Arc<House>,
        shared: Arc<Shared>,
        start: Start,
        events: mpsc::Sender<AppEvent>,
        rng: fastrand::Rng,
    ) -> Self {
        let limits = &house.limits;
        Self {
            backoff: Backoff::new(limits.backoff_base_ms, limits.backoff_cap_ms, rng),
            events_left: limits.events_per_stream_max,
            held: Held { house: house.clone(), reported: 0 },
            house,
            shared,
            start,
            events,
        }
    }

    /// Serves the stream until everything is delivered, or the time to flush after its stop is over.
    pub(crate) async fn run(&mut self) {
        let shared = self.shared.clone();
        let flush = self.house.limits.flush;
        let out_of_time = async {
            shared.stopping.notified().await;
            sleep(flush).await;
        };
        let delivered = tokio::select! {
            delivered = self.serve() => delivered,
            () = out_of_time => false,
        };
        let lost = if delivered { 0 } else { self.shared.lock().ring.abandon() };
        self.house.counters.samples_lost.add(lost);
        debug!(contact = %self.start.contact, stream = %self.start.stream, delivered, lost, "voice relay ended");
    }

    /// Connects again and again until a connection says that the stream is finished. Returns whether the app closed the
    /// last connection in order, and so has everything.
    async fn serve(&mut self) -> bool {
        let mut hurried = false;
        loop {
            if let Some(socket) = self.attempt().await {
                let since = Instant::now();
                let ended = Session::new(self, socket).run().await;
                self.shared.sleep();
                match ended {
                    Ended::Finished { in_order } => return in_order,
                    Ended::Broken(why) => {
                        self.house.counters.disconnects.add(1);
                        debug!(contact = %self.start.contact, stream = %self.start.stream, ?why, "connection ended");
                    }
                }
                if since.elapsed() >= STABLE {
                    self.backoff.reset();
                }
            }
            self.report_held();
            let pause = self.backoff.pause();
            tokio::select! {
                () = sleep(pause) => {}
                // Once: the last words of a stream need not wait for a pause to end.
                () = self.shared.stopped(), if !hurried => hurried = true,
            }
        }
    }

    async fn attempt(&mut self) -> Option<Box<Socket>> {
        let house = &self.house;
        let turn = self.backoff.failures() as usize;
        // On the heap and gone afterwards: a handshake needs more room than the hours that follow it.
        let attempt = Box::pin(connect(&house.target, turn, house.limits.text_bytes_max));
        let result = timeout(house.limits.connect_timeout, attempt).await.unwrap_or(Err(ConnectError::TooLate));
        match result {
            Ok(socket) => {
                house.counters.connects.add(1);
                house.outage.over();
                Some(Box::new(socket))
            }
            Err(error) => {
                house.counters.connect_failures.add(1);
                house.outage.noticed(&error);
                debug!(contact = %self.start.contact, stream = %self.start.stream, %error, "no connection");
                None
            }
        }
    }

    /// Brings the gauge up to date.
    pub(crate) fn report_held(&mut self) {
        let held = self.shared.lock().ring.held();
        self.held.report(held);
    }
}

/// One stream's share of the gauge of held samples; taken out again when the task ends, however it ends.
pub(crate) struct Held {
    house: Arc<House>,
    reported: u64,
}

impl Held {
    fn report(&mut self, held: u64) {
        self.house.counters.ring_samples.shift(self.reported, held);
        self.reported = held;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.report(0);
    }
}
