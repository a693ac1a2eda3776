//! `POST /ingest`: audio that came through API Gateway, handed over in pieces by whoever took it there.
//!
//! A piece is written into the recording first, and that is what 200 promises; then it goes to the assist app, in order
//! with the other pieces of its stream. Bringing the same piece again does nothing. A piece without audio carries facts
//! alone, such as how the stream ended, and is not for the app.
//!
//! | module | holds |
//! | --- | --- |
//! | `reorder` | pieces put in order (pure) |
//! | `session` | one stream on its way to the assist app |
//! | `keeper` | what the app says meanwhile |
//!
//! All pieces of a stream have to come to one task, or the app hears them on several sockets with gaps.

mod keeper;
mod reorder;
mod session;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use earpiece_access::Refusal;
use earpiece_core::access::{Verdict, Verifier, Who};
use earpiece_core::contact::facts::StreamFacts;
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::error::{Fault, Kind};
use earpiece_relay::Start;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use crate::Task;
use session::{ORDERS_MAX, Order, Outcome, Session};

/// Audio of one piece: what one message through API Gateway can carry.
const PIECE_BYTES_MAX: usize = 128 * 1024;

/// Streams that are relayed from pieces at once.
const SESSIONS_MAX: usize = 1000;

/// Pieces that are taken at once: what bounds their memory.
const REQUESTS_MAX: usize = 256;

/// Streams without a session of which the position is remembered.
const REMEMBERED_MAX: usize = 4096;

/// A stream is no longer than this: four years of audio.
const SAMPLES_MAX: u64 = 1 << 40;

/// How long writing a piece may take. Whoever waits for it has 29 s for everything.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

const CONTACT: &str = "earpiece-contact";
const STREAM: &str = "earpiece-stream";
const PERSPECTIVE: &str = "earpiece-perspective";
const GENERATION: &str = "earpiece-generation";
const FIRST_SAMPLE: &str = "earpiece-first-sample";
const FACTS: &str = "earpiece-facts";
const APP: &str = "earpiece-app";

/// What the way in shares: who may bring pieces, and the streams that came.
pub(crate) struct Ingest {
    verifier: Verifier,
    requests: Semaphore,
    streams: Mutex<Streams>,
}

#[derive(Default)]
struct Streams {
    live: HashMap<StreamId, mpsc::Sender<Order>>,
    /// Those without a session, oldest first.
    gone: VecDeque<(StreamId, Outcome)>,
}

impl Streams {
    /// Remembers where a stream without a session stands; of too many, the one that was left first is forgotten.
    fn remember(&mut self, stream: StreamId, outcome: Outcome) {
        self.gone.retain(|(gone, _)| *gone != stream);
        self.gone.push_back((stream, outcome));
        if self.gone.len() > REMEMBERED_MAX {
            self.gone.pop_front();
        }
    }

    fn recall(&self, stream: StreamId) -> Option<Outcome> {
        self.gone.iter().find(|(gone, _)| *gone == stream).map(|(_, outcome)| *outcome)
    }
}

/// What the headers of a request say.
struct Labels {
    contact: ContactKey,
    stream: StreamId,
}

/// What the assist app is told of a stream, as far as a request says it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    app_params: Value,
    app_config: Value,
    unknown: Option<Value>,
}

impl Ingest {
    pub(crate) fn new(verifier: Verifier) -> Self {
        Self { verifier, requests: Semaphore::new(REQUESTS_MAX), streams: Mutex::default() }
    }

    /// Streams that are relayed.
    pub(crate) fn live(&self) -> usize {
        self.with(|streams| streams.live.len())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Streams) -> T) -> T {
        work(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes one piece: into the recording, then to the assist app.
///
/// # Errors
///
/// Whatever keeps it from being in the recording; then it is to be sent again, or written by whoever has it.
pub(crate) async fn piece(task: &Arc<Task>, request: Request<Incoming>, peer: IpAddr) -> Result<(), Fault> {
    let ingest = admit(task, request.headers(), peer).await?;
    let busy = task.busy();
    let _turn = ingest.requests.try_acquire().map_err(|_| Fault::new(Kind::Overloaded, "too many pieces at once"))?;
    let labels = Labels::read(request.headers())?;
    let first_sample: u64 = number(request.headers(), FIRST_SAMPLE)?;
    let facts = facts(request.headers())?.ok_or_else(|| missing(FACTS))?;
    labels.check(request.headers(), &facts)?;
    let app = app(request.headers())?;
    let samples = body(task, request).await?;
    if facts.samples < first_sample + samples.len() as u64 {
        return Err(unreadable(FACTS, "must speak of the whole piece"));
    }
    // In that order: of what is not in the recording, the app must not hear either.
    let session = if samples.is_empty() { None } else { session(task, ingest, &facts, app)? };
    write(task, &facts, first_sample, &samples).await?;
    if let Some(session) = session {
        hand_over(task, &session, Order::Piece { first_sample, samples });
    }
    drop(busy);
    Ok(())
}

/// Ends a stream: the assist app is told, after what is still on its way.
///
/// # Errors
///
/// Whoever may not, and headers that cannot be read. A stream that is not known here is no error: it has ended.
pub(crate) async fn end(task: &Arc<Task>, request: Request<Incoming>, peer: IpAddr) -> Result<(), Fault> {
    let ingest = admit(task, request.headers(), peer).await?;
    let labels = Labels::read(request.headers())?;
    let facts = facts(request.headers())?;
    if let Some(facts) = &facts {
        labels.check(request.headers(), facts)?;
    }
    let live = ingest.with(|streams| streams.live.get(&labels.stream).cloned());
    if let Some(session) = live {
        hand_over(task, &session, Order::End { samples: facts.map(|facts| facts.samples) });
    }
    Ok(())
}

async fn admit<'a>(task: &'a Task, headers: &HeaderMap, peer: IpAddr) -> Result<&'a Ingest, Fault> {
    let Some(ingest) = &task.ingest else {
        return Err(Fault::new(Kind::NotFound, "audio is not taken here: EARPIECE_INGEST_TOKENS is not set"));
    };
    if *task.draining.borrow() {
        return Err(Fault::new(Kind::Draining, "this task is going away; send it again"));
    }
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let refusal = match ingest.verifier.judge(token) {
        Verdict::Accepted => return Ok(ingest),
        Verdict::Missing => Refusal::Missing,
        Verdict::Wrong => Refusal::Wrong,
    };
    task.metrics.auth_refused(refusal);
    task.penalize(Who::new(peer, None)).await;
    Err(refusal.fault())
}

impl Labels {
    fn read(headers: &HeaderMap) -> Result<Self, Fault> {
        let contact = text(headers, CONTACT)?.ok_or_else(|| missing(CONTACT))?;
        let contact = contact.split_once('/').and_then(|(bus_no, contact_id)| {
            Some(ContactKey { bus_no: bus_no.trim().parse().ok()?, contact_id: contact_id.trim().parse().ok()? })
        });
        let contact = contact.ok_or_else(|| unreadable(CONTACT, "must be {busNo}/{contactId}"))?;
        let stream = text(headers, STREAM)?.ok_or_else(|| missing(STREAM))?;
        let stream = stream.trim().parse().map_err(|_| unreadable(STREAM, "must be the id of a stream"))?;
        Ok(Self { contact, stream })
    }

    /// Whether headers and facts speak of the same stream: a piece must not get into the recording of another.
    fn check(&self, headers: &HeaderMap, facts: &StreamFacts) -> Result<(), Fault> {
        if facts.contact != self.contact {
            return Err(unreadable(CONTACT, "must be the contact of `earpiece-facts`"));
        }
        if facts.stream != self.stream {
            return Err(unreadable(STREAM, "must be the stream of `earpiece-facts`"));
        }
        let perspective = text(headers, PERSPECTIVE)?;
        if perspective.is_some_and(|word| !word.trim().eq_ignore_ascii_case(facts.perspective.label())) {
            return Err(unreadable(PERSPECTIVE, "must be the perspective of `earpiece-facts`"));
        }
        let generation = text(headers, GENERATION)?.filter(|word| !word.trim().is_empty());
        // Zero stands for one that is not known yet: the first is 1.
        if generation.is_some_and(|word| word.trim().parse() != Ok(facts.generation.unwrap_or_default())) {
            return Err(unreadable(GENERATION, "must be the generation of `earpiece-facts`"));
        }
        Ok(())
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Fault> {
    headers.get(name).map(|value| value.to_str().map_err(|_| unreadable(name, "must be ASCII"))).transpose()
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<u64, Fault> {
    let text = text(headers, name)?.ok_or_else(|| missing(name))?;
    let number = text.trim().parse().ok().filter(|number| *number <= SAMPLES_MAX);
    number.ok_or_else(|| unreadable(name, "must be the index of a sample"))
}

fn facts(headers: &HeaderMap) -> Result<Option<StreamFacts>, Fault> {
    let form = "must be base64 of a stream's facts as JSON";
    text(headers, FACTS)?.map(|text| decoded(text).ok_or_else(|| unreadable(FACTS, form))).transpose()
}

fn app(headers: &HeaderMap) -> Result<Told, Fault> {
    let form = "must be base64 of {appParams, appConfig, unknown} as JSON";
    let app = text(headers, APP)?.map(|text| decoded(text).ok_or_else(|| unreadable(APP, form))).transpose()?;
    Ok(app.unwrap_or_default())
}

fn decoded<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&STANDARD.decode(text.trim()).ok()?).ok()
}

fn missing(name: &'static str) -> Fault {
    Fault::new(Kind::BadInput, format!("the header `{name}` is missing"))
}

fn unreadable(name: &'static str, form: &'static str) -> Fault {
    Fault::new(Kind::BadInput, format!("the header `{name}` {form}"))
}

/// The audio, in time and within its size.
async fn body(task: &Task, request: Request<Incoming>) -> Result<Bytes, Fault> {
    let too_large = || Fault::new(Kind::TooLarge, format!("a piece has at most {PIECE_BYTES_MAX} bytes"));
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > PIECE_BYTES_MAX) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), PIECE_BYTES_MAX).collect();
    match tokio::time::timeout(task.limits.init_deadline, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Fault::new(Kind::BadInput, "the body broke off")),
        Err(_) => Err(Fault::new(Kind::TooLate, "the body did not come in time")),
    }
}

fn start(facts: &StreamFacts, app: Told) -> Start {
    Start {
        contact: facts.contact,
        stream: facts.stream,
        perspective: facts.perspective.clone(),
        generation: facts.generation,
        app_params: app.app_params,
        app_config: app.app_config,
        unknown: app.unknown,
    }
}

async fn write(task: &Task, facts: &StreamFacts, first_sample: u64, samples: &[u8]) -> Result<(), Fault> {
    let written = tokio::time::timeout(WRITE_DEADLINE, task.recorder.write_piece(facts, first_sample, samples)).await;
    let (contact, stream) = (facts.contact, facts.stream);
    match written {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => warn!(%contact, %stream, %error, "a piece could not be written"),
        Err(_) => warn!(%contact, %stream, "a piece could not be written in time"),
    }
    task.metrics.ingested("unwritten");
    Err(Fault::new(Kind::Unavailable, "the piece could not be written; send it again"))
}

/// The session of a stream, a new one where there is none. `None` where nothing is to be relayed: there is no app, or
/// the stream is over.
fn session(
    task: &Arc<Task>,
    ingest: &Ingest,
    facts: &StreamFacts,
    app: Told,
) -> Result<Option<mpsc::Sender<Order>>, Fault> {
    if task.relay.is_none() {
        return Ok(None);
    }
    let stream = facts.stream;
    ingest.with(|streams| {
        if let Some(session) = streams.live.get(&stream) {
            return Ok(Some(session.clone()));
        }
        let known = streams.recall(stream);
        if known.is_some_and(|outcome| outcome.is_over) {
            return Ok(None);
        }
        if streams.live.len() >= SESSIONS_MAX {
            return Err(Fault::new(Kind::Overloaded, "too many streams are handed over at once"));
        }
        let position = known.and_then(|outcome| outcome.position);
        let start = start(facts, app);
        let Some(session) = Session::open(task.clone(), facts.clone(), start, position) else { return Ok(None) };
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        streams.live.insert(stream, sender.clone());
        tokio::spawn(relay(task.clone(), stream, session, orders));
        Ok(Some(sender))
    })
}

/// A session from its first piece to its end, and what is remembered of it.
async fn relay(task: Arc<Task>, stream: StreamId, mut session: Session, mut orders: mpsc::Receiver<Order>) {
    let busy = task.busy();
    let reason = session.run(&mut orders).await;
    if let Some(ingest) = &task.ingest {
        // Pieces that were left here in this instant belong to this session; later ones begin another.
        ingest.with(|streams| {
            streams.live.remove(&stream);
            orders.close();
            while let Ok(order) = orders.try_recv() {
                session.take(order);
            }
            streams.remember(stream, session.outcome());
        });
    }
    session.settle(reason).await;
    drop(busy);
}

/// Leaves an order with a session. It never waits for the app: the piece is in the recording, and that is enough.
fn hand_over(task: &Task, session: &mpsc::Sender<Order>, order: Order) {
    if session.try_send(order).is_err() {
        task.metrics.ingested("late");
    }
}

#[cfg(test)]
mod tests {
    use earpiece_core::protocol::Perspective;
    use serde_json::json;

    use super::*;

    const CONTACT_KEY: ContactKey = ContactKey { bus_no: 4, contact_id: 7 };

    fn facts_of(stream: StreamId) -> Value {
        json!({
            "contact": CONTACT_KEY, "stream": stream, "perspective": Perspective::Tx, "generation": 2,
            "openedUs": 1, "task": "apigw", "segmentMs": 1000, "frames": 1, "samples": 160, "runs": [],
        })
    }

    fn headers(set: &[(&'static str, &str)]) -> HeaderMap {
        set.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn the_headers_name_a_stream_and_must_agree_with_its_facts() {
        let stream = StreamId::new();
        let encoded = STANDARD.encode(facts_of(stream).to_string());
        let id = stream.to_string();
        let good = [(CONTACT, "4/7"), (STREAM, id.as_str()), (PERSPECTIVE, "tx"), (GENERATION, "2"), (FACTS, &encoded)];
        let judge = |headers: &HeaderMap| -> Result<(), Fault> {
            let facts = facts(headers)?.ok_or_else(|| missing(FACTS))?;
            Labels::read(headers)?.check(headers, &facts)
        };
        assert_eq!(judge(&headers(&good)), Ok(()));
        let other = StreamId::new().to_string();
        for (name, value) in [
            (CONTACT, "4/8"),
            (CONTACT, "4"),
            (STREAM, other.as_str()),
            (STREAM, "x"),
            (PERSPECTIVE, "RX"),
            (GENERATION, "3"),
            (FACTS, "e30="),
            (FACTS, "?"),
        ] {
            let mut bad = headers(&good);
            bad.insert(name, value.parse().expect("a value"));
            let fault = judge(&bad).expect_err(value);
            assert_eq!(fault.kind, Kind::BadInput);
            assert!(fault.public.contains(name), "{name}: {}", fault.public);
        }
        for (name, _) in [good[0], good[1], good[4]] {
            let mut bad = headers(&good);
            bad.remove(name);
            assert_eq!(judge(&bad).expect_err(name).public, format!("the header `{name}` is missing"));
        }
    }

    #[test]
    fn of_many_streams_the_one_that_was_left_first_is_forgotten() {
        let mut streams = Streams::default();
        let ids: Vec<StreamId> = (0..=REMEMBERED_MAX).map(|_| StreamId::new()).collect();
        let outcome = Outcome { position: Some(1), is_over: false };
        for id in &ids {
            streams.remember(*id, outcome);
            streams.remember(*id, Outcome { is_over: true, ..outcome });
        }
        assert_eq!(streams.gone.len(), REMEMBERED_MAX);
        assert_eq!(streams.recall(ids[0]), None);
        assert_eq!(streams.recall(ids[1]), Some(Outcome { is_over: true, ..outcome }));
    }

    #[test]
    fn a_sample_has_an_index_within_reason() {
        assert_eq!(number(&headers(&[(FIRST_SAMPLE, " 160 ")]), FIRST_SAMPLE), Ok(160));
        for bad in ["-1", "x", "", "18446744073709551615"] {
            assert!(number(&headers(&[(FIRST_SAMPLE, bad)]), FIRST_SAMPLE).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_app_is_told_is_read_where_it_is_given() {
        let given = STANDARD.encode(json!({"appParams": {"a": 1}, "appConfig": "b"}).to_string());
        let app_of = |headers: &HeaderMap| app(headers).map(|app| (app.app_params, app.app_config, app.unknown));
        assert_eq!(app_of(&headers(&[(APP, &given)])), Ok((json!({"a": 1}), json!("b"), None)));
        assert_eq!(app_of(&headers(&[])), Ok((Value::Null, Value::Null, None)));
        assert!(app(&headers(&[(APP, "not base64")])).is_err());
    }
}
