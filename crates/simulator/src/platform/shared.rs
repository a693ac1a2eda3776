//! What every connection to the platform shares.
//!
//! Locks are held for one look or one change, never over a wait, and never two at a time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use earpiece_core::secret::Secret;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::faults::{Fault, FaultError, FaultKind, Faults, On};
use super::received::{Answer, Kind, Note, OpenSocket, Received};
use super::search::Index;
use super::settings::{AnswerPolicy, PlatformSettings};
use super::tokens::{Refused, Tokens};
use super::{To, Uplink};

/// Frames that may wait for one socket.
const FRAMES_MAX: usize = 1_024;

/// How long a frame waits for room before its socket is passed over.
const FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends that may wait for one socket; the first one is what happens.
const STRIKES_MAX: usize = 4;

/// Answers of agents that may wait for a suggestion socket; further ones push out the oldest.
const ANSWERS_MAX: usize = 100_000;

/// An agent's answer that is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) interaction: Box<str>,
    pub(crate) suggestion: Box<str>,
    pub(crate) answer: Answer,
}

impl Said {
    pub(crate) fn frame(&self) -> Bytes {
        let kind = match self.answer {
            Answer::Accepted => "agentassist.accepted",
            Answer::Dismissed => "agentassist.dismissed",
        };
        json!({ "type": kind, "interactionId": self.interaction, "suggestionId": self.suggestion }).to_string().into()
    }
}

/// What is to be sent on a socket.
#[derive(Debug, Clone)]
pub(crate) enum Outgoing {
    Frame(Bytes),
    /// Goes to the next socket when this one ends before.
    Said(Said),
}

/// A socket that can be sent on.
#[derive(Debug)]
struct Seat {
    connection: u64,
    uplink: Uplink,
    ready: bool,
    frames: mpsc::Sender<Outgoing>,
    strikes: mpsc::Sender<FaultKind>,
}

/// What a socket gets from elsewhere.
pub(crate) struct Inbox {
    pub(crate) frames: mpsc::Receiver<Outgoing>,
    pub(crate) strikes: mpsc::Receiver<FaultKind>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: PlatformSettings,
    pub(crate) address: SocketAddr,
    pub(crate) index: Index,
    pub(crate) stop: watch::Sender<bool>,
    received: Mutex<Received>,
    tokens: Mutex<Tokens>,
    faults: Mutex<Faults>,
    policy: Mutex<AnswerPolicy>,
    seats: Mutex<Vec<Seat>>,
    unsaid: Mutex<VecDeque<Said>>,
    /// Counts changes of what was received, for whoever waits for one.
    changes: watch::Sender<u64>,
    connections: AtomicU64,
}

impl Shared {
    pub(crate) fn new(address: SocketAddr, settings: PlatformSettings) -> Self {
        Self {
            address,
            index: Index::new(settings.articles.clone()),
            stop: watch::Sender::new(false),
            received: Mutex::new(Received::new(settings.records_max, settings.body_bytes_max)),
            tokens: Mutex::default(),
            faults: Mutex::default(),
            policy: Mutex::new(settings.policy.clone()),
            seats: Mutex::default(),
            unsaid: Mutex::default(),
            changes: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            settings,
        }
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        locked(&self.received)
    }

    pub(crate) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        locked(&self.tokens)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        locked(&self.faults)
    }

    pub(crate) fn policy(&self) -> MutexGuard<'_, AnswerPolicy> {
        locked(&self.policy)
    }

    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Changes what was received, and wakes whoever waits for that.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Received) -> T) -> T {
        let changed = change(&mut self.received());
        self.changes.send_modify(|count| *count += 1);
        changed
    }

    pub(crate) fn record(&self, kind: Kind, connection: u64, note: &Note<'_>) {
        let at_ms = now_ms();
        self.change(|received| received.record(kind, connection, at_ms, note));
    }

    /// Writes down what CXone's documents do not allow.
    pub(crate) fn violation(&self, connection: u64, place: &str, interaction: Option<&str>, reason: &str) {
        let body = json!({ "reason": reason }).to_string();
        self.record(Kind::Violation, connection, &Note { interaction, id: Some(place), status: 400, body: &body });
    }

    pub(crate) async fn wait_for<T>(
        &self,
        within: Duration,
        mut find: impl FnMut(&Received) -> Option<T>,
    ) -> Option<T> {
        let mut changes = self.changes.subscribe();
        let finding = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = find(&self.received()) {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        };
        timeout(within, finding).await.ok().flatten()
    }

    pub(crate) fn take_fault(&self, on: On, sort: impl Fn(FaultKind) -> bool) -> Option<Fault> {
        self.faults().take(on, sort)
    }

    pub(crate) fn fault(&self, fault: Fault) -> Result<(), FaultError> {
        self.faults().add(fault, Instant::now())?;
        if let Some(uplink) = fault.on.uplink().filter(|_| fault.kind.ends_a_socket()) {
            self.strike_open_sockets(uplink);
        }
        Ok(())
    }

    /// Lets the faults that end sockets happen to those that are open, the newest first.
    fn strike_open_sockets(&self, uplink: Uplink) {
        let open: Vec<_> = {
            let seats = locked(&self.seats);
            let ready = seats.iter().rev().filter(|seat| seat.uplink == uplink && seat.ready);
            ready.map(|seat| seat.strikes.clone()).collect()
        };
        for strikes in open {
            let Some(fault) = self.take_fault(uplink.into(), FaultKind::ends_a_socket) else { break };
            // A full queue means that the socket is ending already.
            let _ = strikes.try_send(fault.kind);
        }
    }

    pub(crate) fn judge(&self, token: Option<&str>, scopes: &[&'static str]) -> Result<(), Refused> {
        self.tokens().judge(token, scopes)
    }

    pub(crate) fn issue(&self, scopes: Vec<String>) -> Secret {
        self.tokens().issue(scopes, self.settings.token_life)
    }

    pub(crate) fn revoke_all(&self) -> usize {
        let count = self.tokens().revoke_all();
        for seat in &*locked(&self.seats) {
            let _ = seat.strikes.try_send(FaultKind::Revoke);
        }
        count
    }

    pub(crate) fn take_seat(&self, connection: u64, uplink: Uplink) -> Inbox {
        let (frames, frames_inbox) = mpsc::channel(FRAMES_MAX);
        let (strikes, strikes_inbox) = mpsc::channel(STRIKES_MAX);
        locked(&self.seats).push(Seat { connection, uplink, ready: false, frames, strikes });
        let opened = OpenSocket { connection, uplink, opened_ms: now_ms(), ready: false };
        self.change(|received| received.sockets.push(opened));
        Inbox { frames: frames_inbox, strikes: strikes_inbox }
    }

    pub(crate) fn ready_seat(&self, connection: u64) {
        if let Some(seat) = locked(&self.seats).iter_mut().find(|seat| seat.connection == connection) {
            seat.ready = true;
        }
        self.change(|received| {
            if let Some(socket) = received.sockets.iter_mut().find(|socket| socket.connection == connection) {
                socket.ready = true;
            }
        });
    }

    pub(crate) fn leave_seat(&self, connection: u64) {
        locked(&self.seats).retain(|seat| seat.connection != connection);
        self.change(|received| received.sockets.retain(|socket| socket.connection != connection));
    }

    pub(crate) async fn send(&self, uplink: Uplink, outgoing: &Outgoing, to: To) -> usize {
        let mut open: Vec<_> = {
            let seats = locked(&self.seats);
            seats.iter().filter(|seat| seat.uplink == uplink && seat.ready).map(|seat| seat.frames.clone()).collect()
        };
        if to == To::Newest {
            open.drain(..open.len().saturating_sub(1));
        }
        let mut reached = 0;
        for frames in open {
            reached += usize::from(frames.send_timeout(outgoing.clone(), FRAME_TIMEOUT).await.is_ok());
        }
        reached
    }

    /// Answers a suggestion on the newest socket, or on the next one. The same answer can be given again, another one not.
    pub(crate) async fn answer(&self, interaction: &str, suggestion: &str, answer: Answer) -> bool {
        let stands = self.change(|received| received.suggestion_answered(interaction, suggestion, answer));
        let Some((_, is_first)) = stands.filter(|&(stands, _)| stands == answer) else { return false };
        let said = Said { interaction: interaction.into(), suggestion: suggestion.into(), answer };
        if self.send(Uplink::Suggestions, &Outgoing::Said(said.clone()), To::Newest).await == 0 {
            self.keep_unsaid([said]);
        }
        is_first
    }

    /// Keeps answers for the next suggestion socket.
    pub(crate) fn keep_unsaid(&self, said: impl IntoIterator<Item = Said>) {
        let mut unsaid = locked(&self.unsaid);
        unsaid.extend(said);
        let too_many = unsaid.len().saturating_sub(ANSWERS_MAX);
        unsaid.drain(..too_many);
    }

    pub(crate) fn take_unsaid(&self) -> VecDeque<Said> {
        std::mem::take(&mut *locked(&self.unsaid))
    }
}

/// What is behind the lock stays right even if a looker panicked with it in hand: it could not change it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
