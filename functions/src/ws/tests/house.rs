//! Everything that the handlers stand on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use earpiece_access::Guard;
use earpiece_core::audio::wav;
use earpiece_core::contact::ledger::Ledger;
use earpiece_push::Push;
use earpiece_recorder::Recorder;
use earpiece_store::{Embedded, Store};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::super::{Limits, Parts, Pieces, Rooms};
use super::{CONTACT, now_ms};
use crate::counters::Counters;

pub(super) const CONNECTION: &str = "L0SM9cOFvHcCIhw=";

/// The house, with everything in it.
pub(super) struct House {
    pub(super) rooms: Rooms,
    pub(super) store: Store,
    pub(super) recorder: Recorder,
    pub(super) gateway: Arc<Peers>,
    pub(super) counters: Arc<Counters>,
    folder: tempfile::TempDir,
    _embedded: Embedded,
}

impl House {
    pub(super) async fn open() -> Self {
        Self::guarded(Guard::open()).await
    }

    pub(super) async fn guarded(guard: Guard) -> Self {
        let embedded = Embedded::memory().expect("an embedded store");
        let store = embedded.store("calls").await.expect("a table");
        let folder = tempfile::tempdir().expect("a folder");
        let location = folder.path().to_str().expect("text");
        let recorder = Recorder::open(location, earpiece_recorder::Settings::default()).expect("a recorder");
        let (gateway, endpoint) = Peers::listen().await;
        let counters = Arc::new(Counters::new("test"));
        let rooms = Rooms::new(Parts {
            guard,
            store: store.clone(),
            push: Some(Push::connect_local(&endpoint)),
            pieces: Pieces::recorded(recorder.clone()),
            counters: Arc::clone(&counters),
            limits: Limits::default(),
        });
        Self { rooms, store, recorder, gateway, counters, folder, _embedded: embedded }
    }

    pub(super) fn with_pieces(mut self, pieces: Pieces) -> Self {
        let parts = Parts { pieces, ..self.rooms.parts.clone() };
        self.rooms = Rooms::new(parts);
        self
    }

    pub(super) async fn connect(&self, event: Event) -> i64 {
        self.rooms.connect(event.with("$connect", "CONNECT")).await.status_code
    }

    pub(super) async fn message(&self, event: Event) -> i64 {
        self.rooms.message(event.with("$default", "MESSAGE")).await.status_code
    }

    pub(super) async fn disconnect(&self, event: Event) -> i64 {
        self.rooms.disconnect(event.with("$disconnect", "DISCONNECT")).await.status_code
    }

    /// A connection that was answered `CONNECTED`.
    pub(super) async fn streaming(&self, connection: &str, perspective: &str) {
        assert_eq!(self.connect(Event::of(connection)).await, 200);
        assert_eq!(self.message(Event::of(connection).json("init", &super::init(perspective))).await, 200);
        assert_eq!(self.gateway.heard(connection), [earpiece_core::protocol::message::CONNECTED]);
    }

    /// The ledger and what is heard on the left channel.
    pub(super) async fn finish(&self) -> (Ledger, Vec<u8>) {
        let ledger = self.recorder.finish(CONTACT).await.expect("finished").ledger;
        let path = format!("contacts/{}/{}/recording.wav", CONTACT.bus_no, CONTACT.contact_id);
        let file = std::fs::read(self.folder.path().join(path)).expect("a recording");
        let wav = wav::parse(&file).expect("a WAV file");
        let left = match wav.channels {
            wav::Channels::Mono => wav.data.to_vec(),
            wav::Channels::Stereo => wav.data.iter().copied().step_by(2).collect(),
        };
        (ledger, left)
    }

    /// Names of the segments that wait to be finished.
    pub(super) fn segments(&self) -> Vec<String> {
        let folder = self.folder.path().join(format!("live/{}/{}", CONTACT.bus_no, CONTACT.contact_id));
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
    }

    pub(super) async fn is_any_stream_open(&self) -> bool {
        let contact = self.store.contact(&CONTACT, now_ms()).await.expect("read");
        contact.is_some_and(|contact| contact.streams.values().any(|stream| stream.open))
    }

    pub(super) async fn listeners(&self) -> Vec<String> {
        self.store.listeners(&CONTACT, now_ms(), 100).await.expect("read")
    }
}

/// An event as API Gateway writes it.
#[derive(Clone)]
pub(super) struct Event(Value);

impl Event {
    pub(super) fn of(connection: &str) -> Self {
        Self(json!({
            "requestContext": {
                "connectionId": connection,
                "connectedAt": now_ms(),
                "requestTimeEpoch": now_ms(),
                "requestTime": "21/Nov/2026:08:00:00 +0000",
                "requestId": "RYrCfF9sIAMFqKA=",
                "extendedRequestId": "RYrCfF9sIAMFqKA=",
                "apiId": "a1b2c3",
                "stage": "prod",
                "domainName": "a1b2c3.execute-api.eu-central-1.amazonaws.com",
                "messageDirection": "IN",
                "identity": {"sourceIp": "192.0.2.1"},
            },
            "isBase64Encoded": false,
        }))
    }

    fn body(mut self, message: &str, body: String, is_base64: bool) -> Self {
        self.0["requestContext"]["messageId"] = message.into();
        self.0["body"] = body.into();
        self.0["isBase64Encoded"] = is_base64.into();
        self
    }

    pub(super) fn json(self, message: &str, body: &Value) -> Self {
        self.body(message, body.to_string(), false)
    }

    pub(super) fn text(self, body: &str) -> Self {
        self.body("text", body.to_owned(), false)
    }

    pub(super) fn audio(self, message: &str, samples: &[u8]) -> Self {
        self.body(message, BASE64_STANDARD.encode(samples), true)
    }

    pub(super) fn at_ms(mut self, at_ms: i64) -> Self {
        self.0["requestContext"]["requestTimeEpoch"] = at_ms.into();
        self
    }

    /// What the authorizer said.
    pub(super) fn granted(mut self, context: Value) -> Self {
        self.0["requestContext"]["authorizer"] = context;
        self
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.0["headers"] = json!({ name: value });
        self
    }

    pub(super) fn closed(mut self, code: i64) -> Self {
        self.0["requestContext"]["disconnectStatusCode"] = code.into();
        self
    }

    pub(super) fn with(mut self, route: &str, kind: &str) -> ApiGatewayWebsocketProxyRequest {
        self.0["requestContext"]["routeKey"] = route.into();
        self.0["requestContext"]["eventType"] = kind.into();
        serde_json::from_value(self.0).expect("an event")
    }
}

/// A request to one of the stand-ins.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

/// `@connections`, and a shim at `/ingest`.
#[derive(Default)]
pub(super) struct Peers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    heard: BTreeMap<String, Vec<String>>,
    over: BTreeSet<String>,
    ingested: Vec<Asked>,
    ingest_status: u16,
}

impl Peers {
    /// The stand-in, and its address.
    pub(super) async fn listen() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let peers = Arc::new(Self::default());
        let serving = Arc::clone(&peers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        (peers, format!("http://{address}"))
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some((method, asked)) = read_request(&mut stream).await {
            let status = self.answer(&method, asked);
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, method: &str, asked: Asked) -> u16 {
        let mut state = self.state.lock().expect("a lock");
        let Some(connection) = asked.path.strip_prefix("/@connections/") else {
            state.ingested.push(asked);
            return state.ingest_status;
        };
        let connection = connection.replace("%3D", "=");
        if state.over.contains(&connection) {
            return 410;
        }
        if method == "DELETE" {
            state.over.insert(connection);
            return 204;
        }
        let frame = String::from_utf8(asked.body).expect("text");
        state.heard.entry(connection).or_default().push(frame);
        200
    }

    /// Frames that a connection got.
    pub(super) fn heard(&self, connection: &str) -> Vec<String> {
        self.state.lock().expect("a lock").heard.get(connection).cloned().unwrap_or_default()
    }

    pub(super) fn messages(&self, connection: &str) -> Vec<Value> {
        self.heard(connection).iter().map(|frame| serde_json::from_str(frame).expect("JSON")).collect()
    }

    /// The text of the last frame that a connection got.
    pub(super) fn last(&self, connection: &str) -> Value {
        self.messages(connection).pop().expect("a frame")
    }

    pub(super) fn is_over(&self, connection: &str) -> bool {
        self.state.lock().expect("a lock").over.contains(connection)
    }

    /// The peer goes without a word.
    pub(super) fn vanish(&self, connection: &str) {
        self.state.lock().expect("a lock").over.insert(connection.to_owned());
    }

    /// What the shim answers from now on.
    pub(super) fn ingest(&self, status: u16) {
        self.state.lock().expect("a lock").ingest_status = status;
    }

    pub(super) fn ingested(&self) -> Vec<Asked> {
        self.state.lock().expect("a lock").ingested.clone()
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, Asked)> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((method, Asked { path, headers, body }))
}
