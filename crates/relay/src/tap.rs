//! The producer's end of a stream, and the state it shares with the stream's task.
//!
//! The lock is per stream and held for a memory copy at most. The task says under the lock at which position it wants to
//! be woken; the producer rings the bell when the head gets there, so a frame that completes no chunk wakes nobody.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use earpiece_core::contact::facts::{CloseReason, Lost, LostReason};
use tokio::sync::Notify;

use crate::House;
use crate::ring::{Item, Limits, Ring, Want};

/// No position: the task does not want to be woken by audio.
const NEVER: u64 = u64::MAX;

/// What a [`Tap`] and its task share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Rung for the connection: a chunk is ready, or the stream stops.
    pub(crate) bell: Notify,
    /// Rung once, when the stream stops: the time to flush begins.
    pub(crate) stopping: Notify,
}

/// The state of a stream.
pub(crate) struct State {
    pub(crate) ring: Ring,
    pub(crate) generation: Option<u64>,
    pub(crate) stop: Option<CloseReason>,
    wake_at: u64,
}

/// What the task finds when it asks for the next item.
pub(crate) enum Next {
    /// Send this.
    Item(Item),
    /// Nothing is ready; audio short of a chunk may be waiting. The bell rings when there is more.
    Nothing { waiting: bool },
    /// Everything was taken, and the stream is over.
    Stop { position: u64, reason: CloseReason },
}

impl Shared {
    pub(crate) fn new(limits: Limits, generation: Option<u64>) -> Self {
        let state = State { ring: Ring::new(limits), generation, stop: None, wake_at: NEVER };
        Self { state: Mutex::new(state), bell: Notify::new(), stopping: Notify::new() }
    }

    /// The state. A panic elsewhere while it was held cannot have left it half changed in a way that matters more than
    /// the call itself.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item, or where to wait: for a full chunk, or, `parked`, for the next sample.
    pub(crate) fn next(&self, want: Want, parked: bool) -> Next {
        let mut state = self.lock();
        let want = if state.stop.is_some() { Want::All } else { want };
        if let Some(item) = state.ring.take(want) {
            return Next::Item(item);
        }
        if let Some(reason) = state.stop {
            return Next::Stop { position: state.ring.head(), reason };
        }
        let waiting = state.ring.pending() > 0;
        if parked && !waiting {
            state.ring.release();
            state.wake_at = state.ring.head() + 1;
        } else {
            state.wake_at = state.ring.full_at();
        }
        Next::Nothing { waiting }
    }

    fn take_lost(&self) -> Option<Lost> {
        let range = self.lock().ring.take_lost()?;
        Some(Lost { first_sample: range.first_sample, samples: range.samples, reason: LostReason::RelayRingFull })
    }

    /// The connection is gone: until the next one, only a stop is worth waking for.
    pub(crate) fn sleep(&self) {
        self.lock().wake_at = NEVER;
    }

    /// Resolves when the stream is to stop.
    pub(crate) async fn stopped(&self) {
        while self.lock().stop.is_none() {
            self.bell.notified().await;
        }
    }
}

/// Where the shim pushes one stream's audio. Dropping it without [`Tap::stop`] stops the stream as `internal`.
pub struct Tap {
    house: Arc<House>,
    shared: Arc<Shared>,
    stop: CloseReason,
}

impl Tap {
    pub(crate) const fn new(house: Arc<House>, shared: Arc<Shared>) -> Self {
        Self { house, shared, stop: CloseReason::Internal }
    }

    /// Hands over the next samples, one µ-law byte each, in frames of any size.
    ///
    /// Never waits for the app: beyond [`crate::VoiceSettings::ring_ms`] the oldest samples are dropped and reported by
    /// [`Tap::take_lost`].
    pub fn push(&mut self, samples: &[u8]) {
        let (lost, wake) = {
            let mut state = self.shared.lock();
            let lost = state.ring.push(samples);
            let wake = state.ring.head() >= state.wake_at;
            if wake {
                state.wake_at = NEVER;
            }
            (lost, wake)
        };
        if wake {
            self.shared.bell.notify_one();
        }
        if lost > 0 {
            self.house.counters.samples_lost.add(lost);
        }
    }

    /// Notes that this much time, in samples, passed without audio. The app is told when audio follows.
    pub fn silence(&mut self, samples: u64) {
        let wake = {
            let mut state = self.shared.lock();
            state.ring.silence(samples);
            // Audio short of a chunk need not wait any longer: silence ends a chunk.
            let wake = state.wake_at != NEVER && samples > 0 && state.ring.pending() > 0;
            if wake {
                state.wake_at = NEVER;
            }
            wake
        };
        if wake {
            self.shared.bell.notify_one();
        }
    }

    /// Says which generation the stream claimed, once a slow store has answered. The next `start` carries it.
    pub fn set_generation(&mut self, generation: u64) {
        self.shared.lock().generation = Some(generation);
    }

    /// Takes the oldest loss that was not yet taken; losses that touch are one. Call it until it returns `None`.
    pub fn take_lost(&mut self) -> Option<Lost> {
        self.shared.take_lost()
    }

    /// Ends the stream: what is held is delivered within [`crate::VoiceSettings::flush_ms`], then `stop` is said and the
    /// socket closed. Returns at once, with what is left to ask; [`crate::VoiceRelay::drained`] waits.
    #[expect(clippy::must_use_candidate, reason = "who stops may have nothing to ask")]
    pub fn stop(mut self, reason: CloseReason) -> Stopped {
        // The rest is in `drop`, which also runs when a stream's task is torn down.
        self.stop = reason;
        Stopped(Arc::clone(&self.shared))
    }
}

/// A stream that was stopped: what it could not deliver is known when its task has ended, which is when the channel for
/// the app's events closes.
pub struct Stopped(Arc<Shared>);

impl Stopped {
    /// Takes the oldest loss that was not yet taken, as [`Tap::take_lost`].
    pub fn take_lost(&mut self) -> Option<Lost> {
        self.0.take_lost()
    }
}

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped").finish_non_exhaustive()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.lock().stop = Some(self.stop);
        self.shared.stopping.notify_one();
        self.shared.bell.notify_one();
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").finish_non_exhaustive()
    }
}
