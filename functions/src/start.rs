//! A function's start: log, settings, clients, then the runtime's loop. Only the cold start pays for any of it.
//!
//! Everything runs on one thread: a function handles one event at a time. How long each phase took is told once, at
//! debug level.

use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use earpiece_access::{FetchError, Guard, KeyFetch};
use earpiece_core::access::Verifier;
use earpiece_core::config::{Env, ProcessEnv, Reader};
use earpiece_https::Trust;
use earpiece_https::client::Client;
use earpiece_push::Push;
use earpiece_recorder::Recorder;
use earpiece_store::Store;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::answer::{Answer, Request};
use crate::clock::wall_ms;
use crate::counters::Counters;
use crate::settings::{self, Settings};

/// The exit code for a configuration that cannot be used.
const MISCONFIGURED: u8 = 2;

/// What Lambda tells every function, and without which the runtime would panic.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

/// Why a function cannot start. It names settings and holds none of their values.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct StartError(Vec<String>);

impl StartError {
    /// One reason.
    pub fn new(reason: impl Display) -> Self {
        Self(vec![reason.to_string()])
    }

    /// One line per reason.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

/// What a function is made of, each part made when it is asked for: a function that needs no TLS loads none.
pub struct Setup {
    /// The configuration.
    pub settings: Settings,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// A name that no other process has.
    pub task: Arc<str>,
    client: std::sync::OnceLock<Client>,
    store: tokio::sync::OnceCell<Store>,
}

impl Setup {
    fn read(name: &'static str) -> Result<Self, StartError> {
        let settings = Settings::read(&ProcessEnv).map_err(|faults| StartError(faults.lines().to_vec()))?;
        Ok(Self {
            settings,
            counters: Arc::new(Counters::new(name)),
            task: format!("{name}-{:016x}", fastrand::u64(..)).into(),
            client: std::sync::OnceLock::new(),
            store: tokio::sync::OnceCell::new(),
        })
    }

    /// The table.
    pub async fn store(&self) -> Store {
        self.store.get_or_init(async || Store::connect(&self.settings.table, None).await).await.clone()
    }

    /// The HTTPS client.
    ///
    /// # Errors
    /// When the certificates to trust cannot be read.
    pub fn client(&self) -> Result<Client, StartError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let trust = Trust::read(&ProcessEnv).map_err(StartError::new)?;
        let client = Client::new(&trust).map_err(StartError::new)?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// The way to API Gateway connections, if there is one.
    pub async fn push(&self) -> Option<Push> {
        match &self.settings.connections_url {
            Some(url) => Some(Push::connect(url).await),
            None => None,
        }
    }

    /// The recordings, if there is a place for them.
    ///
    /// # Errors
    /// When the place cannot be used.
    pub fn recorder(&self) -> Result<Option<Recorder>, StartError> {
        let Some(location) = &self.settings.recordings else {
            return Ok(None);
        };
        Recorder::open(location, earpiece_recorder::Settings::default()).map(Some).map_err(StartError::new)
    }

    /// Judges tokens: these static ones, and JWTs where they are configured.
    ///
    /// # Errors
    /// Every fault of the settings of JWTs.
    pub async fn guard(&self, tokens: &Verifier) -> Result<Guard, StartError> {
        if tokens.is_open() {
            info!("every caller is accepted: no token is asked for");
            return Ok(Guard::open());
        }
        let jwks = ProcessEnv.get(earpiece_access::settings::JWKS.name).unwrap_or_default();
        let client = if jwks.trim().starts_with("http") { Some(self.client()?) } else { None };
        let table = if jwks.trim() == "table" { Some(keys_in(self.store().await)) } else { None };
        let mut reader = Reader::new(&ProcessEnv);
        let jwt = earpiece_access::settings::jwt(&mut reader, client.as_ref(), table);
        reader.finish().map_err(|faults| StartError(faults.lines().to_vec()))?;
        Ok(Guard::new(tokens.clone(), jwt))
    }
}

/// Fetches our own public keys from the table.
#[must_use]
pub fn keys_in(store: Store) -> KeyFetch {
    Arc::new(move || {
        let store = store.clone();
        Box::pin(async move {
            let keys = crate::token::published_keys(&store).await;
            keys.map_err(|error| FetchError::new(error.to_string()))
        })
    })
}

/// Runs a function that answers HTTP requests until Lambda ends it.
pub fn http<H, F>(
    name: &'static str,
    open: impl AsyncFnOnce(&Setup) -> Result<H, StartError>,
    answer: impl Fn(Arc<H>, Request) -> F,
) -> ExitCode
where
    F: Future<Output = Answer> + Send,
{
    run(name, open, async |handler, counters| {
        let service = lambda_http::service_fn(|request: Request| {
            // Boxed: the compiler gives up on a future that holds everything that a handler waits for.
            let (answered, counters) = (Box::pin(answer(Arc::clone(&handler), request)), Arc::clone(&counters));
            async move {
                let answer = answered.await;
                tell(&counters);
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        lambda_http::run(service).await
    })
}

/// Runs a function that takes events until Lambda ends it.
pub fn event<H, E, A, F>(
    name: &'static str,
    open: impl AsyncFnOnce(&Setup) -> Result<H, StartError>,
    handle: impl Fn(Arc<H>, E) -> F,
) -> ExitCode
where
    E: DeserializeOwned,
    A: Serialize,
    F: Future<Output = Result<A, lambda_runtime::Error>>,
{
    run(name, open, async |handler, counters| {
        let service = service_fn(|event: LambdaEvent<E>| {
            let (handled, counters) = (Box::pin(handle(Arc::clone(&handler), event.payload)), Arc::clone(&counters));
            async move {
                let answer = handled.await;
                tell(&counters);
                answer
            }
        });
        lambda_runtime::run(service).await
    })
}

/// What was counted in this invocation goes out with it: Lambda may freeze the process until the next.
fn tell(counters: &Counters) {
    if let Some(lines) = counters.emf(wall_ms()) {
        println!("{lines}");
    }
}

fn run<H>(
    name: &'static str,
    open: impl AsyncFnOnce(&Setup) -> Result<H, StartError>,
    serve: impl AsyncFnOnce(Arc<H>, Arc<Counters>) -> Result<(), lambda_runtime::Error>,
) -> ExitCode {
    let mut phases = Phases::begin();
    log(&ProcessEnv);
    phases.mark("log");
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    phases.mark("runtime");
    if ProcessEnv.get(RUNTIME_API).is_none() {
        error!("{RUNTIME_API} is not set: this program is started by AWS Lambda or by `cargo lambda watch`");
        return ExitCode::from(MISCONFIGURED);
    }
    runtime.block_on(async {
        let opened = async {
            let setup = Setup::read(name)?;
            phases.mark("settings");
            let handler = open(&setup).await?;
            phases.mark("clients");
            Ok::<_, StartError>((Arc::new(handler), setup.counters))
        };
        let (handler, counters) = match opened.await {
            Ok(opened) => opened,
            Err(refused) => {
                for line in refused.lines() {
                    error!("{line}");
                }
                return ExitCode::from(MISCONFIGURED);
            }
        };
        phases.tell(name);
        match serve(handler, counters).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error!(%error, "the runtime ended");
                ExitCode::FAILURE
            }
        }
    })
}

/// Logs to stdout, where Lambda takes it from.
fn log(env: &impl Env) {
    let level = env.get(settings::LOG.name).and_then(|level| level.trim().parse().ok()).unwrap_or(LevelFilter::INFO);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stdout).with_ansi(false);
    // A second call leaves what is there.
    let _ = tracing_subscriber::registry().with(targets(level)).with(lines).try_init();
}

/// Who is heard at which level. Below warnings only our own crates are: what the others would tell at `trace` includes
/// requests.
pub(crate) fn targets(level: LevelFilter) -> Targets {
    // A prefix: it takes in every crate whose name begins so.
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("earpiece", level)
}

/// How long each phase of the start took.
struct Phases {
    began: Instant,
    last: Instant,
    marks: Vec<(&'static str, Duration)>,
}

impl Phases {
    fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, marks: Vec::with_capacity(4) }
    }

    fn mark(&mut self, phase: &'static str) {
        let now = Instant::now();
        self.marks.push((phase, now - self.last));
        self.last = now;
    }

    fn tell(&self, name: &str) {
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        for (phase, took) in &self.marks {
            debug!(function = name, phase, took_us = us(*took), "cold start");
        }
        debug!(function = name, version = env!("CARGO_PKG_VERSION"), total_us = us(self.began.elapsed()), "ready");
    }
}
