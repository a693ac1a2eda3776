//! Frames to the connections of an API Gateway WebSocket API: its `@connections`.
//!
//! | module | holds |
//! | --- | --- |
//! | `client` | the SDK's client: whom it trusts, how long it waits |
//! | `error` | the SDK's errors, classed once |
//!
//! Which connection hears what, and what becomes of one that is gone, is decided by the callers. Nothing here prints a
//! frame or a connection id.

mod client;
mod error;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use earpiece_core::config::ProcessEnv;
use earpiece_https::Trust;
use tokio::sync::{Semaphore, SemaphorePermit};

pub use client::{ATTEMPT_TIMEOUT, CONNECT_TIMEOUT};
pub use error::PushError;

/// The longest message that API Gateway carries, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// How often a request is sent, the first time included.
pub const ATTEMPTS_MAX: u32 = 4;
/// The longest pause before the second attempt; it is jittered, and doubles.
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(50);
/// How long a request may take with all its attempts, the pauses between them, and the wait for its turn.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests in flight at once. More wait their turn: each needs a connection of its own.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64;

/// Sends frames to connections, and closes them. Clones share one connection pool and one limit.
#[derive(Clone)]
pub struct Push {
    client: Client,
    in_flight: Arc<Semaphore>,
}

impl Push {
    /// A push to the API behind `endpoint`: `https://{api}.execute-api.{region}.amazonaws.com/{stage}`, or a domain of
    /// your own. Credentials come from the environment (its variables, or with the feature `chain` also a profile or the
    /// container's role), the region from the endpoint or else from there, too; on a loopback address it is
    /// [`Push::connect_local`]. The certificates of `EARPIECE_CA_FILE` (PEM) are trusted beside the public ones.
    ///
    /// Nothing is sent yet: a wrong endpoint or a missing credential shows with the first frame.
    pub async fn connect(endpoint: &str) -> Self {
        if client::is_loopback(endpoint) {
            return Self::connect_local(endpoint);
        }
        Self::new(client::remote(&ProcessEnv, endpoint, Trust::read(&ProcessEnv)).await)
    }

    /// A push to a local stand-in such as `earpiece gateway`, which needs no real credentials.
    ///
    /// Speaks plain HTTP and goes there directly, whatever proxy the environment names.
    #[must_use]
    pub fn connect_local(endpoint: &str) -> Self {
        Self::new(client::local(endpoint))
    }

    fn new(client: Client) -> Self {
        Self { client, in_flight: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX)) }
    }

    /// Sends one text frame to a connection.
    ///
    /// It is sent again only where the first was certainly not delivered: when API Gateway throttles or fails. After a
    /// time-out it may have arrived.
    ///
    /// # Errors
    ///
    /// [`PushError::Gone`] when there is no such connection (any more), [`PushError::TooLarge`] above
    /// [`MESSAGE_BYTES_MAX`]; else when API Gateway could not be reached, or refuses.
    pub async fn post(&self, connection_id: &str, frame: &[u8]) -> Result<(), PushError> {
        if frame.len() > MESSAGE_BYTES_MAX {
            return Err(PushError::TooLarge);
        }
        self.repeat(Request::Post(connection_id, Blob::new(frame))).await
    }

    /// Closes a connection. Its peer hears 1000, and `$disconnect` follows.
    ///
    /// # Errors
    ///
    /// As [`Push::post`]. [`PushError::Gone`] may also mean that an earlier attempt has closed it.
    pub async fn close(&self, connection_id: &str) -> Result<(), PushError> {
        self.repeat(Request::Close(connection_id)).await
    }

    /// Attempts until one succeeds, fails for good, or the time is over.
    async fn repeat(&self, request: Request<'_>) -> Result<(), PushError> {
        let attempts = async {
            let _turn = self.turn().await;
            let mut pause_max = BACKOFF_INITIAL;
            for _ in 1..ATTEMPTS_MAX {
                match self.attempt(&request).await {
                    Err(PushError::Throttled | PushError::Failed) => {}
                    outcome => return outcome,
                }
                tokio::time::sleep(pause_max.mul_f64(fastrand::f64())).await;
                pause_max *= 2;
            }
            self.attempt(&request).await
        };
        tokio::time::timeout(OPERATION_TIMEOUT, attempts).await.unwrap_or(Err(PushError::Unavailable))
    }

    async fn attempt(&self, request: &Request<'_>) -> Result<(), PushError> {
        match request {
            Request::Post(id, frame) => {
                let post = self.client.post_to_connection().connection_id(*id).data(frame.clone());
                post.send().await.map(drop).map_err(|error| error::classify(&error))
            }
            Request::Close(id) => {
                let delete = self.client.delete_connection().connection_id(*id);
                delete.send().await.map(drop).map_err(|error| error::classify(&error))
            }
        }
    }

    /// Waits for a turn to send. `None` cannot happen, as nobody closes the semaphore; if it did, the request would go
    /// out without a turn, which is the lesser harm.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.in_flight.acquire().await.ok()
    }
}

/// What is asked of API Gateway for a connection.
enum Request<'a> {
    Post(&'a str, Blob),
    Close(&'a str),
}

impl fmt::Debug for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Push")
    }
}
