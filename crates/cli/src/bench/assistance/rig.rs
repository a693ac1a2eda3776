//! What is measured: an embedded DynamoDB on a temporary folder, CXone's platform, and a task with its uplinks between
//! them, all in this process.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::assist::InteractionId;
use earpiece_core::config::{EmptyEnv, Env, Overlay, ProcessEnv, Reader};
use earpiece_core::contact::ContactKey;
use earpiece_https::{Client, Trust};
use earpiece_shim::{service, settings};
use earpiece_simulator::platform::{AnswerPolicy, Platform, PlatformSettings, Uplink};
use earpiece_store::{Embedded, Store};
use earpiece_uplink::{Config, Ear};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::arrivals::Arrivals;
use crate::bench::metrics::Metrics;
use crate::bench::temporary::TemporaryFolder;
use crate::platform::Environment;
use crate::serve::{from_embedded, from_store};
use crate::trouble::{Trouble, chain};

/// How long the sockets may take to be open.
const START: Duration = Duration::from_secs(30);

/// Budgets that nothing here reaches: what is measured is the way, and not the limit that an operator set on it.
const RATES: [&str; 2] = ["EARPIECE_CXONE_SEARCH_RATE", "EARPIECE_CXONE_INSIGHT_RATE"];
const UNLIMITED_PER_SECOND: &str = "100000";

/// Of the agents, every second accepts a suggestion at once, and every third of all dismisses it unless it was accepted.
/// The others leave theirs where it is.
const ACCEPT_EVERY: u32 = 2;
const DISMISS_EVERY: u32 = 3;

/// Contact ids that belong to one phase.
const IDS_PER_PHASE: u64 = 1_000_000_000;

/// A part of the measurement. Each has interactions of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Memory.
    Memory = 1,
    /// Suggestions at a rate, with questions beside them.
    Calm,
    /// The same in the storm.
    Storm,
    /// Suggestions of another process.
    Elsewhere,
    /// Suggestions as fast as they go.
    Saturated,
    /// Transcripts as fast as they go.
    Insights,
}

impl Phase {
    /// An interaction of this phase that others than `kind` have no part in.
    pub(crate) fn interaction(self, kind: Of, number: u64) -> InteractionId {
        let contact_id = (self as u64 * 2 + kind as u64) * IDS_PER_PHASE + number;
        InteractionId::from(&ContactKey { bus_no: 1, contact_id })
    }
}

/// What an interaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Suggestions.
    Suggestions = 0,
    /// What is said.
    Talk,
}

/// What everybody who puts load on works with.
pub(crate) struct Scene {
    /// CXone.
    pub(crate) platform: Platform,
    /// The task's own store: what is submitted here is told to it at once.
    pub(crate) near: Store,
    /// The store of another process: what is submitted here has to be found.
    pub(crate) far: Store,
    /// Who waits for what to arrive.
    pub(crate) arrivals: Arrivals,
    /// The uplinks' own counters.
    metrics: earpiece_uplink::Metrics,
    /// How long interactions are kept.
    pub(crate) keep_ms: u64,
}

impl Scene {
    /// One of the uplinks' counters, by its name with labels.
    pub(crate) fn counted(&self, series: &str) -> u64 {
        Metrics::parse(&self.metrics.text()).get(series)
    }
}

/// All of it. Dropping it ends everything and takes the folder away.
pub(crate) struct Rig {
    pub(crate) scene: Arc<Scene>,
    task: Task,
    watching: JoinHandle<()>,
    config: Config,
    env: Given,
    embedded: Embedded,
    // Behind the store, so that nobody writes into it any more when it goes.
    _folder: TemporaryFolder,
}

impl Rig {
    /// Starts all of it, and waits until the sockets are open.
    ///
    /// # Errors
    ///
    /// When something cannot be started.
    pub(crate) async fn start() -> Result<Self, Trouble> {
        let level = ProcessEnv.get(settings::LOG.name).unwrap_or_else(|| "error".into());
        service::log_to_stderr(&Overlay::over(EmptyEnv).with(&settings::LOG, level));
        let folder = TemporaryFolder::make()?;
        let embedded = Embedded::file(&folder.path().join("state.db")).map_err(|error| from_embedded(&error))?;
        let table = settings::TABLE.default;
        let near = embedded.store(table).await.map_err(|error| from_store(&error))?;
        let far = Store::connect_local(&embedded.endpoint(), table);
        let platform_settings = PlatformSettings {
            policy: AnswerPolicy::every(ACCEPT_EVERY, DISMISS_EVERY),
            ..PlatformSettings::default()
        };
        let platform = Platform::bind("127.0.0.1:0", platform_settings)
            .await
            .map_err(|error| Trouble::failed(format!("no port could be had on 127.0.0.1: {error}")))?;
        let env = Given(Environment::towards(&platform));
        let mut reader = Reader::new(&env);
        let config = Config::read(&mut reader);
        reader.finish().map_err(|faults| Trouble::configuration(faults.lines().to_vec()))?;
        let (task, metrics) = Task::start(&config, &env, near.clone()).await?;
        let keep_ms = config.uplink.keep_ms();
        let scene = Arc::new(Scene { platform, near, far, arrivals: Arrivals::default(), metrics, keep_ms });
        for uplink in [Uplink::Suggestions, Uplink::Insights] {
            if !scene.platform.wait_for_socket(uplink, START).await {
                let waited_s = START.as_secs();
                return Err(Trouble::failed(format!("the {} socket was not open after {waited_s} s", uplink.label()))
                    .next("EARPIECE_LOG=info earpiece bench assistance"));
            }
        }
        let watched = Arc::clone(&scene);
        let watching = tokio::spawn(async move { watched.arrivals.watch(&watched.platform).await });
        Ok(Self { scene, task, watching, config, env, embedded, _folder: folder })
    }

    /// Another task, which holds no socket and only listens.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) async fn listener(&self) -> Result<(Task, earpiece_uplink::Metrics), Trouble> {
        let mut config = self.config.clone();
        config.uplink.uplinks.clear();
        Task::start(&config, &self.env, self.scene.far.clone()).await
    }

    /// Ends everything, in the order of the way back.
    pub(crate) async fn stop(self) {
        self.task.stop().await;
        self.watching.abort();
        self.embedded.stop().await;
    }
}

/// A task with its uplinks.
pub(crate) struct Task {
    /// Where it hears what is said in its own streams.
    pub(crate) ear: Ear,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Task {
    async fn start(config: &Config, env: &Given, store: Store) -> Result<(Self, earpiece_uplink::Metrics), Trouble> {
        let trust = Trust::public();
        let https = Client::new(&trust).map_err(|error| Trouble::failed(chain(&error)))?;
        let opening = config.open("bench".to_owned(), store, https, &trust, env);
        let parts = opening.await.map_err(|error| Trouble::failed(chain(&error)))?;
        let metrics = parts.metrics.clone();
        let (ear, hearing) = earpiece_uplink::channel();
        let (stop, stopping) = oneshot::channel::<()>();
        let running = tokio::spawn(earpiece_uplink::run(parts, hearing, async {
            // Told or dropped: both mean the end.
            let _ = stopping.await;
        }));
        Ok((Self { ear, stop, running }, metrics))
    }

    /// Ends it, and waits for what it has begun.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        // A panic in it was logged, and left something undelivered.
        let _ = self.running.await;
    }
}

/// The environment of the task: the same everywhere, whatever this process was started with.
struct Given(Environment);

impl Env for Given {
    fn get(&self, name: &str) -> Option<String> {
        if RATES.contains(&name) { Some(UNLIMITED_PER_SECOND.to_owned()) } else { self.0.get(name) }
    }
}
