//! A task on an embedded database, and the peers it speaks to, in this process on free ports.

use std::net::SocketAddr;
use std::time::Duration;

use earpiece_core::config::{EmptyEnv, Overlay, Setting};
use earpiece_core::contact::ContactKey;
use earpiece_shim::{Parts, Settings, service, settings};
use earpiece_store::Store;
use earpiece_store::embedded::Embedded;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_websockets::{ClientBuilder, Message, ServerBuilder, WebSocketStream};

/// Nothing here takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running task.
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) data: TempDir,
    pub(crate) store: Store,
    shutdown: oneshot::Sender<()>,
    running: JoinHandle<()>,
    _database: Embedded,
}

impl House {
    pub(crate) async fn open(set: &[(Setting, &str)]) -> Self {
        Self::open_with(set, |_| {}).await
    }

    /// The same, with parts that no setting makes.
    pub(crate) async fn open_with(set: &[(Setting, &str)], change: impl FnOnce(&mut Parts)) -> Self {
        let data = tempfile::tempdir().expect("a temporary folder");
        let database = Embedded::memory().expect("a database");
        let store = database.store("house").await.expect("a table");
        let recordings = data.path().to_str().expect("a Unicode path").to_owned();
        let env = Overlay::over(EmptyEnv).with(&settings::RECORDINGS, recordings);
        // The embedded database is slow when nothing is optimised.
        let env = env.with(&settings::STORE_DEADLINE, "10s");
        let env = set.iter().fold(env, |env, (setting, value)| env.with(setting, *value));
        let settings = Settings::read(&env).expect("settings that can be used");
        let mut parts = service::parts(&settings, store.clone()).expect("parts");
        change(&mut parts);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (shutdown, signalled) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            earpiece_shim::run(listener, async { drop(signalled.await) }, parts).await.expect("a task that is served");
        });
        Self { address, data, store, shutdown, running, _database: database }
    }

    /// The value of a metric, by its name with labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let answer = self.request("GET", "/metrics", &[], b"").await;
        let line = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}")).trim().parse().expect("a whole number")
    }

    /// Waits until a metric has a value.
    pub(crate) async fn wait_for_metric(&self, name: &str, value: u64) {
        let reached = async {
            while self.metric(name).await != value {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{name} never became {value}"));
    }

    pub(crate) async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        request_on(stream, method, path, headers, body).await
    }

    /// Shakes hands with an init message, and gives what was answered, and the socket.
    pub(crate) async fn shake(&self, init: &Value) -> (Value, WebSocketStream<TcpStream>) {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        shake_on(stream, init).await
    }

    /// Lets the task drain, and waits until it has gone. What it leaves behind is its folder.
    pub(crate) async fn close(self) -> TempDir {
        let _ = self.shutdown.send(());
        tokio::time::timeout(PATIENCE, self.running).await.expect("it goes in time").expect("no panic");
        self.data
    }
}

/// What an HTTP request was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A plain HTTP request on a connection of its own.
pub(crate) async fn request_on<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let lines = lines.concat();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("a request");
    // A refusal may come before the whole body was taken.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// Shakes hands on a connection.
pub(crate) async fn shake_on<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    init: &Value,
) -> (Value, WebSocketStream<S>) {
    let builder = ClientBuilder::new().uri("ws://localhost/audio").expect("a URI");
    let (mut socket, _) = builder.connect_on(stream).await.expect("an upgrade");
    socket.send(Message::text(init.to_string())).await.expect("it can be sent");
    let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("an answer in time");
    let answer = next.expect("an answer").expect("a message");
    (serde_json::from_str(answer.as_text().expect("text")).expect("JSON"), socket)
}

/// The close code that comes next.
pub(crate) async fn close_code<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> u16 {
    let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time");
    let message = next.expect("a message").expect("a message");
    u16::from(message.as_close().expect("a close frame").0)
}

pub(crate) fn contact(contact_id: u64) -> ContactKey {
    ContactKey { bus_no: 4711, contact_id }
}

/// An init message of a contact, perspective TX.
pub(crate) fn init(contact: ContactKey, token: Option<&str>) -> Value {
    let mut init = json!({
        "executionInfo": { "contactId": contact.contact_id, "busNo": contact.bus_no },
        "streamPerspective": "TX",
    });
    if let Some(token) = token {
        init["authenticationToken"] = token.into();
    }
    init
}

/// Stands in for the assist app: everything that it hears, on every socket.
pub(crate) struct App {
    pub(crate) url: String,
    heard: mpsc::UnboundedReceiver<Message>,
}

impl App {
    /// An app that says one thing as soon as a stream begins.
    pub(crate) async fn open(words: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("ws://{}/voice", listener.local_addr().expect("an address"));
        let (tell, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let (_, mut socket) = ServerBuilder::new().accept(stream).await.expect("an upgrade");
                    socket.send(Message::text(words)).await.expect("a peer that listens");
                    while let Some(Ok(message)) = socket.next().await {
                        let _ = tell.send(message);
                    }
                });
            }
        });
        Self { url, heard }
    }

    /// The next text frame, and the audio that came before it.
    pub(crate) async fn next_text(&mut self) -> (Vec<u8>, Value) {
        let mut audio = Vec::new();
        let search = async {
            loop {
                let message = self.heard.recv().await.expect("the app lives on");
                if let Some(text) = message.as_text() {
                    return serde_json::from_str(text).expect("JSON");
                }
                if message.is_binary() {
                    audio.extend_from_slice(message.as_payload());
                }
            }
        };
        let text = tokio::time::timeout(PATIENCE, search).await.expect("it is said in time");
        (audio, text)
    }
}

/// Stands in for anything that is spoken to over HTTP: `answer` gives status and body for a path and a body.
pub(crate) async fn http_stand_in(
    answer: impl Fn(&str, &[u8]) -> (u16, &'static str) + Send + Sync + Clone + 'static,
) -> (String, mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tell, answer) = (tell.clone(), answer.clone());
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                while let Some((line, body)) = read_request(&mut stream).await {
                    let (status, text) = answer(&line, &body);
                    let _ = tell.send((line, body));
                    let length = text.len();
                    let said = format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\n\r\n{text}");
                    if stream.write_all(said.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, heard)
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some((head.lines().next()?.to_owned(), body))
}
