//! Getting from a URL to an open WebSocket: TCP, TLS, upgrade, and the answer to the init message.
//!
//! No texts made here hold the URL, a header or a token.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Uri, header};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_websockets::{ClientBuilder, Connector, Error, Limits, MaybeTlsStream, Message, WebSocketStream, upgrade};

use crate::plan::{CallPlan, PlanError, TOKEN_PARAMETER, TokenPlace};
use crate::report::{Close, Side, SocketReport};

/// Largest message taken from the endpoint; its answers are a few hundred bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long a refused socket may take to send its close frame after the answer.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// A stream to the endpoint.
pub(crate) type Stream = MaybeTlsStream<TcpStream>;

/// An open WebSocket to the endpoint.
pub(crate) type Socket = WebSocketStream<Stream>;

/// Where to dial, and with which credentials outside of the init message.
#[derive(Clone)]
pub(crate) struct Endpoint {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    pub(crate) fn new(url: &str) -> Result<Self, PlanError> {
        let uri: Uri = url.parse().map_err(|_| PlanError::Url)?;
        match (uri.scheme_str(), uri.host()) {
            (Some("ws" | "wss"), Some(_)) => Ok(Self { uri, authorization: None }),
            _ => Err(PlanError::Url),
        }
    }

    /// The endpoint of a plan, with its token if that goes into the header or the query.
    pub(crate) fn of(plan: &CallPlan) -> Result<Self, PlanError> {
        match (&plan.token, plan.token_in) {
            (Some(token), TokenPlace::Query) => Self::new(&with_parameter(&plan.url, token.reveal())),
            (Some(token), TokenPlace::Header) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
                if let Ok(value) = &mut value {
                    value.set_sensitive(true);
                }
                Ok(Self { authorization: Some(value.map_err(|_| PlanError::Url)?), ..Self::new(&plan.url)? })
            }
            _ => Self::new(&plan.url),
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("wss")
    }

    /// Host name or address, without the brackets that an IPv6 address has in a URL.
    fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }

    /// Host, and port if the URL has one, for the `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = self.uri.host().unwrap_or_default();
        self.uri.port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
    }

    /// Every address of the host.
    pub(crate) async fn resolve(&self) -> Result<Vec<std::net::SocketAddr>, String> {
        let port = self.uri.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 });
        let found = lookup_host((self.host(), port)).await.map_err(|_| "the host name does not resolve".to_owned())?;
        Ok(found.collect())
    }

    /// Connects, with TLS if the URL says so, without any pause between small frames.
    pub(crate) async fn connect(&self) -> Result<Stream, String> {
        let mut failure = "the host name has no address".to_owned();
        for address in self.resolve().await? {
            match connect_from(None, address).await {
                Ok(tcp) => return self.secure(tcp).await,
                Err(error) => failure = format!("could not connect: {}", error.kind()),
            }
        }
        Err(failure)
    }

    async fn secure(&self, tcp: TcpStream) -> Result<Stream, String> {
        if !self.is_tls() {
            return Ok(MaybeTlsStream::Plain(tcp));
        }
        let connector = Connector::new().map_err(|error| format!("no TLS: {error}"))?;
        connector.wrap(self.host(), tcp).await.map_err(|error| format!("the TLS handshake failed: {error}"))
    }

    /// Asks for the upgrade on a connected stream.
    pub(crate) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<WebSocketStream<S>, String> {
        let mut builder =
            ClientBuilder::from_uri(self.uri.clone()).limits(Limits::default().max_payload_len(Some(ANSWER_BYTES_MAX)));
        if let Some(authorization) = &self.authorization {
            builder =
                builder.add_header(header::AUTHORIZATION, authorization.clone()).map_err(|error| error.to_string())?;
        }
        builder.connect_on(stream).await.map(|(socket, _)| socket).map_err(|error| describe(&error))
    }
}

/// Connects from a given local address, or from any.
pub(crate) async fn connect_from(local: Option<IpAddr>, address: std::net::SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = local {
        socket.bind((local, 0).into())?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

fn with_parameter(url: &str, token: &str) -> String {
    let mut text = url.to_owned();
    text.push(if url.contains('?') { '&' } else { '?' });
    text.push_str(TOKEN_PARAMETER);
    text.push('=');
    for byte in token.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// A WebSocket error in words that hold no input.
pub(crate) fn describe(error: &Error) -> String {
    match error {
        Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(status)) => {
            format!("the endpoint answered the upgrade with HTTP {status}")
        }
        Error::Io(error) => format!("the connection broke: {}", error.kind()),
        other => other.to_string(),
    }
}

/// How a handshake came out.
pub(crate) enum Shake {
    /// Answered `CONNECTED`.
    Connected(Box<Socket>),
    /// Not this time; another attempt may succeed.
    TryAgain,
    /// Refused for a reason that does not go away.
    Refused,
}

/// Dials, upgrades, sends the init message and reads the answer, all within `limit`.
pub(crate) async fn shake_hands(endpoint: &Endpoint, init: &Bytes, limit: Duration) -> (Shake, SocketReport) {
    let mut report = SocketReport::default();
    let begun = Instant::now();
    let outcome = timeout_at(begun + limit, attempt(endpoint, init, &mut report)).await;
    let shake = outcome.unwrap_or_else(|_| {
        report.error = Some(format!("no answer within {} ms", limit.as_millis()));
        Shake::TryAgain
    });
    (shake, report)
}

async fn attempt(endpoint: &Endpoint, init: &Bytes, report: &mut SocketReport) -> Shake {
    let begun = Instant::now();
    let opened = match endpoint.connect().await {
        Ok(stream) => endpoint.upgrade(stream).await,
        Err(error) => Err(error),
    };
    let mut socket = match opened {
        Ok(socket) => socket,
        Err(error) => {
            report.error = Some(error);
            return Shake::TryAgain;
        }
    };
    report.connect_us = Some(micros(begun.elapsed()));
    let text = match String::from_utf8(init.to_vec()) {
        Ok(text) => Message::text(text),
        // Only an overridden init message can be this: bytes that are no text go out as they are.
        Err(error) => Message::binary(error.into_bytes()),
    };
    // Before the write: an answer must never look quicker than it was.
    let sent = Instant::now();
    if let Err(error) = socket.send(text).await {
        report.error = Some(describe(&error));
        return Shake::TryAgain;
    }
    read_answer(socket, sent, report).await
}

async fn read_answer(mut socket: Socket, sent: Instant, report: &mut SocketReport) -> Shake {
    loop {
        match socket.next().await {
            Some(Ok(message)) if message.is_text() => {
                report.ack_us = Some(micros(sent.elapsed()));
                let payload = Bytes::from(message.into_payload());
                report.connected = is_connected(&payload);
                report.answer = Some(payload.to_vec());
                if report.connected {
                    return Shake::Connected(Box::new(socket));
                }
                return refusal(socket, report).await;
            }
            Some(Ok(message)) if message.is_close() => return closed_instead(&message, report),
            Some(Ok(message)) if message.is_binary() => report.unexpected_frames += 1,
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                report.error = Some(describe(&error));
                return Shake::TryAgain;
            }
            None => {
                report.error = Some("the connection ended before an answer".to_owned());
                return Shake::TryAgain;
            }
        }
    }
}

/// The answer was no: the close frame behind it tells whether to try again.
async fn refusal(mut socket: Socket, report: &mut SocketReport) -> Shake {
    let closing = async {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                let shake = closed_instead(&message, report);
                // One more read sends our half of the close handshake.
                let _ = socket.next().await;
                return shake;
            }
        }
        Shake::Refused
    };
    timeout(CLOSE_WAIT, closing).await.unwrap_or(Shake::Refused)
}

fn closed_instead(message: &Message, report: &mut SocketReport) -> Shake {
    let Some(close) = close_of(message) else { return Shake::TryAgain };
    let again = invites_retry(close.code);
    report.close = Some(close);
    if again { Shake::TryAgain } else { Shake::Refused }
}

/// What a close frame from the server says.
pub(crate) fn close_of(message: &Message) -> Option<Close> {
    message.as_close().map(|(code, reason)| Close { code: code.into(), reason: reason.to_owned(), by: Side::Server })
}

/// Whether a client that was closed with this code dials again: a server that goes away (1001), restarts (1012), is
/// overloaded (1013) or failed (1011) does not object to the client; neither does one that gives no code.
fn invites_retry(code: u16) -> bool {
    matches!(code, 1000 | 1001 | 1005 | 1011..=1014)
}

/// Whether an answer means success. Lenient on purpose: what exactly was sent is in the report.
pub(crate) fn is_connected(answer: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return false };
    answer.get("command").and_then(Value::as_str).is_some_and(|command| command.eq_ignore_ascii_case("CONNECTED"))
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use earpiece_core::contact::ContactKey;
    use earpiece_core::secret::Secret;

    use super::*;

    #[test]
    fn a_token_in_the_query_is_escaped_and_joins_what_is_there() {
        assert_eq!(with_parameter("ws://h/a", "a b+/é"), "ws://h/a?token=a%20b%2B%2F%C3%A9");
        assert_eq!(with_parameter("ws://h/a?x=1", "t"), "ws://h/a?x=1&token=t");
    }

    #[test]
    fn only_websocket_urls_are_dialled() {
        for url in ["http://h/", "h:80", "ws:///path", "", "wss//h"] {
            assert!(Endpoint::new(url).is_err(), "{url}");
        }
        let endpoint = Endpoint::new("ws://[::1]:8080/audio?x=1").unwrap();
        assert_eq!((endpoint.host(), endpoint.target()), ("::1", "/audio?x=1"));
        assert_eq!(endpoint.authority(), "[::1]:8080");
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_an_error_and_not_a_panic() {
        let plan = CallPlan::new("ws://h/", ContactKey { bus_no: 1, contact_id: 2 })
            .token(Secret::new("a\nb"), TokenPlace::Header);
        assert_eq!(Endpoint::of(&plan).err(), Some(PlanError::Url));
    }

    #[test]
    fn a_client_dials_again_unless_it_was_told_what_it_did_wrong() {
        let again: Vec<u16> = (1000..1016).filter(|code| invites_retry(*code)).collect();
        assert_eq!(again, [1000, 1001, 1005, 1011, 1012, 1013, 1014]);
    }

    #[tokio::test]
    async fn a_server_without_tls_is_an_error_and_not_a_panic() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::new(&format!("wss://{}/", listener.local_addr().unwrap())).unwrap();
        let (connected, accepted) = tokio::join!(endpoint.connect(), async { listener.accept().await.map(drop) });
        accepted.unwrap();
        assert!(connected.err().is_some_and(|error| error.contains("TLS")));
    }
}
