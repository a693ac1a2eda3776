//! What the tests of several modules stand on: the doors on an embedded store, and a real HTTP server that is the assist
//! app and API Gateway's `@connections`.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use earpiece_access::issue::{Claims, SigningKey};
use earpiece_access::{Guard, settings as access};
use earpiece_core::config::{EmptyEnv, Overlay, Reader};
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::Perspective;
use earpiece_https::Trust;
use earpiece_https::client::Client;
use earpiece_push::Push;
use earpiece_recorder::Recorder;
use earpiece_store::{Claim, Embedded, Store, StreamEnd};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lambda_http::Body;
use lambda_http::http::Request as HttpRequest;
use serde_json::{Value, json};

use crate::answer::{Answer, Request};
use crate::clock::wall_s;
use crate::routes::{Doors, Parts};
use crate::settings::{self, Settings};

pub(crate) const CONTACT: ContactKey = ContactKey { bus_no: 4_595_000, contact_id: 466_000_000_001 };
pub(crate) const ISSUER: &str = "https://earpiece.example.com";
pub(crate) const AUDIENCE: &str = "earpiece";
pub(crate) const TOKEN: &str = "the-static-token";
pub(crate) const HOOK: &str = "/agent_assist_text_webhooks/utterance";
const PEER: [u8; 4] = [192, 0, 2, 1];

/// A request that a server took.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) path: String,
    pub(crate) headers: lambda_http::http::HeaderMap,
    pub(crate) body: Bytes,
}

/// A server on a port of its own that answers everything with one status, and remembers it.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    status: Arc<AtomicU16>,
    events: Arc<Mutex<Value>>,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Server {
    pub(crate) async fn open() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self {
            url,
            status: Arc::new(AtomicU16::new(200)),
            events: Arc::new(Mutex::new(Value::Null)),
            taken: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let answering = accepting.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answering.clone().answer(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        server
    }

    async fn answer(
        self,
        request: hyper::Request<hyper::body::Incoming>,
    ) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let path = head.uri.path().to_owned();
        self.taken.lock().unwrap().push(Taken { path, headers: head.headers, body });
        let events = self.events.lock().unwrap().clone();
        let body = if events.is_null() { Bytes::new() } else { Bytes::from(events.to_string()) };
        let mut response = hyper::Response::new(Full::new(body));
        *response.status_mut() = self.status.load(Ordering::SeqCst).try_into().unwrap();
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        Ok(response)
    }

    /// What it answers from now on.
    pub(crate) fn set_status(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn set_body(&self, body: Value) {
        *self.events.lock().unwrap() = body;
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }
}

/// The doors, and everything around them.
pub(crate) struct House {
    pub(crate) embedded: Embedded,
    pub(crate) store: Store,
    pub(crate) app: Server,
    pub(crate) pages: Server,
    pub(crate) doors: Doors,
}

/// The settings that a test begins with.
pub(crate) fn env() -> Overlay<EmptyEnv> {
    Overlay::over(EmptyEnv)
}

/// Settings of a deployment with static tokens, JWTs by our own keys, and clients that may have them.
pub(crate) fn guarded() -> Overlay<EmptyEnv> {
    env()
        .with(&settings::TEXT_TOKENS, format!("older,{TOKEN}"))
        .with(&access::ISSUER, ISSUER)
        .with(&access::AUDIENCE, AUDIENCE)
        .with(&access::JWKS, "table")
}

impl House {
    /// A house where everybody may do everything.
    pub(crate) async fn open() -> Self {
        Self::with(env().with(&settings::TEXT_TOKENS, settings::NONE)).await
    }

    pub(crate) async fn with(env: Overlay<EmptyEnv>) -> Self {
        Self::with_recorder(env, None).await
    }

    pub(crate) async fn with_recorder(env: Overlay<EmptyEnv>, recorder: Option<Recorder>) -> Self {
        let embedded = Embedded::memory().unwrap();
        let store = embedded.store("calls").await.unwrap();
        Self::build(env, recorder, embedded, store).await
    }

    /// Another house with other settings over the same table.
    pub(crate) async fn over(env: Overlay<EmptyEnv>, embedded: Embedded, store: Store) -> Self {
        Self::build(env, None, embedded, store).await
    }

    async fn build(env: Overlay<EmptyEnv>, recorder: Option<Recorder>, embedded: Embedded, store: Store) -> Self {
        let (app, pages) = (Server::open().await, Server::open().await);
        let env = env
            .with(&settings::ASSIST_TEXT_URL, format!("{}/text", app.url))
            .with(&settings::ASSIST_TEXT_AUTHORIZATION, "Bearer secret-of-the-app");
        let settings = Settings::read(&env).unwrap();
        let guard = guard(&settings, &env, &store);
        let doors = Doors::new(Parts {
            settings: &settings,
            store: store.clone(),
            guard,
            client: Client::new(&Trust::public()).unwrap(),
            push: Some(Push::connect_local(&pages.url)),
            recorder,
            task: "test".into(),
        })
        .unwrap();
        Self { embedded, store, app, pages, doors }
    }

    /// Opens a stream of a contact in the store.
    pub(crate) async fn claim(&self, contact: ContactKey, now_ms: i64) -> StreamId {
        let stream = StreamId::new();
        let claim = Claim {
            contact,
            perspective: &Perspective::Tx,
            stream,
            opened_at_us: now_ms * 1000,
            task: "shim",
            now_ms,
            stale_after_ms: 60_000,
        };
        self.store.claim(&claim).await.unwrap();
        stream
    }

    /// A call without audio that has just ended, and may come back within a second.
    pub(crate) async fn call(&self, contact: ContactKey, now_ms: i64) {
        let stream = self.claim(contact, now_ms).await;
        let end = StreamEnd {
            contact,
            perspective: &Perspective::Tx,
            stream,
            samples: 0,
            reason: CloseReason::PeerClosed,
            now_ms,
            quiet_ms: 1000,
        };
        self.store.end_stream(&end).await.unwrap();
    }

    pub(crate) async fn send(&self, request: Request) -> Answer {
        self.doors.answer(request, Some(IpAddr::from(PEER))).await
    }

    /// Sends, and gives the status and the body as JSON.
    pub(crate) async fn ask(&self, request: Request) -> (u16, Value) {
        let answer = self.send(request).await;
        (answer.status().as_u16(), body_of(&answer))
    }
}

fn guard(settings: &Settings, env: &Overlay<EmptyEnv>, store: &Store) -> Guard {
    if settings.text_tokens.is_open() {
        return Guard::open();
    }
    let mut reader = Reader::new(env);
    let jwt = access::jwt(&mut reader, None, Some(crate::start::keys_in(store.clone())));
    reader.finish().unwrap();
    Guard::new(settings.text_tokens.clone(), jwt)
}

/// Every file under a folder.
pub(crate) fn files_under(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}

pub(crate) fn body_of(answer: &Answer) -> Value {
    serde_json::from_slice(answer.body().as_ref()).unwrap_or_default()
}

/// A request with a JSON body.
pub(crate) fn post(path: &str, body: &Value) -> Request {
    HttpRequest::post(path).header("content-type", "application/json").body(Body::Text(body.to_string())).unwrap()
}

pub(crate) fn with_header(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

pub(crate) fn get(path: &str) -> Request {
    HttpRequest::get(path).body(Body::Empty).unwrap()
}

/// The body of an utterance.
pub(crate) fn utterance(words: &str) -> Value {
    json!({
        "contactId": CONTACT.contact_id,
        "busNo": CONTACT.bus_no,
        "participantId": "patron",
        "messageBody": words,
    })
}

/// Claims that are good for everything now.
pub(crate) fn claims() -> Claims {
    let now_s = wall_s();
    Claims {
        iss: Some(ISSUER.into()),
        aud: Some(AUDIENCE.into()),
        sub: "studio".into(),
        iat: now_s,
        nbf: now_s,
        exp: now_s + 600,
        jti: uuid::Uuid::now_v7().simple().to_string(),
        scope: "utterances events audio listen".into(),
        bus_no: None,
        contact_id: None,
        one_time: None,
    }
}

/// A signing key whose public half the table publishes.
pub(crate) async fn published_key(store: &Store) -> SigningKey {
    let key = SigningKey::generate(wall_s()).unwrap();
    let private = earpiece_store::StoredKey {
        kid: key.kid.clone(),
        created_at_s: key.created_at_s,
        body: serde_json::to_string(&key).unwrap(),
    };
    let public = earpiece_store::StoredKey { body: key.jwk.to_string(), ..private.clone() };
    assert!(store.add_signing_key(&private, &public, None, wall_s() + 86_400).await.unwrap());
    key
}
