//! Everybody who calls: CXone's chat and Studio scripts over HTTP, media servers and pages over sockets.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use earpiece_core::audio::wav;
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::ledger::Ledger;
use earpiece_https::Trust;
use earpiece_https::client::{Client, Limits};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_websockets::upgrade::Error::DidNotSwitchProtocols;
use tokio_websockets::{ClientBuilder, Error, Message, WebSocketStream};

use crate::serve::{PATIENCE, file};

pub(super) const HOOK: &str = "/agent_assist_text_webhooks/utterance";

const LIMITS: Limits = Limits { deadline: PATIENCE, answer_bytes_max: 4 << 20 };

/// Somebody with an HTTP client.
#[derive(Clone)]
pub(super) struct Caller {
    client: Client,
    base: String,
}

impl Caller {
    pub(super) fn of(address: SocketAddr) -> Self {
        Self::with(&Trust::public(), format!("http://{address}"))
    }

    pub(super) fn with(trust: &Trust, base: String) -> Self {
        Self { client: Client::new(trust).expect("a client"), base }
    }

    /// Whatever is answered.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Bytes> {
        self.try_send(method, path, headers, body).await.expect("an answer")
    }

    /// `None` where there is no answer at all.
    pub(super) async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Option<Response<Bytes>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client.send(request.body(body.into()).expect("a request"), LIMITS).await.ok()
    }

    /// Sends JSON, and gives the status and what was answered.
    pub(super) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let answer = self.send(Method::POST, path, &headers, body.to_string()).await;
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or_default())
    }

    pub(super) async fn metrics(&self) -> String {
        let answer = self.send(Method::GET, "/metrics", &[], "").await;
        String::from_utf8(answer.into_body().into()).expect("text")
    }
}

/// The path of a contact's events.
pub(super) fn events_of(contact: ContactKey) -> String {
    format!("/contacts/{}/{}/events", contact.bus_no, contact.contact_id)
}

/// An utterance of the contact.
pub(super) fn utterance(contact: ContactKey, words: &str) -> Value {
    json!({
        "contactId": contact.contact_id,
        "busNo": contact.bus_no,
        "participantId": "patron",
        "messageBody": words,
    })
}

/// CXone's init message.
pub(super) fn init(contact: ContactKey, token: Option<&str>) -> Value {
    json!({
        "authenticationToken": token.map(|token| format!("Bearer {token}")),
        "executionInfo": {"contactId": contact.contact_id, "busNo": contact.bus_no, "requestId": 1},
        "streamPerspective": "TX",
    })
}

/// A page's wish to hear of a contact.
pub(super) fn subscribe(contact: ContactKey, token: Option<&str>) -> Value {
    let mut wish = json!({"action": "subscribe", "busNo": contact.bus_no, "contactId": contact.contact_id.to_string()});
    if let Some(token) = token {
        wish["authenticationToken"] = json!(token);
    }
    wish
}

/// One end of a WebSocket.
pub(super) struct Socket<S = TcpStream>(WebSocketStream<S>);

impl Socket {
    /// Connects; the error is the status of a refusal.
    pub(super) async fn try_open(address: SocketAddr, path: &str, token: Option<&str>) -> Result<Self, u16> {
        let stream = TcpStream::connect(address).await.expect("it listens");
        Self::open_on(stream, &format!("ws://{address}{path}"), token).await
    }

    pub(super) async fn open(address: SocketAddr, path: &str) -> Self {
        Self::try_open(address, path, None).await.expect("an open socket")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Connects on a stream that there is; the error is the status of a refusal.
    pub(super) async fn open_on(stream: S, url: &str, token: Option<&str>) -> Result<Socket<S>, u16> {
        let mut builder = ClientBuilder::from_uri(url.parse().expect("a URL"));
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
            builder = builder.add_header(AUTHORIZATION, value).expect("a header");
        }
        match timeout(PATIENCE, builder.connect_on(stream)).await.expect("an answer in time") {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(Error::Upgrade(DidNotSwitchProtocols(status))) => Err(status),
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// Samples as base64, which is how they get through API Gateway.
    pub(super) async fn speak(&mut self, samples: &[u8]) {
        self.0.send(Message::text(BASE64_STANDARD.encode(samples))).await.expect("sent");
    }

    pub(super) async fn binary(&mut self, samples: Vec<u8>) {
        self.0.send(Message::binary(samples)).await.expect("sent");
    }

    /// The next text, as it was written.
    pub(super) async fn hear(&mut self) -> String {
        let next = timeout(PATIENCE, self.0.next()).await.expect("in time").expect("a message").expect("no error");
        next.as_text().unwrap_or_else(|| panic!("text, and not {:?}", next.as_close())).to_owned()
    }

    pub(super) async fn hear_json(&mut self) -> Value {
        serde_json::from_str(&self.hear().await).expect("JSON")
    }

    /// The next message, until one is like this.
    pub(super) async fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.hear_json().await;
            if is_it(&message) {
                return message;
            }
        }
    }

    /// The code with which the other side closes, after whatever else it says.
    pub(super) async fn close_code(&mut self) -> u16 {
        loop {
            let next = timeout(PATIENCE, self.0.next()).await.expect("in time").expect("a close").expect("no error");
            if let Some((code, _)) = next.as_close() {
                return code.into();
            }
        }
    }

    /// Closes, and waits until the other side has heard it.
    pub(super) async fn close(mut self) {
        self.0.close().await.expect("closed");
        let _ = timeout(PATIENCE, async { while let Some(Ok(_)) = self.0.next().await {} }).await;
    }
}

/// The ledger of a finished contact, and what its recording holds of the stream of each generation, in order.
pub(super) async fn recorded(data: &Path, contact: ContactKey) -> (Ledger, Vec<Vec<u8>>) {
    let folder = data.join(format!("contacts/{contact}"));
    let ledger = file(&folder.join("ledger.json")).await;
    let ledger: Ledger = serde_json::from_slice(&ledger).expect("a ledger");
    let file = file(&folder.join("recording.wav")).await;
    let wav = wav::parse(&file).expect("a WAV file");
    let channels = usize::from(ledger.channels.count());
    // Everybody here speaks as TX, who is the left channel.
    let left: Vec<u8> = wav.data.iter().copied().step_by(channels).collect();
    let at = |position: u64| usize::try_from(position).expect("fits");
    let audio = |stream: &earpiece_core::contact::facts::StreamFacts| {
        let mut pieces: Vec<_> = ledger.pieces.iter().filter(|piece| piece.stream == stream.stream).collect();
        pieces.sort_by_key(|piece| piece.first_sample);
        pieces.iter().flat_map(|piece| left[at(piece.position)..at(piece.end())].iter().copied()).collect()
    };
    let audio = ledger.streams.iter().map(audio).collect();
    (ledger, audio)
}

/// What is said in one message: never silence, and different in each.
pub(super) fn said(message: usize, samples: usize) -> Vec<u8> {
    (0..samples).map(|n| u8::try_from((n * 31 + message * 7 + message * n % 13) % 251).expect("below 251")).collect()
}
