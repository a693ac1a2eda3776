//! Claiming a stream's generation: begun at the handshake, gone on with in the background when the store is slow.
//!
//! A call is never lost because a database is slow: the handshake waits for the claim only so long, and the claim goes
//! on by itself. A claim carries the instant of its handshake, so a late one can never push aside a newer socket.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::Perspective;
use earpiece_store::{Claim, ClaimError};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use crate::Task;
use crate::clock::wall_ms;
use crate::limits::as_ms;

/// Pauses between attempts: full jitter under a ceiling that doubles up to this.
const PAUSE_MAX: Duration = Duration::from_secs(10);
const PAUSE_FIRST: Duration = Duration::from_millis(200);

/// How a claim went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The stream holds its perspective with this generation.
    Won(u64),
    /// A newer socket holds the perspective.
    Superseded,
    /// The store did not answer for the whole of its patience, or never will.
    GaveUp,
}

/// What is claimed.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) contact: ContactKey,
    pub(crate) perspective: Perspective,
    pub(crate) stream: StreamId,
    pub(crate) opened_us: i64,
}

/// Begins a claim. The task goes on until it has an answer, whoever waits for it.
pub(crate) fn begin(task: Arc<Task>, wanted: Wanted) -> JoinHandle<Outcome> {
    tokio::spawn(async move { claim(&task, &wanted).await })
}

async fn claim(task: &Task, wanted: &Wanted) -> Outcome {
    let patience = task.limits.store_patience;
    let retried = retry("claim", task, patience, || async {
        let claim = Claim {
            contact: wanted.contact,
            perspective: &wanted.perspective,
            stream: wanted.stream,
            opened_at_us: wanted.opened_us,
            task: &task.name,
            now_ms: wall_ms(),
            stale_after_ms: as_ms(task.limits.stale).cast_unsigned(),
        };
        match task.store.claim(&claim).await {
            Ok(claimed) => Ok(Outcome::Won(claimed.generation)),
            // Perspectives that nobody documents share one place in the store and never fence each other.
            Err(ClaimError::Superseded { current }) if matches!(wanted.perspective, Perspective::Unknown(_)) => {
                Ok(Outcome::Won(current.generation))
            }
            Err(ClaimError::Superseded { .. }) => Ok(Outcome::Superseded),
            Err(ClaimError::Store(error)) => Err(error),
        }
    });
    retried.await.unwrap_or(Outcome::GaveUp)
}

/// Repeats a store operation while its errors are transient and its patience lasts. `None` when it gave up.
pub(crate) async fn retry<T, F>(
    operation: &'static str,
    task: &Task,
    patience: Duration,
    mut attempt: impl FnMut() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, earpiece_store::StoreError>>,
{
    let until = Instant::now() + patience;
    let mut ceiling = PAUSE_FIRST;
    loop {
        let error = match attempt().await {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        task.metrics.store_error(operation);
        if !error.is_transient() || Instant::now() >= until {
            warn!(operation, %error, "the store did not do it, and it is not tried again");
            return None;
        }
        tokio::time::sleep(ceiling.mul_f64(fastrand::f64())).await;
        ceiling = (ceiling * 2).min(PAUSE_MAX);
    }
}
