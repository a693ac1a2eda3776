//! Races at the serverless doors, on each DynamoDB that is to hand: two Lambda environments of one function share
//! nothing but the table.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use bytes::Bytes;
use earpiece_access::Guard;
use earpiece_core::config::{EmptyEnv, Overlay};
use earpiece_core::contact::ContactKey;
use earpiece_functions::clock::wall_ms;
use earpiece_functions::counters::Counters;
use earpiece_functions::routes::{Doors, Parts};
use earpiece_functions::settings::{ASSIST_TEXT_URL, NONE, Settings, TEXT_BUDGET, TEXT_TOKENS};
use earpiece_functions::ws::{self, Pieces, Rooms};
use earpiece_https::Trust;
use earpiece_https::client::Client;
use earpiece_recorder::Recorder;
use earpiece_store::Store;
use earpiece_store::embedded::Embedded;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lambda_http::Body;
use lambda_http::http::{Request, Response};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};

use crate::house::contact;
use crate::ministack::endpoint;

const HOOK: &str = "/agent_assist_text_webhooks/utterance";

/// Copies of one utterance, half of them for each environment.
const COPIES: usize = 50;

/// A table that nobody else has, on the embedded DynamoDB.
async fn embedded() -> (Store, Embedded) {
    let embedded = Embedded::memory().expect("a database");
    (embedded.store("earpiece-doors").await.expect("a table"), embedded)
}

/// The same on a second DynamoDB, or nothing where there is none: then it was said that the case is skipped.
async fn second(case: &str) -> Option<Store> {
    let endpoint = endpoint("EARPIECE_TEST_DYNAMODB_ENDPOINT", case)?;
    let name = case.replace(|character: char| !character.is_ascii_alphanumeric(), "-");
    let store = Store::connect_local(&endpoint, &format!("earpiece-{name}-{}", std::process::id()));
    store.create_table().await.expect("a table");
    Some(store)
}

/// An assist app that takes everything and keeps the names of what it took.
async fn assist_app() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let taken = Arc::new(Mutex::new(Vec::new()));
    let names = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let names = Arc::clone(&names);
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let names = Arc::clone(&names);
                async move {
                    let name = request.headers()["idempotency-key"].to_str().expect("text").to_owned();
                    request.into_body().collect().await.expect("a whole request");
                    names.lock().expect("no panic").push(name);
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (url, taken)
}

/// One environment of the text hook, with clients and counters of its own.
fn environment(store: &Store, app: &str) -> Doors {
    let env = Overlay::over(EmptyEnv).with(&TEXT_TOKENS, NONE).with(&ASSIST_TEXT_URL, app);
    // A machine that stands still for seconds must not be taken for an app that is away.
    let env = env.with(&TEXT_BUDGET, "20s");
    let parts = Parts {
        settings: &Settings::read(&env).expect("settings"),
        store: store.clone(),
        guard: Guard::open(),
        client: Client::new(&Trust::public()).expect("a client"),
        push: None,
        recorder: None,
        task: "test".into(),
    };
    Doors::new(parts).expect("doors")
}

fn utterance(contact: ContactKey, words: &str) -> Request<Body> {
    let body = json!({
        "contactId": contact.contact_id, "busNo": contact.bus_no, "participantId": "patron", "messageBody": words,
    });
    let request = Request::post(HOOK).header("content-type", "application/json");
    request.body(Body::Text(body.to_string())).expect("a request")
}

async fn fifty_copies_reach_the_app_once(store: Store) {
    let (url, taken) = assist_app().await;
    let environments = [Arc::new(environment(&store, &url)), Arc::new(environment(&store, &url))];
    let mut copies = tokio::task::JoinSet::new();
    for copy in 0..COPIES {
        let environment = Arc::clone(&environments[copy % 2]);
        copies.spawn(async move {
            let answer = environment.answer(utterance(contact(50), "Where is my parcel?"), None).await;
            let body: Value = serde_json::from_slice(answer.body().as_ref()).expect("JSON");
            (answer.status().as_u16(), body)
        });
    }
    let answers = copies.join_all().await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let accepted: Vec<_> = answers.iter().filter(|(_, body)| body["status"] == "accepted").collect();
    let [(_, accepted)] = accepted.as_slice() else { panic!("one is accepted: {answers:?}") };
    assert!(answers.iter().all(|(_, body)| body["requestId"] == accepted["requestId"]), "{answers:?}");
    // The one delivery was over before its own answer.
    assert_eq!(*taken.lock().expect("no panic"), [accepted["requestId"].as_str().expect("a name")]);
    let an_hour_later_ms = wall_ms() + 3_600_000;
    for environment in &environments {
        let swept = environment.reaper().sweep_once(an_hour_later_ms).await;
        assert_eq!(swept, earpiece_functions::reaper::Swept::default(), "nothing is left to be delivered");
    }
    assert_eq!(taken.lock().expect("no panic").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_copies_at_two_environments_the_app_gets_one() {
    let (store, _database) = embedded().await;
    fifty_copies_reach_the_app_once(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_copies_at_two_environments_the_app_gets_one_on_a_second_dynamodb() {
    let Some(store) = second("fifty copies on ministack").await else { return };
    fifty_copies_reach_the_app_once(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_table_nothing_is_promised_and_nothing_relayed() {
    let (url, taken) = assist_app().await;
    // Nobody listens there, and nobody else can.
    let reserved = TcpSocket::new_v4().expect("a socket");
    reserved.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = reserved.local_addr().expect("an address");
    let store = Store::connect_local(&format!("http://{address}"), "earpiece-doors");
    let answer = environment(&store, &url).answer(utterance(contact(51), "hello"), None).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &"1".parse().expect("a value")));
    assert!(taken.lock().expect("no panic").is_empty());
}

/// What happens to one connection.
const STEPS: [&str; 4] = ["connect", "init", "subscribe", "disconnect"];

/// The event of a step, as API Gateway writes it.
fn event(step: &str, connection: &str, contact: ContactKey) -> ApiGatewayWebsocketProxyRequest {
    let route = match step {
        "connect" => "$connect",
        "disconnect" => "$disconnect",
        _ => "$default",
    };
    let body = match step {
        "init" => json!({
            "executionInfo": {"contactId": contact.contact_id, "busNo": contact.bus_no, "requestId": 1},
            "streamPerspective": "TX",
        }),
        _ => json!({"action": step, "busNo": contact.bus_no, "contactId": contact.contact_id}),
    };
    let now_ms = wall_ms();
    let event = json!({
        "requestContext": {
            "connectionId": connection,
            "connectedAt": now_ms,
            "requestTimeEpoch": now_ms,
            "requestId": format!("{connection}{step}"),
            "messageId": format!("{connection}{step}"),
            "routeKey": route,
            "stage": "prod",
        },
        "body": (route == "$default").then(|| body.to_string()),
        "isBase64Encoded": false,
    });
    serde_json::from_value(event).expect("an event")
}

/// Two environments of each function, which take turns.
struct Api {
    environments: [Rooms; 2],
    store: Store,
    _recordings: tempfile::TempDir,
}

impl Api {
    fn open(store: &Store) -> Self {
        let recordings = tempfile::tempdir().expect("a folder");
        let folder = recordings.path().to_str().expect("a Unicode path");
        let environment = || {
            let recorder = Recorder::open(folder, earpiece_recorder::Settings::default()).expect("a recorder");
            Rooms::new(ws::Parts {
                guard: Guard::open(),
                store: store.clone(),
                // Nobody is told anything: what stays in the table is what is looked at.
                push: None,
                pieces: Pieces::recorded(recorder),
                counters: Arc::new(Counters::new("test")),
                limits: ws::Limits::default(),
            })
        };
        Self { environments: [environment(), environment()], store: store.clone(), _recordings: recordings }
    }

    fn take(&self, turn: usize, step: &str, connection: &str, contact: ContactKey) -> BoxFuture<'static, i64> {
        let (rooms, event) = (self.environments[turn % 2].clone(), event(step, connection, contact));
        let route = step.to_owned();
        async move {
            let answer = match route.as_str() {
                "connect" => rooms.connect(event).await,
                "disconnect" => rooms.disconnect(event).await,
                _ => rooms.message(event).await,
            };
            answer.status_code
        }
        .boxed()
    }

    /// It is gone, and has left nothing behind.
    async fn assert_nothing_is_left(&self, connection: &str, contact: ContactKey) {
        let now_ms = wall_ms();
        assert!(self.store.connection(connection, now_ms).await.expect("read").gone, "{connection}");
        let known = self.store.contact(&contact, now_ms).await.expect("read");
        let open = known.is_some_and(|contact| contact.streams.values().any(|stream| stream.open));
        assert!(!open, "{connection} left a stream behind");
        let listeners = self.store.listeners(&contact, now_ms, 10).await.expect("read");
        assert!(listeners.is_empty(), "{connection} left listeners behind: {listeners:?}");
    }
}

/// Every order of the steps.
fn orders() -> Vec<Vec<&'static str>> {
    fn extend(order: &[&'static str], orders: &mut Vec<Vec<&'static str>>) {
        let rest: Vec<_> = STEPS.into_iter().filter(|step| !order.contains(step)).collect();
        if rest.is_empty() {
            orders.push(order.to_vec());
        }
        for step in rest {
            extend(&[order, &[step]].concat(), orders);
        }
    }
    let mut orders = Vec::new();
    extend(&[], &mut orders);
    orders
}

async fn whatever_the_order_nothing_is_left(store: Store) {
    let api = Api::open(&store);
    let orders = orders();
    assert_eq!(orders.len(), 24);
    for (round, order) in orders.iter().enumerate() {
        let (connection, contact) = (format!("order{round}="), contact(1_000 + round as u64));
        for (turn, step) in order.iter().enumerate() {
            assert_eq!(api.take(turn, step, &connection, contact).await, 200, "{step} in {order:?}");
        }
        api.assert_nothing_is_left(&connection, contact).await;
    }
}

async fn even_at_the_same_instant_nothing_is_left(store: Store) {
    let api = Api::open(&store);
    for (round, order) in orders().iter().enumerate() {
        let (connection, contact) = (format!("instant{round}="), contact(2_000 + round as u64));
        // Each on a thread of its own, begun in this order, and each of them twice: API Gateway may ask again.
        let steps = order.iter().chain(order).enumerate();
        let steps = steps.map(|(turn, step)| tokio::spawn(api.take(turn, step, &connection, contact)));
        for status in join_all(steps).await {
            assert_eq!(status.expect("no panic"), 200, "{order:?}");
        }
        api.assert_nothing_is_left(&connection, contact).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_whatever_order_and_even_at_once_a_connection_comes_and_goes_nothing_of_it_is_left() {
    let (store, _database) = embedded().await;
    whatever_the_order_nothing_is_left(store.clone()).await;
    even_at_the_same_instant_nothing_is_left(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_anything_left_on_a_second_dynamodb() {
    let Some(store) = second("orders of events on ministack").await else { return };
    whatever_the_order_nothing_is_left(store.clone()).await;
    even_at_the_same_instant_nothing_is_left(store).await;
}
