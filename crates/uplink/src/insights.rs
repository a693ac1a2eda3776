//! Socket B: what is said in an interaction comes in, and what is known about it goes back as cards.
//!
//! Whoever holds the lease reads the socket; every task also hears the transcripts of its own streams, which needs no
//! lease. Both end up at the one `desk` of the task: a buffer for each interaction, then its question, then a lookup.
//! A lookup ends in a step of the interaction's document, so a card that was shown is not shown again, whichever task
//! heard what; the cards leave through the lane of the outbox. Judgements of cards take the same way without the desk.
//!
//! The reader never waits for a search or for the store: fragments that find the desk full are dropped and counted.

mod buffers;
mod desk;
mod lookup;
mod queries;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use earpiece_core::assist::card::FeedbackAction;
use earpiece_core::assist::interaction::Context;
use earpiece_core::assist::transcript::BufferLimits;
use earpiece_core::assist::{Entry, InteractionId, Lane, Payload};
use earpiece_core::protocol::platform::insights::{Incoming, read};
use earpiece_core::secret::Private;
use earpiece_knowledge::Knowledge;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use crate::clock::now_ms;
use crate::ear::{Heard, Hearing, Said};
use crate::lease::Held;
use crate::link::{Ends, Link};
use crate::outbox::{self, Carrier, Delivery, Fate};
use crate::run::Shared;
use crate::search::{Search, SearchSettings, Source};
use crate::settings::Which;

use self::desk::Desk;
use self::lookup::Lookup;

/// Fragments and dialog states from the socket that wait for the desk. It takes microseconds for one.
const HEARD_MAX: usize = 8192;
/// Judgements that wait to be noted. When there are more the socket is read no further: none may be lost.
const ANSWERS_MAX: usize = 16_384;
/// Workers that note judgements.
const WORKERS: usize = 8;
/// First pause before a judgement is noted again; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
/// No pause before a judgement is noted again is longer.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long one delivery may take.
const CARRY_MAX: Duration = Duration::from_secs(45);

/// Socket B, its lane, and what this task hears itself.
#[derive(Clone)]
pub(crate) struct Insights {
    shared: Arc<Shared>,
    lookup: Arc<Lookup>,
    heard: mpsc::Sender<Heard>,
    /// The other end, until the desk takes it.
    desk: Arc<Mutex<Option<mpsc::Receiver<Heard>>>>,
}

impl Insights {
    /// Knowledge is the folder's where there is one, and else CXone's.
    pub(crate) fn new(shared: Arc<Shared>, knowledge: Option<Knowledge>) -> Self {
        let settings = SearchSettings {
            language: shared.settings.knowledge_language.clone(),
            cache: shared.settings.knowledge_cache,
        };
        let source = match knowledge {
            Some(knowledge) => Source::Folder(Arc::new(knowledge)),
            None => Source::Cxone(shared.cxone.clone()),
        };
        let lookup = Arc::new(Lookup {
            store: shared.store.clone(),
            search: Search::new(source, settings, shared.metrics.clone()),
            metrics: shared.metrics.clone(),
            keep_ms: shared.settings.keep_ms(),
        });
        let (heard, desk) = mpsc::channel(HEARD_MAX);
        Self { shared, lookup, heard, desk: Arc::new(Mutex::new(Some(desk))) }
    }

    /// Does the work of the desk, for this task's own transcripts and for those of the socket, until `closing` is up.
    /// Called once.
    pub(crate) async fn hear(self, hearing: Hearing, closing: watch::Receiver<bool>) {
        let heard = self.desk.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(heard) = heard else {
            error!("the desk of insights was opened twice");
            return;
        };
        Desk::new(self.lookup, BufferLimits::default()).run(heard, hearing, closing).await;
    }

    /// Does the work of the socket and of the lane while the lease is held.
    pub(crate) async fn work(self, mut held: Held) {
        let shared = Arc::clone(&self.shared);
        let lane = outbox::work(Arc::clone(&shared), Arc::new(Posts { shared: Arc::clone(&shared) }), held.clone());
        let (link, Ends { frames, sender: _ }) =
            Link::new(shared.cxone.clone(), Which::Insights, shared.metrics.clone());
        let (close, closing) = watch::channel(false);
        let close_in_time = async move {
            held.ending().await;
            close.send_replace(true);
        };
        tokio::join!(lane, close_in_time, link.run(closing), self.read_all(frames));
    }

    /// Reads until the link has ended and every judgement is noted.
    async fn read_all(self, mut frames: mpsc::Receiver<Private<String>>) {
        let (queue, answers) = mpsc::channel::<Answer>(ANSWERS_MAX);
        let answers = Arc::new(tokio::sync::Mutex::new(answers));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(note_all(Arc::clone(&self.shared), Arc::clone(&answers)));
        }
        while let Some(frame) = frames.recv().await {
            if let Some(answer) = self.take(frame.reveal()) {
                // The workers end only with the queue.
                let _ = queue.send(answer).await;
            }
        }
        drop(queue);
        while workers.join_next().await.is_some() {}
    }

    /// Takes a frame to the desk, unless it is a judgement, which is left to the caller.
    fn take(&self, frame: &str) -> Option<Answer> {
        let (interaction, what) = match read(frame) {
            Ok(Incoming::Fragment { interaction, text, at_ms }) => {
                (interaction, Said::Fragment { text, at_ms: at_ms.unwrap_or_else(now_ms) })
            }
            Ok(Incoming::DialogState { interaction, state }) if state.flushes() => (interaction, Said::TurnEnd),
            Ok(Incoming::Answer { interaction, insight_id, action }) => {
                return Some(Answer { interaction, insight_id, action });
            }
            Ok(Incoming::DialogState { .. } | Incoming::Unknown { .. }) => return None,
            Err(_) => {
                debug!(uplink = Which::Insights.label(), bytes = frame.len(), "an event could not be read");
                return None;
            }
        };
        if self.heard.try_send(Heard { interaction, what }).is_err() {
            self.shared.metrics.fragments_dropped(1);
        }
        None
    }
}

impl fmt::Debug for Insights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Insights").finish_non_exhaustive()
    }
}

/// An agent judged an insight.
struct Answer {
    interaction: InteractionId,
    insight_id: String,
    action: FeedbackAction,
}

async fn note_all(shared: Arc<Shared>, answers: Arc<tokio::sync::Mutex<mpsc::Receiver<Answer>>>) {
    loop {
        let next = answers.lock().await.recv().await;
        let Some(answer) = next else { return };
        note(&shared, &answer).await;
    }
}

/// Writes a judgement and its entry, as often as it takes: the event does not come again. One that is known already
/// changes nothing.
async fn note(shared: &Shared, answer: &Answer) {
    let mut pause = PAUSE;
    loop {
        let now_ms = now_ms();
        let cx = Context { id: &answer.interaction, now_ms };
        let noting =
            shared.store.step_interaction(&answer.interaction, now_ms, shared.settings.keep_ms(), |document| {
                document.feedback(&cx, &answer.insight_id, answer.action)
            });
        let Err(problem) = noting.await else { return };
        shared.metrics.store_error("feedback");
        if !problem.is_transient() {
            error!(interaction = %answer.interaction, %problem, "a judgement of an insight could not be noted");
            return;
        }
        warn!(%problem, "a judgement of an insight could not be noted; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The lane of insights: cards, and judgements of them.
struct Posts {
    shared: Arc<Shared>,
}

impl Carrier for Posts {
    const LANE: Lane = Lane::Insights;
    const CLAIM: Duration = Duration::from_mins(1);
    const GIVES_UP: bool = true;

    async fn carry(&self, entry: &Entry) -> Delivery {
        let cxone = &self.shared.cxone;
        let posting = async {
            match &entry.payload {
                Payload::Insights { cards } => Some(cxone.post_insights(cards).await),
                Payload::Feedback { insight_id, action, at_ms } => {
                    Some(cxone.post_feedback(&entry.interaction, insight_id, *action, *at_ms).await)
                }
                _ => None,
            }
        };
        match timeout(CARRY_MAX, posting).await {
            Ok(Some(answer)) => Delivery::of(Self::LANE, answer),
            Ok(None) => Delivery::Never { reason: "lane" },
            Err(_) => Delivery::Again { after: None },
        }
    }

    fn settled(&self, entry: &Entry, fate: Fate) {
        if let (Payload::Insights { cards }, Fate::Delivered) = (&entry.payload, fate) {
            self.shared.metrics.insights("sent", cards.len());
        }
    }
}
