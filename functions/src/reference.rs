//! The reference endpoints that CXone's own API has, too (contract §3), and the documents of everything that we offer.
//! They keep no state and ask for no token: whoever builds the other side tries things out here.

use std::sync::Arc;

use earpiece_core::error::{Fault, Kind};
use earpiece_core::protocol::{InitMessage, Message};
use lambda_http::http::StatusCode;
use serde_json::{Value, json};

use crate::answer::{self, Answer, Problem, Request};
use crate::counters::Counters;
use crate::routes::{self, Route};
use crate::start::{Setup, StartError};

/// `/openapi.json`: the HTTP routes.
pub const OPENAPI: &str = include_str!("reference/openapi.json");

/// `/asyncapi.json`: the WebSockets.
pub const ASYNCAPI: &str = include_str!("reference/asyncapi.json");

/// Size of an init message, as on a socket.
pub const INIT_BYTES_MAX: usize = 64 * 1024;

/// How long others may keep a document, in seconds.
const FRESH_S: u32 = 300;

/// The reference endpoints.
#[derive(Clone)]
pub struct Reference {
    audio_url: Arc<str>,
    counters: Arc<Counters>,
}

impl Reference {
    /// Endpoints that name this audio socket.
    #[must_use]
    pub fn new(audio_url: &str, counters: Arc<Counters>) -> Self {
        Self { audio_url: audio_url.into(), counters }
    }

    /// The function's endpoints.
    ///
    /// # Errors
    /// None; the signature is that of every function.
    #[expect(clippy::unused_async, reason = "every function is opened in the same way")]
    pub async fn open(setup: &Setup) -> Result<Self, StartError> {
        Ok(Self::new(&setup.settings.audio_url, Arc::clone(&setup.counters)))
    }

    /// Answers a request.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Answer {
        let route = Route::of(answer::path_of(request));
        let answer = match route {
            Some(route) if request.method().as_str() != route.method() && self.body_of(route).is_some() => {
                answer::method_not_allowed(route.method())
            }
            Some(Route::TryInit) if request.method().as_str() != Route::TryInit.method() => {
                answer::method_not_allowed(Route::TryInit.method())
            }
            Some(Route::TryInit) => try_init(request).unwrap_or_else(|problem| problem.answer()),
            Some(route) => match self.body_of(route) {
                Some(body) => answer::document(body, FRESH_S),
                None => answer::not_found(),
            },
            None => answer::not_found(),
        };
        routes::counted(&self.counters, route, answer)
    }

    /// What a route without parameters answers; `None` for the others.
    fn body_of(&self, route: Route) -> Option<String> {
        match route {
            Route::ExampleServer => Some(json!({ "url": *self.audio_url }).to_string()),
            Route::ExampleInit => Some(example_init().to_string()),
            Route::OpenApi => Some(OPENAPI.to_owned()),
            Route::AsyncApi => Some(ASYNCAPI.to_owned()),
            _ => None,
        }
    }
}

/// The answer that an audio socket would give to an init message; its token is not judged. A message that would be
/// refused gets the frame that says so, with our usual error beside it.
fn try_init(request: &Request) -> Result<Answer, Problem> {
    let body = answer::json_body(request, INIT_BYTES_MAX)?;
    match InitMessage::parse(body) {
        Ok(_) => Ok(answer::json(StatusCode::OK, &frame(&Message::connected()))),
        Err(error) => {
            let field = error.field.clone();
            let fault = Fault::from(error);
            let mut both = frame(&Message::error(&fault));
            both["error"] = Problem::from(fault).at(field).to_json()["error"].take();
            Ok(answer::json(answer::status_of(Kind::BadInput), &both))
        }
    }
}

fn frame(message: &Message) -> Value {
    serde_json::from_str(&message.to_json()).unwrap_or_default()
}

/// An init message with every documented field (contract §1.2).
#[must_use]
pub fn example_init() -> Value {
    json!({
        "authenticationToken": "Bearer the-token-of-your-script",
        "executionInfo": {
            "contactId": 466_000_000_001_u64,
            "busNo": 4_595_000,
            "requestId": 1,
            "actionType": "AGENTASSIST",
            "actionId": 12,
            "scriptName": "Voice\\AgentAssist",
        },
        "systemTelemetryData": {
            "consumerProcessHost": "media-server-1",
            "consumerProcessName": "MediaServer",
            "consumerProcessVersion": "1.0.0",
            "inContactClusterAlias": "C1",
            "inContactScriptEngineHost": "script-engine-1",
            "consumerMetaData": {},
        },
        "streamPerspective": "TX",
        "appParams": { "language": "en-US" },
        "appConfig": { "id": "cfg-0042" },
    })
}

#[cfg(test)]
mod tests;
