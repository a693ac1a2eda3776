//! The client against a server over real sockets. What the server answers is scripted per test, so that each can say
//! exactly what CXone did; `platform` runs it against the simulator.

mod credentials;
mod fake;
mod platform;
mod rest;
mod silence;
mod sockets;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::assist::InteractionId;
use earpiece_core::assist::card::FeedbackAction;
use earpiece_core::config::{EmptyEnv, Overlay, Reader, Setting};
use earpiece_core::secret::Private;
use earpiece_https::{Client, Trust};

use crate::settings::{self, Settings};
use crate::{Cxone, CxoneError};

type TestEnv = Overlay<EmptyEnv>;

/// No test waits for longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The environment of a deployment whose API is at `address`.
fn environment(address: &str) -> TestEnv {
    Overlay::over(EmptyEnv)
        .with(&settings::API, format!("http://{address}"))
        .with(&settings::INTERACTIONS_URL, "{api_ws}/api/v2/interactions/stream")
}

/// With a client's credentials.
fn with_client(address: &str) -> TestEnv {
    environment(address).with(&settings::CLIENT_ID, "app").with(&settings::CLIENT_SECRET, "hunter2")
}

fn read(env: &TestEnv) -> Settings {
    let mut reader = Reader::new(env);
    let settings = Settings::read(&mut reader);
    reader.finish().expect("a good configuration");
    settings.expect("credentials")
}

async fn try_connect(env: &TestEnv) -> Result<Cxone, CxoneError> {
    try_connect_trusting(env, Trust::public()).await
}

async fn try_connect_trusting(env: &TestEnv, trust: Trust) -> Result<Cxone, CxoneError> {
    let https = Client::new(&trust).expect("a client");
    Cxone::connect(&read(env), https, &trust, env).await
}

async fn connect(env: &TestEnv) -> Cxone {
    try_connect(env).await.expect("a client of CXone")
}

/// A variable that is no setting of ours.
fn variable(name: &'static str) -> Setting {
    Setting::new(name, "", "")
}

fn interaction() -> InteractionId {
    InteractionId::parse("700100").expect("an id")
}

async fn feedback(cxone: &Cxone) -> Result<(), CxoneError> {
    cxone.post_feedback(&interaction(), "insight-1", FeedbackAction::Accepted, 1_700_000_000_000).await
}

async fn search(cxone: &Cxone) -> Result<usize, CxoneError> {
    let query = Private::new(String::from("my router blinks & hisses"));
    cxone.search(&query, "en-US", 1, 5).await.map(|page| page.articles.len())
}

/// Turns tokio's clock without waiting; what is on the wire takes its own time.
async fn leap(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

async fn within_patience<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

fn shared<T>(value: T) -> Arc<std::sync::Mutex<T>> {
    Arc::new(std::sync::Mutex::new(value))
}
