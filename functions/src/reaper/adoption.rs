//! Audio without a contact: segments that came after their contact was finished, or were written while the store was
//! away until their writer died. They lie in the recordings, and nothing in the store points to them.
//!
//! A shim does the same where there is one; where there is none, nobody else would.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use earpiece_recorder::Recorder;
use earpiece_store::ContactState;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{FINISH_BUDGET, Reaper};
use crate::clock::as_ms;

/// How often one process looks for orphans.
pub const ADOPTION_PERIOD: Duration = Duration::from_mins(10);

/// Orphans finished in one sweep.
pub const ADOPTED_MAX: usize = 8;

/// Contacts listed in one look: more than can be on hold at once, so that those that live hide no orphan.
pub const ADOPTION_LISTED_MAX: usize = 1000;

/// How long listing them may take.
pub const ADOPTION_LISTING_MAX: Duration = Duration::from_secs(30);

/// When this process looks again.
#[derive(Debug, Default)]
pub(super) struct Adoptions {
    next_at_ms: AtomicI64,
}

impl Adoptions {
    /// Whether it is time; of several that ask at once, one is told so.
    fn begin(&self, now_ms: i64) -> bool {
        let next_at_ms = now_ms.saturating_add_unsigned(as_ms(ADOPTION_PERIOD));
        let set = |at_ms: i64| (now_ms >= at_ms).then_some(next_at_ms);
        self.next_at_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set).is_ok()
    }
}

impl Reaper {
    /// Finishes, from time to time, what lies in the recordings without a contact that lives in the store.
    pub(super) async fn adopt_orphans(&self, recorder: &Recorder, now_ms: i64) -> usize {
        if !self.adoptions.begin(now_ms) {
            return 0;
        }
        let mut contacts = self.unfinished(recorder).await;
        // One that cannot be finished today stays first in the list, and must not keep the others from their turn.
        fastrand::shuffle(&mut contacts);
        let until = Instant::now() + FINISH_BUDGET;
        let mut adopted = 0;
        for contact in contacts {
            if adopted >= ADOPTED_MAX || Instant::now() >= until {
                break;
            }
            adopted += usize::from(self.adopt(recorder, contact, now_ms).await);
        }
        adopted
    }

    async fn unfinished(&self, recorder: &Recorder) -> Vec<ContactKey> {
        // What a call on hold has written is left alone for as long as it may come back.
        let idle = self.stale.max(self.quiet);
        let listing = recorder.unfinished(ADOPTION_LISTED_MAX, idle);
        match tokio::time::timeout(ADOPTION_LISTING_MAX, listing).await {
            Ok(Ok(contacts)) => contacts,
            Ok(Err(error)) => {
                warn!(%error, "unfinished recordings cannot be listed");
                Vec::new()
            }
            Err(_) => {
                warn!("unfinished recordings cannot be listed in time");
                Vec::new()
            }
        }
    }

    async fn adopt(&self, recorder: &Recorder, contact: ContactKey, now_ms: i64) -> bool {
        match self.store.contact(&contact, now_ms).await {
            Ok(Some(record)) if record.state != ContactState::Ended => false,
            Ok(_) => {
                let written = self.write(recorder, contact, now_ms).await;
                if let Some(samples) = written {
                    info!(%contact, samples, "an orphaned recording was finished");
                }
                written.is_some()
            }
            Err(error) => {
                self.store_failed("contact");
                warn!(%contact, %error, "the contact could not be read");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_looks_at_once_and_then_once_per_period() {
        let adoptions = Adoptions::default();
        let now_ms = 1_790_000_000_000;
        let period_ms = i64::try_from(ADOPTION_PERIOD.as_millis()).unwrap();
        let looks = [0, 1, period_ms - 1, period_ms, period_ms + 1].map(|after_ms| adoptions.begin(now_ms + after_ms));
        assert_eq!(looks, [true, false, false, true, false]);
    }
}
