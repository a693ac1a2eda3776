//! One open connection, from its upgrade to its end.
//!
//! One task owns the socket. Messages are handed to functions in tasks of their own, a stated number at a time; while
//! all of them are busy nothing more is read, so that a client which sends faster than functions answer is slowed down
//! by TCP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_websockets::{CloseCode, Error, Limits, Message, ServerBuilder, WebSocketStream};
use tracing::{debug, warn};

use crate::connections::{Membership, Order};
use crate::event::{self, Facts};
use crate::gateway::Gateway;
use crate::guard::{Broken, Guarded, Heads};
use crate::route;

/// A client that takes nothing off its socket for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last words may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// What a closing client may still send.
const FAREWELL_BYTES_MAX: usize = 1024 * 1024;

/// All that a client hears of what went wrong behind us.
const INTERNAL: &str = "Internal server error";

/// How a connection ended: what `$disconnect` hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: u16,
    /// From a client, its own words: for the function only, and never logged.
    pub(crate) reason: String,
}

impl Ended {
    pub(crate) fn abnormally() -> Self {
        Self { code: 1006, reason: "Connection closed abnormally".into() }
    }
}

/// Why the loop is left.
enum Leave {
    /// The client said so, or is gone.
    Theirs(Ended),
    /// We close, with this code and reason.
    Ours(u16, &'static str),
}

pub(crate) struct Connection<S> {
    gateway: Arc<Gateway>,
    facts: Arc<Facts>,
    membership: Membership,
    closing: watch::Receiver<bool>,
    socket: WebSocketStream<Guarded<S>>,
    /// Messages that are with functions. What comes back is a frame for the client when one failed.
    asked: JoinSet<Option<String>>,
    idle_since: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(gateway: Arc<Gateway>, facts: Arc<Facts>, membership: Membership, io: S) -> Self {
        let settings = &gateway.settings;
        let heads = Heads::new(settings.frame_bytes_max, settings.message_bytes_max);
        let limits = Limits::default().max_payload_len(Some(settings.message_bytes_max));
        let socket = ServerBuilder::new().limits(limits).serve(Guarded::new(io, heads));
        let closing = gateway.closing.subscribe();
        Self { gateway, facts, membership, closing, socket, asked: JoinSet::new(), idle_since: Instant::now() }
    }

    /// Serves the connection to its end. Nobody can send to it any more when this returns; functions that are still
    /// asked go on.
    pub(crate) async fn serve(mut self) -> Ended {
        let leave = self.run().await;
        let Self { membership, socket, mut asked, .. } = self;
        drop(membership);
        asked.detach_all();
        match leave {
            Leave::Theirs(ended) => {
                let mut socket = socket;
                // The answer to the client's close frame is written by reading on.
                let _ = timeout(FAREWELL_TIMEOUT, async { while let Some(Ok(_)) = socket.next().await {} }).await;
                ended
            }
            Leave::Ours(code, reason) => {
                farewell(socket.into_inner().into_inner(), code, reason).await;
                Ended { code, reason: reason.into() }
            }
        }
    }

    async fn run(&mut self) -> Leave {
        let over_at = Instant::now() + self.gateway.settings.life;
        loop {
            let idle_at = self.idle_since + self.gateway.settings.idle;
            let may_read = self.asked.len() < self.gateway.settings.in_flight_per_connection_max;
            let left = tokio::select! {
                () = sleep_until(over_at.min(idle_at)) => Some(Leave::Ours(1001, "Going away")),
                () = closed(&mut self.closing) => Some(Leave::Ours(1001, "Going away")),
                Some(order) = self.membership.orders.recv() => self.obey(order).await,
                Some(failed) = self.asked.join_next() => match failed {
                    Ok(None) => None,
                    Ok(Some(frame)) => self.send(frame.into()).await,
                    // It panicked: a function in this process, most likely.
                    Err(_) => self.send(failure(&self.facts, "", INTERNAL).into()).await,
                },
                heard = self.socket.next(), if may_read => self.heard(heard),
            };
            if let Some(leave) = left {
                return leave;
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Option<Leave> {
        match order {
            Order::Send { text, done } => {
                let left = self.send(text).await;
                if left.is_none() {
                    // Who asked may have gone; the client has it all the same.
                    let _ = done.send(());
                }
                left
            }
            Order::Close { done } => {
                let _ = done.send(());
                Some(Leave::Ours(1000, "Connection Closed Normally"))
            }
        }
    }

    async fn send(&mut self, text: Bytes) -> Option<Leave> {
        match timeout(WRITE_TIMEOUT, self.socket.send(Message::text(text))).await {
            Ok(Ok(())) => {
                self.touch();
                None
            }
            Ok(Err(_)) | Err(_) => Some(Leave::Theirs(Ended::abnormally())),
        }
    }

    fn touch(&mut self) {
        self.idle_since = Instant::now();
        self.membership.is_active_now();
    }

    fn heard(&mut self, heard: Option<Result<Message, Error>>) -> Option<Leave> {
        let message = match heard {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Some(self.broken(&error)),
            None => return Some(Leave::Theirs(Ended::abnormally())),
        };
        self.touch();
        if let Some((code, reason)) = message.as_close() {
            let (code, reason) = match code {
                CloseCode::NO_STATUS_RECEIVED => (1005, "Client-side close frame status not set"),
                code => (u16::from(code), reason),
            };
            return Some(Leave::Theirs(Ended { code, reason: reason.into() }));
        }
        if let Some(text) = message.as_text() {
            self.dispatch(text.to_owned());
        }
        None
    }

    fn broken(&self, error: &Error) -> Leave {
        match (self.socket.get_ref().broken(), error) {
            (Some(Broken::Binary), _) => Leave::Ours(1003, "Binary frames are not supported"),
            (Some(Broken::FrameTooLarge), _) => Leave::Ours(1009, "Frame too large"),
            (Some(Broken::MessageTooLarge), _) | (None, Error::PayloadTooLong { .. }) => {
                Leave::Ours(1009, "Message too large")
            }
            // The WebSocket layer has its own words for these, and says them while the loop is being left.
            (None, Error::Protocol(_)) => Leave::Theirs(Ended { code: 1002, reason: "Protocol error".into() }),
            (None, _) => Leave::Theirs(Ended::abnormally()),
        }
    }

    fn dispatch(&mut self, body: String) {
        let (gateway, facts) = (self.gateway.clone(), self.facts.clone());
        self.asked.spawn(async move { ask(&gateway, &facts, &body).await });
    }
}

/// Resolves when every connection is to be closed. The sender lives in the gateway, so waiting cannot fail.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Hands one message to its function. What the function answers goes nowhere, as there are no route responses; a frame
/// for the client comes back when there is no answer.
async fn ask(gateway: &Gateway, facts: &Facts, body: &str) -> Option<String> {
    let Ok(request_id) = event::new_id() else { return Some(failure(facts, "", INTERNAL)) };
    let chosen = route::choose(&gateway.settings, body);
    let is_binary = gateway.settings.convert_to_binary.contains(&chosen.key);
    if is_binary && !route::is_convertible(body) {
        debug!(bytes = body.len(), "a message that should be Base64 is not");
        return Some(failure(facts, &request_id, "Unable to transform request"));
    }
    let event: Value = facts.message(&chosen.key, body, is_binary, &request_id);
    match gateway.ask(&chosen.function, event).await {
        Ok(_) => None,
        Err(error) => {
            warn!(function = chosen.function, %error, "a message was not taken");
            Some(failure(facts, &request_id, INTERNAL))
        }
    }
}

/// What a client hears when a message of its was not taken.
fn failure(facts: &Facts, request_id: &str, text: &str) -> String {
    json!({ "message": text, "connectionId": facts.connection_id, "requestId": request_id }).to_string()
}

/// Says the last words on a connection and waits, for a bounded time, until the client has heard them.
///
/// The frame is written to the connection itself, because the WebSocket layer takes none after a fault of the client.
/// The connection is then read until the client is done: closing with unread bytes would reset it, and the reset would
/// overtake our words.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(mut io: S, code: u16, reason: &str) {
    // Both are ours, and short: a control frame has at most 125 bytes.
    let length = u8::try_from(reason.len() + 2).unwrap_or(0).min(125);
    let mut frame = vec![0x88, length];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    let last_words = async {
        io.write_all(&frame).await?;
        io.shutdown().await?;
        let (mut heard_bytes, mut scratch) = (0, [0; 1024]);
        while heard_bytes < FAREWELL_BYTES_MAX {
            match io.read(&mut scratch).await? {
                0 => break,
                bytes => heard_bytes += bytes,
            }
        }
        std::io::Result::Ok(())
    };
    // Whether the client listened or not, the connection ends here.
    let _ = timeout(FAREWELL_TIMEOUT, last_words).await;
}
