//! Key sets that are fetched: how long they hold, and when to ask again.
//!
//! One fetch is under way at most, whoever waits for it. A set holds for ten minutes; when it cannot be renewed, for a
//! day, so that an issuer who is away for an hour does not take the calls with him. A token that names an unknown key
//! leads to a new fetch, since keys are rotated, but to one in half a minute at most, since names cost nothing.
//!
//! A fetch is a task of its own: callers come with deadlines shorter than its time, and whoever gives up takes nothing
//! with him. It ends, and what came of it is noted.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::keys::{self, Family, Key};
use crate::refusal::Refusal;

/// After so long a set is fetched anew.
const FRESH_MAX: Duration = Duration::from_mins(10);
/// For so long it is used when it cannot be.
const STALE_MAX: Duration = Duration::from_hours(24);
/// Between two fetches for the sake of unknown key ids; and after a failed one while there are old keys to go on with.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// After a failed fetch while a token names a key that is not among the old ones.
const ASK_AGAIN_FOR_UNKNOWN_AFTER: Duration = Duration::from_secs(5);
/// After a failed fetch while there are no keys at all.
const ASK_AGAIN_WITHOUT_KEYS_AFTER: Duration = Duration::from_secs(1);
/// How long a fetch may take, and with it how long a request that cannot do without waits for keys.
pub(crate) const FETCH_MAX: Duration = Duration::from_secs(2);
/// How long the request that begins a fetch waits for it though it has old keys. A function is frozen between its
/// requests: without any wait, its fetches would hardly ever end in time. And most answers come within it, so that a
/// key which was taken away is not accepted once more. Less than any caller's own deadline.
const RENEWAL_AWAITED_MAX: Duration = Duration::from_millis(250);

/// Fetches a JSON Web Key Set as JSON text. It is called again and again, and given up after two seconds.
pub type KeyFetch = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, FetchError>> + Send>> + Send + Sync>;

/// Why a key set could not be fetched. The text is logged: it names no address and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(Cow<'static, str>);

impl FetchError {
    /// A reason for the log.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }
}

/// A fetched set and its age.
pub(crate) struct KeyCache {
    shared: Arc<Shared>,
}

/// What the callers share with the fetch.
struct Shared {
    family: Family,
    fetch: KeyFetch,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// Fetches that ended, either way.
    attempts: u64,
    /// When the last one failed; absent after one that did not.
    failed_at: Option<Instant>,
    /// When one last succeeded that was made because of an unknown key id.
    asked_for_unknown_at: Option<Instant>,
    /// The last fetch that was begun.
    flight: Option<Flight>,
}

#[derive(Clone)]
struct Kept {
    keys: Arc<[Key]>,
    fetched_at: Instant,
}

/// A fetch, seen by those who wait for it. Nothing is ever sent: the fetch is over when its end of the channel is gone,
/// whatever became of it, so that one that panicked or went down with its runtime keeps nobody waiting.
#[derive(Clone)]
struct Flight(watch::Receiver<()>);

impl Flight {
    fn is_under_way(&self) -> bool {
        self.0.has_changed().is_ok()
    }

    async fn end(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// A fetch that a caller may wait for.
enum Boarded {
    /// He began it.
    Own(Flight),
    /// Somebody else had begun it.
    Others(Flight),
}

impl Boarded {
    async fn end(self) {
        match self {
            Self::Own(flight) | Self::Others(flight) => flight.end().await,
        }
    }
}

/// What is known at one moment.
struct View {
    /// Absent when there are none that may still be used.
    keys: Option<Arc<[Key]>>,
    is_fresh: bool,
    attempts: u64,
    has_failed: bool,
}

#[derive(Clone, Copy)]
enum Reason {
    /// The set is missing, or too old.
    Age,
    /// It lacks a key that a token names.
    UnknownKey,
}

impl KeyCache {
    pub(crate) fn new(family: Family, fetch: KeyFetch) -> Self {
        Self { shared: Arc::new(Shared { family, fetch, state: Mutex::default() }) }
    }

    pub(crate) fn family(&self) -> Family {
        self.shared.family
    }

    /// Fetches the set unless a fresh one is there.
    pub(crate) async fn warm(&self) {
        self.fresh_view().await;
    }

    /// The keys that may have signed a token which names `kid`.
    pub(crate) async fn find(&self, kid: Option<&str>) -> Result<Vec<Arc<DecodingKey>>, Refusal> {
        let attempts_before = self.shared.view().attempts;
        let mut view = self.fresh_view().await;
        let mut found = view.chosen(kid)?;
        // Of a token that names no key, more keys would not tell more; but where there are none yet, they may.
        let may_be_new = kid.is_some() || view.has_no_key();
        if found.is_empty() && may_be_new && view.attempts == attempts_before {
            if let Some(fetch) = self.board(Reason::UnknownKey, view.attempts) {
                fetch.end().await;
            }
            view = self.shared.view();
            found = view.chosen(kid)?;
        }
        match found.is_empty() {
            false => Ok(found),
            // It may be a new key, which we could not look for.
            true if view.has_failed => Err(Refusal::KeysUnavailable),
            true => Err(Refusal::UnknownKey),
        }
    }

    /// What is known, after a fetch if one is due. Whoever has keys to go on with waits for little, and never for what
    /// somebody else began.
    async fn fresh_view(&self) -> View {
        let view = self.shared.view();
        if view.is_fresh {
            return view;
        }
        match self.board(Reason::Age, view.attempts) {
            Some(fetch) if view.keys.is_none() => fetch.end().await,
            Some(Boarded::Own(flight)) => {
                // Late is as good: the set is noted when it comes.
                let _ = tokio::time::timeout(RENEWAL_AWAITED_MAX, flight.end()).await;
            }
            Some(Boarded::Others(_)) | None => {}
        }
        self.shared.view()
    }

    /// The fetch that is under way, or a new one, unless one has just ended or it is too early. `attempts_seen` is what
    /// the caller knows.
    fn board(&self, reason: Reason, attempts_seen: u64) -> Option<Boarded> {
        let mut state = self.shared.state();
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.is_under_way()) {
            return Some(Boarded::Others(flight.clone()));
        }
        if !state.may_fetch(reason, attempts_seen, Instant::now()) {
            return None;
        }
        let (under_way, ended) = watch::channel(());
        let flight = Flight(ended);
        state.flight = Some(flight.clone());
        drop(state);
        tokio::spawn(Arc::clone(&self.shared).fetch_once(reason, under_way));
        Some(Boarded::Own(flight))
    }
}

impl Shared {
    /// Fetches the set and notes what came of it. `under_way` is let go last, so that whoever waited sees it.
    async fn fetch_once(self: Arc<Self>, reason: Reason, under_way: watch::Sender<()>) {
        let answer = tokio::time::timeout(FETCH_MAX, (self.fetch)()).await;
        let answer = answer.unwrap_or_else(|_| Err(FetchError::new("it took too long")));
        let outcome = answer.and_then(|text| keys::parse(&text, self.family));
        if let Err(problem) = &outcome {
            tracing::warn!(%problem, "the keys of tokens cannot be fetched");
        }
        self.state().note(reason, outcome.ok(), Instant::now());
        drop(under_way);
    }

    fn view(&self) -> View {
        self.state().view(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyCache({:?})", self.shared.family)
    }
}

impl View {
    fn chosen(&self, kid: Option<&str>) -> Result<Vec<Arc<DecodingKey>>, Refusal> {
        self.keys.as_ref().map(|keys| keys::chosen(keys, kid)).ok_or(Refusal::KeysUnavailable)
    }

    fn has_no_key(&self) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.is_empty())
    }
}

impl State {
    fn view(&self, now: Instant) -> View {
        let age = |kept: &Kept| now.saturating_duration_since(kept.fetched_at);
        View {
            keys: self.kept.as_ref().filter(|kept| age(kept) < STALE_MAX).map(|kept| Arc::clone(&kept.keys)),
            is_fresh: self.kept.as_ref().is_some_and(|kept| age(kept) < FRESH_MAX),
            attempts: self.attempts,
            has_failed: self.failed_at.is_some(),
        }
    }

    /// Whether it is time for a fetch.
    fn may_fetch(&self, reason: Reason, attempts_seen: u64, now: Instant) -> bool {
        if self.attempts != attempts_seen {
            return false;
        }
        let is_past =
            |moment: Option<Instant>, pause| moment.is_none_or(|moment| now.saturating_duration_since(moment) >= pause);
        let has_keys = self.view(now).keys.is_some();
        match reason {
            _ if !has_keys => is_past(self.failed_at, ASK_AGAIN_WITHOUT_KEYS_AFTER),
            Reason::Age => is_past(self.failed_at, ASK_AGAIN_AFTER),
            Reason::UnknownKey => {
                is_past(self.failed_at, ASK_AGAIN_FOR_UNKNOWN_AFTER)
                    && is_past(self.asked_for_unknown_at, ASK_AGAIN_AFTER)
            }
        }
    }

    /// Notes how a fetch ended. One that failed does not count as asked for an unknown key: it told nothing about it.
    fn note(&mut self, reason: Reason, keys: Option<Vec<Key>>, now: Instant) {
        self.attempts += 1;
        self.failed_at = if keys.is_none() { Some(now) } else { None };
        let Some(keys) = keys else { return };
        self.kept = Some(Kept { keys: keys.into(), fetched_at: now });
        if matches!(reason, Reason::UnknownKey) {
            self.asked_for_unknown_at = Some(now);
        }
    }
}
