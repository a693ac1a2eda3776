//! A slow store loses no call: it is accepted, marked, and numbered when the store answers.

use std::net::SocketAddr;

use earpiece_core::contact::event::What;
use earpiece_core::protocol::message::CONNECTED;
use earpiece_shim::settings;
use earpiece_simulator::{CallPlan, Step, place};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::house::{House, contact, speech, wait};

/// A gate in front of the database: while it is shut, requests wait.
pub(crate) struct Gate {
    open: watch::Sender<bool>,
}

impl Gate {
    /// Puts a gate before a database, and gives the address to use instead.
    pub(crate) fn before(endpoint: &str, gate: &mut Option<Self>) -> String {
        let database: SocketAddr = endpoint.trim_start_matches("http://").parse().expect("an address");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let listener = TcpListener::from_std(listener).expect("a listener");
        let (open, is_open) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, database, is_open.clone()));
            }
        });
        *gate = Some(Self { open });
        format!("http://{address}")
    }

    pub(crate) fn shut(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

/// Carries bytes to the database while the gate is open, and back always.
async fn carry(client: TcpStream, database: SocketAddr, mut gate: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect(database).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 16 * 1024];
    loop {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Ok(bytes) = from_client.read(&mut buffer).await else { break };
        if bytes == 0 || gate.wait_for(|open| *open).await.is_err() {
            break;
        }
        if to_server.write_all(&buffer[..bytes]).await.is_err() {
            break;
        }
    }
    back.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_accepted_without_the_store_and_numbered_when_it_answers() {
    let mut gate = None;
    let mut house =
        House::open_with(&[(settings::STORE_DEADLINE, "50ms")], |endpoint| Gate::before(&endpoint, &mut gate)).await;
    let gate = gate.expect("made");
    let key = contact(1);
    gate.shut();
    let mut events = house.watch();
    let plan = CallPlan::new(house.url(), key).leg("TX", speech(8_000, 1)).keep_audio().step(Step::Speak { ms: 1_000 });
    let report = place(plan).await.expect("a call");
    assert_eq!(report.legs[0].sockets[0].answer_text(), Some(CONNECTED));
    assert_eq!(report.legs[0].samples, 8_000);
    let generation = wait(&mut events, |event| match event.what {
        What::StreamOpened { generation, .. } => Some(generation),
        _ => None,
    })
    .await;
    assert_eq!(generation, None, "the store had not answered");
    assert!(house.store.contact(&key, 0).await.expect("the store itself").is_none());
    gate.open();
    let ledger = house.finished(key).await;
    assert!(ledger.streams[0].degraded);
    assert_eq!(ledger.streams[0].generation, Some(1));
    assert_eq!(ledger.samples, 8_000);
    assert_eq!(house.metric("earpiece_streams_degraded_total").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_claim_never_pushes_a_newer_socket_aside() {
    let mut gate = None;
    let mut house =
        House::open_with(&[(settings::STORE_DEADLINE, "50ms")], |endpoint| Gate::before(&endpoint, &mut gate)).await;
    let gate = gate.expect("made");
    let key = contact(2);
    gate.shut();
    let mut events = house.watch();
    let old = CallPlan::new(house.url(), key).leg("TX", speech(800, 1)).step(Step::Speak { ms: 100 });
    place(old).await.expect("a call");
    // A newer handshake of the same perspective gets to the store first, as it would through another task.
    let newer = earpiece_store::Claim {
        contact: key,
        perspective: &earpiece_core::protocol::Perspective::Tx,
        stream: earpiece_core::contact::StreamId::new(),
        opened_at_us: i64::MAX / 2,
        task: "another",
        now_ms: 0,
        stale_after_ms: 60_000,
    };
    let newer_stream = newer.stream;
    assert_eq!(house.store.claim(&newer).await.expect("claimed").generation, 1);
    wait(&mut events, |event| matches!(event.what, What::StreamClosed { .. }).then_some(())).await;
    gate.open();
    // The old claim is answered now, and settled before the task goes; the newer socket holds its seat all the while.
    house.signal();
    house.gone().await;
    let record = house.store.contact(&key, 0).await.expect("a store").expect("a contact");
    let stream = record.stream(&earpiece_core::protocol::Perspective::Tx).expect("a stream");
    assert_eq!((stream.stream, stream.generation, stream.open), (newer_stream, 1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_connections_loses_no_call_either() {
    // Nothing listens at this address.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let house = House::open_with(&[], |_| format!("http://{nobody}")).await;
    let key = contact(3);
    let plan = CallPlan::new(house.url(), key).leg("TX", speech(1_600, 1)).step(Step::Speak { ms: 400 });
    let report = place(plan).await.expect("a call");
    assert_eq!(report.legs[0].sockets[0].answer_text(), Some(CONNECTED));
    let recorder = earpiece_recorder::Recorder::open(
        house.data.path().to_str().expect("a Unicode path"),
        earpiece_recorder::Settings::default(),
    )
    .expect("a recorder");
    let ledger = recorder.ledger(key).await.expect("readable").expect("what was said is on disk");
    assert!(ledger.streams[0].degraded);
}
