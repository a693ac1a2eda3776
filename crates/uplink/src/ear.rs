//! The shim's own transcripts on their way to the insight side: a bounded queue that no call ever waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use earpiece_core::assist::InteractionId;
use earpiece_core::secret::Private;
use tokio::sync::mpsc;

/// What may wait to be heard. A task has at most some thousand streams with a few fragments a second each, and
/// hearing one takes microseconds: a queue this long is full only when nobody hears at all.
pub const HEARD_MAX: usize = 8192;

/// Something that was said in an interaction.
#[derive(Debug, Clone)]
pub struct Heard {
    /// In which.
    pub interaction: InteractionId,
    /// What.
    pub what: Said,
}

/// What there is to hear.
#[derive(Debug, Clone)]
pub enum Said {
    /// A piece of a transcript.
    Fragment {
        /// The words.
        text: Private<String>,
        /// When they were said, in milliseconds since the Unix epoch.
        at_ms: i64,
    },
    /// Somebody has finished a sentence, or fell silent: what was said so far can be looked up.
    TurnEnd,
}

/// Where the shim puts what it hears. Clones put it into the same queue.
#[derive(Debug, Clone)]
pub struct Ear {
    queue: mpsc::Sender<Heard>,
    dropped: Arc<AtomicU64>,
}

/// The other end of an [`Ear`].
#[derive(Debug)]
pub struct Hearing {
    queue: mpsc::Receiver<Heard>,
    dropped: Arc<AtomicU64>,
}

/// An ear, and what is heard through it, for [`crate::run`].
#[must_use]
pub fn channel() -> (Ear, Hearing) {
    let (sender, receiver) = mpsc::channel(HEARD_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    (Ear { queue: sender, dropped: Arc::clone(&dropped) }, Hearing { queue: receiver, dropped })
}

impl Ear {
    /// Puts something into the queue. It never waits: what does not fit is dropped and counted.
    pub fn hear(&self, heard: Heard) {
        if self.queue.try_send(heard).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How much was dropped because nobody took it.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Hearing {
    /// The next thing that was said; `None` when every [`Ear`] is gone.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        self.queue.recv().await
    }

    /// What was said and waits, if anything.
    pub(crate) fn try_next(&mut self) -> Option<Heard> {
        self.queue.try_recv().ok()
    }

    /// How much was dropped since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_and_counted_and_nobody_waits() {
        let (ear, mut hearing) = channel();
        let interaction = InteractionId::parse("7").unwrap();
        for _ in 0..HEARD_MAX + 3 {
            ear.hear(Heard { interaction: interaction.clone(), what: Said::TurnEnd });
        }
        assert_eq!(ear.dropped(), 3);
        assert_eq!(hearing.take_dropped(), 3);
        assert_eq!(hearing.take_dropped(), 0, "each is told once");
        assert!(hearing.next().await.is_some());
    }
}
