//! One thing that came to the platform.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[cfg(doc)]
use crate::platform::Uplink;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A request for a token, in any of its forms. The id is the client's or the access key's.
    Token,
    /// A request for one of the two discovery documents.
    Discovery,
    /// The `auth` frame of a suggestion socket; its token is not kept.
    Auth,
    /// A suggestion frame. The id is the suggestion's.
    Suggest,
    /// A knowledge search; the body is its query.
    Search,
    /// Posted insights. The id is the first card's.
    Insight,
    /// Posted feedback. The id is the insight's.
    Feedback,
    /// A posted popup card. The id is the card's.
    Card,
    /// A socket was opened; the id is its [`Uplink`] and the status 101, or what it was refused with.
    Opened,
    /// A socket was closed; the id is its [`Uplink`] and the status the close code that was seen or sent, 1006 without.
    Closed,
    /// Something that CXone's documents do not allow; the body says what. The id is the endpoint.
    Violation,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Token,
        Self::Discovery,
        Self::Auth,
        Self::Suggest,
        Self::Search,
        Self::Insight,
        Self::Feedback,
        Self::Card,
        Self::Opened,
        Self::Closed,
        Self::Violation,
    ];

    /// The word of the control interface.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Discovery => "discovery",
            Self::Auth => "auth",
            Self::Suggest => "suggest",
            Self::Search => "search",
            Self::Insight => "insight",
            Self::Feedback => "feedback",
            Self::Card => "card",
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Violation => "violation",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == word)
    }
}

/// Something that came to the platform.
#[derive(Clone)]
pub struct Record {
    /// Its place in the order of arrival, from 1 and without holes.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The TCP connection that it came on, counted from 1.
    pub connection: u64,
    /// What it is about.
    pub kind: Kind,
    /// Which interaction it names.
    pub interaction: Option<Arc<str>>,
    /// The id that it names; see [`Kind`].
    pub id: Option<Arc<str>>,
    /// What it was answered: an HTTP status; of frames 200 when they were taken and 4xx when not.
    pub status: u16,
    pub(super) body: Option<Arc<str>>,
}

impl Record {
    /// What came, as text; none once newer bodies needed the room.
    #[must_use]
    pub fn body(&self) -> Option<&str> {
        self.body.as_deref()
    }

    /// What came, as JSON.
    #[must_use]
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(self.body()?).ok()
    }

    /// Whether it was taken.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// Whether it names this interaction.
    #[must_use]
    pub fn is_of(&self, interaction: &str) -> bool {
        self.interaction.as_deref() == Some(interaction)
    }

    /// The form of the control interface. What people said is in it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let body = self.json().or_else(|| self.body().map(Value::from));
        json!({
            "number": self.number, "atMs": self.at_ms, "connection": self.connection, "kind": self.kind,
            "interactionId": self.interaction.as_deref(), "id": self.id.as_deref(), "status": self.status, "body": body,
        })
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.body().map_or(0, str::len);
        write!(f, "{} #{} status {} ({size} bytes)", self.kind.label(), self.number, self.status)
    }
}

/// A record that is about to be made.
#[derive(Default)]
pub(crate) struct Note<'a> {
    pub(crate) interaction: Option<&'a str>,
    pub(crate) id: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) body: &'a str,
}
