//! The Lambda authorizer: one verifier for the HTTP API (payload 2.0, simple response) and for `$connect` of the
//! WebSocket API (IAM policy).
//!
//! It judges tokens and says in the context what they are good for; whoever handles the request compares that with the
//! contact, which is often known only then. Results must not be cached by API Gateway: a one-time token is spent here.

use std::sync::Arc;

use earpiece_access::{Grant, Refusal, Scope, Wanted};
use earpiece_core::error::Kind;
use serde_json::{Map, Value, json};

use crate::auth::{Gate, context_of};
use crate::clock::wall_s;
use crate::routes::Route;
use crate::start::{Setup, StartError};

/// Where a page may put its token, since a browser cannot set a header on a socket.
const QUERY_NAMES: [&str; 3] = ["token", "access_token", "authenticationToken"];

/// What API Gateway turns into 401, word for word.
const UNAUTHORIZED: &str = "Unauthorized";

/// The authorizer.
pub struct Authorizer {
    http: Gate,
    websocket: Gate,
}

impl Authorizer {
    /// An authorizer for both kinds of API.
    #[must_use]
    pub const fn new(http: Gate, websocket: Gate) -> Self {
        Self { http, websocket }
    }

    /// The function's authorizer.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub async fn open(setup: &Setup) -> Result<Self, StartError> {
        let store = Some(setup.store().await);
        let http = setup.guard(&setup.settings.text_tokens).await?;
        let websocket = setup.guard(&setup.settings.audio_tokens).await?;
        Ok(Self::new(
            Gate::http(http, store.clone(), Arc::clone(&setup.counters)),
            Gate::websocket(websocket, store, Arc::clone(&setup.counters)),
        ))
    }

    /// Judges one event of either shape.
    ///
    /// # Errors
    /// `Unauthorized`, which is how a socket without a good token is answered 401; and a plain error where tokens cannot
    /// be judged, which API Gateway answers with 500 and does not remember.
    pub async fn judge(&self, event: &Value) -> Result<Value, lambda_runtime::Error> {
        let is_http = event.get("version").and_then(Value::as_str) == Some("2.0");
        if is_http { self.judge_http(event).await } else { self.judge_connect(event).await }
    }

    async fn judge_http(&self, event: &Value) -> Result<Value, lambda_runtime::Error> {
        let path = event["rawPath"].as_str().unwrap_or_default();
        let stage = event["requestContext"]["stage"].as_str().unwrap_or_default();
        let judged = match scope_of(path, stage) {
            Some(scope) => self.http.judge(tokens(event), &wanted(scope)).await,
            None => Err(Refusal::Scope),
        };
        match judged {
            Ok(grant) => Ok(json!({ "isAuthorized": true, "context": context_of(&grant) })),
            Err(refusal) if refusal.fault().kind == Kind::Unavailable => Err(unavailable()),
            Err(refusal) => Ok(json!({ "isAuthorized": false, "context": { "reason": refusal.label() } })),
        }
    }

    async fn judge_connect(&self, event: &Value) -> Result<Value, lambda_runtime::Error> {
        let resource = event["methodArn"].as_str().unwrap_or("*");
        match self.judge_socket(event).await {
            Ok(grant) => Ok(policy("Allow", resource, &grant)),
            Err(refusal) => match refusal.fault().kind {
                Kind::Unavailable => Err(unavailable()),
                Kind::Forbidden => {
                    Ok(policy("Deny", resource, &Grant { scopes: Some(Vec::new()), ..Grant::everybody() }))
                }
                _ => Err(UNAUTHORIZED.into()),
            },
        }
    }

    /// A socket may send audio or only listen; which of them shows with its first message.
    async fn judge_socket(&self, event: &Value) -> Result<Grant, Refusal> {
        let presented = tokens(event);
        match self.websocket.judge_quietly(presented.clone(), &wanted(Scope::Audio)).await {
            Err(Refusal::Scope) => self.websocket.judge(presented, &wanted(Scope::Listen)).await,
            Err(refusal) => {
                self.websocket.refused(refusal);
                Err(refusal)
            }
            Ok(grant) => Ok(grant),
        }
    }
}

fn wanted(scope: Scope) -> Wanted {
    Wanted { scope, contact: None, now_s: wall_s() }
}

fn unavailable() -> lambda_runtime::Error {
    "tokens cannot be judged at the moment".into()
}

/// What a route needs; `None` for one that asks for no token and so has no business with an authorizer.
fn scope_of(path: &str, stage: &str) -> Option<Scope> {
    let within = path.strip_prefix('/').and_then(|path| path.strip_prefix(stage)).filter(|rest| rest.starts_with('/'));
    match Route::of(within.filter(|_| !stage.is_empty()).unwrap_or(path))? {
        Route::TextHook => Some(Scope::Utterances),
        Route::ContactEvents => Some(Scope::Events),
        Route::ContactSuggestions | Route::InteractionSuggestions => Some(Scope::Suggestions),
        _ => None,
    }
}

/// The tokens of an event: the header's, then the query's. Names of headers come in any case, depending on the kind of
/// API.
fn tokens(event: &Value) -> Vec<&str> {
    let texts = |name: &str| event.get(name).and_then(Value::as_object);
    let in_header = texts("headers").into_iter().flat_map(|headers| named(headers, "authorization"));
    let query = texts("queryStringParameters");
    let in_query = QUERY_NAMES.iter().filter_map(|name| query?.get(*name)?.as_str());
    in_header.chain(in_query).collect()
}

fn named<'a>(fields: &'a Map<String, Value>, name: &'a str) -> impl Iterator<Item = &'a str> {
    fields.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).filter_map(|(_, value)| value.as_str())
}

fn policy(effect: &str, resource: &str, grant: &Grant) -> Value {
    json!({
        "principalId": grant.subject.as_deref().unwrap_or("caller"),
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{ "Action": "execute-api:Invoke", "Effect": effect, "Resource": resource }],
        },
        "context": context_of(grant),
    })
}

#[cfg(test)]
mod tests;
