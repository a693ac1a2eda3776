//! One suggestion through the rules into the store: the same for a request, and for what the assist app answers.

use std::sync::Arc;

use earpiece_core::assist::{Context, InteractionId, Rejection, Rules, Suggestion};
use earpiece_core::telemetry::SUGGESTIONS;
use earpiece_store::{Store, StoreError};
use tokio::sync::Semaphore;
use tracing::info;

use super::from_app::UNDER_WAY_MAX;
use crate::clock::as_ms;
use crate::counters::Counters;
use crate::settings::SuggestionRules;

/// A suggestion that is on its way to the agent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// Its relevance as it is sent: moved by what the agent did with earlier ones. 0 to 1.
    pub relevance_score: f64,
    /// Suggestions of the interaction that are active now, this one among them.
    pub active: usize,
}

/// Takes suggestions. Clones share what they have under way.
#[derive(Clone)]
pub struct Desk {
    store: Store,
    counters: Arc<Counters>,
    settings: SuggestionRules,
    rules: Rules,
    /// What an answer to CXone did not wait for.
    pub(super) under_way: Arc<Semaphore>,
}

impl Desk {
    /// A desk with the documents' rules.
    #[must_use]
    pub fn new(store: Store, counters: Arc<Counters>, settings: SuggestionRules) -> Self {
        let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
        Self { store, counters, settings, rules: Rules::default(), under_way }
    }

    /// The business unit that CXone's credentials belong to, where it is set.
    #[must_use]
    pub const fn bus_no(&self) -> Option<u64> {
        self.settings.bus_no
    }

    /// Suggestions per second of one business unit.
    pub(super) const fn per_second_max(&self) -> u32 {
        self.settings.per_second_max
    }

    /// Judges a suggestion and puts it into the outbox, in one step that others cannot come between.
    ///
    /// # Errors
    /// When the store did not do it; inside, the rule that does not let it pass.
    pub async fn submit(
        &self,
        interaction: &InteractionId,
        suggestion: &Suggestion,
        now_ms: i64,
    ) -> Result<Result<Taken, Rejection>, StoreError> {
        let context = Context { id: interaction, now_ms };
        let keep_ms = as_ms(self.settings.keep);
        let judged = self
            .store
            .step_interaction(interaction, now_ms, keep_ms, |state| {
                let (judged, effects) = state.submit(&context, suggestion, &self.rules);
                let active = state.active.len();
                (judged.map(|submitted| Taken { relevance_score: submitted.relevance_score, active }), effects)
            })
            .await?;
        match &judged {
            Ok(taken) => {
                self.count("accepted");
                info!(%interaction, active = taken.active, "a suggestion waits to be sent");
            }
            Err(rejection) => {
                self.count("refused");
                info!(%interaction, rule = rejection.rule(), "a suggestion was refused");
            }
        }
        Ok(judged)
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn count(&self, outcome: &'static str) {
        self.counters.count(SUGGESTIONS, &[("outcome", outcome)]);
    }
}
