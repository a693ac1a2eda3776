//! From a request to an open connection, and what follows its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::answer::{self, Answer, Refusal};
use crate::authorize::{self, NotAllowed, Words};
use crate::connection::{Connection, Ended};
use crate::connections::{Connections, Membership};
use crate::event::{self, Asked, Facts};
use crate::invoke::{Invoke, InvokeError};
use crate::settings::Settings;

/// How long the 101 answer may take to be sent.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The front of one WebSocket API.
pub struct Gateway {
    pub(crate) settings: Settings,
    invoke: Invoke,
    connections: Arc<Connections>,
    /// One permit per connection, from before its `$connect` until after its `$disconnect`.
    pub(crate) places: Arc<Semaphore>,
    in_flight: Semaphore,
    /// Whether every connection is to be closed.
    pub(crate) closing: watch::Sender<bool>,
}

/// A client that may come in.
struct Admitted {
    facts: Facts,
    /// What `$connect` wants the client to be told about its sub-protocols.
    protocol: Option<HeaderValue>,
    place: OwnedSemaphorePermit,
}

impl Gateway {
    /// A gateway before functions.
    #[must_use]
    pub fn new(settings: Settings, invoke: Invoke) -> Arc<Self> {
        Arc::new(Self {
            connections: Arc::default(),
            places: Arc::new(Semaphore::new(settings.connections_max as usize)),
            in_flight: Semaphore::new(settings.in_flight_max.clamp(1, Semaphore::MAX_PERMITS)),
            closing: watch::Sender::new(false),
            settings,
            invoke,
        })
    }

    /// Answers a WebSocket handshake, on whatever path: 101 when authorizer and `$connect` let the client in, else what
    /// they say. The connection is then served by a task of its own.
    pub async fn upgrade(self: &Arc<Self>, mut request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let accept = match accept_key(request.method(), request.headers()) {
            Ok(accept) => accept,
            Err(problem) => return Refusal::new(StatusCode::BAD_REQUEST, problem).answer(),
        };
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            warn!(connections_max = self.settings.connections_max, "every place is taken");
            return Refusal::new(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests").answer();
        };
        let asked = Asked::of(&request, peer);
        let upgrade = hyper::upgrade::on(&mut request);
        match self.clone().admit_to_the_end(asked, place).await {
            Ok(admitted) => self.open(admitted, accept, upgrade),
            Err(refusal) => refusal.answer(),
        }
    }

    /// Admits a client even if it leaves meanwhile: what `$connect` has heard of has to come to a `$disconnect`.
    async fn admit_to_the_end(self: Arc<Self>, asked: Asked, place: OwnedSemaphorePermit) -> Result<Admitted, Refusal> {
        let (verdict, heard) = oneshot::channel();
        tokio::spawn(async move {
            let admitted = self.admit(&asked, place).await;
            if let Err(Ok(Admitted { facts, place, .. })) = verdict.send(admitted) {
                self.disconnect(&facts, &Ended::abnormally()).await;
                drop(place);
            }
        });
        heard.await.unwrap_or_else(|_| Err(Refusal::internal()))
    }

    async fn admit(&self, asked: &Asked, place: OwnedSemaphorePermit) -> Result<Admitted, Refusal> {
        let connection_id = event::new_id().map_err(|_| Refusal::internal())?;
        let mut facts = Facts::new(connection_id, (&self.settings.api_id, &self.settings.stage), asked);
        let request_id = event::new_id().map_err(|_| Refusal::internal())?;
        if let Some(authorizer) = &self.settings.authorizer {
            let event = facts.authorize(asked, &request_id);
            let words = judged(authorizer, self.ask(authorizer, event).await, &facts.method_arn())?;
            facts.authorizer = Some(words);
        }
        let mut protocol = None;
        if let Some(connect) = &self.settings.routes.connect {
            let event = facts.connect(asked, &request_id);
            protocol = connected(connect, self.ask(connect, event).await)?;
        }
        Ok(Admitted { facts, protocol, place })
    }

    /// Never waits: from here on the connection's task sees to its `$disconnect`.
    fn open(self: &Arc<Self>, admitted: Admitted, accept: HeaderValue, upgrade: OnUpgrade) -> Answer {
        let Admitted { facts, protocol, place } = admitted;
        let facts = Arc::new(facts);
        let membership = self.connections.enter(&facts);
        let gateway = self.clone();
        tokio::spawn(async move {
            let ended = gateway.clone().serve_connection(facts.clone(), membership, upgrade).await;
            debug!(code = ended.code, "a connection ended");
            gateway.disconnect(&facts, &ended).await;
            drop(place);
        });
        let mut answer = answer::empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        answer
    }

    async fn serve_connection(self: Arc<Self>, facts: Arc<Facts>, membership: Membership, upgrade: OnUpgrade) -> Ended {
        match timeout(UPGRADE_TIMEOUT, upgrade).await {
            Ok(Ok(upgraded)) => Connection::new(self, facts, membership, TokioIo::new(upgraded)).serve().await,
            Ok(Err(_)) | Err(_) => Ended::abnormally(),
        }
    }

    /// Best effort, as at API Gateway: nobody asks again when the function fails.
    async fn disconnect(&self, facts: &Facts, ended: &Ended) {
        let Some(function) = &self.settings.routes.disconnect else { return };
        let Ok(request_id) = event::new_id() else { return };
        let event = facts.disconnect((ended.code, &ended.reason), &request_id);
        if let Err(error) = self.ask(function, event).await {
            warn!(function, %error, "a disconnect was not heard");
        }
    }

    /// Asks a function when it is its turn. The wait is part of the function's time.
    pub(crate) async fn ask(&self, function: &str, event: Value) -> Result<Value, InvokeError> {
        let deadline = self.settings.integration_deadline;
        let ask = async {
            let _turn = self.in_flight.acquire().await;
            self.invoke.ask(function, event, deadline).await
        };
        timeout(deadline, ask).await.unwrap_or(Err(InvokeError::TimedOut))
    }

    /// Answers a request to `@connections/{id}`, with or without a stage before it: POST sends the body as a text frame
    /// (200), GET looks at the connection (200), DELETE closes it (204). 410 when there is none, 413 for a message above
    /// the limit, 429 while the client reads too slowly. Signatures are not looked at.
    pub async fn connections(&self, request: Request<Incoming>) -> Answer {
        self.connections.answer(request, self.settings.message_bytes_max).await
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("settings", &self.settings)
            .field("invoke", &self.invoke)
            .finish_non_exhaustive()
    }
}

/// What an authorizer's answer means for the client.
fn judged(function: &str, answer: Result<Value, InvokeError>, method_arn: &str) -> Result<Words, Refusal> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(InvokeError::Unauthorized) => return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized")),
        Err(error) => {
            warn!(function, %error, "the authorizer did not judge");
            return Err(Refusal::internal());
        }
    };
    authorize::judge(&answer, method_arn).map_err(|refusal| match refusal {
        NotAllowed::Denied => {
            info!(function, "the authorizer denied a client");
            Refusal::new(StatusCode::FORBIDDEN, "User is not authorized to access this resource")
        }
        NotAllowed::Malformed => {
            warn!(function, "the authorizer's answer is no policy that API Gateway takes");
            Refusal::internal()
        }
    })
}

/// What an answer of `$connect` means for the client: in, maybe with a sub-protocol, or not.
fn connected(function: &str, answer: Result<Value, InvokeError>) -> Result<Option<HeaderValue>, Refusal> {
    let answer = answer.map_err(|error| {
        warn!(function, %error, "a client could not be judged");
        match error {
            InvokeError::TimedOut => Refusal::new(StatusCode::GATEWAY_TIMEOUT, "Endpoint request timed out"),
            InvokeError::Throttled => Refusal::new(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests"),
            _ => Refusal::new(StatusCode::BAD_GATEWAY, "Internal server error"),
        }
    })?;
    let status = answer.get("statusCode").and_then(|status| match status {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64().and_then(|number| u16::try_from(number).ok()),
    });
    match status.and_then(|status| StatusCode::from_u16(status).ok()) {
        Some(status) if status.is_success() => Ok(sub_protocol(&answer)),
        Some(status) if status.is_client_error() => {
            Err(Refusal::new(status, status.canonical_reason().unwrap_or("refused")))
        }
        Some(status) if status.is_server_error() => {
            warn!(function, status = status.as_u16(), "$connect failed");
            Err(Refusal::internal())
        }
        _ => {
            warn!(function, "the answer of $connect has no status that fits");
            Err(Refusal::new(StatusCode::BAD_GATEWAY, "Internal server error"))
        }
    }
}

fn sub_protocol(answer: &Value) -> Option<HeaderValue> {
    let headers = answer.get("headers")?.as_object()?;
    let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))?;
    HeaderValue::from_str(value.as_str()?).ok()
}

/// The answer to a handshake's key, or what makes the request none (RFC 6455, 4.2.1).
fn accept_key(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    let says = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    if *method != Method::GET {
        return Err("a WebSocket handshake is a GET request");
    }
    if !says(header::UPGRADE, "websocket") || !says(header::CONNECTION, "upgrade") {
        return Err("this is a WebSocket endpoint: send `Connection: Upgrade` and `Upgrade: websocket`");
    }
    if !says(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err("`Sec-WebSocket-Version` must be 13");
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or("`Sec-WebSocket-Key` is missing")?;
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    HeaderValue::from_str(&STANDARD.encode(digest.finish())).map_err(|_| "`Sec-WebSocket-Key` cannot be answered")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(answer: Result<Value, InvokeError>) -> u16 {
        connected("f", answer).map_or_else(|refusal| refusal.status.as_u16(), |_| 101)
    }

    #[test]
    fn what_connect_answers_is_what_the_client_gets() {
        for (answer, expected) in [
            (Ok(json!({ "statusCode": 200 })), 101),
            (Ok(json!({ "statusCode": 204, "body": "x" })), 101),
            (Ok(json!({ "statusCode": "200" })), 101),
            (Ok(json!({ "statusCode": 401 })), 401),
            (Ok(json!({ "statusCode": 403, "body": "secret" })), 403),
            (Ok(json!({ "statusCode": 500 })), 500),
            (Ok(json!({ "statusCode": 503 })), 500),
            (Ok(json!({ "statusCode": 302 })), 502),
            (Ok(json!({ "statusCode": 99_999 })), 502),
            (Ok(json!({})), 502),
            (Ok(Value::Null), 502),
            (Err(InvokeError::Failed), 502),
            (Err(InvokeError::Unreachable), 502),
            (Err(InvokeError::TimedOut), 504),
            (Err(InvokeError::Throttled), 429),
        ] {
            assert_eq!(status(answer.clone()), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_sub_protocol_is_chosen_by_the_function() {
        let answer = json!({ "statusCode": 200, "headers": { "Sec-WebSocket-Protocol": "earpiece" } });
        assert_eq!(connected("f", Ok(answer)).unwrap().unwrap(), "earpiece");
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::UPGRADE, "WebSocket"),
            (header::CONNECTION, "keep-alive, Upgrade"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(accept_key(&Method::GET, &headers).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(accept_key(&Method::POST, &headers).is_err());
        headers.remove(header::SEC_WEBSOCKET_KEY);
        assert_eq!(accept_key(&Method::GET, &headers), Err("`Sec-WebSocket-Key` is missing"));
    }
}
