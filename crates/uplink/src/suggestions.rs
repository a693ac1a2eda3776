//! Socket A: suggestions go out through their lane of the outbox; acknowledgements and the agent's answers come in.
//!
//! A suggestion is settled when CXone has acknowledged it (in the same step as the acknowledgement), or the agent has
//! answered it. One that is not acknowledged although its connection stands long enough counts as sent; one whose
//! connection broke first leaves again on the next one, under the same id: what the kernel took last, CXone may never
//! have read.
//!
//! What comes in is spread over a few readers by interaction: in order for each, side by side for different ones.

mod flights;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::assist::interaction::{ActiveState, Answer, Context, Hooks};
use earpiece_core::assist::{Effects, Entry, Interaction, InteractionId, Lane, Payload};
use earpiece_core::protocol::platform::suggestions::{Incoming, read, suggest_frame};
use earpiece_core::secret::Private;
use earpiece_https::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, warn};

use crate::clock::now_ms;
use crate::lease::Held;
use crate::link::{Ending, Ends, FrameSender, Link, WRITE_MAX};
use crate::outbox::{self, Carrier, Delivery, Fate, Receipt};
use crate::run::Shared;
use crate::settings::{ACK_WAIT, Which};
use crate::webhook::Webhooks;
use flights::{AWAITED_MAX, Flight, Flights, ROOM_WAIT};

/// Readers of what comes in: as many as suggestions are awaited. With fewer, a slow store would let suggestions out faster
/// than their acknowledgements and answers are noted, and a kill would take with it what was read and waits.
const READERS: usize = AWAITED_MAX;
/// Frames that wait for each of them.
const READER_FRAMES_MAX: usize = 16;
/// First pause before an answer is written again; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
/// No pause before an answer is written again is longer.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Socket A and its lanes.
#[derive(Clone)]
pub(crate) struct Suggestions {
    shared: Arc<Shared>,
    webhooks: Arc<Webhooks>,
}

impl Suggestions {
    pub(crate) fn new(shared: Arc<Shared>, https: Client) -> Self {
        let webhooks = Arc::new(Webhooks::new(&shared.settings, https));
        Self { shared, webhooks }
    }

    /// Does the work while the lease is held.
    pub(crate) async fn work(self, held: Held) {
        let shared = &self.shared;
        let (link, Ends { frames, sender }) =
            Link::new(shared.cxone.clone(), Which::Suggestions, shared.metrics.clone());
        let (close, closing) = watch::channel(false);
        let flights = Arc::new(Flights::new(AWAITED_MAX));
        let carrier = Arc::new(Frames {
            shared: Arc::clone(shared),
            held: held.clone(),
            sender,
            flights: Arc::clone(&flights),
            close: close.clone(),
        });
        let answers = Answers { shared: Arc::clone(shared), flights, hooks: self.webhooks.hooks() };
        let lanes = async {
            let frames_out = outbox::work(Arc::clone(shared), carrier, held.clone());
            let webhooks_out = outbox::work(Arc::clone(shared), Arc::clone(&self.webhooks), held.clone());
            tokio::join!(frames_out, webhooks_out);
            close.send_replace(true);
        };
        // The link ends when the lanes have, and the readers when the link has and everything it brought is read.
        tokio::join!(lanes, link.run(closing), answers.read_all(frames));
    }
}

/// The lane of suggestions.
struct Frames {
    shared: Arc<Shared>,
    held: Held,
    sender: FrameSender,
    flights: Arc<Flights>,
    /// Closes the link.
    close: watch::Sender<bool>,
}

impl Carrier for Frames {
    const LANE: Lane = Lane::Suggestions;
    /// Longer than it may take until an entry is settled. A holder with a newer token need not wait for its end.
    const CLAIM: Duration = Duration::from_secs(50);
    const GIVES_UP: bool = false;

    fn is_open(&self) -> bool {
        self.sender.is_up()
    }

    async fn opened(&self) {
        self.sender.up().await;
    }

    async fn carry(&self, entry: &Entry) -> Delivery {
        const { assert!(Frames::CLAIM.as_secs() > ROOM_WAIT.as_secs() + 2 * WRITE_MAX.as_secs() + ACK_WAIT.as_secs()) };
        let Payload::Suggestion(suggestion) = &entry.payload else { return Delivery::Never { reason: "lane" } };
        // What a former holder had claimed, it may have written.
        let is_orphan = entry.sender.is_some_and(|sender| sender < self.held.token());
        let is_repeat = is_orphan || self.flights.is_doubtful(entry);
        // Before the write: the acknowledgement may be faster than the return from it.
        let is_awaited = self.flights.begin(entry).await;
        // There may have been no room for a while.
        if !self.held.is_current() || entry.is_expired(now_ms()) {
            if is_repeat {
                self.flights.doubt(entry);
            } else {
                self.flights.forget(entry);
            }
            return Delivery::NoWay;
        }
        let frame = suggest_frame(&entry.interaction, suggestion, now_ms());
        let Ok(connection) = self.sender.send(frame).await else {
            // It may have arrived all the same.
            self.flights.doubt(entry);
            return Delivery::NoWay;
        };
        if is_repeat {
            self.shared.metrics.suggestion("repeated");
        } else {
            let elapsed_ms = now_ms().saturating_sub(entry.created_ms).max(0).unsigned_abs();
            self.shared.metrics.suggestion_sent_after(Duration::from_millis(elapsed_ms));
        }
        if !is_awaited {
            return Delivery::Delivered;
        }
        self.flights.written(entry, connection);
        Delivery::Unconfirmed
    }

    fn awaits(&self, entry: &Entry) -> bool {
        self.flights.connection(entry).is_some_and(|connection| self.sender.is_up_on(connection))
    }

    async fn confirmed(&self, entry: &Entry) -> Receipt {
        let Some((connection, written_ms, noted)) = self.flights.awaited(entry) else { return Receipt::Noted };
        let receipt = tokio::select! {
            // What has come in is known before the connection's end is, and that before the wait's.
            biased;
            () = noted => Receipt::Noted,
            ending = self.sender.ended(connection) => match ending {
                Ending::InOrder => Receipt::Delivered { written_ms },
                Ending::Broken => Receipt::Unknown,
            },
            () = sleep(self.shared.settings.ack_wait) => {
                self.flights.waited_in_vain();
                Receipt::Delivered { written_ms }
            }
        };
        match receipt {
            Receipt::Unknown => self.flights.doubt(entry),
            Receipt::Noted | Receipt::Delivered { .. } => self.flights.forget(entry),
        }
        receipt
    }

    fn finish(&self) {
        self.close.send_replace(true);
    }

    fn settled(&self, entry: &Entry, fate: Fate) {
        self.flights.forget(entry);
        match fate {
            Fate::Delivered => self.shared.metrics.suggestion("sent"),
            Fate::Expired => self.shared.metrics.suggestion("expired"),
            Fate::Dead { .. } => {}
        }
    }
}

/// What comes in.
#[derive(Clone)]
struct Answers {
    shared: Arc<Shared>,
    flights: Arc<Flights>,
    hooks: Hooks,
}

/// A frame that is about a suggestion.
struct About {
    interaction: InteractionId,
    suggestion: String,
    what: What,
    came_at: Instant,
}

#[derive(Clone, Copy)]
enum What {
    Ack { sent_timestamp_ms: Option<i64> },
    Answer(Answer),
}

impl Answers {
    /// Reads until the link has ended and everything it brought was worked on.
    async fn read_all(self, mut frames: mpsc::Receiver<Private<String>>) {
        let mut readers = JoinSet::new();
        let queues: Vec<mpsc::Sender<About>> = (0..READERS)
            .map(|_| {
                let (queue, mut mine) = mpsc::channel::<About>(READER_FRAMES_MAX);
                let answers = self.clone();
                readers.spawn(async move {
                    while let Some(about) = mine.recv().await {
                        answers.take(about).await;
                    }
                });
                queue
            })
            .collect();
        while let Some(frame) = frames.recv().await {
            let Some(about) = about(frame.reveal()) else { continue };
            let mut hasher = DefaultHasher::new();
            about.interaction.hash(&mut hasher);
            let place = usize::try_from(hasher.finish() % READERS as u64).unwrap_or_default();
            if let Some(queue) = queues.get(place) {
                // A reader ends only with its queue.
                let _ = queue.send(about).await;
            }
        }
        drop(queues);
        while readers.join_next().await.is_some() {}
    }

    async fn take(&self, about: About) {
        let flight = self.flights.find(&about.interaction, &about.suggestion);
        let noted = match about.what {
            What::Ack { sent_timestamp_ms } => self.acked(&about, flight.as_ref(), sent_timestamp_ms).await,
            What::Answer(answer) => self.answered(&about, flight.as_ref(), answer).await,
        };
        let Some(was_unsettled) = noted else { return };
        if was_unsettled {
            self.shared.metrics.suggestion("sent");
        }
        if let Some(flight) = flight {
            self.flights.noted(&about.interaction, &about.suggestion, &flight);
        }
    }

    /// Notes an acknowledgement. Whether it is what settled the suggestion; `None` when it could not be noted.
    async fn acked(&self, about: &About, flight: Option<&Flight>, sent_timestamp_ms: Option<i64>) -> Option<bool> {
        self.flights.heard_ack();
        let sent_ms = flight.map(|flight| flight.written_ms).or(sent_timestamp_ms);
        let step = |document: &mut Interaction, cx: &Context<'_>| {
            let unsettled = unsettled_seq(document, &about.suggestion);
            // An id may be used again after its answer. An acknowledgement that comes twice, or late, is about the former
            // use, and must not settle what nobody has written yet.
            if unsettled.is_some() && unsettled != flight.map(|flight| flight.seq) {
                return ((false, false, None), Effects::default());
            }
            let (latency_ms, effects) = document.acked(cx, &about.suggestion, sent_ms);
            ((unsettled.is_some(), !effects.is_empty(), latency_ms), effects)
        };
        let (was_unsettled, is_first, latency_ms) = self.step(about, step).await?;
        // Ours is finer than that of the document.
        let ours = flight.map(|flight| about.came_at.saturating_duration_since(flight.written_at));
        if is_first && let Some(latency) = ours.or(latency_ms.map(Duration::from_millis)) {
            self.shared.metrics.acked_after(latency);
        }
        Some(was_unsettled)
    }

    /// Notes what the agent made of a suggestion, as [`Self::acked`].
    async fn answered(&self, about: &About, flight: Option<&Flight>, answer: Answer) -> Option<bool> {
        let hooks = self.hooks;
        let step = |document: &mut Interaction, cx: &Context<'_>| {
            let unsettled = unsettled_seq(document, &about.suggestion);
            // Where it is known when the frame was written, the records say so.
            let sent = match (unsettled, flight) {
                (Some(seq), Some(flight)) if seq == flight.seq => document.sent_at(cx, seq, flight.written_ms),
                _ => Effects::default(),
            };
            let (was_active, answered) = document.answered(cx, &about.suggestion, answer, hooks);
            ((unsettled.is_some(), was_active), both(sent, answered))
        };
        let (was_unsettled, was_active) = self.step(about, step).await?;
        if was_active {
            self.shared.metrics.suggestion(match answer {
                Answer::Accepted => "taken_up",
                Answer::Dismissed => "dismissed",
            });
        }
        Some(was_unsettled)
    }

    /// Writes a step, as often as it takes: CXone says what it has to say once. `None` when the store refuses it.
    async fn step<T: Send>(
        &self,
        about: &About,
        step: impl Fn(&mut Interaction, &Context<'_>) -> (T, Effects) + Send + Sync,
    ) -> Option<T> {
        let mut pause = PAUSE;
        loop {
            let now_ms = now_ms();
            let cx = Context { id: &about.interaction, now_ms };
            let keep_ms = self.shared.settings.keep_ms();
            let stepping =
                self.shared.store.step_interaction(&about.interaction, now_ms, keep_ms, |document| step(document, &cx));
            match stepping.await {
                Ok(answer) => return Some(answer),
                Err(problem) if problem.is_transient() => {
                    warn!(%problem, "an answer to a suggestion could not be noted; trying again");
                    self.shared.metrics.store_error("suggestion_answer");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(problem) => {
                    error!(interaction = %about.interaction, %problem, "an answer to a suggestion could not be noted");
                    self.shared.metrics.store_error("suggestion_answer");
                    return None;
                }
            }
        }
    }
}

/// The number of a suggestion's entry, while it is not known to be sent.
fn unsettled_seq(document: &Interaction, suggestion: &str) -> Option<u64> {
    document.slot(suggestion).filter(|slot| slot.state == ActiveState::Queued).map(|slot| slot.seq)
}

/// Two steps as one.
fn both(mut first: Effects, second: Effects) -> Effects {
    first.put.extend(second.put);
    first.close.extend(second.close);
    first.bury.extend(second.bury);
    first.audit.extend(second.audit);
    first
}

/// What a frame is about; `None` for frames that are about no suggestion.
fn about(text: &str) -> Option<About> {
    let (interaction, suggestion, what) = match read(text) {
        Ok(Incoming::Ack { interaction, suggestion_id, sent_timestamp_ms }) => {
            (interaction, suggestion_id, What::Ack { sent_timestamp_ms })
        }
        Ok(Incoming::Accepted { interaction, suggestion_id }) => {
            (interaction, suggestion_id, What::Answer(Answer::Accepted))
        }
        Ok(Incoming::Dismissed { interaction, suggestion_id }) => {
            (interaction, suggestion_id, What::Answer(Answer::Dismissed))
        }
        Ok(_) => return None,
        Err(_) => {
            debug!(uplink = Which::Suggestions.label(), bytes = text.len(), "a frame could not be read");
            return None;
        }
    };
    Some(About { interaction, suggestion, what, came_at: Instant::now() })
}
