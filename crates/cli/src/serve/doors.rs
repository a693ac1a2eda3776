//! The serverless doors in this process: the same handlers that Lambda runs, beside the shim on its listener.
//!
//! HTTP routes are answered by [`Doors`]; `/ws` is the WebSocket API, with API Gateway's front between the socket and
//! its handlers. `@connections` is served on a listener of its own that only this machine reaches, because in an
//! account it is IAM that guards it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use bytes::Bytes;
use earpiece_access::Guard;
use earpiece_core::access::Verifier;
use earpiece_core::config::{Env, Reader};
use earpiece_core::error::Kind;
use earpiece_functions::answer::Problem;
use earpiece_functions::clock::wall_ms;
use earpiece_functions::counters::Counters;
use earpiece_functions::routes::{Doors, Parts};
use earpiece_functions::settings::Settings;
use earpiece_functions::start::keys_in;
use earpiece_functions::text_hook::BODY_BYTES_MAX;
use earpiece_functions::ws::{self, Pieces, Rooms};
use earpiece_gateway::{Gateway, Invoke, InvokeError};
use earpiece_https::Trust;
use earpiece_https::client::Client;
use earpiece_push::Push;
use earpiece_recorder::Recorder;
use earpiece_store::Store;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use lambda_http::Body;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::trouble::{Trouble, chain};

/// Where pages and clients of the WebSocket API connect.
pub(crate) const SOCKET_PATH: &str = "/ws";

/// How long a request's body may take to arrive.
const BODY: Duration = Duration::from_secs(10);

/// How often it is looked for what could not be delivered.
const SWEEP: Duration = Duration::from_secs(5);

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The doors, open.
pub(super) struct Open {
    /// Answers what the shim does not know.
    pub(super) doors: earpiece_shim::Doors,
    /// What they count.
    pub(super) metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Where connections are reached.
    pub(super) connections_url: String,
    closing: watch::Sender<bool>,
    management: JoinHandle<()>,
    sweeper: JoinHandle<()>,
}

impl Open {
    /// Closes the WebSocket API's connections and ends what runs in the background.
    pub(super) async fn close(self) {
        self.sweeper.abort();
        self.closing.send_replace(true);
        // It ends by itself within a bound.
        let _ = self.management.await;
    }
}

/// What the doors are opened with.
pub(super) struct Wanted<'a, E> {
    pub(super) env: &'a E,
    pub(super) settings: &'a Settings,
    pub(super) store: &'a Store,
    pub(super) recorder: &'a Recorder,
    pub(super) task: &'a str,
}

/// Opens the doors.
///
/// # Errors
///
/// What cannot be used or had.
pub(super) async fn open<E: Env>(wanted: Wanted<'_, E>) -> Result<Open, Trouble> {
    let Wanted { env, settings, store, recorder, task } = wanted;
    let trust = Trust::read(env).map_err(|error| Trouble::usage(chain(&error)))?;
    let client = Client::new(&trust).map_err(|error| Trouble::failed(chain(&error)))?;
    let guard = |tokens: &Verifier| guard(env, tokens, &client, store);
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| no_listener(&error))?;
    let connections_url = format!("http://{}", listener.local_addr().map_err(|error| no_listener(&error))?);
    let push = Push::connect_local(&connections_url);

    let doors = Doors::new(Parts {
        settings,
        store: store.clone(),
        guard: guard(&settings.text_tokens)?,
        client: client.clone(),
        push: Some(push.clone()),
        // The shim beside us finishes contacts.
        recorder: None,
        task: task.into(),
    });
    let doors = Arc::new(doors.map_err(|error| Trouble::usage(chain(&error)))?);
    let counters = Arc::new(Counters::new("serve-ws"));
    let rooms = Rooms::new(ws::Parts {
        guard: guard(&settings.audio_tokens)?,
        store: store.clone(),
        push: Some(push),
        pieces: Pieces::recorded(recorder.clone()),
        counters: Arc::clone(&counters),
        limits: ws::Limits::of(settings),
    });
    let gateway = Gateway::new(earpiece_gateway::Settings::default(), in_process(rooms));

    let (closing, mut closed) = watch::channel(false);
    let management = tokio::spawn(gateway.clone().serve(listener, async move {
        let _ = closed.wait_for(|closed| *closed).await;
    }));
    let sweeper = tokio::spawn({
        let doors = Arc::clone(&doors);
        async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                doors.reaper().sweep_once(wall_ms()).await;
            }
        }
    });
    let metrics = {
        let doors = Arc::clone(&doors);
        Arc::new(move || doors.metrics() + &counters.prometheus())
    };
    Ok(Open { doors: mount(doors, gateway), metrics, connections_url, closing, management, sweeper })
}

fn no_listener(error: &std::io::Error) -> Trouble {
    Trouble::failed(format!("no listener for @connections: {error}"))
}

/// Static tokens, and JWTs where they are configured.
fn guard<E: Env>(env: &E, tokens: &Verifier, client: &Client, store: &Store) -> Result<Guard, Trouble> {
    if tokens.is_open() {
        return Ok(Guard::open());
    }
    let mut reader = Reader::new(env);
    let jwt = earpiece_access::settings::jwt(&mut reader, Some(client), Some(keys_in(store.clone())));
    reader.finish().map_err(|faults| Trouble::configuration(faults.lines().to_vec()))?;
    Ok(Guard::new(tokens.clone(), jwt))
}

/// The handlers of the WebSocket API as the gateway asks them.
fn in_process(rooms: Rooms) -> Invoke {
    Invoke::InProcess(Arc::new(move |function: String, event: Value| {
        let rooms = rooms.clone();
        async move {
            let event: ApiGatewayWebsocketProxyRequest =
                serde_json::from_value(event).map_err(|_| InvokeError::Broken)?;
            let answer = match function.as_str() {
                "ws-connect" => rooms.connect(event).await,
                "ws-message" => rooms.message(event).await,
                "ws-disconnect" => rooms.disconnect(event).await,
                _ => return Err(InvokeError::Unreachable),
            };
            serde_json::to_value(answer).map_err(|_| InvokeError::Broken)
        }
        .boxed()
    }))
}

fn mount(doors: Arc<Doors>, gateway: Arc<Gateway>) -> earpiece_shim::Doors {
    Arc::new(move |request: Request<Incoming>, peer: SocketAddr| {
        let (doors, gateway) = (Arc::clone(&doors), Arc::clone(&gateway));
        async move {
            if request.uri().path() == SOCKET_PATH {
                return gateway.upgrade(request, peer).await.map(Full::boxed);
            }
            let (head, body) = request.into_parts();
            let answer = match read(body).await {
                Ok(body) => doors.answer(Request::from_parts(head, Body::Binary(body.into())), Some(peer.ip())).await,
                Err(problem) => problem.answer(),
            };
            answer_of(answer)
        }
        .boxed()
    })
}

/// A body of at most what any route takes, and a byte, so that the route itself can say that it is too much.
async fn read(body: Incoming) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY, Limited::new(body, BODY_BYTES_MAX + 1).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Problem::new(Kind::TooLarge, format!("the body is larger than {BODY_BYTES_MAX} bytes")))
        }
        Ok(Err(_)) => Err(Problem::new(Kind::BadInput, "the body cannot be read")),
        Err(_) => Err(Problem::new(Kind::TooLate, "the body did not come in time")),
    }
}

fn answer_of(answer: Response<Body>) -> Answer {
    answer.map(|body| {
        let bytes = match body {
            Body::Text(text) => Bytes::from(text),
            Body::Binary(bytes) => Bytes::from(bytes),
            _ => Bytes::new(),
        };
        Full::new(bytes).boxed()
    })
}
