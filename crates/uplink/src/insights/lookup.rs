//! From words to cards: one search, and one step of the interaction's document.

use std::time::Duration;

use earpiece_core::assist::InteractionId;
use earpiece_core::assist::card::cards;
use earpiece_core::assist::interaction::Context;
use earpiece_core::secret::Private;
use earpiece_store::{Store, StoreError};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::clock::now_ms;
use crate::metrics::Metrics;
use crate::search::{CARDS_MAX, Found, Search, SearchError};

/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// What a lookup needs.
pub(crate) struct Lookup {
    pub(crate) store: Store,
    pub(crate) search: Search,
    pub(crate) metrics: Metrics,
    /// How long an interaction is kept after its last change.
    pub(crate) keep_ms: u64,
}

/// How a lookup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is nothing more to do.
    Over,
    /// It could not be made, and may be later.
    Later {
        /// When.
        at: Instant,
    },
}

impl Lookup {
    /// Looks up what was said in an interaction, and puts the cards that it has not had into the outbox.
    pub(crate) async fn look_up(&self, id: &InteractionId, words: &Private<String>) -> Outcome {
        let shown = match self.store.interaction(id, now_ms()).await {
            Ok(record) => record.interaction.shown,
            Err(problem) => return self.store_failed(&problem),
        };
        let found = match self.search.fresh(words, |article| shown.contains(article)).await {
            Ok(found) => found,
            Err(SearchError::Limited { until }) => return Outcome::Later { at: until },
            Err(SearchError::Failed) => return Outcome::Over,
        };
        let Found { articles, known } = found;
        let cards = cards(articles, id, |article| shown.contains(article), CARDS_MAX);
        self.metrics.insights("known", known);
        if cards.is_empty() {
            if known == 0 {
                self.metrics.insights("empty", 1);
            }
            return Outcome::Over;
        }
        let now_ms = now_ms();
        let cx = Context { id, now_ms };
        let made = cards.len();
        // What another task showed since the document was read is dropped by the step.
        let step =
            self.store.step_interaction(id, now_ms, self.keep_ms, |document| document.insights(&cx, cards.clone()));
        match step.await {
            Ok(queued) => {
                self.metrics.insights("known", made.saturating_sub(queued));
                Outcome::Over
            }
            Err(problem) => self.store_failed(&problem),
        }
    }

    fn store_failed(&self, problem: &StoreError) -> Outcome {
        self.metrics.store_error("insights");
        if problem.is_transient() {
            warn!(%problem, "cards could not be noted; trying again");
            return Outcome::Later { at: Instant::now() + STORE_PAUSE };
        }
        error!(%problem, "cards could not be noted");
        Outcome::Over
    }
}
