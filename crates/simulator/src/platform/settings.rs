//! How the platform behaves: who may call it, for how long, and what its agents do with suggestions.

use std::num::NonZeroU32;
use std::time::Duration;

use earpiece_core::secret::Secret;
use serde::Deserialize;

use super::articles::{self, Article};

/// Every scope that an endpoint here asks for. `interaction:read` is one document's name for `interactions:read`.
pub const SCOPES: [&str; 6] = [
    "agentassist:read",
    "agentassist:write",
    "ai:training:write",
    "interaction:read",
    "interactions:read",
    "knowledge:read",
];

/// The id of the default client, and of the default access key.
pub const CLIENT_ID: &str = "earpiece";

/// The secret of the default client, and of the default access key. It guards nothing but sample articles.
pub const CLIENT_SECRET: &str = "earpiece-secret";

/// The default tenant.
pub const TENANT: &str = "earpiece-tenant";

/// How the platform behaves.
#[derive(Debug, Clone)]
pub struct PlatformSettings {
    /// OAuth clients. Default: [`CLIENT_ID`] with every scope.
    pub clients: Vec<Client>,
    /// Access keys of users. Default: [`CLIENT_ID`] with every scope.
    pub access_keys: Vec<AccessKey>,
    /// The one tenant that discovery knows.
    pub tenant: String,
    /// How long a token is good for. Default: an hour, as CXone's.
    pub token_life: Duration,
    /// What the knowledge search looks in. Default: sample articles of a telephone company.
    pub articles: Vec<Article>,
    /// What becomes of suggestions. Default: acknowledged, and never answered.
    pub policy: AnswerPolicy,
    /// How long a suggestion socket's token is judged. Whoever sends before that is over has not waited for
    /// `auth.success`.
    pub auth_pause: Duration,
    /// Records of what was received that are kept at most; the oldest go first.
    pub records_max: usize,
    /// Bytes of bodies that are kept at most. Older records lose their body and stay.
    pub body_bytes_max: usize,
    /// Connections at one time; further ones are closed at once.
    pub connections_max: usize,
}

impl Default for PlatformSettings {
    fn default() -> Self {
        Self {
            clients: vec![Client::new(CLIENT_ID, CLIENT_SECRET)],
            access_keys: vec![AccessKey::new(CLIENT_ID, CLIENT_SECRET)],
            tenant: TENANT.to_owned(),
            token_life: Duration::from_hours(1),
            articles: articles::samples(),
            policy: AnswerPolicy::default(),
            auth_pause: Duration::from_millis(5),
            records_max: 1_000_000,
            body_bytes_max: 128 * 1024 * 1024,
            connections_max: 10_000,
        }
    }
}

/// An OAuth client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// The scopes it may ask for, and gets when it asks for none.
    pub scopes: Vec<String>,
}

impl Client {
    /// A client with every scope.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: Secret::new(secret), scopes: every_scope() }
    }

    /// The same client with these scopes only.
    #[must_use]
    pub fn with_scopes(mut self, scopes: &[&str]) -> Self {
        self.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        self
    }
}

/// A user's access key.
#[derive(Debug, Clone)]
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// What it may do.
    pub scopes: Vec<String>,
}

impl AccessKey {
    /// A key with every scope.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: Secret::new(secret), scopes: every_scope() }
    }
}

fn every_scope() -> Vec<String> {
    SCOPES.iter().map(|&scope| scope.to_owned()).collect()
}

/// What becomes of a suggestion once it is acknowledged. Suggestions are counted over all interactions, each id once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AnswerPolicy {
    /// Every how-manieth is accepted.
    pub accept_every: Option<NonZeroU32>,
    /// Every how-manieth is dismissed, unless it is accepted.
    pub dismiss_every: Option<NonZeroU32>,
    /// How long the agent thinks about it, in milliseconds.
    pub after_ms: u64,
    /// Whether acknowledgements are left out.
    pub never_ack: bool,
}

impl AnswerPolicy {
    /// Accepts every `accept`-th suggestion and dismisses every `dismiss`-th of the others, at once. 0 is never.
    #[must_use]
    pub fn every(accept: u32, dismiss: u32) -> Self {
        Self { accept_every: NonZeroU32::new(accept), dismiss_every: NonZeroU32::new(dismiss), ..Self::default() }
    }

    /// What the agent does with the n-th suggestion, counted from 1.
    pub(crate) fn answer_to(&self, nth: u64) -> Option<super::received::Answer> {
        let is_due = |every: Option<NonZeroU32>| every.is_some_and(|every| nth.is_multiple_of(u64::from(every.get())));
        if is_due(self.accept_every) {
            return Some(super::received::Answer::Accepted);
        }
        is_due(self.dismiss_every).then_some(super::received::Answer::Dismissed)
    }
}
