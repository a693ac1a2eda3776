//! A suggestion is taken or refused: the one way in for whoever has one.

use earpiece_core::assist::InteractionId;
use earpiece_core::assist::interaction::{Context, Submitted};
use earpiece_core::assist::suggestion::{Rejection, Rules, Suggestion};
use earpiece_store::{Store, StoreError};

/// Judges a suggestion by the rules and, if it is taken, puts it into the outbox, in one transaction. Whoever holds the
/// lease sends it. What was kept of the interaction is kept for `keep_ms` more.
///
/// # Errors
///
/// When the store cannot be read or written. Then it is not known whether the suggestion was taken; submitting it again
/// is safe, and says `duplicate_id` if it was.
pub async fn submit(
    store: &Store,
    id: &InteractionId,
    suggestion: &Suggestion,
    rules: &Rules,
    keep_ms: u64,
    now_ms: i64,
) -> Result<Result<Submitted, Rejection>, StoreError> {
    let cx = Context { id, now_ms };
    store.step_interaction(id, now_ms, keep_ms, |interaction| interaction.submit(&cx, suggestion, rules)).await
}
