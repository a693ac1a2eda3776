//! Utterances to the assist app: one `POST` each, as `docs/assist-app.md` says under "Text".
//!
//! | module | holds |
//! | --- | --- |
//! | `settings` | where the app is, and what makes that valid |
//! | `note` | one utterance: what is posted, and kept until it has arrived (pure) |
//! | `answer` | what the app's answer means (pure) |
//!
//! Nothing is tried twice here, and nothing is remembered: an utterance that did not arrive is the caller's, who has it
//! in the store.

mod answer;
mod note;
mod settings;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use earpiece_https::client::{Client, Failure, Limits};
use http::{HeaderName, HeaderValue, Method, Request, header};
use serde_json::Value;

pub use answer::{EVENTS_MAX, RETRY_AFTER_MAX};
pub use note::{UnreadableNote, UtteranceNote};
pub use settings::TextSettings;

use crate::SettingsError;
use settings::Target;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Posts utterances to the assist app. Clones share their connections.
#[derive(Clone)]
pub struct TextRelay {
    client: Client,
    target: Target,
}

/// An utterance that has not arrived, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The app is away, slow, busy or broken, or it is not reached as it should be (401, 403, 404, a redirect): it may
    /// take the same utterance later.
    #[error("the assist app did not take it")]
    Again {
        /// How long the app asks to be left alone, at most [`RETRY_AFTER_MAX`].
        after: Option<Duration>,
    },
    /// The app does not want this one and never will: 400, 409, 410, 413, 415 or 422.
    #[error("the assist app refused it with status {status}")]
    Refused {
        /// Its answer.
        status: u16,
    },
}

impl TextRelay {
    /// Checks the settings and gets ready; nothing is sent before the first [`TextRelay::deliver`].
    ///
    /// # Errors
    ///
    /// Every setting that cannot be used, by name. No value is repeated: the address may hold a token.
    pub fn new(client: Client, settings: TextSettings) -> Result<Self, SettingsError> {
        Ok(Self { client, target: settings.into_target()? })
    }

    /// Judges settings without a client.
    ///
    /// # Errors
    ///
    /// As [`TextRelay::new`].
    pub fn check(settings: &TextSettings) -> Result<(), SettingsError> {
        settings.clone().into_target().map(drop)
    }

    /// Posts one utterance and waits for the app's answer, at most `deadline` and at most the settings' own.
    ///
    /// Returns the events in the answer: JSON objects with a `type`, at most [`EVENTS_MAX`], which hold what the app
    /// says to the agent and are as private as the utterance.
    ///
    /// # Errors
    ///
    /// When the app did not say that it has the utterance. It may have it all the same: the next attempt comes with the
    /// same `Idempotency-Key`.
    pub async fn deliver(&self, note: &UtteranceNote, deadline: Duration) -> Result<Vec<Value>, Undelivered> {
        let limits =
            Limits { deadline: self.target.deadline.min(deadline), answer_bytes_max: self.target.answer_bytes_max };
        match self.client.send(self.request(note), limits).await {
            Ok(answer) => {
                if answer::is_misdirected(answer.status()) {
                    let (contact, request, status) = (note.contact, &note.request_id, answer.status().as_u16());
                    tracing::warn!(%contact, request, status, "the assist app's address or credential has to be corrected");
                }
                answer::read(&answer, now_s())
            }
            Err(failure) => {
                tracing::debug!(contact = %note.contact, request = note.request_id, why = why(failure), "not delivered");
                Err(Undelivered::Again { after: None })
            }
        }
    }

    fn request(&self, note: &UtteranceNote) -> Request<Bytes> {
        let mut request = Request::new(Bytes::from(note.to_payload()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.uri.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::ACCEPT, JSON);
        // Our own ids always fit; the body has it in any case.
        if let Ok(key) = HeaderValue::from_str(&note.request_id) {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        if let Some(authorization) = &self.target.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        request
    }
}

impl fmt::Debug for TextRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TextRelay")
    }
}

const fn why(failure: Failure) -> &'static str {
    match failure {
        Failure::Unreachable => "unreachable",
        Failure::TimedOut => "timed_out",
        Failure::TooLarge => "answer_too_large",
        Failure::Broken => "broken",
    }
}

/// Only for a `Retry-After` that names a date.
fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
