//! A tiny audio endpoint for this crate's tests: answers, and writes down what it hears and when.

use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_websockets::{CloseCode, Message, ServerBuilder};

/// What CXone expects to hear, byte for byte.
pub(crate) const CONNECTED: &str = r#"{"command":"CONNECTED","messageType":"COMMAND","message":"BEGIN AUDIO STREAM"}"#;

/// What the endpoint does with a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    /// Answers and listens.
    Listen,
    /// Answers `ERROR` and closes with a code.
    Refuse(u16),
    /// Answers, listens to this many frames, then closes with a code.
    CloseAfter(usize, u16),
    /// Answers, listens, and sends a ping with each frame it hears.
    Ping,
    /// Answers, listens to this many frames, then drops the connection.
    VanishAfter(usize),
}

/// What one connection brought.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    pub(crate) init: String,
    pub(crate) perspective: Value,
    pub(crate) acked: Instant,
    pub(crate) frames: Vec<(Instant, Vec<u8>)>,
    /// Payloads of the pongs that came.
    pub(crate) pongs: Vec<Vec<u8>>,
    /// Code of the close frame, or none when the connection ended without.
    pub(crate) close: Option<u16>,
    pub(crate) over: bool,
}

impl Heard {
    pub(crate) fn audio(&self) -> Vec<u8> {
        self.frames.iter().flat_map(|(_, frame)| frame.clone()).collect()
    }
}

pub(crate) struct Endpoint {
    pub(crate) url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    changed: watch::Sender<u64>,
}

impl Endpoint {
    /// Treats the n-th connection in the n-th manner, and all later ones in the last.
    pub(crate) async fn start(manners: &'static [Manner]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/audio", listener.local_addr().unwrap());
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let changed = watch::Sender::new(0);
        let (books, bell) = (Arc::clone(&heard), changed.clone());
        tokio::spawn(async move {
            for index in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let manner = manners[usize::min(index, manners.len() - 1)];
                tokio::spawn(serve(stream, manner, Arc::clone(&books), bell.clone()));
            }
        });
        Self { url, heard, changed }
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Connections whose init message named a perspective, in order.
    pub(crate) fn of(&self, perspective: &Value) -> Vec<Heard> {
        self.heard().into_iter().filter(|heard| heard.perspective == *perspective).collect()
    }

    /// Waits until this many connections are over.
    pub(crate) async fn over(&self, count: usize) -> Vec<Heard> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let heard = self.heard();
            if heard.iter().filter(|heard| heard.over).count() >= count {
                return heard;
            }
            changed.changed().await.unwrap();
        }
    }
}

async fn serve(stream: tokio::net::TcpStream, manner: Manner, books: Arc<Mutex<Vec<Heard>>>, bell: watch::Sender<u64>) {
    let Ok((request, mut socket)) = ServerBuilder::new().accept(stream).await else { return };
    // Control frames may come first; reading on is what answers them.
    let init = loop {
        match socket.next().await {
            Some(Ok(message)) if message.is_text() => break message,
            Some(Ok(_)) => {}
            _ => return,
        }
    };
    let Some(init) = init.as_text() else { return };
    if let Manner::Refuse(code) = manner {
        let _ = socket.send(Message::text(r#"{"command":"ERROR","messageType":"COMMAND","message":"no"}"#)).await;
        let _ = socket.send(Message::close(CloseCode::try_from(code).ok(), "no")).await;
        while let Some(Ok(_)) = socket.next().await {}
        return;
    }
    let parsed: Value = serde_json::from_str(init).unwrap_or_default();
    let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    socket.send(Message::text(CONNECTED)).await.unwrap();
    let index = {
        let mut books = books.lock().unwrap();
        books.push(Heard {
            target: request.uri().to_string(),
            authorization,
            init: init.to_owned(),
            perspective: parsed["streamPerspective"].clone(),
            acked: Instant::now(),
            frames: Vec::new(),
            pongs: Vec::new(),
            close: None,
            over: false,
        });
        books.len() - 1
    };
    let mut count = 0;
    while let Some(Ok(message)) = socket.next().await {
        if let Some((code, _)) = message.as_close() {
            books.lock().unwrap()[index].close = Some(code.into());
        } else if message.is_pong() {
            books.lock().unwrap()[index].pongs.push(message.into_payload().to_vec());
        } else if message.is_binary() {
            count += 1;
            books.lock().unwrap()[index].frames.push((Instant::now(), message.into_payload().to_vec()));
        }
        match manner {
            Manner::CloseAfter(frames, code) if frames == count => {
                let _ = socket.send(Message::close(CloseCode::try_from(code).ok(), "")).await;
            }
            Manner::Ping => {
                let _ = socket.send(Message::ping(count.to_string().into_bytes())).await;
            }
            Manner::VanishAfter(frames) if frames == count => break,
            _ => {}
        }
    }
    books.lock().unwrap()[index].over = true;
    bell.send_modify(|version| *version += 1);
}
