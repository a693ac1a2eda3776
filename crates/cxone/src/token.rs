//! Tokens: kept, renewed early, and asked for once however many wait.
//!
//! A request for a token is a task of its own: whoever gives up waiting takes nothing with him. While an old token is
//! still good, a new one is fetched behind it and nobody waits. A token that CXone refuses is thrown away by its number,
//! so that a hundred requests which were refused at once lead to one new token, and not to a hundred.
//!
//! Lives are counted from the answer by the monotonic clock; no wall clock is asked.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use earpiece_core::secret::Secret;
use governor::Quota;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::credentials::Keeper;
use crate::directory::Directory;
use crate::error::CxoneError;
use crate::gate::{Bucket, Gate, bucket};
use crate::grant;

/// All of a request: discovery, reading of credentials, the request, and a second one with credentials that changed.
const FETCH_MAX: Duration = Duration::from_secs(45);
/// After a request that failed and might go better: nobody asks before.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// After a request that was refused: only other credentials could help.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Tokens that are fetched only because CXone refused the one before, or because a socket wants a new one: so many at
/// once, and then one in two seconds. A platform that refuses every token must not get us to run down its issuer.
const FORCED_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
const FORCED_EVERY: Duration = Duration::from_secs(2);

/// A token. Has no `Debug`.
pub(crate) struct Token {
    pub(crate) value: Secret,
    serial: u64,
    renew_at: Instant,
    expires_at: Instant,
}

/// What came of a request.
type Outcome = Result<Arc<Token>, CxoneError>;

/// A request that is under way, seen by those who wait for it.
type Flight = watch::Receiver<Option<Outcome>>;

/// The tokens of one set of credentials. Clones share them.
#[derive(Clone)]
pub(crate) struct Tokens {
    shared: Arc<Shared>,
}

struct Shared {
    gate: Arc<Gate>,
    keeper: Arc<Keeper>,
    directory: Arc<Directory>,
    scope: Option<String>,
    margin: Duration,
    forced: Bucket,
    renewals: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Option<Arc<Token>>,
    flight: Option<Flight>,
    /// What the last request came to if it failed, and until when nobody asks again.
    failed: Option<(CxoneError, Instant)>,
    /// CXone refused a token: the credentials may have changed.
    is_suspect: bool,
    /// Changes of the credentials. What was asked for with older ones is not kept.
    epoch: u64,
    serials: u64,
}

impl Tokens {
    pub(crate) fn new(
        gate: Arc<Gate>,
        keeper: Arc<Keeper>,
        directory: Arc<Directory>,
        scope: Option<String>,
        margin: Duration,
    ) -> Self {
        let quota = Quota::with_period(FORCED_EVERY).unwrap_or(Quota::per_minute(FORCED_BURST));
        let shared = Shared {
            gate,
            keeper,
            directory,
            scope,
            margin,
            forced: bucket(quota.allow_burst(FORCED_BURST)),
            renewals: AtomicU64::new(0),
            state: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A token that is good for now.
    pub(crate) async fn current(&self) -> Outcome {
        let flight = {
            let mut state = self.shared.state();
            let now = Instant::now();
            if let Some(token) = state.kept.clone().filter(|token| now < token.expires_at) {
                if now >= token.renew_at {
                    // Whether it succeeds is seen by whoever comes when the old one has ended.
                    let _ = self.board(&mut state, now);
                }
                return Ok(token);
            }
            self.board(&mut state, now)?
        };
        landed(flight).await
    }

    /// A token that is asked for now, or was while this waited.
    pub(crate) async fn renewed(&self) -> Outcome {
        if self.shared.forced.check().is_err() {
            return self.current().await;
        }
        let flight = self.board(&mut self.shared.state(), Instant::now())?;
        landed(flight).await
    }

    /// The token to try again with after CXone answered 401 to `token`.
    ///
    /// # Errors
    ///
    /// When there is no other one.
    pub(crate) async fn instead_of(&self, token: &Token) -> Outcome {
        if !self.throw_away(token) {
            return Err(CxoneError::Unauthorized);
        }
        self.current().await
    }

    /// Forgets a token unless it was replaced already. False when so many were refused that no more are asked for.
    fn throw_away(&self, token: &Token) -> bool {
        let mut state = self.shared.state();
        if state.kept.as_ref().is_none_or(|kept| kept.serial != token.serial) {
            return true;
        }
        if self.shared.forced.check().is_err() {
            return false;
        }
        state.kept = None;
        state.is_suspect = true;
        true
    }

    /// The credentials have changed.
    pub(crate) fn forget(&self) {
        self.shared.state().forget();
    }

    /// Tokens that were fetched.
    pub(crate) fn renewals(&self) -> u64 {
        self.shared.renewals.load(Ordering::Relaxed)
    }

    /// The request that is under way, or a new one unless it is too early.
    fn board(&self, state: &mut State, now: Instant) -> Result<Flight, CxoneError> {
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return Ok(flight.clone());
        }
        if let Some((error, until)) = &state.failed
            && now < *until
        {
            return Err(with_pause(error, *until - now));
        }
        let (under_way, flight) = watch::channel(None);
        state.flight = Some(flight.clone());
        let is_suspect = std::mem::take(&mut state.is_suspect);
        tokio::spawn(Arc::clone(&self.shared).fetch_once(is_suspect, state.epoch, under_way));
        Ok(flight)
    }
}

/// Waits for what comes of a request. One whose task is gone (its runtime ended) keeps nobody waiting.
async fn landed(mut flight: Flight) -> Outcome {
    match flight.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(CxoneError::Unavailable { retry_after: None })),
        Err(_) => Err(CxoneError::Unavailable { retry_after: None }),
    }
}

/// The same failure, told to somebody who came later.
fn with_pause(error: &CxoneError, left: Duration) -> CxoneError {
    match error {
        CxoneError::RateLimited { .. } => CxoneError::RateLimited { retry_after: left },
        CxoneError::CircuitOpen { .. } => CxoneError::CircuitOpen { retry_after: left },
        CxoneError::Unavailable { .. } => CxoneError::Unavailable { retry_after: Some(left) },
        other => other.clone(),
    }
}

impl Shared {
    /// Asks for a token and notes what came of it.
    async fn fetch_once(self: Arc<Self>, is_suspect: bool, epoch: u64, under_way: watch::Sender<Option<Outcome>>) {
        let fetched = tokio::time::timeout(FETCH_MAX, self.fetch(is_suspect)).await;
        let fetched = fetched.unwrap_or(Err(CxoneError::Unavailable { retry_after: None }));
        if let Err(error) = &fetched {
            tracing::warn!(%error, "CXone gave no token");
        }
        let outcome = self.note(fetched, epoch);
        under_way.send_replace(Some(outcome));
    }

    async fn fetch(&self, is_suspect: bool) -> Result<grant::Granted, CxoneError> {
        if is_suspect {
            self.reload().await;
        }
        let credentials = self.keeper.current().await?;
        let refused = match self.ask(&credentials).await {
            Err(CxoneError::Unauthorized) => CxoneError::Unauthorized,
            other => return other,
        };
        if !is_suspect && self.reload().await {
            let credentials = self.keeper.current().await?;
            return self.ask(&credentials).await;
        }
        Err(refused)
    }

    async fn ask(&self, credentials: &crate::credentials::Credentials) -> Result<grant::Granted, CxoneError> {
        let addresses = self.directory.addresses().await?;
        grant::ask(&self.gate, &addresses, credentials, self.scope.as_deref()).await
    }

    /// Whether there are other credentials now.
    async fn reload(&self) -> bool {
        match self.keeper.reload().await {
            Ok(has_changed) => has_changed,
            Err(error) => {
                tracing::warn!(%error, "CXone's credentials cannot be read again: those that are known stay");
                false
            }
        }
    }

    fn note(&self, fetched: Result<grant::Granted, CxoneError>, epoch: u64) -> Outcome {
        let now = Instant::now();
        let mut state = self.state();
        let is_of_now = state.epoch == epoch;
        if is_of_now {
            state.flight = None;
        }
        let granted = match fetched {
            Ok(granted) => granted,
            Err(error) => {
                let pause = error.retry_after().unwrap_or(match error {
                    CxoneError::Unauthorized | CxoneError::Forbidden { .. } => REFUSED_PAUSE,
                    _ => FAILED_PAUSE,
                });
                if is_of_now {
                    state.failed = Some((error.clone(), now + pause));
                }
                return Err(error);
            }
        };
        state.serials += 1;
        let margin = self.margin.min(granted.life / 2);
        let token = Arc::new(Token {
            value: granted.token,
            serial: state.serials,
            renew_at: now + granted.life - margin,
            expires_at: now + granted.life,
        });
        if is_of_now {
            state.failed = None;
            state.kept = Some(Arc::clone(&token));
        }
        self.renewals.fetch_add(1, Ordering::Relaxed);
        Ok(token)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self) {
        self.kept = None;
        self.failed = None;
        self.flight = None;
        self.epoch += 1;
    }
}
