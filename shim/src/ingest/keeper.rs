//! What the assist app says of a stream that comes in pieces: told to those who watch, and written beside its audio.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::contact::event::{AppEvent, What};
use earpiece_core::contact::facts::StreamFacts;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::Task;
use crate::clock::wall_ms;

/// Keeps what is said until nobody can say any more, and all of it is written or given up. Nobody who says something
/// waits for the writing.
pub(crate) async fn keep(task: Arc<Task>, facts: StreamFacts, mut said: mpsc::Receiver<AppEvent>) {
    let log = task.recorder.events(facts.stream);
    let (silent, mut is_silent) = oneshot::channel::<()>();
    let hear = async {
        while let Some(event) = said.recv().await {
            log.push(&event);
            task.hear(facts.contact, &event);
            task.contacts.tell(facts.contact, event.at_us, What::App(event));
        }
        drop(silent);
    };
    let write = async {
        // As often as segments are written of a stream on a socket of its own.
        let period = Duration::from_millis(task.recorder.segment_ms().into());
        loop {
            let is_last = tokio::time::timeout(period, &mut is_silent).await.is_ok();
            if let Err(error) = task.recorder.write_events(&facts, &log, wall_ms() * 1000).await {
                warn!(contact = %facts.contact, stream = %facts.stream, %error, "what the assist app said is not written");
            }
            if is_last {
                return;
            }
        }
    };
    tokio::join!(hear, write);
}
