//! One long-lived socket to CXone: opened, lost, opened again.
//!
//! What comes in goes to a bounded channel: a reader that falls behind slows the socket down, and not the frames that
//! go out. What goes out is confirmed when it was handed to the kernel, and never kept for a later connection: whoever
//! sent it decides again. The kernel's word says nothing about CXone: what a connection carried last is lost with it when
//! it breaks. So connections have numbers, and a sender can watch how the one that took its frame ends. Credentials that CXone refuses are not tried over and over: the link stops until they change.

use std::future::pending;
use std::time::Duration;

use earpiece_core::secret::Private;
use earpiece_cxone::{Closed, Cxone, CxoneError, Socket, Uplink};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::lease::stopped;
use crate::metrics::Metrics;
use crate::settings::Which;

/// Upper bound of the first pause without its jitter; it doubles with every failure.
const BASE: Duration = Duration::from_secs(1);
/// No pause is longer without its jitter.
const CAP: Duration = Duration::from_secs(30);
/// A connection that stood for so long was a good one: the next pause is the first again.
const STABLE: Duration = Duration::from_mins(1);
/// No pause that CXone asks for is longer.
const ASKED_PAUSE_MAX: Duration = Duration::from_hours(1);
/// Refused credentials are tried again after this, in case it was CXone that erred.
const REFUSED_PAUSE: Duration = Duration::from_mins(5);
/// Everything until a socket is ready: token, connection, TLS, upgrade, and `auth.success`.
const OPEN_MAX: Duration = Duration::from_secs(45);
/// How long a frame may wait to be written.
pub(crate) const WRITE_MAX: Duration = Duration::from_secs(5);
/// How long a close may take.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// Frames that were read and not yet looked at.
const FRAMES_MAX: usize = 1024;
/// Frames that wait to be written.
const OUTGOING_MAX: usize = 256;

/// How long to wait before the next attempt. Pure: the caller sleeps.
#[derive(Debug)]
struct Reconnect {
    failures: u32,
    rng: fastrand::Rng,
}

impl Reconnect {
    const fn new(rng: fastrand::Rng) -> Self {
        Self { failures: 0, rng }
    }

    /// The pause after a connection that stood for so long; one that never came about stood for nothing.
    fn pause(&mut self, stood: Duration) -> Duration {
        if stood >= STABLE {
            self.failures = 0;
        }
        let step = BASE.saturating_mul(2_u32.saturating_pow(self.failures)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        step + step.mul_f64(self.rng.f64() / 2.0)
    }
}

struct Outgoing {
    frame: Private<String>,
    /// Told when the link begins to write it. From then on only the link says what became of it.
    begun: oneshot::Sender<()>,
    /// Told on which connection.
    written: oneshot::Sender<u64>,
}

/// What the link has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No connection.
    Down,
    /// The connection of this number, counted from 1.
    Up(u64),
    /// None any more: we closed the one of this number, and CXone went along.
    Finished(u64),
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// We closed it, and CXone answered that: frames come in order, so it has read every one before.
    InOrder,
    /// Nobody can tell what CXone has read of what was written last.
    Broken,
}

/// The frame was not written, and will not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotWritten;

/// Sends frames on whatever connection the link has.
#[derive(Clone)]
pub(crate) struct FrameSender {
    queue: mpsc::Sender<Outgoing>,
    state: watch::Receiver<State>,
}

impl FrameSender {
    /// Whether there is a connection.
    pub(crate) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    /// Whether the connection of this number is up.
    pub(crate) fn is_up_on(&self, connection: u64) -> bool {
        *self.state.borrow() == State::Up(connection)
    }

    /// Resolves when there is a connection.
    pub(crate) async fn up(&self) {
        if self.state.clone().wait_for(|state| matches!(state, State::Up(_))).await.is_err() {
            // The link is gone: there will be none.
            pending::<()>().await;
        }
    }

    /// Resolves when the connection of this number is up no more.
    pub(crate) async fn ended(&self, connection: u64) -> Ending {
        let mut state = self.state.clone();
        match state.wait_for(|state| *state != State::Up(connection)).await {
            Ok(state) if *state == State::Finished(connection) => Ending::InOrder,
            _ => Ending::Broken,
        }
    }

    /// Sends a frame, and returns when it was handed to the kernel: on the connection of that number.
    ///
    /// # Errors
    ///
    /// When there is no connection, or it ended first. The frame may have arrived if it ended just then.
    pub(crate) async fn send(&self, frame: Private<String>) -> Result<u64, NotWritten> {
        if !self.is_up() {
            return Err(NotWritten);
        }
        let (begun, is_begun) = oneshot::channel();
        let (written, is_written) = oneshot::channel();
        let waiting = async {
            self.queue.send(Outgoing { frame, begun, written }).await.map_err(|_| NotWritten)?;
            is_begun.await.map_err(|_| NotWritten)
        };
        // A sender that has given up closes its side, and the link leaves the frame out. Once the link has begun, giving up
        // could mean a second write on the same connection: the link itself bounds the rest.
        timeout(WRITE_MAX, waiting).await.unwrap_or(Err(NotWritten))?;
        is_written.await.map_err(|_| NotWritten)
    }
}

/// A link that is not running yet.
pub(crate) struct Link {
    cxone: Cxone,
    which: Which,
    metrics: Metrics,
    reconnect: Reconnect,
    frames: mpsc::Sender<Private<String>>,
    outgoing: mpsc::Receiver<Outgoing>,
    state: watch::Sender<State>,
    /// Connections so far.
    connections: u64,
}

/// The two ends of a link: what came in, and where frames go out.
pub(crate) struct Ends {
    /// Text frames in the order in which they came.
    pub(crate) frames: mpsc::Receiver<Private<String>>,
    /// Sends frames.
    pub(crate) sender: FrameSender,
}

impl Link {
    /// A link, and its ends.
    pub(crate) fn new(cxone: Cxone, which: Which, metrics: Metrics) -> (Self, Ends) {
        let (frames, frames_in) = mpsc::channel(FRAMES_MAX);
        let (queue, outgoing) = mpsc::channel(OUTGOING_MAX);
        let (state, is_state) = watch::channel(State::Down);
        let reconnect = Reconnect::new(fastrand::Rng::new());
        let link = Self { cxone, which, metrics, reconnect, frames, outgoing, state, connections: 0 };
        (link, Ends { frames: frames_in, sender: FrameSender { queue, state: is_state } })
    }

    /// Keeps a connection until `closing` is up, or nobody takes frames any more.
    pub(crate) async fn run(mut self, mut closing: watch::Receiver<bool>) {
        let _shown = Shown { which: self.which, metrics: self.metrics.clone() };
        loop {
            let socket = tokio::select! {
                socket = self.open() => socket,
                () = stopped(&mut closing) => return,
            };
            let opened_at = Instant::now();
            self.connections += 1;
            self.set(State::Up(self.connections));
            info!(uplink = self.which.label(), "connected to CXone");
            let end = self.serve(socket, &mut closing).await;
            self.set(if end == End::InOrder { State::Finished(self.connections) } else { State::Down });
            match end {
                End::Closed(code) => {
                    self.metrics.uplink_broke(self.which);
                    let pause = self.reconnect.pause(opened_at.elapsed());
                    warn!(uplink = self.which.label(), code, ?pause, "the connection to CXone ended; trying again");
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = stopped(&mut closing) => return,
                    }
                }
                End::InOrder | End::Wanted => return,
            }
        }
    }

    fn set(&self, state: State) {
        self.state.send_replace(state);
        self.metrics.uplink_up(self.which, matches!(state, State::Up(_)));
    }

    /// Tries until there is a connection.
    async fn open(&mut self) -> Socket {
        let mut credentials = self.cxone.credentials_changed();
        loop {
            credentials.mark_unchanged();
            let opening = timeout(OPEN_MAX, self.cxone.open(uplink_of(self.which))).await;
            let problem = match opening {
                Ok(Ok(socket)) => {
                    self.metrics.uplink_refused(self.which, false);
                    return socket;
                }
                Ok(Err(problem)) => problem,
                Err(_) => CxoneError::Unavailable { retry_after: None },
            };
            self.metrics.uplink_broke(self.which);
            if is_for_the_operator(&problem) {
                self.metrics.uplink_refused(self.which, true);
                error!(
                    uplink = self.which.label(), %problem,
                    "this uplink has stopped: check the client or access key, its scopes and the address; it tries \
                     again when the credentials change, or in five minutes"
                );
                tokio::select! {
                    () = sleep(REFUSED_PAUSE) => {}
                    () = changed(&mut credentials) => {}
                }
                continue;
            }
            let asked = problem.retry_after().unwrap_or_default().min(ASKED_PAUSE_MAX);
            let pause = self.reconnect.pause(Duration::ZERO).max(asked);
            warn!(uplink = self.which.label(), %problem, ?pause, "no connection to CXone; trying again");
            sleep(pause).await;
        }
    }

    async fn serve(&mut self, mut socket: Socket, closing: &mut watch::Receiver<bool>) -> End {
        // A frame that has no room yet. While there is one the socket is not read, but still written.
        let mut waiting: Option<Private<String>> = None;
        loop {
            tokio::select! {
                came = socket.next(), if waiting.is_none() => match came {
                    Ok(frame) => waiting = Some(frame),
                    Err(Closed { code }) => return End::Closed(code),
                },
                room = self.frames.reserve(), if waiting.is_some() => match (room, waiting.take()) {
                    (Ok(room), Some(frame)) => room.send(frame),
                    _ => return End::Wanted,
                },
                Some(outgoing) = self.outgoing.recv() => {
                    if outgoing.begun.send(()).is_err() {
                        continue;
                    }
                    match timeout(WRITE_MAX, socket.send(&outgoing.frame)).await {
                        // Whoever waited may have given up just now.
                        Ok(Ok(())) => drop(outgoing.written.send(self.connections)),
                        Ok(Err(Closed { code })) => return End::Closed(code),
                        Err(_) => return End::Closed(None),
                    }
                }
                () = stopped(closing) => {
                    // A peer that does not answer the close is left.
                    let is_answered = timeout(CLOSE_MAX, socket.close()).await.unwrap_or(false);
                    return if is_answered { End::InOrder } else { End::Wanted };
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By CXone, or by the network.
    Closed(Option<u16>),
    /// By us, and CXone went along.
    InOrder,
    /// By us.
    Wanted,
}

/// Takes the metrics back when the link goes, however it goes: another task shows them from then on.
struct Shown {
    which: Which,
    metrics: Metrics,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.metrics.uplink_up(self.which, false);
        self.metrics.uplink_refused(self.which, false);
    }
}

/// Resolves when the credentials changed; never, if they cannot.
async fn changed(credentials: &mut watch::Receiver<u64>) {
    if credentials.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Whether trying again soon would only hammer.
const fn is_for_the_operator(problem: &CxoneError) -> bool {
    matches!(problem, CxoneError::Unauthorized | CxoneError::Forbidden { .. } | CxoneError::NotConfigured { .. })
}

const fn uplink_of(which: Which) -> Uplink {
    match which {
        Which::Suggestions => Uplink::Suggestions,
        Which::Insights => Uplink::Insights,
        Which::Popups => Uplink::Interactions,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pause_is_its_step_and_up_to_half_of_it_more(
            seed: u64, stood_ms in prop::collection::vec(0_u64..120_000, 1..100),
        ) {
            let mut reconnect = Reconnect::new(fastrand::Rng::with_seed(seed));
            let mut failures = 0_u32;
            for stood in stood_ms.into_iter().map(Duration::from_millis) {
                if stood >= STABLE {
                    failures = 0;
                }
                let step = Duration::from_secs(1 << failures.min(5)).min(CAP);
                let pause = reconnect.pause(stood);
                prop_assert!(pause >= step && pause <= step.mul_f64(1.5), "{failures}: {pause:?}");
                failures += 1;
            }
        }
    }

    #[test]
    fn any_number_of_failures_stays_below_the_cap() {
        let mut reconnect = Reconnect::new(fastrand::Rng::with_seed(1));
        reconnect.failures = u32::MAX - 1;
        for _ in 0..3 {
            assert!(reconnect.pause(Duration::ZERO) <= CAP.mul_f64(1.5));
        }
    }
}
