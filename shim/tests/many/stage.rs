//! A table, a platform, and processes of the program between them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use earpiece_core::assist::interaction::Submitted;
use earpiece_core::assist::suggestion::{Priority, Rejection, Rules, Suggestion, Window};
use earpiece_core::assist::{InteractionId, Lane};
use earpiece_core::secret::Private;
use earpiece_simulator::platform::settings::{CLIENT_ID, CLIENT_SECRET};
use earpiece_simulator::platform::{Platform, PlatformSettings, Uplink};
use earpiece_store::embedded::Embedded;
use earpiece_store::{LeaseRecord, Store, StoreError};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

/// Nothing here takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// How long an interaction and its audit are kept here.
pub(crate) const KEEP_MS: u64 = 24 * 3_600_000;
/// Lines of a process's log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 40;
const TABLE: &str = "many";

static TURN: Mutex<()> = Mutex::const_new(());

/// The names of the three leases.
pub(crate) const SUGGESTIONS: &str = "suggestions";
pub(crate) const INSIGHTS: &str = "insights";
pub(crate) const POPUPS: &str = "popups";
pub(crate) const LEASES: [&str; 3] = [SUGGESTIONS, INSIGHTS, POPUPS];

/// What a test plays on. It is the only one at a time.
pub(crate) struct Stage {
    pub(crate) store: Store,
    pub(crate) platform: Platform,
    database: Embedded,
    folder: TempDir,
    started: AtomicUsize,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    pub(crate) async fn open() -> Self {
        let turn = TURN.lock().await;
        let database = Embedded::memory().expect("a database");
        let store = database.store(TABLE).await.expect("a table");
        let platform = Platform::bind("127.0.0.1:0", PlatformSettings::default()).await.expect("a free port");
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { store, platform, database, folder, started: AtomicUsize::new(0), _turn: turn }
    }

    /// A store such as another process has: it shares nothing with ours but the table.
    pub(crate) fn other_store(&self) -> Store {
        Store::connect_local(&self.database.endpoint(), TABLE)
    }

    /// Starts the program. Nothing of our own environment is handed on, so that no proxy and no setting gets in.
    pub(crate) fn start(&self, lease: &str) -> Shim {
        let host = format!("shim{}", self.started.fetch_add(1, Ordering::Relaxed));
        let log = self.folder.path().join(format!("{host}.log"));
        let socket = |uplink| self.platform.socket_url(uplink);
        let child = Command::new(env!("CARGO_BIN_EXE_earpiece-shim"))
            .env_clear()
            .env("HOSTNAME", &host)
            .env("AWS_ENDPOINT_URL", self.database.endpoint())
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("EARPIECE_LISTEN", "127.0.0.1:0")
            .env("EARPIECE_TABLE", TABLE)
            .env("EARPIECE_RECORDINGS", self.folder.path().join(&host))
            .env("EARPIECE_LEASE", lease)
            // The embedded database answers a few hundred requests a second: not too many of them for looking.
            .env("EARPIECE_OUTBOX_POLL", "250ms")
            .env("EARPIECE_CXONE_API", self.platform.url())
            .env("EARPIECE_CXONE_ORG", "demo")
            .env("EARPIECE_CXONE_SUGGESTIONS_URL", socket(Uplink::Suggestions))
            .env("EARPIECE_CXONE_INSIGHTS_URL", socket(Uplink::Insights))
            .env("EARPIECE_CXONE_INTERACTIONS_URL", socket(Uplink::Interactions))
            .env("EARPIECE_CXONE_CARD_RATE", "1000")
            .env("EARPIECE_CXONE_CLIENT_ID", CLIENT_ID)
            .env("EARPIECE_CXONE_CLIENT_SECRET", CLIENT_SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("the program starts");
        let name = format!("{host}-{}-", child.id());
        Shim { name, child, log }
    }

    pub(crate) async fn lease(&self, name: &str) -> Option<LeaseRecord> {
        self.store.lease(name).await.expect("a store that answers")
    }

    /// Waits until somebody holds a lease.
    pub(crate) async fn held(&self, name: &str) -> LeaseRecord {
        eventually(name, async || self.lease(name).await.filter(|record| !record.released)).await
    }

    /// Waits until a shim holds a lease.
    pub(crate) async fn held_by(&self, name: &str, shim: &Shim) -> LeaseRecord {
        eventually(name, async || self.lease(name).await.filter(|record| shim.holds(record))).await
    }

    /// Waits until every lane of the outbox is empty.
    pub(crate) async fn drained(&self) {
        for lane in Lane::ALL {
            eventually(lane.label(), async || {
                let oldest = self.store.oldest_due_ms(lane).await.expect("a store that answers");
                oldest.is_none().then_some(())
            })
            .await;
        }
    }
}

/// A process of the program.
pub(crate) struct Shim {
    /// What the names of its leases' holders begin with: its host and its process id.
    name: String,
    child: Child,
    log: PathBuf,
}

impl Shim {
    pub(crate) fn name(&self) -> &str {
        self.name.trim_end_matches('-')
    }

    pub(crate) fn holds(&self, record: &LeaseRecord) -> bool {
        !record.released && record.holder.starts_with(&self.name)
    }

    /// `kill -9`, and until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it lives");
        let _ = self.child.wait().expect("it is ours");
    }

    pub(crate) fn terminate(&self) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill");
        assert!(told.success());
    }

    /// Waits until it has gone by itself.
    pub(crate) async fn gone(&mut self) -> ExitStatus {
        eventually("a process goes", async || self.child.try_wait().expect("it is ours")).await
    }

    fn print_log(&self) {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        say(&format!("--- the end of the log of {} ---\n{}", self.name(), shown.join("\n")));
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_log();
        }
        // It may have gone before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says something also when the test passes.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Waits for what nobody tells: looks again and again, and fails when it took too long.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up_at = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < give_up_at, "not in time: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn now_ms() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    i64::try_from(since_epoch.as_millis()).expect("a time that fits")
}

pub(crate) fn id(interaction: &str) -> InteractionId {
    InteractionId::parse(interaction).expect("an id")
}

/// Submits a suggestion that may be sent for longer than any test runs.
pub(crate) async fn submit(
    store: &Store,
    interaction: &str,
    suggestion: &str,
) -> Result<Result<Submitted, Rejection>, StoreError> {
    let now_ms = now_ms();
    let suggestion = Suggestion {
        id: suggestion.to_owned(),
        content: Private::new("Offer the family plan.".to_owned()),
        priority: Priority::High,
        relevance_score: 0.9,
        context_window: Window { start_ms: now_ms - 1_000, end_ms: now_ms + 3_600_000 },
    };
    earpiece_uplink::submit(store, &id(interaction), &suggestion, &Rules::default(), KEEP_MS, now_ms).await
}
