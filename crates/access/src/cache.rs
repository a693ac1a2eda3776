//! Key sets that are fetched: how long they hold, and when to ask again.
//!
//! One fetch is under way at most, whoever waits for it. A set holds for ten minutes; when it cannot be renewed, for a
//! day, so that an issuer who is away for an hour does not take the calls with him. A token that names an unknown key
//! leads to a new fetch, since keys are rotated, but to one in half a minute at most, since names cost nothing.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use tokio::time::Instant;

use crate::keys::{self, Family, Key};
use crate::refusal::Refusal;

/// After so long a set is fetched anew.
const FRESH_MAX: Duration = Duration::from_mins(10);
/// For so long it is used when it cannot be.
const STALE_MAX: Duration = Duration::from_hours(24);
/// Between two fetches for the sake of unknown key ids; and after a failed one while there are old keys to go on with.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// After a failed fetch while there are no keys at all.
const ASK_AGAIN_WITHOUT_KEYS_AFTER: Duration = Duration::from_secs(1);
/// How long a request waits for keys.
pub(crate) const FETCH_MAX: Duration = Duration::from_secs(2);

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
    family: Family,
    fetch: KeyFetch,
    state: Mutex<State>,
    /// Held by whoever fetches.
    flight: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// Fetches that ended, either way.
    attempts: u64,
    /// When the last one failed; absent after one that did not.
    failed_at: Option<Instant>,
    /// When one was last made because of an unknown key id.
    asked_for_unknown_at: Option<Instant>,
}

#[derive(Clone)]
struct Kept {
    keys: Arc<[Key]>,
    fetched_at: Instant,
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
        Self { family, fetch, state: Mutex::default(), flight: tokio::sync::Mutex::default() }
    }

    pub(crate) const fn family(&self) -> Family {
        self.family
    }

    /// Fetches the set unless a fresh one is there.
    pub(crate) async fn warm(&self) {
        self.fresh_view().await;
    }

    /// The keys that may have signed a token which names `kid`.
    pub(crate) async fn find(&self, kid: Option<&str>) -> Result<Vec<Arc<DecodingKey>>, Refusal> {
        let attempts_before = self.view().attempts;
        let mut view = self.fresh_view().await;
        let mut found = view.chosen(kid)?;
        // Of a token that names no key, more keys would not tell more; but where there are none yet, they may.
        let may_be_new = kid.is_some() || view.has_no_key();
        if found.is_empty() && may_be_new && view.attempts == attempts_before {
            self.fetch_once(Reason::UnknownKey, view.attempts).await;
            view = self.view();
            found = view.chosen(kid)?;
        }
        match found.is_empty() {
            false => Ok(found),
            // It may be a new key, which we could not look for.
            true if view.has_failed => Err(Refusal::KeysUnavailable),
            true => Err(Refusal::UnknownKey),
        }
    }

    /// What is known, after a fetch if one is due.
    async fn fresh_view(&self) -> View {
        let view = self.view();
        // Whoever has keys to go on with does not wait for somebody else's fetch.
        if view.is_fresh || view.keys.is_some() && self.flight.try_lock().is_err() {
            return view;
        }
        self.fetch_once(Reason::Age, view.attempts).await;
        self.view()
    }

    /// Fetches the set, unless somebody has just done so or it is too early. `attempts_seen` is what the caller knows.
    async fn fetch_once(&self, reason: Reason, attempts_seen: u64) {
        let _flight = self.flight.lock().await;
        if !self.state().may_fetch(reason, attempts_seen, Instant::now()) {
            return;
        }
        let answer = tokio::time::timeout(FETCH_MAX, (self.fetch)()).await;
        let answer = answer.unwrap_or_else(|_| Err(FetchError::new("it took too long")));
        let outcome = answer.and_then(|text| keys::parse(&text, self.family));
        if let Err(problem) = &outcome {
            tracing::warn!(%problem, "the keys of tokens cannot be fetched");
        }
        self.state().note(outcome.ok(), Instant::now());
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
        write!(f, "KeyCache({:?})", self.family)
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

    /// Whether it is time for a fetch. A fetch because of an unknown key counts as begun.
    fn may_fetch(&mut self, reason: Reason, attempts_seen: u64, now: Instant) -> bool {
        if self.attempts != attempts_seen {
            return false;
        }
        let has_keys = self.view(now).keys.is_some();
        let pause = if has_keys { ASK_AGAIN_AFTER } else { ASK_AGAIN_WITHOUT_KEYS_AFTER };
        let is_past =
            |moment: Option<Instant>, pause| moment.is_none_or(|moment| now.saturating_duration_since(moment) >= pause);
        match reason {
            Reason::Age => is_past(self.failed_at, pause),
            Reason::UnknownKey => {
                let may = is_past(self.failed_at, pause) && is_past(self.asked_for_unknown_at, ASK_AGAIN_AFTER);
                if may {
                    self.asked_for_unknown_at = Some(now);
                }
                may
            }
        }
    }

    fn note(&mut self, keys: Option<Vec<Key>>, now: Instant) {
        self.attempts += 1;
        self.failed_at = if keys.is_none() { Some(now) } else { None };
        if let Some(keys) = keys {
            self.kept = Some(Kept { keys: keys.into(), fetched_at: now });
        }
    }
}
