//! [`Store`]: the connection to the table, with its timeouts and limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{Credentials, Region};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long one TCP and TLS connection may take to stand.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one attempt of a request may take.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request may take with all its attempts and the pauses between them.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(7);
/// How often a request is tried, the first time included.
pub const ATTEMPTS_MAX: u32 = 3;
/// The longest pause before the second attempt; it is jittered, and doubles.
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(50);
/// The longest pause before any attempt.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Requests in flight at once from one task. More wait their turn: each needs a connection of its own, and a drain
/// ends every stream of the task in the same moment.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64;

/// The region that local endpoints are told; they do not care.
const LOCAL_REGION: &str = "us-east-1";

/// The table with all shared state. Clones share one connection pool and one limit.
#[derive(Clone)]
pub struct Store {
    pub(crate) client: Client,
    pub(crate) table: Arc<str>,
    in_flight: Arc<Semaphore>,
}

impl Store {
    /// A store on DynamoDB, with region and credentials from the environment (variables, profile, or the container's
    /// role). `endpoint` replaces the region's own; on a loopback address it is [`Store::connect_local`].
    ///
    /// Nothing is sent yet: a wrong table or a missing credential shows with the first request.
    pub async fn connect(table: &str, endpoint: Option<&str>) -> Self {
        if let Some(endpoint) = endpoint.filter(|endpoint| is_loopback(endpoint)) {
            return Self::connect_local(endpoint, table);
        }
        let mut loader =
            aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts()).retry_config(retries());
        if let Some(endpoint) = endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        Self::new(Client::new(&loader.load().await), table)
    }

    /// A store on a local DynamoDB (embedded, or an emulator), which needs no real credentials.
    ///
    /// Speaks plain HTTP and goes there directly, whatever proxy the environment names.
    #[must_use]
    pub fn connect_local(endpoint: &str, table: &str) -> Self {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(endpoint)
            .region(Region::from_static(LOCAL_REGION))
            .credentials_provider(Credentials::new("local", "local", None, None, "local endpoint"))
            .timeout_config(timeouts())
            .retry_config(retries())
            .build();
        Self::new(Client::from_conf(config), table)
    }

    fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.into(), in_flight: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX)) }
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Waits for a turn to send a request. `None` cannot happen, as nobody closes the semaphore; if it did, the request
    /// would go out without a turn, which is the lesser harm.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.in_flight.acquire().await.ok()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("table", &self.table).finish_non_exhaustive()
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS_MAX)
        .with_initial_backoff(BACKOFF_INITIAL)
        .with_max_backoff(BACKOFF_MAX)
}

/// Whether an endpoint such as `http://127.0.0.1:8000` stays on this machine and is plain HTTP.
fn is_loopback(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_to_this_machine_counts_as_local() {
        for local in ["http://127.0.0.1:8000", "http://localhost:4566/", "http://[::1]:8000", "http://127.1.2.3"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in [
            "https://127.0.0.1:8000",
            "http://10.0.0.1:8000",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "https://dynamodb.eu-central-1.amazonaws.com",
            "127.0.0.1:8000",
        ] {
            assert!(!is_loopback(remote), "{remote}");
        }
    }

    #[test]
    fn a_store_prints_its_table_and_no_credential() {
        let store = Store::connect_local("http://127.0.0.1:1", "calls");
        assert_eq!(format!("{store:?}"), r#"Store { table: "calls", .. }"#);
    }

    #[tokio::test]
    async fn a_dead_endpoint_is_unavailable_and_not_for_ever() {
        let store = Store::connect("calls", Some("http://127.0.0.1:1")).await;
        let contact = earpiece_core::contact::ContactKey { bus_no: 1, contact_id: 1 };
        let error = store.contact(&contact, 0).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_never_answers_is_a_timeout() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = tokio::time::Instant::now();
        let contact = earpiece_core::contact::ContactKey { bus_no: 1, contact_id: 1 };
        let error = Store::connect_local(&endpoint, "calls").contact(&contact, 0).await.unwrap_err();
        assert_eq!(error, crate::StoreError::Timeout);
        assert!(asked.elapsed() <= OPERATION_TIMEOUT + Duration::from_millis(1), "{:?}", asked.elapsed());
    }
}
