//! The platform over real sockets, endpoint by endpoint and fault by fault.

mod control;
mod faults;
mod oauth;
mod rest;
mod shapes;
mod sockets;

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use earpiece_core::protocol::instant::format_rfc3339_ms;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_websockets::{ClientBuilder, Error, MaybeTlsStream, Message, WebSocketStream, upgrade};

use super::settings::{CLIENT_ID, CLIENT_SECRET};
use super::shared::now_ms;
use super::{Fault, FaultKind, Kind, On, Platform, PlatformSettings, Uplink};

const SOON: Duration = Duration::from_secs(10);

async fn platform(settings: PlatformSettings) -> Platform {
    Platform::bind("127.0.0.1:0", settings).await.unwrap()
}

/// An answer, as far as it came.
#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn is_whole(&self) -> bool {
        self.header("content-length").is_none_or(|length| length == self.body.len().to_string())
    }
}

/// One request on a connection of its own; none when the connection ended without an answer.
async fn ask(platform: &Platform, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Option<Got> {
    let mut stream = TcpStream::connect(platform.address()).await.unwrap();
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", platform.address());
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    write!(request, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is cut off may be reset as well as ended.
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Got { status, head, body: answer[end + 4..].to_vec() })
}

async fn get(platform: &Platform, target: &str, token: &str) -> Got {
    ask(platform, "GET", target, &[("Authorization", &format!("Bearer {token}"))], "").await.unwrap()
}

async fn post(platform: &Platform, target: &str, token: &str, body: &Value) -> Option<Got> {
    let headers = [("Authorization", &*format!("Bearer {token}")), ("Content-Type", "application/json")];
    ask(platform, "POST", target, &headers, &body.to_string()).await
}

/// A request of the control interface.
async fn control(platform: &Platform, method: &str, path: &str, body: &Value) -> Got {
    ask(platform, method, &format!("/_platform/{path}"), &[], &body.to_string()).await.unwrap()
}

async fn ask_token(platform: &Platform, path: &str, basic: Option<(&str, &str)>, form: &str) -> Option<Got> {
    let basic = basic.map(|(id, secret)| format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}"))));
    let mut headers = vec![("Content-Type", "application/x-www-form-urlencoded")];
    headers.extend(basic.as_deref().map(|basic| ("Authorization", basic)));
    ask(platform, "POST", path, &headers, form).await
}

/// A token with these scopes; with all when none is named.
async fn token(platform: &Platform, scope: &str) -> String {
    let scope = scope.replace(' ', "+");
    let form =
        format!("grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&scope={scope}");
    let got = ask_token(platform, "/oauth2/token", None, &form).await.unwrap();
    got.json()["access_token"].as_str().unwrap().to_owned()
}

fn time(ms: i64) -> String {
    format_rfc3339_ms(ms)
}

fn card(id: &str) -> Value {
    json!({
        "cardId": id, "type": "warning", "title": "Unhappy caller", "content": "Be kind.",
        "metadata": { "source": "earpiece", "timestamp": time(now_ms()) },
    })
}

fn insights(ids: &[&str]) -> Value {
    let card = |(index, id): (usize, &&str)| {
        json!({
            "id": id, "title": "Refunds", "priority": index + 1, "score": 0.5, "citation": "https://help.example.com",
            "snippet": "Open Billing.", "interactionId": "i1",
        })
    };
    let cards: Vec<_> = ids.iter().enumerate().map(card).collect();
    json!({ "insights": cards, "displayType": "CARD", "autoDismiss": true })
}

fn feedback() -> Value {
    json!({ "interactionId": "i1", "insightId": "a", "action": "ACCEPTED", "timestamp": time(now_ms()) })
}

fn suggest(interaction: &str, id: &str) -> Value {
    let now = now_ms();
    json!({
        "type": "agentassist.suggest", "interactionId": interaction,
        "suggestion": {
            "id": id, "content": "Offer a refund.", "priority": "HIGH", "relevanceScore": 0.9, "injectedAt": time(now),
            "contextWindow": { "start": time(now - 1_000), "end": time(now + 60_000) },
        },
    })
}

const CARDS: &str = "/api/v2/agentassist/interactions/i1/cards";
const INSIGHTS: &str = "/api/v2/agentassist/insights";
const FEEDBACK: &str = "/api/v2/ai/training/feedback";
const SEARCH: &str = "/api/v2/knowledge/articles/search";

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Dials a socket; the status when it is not upgraded.
    async fn dial(platform: &Platform, uplink: Uplink, query: &str) -> Result<Self, u16> {
        let url = format!("{}{query}", platform.socket_url(uplink));
        match ClientBuilder::from_uri(url.parse().unwrap()).connect().await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(status))) => Err(status),
            Err(error) => panic!("{error}"),
        }
    }

    /// A stream that is ready for events.
    async fn stream(platform: &Platform, uplink: Uplink) -> Self {
        let query = format!("?access_token={}", token(platform, "").await);
        let before = platform.look(|received| received.ready(uplink));
        let client = Self::dial(platform, uplink, &query).await.unwrap();
        platform.wait_for(SOON, |received| (received.ready(uplink) > before).then_some(())).await.unwrap();
        client
    }

    /// A suggestion socket that sent its token.
    async fn authenticate(platform: &Platform, token: &str) -> Self {
        let mut client = Self::dial(platform, Uplink::Suggestions, "").await.unwrap();
        client.say(&json!({ "type": "auth", "token": token })).await;
        client
    }

    /// A suggestion socket that is authorised.
    async fn suggestions(platform: &Platform) -> Self {
        let mut client = Self::authenticate(platform, &token(platform, "").await).await;
        assert_eq!(client.next().await, json!({ "type": "auth.success" }));
        client
    }

    async fn say(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        let message = timeout(SOON, self.0.next()).await.unwrap().unwrap().unwrap();
        serde_json::from_str(message.as_text().unwrap()).unwrap()
    }

    /// The close code; none when the connection ended without a close frame.
    async fn closed(&mut self) -> Option<u16> {
        let closing = async {
            while let Some(Ok(message)) = self.0.next().await {
                if let Some((code, _)) = message.as_close() {
                    return Some(code.into());
                }
            }
            None
        };
        timeout(SOON, closing).await.unwrap()
    }
}

async fn violation(platform: &Platform) -> String {
    let reason = platform.wait_for(SOON, |received| {
        let violation = received.of(Kind::Violation).next_back()?.json()?;
        violation["reason"].as_str().map(str::to_owned)
    });
    reason.await.unwrap()
}
