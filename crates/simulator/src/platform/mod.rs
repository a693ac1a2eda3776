//! CXone's platform side: OAuth, discovery, REST and the three sockets of contract §5 A–C on one port, for tests and for
//! whoever has no tenant.
//!
//! | path | what it is |
//! | --- | --- |
//! | `POST /oauth2/token`, `/oauth/token`, `/authentication/v1/token/access-key` | tokens |
//! | `GET /.well-known/openid-configuration`, `/.well-known/cxone-configuration?tenantId=` | discovery |
//! | `GET /api/v2/knowledge/articles/search` | a knowledge base that ranks |
//! | `POST /api/v2/agentassist/insights`, `/api/v2/ai/training/feedback` | insights |
//! | `POST /api/v2/agentassist/interactions/{id}/cards` | popups |
//! | `/ws/v1`, `/cxoneapi/v2/agentassist/stream`, `/api/v2/interactions/stream` | the sockets |
//! | `/_platform/…` | control: what was received, events, faults; for this machine only |
//!
//! Bodies and frames are judged strictly: what CXone's documents do not name is answered 400, or not at all, and written
//! down as a violation. What came is asked for with [`Platform::look`], waited for with [`Platform::wait_for`].

pub mod articles;
mod check;
mod control;
pub mod faults;
mod oauth;
pub mod received;
mod reply;
mod rest;
mod search;
mod serve;
pub mod settings;
mod shared;
mod socket;
#[cfg(test)]
mod tests;
mod tokens;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use articles::Article;
pub use faults::{Fault, FaultError, FaultKind, On};
pub use received::{Answer, CardSeen, InteractionSeen, Kind, OpenSocket, Received, Record, SuggestionSeen, Tally};
pub use settings::{AccessKey, AnswerPolicy, Client, PlatformSettings};
use shared::{Outgoing, Shared};

/// How long [`Platform::shutdown`] waits for connections to close.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// One of the three sockets that CXone's platform offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Uplink {
    /// A: suggestions in, acknowledgements and answers out.
    Suggestions,
    /// B: transcripts, dialog states and answers to insights.
    Insights,
    /// C: interactions with their sentiment and waiting time.
    Interactions,
}

impl Uplink {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Suggestions, Self::Insights, Self::Interactions];

    /// The word of the control interface.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Suggestions => "suggestions",
            Self::Insights => "insights",
            Self::Interactions => "interactions",
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Suggestions => "/ws/v1",
            Self::Insights => "/cxoneapi/v2/agentassist/stream",
            Self::Interactions => "/api/v2/interactions/stream",
        }
    }

    /// The scopes of which a token needs one; two documents name the third socket's differently.
    const fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Suggestions => &["agentassist:write"],
            Self::Insights => &["agentassist:read"],
            Self::Interactions => &["interactions:read", "interaction:read"],
        }
    }
}

/// Which of the open sockets get an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum To {
    /// Every one.
    #[default]
    All,
    /// The one that was opened last.
    Newest,
}

/// A running platform. Dropping it ends every connection at once; [`Platform::shutdown`] closes them.
#[derive(Debug)]
pub struct Platform {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Platform {
    /// Listens on an address and serves it.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub async fn bind(address: impl ToSocketAddrs, settings: PlatformSettings) -> io::Result<Self> {
        Self::start(TcpListener::bind(address).await?, settings)
    }

    /// Serves a listener.
    ///
    /// # Errors
    ///
    /// When the listener does not know its own address.
    pub fn start(listener: TcpListener, settings: PlatformSettings) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(listener.local_addr()?, settings));
        let accepting = tokio::spawn(serve::accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The base of its REST paths: `http://…`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// The URL of a socket, without a token.
    #[must_use]
    pub fn socket_url(&self, uplink: Uplink) -> String {
        format!("ws://{}{}", self.shared.address, uplink.path())
    }

    /// Every record that is still kept, in order of arrival. [`Platform::look`] copies nothing.
    #[must_use]
    pub fn received(&self) -> Vec<Record> {
        self.look(|received| received.records().cloned().collect())
    }

    /// The records of one kind.
    #[must_use]
    pub fn received_of(&self, kind: Kind) -> Vec<Record> {
        self.look(|received| received.of(kind).cloned().collect())
    }

    /// The counts.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.look(Received::tally)
    }

    /// Looks at everything that came so far. What comes now waits meanwhile.
    pub fn look<T>(&self, see: impl FnOnce(&Received) -> T) -> T {
        see(&self.shared.received())
    }

    /// Looks after every change until `find` finds something, for at most `within`; none when it did not. Sockets that
    /// open, become ready and close are changes too.
    pub async fn wait_for<T>(&self, within: Duration, find: impl FnMut(&Received) -> Option<T>) -> Option<T> {
        self.shared.wait_for(within, find).await
    }

    /// Waits until a socket of this sort is open and authorised, for at most `within`; whether there is one.
    pub async fn wait_for_socket(&self, uplink: Uplink, within: Duration) -> bool {
        self.wait_for(within, |received| (received.ready(uplink) > 0).then_some(())).await.is_some()
    }

    /// Sends an event on sockets of one sort; returns to how many of them. Nothing is kept for sockets that open later.
    pub async fn send_event(&self, uplink: Uplink, event: &Value, to: To) -> usize {
        self.send_text(uplink, event.to_string(), to).await
    }

    /// Sends a text frame, whatever is in it; returns to how many sockets.
    pub async fn send_text(&self, uplink: Uplink, text: String, to: To) -> usize {
        self.shared.send(uplink, &Outgoing::Frame(text.into()), to).await
    }

    /// Lets the agent accept a suggestion; whether it is on the desktop and had no answer yet. The frame goes to the newest
    /// suggestion socket, or waits for the next one. One that is accepted already is accepted again on the wire.
    pub async fn accept(&self, interaction: &str, suggestion: &str) -> bool {
        self.shared.answer(interaction, suggestion, Answer::Accepted).await
    }

    /// Lets the agent dismiss a suggestion; otherwise as [`Platform::accept`].
    pub async fn dismiss(&self, interaction: &str, suggestion: &str) -> bool {
        self.shared.answer(interaction, suggestion, Answer::Dismissed).await
    }

    /// What becomes of suggestions from now on.
    pub fn set_policy(&self, policy: AnswerPolicy) {
        *self.shared.policy() = policy;
    }

    /// Lets something go wrong.
    ///
    /// # Errors
    ///
    /// When it cannot go wrong there, or too much is to go wrong already.
    pub fn fault(&self, fault: Fault) -> Result<(), FaultError> {
        self.shared.fault(fault)
    }

    /// The faults that are waiting to happen.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.faults().waiting()
    }

    /// Nothing goes wrong any more.
    pub fn clear_faults(&self) {
        self.shared.faults().clear();
    }

    /// Revokes every token and closes the sockets that were opened with one; returns how many tokens.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn revoke(&self) -> usize {
        self.shared.revoke_all()
    }

    /// Accepts nothing more, closes every connection (sockets with 1001), and returns when all are gone, after
    /// [`STOP_TIMEOUT`] at the latest.
    pub async fn shutdown(mut self) {
        self.shared.stop.send_replace(true);
        // Every socket closes within a bound; what is left then is a client that keeps an HTTP connection open.
        let _ = timeout(STOP_TIMEOUT, &mut self.accepting).await;
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
