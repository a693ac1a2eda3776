//! What the text hook itself costs, once it is warm: `cargo run --release -p earpiece-functions --example warm`.
//!
//! Store and assist app are real, over loopback. Every utterance is followed by the bare calls that it consists of: the
//! same requests to the same store and the same app by the same clients, without the hook around them. What the hook
//! takes beyond those is its own.

use std::time::{Duration, Instant};

use earpiece_access::Guard;
use earpiece_core::access::Verifier;
use earpiece_core::config::{EmptyEnv, Overlay};
use earpiece_core::protocol::Utterance;
use earpiece_core::secret::Secret;
use earpiece_functions::clock::wall_ms;
use earpiece_functions::routes::{Doors, Parts};
use earpiece_functions::settings::{self, Settings};
use earpiece_https::Trust;
use earpiece_https::client::Client;
use earpiece_relay::text::{TextRelay, TextSettings, UtteranceNote};
use earpiece_store::{Acceptance, Embedded, Store};
use lambda_http::Body;
use lambda_http::http::Request;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Utterances before the clock counts.
const WARM_UP: u64 = 200;
/// Utterances that are measured.
const MEASURED: u64 = 2000;

/// Time for one request to the app.
const DEADLINE: Duration = Duration::from_secs(2);

type Failed = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let embedded = Embedded::memory()?;
    let store = embedded.store("calls").await?;
    let url = format!("http://{}/text", app()?);
    let client = Client::new(&Trust::public())?;
    let relay = TextRelay::new(client.clone(), TextSettings::new(Secret::new(url.clone())))?;
    let env = Overlay::over(EmptyEnv)
        .with(&settings::ASSIST_TEXT_URL, url)
        .with(&settings::UTTERANCES_PER_SECOND_MAX, "100000");
    let doors = Doors::new(Parts {
        settings: &Settings::read(&env)?,
        store: store.clone(),
        guard: Guard::new(Verifier::new([Secret::new("token")]), None),
        client,
        push: None,
        recorder: None,
        task: "warm".into(),
    })?;
    let (mut whole, mut bare) = (Vec::new(), Vec::new());
    for index in 0..WARM_UP + MEASURED {
        let body = body(index);
        let request = Request::post("/agent_assist_text_webhooks/utterance")
            .header("content-type", "application/json")
            .header("authorization", "Bearer token")
            .body(Body::Text(body.clone()))?;
        let began = Instant::now();
        let answer = doors.answer(request, None).await;
        let hook_took = began.elapsed();
        if answer.status() != 200 {
            return Err(format!("the answer is {}", answer.status()).into());
        }
        let calls_took = bare_calls(&store, &relay, &body, index).await?;
        if index >= WARM_UP {
            whole.push(hook_took);
            bare.push(calls_took);
        }
    }
    whole.sort_unstable();
    bare.sort_unstable();
    let [whole, bare] = [whole, bare].map(|times| times[times.len() / 2]);
    println!("text hook, p50      {whole:?}");
    println!("store and app, p50  {bare:?}");
    println!("the hook's own      {:?}", whole.saturating_sub(bare));
    Ok(())
}

fn body(index: u64) -> String {
    let body = json!({
        "busNo": 1, "contactId": index, "participantId": "patron", "messageBody": "Where is my parcel?",
        "agentAssistAppConfig": {"id": "cfg-0042"},
    });
    body.to_string()
}

/// What the hook asks of store and app for one utterance, on a contact that it has not asked for.
async fn bare_calls(store: &Store, relay: &TextRelay, body: &str, index: u64) -> Result<Duration, Failed> {
    let mut utterance = Utterance::parse(body.as_bytes())?;
    utterance.contact.bus_no = 2;
    let note = UtteranceNote::new(&utterance, format!("{index:032x}"), wall_ms());
    let (key, payload) = (format!("{index:064x}"), note.to_payload());
    let acceptance = Acceptance {
        contact: note.contact,
        key: &key,
        request_id: &note.request_id,
        payload: &payload,
        now_ms: wall_ms(),
        lease_ms: 10_000,
        window_ms: 60_000,
        keep_ms: 60_000,
    };
    let began = Instant::now();
    store.count_request(2, wall_ms() / 10_000 * 10, u32::MAX).await?;
    store.accept_utterance(&acceptance).await?;
    relay.deliver(&note, DEADLINE).await?;
    store.utterance_delivered(&note.contact, &key, &note.request_id, wall_ms(), 60_000).await?;
    Ok(began.elapsed())
}

/// An app on a thread of its own that takes everything and says nothing.
fn app() -> std::io::Result<std::net::SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (socket, _) = listener.accept().await?;
                tokio::spawn(take(socket));
            }
        })
    });
    Ok(address)
}

/// Requests here are small, and come in one piece each.
async fn take(mut socket: tokio::net::TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    while socket.read(&mut buffer).await? > 0 {
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
    Ok(())
}
