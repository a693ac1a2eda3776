//! When something has come to the platform: seen by who watches it, told to who waits for it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use earpiece_simulator::platform::{Kind, Platform, Received};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The platform is looked at after every change; this only bounds a wait in which nothing changes.
const QUIET: Duration = Duration::from_mins(1);

/// Who waits for what: a suggestion by its id, a card of knowledge by its interaction. No name is used for both.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    awaited: Mutex<HashMap<String, oneshot::Sender<Instant>>>,
}

impl Arrivals {
    /// Tells when something of this name has come. Said before it can come.
    pub(crate) fn expect(&self, name: &str) -> oneshot::Receiver<Instant> {
        let (tell, told) = oneshot::channel();
        self.with(|awaited| awaited.insert(name.to_owned(), tell));
        told
    }

    /// Nobody waits for it any more.
    pub(crate) fn give_up(&self, name: &str) {
        self.with(|awaited| awaited.remove(name));
    }

    /// Watches the platform, for ever.
    pub(crate) async fn watch(&self, platform: &Platform) {
        let mut seen = 0;
        loop {
            let _ = platform.wait_for(QUIET, |received| self.take(received, &mut seen)).await;
        }
    }

    /// Takes what came since the record of this number. Nothing while there is nothing new.
    fn take(&self, received: &Received, seen: &mut u64) -> Option<()> {
        let at = Instant::now();
        for record in received.since(*seen).filter(|record| record.is_taken()) {
            let name = match record.kind {
                Kind::Suggest => record.id.as_deref(),
                Kind::Insight => record.interaction.as_deref(),
                _ => None,
            };
            let Some(name) = name else { continue };
            if let Some(tell) = self.with(|awaited| awaited.remove(name)) {
                // Who waited may have given up.
                let _ = tell.send(at);
            }
        }
        let before = std::mem::replace(seen, received.newest());
        (*seen > before).then_some(())
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, oneshot::Sender<Instant>>) -> T) -> T {
        act(&mut self.awaited.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
