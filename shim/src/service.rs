//! Wiring for programs that serve the shim: logs, parts from settings, signals.

use std::process;
use std::time::Duration;

use earpiece_core::config::{Env, ProcessEnv};
use earpiece_core::contact::event::ContactEvent;
use earpiece_core::contact::timeline;
use earpiece_https::{Client, Trust, TrustError};
use earpiece_recorder::Recorder;
use earpiece_relay::{SettingsError, VoiceRelay};
use earpiece_store::Store;
use earpiece_uplink::OpenError;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;
use tracing::level_filters::LevelFilter;
use tracing::{info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::assistance::Rulebook;
use crate::{Parts, RunError, Settings, settings};

/// Events that a watcher may be behind.
const WATCHED_EVENTS_MAX: usize = 4096;

/// How long the process may take to go when everything is settled or cut off.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// Why the shim could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The recordings' place cannot be used.
    #[error("EARPIECE_RECORDINGS cannot be used: {0}")]
    Recordings(#[from] earpiece_recorder::OpenError),
    /// The assist app's settings cannot be used.
    #[error("EARPIECE_ASSIST_URL cannot be used: {0}")]
    Assist(#[from] SettingsError),
    /// No runtime, no signals, or the address is taken.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificates that others are judged by.
    #[error("EARPIECE_CA_FILE cannot be used: {0}")]
    Trust(#[from] TrustError),
    /// What is configured for the way back to the agent.
    #[error(transparent)]
    Uplink(#[from] OpenError),
    /// The shim itself.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Sends logs to standard error at the level of `EARPIECE_LOG`. Only Earpiece's own crates speak below `warn`: they
/// are the ones that are known to log no token and no word.
pub fn log_to_stderr(env: &impl Env) {
    let level = env.get(settings::LOG.name).and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let ours = [
        "earpiece",
        "earpiece_shim",
        "earpiece_store",
        "earpiece_recorder",
        "earpiece_relay",
        "earpiece_access",
        "earpiece_https",
        "earpiece_push",
        "earpiece_functions",
        "earpiece_gateway",
        "earpiece_uplink",
        "earpiece_cxone",
        "earpiece_knowledge",
    ];
    let others = level.min(LevelFilter::WARN);
    let targets = Targets::new()
        .with_default(others)
        .with_targets(ours.map(|target| (target, level)))
        // The embedded DynamoDB warns of every failed condition, which is how races are decided here.
        .with_target("dynoxide", LevelFilter::ERROR);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    // A second call (tests, a program that set its own logs up) leaves what is there.
    let _ = tracing_subscriber::registry().with(targets).with(lines).try_init();
}

/// The parts of a task from its settings, without doors or metrics of others.
///
/// # Errors
///
/// When the recordings' place or the assist app's settings cannot be used.
pub fn parts(settings: &Settings, store: Store) -> Result<Parts, ServiceError> {
    let recorder = Recorder::open(&settings.recordings, settings.recorder)?;
    let relay = settings.voice.as_ref().map(VoiceRelay::new).transpose()?;
    settings.keys.read_from(&store);
    let (watchers, _) = broadcast::channel::<ContactEvent>(WATCHED_EVENTS_MAX);
    Ok(Parts {
        name: task_name(),
        limits: settings.limits.clone(),
        timeline: timeline::Settings::default(),
        tokens: settings.tokens.clone(),
        store,
        recorder,
        relay,
        watchers,
        tls: settings.tls.clone(),
        doors: None,
        extra_metrics: None,
        ingest: settings.ingest.clone(),
        connections_url: settings.connections_url.clone(),
        emf: settings.emf,
        ecs_agent: settings.ecs_agent.clone(),
        uplink: None,
    })
}

/// Adds the way back to the agent to the parts, where CXone's credentials are configured.
///
/// # Errors
///
/// When something that was configured for it cannot be used.
pub async fn add_uplink(parts: &mut Parts, settings: &Settings, env: &impl Env) -> Result<(), ServiceError> {
    let Some(cxone) = &settings.uplink.cxone else { return Ok(()) };
    let trust = Trust::read(env)?;
    let client = Client::new(&trust)?;
    let uplink = settings.uplink.open(parts.name.clone(), parts.store.clone(), client, &trust, env).await?;
    let book = Rulebook { rules: uplink.settings.rules, keep: uplink.settings.audit_keep, bus_no: cxone.bus_no() };
    parts.uplink = Some((uplink, book));
    Ok(())
}

/// A name for this task that no other has: the host, the process, and a random part for hosts that all look alike.
fn task_name() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "task".to_owned());
    format!("{host}-{}-{:08x}", process::id(), fastrand::u32(..))
}

/// Resolves on SIGTERM or SIGINT.
///
/// # Errors
///
/// When the system does not let us listen for signals.
pub fn shutdown_signal() -> Result<impl Future<Output = ()> + use<>, ServiceError> {
    let listen =
        |kind| signal(kind).map_err(|source| ServiceError::System { what: "cannot listen for signals", source });
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!(signal = "SIGTERM", "shutting down"),
            _ = interrupt.recv() => info!(signal = "SIGINT", "shutting down"),
        }
    })
}

/// Serves the shim on the table of the environment until a signal comes.
///
/// # Errors
///
/// [`ServiceError`] when something it needs cannot be had.
pub fn block_on(settings: Settings) -> Result<(), ServiceError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| ServiceError::System { what: "cannot start a runtime", source })?;
    let served = runtime.block_on(async move {
        let shutdown = shutdown_signal()?;
        let store = Store::connect(&settings.table, None).await;
        let mut parts = parts(&settings, store)?;
        add_uplink(&mut parts, &settings, &ProcessEnv).await?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|source| ServiceError::System { what: "cannot listen on EARPIECE_LISTEN", source })?;
        let address = listener
            .local_addr()
            .map_err(|source| ServiceError::System { what: "the listener has no address", source })?;
        info!(%address, task = parts.name, "listening");
        if parts.tokens.guard.is_open() {
            warn!("neither EARPIECE_AUDIO_TOKENS nor keys for JWTs are set: every caller is accepted");
        }
        crate::run(listener, shutdown, parts).await?;
        Ok(())
    });
    // A disk that hangs must not keep the process: what has to be settled was settled by the drain.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    served
}
