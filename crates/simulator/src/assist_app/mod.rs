//! A small reference assist app: a WebSocket server that hears calls, counts and acknowledges what it hears, says what
//! it was told to say, and plays faults on demand.
//!
//! It speaks the voice protocol of `docs/assist-app.md`. What it heard is asked for with [`AssistApp::heard`], waited
//! for with [`AssistApp::wait_for`].

mod connection;
pub mod hearing;
pub mod settings;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use earpiece_core::protocol::perspective::Perspective;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::stop::told_to_stop;
pub use hearing::{Heard, HeardGap, HeardGapReason, Hearing};
pub use settings::{AssistSettings, CloseAfter, Faults, Line, PauseAfter};

/// Largest binary frame that the protocol allows: 100 ms of audio. Larger ones are heard, and counted as violations.
pub const CHUNK_BYTES_MAX: usize = 800;

/// Largest message taken; the `start` frame carries the script's parameters.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Bound on the upgrade and the `start` frame, together.
pub const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A running app. Dropping it ends every connection at once; [`AssistApp::shutdown`] closes them.
#[derive(Debug)]
pub struct AssistApp {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl AssistApp {
    /// Serves a listener.
    ///
    /// # Errors
    ///
    /// When the listener does not know its own address.
    pub fn start(listener: TcpListener, settings: AssistSettings) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(settings));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to dial.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    /// What one perspective of a contact said so far.
    #[must_use]
    pub fn heard(&self, contact: ContactKey, perspective: &Perspective) -> Option<Heard> {
        self.shared.hearing().heard(contact, perspective)
    }

    /// Looks at everything heard so far. New audio waits meanwhile.
    pub fn look<T>(&self, see: impl FnOnce(&Hearing) -> T) -> T {
        see(&self.shared.hearing())
    }

    /// Looks after every change until `find` finds something, for at most `within`; none when it did not.
    pub async fn wait_for<T>(&self, within: Duration, mut find: impl FnMut(&Hearing) -> Option<T>) -> Option<T> {
        let mut changes = self.shared.changes.subscribe();
        let finding = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = find(&self.shared.hearing()) {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        };
        timeout(within, finding).await.ok().flatten()
    }

    /// Replaces the faults; `times` count anew.
    pub fn set_faults(&self, faults: Faults) {
        *self.shared.faults() = faults;
    }

    /// Accepts nothing more, closes every connection with 1001, and returns when all are gone.
    pub async fn shutdown(mut self) {
        self.shared.stop.send_replace(true);
        // The task ends by itself: every connection closes within a bound. It fails only if it panicked.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for AssistApp {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = told_to_stop(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                // A connection that was gone before it was accepted is nobody's loss.
                let Ok((stream, _)) = accepted else { continue };
                let refused = shared.faults().refuse || connections.len() >= shared.settings.connections_max;
                shared.change(|hearing| {
                    hearing.connections += 1;
                    hearing.refused += u64::from(refused);
                });
                if !refused {
                    connections.spawn(connection::serve(stream, Arc::clone(&shared)));
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A line of the script, ready to send.
#[derive(Debug)]
struct ReadyLine {
    at_sample: u64,
    text: String,
}

#[derive(Debug)]
struct Shared {
    settings: AssistSettings,
    lines: HashMap<Perspective, Vec<ReadyLine>>,
    hearing: Mutex<Hearing>,
    faults: Mutex<Faults>,
    /// Counts changes of the hearing, for whoever waits for one.
    changes: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

impl Shared {
    fn new(settings: AssistSettings) -> Self {
        let mut lines: HashMap<Perspective, Vec<ReadyLine>> = HashMap::new();
        for line in &settings.script {
            let ready = ReadyLine { at_sample: line.at_sample, text: line.say.to_string() };
            lines.entry(line.perspective.clone()).or_default().push(ready);
        }
        for lines in lines.values_mut() {
            lines.sort_by_key(|line| line.at_sample);
        }
        Self {
            lines,
            hearing: Mutex::default(),
            faults: Mutex::new(settings.faults.clone()),
            changes: watch::Sender::new(0),
            stop: watch::Sender::new(false),
            settings,
        }
    }

    fn lines(&self, perspective: &Perspective) -> &[ReadyLine] {
        self.lines.get(perspective).map_or(&[], Vec::as_slice)
    }

    /// The books stay right even if a looker panicked with them in hand: it could not change them.
    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Hearing) -> T) -> T {
        let changed = change(&mut self.hearing());
        self.changes.send_modify(|count| *count += 1);
        changed
    }
}
