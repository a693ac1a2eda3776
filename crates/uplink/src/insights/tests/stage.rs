//! A platform, a store, and tasks between them.

use std::collections::BTreeSet;
use std::time::Duration;

use earpiece_core::assist::InteractionId;
use earpiece_core::config::{EmptyEnv, Overlay, Reader};
use earpiece_core::secret::Private;
use earpiece_cxone::{Cxone, settings as cxone_settings};
use earpiece_https::{Client, Trust};
use earpiece_knowledge::Knowledge;
use earpiece_simulator::platform::{Article, Kind, Platform, PlatformSettings, Record, To, Uplink};
use earpiece_store::{Embedded, Store};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::ear::{Ear, Heard, Said};
use crate::{Metrics, Parts, Settings, Which, channel};

pub(super) const CLIENT_ID: &str = "earpiece";
pub(super) const CLIENT_SECRET: &str = "earpiece-secret";
/// Nothing here takes so long unless it is broken.
pub(super) const WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Stage {
    pub(super) platform: Platform,
    pub(super) store: Store,
    _embedded: Embedded,
}

/// A running task.
pub(super) struct Task {
    pub(super) ear: Ear,
    pub(super) metrics: Metrics,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Task {
    /// Stops it, and returns when it has stopped.
    pub(super) async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.running.await.expect("it did not panic");
    }

    pub(super) fn hears(&self, interaction: &str, text: &str) {
        let what = Said::Fragment { text: Private::new(text.to_owned()), at_ms: 0 };
        self.ear.hear(Heard { interaction: id(interaction), what });
    }

    pub(super) fn hears_turn(&self, interaction: &str) {
        self.ear.hear(Heard { interaction: id(interaction), what: Said::TurnEnd });
    }

    /// The value of a counter, by its name with its labels.
    pub(super) fn counted(&self, name: &str) -> Option<u64> {
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    }
}

pub(super) fn id(text: &str) -> InteractionId {
    InteractionId::parse(text).unwrap()
}

/// Seven articles about refunds, one about parcels, one about modems.
pub(super) fn articles() -> Vec<Article> {
    let article = |id: &str, title: &str, body: &str| Article {
        id: id.to_owned(),
        title: title.to_owned(),
        language: "en-US".to_owned(),
        url: format!("https://help.example.com/{id}"),
        body: body.to_owned(),
    };
    let mut articles: Vec<_> = (1..=7)
        .map(|number| {
            let body = format!("A refund of kind {number}. {}", "It takes a few days. ".repeat(number));
            article(&format!("refund-{number}"), &format!("Refund {number}"), &body)
        })
        .collect();
    articles.push(article("parcel", "Track a parcel", "Every parcel has a number."));
    articles.push(article("modem", "Restart the modem", &"Pull the plug; wait ten seconds. ".repeat(10)));
    articles
}

impl Stage {
    pub(super) async fn new() -> Self {
        Self::with(PlatformSettings { articles: articles(), ..PlatformSettings::default() }).await
    }

    pub(super) async fn with(settings: PlatformSettings) -> Self {
        let platform = Platform::bind("127.0.0.1:0", settings).await.unwrap();
        let embedded = Embedded::memory().unwrap();
        let store = embedded.store("insights").await.unwrap();
        Self { platform, store, _embedded: embedded }
    }

    /// A task that holds the socket.
    pub(super) async fn task(&self) -> Task {
        let task = self.start([Which::Insights].into(), None).await;
        assert!(self.platform.wait_for_socket(Uplink::Insights, WITHIN).await, "the socket is up");
        task
    }

    pub(super) async fn start(&self, uplinks: BTreeSet<Which>, knowledge: Option<Knowledge>) -> Task {
        let trust = Trust::public();
        let https = Client::new(&trust).unwrap();
        let (ear, hearing) = channel();
        let metrics = Metrics::new().unwrap();
        let settings = Settings { uplinks, lease: Duration::from_secs(1), ..Settings::default() };
        let parts = Parts {
            task: "test".to_owned(),
            store: self.store.clone(),
            cxone: Some(self.cxone(https.clone(), &trust).await),
            knowledge,
            https,
            settings,
            metrics: metrics.clone(),
        };
        let (stop, stopping) = oneshot::channel();
        let shutdown = async {
            let _ = stopping.await;
        };
        let running = tokio::spawn(crate::run(parts, hearing, shutdown));
        Task { ear, metrics, stop, running }
    }

    async fn cxone(&self, https: Client, trust: &Trust) -> Cxone {
        let env = Overlay::over(EmptyEnv)
            .with(&cxone_settings::API, self.platform.url())
            .with(&cxone_settings::INTERACTIONS_URL, self.platform.socket_url(Uplink::Interactions))
            .with(&cxone_settings::CLIENT_ID, CLIENT_ID)
            .with(&cxone_settings::CLIENT_SECRET, CLIENT_SECRET)
            .with(&cxone_settings::SCOPE, "none");
        let mut reader = Reader::new(&env);
        let settings = cxone_settings::Settings::read(&mut reader);
        reader.finish().unwrap();
        Cxone::connect(&settings.unwrap(), https, trust, &env).await.unwrap()
    }

    pub(super) async fn says(&self, interaction: &str, text: &str) {
        self.event(&json!({ "type": "TRANSCRIPT_FRAGMENT", "interactionId": interaction, "text": text })).await;
    }

    pub(super) async fn turns(&self, interaction: &str, state: &str) {
        self.event(&json!({ "type": "DIALOG_STATE", "interactionId": interaction, "state": state })).await;
    }

    /// Somebody says something and is done.
    pub(super) async fn asks(&self, interaction: &str, text: &str) {
        self.says(interaction, text).await;
        self.turns(interaction, "TURN_END").await;
    }

    pub(super) async fn event(&self, event: &Value) {
        assert_eq!(self.platform.send_event(Uplink::Insights, event, To::All).await, 1, "one socket is open");
    }

    /// Waits until so many requests of a kind were taken.
    pub(super) async fn taken(&self, kind: Kind, count: usize) -> Vec<Record> {
        let find = |received: &earpiece_simulator::platform::Received| {
            let taken: Vec<_> = received.of(kind).filter(|record| record.is_taken()).cloned().collect();
            (taken.len() >= count).then_some(taken)
        };
        self.platform.wait_for(WITHIN, find).await.expect("they came")
    }

    /// Waits for the first cards of an interaction.
    pub(super) async fn cards_of(&self, interaction: &str) -> Vec<Value> {
        let find = |received: &earpiece_simulator::platform::Received| {
            received.of(Kind::Insight).find(|record| record.is_of(interaction) && record.is_taken()).map(cards_in)
        };
        self.platform.wait_for(WITHIN, find).await.expect("there are cards")
    }

    /// Everything that was searched for, in order, with what it was answered.
    pub(super) fn searches(&self) -> Vec<(String, u16)> {
        let query = |record: Record| (record.body().unwrap_or_default().to_owned(), record.status);
        self.platform.received_of(Kind::Search).into_iter().map(query).collect()
    }

    pub(super) fn no_violations(&self) {
        let violations = self.platform.received_of(Kind::Violation);
        assert!(violations.is_empty(), "{:?}", violations.iter().map(Record::body).collect::<Vec<_>>());
    }
}

pub(super) fn cards_in(record: &Record) -> Vec<Value> {
    record.json().and_then(|body| body["insights"].as_array().cloned()).unwrap_or_default()
}

pub(super) fn ids(cards: &[Value]) -> Vec<String> {
    cards.iter().map(|card| card["id"].as_str().unwrap_or_default().to_owned()).collect()
}
