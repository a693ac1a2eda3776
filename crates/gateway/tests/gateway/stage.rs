//! A gateway with functions that a test writes, and clients before it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use earpiece_gateway::{Gateway, InProcess, Invoke, InvokeError, Settings};
use earpiece_https::Trust;
use earpiece_https::client::{Client, Limits};
use futures_util::StreamExt as _;
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_websockets::{ClientBuilder, Config, MaybeTlsStream, Message, WebSocketStream};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longer than anything here takes: what is waited for does not come any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An invocation: which function, and its event.
pub(crate) type Asked = (String, Value);

pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) gateway: Arc<Gateway>,
    asked: Mutex<mpsc::UnboundedReceiver<Asked>>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

/// Functions that answer at once.
pub(crate) fn functions(
    answer: impl Fn(&str, &Value) -> Result<Value, InvokeError> + Send + Sync + 'static,
) -> InProcess {
    Arc::new(move |name, event| {
        let answer = answer(&name, &event);
        Box::pin(async move { answer })
    })
}

/// Functions that are content with everything.
pub(crate) fn content() -> InProcess {
    functions(|_, _| Ok(json!({ "statusCode": 200 })))
}

impl Stage {
    /// Starts a gateway whose invocations can be waited for.
    pub(crate) async fn start(settings: Settings, functions: InProcess) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let invoke = Invoke::InProcess(Arc::new(move |name, event| {
            // A test that is over listens no more.
            let _ = sender.send((name.clone(), event.clone()));
            functions(name, event)
        }));
        Self::with(settings, invoke, asked).await
    }

    pub(crate) async fn with(settings: Settings, invoke: Invoke, asked: mpsc::UnboundedReceiver<Asked>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Gateway::new(settings, invoke);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(gateway.clone().serve(listener, async {
            let _ = stopped.await;
        }));
        Self { address, gateway, asked: Mutex::new(asked), stop, serving }
    }

    /// The next invocation.
    pub(crate) async fn asked(&self) -> Asked {
        let next = async { self.asked.lock().await.recv().await.unwrap() };
        tokio::time::timeout(PATIENCE, next).await.expect("an invocation")
    }

    /// The event of the next invocation, which is one of this function.
    pub(crate) async fn asked_of(&self, function: &str) -> Value {
        let (name, event) = self.asked().await;
        assert_eq!(name, function, "{event}");
        event
    }

    pub(crate) async fn nothing_asked(&self) {
        assert_eq!(self.asked.lock().await.try_recv().ok(), None);
    }

    pub(crate) async fn connect(&self) -> Socket {
        self.try_connect("/local", 16 * 1024).await.expect("an open connection")
    }

    /// Connects; messages go out in frames of at most `frame_bytes`. The error is the status.
    pub(crate) async fn try_connect(&self, path: &str, frame_bytes: usize) -> Result<Socket, u16> {
        let uri = format!("ws://{}{path}", self.address).parse().unwrap();
        let config = Config::default().frame_size(frame_bytes);
        match ClientBuilder::from_uri(uri).config(config).connect().await {
            Ok((socket, _)) => Ok(socket),
            Err(tokio_websockets::Error::Upgrade(tokio_websockets::upgrade::Error::DidNotSwitchProtocols(status))) => {
                Err(status)
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens a connection and returns it with its id.
    pub(crate) async fn open(&self) -> (Socket, String) {
        let socket = self.connect().await;
        let event = self.asked_of("ws-connect").await;
        (socket, event["requestContext"]["connectionId"].as_str().unwrap().to_owned())
    }

    /// A request to `@connections`.
    pub(crate) async fn connections(&self, method: Method, id: &str, body: impl Into<Bytes>) -> Response<Bytes> {
        let address = format!("http://{}/local/%40connections/{}", self.address, id.replace('=', "%3D"));
        let request = Request::builder().method(method).uri(address).header("authorization", "AWS4-HMAC-SHA256 x");
        let client = Client::new(&Trust::public()).unwrap();
        let limits = Limits { deadline: PATIENCE, answer_bytes_max: 1024 * 1024 };
        client.send(request.body(body.into()).unwrap(), limits).await.unwrap()
    }

    /// Stops the gateway and waits until it has.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
    }
}

/// The next message of a connection.
pub(crate) async fn heard(socket: &mut Socket) -> Message {
    tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time").expect("a message").expect("no error")
}

/// The next message, which is JSON.
pub(crate) async fn heard_json(socket: &mut Socket) -> Value {
    serde_json::from_str(heard(socket).await.as_text().expect("text")).unwrap()
}

/// The code with which a connection is closed, after whatever else comes.
pub(crate) async fn closed(socket: &mut Socket) -> u16 {
    loop {
        if let Some((code, _)) = heard(socket).await.as_close() {
            return code.into();
        }
    }
}
