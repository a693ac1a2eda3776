//! An assist app for tests: accepts sockets when told to, says what it is told to, and keeps what it hears by the rules
//! that integrators are given.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_websockets::{Message, ServerBuilder, WebSocketStream};

use super::PATIENCE;

/// A listener on a free port. Sockets wait in its backlog until they are accepted.
pub(crate) struct App(TcpListener);

impl App {
    pub(crate) async fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next socket that completes its upgrade; attempts that were given up meanwhile are passed over.
    pub(crate) async fn accept(&mut self) -> Peer {
        timeout(PATIENCE, async {
            loop {
                let (stream, _) = self.0.accept().await.unwrap();
                if let Ok((request, socket)) = ServerBuilder::new().accept(stream).await {
                    let header = request.headers().get("authorization");
                    break Peer {
                        path_and_query: request.uri().to_string(),
                        authorization: header.map(|value| value.to_str().unwrap().to_owned()),
                        socket,
                    };
                }
            }
        })
        .await
        .expect("nobody connected")
    }
}

impl App {
    /// The next socket whose other end is still there, with its first frame: behind it lie attempts that were given up.
    pub(crate) async fn accept_live(&mut self) -> (Peer, String) {
        loop {
            let mut peer = self.accept().await;
            if let Some(first) = peer.next().await {
                return (peer, first.as_text().expect("a text frame").to_owned());
            }
        }
    }
}

/// One accepted socket.
pub(crate) struct Peer {
    pub(crate) path_and_query: String,
    pub(crate) authorization: Option<String>,
    socket: WebSocketStream<TcpStream>,
}

impl Peer {
    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text.to_owned())).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Option<Message> {
        let message = timeout(PATIENCE, self.socket.next()).await.expect("nothing came");
        message.map(Result::unwrap)
    }

    pub(crate) async fn text(&mut self) -> String {
        self.next().await.unwrap().as_text().expect("a text frame").to_owned()
    }

    pub(crate) async fn bytes(&mut self) -> Vec<u8> {
        let message = self.next().await.unwrap();
        assert!(message.is_binary(), "{message:?}");
        message.as_payload().to_vec()
    }
}

/// What an app has after dropping what it already had.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Samples, without the lost ones.
    pub(crate) audio: Vec<u8>,
    /// Lost ranges: first sample and length.
    pub(crate) lost: Vec<(u64, u64)>,
    pub(crate) silence: u64,
    pub(crate) stop: Option<String>,
    pub(crate) close: Option<u16>,
    pub(crate) longest_chunk: usize,
    pub(crate) repeated: u64,
    pub(crate) jumped: u64,
    /// Position of the next sample on this connection.
    next: u64,
    have: u64,
}

impl Heard {
    pub(crate) fn position(&self) -> u64 {
        self.have
    }

    /// Listens until the socket is closed.
    pub(crate) async fn listen(&mut self, peer: &mut Peer) {
        while let Some(message) = peer.next().await {
            self.take(&message);
        }
    }

    /// Listens until it has everything before a position.
    pub(crate) async fn hear_until(&mut self, peer: &mut Peer, position: u64) {
        while self.have < position {
            let message = peer.next().await.expect("the socket stays open");
            self.take(&message);
        }
    }

    /// Whether every sample is the one at its position, given the losses.
    pub(crate) fn audio_is(&self, sample: impl Fn(u64, u64) -> Vec<u8>) -> bool {
        let (mut at, mut rest) = (0, self.audio.as_slice());
        for &(first, samples) in &self.lost {
            let before = usize::try_from(first - at).unwrap();
            if rest[..before] != sample(at, first - at) {
                return false;
            }
            rest = &rest[before..];
            at = first + samples;
        }
        rest == sample(at, rest.len() as u64)
    }

    fn take(&mut self, message: &Message) {
        if let Some((code, _)) = message.as_close() {
            self.close = Some(code.into());
        } else if let Some(text) = message.as_text() {
            self.take_json(&serde_json::from_str(text).unwrap());
        } else if message.is_binary() {
            self.take_audio(message.as_payload());
        }
    }

    fn take_json(&mut self, frame: &Value) {
        let number = |field: &str| frame[field].as_u64().unwrap();
        match frame["type"].as_str().unwrap() {
            "start" => {
                self.next = number("position");
                self.jumped += self.next.saturating_sub(self.have);
                self.have = self.have.max(self.next);
            }
            "gap" => {
                assert_eq!(number("position"), self.next, "a gap is where the audio is");
                if frame["reason"] == "silence" {
                    self.silence = number("clock") + number("samples") - number("position");
                } else {
                    self.next += number("samples");
                    if self.next > self.have {
                        self.lost.push((self.have, self.next - self.have));
                        self.have = self.next;
                    }
                }
            }
            "stop" => {
                assert_eq!(number("position"), self.next);
                self.stop = Some(frame["reason"].as_str().unwrap().to_owned());
            }
            other => panic!("an undocumented frame {other}"),
        }
    }

    fn take_audio(&mut self, samples: &[u8]) {
        self.longest_chunk = self.longest_chunk.max(samples.len());
        let known = (self.have - self.next).min(samples.len() as u64);
        self.repeated += known;
        self.audio.extend_from_slice(&samples[usize::try_from(known).unwrap()..]);
        self.next += samples.len() as u64;
        self.have = self.have.max(self.next);
    }
}
