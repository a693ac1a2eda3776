//! The audio plane: CXone's media sockets in, recordings and the assist app's voice sockets out.
//!
//! | module | holds |
//! | --- | --- |
//! | `http` | the listener: `/audio`, `/ingest`, `/healthz`, `/readyz`, `/metrics`, and what others serve beside them |
//! | `tls` | a connection with TLS or without |
//! | [`socket`] | the WebSocket layer: upgrade, limits, last words |
//! | `session` | one handshake: language, token, claim, answer |
//! | `tokens` | who may stream |
//! | `claim` | the store's part of a handshake, in the background when it must be |
//! | `live` | one live stream: frames in, sinks fed, the end settled |
//! | `contacts` | which streams are current on this task, whom to fence, who watches |
//! | `ingest` | audio that came through API Gateway, in pieces |
//! | `publish` | contact events for pages that listen |
//! | [`assistance`] | what the assist app says that is meant for the agent |
//! | `finish` | contacts that are over: recording and ledger |
//! | `admission`, [`limits`] | who gets in, and every limit |
//! | [`settings`] | configuration into values that can be used |
//! | [`protection`] | scale-in protection on ECS |
//! | `emf` | what is measured, for `CloudWatch` |
//! | `metrics`, `wire`, `clock`, `pulse` | what is measured, how faults are said, what time it is, who pings too often |
//!
//! What does not live here: what CXone's messages mean and where samples belong (`core`), the table (`store`), how
//! segments are written (`recorder`) and how the assist app is spoken to (`relay`).

mod admission;
pub mod assistance;
mod claim;
mod clock;
mod contacts;
mod emf;
mod finish;
mod http;
mod ingest;
pub mod limits;
mod live;
mod metrics;
pub mod protection;
mod publish;
mod pulse;
pub mod service;
mod session;
pub mod settings;
pub mod socket;
mod tls;
mod tokens;
mod wire;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::{Request, Response};
use bytes::Bytes;
use earpiece_core::access::{Penalties, PenaltyRules, Verifier, Who};
use earpiece_core::contact::event::{AppEvent, ContactEvent};
use earpiece_core::contact::{ContactKey, timeline};
use earpiece_https::server::Tls;
use earpiece_push::Push;
use earpiece_recorder::Recorder;
use earpiece_relay::VoiceRelay;
use earpiece_store::Store;
use futures_util::future::BoxFuture;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

pub use limits::Limits;
pub use settings::{Settings, TokenPolicy, TokenSource};

use admission::Admission;
use assistance::{Assistance, Rulebook};
use contacts::Contacts;
use emf::Reporter;
use ingest::Ingest;
use metrics::Metrics;
use protection::EcsAgent;

/// What a drain keeps of its deadline for ending the process.
const DRAIN_MARGIN_MAX: Duration = Duration::from_secs(3);

/// The same where the way back to the agent has to be handed over, too.
const WAY_BACK_MARGIN_MAX: Duration = Duration::from_secs(8);

/// How long the last metrics may take to be written.
const LAST_LINE_MAX: Duration = Duration::from_millis(500);

/// Answers every request whose path the shim itself does not know, upgrades among them, from the given peer.
pub type Doors = Arc<
    dyn Fn(Request<Incoming>, SocketAddr) -> BoxFuture<'static, Response<BoxBody<Bytes, Infallible>>> + Send + Sync,
>;

/// What a task is made of. Everything is built before the listener is served.
pub struct Parts {
    /// Name of this task, for the store and the logs: unique among all tasks.
    pub name: String,
    /// Every limit.
    pub limits: Limits,
    /// When audio breaks, and how well runs are anchored.
    pub timeline: timeline::Settings,
    /// Who may stream.
    pub tokens: TokenPolicy,
    /// The shared state.
    pub store: Store,
    /// Where recordings go.
    pub recorder: Recorder,
    /// The assist app, if there is one.
    pub relay: Option<VoiceRelay>,
    /// Who watches what happens to contacts. Nothing waits for a slow watcher.
    pub watchers: broadcast::Sender<ContactEvent>,
    /// TLS of the listener, for all that is served on it; without it, plain TCP.
    pub tls: Option<Tls>,
    /// What else is served on the listener. A drain waits for the requests that were begun.
    pub doors: Option<Doors>,
    /// What is measured beside the shim, as Prometheus text: `/metrics` shows it, too.
    pub extra_metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// Who may hand audio over at `/ingest`; `None` where nobody may.
    pub ingest: Option<Verifier>,
    /// The API Gateway stage whose connections hear contact events.
    pub connections_url: Option<String>,
    /// Whether metrics go to standard output every minute, for `CloudWatch`.
    pub emf: bool,
    /// Who is asked not to scale this task in while it has streams.
    pub ecs_agent: Option<EcsAgent>,
    /// The way back to the agent, if there is one, and the rules for what may take it.
    pub uplink: Option<(earpiece_uplink::Parts, Rulebook)>,
}

/// What went wrong so that the shim could not be served at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The metrics could not be declared.
    #[error("the metrics cannot be declared: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// One running shim: everything its sockets share.
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) timeline: timeline::Settings,
    pub(crate) tokens: TokenPolicy,
    pub(crate) store: Store,
    pub(crate) recorder: Recorder,
    pub(crate) relay: Option<VoiceRelay>,
    pub(crate) contacts: Contacts,
    pub(crate) metrics: Metrics,
    pub(crate) admission: Arc<Admission>,
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) tls: Option<Tls>,
    pub(crate) doors: Option<Doors>,
    pub(crate) extra_metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    pub(crate) ingest: Option<Ingest>,
    pub(crate) assistance: Option<Assistance>,
    penalties: Mutex<Penalties>,
    held_back: Semaphore,
    started: Instant,
    busy: watch::Sender<usize>,
}

impl Task {
    /// Counts a piece of work that the drain waits for.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.send_modify(|count| *count += 1);
        Busy(self.clone())
    }

    /// Waits as long as failures of this kind have to wait. Above the limit of waiting sockets everyone waits for the
    /// least time: a verdict never comes at once.
    pub(crate) async fn penalize(&self, who: Who) {
        let place = self.held_back.try_acquire();
        let longest = if place.is_ok() { PenaltyRules::default().max } else { PenaltyRules::default().min };
        let failed = self.penalties.lock().unwrap_or_else(PoisonError::into_inner).failed(who, self.started.elapsed());
        let delay = failed.min(longest);
        let mut draining = self.draining.subscribe();
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = draining.wait_for(|draining| *draining) => {}
        }
    }

    /// Takes what the assist app says that is meant for the agent.
    pub(crate) fn hear(&self, contact: ContactKey, event: &AppEvent) {
        if let Some(assistance) = &self.assistance {
            assistance.hear(contact, event);
        }
    }

    /// Whether a presented token may come from this place.
    pub(crate) fn takes_tokens_from(&self, source: TokenSource) -> bool {
        self.tokens.sources.contains(&source)
    }
}

/// Work that the drain waits for; it is done when this is dropped.
pub(crate) struct Busy(Arc<Task>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|count| *count -= 1);
    }
}

impl Task {
    fn new(parts: Parts, assistance: Option<Assistance>) -> Result<Arc<Self>, RunError> {
        Ok(Arc::new(Self {
            contacts: Contacts::new(limits::as_us(parts.limits.quiet), parts.watchers),
            metrics: Metrics::new()?,
            admission: Admission::new(&parts.limits),
            draining: watch::Sender::new(false),
            penalties: Mutex::new(Penalties::new(PenaltyRules::default())),
            held_back: Semaphore::new(parts.limits.penalties_max),
            started: Instant::now(),
            busy: watch::Sender::new(0),
            name: parts.name,
            limits: parts.limits,
            timeline: parts.timeline,
            tokens: parts.tokens,
            store: parts.store,
            recorder: parts.recorder,
            relay: parts.relay,
            tls: parts.tls,
            doors: parts.doors,
            extra_metrics: parts.extra_metrics,
            ingest: parts.ingest.map(Ingest::new),
            assistance,
        }))
    }
}

/// Serves the shim until `shutdown` resolves, and then until everything is settled or the drain's deadline has passed.
///
/// The drain has named phases: no new streams; live sockets are told to go elsewhere (1012) at the stated rate; sinks
/// are flushed and the store hears of every end; whatever is left shortly before [`Limits::drain_deadline`] is cut off.
///
/// # Errors
///
/// [`RunError`] before anything is served.
pub async fn run(listener: TcpListener, shutdown: impl Future<Output = ()>, mut parts: Parts) -> Result<(), RunError> {
    let Beside { connections_url, emf, ecs_agent } = Beside::of(&parts);
    let events = connections_url.is_some().then(|| parts.watchers.subscribe());
    let uplink = parts.uplink.take();
    let way_back = uplink.map(|(uplink, book)| WayBack::open(&mut parts, uplink, &book));
    let (assistance, way_back) = way_back.unzip();
    let task = Task::new(parts, assistance)?;
    let mut beside = JoinSet::new();
    beside.spawn(finish::sweep(task.clone()));
    beside.spawn(finish::adopt(task.clone()));
    beside.spawn(http::serve(task.clone(), listener));
    if let Some(tls) = task.tls.clone() {
        beside.spawn(async { tls.keep_fresh(tls::RELOAD_PERIOD).await });
    }
    if let Some(agent) = ecs_agent {
        beside.spawn(protection::keep(task.clone(), agent));
    }
    if let Some((url, events)) = connections_url.zip(events) {
        let push = Push::connect(&url).await;
        beside.spawn(publish::publish(task.clone(), push, events));
    }
    if task.tokens.guard.needs_keys() {
        // Beside the listener: a key server that is away must not keep those from streaming who need none of its keys.
        let guard = task.tokens.guard.clone();
        beside.spawn(async move { guard.warm().await });
    }
    let (over, is_over) = oneshot::channel::<()>();
    let reporter = emf.then(|| tokio::spawn(Reporter::new(task.clone()).run(async { drop(is_over.await) })));
    shutdown.await;
    let ends_at = tokio::time::Instant::now() + task.limits.drain_deadline;
    drain(&task).await;
    if let Some(way_back) = way_back
        && tokio::time::timeout_at(ends_at, way_back.close(&task)).await.is_err()
    {
        warn!("the way back to the agent was cut off; its leases are free when they run out");
    }
    beside.abort_all();
    drop(over);
    if let Some(reporter) = reporter {
        // The last line, unless nobody reads it.
        let _ = tokio::time::timeout(LAST_LINE_MAX, reporter).await;
    }
    Ok(())
}

/// The way back to the agent, beside the streams.
struct WayBack {
    running: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    _at_work: JoinSet<()>,
}

impl WayBack {
    /// Begins to work, and shows what it measures with everything else.
    fn open(parts: &mut Parts, uplink: earpiece_uplink::Parts, book: &Rulebook) -> (Assistance, Self) {
        let metrics = uplink.metrics.clone();
        let (ear, hearing) = earpiece_uplink::channel();
        let (assistance, at_work) = Assistance::open(&parts.store, ear, metrics.clone(), book);
        let extra = parts.extra_metrics.take();
        parts.extra_metrics = Some(Arc::new(move || {
            extra.as_ref().map_or_else(|| metrics.text(), |extra| metrics::merged(&extra(), &metrics.text()))
        }));
        let (stop, stopping) = oneshot::channel::<()>();
        let running = tokio::spawn(earpiece_uplink::run(uplink, hearing, async {
            // Told or dropped: both mean the end.
            let _ = stopping.await;
        }));
        (assistance, Self { running, stop, _at_work: at_work })
    }

    /// Gives the leases back, so that another task goes on at once. After the streams have settled: until then they
    /// may have something to say. It ends by itself within a bound.
    async fn close(self, task: &Task) {
        if let Some(assistance) = &task.assistance {
            assistance.emptied().await;
        }
        let _ = self.stop.send(());
        let _ = self.running.await;
    }
}

/// What runs beside the streams, as far as a task is asked to.
struct Beside {
    connections_url: Option<String>,
    emf: bool,
    ecs_agent: Option<EcsAgent>,
}

impl Beside {
    fn of(parts: &Parts) -> Self {
        Self { connections_url: parts.connections_url.clone(), emf: parts.emf, ecs_agent: parts.ecs_agent.clone() }
    }
}

async fn drain(task: &Arc<Task>) {
    // What is cut off still needs a moment to go.
    let margin = if task.assistance.is_some() {
        (task.limits.drain_deadline / 3).min(WAY_BACK_MARGIN_MAX)
    } else {
        (task.limits.drain_deadline / 10).min(DRAIN_MARGIN_MAX)
    };
    let deadline = tokio::time::Instant::now() + task.limits.drain_deadline.saturating_sub(margin);
    let _ = task.draining.send_replace(true);
    let streams = task.contacts.streams();
    info!(phase = "tell", streams = streams.len(), "draining");
    let settled = async {
        tell(task, streams).await;
        info!(phase = "settle", busy = *task.busy.borrow(), "draining");
        let mut busy = task.busy.subscribe();
        // The sender lives in the task, so waiting cannot fail.
        let _ = busy.wait_for(|count| *count == 0).await;
        info!(phase = "flush", "draining");
        task.recorder.flushed().await;
        if let Some(relay) = &task.relay {
            relay.drained().await;
        }
    };
    if let Ok(()) = tokio::time::timeout_at(deadline, settled).await {
        info!(phase = "done", "drained");
    } else {
        warn!(phase = "cut", busy = *task.busy.borrow(), "the drain's deadline has passed; cutting off");
    }
}

/// Tells every live stream to go, at the stated rate, or faster if half of the deadline would not be enough.
async fn tell(task: &Arc<Task>, streams: Vec<earpiece_core::contact::StreamId>) {
    let at_rate = Duration::from_secs(1) / task.limits.drain_per_second.max(1);
    let in_time = task.limits.drain_deadline / 2 / u32::try_from(streams.len()).unwrap_or(u32::MAX).max(1);
    let pause = at_rate.min(in_time);
    let mut next = tokio::time::Instant::now();
    for stream in streams {
        tokio::time::sleep_until(next).await;
        next += pause;
        task.contacts.end(stream, earpiece_core::contact::facts::CloseReason::Drained);
    }
}
