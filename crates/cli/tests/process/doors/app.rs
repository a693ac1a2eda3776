//! A real HTTP server on a port of its own: the assist app, or whoever publishes keys.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::serve::PATIENCE;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;

/// A request that it took.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Taken {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(super) fn idempotency_key(&self) -> &str {
        self.headers["idempotency-key"].to_str().expect("text")
    }
}

/// What it does with a request.
#[derive(Debug, Clone)]
enum Manner {
    Answers(u16, Value),
    /// It reads, and says nothing.
    Hangs,
}

/// The server, which listens until it is dropped.
#[derive(Clone)]
pub(super) struct App {
    pub(super) url: String,
    manner: Arc<Mutex<Manner>>,
    taken: watch::Sender<Vec<Taken>>,
}

/// An address where nobody listens yet: connections to it are refused, and nobody else can have it.
pub(super) struct Away {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Away {
    pub(super) fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = socket.local_addr().expect("an address");
        Self { socket, address }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The server is back.
    pub(super) fn listen(self) -> App {
        let url = self.url();
        App::serve(self.socket.listen(BACKLOG).expect("a listener"), url)
    }
}

impl App {
    /// One that takes everything.
    pub(super) fn start() -> Self {
        Away::reserve().listen()
    }

    fn serve(listener: TcpListener, url: String) -> Self {
        let app = Self {
            url,
            manner: Arc::new(Mutex::new(Manner::Answers(200, json!({})))),
            taken: watch::Sender::new(Vec::new()),
        };
        let accepting = app.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answering = accepting.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answering.clone().answer(request));
                    // A peer that was killed ends badly, and that is its own affair.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        app
    }

    async fn answer(self, request: hyper::Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        self.taken.send_modify(|taken| taken.push(Taken { headers: head.headers, body }));
        let manner = self.manner.lock().expect("no panic").clone();
        let Manner::Answers(status, body) = manner else {
            return std::future::pending().await;
        };
        let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
        *response.status_mut() = status.try_into().expect("a status");
        Ok(response)
    }

    /// What it answers from now on.
    pub(super) fn answers(&self, status: u16, body: Value) {
        *self.manner.lock().expect("no panic") = Manner::Answers(status, body);
    }

    /// From now on it says nothing.
    pub(super) fn hangs(&self) {
        *self.manner.lock().expect("no panic") = Manner::Hangs;
    }

    /// All requests so far.
    pub(super) fn taken(&self) -> Vec<Taken> {
        self.taken.borrow().clone()
    }

    /// Waits until there were so many requests, and gives all of them.
    pub(super) async fn until(&self, requests: usize) -> Vec<Taken> {
        let mut taken = self.taken.subscribe();
        let came = timeout(PATIENCE, taken.wait_for(|taken| taken.len() >= requests)).await;
        came.expect("requests in time").expect("it lives").clone()
    }
}
