//! Client of the agent assist app: one WebSocket per audio stream, one request per utterance, `docs/assist-app.md` on
//! the wire.
//!
//! Voice: the shim holds a [`Tap`] per stream and calls it for every frame; a task of its own per stream owns the app's
//! socket, connects, sends, replays after a break and listens. Between the two stands a bounded ring, so an app that is
//! slow or away costs its own stream its oldest audio and nobody anything else. Text: [`text::TextRelay`] posts one
//! utterance and says whether it has arrived; whoever accepted the utterance decides about another attempt.
//!
//! | module | holds |
//! | --- | --- |
//! | `settings` | every limit, and what makes settings valid |
//! | `ring` | what is held for the app: audio, silence, losses, the replay window (sans I/O) |
//! | `backoff` | how long to wait before the next attempt (pure) |
//! | `frame` | the JSON frames of the protocol |
//! | `tap` | the producer's end, and what it shares with the task |
//! | `connect` | DNS, TCP, TLS and the upgrade |
//! | `session` | one connection: from `start` to its end |
//! | `stream` | one stream's task: connections and the pauses between them |
//! | `counters` | what is measured |
//! | [`text`] | utterances: the note that is posted, and what its answer means |
//!
//! What does not live here: CXone's side of the call, recordings, and what the app's events mean.

mod backoff;
mod connect;
mod counters;
mod frame;
mod ring;
mod session;
mod settings;
mod stream;
mod tap;
pub mod text;

use std::sync::Arc;

use earpiece_core::contact::event::AppEvent;
use tokio::sync::{mpsc, watch};

pub use counters::{Counter, Counters};
pub use settings::{SettingsError, SettingsFault, VoiceSettings};
pub use stream::Start;
pub use tap::{Stopped, Tap};

use connect::Target;
use settings::Limits;
use stream::Worker;
use tap::Shared;

/// Carries audio streams to the assist app. Cheap to clone; one per process.
#[derive(Clone)]
pub struct VoiceRelay {
    house: Arc<House>,
}

/// What all streams of the process have in common.
pub(crate) struct House {
    pub(crate) target: Target,
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) outage: stream::Outage,
    live: watch::Sender<usize>,
    jitter_seed: Option<u64>,
}

impl VoiceRelay {
    /// Checks the settings and gets ready; nothing is connected before the first [`VoiceRelay::open`].
    ///
    /// For a `wss` address this reads the machine's root certificates, once.
    ///
    /// # Errors
    ///
    /// Every setting that cannot be used, by name. No value is repeated: the address may hold a token.
    pub fn new(settings: &VoiceSettings) -> Result<Self, SettingsError> {
        let (target, limits) = settings.check()?;
        Ok(Self {
            house: Arc::new(House {
                target,
                limits,
                counters: Counters::default(),
                outage: stream::Outage::default(),
                live: watch::Sender::new(0),
                jitter_seed: settings.jitter_seed,
            }),
        })
    }

    /// Starts a task that carries one stream to the assist app, and returns the end to push audio into.
    ///
    /// What the app says comes out of `events`; when that channel is full or closed, events are dropped and counted.
    /// The task lives until [`Tap::stop`] and at most [`VoiceSettings::flush_ms`] beyond.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use = "dropping the tap stops the stream"]
    pub fn open(&self, start: Start, events: mpsc::Sender<AppEvent>) -> Tap {
        let shared = Arc::new(Shared::new(self.house.limits.ring, start.generation));
        let rng = self.house.jitter_seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let present = Present::enter(&self.house);
        let mut worker = Worker::new(self.house.clone(), shared.clone(), start, events, rng);
        tokio::spawn(async move {
            let _present = present;
            worker.run().await;
        });
        Tap::new(self.house.clone(), shared)
    }

    /// What was measured so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.house.counters
    }

    /// Resolves when no stream has a task any more: after the last `stop`, within [`VoiceSettings::flush_ms`].
    pub async fn drained(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.house.live.subscribe().wait_for(|live| *live == 0).await;
    }
}

impl std::fmt::Debug for VoiceRelay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VoiceRelay").field("live", &*self.house.live.borrow()).finish_non_exhaustive()
    }
}

/// One live task. Counts itself out even when the task panics or the runtime is torn down.
struct Present(Arc<House>);

impl Present {
    fn enter(house: &Arc<House>) -> Self {
        house.live.send_modify(|live| *live += 1);
        Self(house.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.live.send_modify(|live| *live -= 1);
    }
}
