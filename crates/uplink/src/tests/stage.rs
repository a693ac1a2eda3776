//! A store, a platform, and any number of tasks between them.

use std::time::Duration;

use earpiece_core::assist::interaction::Submitted;
use earpiece_core::assist::suggestion::{Priority, Rejection, Rules, Suggestion, Window};
use earpiece_core::assist::{InteractionId, Lane};
use earpiece_core::config::{EmptyEnv, Overlay, Reader};
use earpiece_core::secret::Private;
use earpiece_cxone::{Cxone, settings as cxone};
use earpiece_https::{Client, Trust};
use earpiece_simulator::platform::settings::{CLIENT_ID, CLIENT_SECRET};
use earpiece_simulator::platform::{Client as OauthClient, Kind, Platform, PlatformSettings, Uplink};
use earpiece_store::{Embedded, Store};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::clock::now_ms;
use crate::{Ear, Metrics, Parts, Settings, Which, channel, run, submit};

/// Long enough for anything on a busy machine; reached only by a failure.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest lease that is allowed: takeovers take a tenth of what they do with the default.
pub(super) const LEASE: Duration = Duration::from_secs(1);

const TABLE: &str = "uplink";

pub(super) struct Stage {
    pub(super) embedded: Embedded,
    /// Of whoever submits: another process, as far as the tasks can tell.
    pub(super) store: Store,
    pub(super) platform: Platform,
    /// What tokens are asked for, if that is not the default.
    scope: Option<&'static str>,
}

/// A task.
pub(super) struct Task {
    pub(super) metrics: Metrics,
    pub(super) store: Store,
    pub(super) _ear: Ear,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::with(PlatformSettings::default()).await
    }

    pub(super) async fn with(settings: PlatformSettings) -> Self {
        let embedded = Embedded::memory().unwrap();
        let store = embedded.store(TABLE).await.unwrap();
        let platform = Platform::bind("127.0.0.1:0", settings).await.unwrap();
        Self { embedded, store, platform, scope: None }
    }

    /// A platform whose client has these scopes only, and gets them when it asks for none.
    pub(super) async fn with_scopes(scopes: &[&str]) -> Self {
        let client = OauthClient::new(CLIENT_ID, CLIENT_SECRET).with_scopes(scopes);
        let settings = PlatformSettings { clients: vec![client], ..PlatformSettings::default() };
        Self { scope: Some("none"), ..Self::with(settings).await }
    }

    pub(super) async fn cxone(&self) -> Cxone {
        let platform = &self.platform;
        let env = Overlay::over(EmptyEnv)
            .with(&cxone::API, platform.url())
            .with(&cxone::ORG, "demo")
            .with(&cxone::SUGGESTIONS_URL, platform.socket_url(Uplink::Suggestions))
            .with(&cxone::INSIGHTS_URL, platform.socket_url(Uplink::Insights))
            .with(&cxone::INTERACTIONS_URL, platform.socket_url(Uplink::Interactions))
            .with(&cxone::CARD_RATE, "1000")
            .with(&cxone::CLIENT_ID, CLIENT_ID)
            .with(&cxone::CLIENT_SECRET, CLIENT_SECRET)
            .with_some(&cxone::SCOPE, self.scope);
        let mut reader = Reader::new(&env);
        let settings = cxone::Settings::read(&mut reader);
        reader.finish().unwrap();
        let trust = Trust::public();
        let https = Client::new(&trust).unwrap();
        Cxone::connect(&settings.unwrap(), https, &trust, &env).await.unwrap()
    }

    /// A task that takes part in one uplink.
    pub(super) async fn task(&self, name: &str, which: Which) -> Task {
        self.task_with(name, Settings { uplinks: [which].into(), ..settings() }).await
    }

    pub(super) async fn task_with(&self, name: &str, settings: Settings) -> Task {
        let store = Store::connect_local(&self.embedded.endpoint(), TABLE);
        self.task_on(name, settings, store).await
    }

    pub(super) async fn task_on(&self, name: &str, settings: Settings, store: Store) -> Task {
        let metrics = Metrics::new().unwrap();
        let parts = Parts {
            task: name.to_owned(),
            store: store.clone(),
            cxone: Some(self.cxone().await),
            knowledge: None,
            https: Client::new(&Trust::public()).unwrap(),
            settings,
            metrics: metrics.clone(),
        };
        let (ear, hearing) = channel();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let running = tokio::spawn(run(parts, hearing, shutdown));
        Task { metrics, store, _ear: ear, stop: Some(stop), running }
    }

    /// Submits a suggestion that may be sent for five minutes.
    pub(super) async fn submit(&self, interaction: &str, suggestion: &str) -> Result<Submitted, Rejection> {
        submit_to(&self.store, interaction, suggestion, Duration::from_mins(5)).await
    }

    /// Waits until so many suggestion frames have come; gives interaction and id of each.
    pub(super) async fn suggested(&self, count: usize) -> Vec<(String, String)> {
        let find = |received: &earpiece_simulator::platform::Received| {
            let name = |part: &Option<std::sync::Arc<str>>| part.as_deref().unwrap_or_default().to_owned();
            let came: Vec<_> =
                received.of(Kind::Suggest).map(|record| (name(&record.interaction), name(&record.id))).collect();
            (came.len() >= count).then_some(came)
        };
        self.platform.wait_for(PATIENCE, find).await.expect("suggestions in time")
    }

    /// Waits until a lane has nothing left to send.
    pub(super) async fn drained(&self, lane: Lane) {
        eventually("the lane is empty", async || self.store.oldest_due_ms(lane).await.unwrap().is_none()).await;
    }

    /// The events in the audit record of an interaction.
    pub(super) async fn audited(&self, interaction: &str) -> Vec<String> {
        let records = self.store.audit(&id(interaction)).await.unwrap();
        records.into_iter().map(|record| record.event).collect()
    }
}

impl Task {
    /// As `kill -9` does: nothing is finished and no lease given back.
    pub(super) async fn kill(mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
    }

    /// As a drain does.
    pub(super) async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.running).await.unwrap();
    }

    /// Waits until a metric has a value.
    pub(super) async fn counted(&self, series: &str, value: u64) {
        let line = format!("{series} {value}");
        eventually(&line, async || self.metrics.text().lines().any(|known| known == line)).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Everything as by default, for tests in which nobody takes over: a busy machine loses the shortest lease now and then.
pub(super) fn steady(which: Which) -> Settings {
    Settings { uplinks: [which].into(), ..Settings::default() }
}

/// Everything as by default, with the shortest lease.
pub(super) fn settings() -> Settings {
    Settings { lease: LEASE, ..Settings::default() }
}

pub(super) fn id(interaction: &str) -> InteractionId {
    InteractionId::parse(interaction).unwrap()
}

pub(super) async fn submit_to(
    store: &Store,
    interaction: &str,
    suggestion: &str,
    window: Duration,
) -> Result<Submitted, Rejection> {
    let now_ms = now_ms();
    let suggestion = Suggestion {
        id: suggestion.to_owned(),
        content: Private::new("Offer the family plan.".to_owned()),
        priority: Priority::High,
        relevance_score: 0.9,
        context_window: Window { start_ms: now_ms - 1000, end_ms: crate::clock::after_ms(now_ms, window) },
    };
    let keep_ms = settings().keep_ms();
    submit(store, &id(interaction), &suggestion, &Rules::default(), keep_ms, now_ms).await.unwrap()
}

/// Waits for what nobody tells: looks again and again, and fails when it took too long.
pub(super) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < give_up_at, "not in time: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
