//! A shim with everything it needs, in this process, on free ports: what every test starts from.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::config::{EmptyEnv, Overlay, Setting};
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::{ContactEvent, What};
use earpiece_core::contact::ledger::Ledger;
use earpiece_shim::{Settings, service, settings};
use earpiece_simulator::{CallError, CallPlan, CallReport, place};
use earpiece_store::Store;
use earpiece_store::embedded::Embedded;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

/// Nothing in these tests takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running shim.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) data: Arc<TempDir>,
    pub(crate) store: Store,
    watchers: broadcast::Sender<ContactEvent>,
    events: broadcast::Receiver<ContactEvent>,
    shutdown: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
    database: Arc<Embedded>,
}

impl House {
    /// Opens a house with these settings over the defaults, and a short quiet period unless they say otherwise.
    pub(crate) async fn open(set: &[(Setting, &str)]) -> Self {
        Self::open_with(set, |endpoint| endpoint).await
    }

    /// The same, with something between the shim and its database: `route` gets the database's address and gives the
    /// one to use.
    pub(crate) async fn open_with(set: &[(Setting, &str)], route: impl FnOnce(String) -> String) -> Self {
        let data = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let database = Arc::new(Embedded::memory().expect("a database"));
        Self::open_on(set, data, database, route).await
    }

    /// A second task on the same table and the same recordings.
    pub(crate) async fn beside(&self, set: &[(Setting, &str)]) -> Self {
        Self::open_on(set, self.data.clone(), self.database.clone(), |endpoint| endpoint).await
    }

    async fn open_on(
        set: &[(Setting, &str)],
        data: Arc<TempDir>,
        database: Arc<Embedded>,
        route: impl FnOnce(String) -> String,
    ) -> Self {
        let direct = database.store("earpiece-test").await.expect("a table");
        let store = Store::connect_local(&route(database.endpoint()), direct.table());
        let recordings = data.path().to_str().expect("a Unicode path").to_owned();
        let defaults =
            Overlay::over(EmptyEnv).with(&settings::QUIET_PERIOD, "1s").with(&settings::RECORDINGS, recordings);
        let env = set.iter().fold(defaults, |env, (setting, value)| env.with(setting, *value));
        let settings = Settings::read(&env).expect("settings that can be used");
        let parts = service::parts(&settings, store).expect("parts");
        let watchers = parts.watchers.clone();
        let events = watchers.subscribe();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (shutdown, signalled) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let signal = async {
                let _ = signalled.await;
            };
            earpiece_shim::run(listener, signal, parts).await.expect("a shim that can be served");
        });
        Self { address, data, store: direct, watchers, events, shutdown: Some(shutdown), running, database }
    }

    /// Where media servers connect.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/audio", self.address)
    }

    /// A second pair of ears on what happens.
    pub(crate) fn watch(&self) -> broadcast::Receiver<ContactEvent> {
        self.watchers.subscribe()
    }

    /// Waits until something has happened that `find` is looking for.
    pub(crate) async fn wait<T>(&mut self, find: impl FnMut(&ContactEvent) -> Option<T>) -> T {
        wait(&mut self.events, find).await
    }

    /// Waits until a contact is finished, and reads its ledger.
    pub(crate) async fn finished(&mut self, contact: ContactKey) -> Ledger {
        self.wait(|event| (event.contact == contact && matches!(event.what, What::Finished { .. })).then_some(()))
            .await;
        ledger(self.data.path(), contact)
    }

    /// The whole recording of a contact.
    pub(crate) fn recording(&self, contact: ContactKey) -> Vec<u8> {
        recording(self.data.path(), contact)
    }

    /// The value of a metric, by its name with labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, text) = get(self.address, "/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("no metric {name} in:\n{text}"));
        value.trim().parse().expect("a whole number")
    }

    /// Says that the task shall go away, without waiting for it.
    pub(crate) fn signal(&mut self) {
        self.shutdown.take().map(|signal| signal.send(()));
    }

    /// Waits until the task has gone, which is when all its work is settled.
    pub(crate) async fn gone(&mut self) {
        tokio::time::timeout(PATIENCE, &mut self.running).await.expect("the task goes in time").expect("no panic");
    }
}

/// Waits until something has happened that `find` is looking for.
pub(crate) async fn wait<T>(
    events: &mut broadcast::Receiver<ContactEvent>,
    mut find: impl FnMut(&ContactEvent) -> Option<T>,
) -> T {
    let search = async {
        loop {
            if let Some(found) = find(&events.recv().await.expect("events go on")) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("it happens in time")
}

/// Reads the ledger of a finished contact.
pub(crate) fn ledger(data: &Path, contact: ContactKey) -> Ledger {
    let path = data.join(format!("contacts/{contact}/ledger.json"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("a ledger")
}

/// Reads the recording of a finished contact.
pub(crate) fn recording(data: &Path, contact: ContactKey) -> Vec<u8> {
    std::fs::read(data.join(format!("contacts/{contact}/recording.wav"))).expect("a recording")
}

/// A plain HTTP request: the status and the body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

/// Places a call and gives its report, also when it was refused.
pub(crate) async fn dial(plan: CallPlan) -> CallReport {
    match place(plan).await {
        Ok(report) => report,
        Err(CallError::NotAccepted(report)) => *report,
        Err(error) => panic!("a plan that can be followed: {error}"),
    }
}

/// A contact of its own for each test.
pub(crate) fn contact(contact_id: u64) -> ContactKey {
    ContactKey { bus_no: 4711, contact_id }
}

/// Speech that differs from sample to sample, so that a byte out of place is seen.
pub(crate) fn speech(samples: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed).wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Never the code for silence, which is what gaps are filled with.
        (state >> 24).min(0xFE).to_le_bytes()[0]
    };
    std::iter::repeat_with(&mut next).take(samples).collect()
}
