//! All open connections, and `@connections`: how functions send to them, look at them and close them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::answer::{self, Answer, Refusal};
use crate::clock;
use crate::event::Facts;

/// Frames that wait for one slow reader. Beyond, senders are told to slow down.
pub(crate) const ORDERS_MAX: usize = 32;
/// How long a message may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The segment before a connection's id.
const SEGMENT: &str = "/@connections/";

/// What a connection is told to do. The sender of `done` is dropped undone when the connection ends first.
pub(crate) enum Order {
    Send { text: Bytes, done: oneshot::Sender<()> },
    Close { done: oneshot::Sender<()> },
}

/// An open connection, as others see it.
#[derive(Clone)]
struct Entry {
    orders: mpsc::Sender<Order>,
    facts: Arc<Facts>,
    last_active_ms: Arc<AtomicI64>,
}

/// All open connections, by id.
#[derive(Default)]
pub(crate) struct Connections {
    entries: Mutex<HashMap<String, Entry>>,
}

/// A connection's own end of its entry. The entry is gone when this is dropped.
pub(crate) struct Membership {
    pub(crate) orders: mpsc::Receiver<Order>,
    last_active_ms: Arc<AtomicI64>,
    connections: Arc<Connections>,
    connection_id: String,
}

impl Membership {
    pub(crate) fn is_active_now(&self) {
        self.last_active_ms.store(clock::now_ms(), Ordering::Relaxed);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.connection_id);
    }
}

impl Connections {
    /// The map is whole after every statement, so a panic elsewhere spoils nothing.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(self: &Arc<Self>, facts: &Arc<Facts>) -> Membership {
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let last_active_ms = Arc::new(AtomicI64::new(facts.connected_at_ms));
        let entry = Entry { orders: sender, facts: facts.clone(), last_active_ms: last_active_ms.clone() };
        self.lock().insert(facts.connection_id.clone(), entry);
        Membership { orders, last_active_ms, connections: self.clone(), connection_id: facts.connection_id.clone() }
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>, message_bytes_max: usize) -> Answer {
        let Some(id) = connection_id(request.uri().path()) else {
            return Refusal::exception(StatusCode::FORBIDDEN, "ForbiddenException", "Forbidden").answer();
        };
        let entry = self.lock().get(&id).cloned();
        match *request.method() {
            Method::POST => {
                // The body is read even when nobody will hear it, so that the connection to the sender stays usable.
                match (body_of(request, message_bytes_max).await, entry) {
                    (Err(refusal), _) => refusal.answer(),
                    (Ok(_), None) => gone(),
                    (Ok(text), Some(entry)) => entry.order(StatusCode::OK, |done| Order::Send { text, done }).await,
                }
            }
            Method::GET => entry.map_or_else(gone, |entry| entry.look()),
            Method::DELETE => match entry {
                None => gone(),
                Some(entry) => entry.order(StatusCode::NO_CONTENT, |done| Order::Close { done }).await,
            },
            _ => Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "POST, GET or DELETE").answer(),
        }
    }
}

impl Entry {
    /// Waits until the connection has done what it is told: an answer of success means that the frame was written.
    async fn order(&self, success: StatusCode, order: impl FnOnce(oneshot::Sender<()>) -> Order) -> Answer {
        let (done, is_done) = oneshot::channel();
        match self.orders.try_send(order(done)) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                let text = "the client reads too slowly";
                Refusal::exception(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException", text).answer()
            }
            Err(mpsc::error::TrySendError::Closed(_)) => gone(),
            Ok(()) => match is_done.await {
                Ok(()) => answer::empty(success),
                Err(_) => gone(),
            },
        }
    }

    fn look(&self) -> Answer {
        let mut identity = json!({ "sourceIp": self.facts.source_ip });
        if let Some(user_agent) = &self.facts.user_agent {
            identity["userAgent"] = user_agent.as_str().into();
        }
        let seen = json!({
            "connectedAt": clock::iso_form(self.facts.connected_at_ms),
            "identity": identity,
            "lastActiveAt": clock::iso_form(self.last_active_ms.load(Ordering::Relaxed)),
        });
        answer::json(StatusCode::OK, &seen)
    }
}

fn gone() -> Answer {
    Refusal::exception(StatusCode::GONE, "GoneException", "the connection is gone").answer()
}

/// The message, or the answer that refuses it.
async fn body_of(request: Request<Incoming>, bytes_max: usize) -> Result<Bytes, Refusal> {
    let late = Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    let body = Limited::new(request.into_body(), bytes_max).collect();
    let body = tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(|_| late)?.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let text = "the message is above the limit";
            Refusal::exception(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException", text)
        } else {
            Refusal::new(StatusCode::BAD_REQUEST, "the body did not arrive")
        }
    })?;
    let body = body.to_bytes();
    // It leaves as a text frame, which has to be UTF-8.
    match std::str::from_utf8(&body) {
        Ok(_) => Ok(body),
        Err(_) => Err(Refusal::exception(StatusCode::BAD_REQUEST, "BadRequestException", "the message must be UTF-8")),
    }
}

/// The id in a path such as `/local/%40connections/AAAA1234%3D`, with or without a stage.
pub(crate) fn connection_id(path: &str) -> Option<String> {
    let path = percent_decoded(path)?;
    let at = path.find(SEGMENT)?;
    let id = &path[at + SEGMENT.len()..];
    (!id.is_empty() && !id.contains('/')).then(|| id.to_owned())
}

/// `None` when what is encoded is no UTF-8. A percent sign without two digits stands for itself.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = match after {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_with_and_without_a_stage_and_encoded_or_not() {
        for path in [
            "/@connections/AAAA1234=",
            "/local/@connections/AAAA1234=",
            "/local/%40connections/AAAA1234%3D",
            "/%40connections/AAAA1234%3d",
        ] {
            assert_eq!(connection_id(path).as_deref(), Some("AAAA1234="), "{path}");
        }
        for path in ["/", "/@connections/", "/@connections", "/@connections/a/b", "/%ff@connections/%ff"] {
            assert_eq!(connection_id(path), None, "{path}");
        }
        assert_eq!(percent_decoded("%4%zz%").as_deref(), Some("%4%zz%"));
    }
}
