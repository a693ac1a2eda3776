//! The one way out for requests: budget, hold, circuit, send.
//!
//! * **Budget**: a token bucket per endpoint. A request waits for its turn, but not for long.
//! * **Hold**: a 429 shuts its endpoint for as long as CXone asks, and no other.
//! * **Circuit**: a host that fails again and again is left alone, and then probed (see [`crate::circuit`]).
//!
//! What an answer of 4xx means is for the caller to say, who knows whose token it was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use earpiece_https::Client;
use earpiece_https::client::{Failure, Limits};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::{Request, Response, StatusCode};
use tokio::time::Instant;

use crate::circuit::{Admission, Circuit};
use crate::endpoint::{Endpoint, Outcome};
use crate::error::CxoneError;
use crate::retry_after::{self, RETRY_AFTER_DEFAULT};
use crate::settings::Rates;

/// How long a request may wait for its turn in an endpoint's budget. Beyond, the caller is told when to come back: it
/// can put the work off, and does not hold on to what others need.
const TURN_MAX: Duration = Duration::from_secs(1);
/// Hosts whose circuits are remembered. More are never configured; discovery could name new ones again and again.
const HOSTS_MAX: usize = 16;
/// Largest answer that is read: a page of a search may have whole articles in it.
const ANSWER_BYTES_MAX: usize = earpiece_core::protocol::platform::SEARCH_BYTES_MAX;

const ENDPOINTS: usize = Endpoint::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();

/// A budget by tokio's clock, so that a test can turn it.
pub(crate) type Bucket = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<std::time::Instant>>;

/// Tokio's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TokioClock;

impl Clock for TokioClock {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        Instant::now().into_std()
    }
}

/// A budget. Has to be made within a runtime.
pub(crate) fn bucket(quota: Quota) -> Bucket {
    RateLimiter::direct_with_clock(quota, TokioClock)
}

/// The way out.
pub(crate) struct Gate {
    https: Client,
    limits: Limits,
    buckets: [Option<Bucket>; ENDPOINTS],
    holds: Mutex<[Option<Instant>; ENDPOINTS]>,
    circuits: Mutex<BTreeMap<String, Circuit>>,
    answers: [[AtomicU64; OUTCOMES]; ENDPOINTS],
    /// The host that an endpoint was last asked at, for the gauge.
    hosts: Mutex<[Option<String>; ENDPOINTS]>,
}

impl Gate {
    pub(crate) fn new(https: Client, rates: &Rates, timeout: Duration) -> Self {
        Self {
            https,
            limits: Limits { deadline: timeout, answer_bytes_max: ANSWER_BYTES_MAX },
            buckets: Endpoint::ALL.map(|endpoint| rates.of(endpoint).map(|rate| bucket(Quota::per_second(rate)))),
            holds: Mutex::default(),
            circuits: Mutex::default(),
            answers: Default::default(),
            hosts: Mutex::default(),
        }
    }

    /// Sends a request and reads the answer, whose status is 2xx, 3xx or 4xx without 429.
    ///
    /// # Errors
    ///
    /// When it may not be sent now, when there is no answer, and when the answer is 429 or 5xx.
    pub(crate) async fn send(
        &self,
        endpoint: Endpoint,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, CxoneError> {
        self.check_hold(endpoint)?;
        self.wait_for_turn(endpoint).await?;
        // While it waited, another request may have been told to stop.
        self.check_hold(endpoint)?;
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let pass = self.admit(endpoint, host)?;
        let answer = self.https.send(request, self.limits).await;
        self.judge(endpoint, pass, answer)
    }

    fn judge(
        &self,
        endpoint: Endpoint,
        pass: Pass<'_>,
        answer: Result<Response<Bytes>, Failure>,
    ) -> Result<Response<Bytes>, CxoneError> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                // An answer that is too large was one: its host is well.
                let is_answered = failure == Failure::TooLarge;
                pass.settle(is_answered);
                self.count(endpoint, if is_answered { Outcome::Failed } else { Outcome::Unreachable });
                tracing::debug!(endpoint = endpoint.label(), %failure, "CXone did not answer");
                return Err(if is_answered {
                    CxoneError::Unreadable
                } else {
                    CxoneError::Unavailable { retry_after: None }
                });
            }
        };
        let status = answer.status();
        pass.settle(!status.is_server_error());
        self.count(endpoint, outcome_of(status));
        let asked_for = retry_after::read(answer.headers(), SystemTime::now());
        if status == StatusCode::TOO_MANY_REQUESTS {
            let retry_after = asked_for.unwrap_or(RETRY_AFTER_DEFAULT);
            self.hold(endpoint, retry_after);
            return Err(CxoneError::RateLimited { retry_after });
        }
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            return Err(CxoneError::Unavailable { retry_after: asked_for });
        }
        Ok(answer)
    }

    fn check_hold(&self, endpoint: Endpoint) -> Result<(), CxoneError> {
        let now = Instant::now();
        match lock(&self.holds)[endpoint.index()] {
            Some(until) if now < until => Err(CxoneError::RateLimited { retry_after: until - now }),
            _ => Ok(()),
        }
    }

    /// Shuts an endpoint; a shorter pause does not take back a longer one.
    fn hold(&self, endpoint: Endpoint, pause: Duration) {
        let until = Instant::now() + pause;
        let mut holds = lock(&self.holds);
        let hold = &mut holds[endpoint.index()];
        *hold = Some(hold.map_or(until, |known| known.max(until)));
        drop(holds);
        tracing::warn!(endpoint = endpoint.label(), pause_ms = pause.as_millis(), "CXone limits our requests");
    }

    async fn wait_for_turn(&self, endpoint: Endpoint) -> Result<(), CxoneError> {
        let Some(bucket) = &self.buckets[endpoint.index()] else { return Ok(()) };
        let give_up_at = Instant::now() + TURN_MAX;
        while let Err(too_early) = bucket.check() {
            let pause = too_early.wait_time_from(TokioClock.now());
            if Instant::now() + pause > give_up_at {
                return Err(CxoneError::RateLimited { retry_after: pause });
            }
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    fn admit(&self, endpoint: Endpoint, host: String) -> Result<Pass<'_>, CxoneError> {
        let mut circuits = lock(&self.circuits);
        if circuits.len() >= HOSTS_MAX && !circuits.contains_key(&host) {
            circuits.retain(|_, circuit| circuit.is_open());
            if circuits.len() >= HOSTS_MAX {
                circuits.clear();
            }
        }
        let admission = circuits.entry(host.clone()).or_default().admit(Instant::now());
        drop(circuits);
        let slot = &mut lock(&self.hosts)[endpoint.index()];
        if slot.as_deref() != Some(&host) {
            *slot = Some(host.clone());
        }
        let admission = admission.map_err(|retry_after| CxoneError::CircuitOpen { retry_after })?;
        Ok(Pass { gate: self, host, admission, is_settled: false })
    }

    fn count(&self, endpoint: Endpoint, outcome: Outcome) {
        self.answers[endpoint.index()][outcome.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// How many answers of an endpoint had this outcome.
    pub(crate) fn answers(&self, endpoint: Endpoint, outcome: Outcome) -> u64 {
        self.answers[endpoint.index()][outcome.index()].load(Ordering::Relaxed)
    }

    /// Whether requests to an endpoint are refused at once: its own hold, or its host's circuit.
    pub(crate) fn is_held_back(&self, endpoint: Endpoint) -> bool {
        self.check_hold(endpoint).is_err() || self.is_circuit_open(endpoint)
    }

    pub(crate) fn is_circuit_open(&self, endpoint: Endpoint) -> bool {
        let Some(host) = lock(&self.hosts)[endpoint.index()].clone() else { return false };
        lock(&self.circuits).get(&host).is_some_and(Circuit::is_open)
    }
}

fn outcome_of(status: StatusCode) -> Outcome {
    match status.as_u16() {
        200..=299 => Outcome::Ok,
        401 => Outcome::Unauthorized,
        403 => Outcome::Forbidden,
        429 => Outcome::Limited,
        408 | 500.. => Outcome::Failed,
        _ => Outcome::Refused,
    }
}

/// The right to send one request. Dropped without an outcome (its caller went away), it says nothing about the host.
struct Pass<'a> {
    gate: &'a Gate,
    host: String,
    admission: Admission,
    is_settled: bool,
}

impl Pass<'_> {
    fn settle(mut self, is_well: bool) {
        self.is_settled = true;
        self.tell(
            |circuit, admission, now| {
                if is_well { circuit.succeeded(admission) } else { circuit.failed(admission, now) }
            },
        );
    }

    fn tell(&self, what: impl FnOnce(&mut Circuit, Admission, Instant)) {
        if let Some(circuit) = lock(&self.gate.circuits).get_mut(&self.host) {
            let was_open = circuit.is_open();
            what(circuit, self.admission, Instant::now());
            if was_open != circuit.is_open() {
                let is_open = circuit.is_open();
                tracing::warn!(is_open, "the circuit of a host of CXone's has changed");
            }
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.tell(Circuit::abandoned);
        }
    }
}

/// Each change of what these locks hold is complete in itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
