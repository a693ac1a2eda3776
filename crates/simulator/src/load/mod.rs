//! Many live streams at once, cheaply: what a benchmark calls with.
//!
//! A few pacers own all sockets. A pacer wakes once a millisecond and writes the frames of the streams whose turn it
//! is, straight to the sockets: masked frames are built once and shared, nothing is allocated, no stream has a task or
//! a timer. Opening streams costs what it must and is done beside.
//!
//! Streams close at the pace at which they opened, so each lives equally long and all of them for the stated time.

mod opening;
mod pacer;
mod report;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use earpiece_core::contact::{ContactKey, SAMPLES_PER_MS};
use earpiece_core::secret::Secret;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep_until};

use crate::clip::tone;
use crate::dial::Endpoint;
use crate::plan::{FRAME_SAMPLES, PlanError};
use crate::stop::told_to_stop;
use opening::{Opened, Opener};
use pacer::{Clip, Pacer, PacerReport};
pub use report::{Latency, LoadProgress, LoadReport};

/// Most streams of one load.
pub const STREAMS_MAX: u32 = 200_000;

/// Handshakes under way at one time; above it opening waits, and the report's time to open shows it.
pub const OPENING_MAX: usize = 1024;

/// Streams from one loopback address, well below the kernel's range of ephemeral ports.
const STREAMS_PER_SOURCE: u32 = 10_000;

/// What to call with.
#[derive(Clone)]
pub struct LoadPlan {
    /// The audio endpoint, `ws://` only. Never printed.
    pub url: String,
    /// The token, for the init message.
    pub token: Option<Secret>,
    /// Live streams; two of them, TX and RX, make a contact.
    pub streams: u32,
    /// Streams opened in a second, and closed in a second at the end.
    pub opens_per_second: u32,
    /// For how long all of them live.
    pub plateau: Duration,
    /// Samples in each frame: a multiple of 8, so that frames last whole milliseconds.
    pub frame_samples: u32,
    /// The first contact; those that follow count up.
    pub first_contact: ContactKey,
    /// What every stream says, again and again. Less than a frame: a tone.
    pub audio: Bytes,
    /// Tasks that share the writing.
    pub pacers: usize,
    /// Bound on connecting and being answered.
    pub connect_timeout: Duration,
}

impl LoadPlan {
    /// 100 streams of 20 ms frames for ten seconds, opened in one.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            streams: 100,
            opens_per_second: 100,
            plateau: Duration::from_secs(10),
            frame_samples: FRAME_SAMPLES,
            first_contact: ContactKey { bus_no: 1, contact_id: 1_000_000 },
            audio: tone(440, 500),
            pacers: 2,
            connect_timeout: Duration::from_secs(10),
        }
    }

    fn check(&self) -> Result<(), PlanError> {
        let whole_ms = u64::from(self.frame_samples).is_multiple_of(SAMPLES_PER_MS);
        if !(1..=65_536).contains(&self.frame_samples) || !whole_ms {
            return Err(PlanError::FrameSize);
        }
        if self.streams == 0 || self.streams > STREAMS_MAX || self.opens_per_second == 0 || self.pacers == 0 {
            return Err(PlanError::Streams);
        }
        Ok(())
    }

    /// How long after the first stream the n-th one opens, and after the end of the plateau it closes.
    fn offset(&self, index: u32) -> Duration {
        Duration::from_secs(1).mul_f64(f64::from(index) / f64::from(self.opens_per_second))
    }
}

/// A URL may hold a token in its query.
impl std::fmt::Debug for LoadPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadPlan")
            .field("streams", &self.streams)
            .field("opens_per_second", &self.opens_per_second)
            .field("plateau", &self.plateau)
            .field("frame_samples", &self.frame_samples)
            .finish_non_exhaustive()
    }
}

/// A load about to be put on, with whoever watches it and may stop it.
#[derive(Debug)]
pub struct Load {
    plan: LoadPlan,
    progress: Option<mpsc::Sender<LoadProgress>>,
    stop: watch::Receiver<bool>,
}

/// Counts that pacers add to once a tick and the watcher reads once a second.
#[derive(Debug, Default)]
struct Tally {
    opened: AtomicU64,
    refused: AtomicU64,
    live: AtomicU64,
    lost: AtomicU64,
    frames: AtomicU64,
}

impl Load {
    /// A load that nobody watches.
    #[must_use]
    pub fn new(plan: LoadPlan) -> Self {
        // The sender is gone, so nobody can stop it until `stop_when` says who.
        let (_, stop) = watch::channel(false);
        Self { plan, progress: None, stop }
    }

    /// Tells how it goes, once a second. What does not fit into the channel is not told.
    #[must_use]
    pub fn watched_by(mut self, progress: mpsc::Sender<LoadProgress>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Closes all streams, at their pace, as soon as the value is true.
    #[must_use]
    pub fn stop_when(mut self, stop: watch::Receiver<bool>) -> Self {
        self.stop = stop;
        self
    }

    /// Opens the streams, keeps them for the plateau, closes them.
    ///
    /// # Errors
    ///
    /// When the plan cannot be carried out, before anything is dialled. What happens to streams is in the report.
    pub async fn run(mut self) -> Result<LoadReport, PlanError> {
        self.plan.check()?;
        let endpoint = Endpoint::new(&self.plan.url)?;
        if endpoint.is_tls() {
            return Err(PlanError::Tls);
        }
        let Some(address) = endpoint.resolve().await.ok().and_then(|addresses| addresses.into_iter().next()) else {
            return Err(PlanError::Url);
        };
        let begun = Instant::now();
        let tally = Arc::new(Tally::default());
        let closing = watch::Sender::new(None);
        let pacers = self.start_pacers(&tally, &closing);
        let telling = self.progress.take().map(|watcher| tokio::spawn(tell(watcher, begun, Arc::clone(&tally))));

        let opener = Arc::new(Opener { endpoint, address, plan: self.plan.clone(), tally: Arc::clone(&tally) });
        let outcomes = self.open_all(&opener, &pacers, begun).await;
        let plateau_from = Instant::now();
        if !*self.stop.borrow() {
            tokio::select! {
                () = sleep_until(plateau_from + self.plan.plateau) => {}
                () = told_to_stop(&mut self.stop) => {}
            }
        }
        let plateau = plateau_from.elapsed();
        closing.send_replace(Some(Instant::now()));
        let paced = pacers.finish().await;
        if let Some(telling) = telling {
            telling.abort();
        }
        Ok(LoadReport::conclude(&self.plan, &outcomes, paced, plateau, begun.elapsed()))
    }

    fn start_pacers(&self, tally: &Arc<Tally>, closing: &watch::Sender<Option<Instant>>) -> Pacers {
        let clip = Arc::new(Clip::build(&self.plan.audio, self.plan.frame_samples));
        let mut pacers = Pacers { inboxes: Vec::new(), tasks: JoinSet::new() };
        for _ in 0..self.plan.pacers {
            let (inbox, arrivals) = mpsc::channel(OPENING_MAX);
            let pacer =
                Pacer::new(Arc::clone(&clip), arrivals, closing.subscribe(), Arc::clone(tally), self.plan.clone());
            pacers.tasks.spawn(pacer.run());
            pacers.inboxes.push(inbox);
        }
        pacers
    }

    /// Opens streams at the stated pace and hands each to a pacer.
    async fn open_all(&mut self, opener: &Arc<Opener>, pacers: &Pacers, begun: Instant) -> Vec<Opened> {
        let under_way = Arc::new(Semaphore::new(OPENING_MAX));
        let mut handshakes = JoinSet::new();
        for (index, inbox) in (0..self.plan.streams).zip(pacers.inboxes.iter().cycle()) {
            tokio::select! {
                () = sleep_until(begun + self.plan.offset(index)) => {}
                () = told_to_stop(&mut self.stop) => break,
            }
            let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { break };
            let (opener, inbox) = (Arc::clone(opener), inbox.clone());
            handshakes.spawn(async move {
                let (outcome, stream) = opener.open(index).await;
                if let Some(stream) = stream {
                    // A pacer is gone only if it panicked, and then the report misses it.
                    let _ = inbox.send(stream).await;
                }
                drop(permit);
                outcome
            });
        }
        let mut outcomes = Vec::new();
        while let Some(done) = handshakes.join_next().await {
            outcomes.extend(done);
        }
        outcomes
    }
}

struct Pacers {
    inboxes: Vec<mpsc::Sender<pacer::Stream>>,
    tasks: JoinSet<PacerReport>,
}

impl Pacers {
    async fn finish(mut self) -> Vec<PacerReport> {
        // Without senders a pacer knows that no stream will come any more.
        self.inboxes.clear();
        let mut reports = Vec::new();
        while let Some(report) = self.tasks.join_next().await {
            reports.extend(report);
        }
        reports
    }
}

async fn tell(watcher: mpsc::Sender<LoadProgress>, begun: Instant, tally: Arc<Tally>) {
    let second = Duration::from_secs(1);
    let mut seconds = interval_at(begun + second, second);
    loop {
        seconds.tick().await;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let news = LoadProgress {
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            opened: count(&tally.opened),
            refused: count(&tally.refused),
            live: count(&tally.live),
            lost: count(&tally.lost),
            frames: count(&tally.frames),
        };
        let _ = watcher.try_send(news);
    }
}

/// The local address for a stream: loopback has many, and each has its own ports.
fn source(plan: &LoadPlan, address: SocketAddr, index: u32) -> Option<IpAddr> {
    let sources = plan.streams.div_ceil(STREAMS_PER_SOURCE);
    let is_loopback = matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback());
    if sources < 2 || !is_loopback {
        return None;
    }
    let last = u8::try_from(1 + index % sources).unwrap_or(1);
    Some(Ipv4Addr::new(127, 0, 0, last).into())
}
