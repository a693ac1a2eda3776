//! [`Store`]: the connection to the table, with its timeouts and limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use earpiece_core::config::ProcessEnv;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::error::StoreError;
use crate::interaction::StepTurns;
use crate::sdk;

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
/// Requests about leases in flight at once from one task, beside all others: a holder that has much to do must not lose
/// its lease because the renewal waits behind its own work.
pub const LEASE_REQUESTS_IN_FLIGHT_MAX: usize = 8;

/// The table with all shared state. Clones share one connection pool and one limit.
#[derive(Clone)]
pub struct Store {
    pub(crate) client: Client,
    pub(crate) table: Arc<str>,
    in_flight: Arc<Semaphore>,
    leases_in_flight: Arc<Semaphore>,
    pub(crate) step_turns: StepTurns,
    pub(crate) outbox_changed: Arc<Notify>,
    /// What is wrong with how it was configured: every request is refused with it.
    fault: Option<StoreError>,
}

impl Store {
    /// A store on DynamoDB, with region and credentials from the environment: from its variables, or with the feature
    /// `chain` also from a profile or the container's role. `endpoint` replaces the region's own, and so does
    /// `AWS_ENDPOINT_URL`; an `endpoint` on a loopback address is [`Store::connect_local`]. The certificates of
    /// `EARPIECE_CA_FILE` (PEM) are trusted beside the public ones.
    ///
    /// Nothing is sent yet: a wrong table, a missing credential or a file that holds no certificate shows with the
    /// first request.
    pub async fn connect(table: &str, endpoint: Option<&str>) -> Self {
        if let Some(endpoint) = endpoint.filter(|endpoint| is_loopback(endpoint)) {
            return Self::connect_local(endpoint, table);
        }
        match sdk::load(&ProcessEnv, endpoint).await {
            Ok(config) => Self::new(Client::from_conf(config), table),
            Err(fault) => Self::faulty(fault, table),
        }
    }

    /// A store that sends nothing and says why with every request.
    fn faulty(fault: StoreError, table: &str) -> Self {
        Self { fault: Some(fault), ..Self::connect_local("http://localhost", table) }
    }

    /// A store on a local DynamoDB (embedded, or an emulator), which needs no real credentials.
    ///
    /// Speaks plain HTTP and goes there directly, whatever proxy the environment names.
    #[must_use]
    pub fn connect_local(endpoint: &str, table: &str) -> Self {
        Self::new(Client::from_conf(sdk::local(endpoint)), table)
    }

    /// A store that shares nothing with another but what the client itself shares.
    pub(crate) fn new(client: Client, table: &str) -> Self {
        Self {
            client,
            table: table.into(),
            in_flight: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX)),
            leases_in_flight: Arc::new(Semaphore::new(LEASE_REQUESTS_IN_FLIGHT_MAX)),
            step_turns: StepTurns::default(),
            outbox_changed: Arc::default(),
            fault: None,
        }
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The same store for requests about leases, which do not wait for others.
    pub(crate) fn for_leases(&self) -> Self {
        Self { in_flight: Arc::clone(&self.leases_in_flight), ..self.clone() }
    }

    /// Waits for a turn to send a request. `None` cannot happen, as nobody closes the semaphore; if it did, the request
    /// would go out without a turn, which is the lesser harm.
    pub(crate) async fn turn(&self) -> Result<Option<SemaphorePermit<'_>>, StoreError> {
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(self.in_flight.acquire().await.ok()),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("table", &self.table).finish_non_exhaustive()
    }
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
    async fn what_is_wrong_with_the_configuration_shows_with_the_first_request() {
        let fault =
            StoreError::Refused { code: String::from("EARPIECE_CA_FILE"), message: String::from("no such file") };
        let store = Store::faulty(fault.clone(), "calls");
        let contact = earpiece_core::contact::ContactKey { bus_no: 1, contact_id: 1 };
        assert_eq!(store.contact(&contact, 0).await.unwrap_err(), fault);
        assert_eq!(store.count_request(1, 0, 1).await.unwrap_err(), fault);
        assert_eq!(store.create_table().await.unwrap_err(), fault);
    }

    #[cfg(feature = "embedded")]
    #[tokio::test]
    async fn a_lease_is_taken_and_renewed_while_every_turn_is_taken() {
        let embedded = crate::Embedded::memory().unwrap();
        let store = embedded.store("leases").await.unwrap();
        let turns = u32::try_from(REQUESTS_IN_FLIGHT_MAX).unwrap();
        let _all = store.in_flight.acquire_many(turns).await.unwrap();
        let renewing = async {
            let taken = store.take_lease("suggestions", "me", None).await.unwrap().unwrap();
            let renewed = store.renew_lease(&taken).await.unwrap().unwrap();
            assert_eq!(store.lease("suggestions").await.unwrap().unwrap().beat, renewed.beat);
            store.release_lease(&renewed).await.unwrap();
        };
        tokio::time::timeout(OPERATION_TIMEOUT, renewing).await.expect("it waits for no turn");
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
        // The clock of timers goes in leaps here, one of which may be under way when the last timer fires.
        assert!(asked.elapsed() < 2 * OPERATION_TIMEOUT, "{:?}", asked.elapsed());
    }
}
