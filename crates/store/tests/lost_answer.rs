//! An answer of the table gets lost after the write was made, and the SDK sends the request again: every operation
//! takes its own earlier success for what it is.

#![expect(clippy::unwrap_used, reason = "a test, and what it is made of")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use earpiece_core::assist::{Context, Effects, InteractionId, Lane, Priority, Rules, Suggestion, Window};
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_core::secret::Private;
use earpiece_store::{
    Acceptance, Accepted, Checkpoint, Claim, ConnectionRecord, ContactState, Embedded, Ending, Store, StoredKey,
    StreamEnd,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CONTACT: ContactKey = ContactKey { bus_no: 1, contact_id: 2 };
const TX: &Perspective = &Perspective::Tx;

/// A way to the embedded store on which an answer can be made to get lost.
struct LossyWay {
    store: Store,
    /// Which of the answers to come: 1 is the next; 0 is none.
    loses: Arc<AtomicUsize>,
}

impl LossyWay {
    async fn to(embedded: &Embedded) -> Self {
        let server: SocketAddr = embedded.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let loses = Arc::new(AtomicUsize::new(0));
        let countdown = Arc::clone(&loses);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, TcpStream::connect(server).await.unwrap(), Arc::clone(&countdown)));
            }
        });
        embedded.store("calls").await.unwrap();
        Self { store: Store::connect_local(&endpoint, "calls"), loses }
    }

    fn lose(&self, nth: usize) {
        self.loses.store(nth, Ordering::SeqCst);
    }

    fn has_lost(&self) -> bool {
        self.loses.load(Ordering::SeqCst) == 0
    }
}

/// Carries bytes both ways until one side closes, or until an answer comes that is to get lost: the connection breaks.
async fn carry(mut client: TcpStream, mut server: TcpStream, loses: Arc<AtomicUsize>) {
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let carried = tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(0) | Err(_) => return,
                Ok(bytes) => server.write_all(&asked[..bytes]).await,
            },
            read = server.read(&mut answered) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) if is_lost(&loses) => return,
                Ok(bytes) => client.write_all(&answered[..bytes]).await,
            },
        };
        if carried.is_err() {
            return;
        }
    }
}

fn is_lost(loses: &AtomicUsize) -> bool {
    loses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |nth| nth.checked_sub(1)) == Ok(1)
}

#[tokio::test]
async fn every_write_recognises_its_own_earlier_success() {
    let embedded = Embedded::memory().unwrap();
    let way = LossyWay::to(&embedded).await;
    let store = &way.store;
    let stream = StreamId::new();

    way.lose(1);
    let claim = Claim {
        contact: CONTACT,
        perspective: TX,
        stream,
        opened_at_us: 1_000_000,
        task: "task",
        now_ms: 1000,
        stale_after_ms: 10_000,
    };
    let claimed = store.claim(&claim).await.unwrap();
    assert!(way.has_lost());
    assert_eq!((claimed.generation, claimed.record.streams["TX"].stream), (1, stream));

    way.lose(1);
    let checkpoint =
        Checkpoint { contact: CONTACT, perspective: TX, stream, samples: 80, now_ms: 2000, stale_after_ms: 10_000 };
    store.checkpoint(&checkpoint).await.unwrap();
    assert!(way.has_lost());

    way.lose(1);
    let reason = CloseReason::PeerClosed;
    let end =
        StreamEnd { contact: CONTACT, perspective: TX, stream, samples: 160, reason, now_ms: 3000, quiet_ms: 5000 };
    store.end_stream(&end).await.unwrap();
    assert!(way.has_lost());

    // The first form of the write is refused, as no stream is open; the second is made.
    way.lose(2);
    assert!(store.request_end(&CONTACT, 4000).await.unwrap());
    assert!(way.has_lost());
    let ended = store.contact(&CONTACT, 4000).await.unwrap().unwrap();
    assert_eq!((ended.streams["TX"].samples, ended.due_at_ms), (160, Some(4000)));

    // The read comes first.
    way.lose(2);
    let ending = Ending {
        contact: CONTACT,
        task: "finisher",
        now_ms: 4500,
        lease_ms: 1000,
        quiet_ms: 5000,
        stale_after_ms: 10_000,
    };
    let begun = store.begin_ending(&ending).await.unwrap().unwrap();
    assert!(way.has_lost());
    assert_eq!(begun.state, ContactState::Ending);

    way.lose(1);
    assert!(store.finish(&CONTACT, "finisher", 5000, 60_000).await.unwrap());
    assert!(way.has_lost());
    assert_eq!(store.contact(&CONTACT, 5000).await.unwrap().unwrap().state, ContactState::Ended);
}

#[tokio::test]
async fn every_race_recognises_its_own_earlier_victory() {
    let embedded = Embedded::memory().unwrap();
    let way = LossyWay::to(&embedded).await;
    let store = &way.store;

    way.lose(1);
    let acceptance = Acceptance {
        contact: CONTACT,
        key: "key",
        request_id: "request",
        payload: b"words",
        now_ms: 0,
        lease_ms: 1000,
        window_ms: 60_000,
        keep_ms: 60_000,
    };
    assert_eq!(store.accept_utterance(&acceptance).await.unwrap(), Accepted::New);
    assert!(way.has_lost());

    let due = store.due_utterances(1000, 1).await.unwrap().remove(0);
    way.lose(1);
    assert!(store.take_utterance(&due, 1000, 1000).await.unwrap());
    assert!(way.has_lost());
    let taken = store.due_utterances(2000, 1).await.unwrap().remove(0);
    assert_eq!(taken.attempts, 1);

    store.bury_utterance(&CONTACT, "key", "request", 2000, 60_000, "refused").await.unwrap();
    way.lose(1);
    assert!(store.revive_utterance(&CONTACT, "key", 3000).await.unwrap());
    assert!(way.has_lost());

    way.lose(1);
    let unknown = ConnectionRecord::unknown("c1");
    let written = store.write_connection(&unknown, 0, 1000).await.unwrap().unwrap();
    assert!(way.has_lost());
    assert_eq!(store.connection("c1", 0).await.unwrap(), written);

    way.lose(1);
    assert!(store.spend("id", 100, 0).await.unwrap());
    assert!(way.has_lost());
    assert!(!store.spend("id", 100, 0).await.unwrap());

    way.lose(1);
    let key = StoredKey { kid: String::from("k1"), created_at_s: 0, body: String::from("{}") };
    assert!(store.add_signing_key(&key, &key, None, 100).await.unwrap());
    assert!(way.has_lost());
    assert_eq!(store.public_keys(0).await.unwrap(), [key]);
}

fn suggestion() -> Suggestion {
    Suggestion {
        id: String::from("s1"),
        content: Private::new(String::from("words")),
        priority: Priority::Low,
        relevance_score: 0.9,
        context_window: Window { start_ms: 0, end_ms: 60_000 },
    }
}

#[tokio::test]
async fn every_step_recognises_that_it_was_made() {
    let embedded = Embedded::memory().unwrap();
    let way = LossyWay::to(&embedded).await;
    let (store, id) = (&way.store, InteractionId::parse("7").unwrap());
    let cx = Context { id: &id, now_ms: 0 };
    let (suggestion, rules) = (suggestion(), Rules::default());

    // The read comes first; then the document, its entry and its record in one.
    way.lose(2);
    let submitted =
        store.step_interaction(&id, 0, 60_000, |interaction| interaction.submit(&cx, &suggestion, &rules)).await;
    assert!(way.has_lost());
    assert_eq!(submitted.unwrap().unwrap().seq, 0, "and not that it is there already");
    assert_eq!(store.audit(&id).await.unwrap().len(), 1);

    // The document alone.
    way.lose(2);
    let counting = store.step_interaction(&id, 0, 60_000, |interaction| {
        interaction.dismissed += 1;
        (interaction.dismissed, Effects::default())
    });
    assert_eq!(counting.await.unwrap(), 1);
    assert!(way.has_lost());
    let record = store.interaction(&id, 0).await.unwrap();
    assert_eq!((record.version, record.interaction.dismissed), (2, 1));
}

#[tokio::test]
async fn every_sender_holder_and_operator_recognises_its_own_earlier_victory() {
    let embedded = Embedded::memory().unwrap();
    let way = LossyWay::to(&embedded).await;
    let (store, id) = (&way.store, InteractionId::parse("7").unwrap());
    let cx = Context { id: &id, now_ms: 0 };
    let (suggestion, rules) = (suggestion(), Rules::default());
    let submitting =
        |interaction: &mut earpiece_core::assist::Interaction| interaction.submit(&cx, &suggestion, &rules);
    store.step_interaction(&id, 0, 60_000, submitting).await.unwrap().unwrap();
    let entry = store.outbox(&id, Lane::Suggestions, 0).await.unwrap().remove(0);

    way.lose(1);
    assert!(store.claim_entry(&entry, 1, 0, 1000).await.unwrap());
    assert!(way.has_lost());
    assert_eq!(store.outbox(&id, Lane::Suggestions, 0).await.unwrap()[0].attempts, 1);

    store.step_interaction(&id, 0, 60_000, |interaction| ((), interaction.dead(&cx, &entry, "refused"))).await.unwrap();
    // The entry is read, then the document.
    way.lose(3);
    assert!(store.revive_entry(&id, entry.seq, 0).await.unwrap());
    assert!(way.has_lost());
    assert_eq!(store.outbox(&id, Lane::Suggestions, 0).await.unwrap().len(), 1);

    way.lose(1);
    let taken = store.take_lease("suggestions", "one", None).await.unwrap().unwrap();
    assert!(way.has_lost());
    way.lose(1);
    let taken = store.take_lease("suggestions", "two", Some(&taken)).await.unwrap().unwrap();
    assert!(way.has_lost());
    assert_eq!((taken.token, taken.holder.as_str()), (2, "two"));
    way.lose(1);
    assert!(store.renew_lease(&taken).await.unwrap().is_some());
    assert!(way.has_lost());
}
