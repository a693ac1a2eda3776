//! The doors of an API Gateway WebSocket API: `$connect`, `$default`, `$disconnect` (`docs/websocket.md`).
//!
//! | module | holds |
//! | --- | --- |
//! | `visit` | an event as the handlers need it: who, when, with what |
//! | `document` | a connection in the store, and the one way to change it |
//! | `entrance` | `$connect` |
//! | `opening` | an init message becomes a stream |
//! | `audio` | a piece of a stream: placed, written, acknowledged, in this order |
//! | `pieces` | where pieces are written: the shim, or the recordings |
//! | `listening` | pages that listen to a contact |
//! | `ending` | a stream ends, a connection is gone |
//! | `limits` | every limit |
//!
//! What a connection may do next is decided by [`earpiece_core::contact::connection`] and by nothing here. A handler
//! reads it, moves it on, and writes it back if nobody else did: API Gateway gives no order and may call side by side,
//! and a call may break off anywhere and come again. Nothing is acknowledged before it is where it stays.

mod audio;
mod document;
mod ending;
mod entrance;
mod limits;
mod listening;
mod opening;
mod pieces;
#[cfg(test)]
mod tests;
mod visit;

use std::sync::Arc;

use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest};
use earpiece_access::{Grant, Guard};
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::error::{Fault, Kind};
use earpiece_core::protocol::Message;
use earpiece_core::telemetry::CONNECTION_MESSAGES;
use earpiece_push::{Push, PushError};
use earpiece_store::{Store, StoreError};
use tracing::{debug, warn};

use crate::answer::status_of;
use crate::auth::Gate;
use crate::counters::Counters;
use crate::settings::Settings;
use crate::start::{Setup, StartError};
pub use limits::Limits;
pub use pieces::Pieces;
use visit::{Content, Visit};

/// What the handlers are made of.
#[derive(Clone)]
pub struct Parts {
    /// Who may come in. The gate below counts and spends; this one only judges.
    pub guard: Guard,
    /// The table.
    pub store: Store,
    /// The way back to connections. Without it nobody hears an answer.
    pub push: Option<Push>,
    /// Where audio goes.
    pub pieces: Pieces,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// The limits.
    pub limits: Limits,
}

/// The rooms behind the doors: every connection of a WebSocket API, whichever function its events reach.
#[derive(Clone)]
pub struct Rooms {
    parts: Parts,
    gate: Gate,
}

/// The answer to API Gateway: a status, or the fault behind it.
type Outcome = Result<(), Fault>;

impl Rooms {
    /// Rooms made of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let gate = Gate::websocket(parts.guard.clone(), Some(parts.store.clone()), Arc::clone(&parts.counters));
        Self { parts, gate }
    }

    /// For `$connect`: no audio comes here, and nothing is answered but by the status.
    ///
    /// # Errors
    /// When the settings of tokens cannot be used.
    pub async fn for_connect(setup: &Setup) -> Result<Self, StartError> {
        Self::open(setup, Pieces::nowhere(), None).await
    }

    /// For `$default`.
    ///
    /// # Errors
    /// When settings cannot be used, or it is not said where connections are reached or where audio goes.
    pub async fn for_messages(setup: &Setup) -> Result<Self, StartError> {
        let Some(push) = setup.push().await else {
            return Err(StartError::new("EARPIECE_CONNECTIONS_URL is not set: nobody would hear an answer"));
        };
        Self::open(setup, Pieces::open(setup)?, Some(push)).await
    }

    /// For `$disconnect`.
    ///
    /// # Errors
    /// When settings cannot be used, or it is not said where audio goes.
    pub async fn for_disconnect(setup: &Setup) -> Result<Self, StartError> {
        Self::open(setup, Pieces::open(setup)?, None).await
    }

    async fn open(setup: &Setup, pieces: Pieces, push: Option<Push>) -> Result<Self, StartError> {
        let guard = setup.guard(&setup.settings.audio_tokens).await?;
        Ok(Self::new(Parts {
            guard,
            store: setup.store().await,
            push,
            pieces,
            counters: Arc::clone(&setup.counters),
            limits: Limits::of(&setup.settings),
        }))
    }

    /// `$connect`: 200 lets the connection in, 401 and 403 do not.
    pub async fn connect(&self, event: ApiGatewayWebsocketProxyRequest) -> ApiGatewayProxyResponse {
        let outcome = match Visit::read(&event) {
            Some(visit) => self.enter(&visit, visit::tokens(&event)).await,
            None => Err(no_connection()),
        };
        respond(outcome)
    }

    /// `$default`, and every other route that carries messages.
    pub async fn message(&self, event: ApiGatewayWebsocketProxyRequest) -> ApiGatewayProxyResponse {
        let outcome = match Visit::read(&event) {
            Some(visit) => match visit::content(event.body.as_deref().unwrap_or_default(), event.is_base64_encoded) {
                Ok(Content::Nothing) => Ok(()),
                Ok(Content::Audio(samples)) => self.hear(&visit, &samples).await,
                Ok(Content::Json(message)) => self.read(&visit, message).await,
                Err(fault) => self.object(&visit, &fault).await,
            },
            None => Err(no_connection()),
        };
        respond(outcome)
    }

    /// `$disconnect`: best effort of API Gateway's, so everything that it does happens without it, too, only later.
    pub async fn disconnect(&self, event: ApiGatewayWebsocketProxyRequest) -> ApiGatewayProxyResponse {
        let reason = ending::reason_of(event.request_context.disconnect_status_code);
        let outcome = match Visit::read(&event) {
            Some(visit) => self.leave(&visit, reason).await,
            None => Err(no_connection()),
        };
        respond(outcome)
    }

    /// A JSON message: an action of a page, or CXone's init message.
    async fn read(&self, visit: &Visit, message: serde_json::Value) -> Outcome {
        let is_init = message.as_object().is_some_and(|fields| {
            fields.keys().any(|name| name.eq_ignore_ascii_case("executionInfo")) || !fields.contains_key("action")
        });
        if is_init { self.begin(visit, message).await } else { self.act(visit, &message).await }
    }

    /// What the authorizer said with this event, or what was found out at `$connect`.
    fn granted(&self, visit: &Visit, kept: Option<&Grant>) -> Option<Grant> {
        let everybody = self.gate.is_open().then(Grant::everybody);
        everybody.or_else(|| visit.granted.clone()).or_else(|| kept.cloned())
    }

    /// Tells the peer what is wrong with its message. The connection stays.
    async fn object(&self, visit: &Visit, fault: &Fault) -> Outcome {
        debug!(kind = fault.kind.label(), reason = %fault.public, "a message was refused");
        self.count("refused");
        self.say(visit, &Message::error(fault).to_json()).await?;
        Ok(())
    }

    /// The same, and the connection is closed.
    async fn turn_out(&self, visit: &Visit, fault: &Fault) -> Outcome {
        self.object(visit, fault).await?;
        let Some(push) = &self.parts.push else {
            return Ok(());
        };
        match push.close(&visit.connection).await {
            Ok(()) | Err(PushError::Gone) => {}
            // It is over all the same: nothing that comes on it is taken, and API Gateway ends what is idle.
            Err(error) => warn!(%error, "a connection could not be closed"),
        }
        Ok(())
    }

    /// Sends a frame. Whoever is gone is seen out here and now, and that is no fault.
    async fn say(&self, visit: &Visit, frame: &str) -> Outcome {
        let Some(push) = &self.parts.push else {
            return Ok(());
        };
        match push.post(&visit.connection, frame.as_bytes()).await {
            Ok(()) => Ok(()),
            Err(PushError::Gone) => self.prune(visit, CloseReason::PeerVanished).await,
            Err(error) => {
                warn!(%error, "an answer could not be sent");
                Err(Fault::new(error.kind(), "the answer could not be sent"))
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        self.parts.counters.count(CONNECTION_MESSAGES, &[("outcome", outcome)]);
    }
}

impl Limits {
    /// The limits as they are set.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self { quiet: settings.quiet, ..Self::default() }
    }
}

/// API Gateway wants a status. For messages it shows nothing of it to the peer.
fn respond(outcome: Outcome) -> ApiGatewayProxyResponse {
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = match outcome {
        Ok(()) => 200,
        Err(fault) => {
            debug!(kind = fault.kind.label(), reason = %fault.public, "answered with a fault");
            i64::from(status_of(fault.kind).as_u16())
        }
    };
    response
}

fn no_connection() -> Fault {
    Fault::new(Kind::BadInput, "`requestContext.connectionId` is missing")
}

/// The store's error as a fault, noted where it becomes one.
fn away(operation: &'static str, error: &StoreError) -> Fault {
    warn!(operation, %error, "the store did not do it");
    Fault::new(error.kind(), "the state of the connection is not available; try again")
}
