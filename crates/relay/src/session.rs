//! One connection to the assist app: `start`, audio and gaps, what the app says meanwhile, `stop`, and the close.
//!
//! Reading and writing go on side by side in one task. An app that stops reading while it talks is still heard, and its
//! acknowledgements still free the ring; one that stops altogether is given up after `dead_ms`. Generic over the
//! transport, so that tests can run it over memory with a clock of their own.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use earpiece_core::contact::event::AppEvent;
use earpiece_core::secret::Private;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_websockets::{CloseCode, Error, Message, WebSocketStream};

use crate::frame::{self, GapReason, Heard, Say};
use crate::ring::{Item, Want};
use crate::stream::Worker;
use crate::tap::Next;

/// Items handed to the socket before it is flushed. More would save no call, and be lost with the connection.
const BATCH_ITEMS_MAX: usize = 16;

/// Answers to pings that may wait for an app which asks and does not read.
const PINGS_MAX: u32 = 64;

/// How long the app may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of a frame above the limit is read away before its connection is dropped.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The stream is over and `stop` was said; `in_order` when the app answered the close, so that it has read
    /// everything.
    Finished { in_order: bool },
    /// The stream goes on: connect again.
    Broken(Break),
}

/// Why a connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// The app closed it.
    Closed,
    /// The transport failed.
    Transport,
    /// Nothing was heard for too long.
    Silent,
    /// Nothing could be written for too long.
    Stuck,
    /// A frame above the limit.
    TooLarge,
    /// The app broke the WebSocket protocol.
    Violation,
    /// A frame of ours could not be made.
    Internal,
}

/// Where the connection is in its life.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Streaming,
    /// `stop` was said; the app may still talk.
    LastWords {
        until: Instant,
    },
    /// A close frame is on its way, one way or the other.
    Closing {
        until: Instant,
        ended: Ended,
    },
}

/// What happened next.
enum Step {
    Flushed(Result<(), Error>),
    Received(Option<Result<Message, Error>>),
    Rung,
    Due,
}

/// A connection and the stream it carries.
pub(crate) struct Session<'a, S> {
    worker: &'a mut Worker,
    /// On the heap: the task outlives the connection, and most of its size would be this.
    socket: Box<WebSocketStream<S>>,
    phase: Phase,
    want: Want,
    /// When the app was last heard, and when it was last heard or pinged.
    heard: Instant,
    prodded: Instant,
    /// Since when the socket has something to write.
    flushing: Option<Instant>,
    /// When audio short of a chunk is sent anyway; `None` while nothing waits, and the next sample rings the bell.
    linger: Option<Instant>,
    /// Pings from the app whose answers wait to be written.
    pings: u32,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    pub(crate) fn new(worker: &'a mut Worker, socket: Box<WebSocketStream<S>>) -> Self {
        let now = Instant::now();
        Self {
            worker,
            socket,
            phase: Phase::Streaming,
            want: Want::Full,
            heard: now,
            prodded: now,
            flushing: None,
            linger: None,
            pings: 0,
        }
    }

    /// Runs the connection to its end.
    pub(crate) async fn run(&mut self) -> Ended {
        let why = match self.begin() {
            Ok(()) => self.converse().await,
            Err(why) => Err(why),
        };
        let ended = match (why, self.phase) {
            (Ok(ended), _) | (Err(_), Phase::Closing { ended, .. }) => ended,
            // `stop` was said: whatever happens now, saying it twice would tell the app of a second stream.
            (Err(_), Phase::LastWords { .. }) if self.flushing.is_none() => Ended::Finished { in_order: false },
            (Err(why), _) => Ended::Broken(why),
        };
        if ended == Ended::Broken(Break::TooLarge) {
            self.drain().await;
        }
        ended
    }

    /// Reads the rest of what is not wanted: a socket closed with unread bytes is reset, and the app would never see
    /// the 1009 that tells it why.
    async fn drain(&mut self) {
        let transport = self.socket.get_mut();
        let unwanted = async {
            let mut bytes = [0; 512];
            let mut left: usize = DRAIN_BYTES_MAX;
            transport.shutdown().await.ok()?;
            while left > 0 {
                let read = transport.read(&mut bytes).await.ok().filter(|read| *read > 0)?;
                left = left.saturating_sub(read);
            }
            Some(())
        };
        // Whichever way it ends, the connection is over.
        let _ = timeout(CLOSE_TIMEOUT, unwanted).await;
    }

    fn begin(&mut self) -> Result<(), Break> {
        let (generation, (position, clock, lost)) = {
            let mut state = self.worker.shared.lock();
            (state.generation, state.ring.restart())
        };
        self.worker.house.counters.samples_lost.add(lost);
        let text = serde_json::to_string(&Say::start(&self.worker.start, generation, position, clock));
        self.send(Message::text(text.map_err(|_| Break::Internal)?))
    }

    async fn converse(&mut self) -> Result<Ended, Break> {
        loop {
            if self.flushing.is_none() {
                self.fill()?;
            }
            let flushing = self.flushing.is_some();
            let due = self.due();
            let step = tokio::select! {
                biased;
                step = drive(&mut self.socket, flushing) => step,
                () = self.worker.shared.bell.notified(), if !flushing => Step::Rung,
                () = sleep_until(due) => Step::Due,
            };
            match step {
                Step::Flushed(result) => {
                    result.map_err(|_| Break::Transport)?;
                    self.flushing = None;
                    self.pings = 0;
                    self.worker.shared.lock().ring.flushed();
                    self.worker.report_held();
                }
                Step::Received(Some(Ok(message))) => self.receive(&message)?,
                Step::Received(Some(Err(error))) => self.refuse(&error)?,
                Step::Received(None) => return self.hung_up(),
                Step::Rung => {}
                Step::Due => {
                    if let Some(ended) = self.act_on_time()? {
                        return Ok(ended);
                    }
                }
            }
        }
    }

    /// Moves what is ready from the ring to the socket.
    fn fill(&mut self) -> Result<(), Break> {
        if !matches!(self.phase, Phase::Streaming) {
            return Ok(());
        }
        let want = std::mem::replace(&mut self.want, Want::Full);
        for _ in 0..BATCH_ITEMS_MAX {
            match self.worker.shared.next(want, self.linger.is_none()) {
                Next::Item(item) => {
                    self.send_item(item)?;
                    self.linger = Some(Instant::now() + self.worker.house.limits.linger);
                }
                Next::Nothing { waiting } => {
                    if waiting && self.linger.is_none() {
                        self.linger = Some(Instant::now() + self.worker.house.limits.linger);
                    }
                    return Ok(());
                }
                Next::Stop { position, reason } => {
                    self.say(&Say::Stop { position, reason })?;
                    let until = Instant::now() + self.worker.house.limits.last_words;
                    self.phase = Phase::LastWords { until };
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn send_item(&mut self, item: Item) -> Result<(), Break> {
        match item {
            Item::Audio { samples, .. } => {
                self.worker.house.counters.bytes_sent.add(samples.len() as u64);
                self.send(Message::binary(samples))
            }
            Item::Silence { position, clock, samples } => {
                self.say(&Say::Gap { position, samples, reason: GapReason::Silence, clock })
            }
            Item::Lost { position, clock, samples } => {
                self.say(&Say::Gap { position, samples, reason: GapReason::Lost, clock })
            }
        }
    }

    fn say(&mut self, say: &Say<'_>) -> Result<(), Break> {
        let text = serde_json::to_string(say).map_err(|_| Break::Internal)?;
        self.send(Message::text(text))
    }

    /// Queues a frame. The loop flushes it.
    fn send(&mut self, message: Message) -> Result<(), Break> {
        self.socket.start_send_unpin(message).map_err(|_| Break::Transport)?;
        self.flushing.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn receive(&mut self, message: &Message) -> Result<(), Break> {
        self.heard = Instant::now();
        self.prodded = self.heard;
        if let Some(text) = message.as_text() {
            match frame::read(text) {
                Heard::Ack(position) => {
                    self.worker.shared.lock().ring.ack(position);
                    self.worker.report_held();
                }
                Heard::Event { kind, body } => self.keep(kind, body),
                Heard::Nonsense => self.worker.house.counters.ignored_frames.add(1),
            }
        } else if message.is_binary() {
            self.worker.house.counters.ignored_frames.add(1);
        } else if message.is_ping() {
            // The library has queued the answer, and would queue as many as are asked for.
            self.flushing.get_or_insert(self.heard);
            self.pings += 1;
            if self.pings > PINGS_MAX {
                return Err(Break::Violation);
            }
        } else if message.is_close() {
            // The answer is queued already; reading on sends it.
            self.close_with(match self.phase {
                Phase::Streaming => Ended::Broken(Break::Closed),
                Phase::LastWords { .. } | Phase::Closing { ended: Ended::Finished { .. }, .. } => {
                    Ended::Finished { in_order: true }
                }
                Phase::Closing { ended, .. } => ended,
            });
        }
        Ok(())
    }

    fn keep(&mut self, kind: String, body: Value) {
        let event = AppEvent { stream: self.worker.start.stream, at_us: now_us(), kind, body: Private::new(body) };
        let kept = self.worker.events_left > 0 && self.worker.events.try_send(event).is_ok();
        if kept {
            self.worker.events_left -= 1;
            self.worker.house.counters.events.add(1);
        } else {
            self.worker.house.counters.events_dropped.add(1);
        }
    }

    /// The app sent what cannot be read.
    fn refuse(&mut self, error: &Error) -> Result<(), Break> {
        let (code, why) = match error {
            Error::PayloadTooLong { .. } => (CloseCode::MESSAGE_TOO_BIG, Break::TooLarge),
            Error::Protocol(_) => (CloseCode::PROTOCOL_ERROR, Break::Violation),
            _ => return Err(Break::Transport),
        };
        if matches!(self.phase, Phase::Closing { .. }) {
            return Err(why);
        }
        // For most faults the library has queued the close itself, and refuses a second one.
        let _ = self.send(Message::close(Some(code), ""));
        self.close_with(match self.phase {
            Phase::Streaming => Ended::Broken(why),
            _ => Ended::Finished { in_order: false },
        });
        Ok(())
    }

    fn close_with(&mut self, ended: Ended) {
        self.phase = Phase::Closing { until: Instant::now() + CLOSE_TIMEOUT, ended };
    }

    /// The socket is at its end.
    fn hung_up(&self) -> Result<Ended, Break> {
        match self.phase {
            Phase::Closing { ended, .. } => Ok(ended),
            _ => Err(Break::Closed),
        }
    }

    /// When something has to be done even if nothing happens.
    fn due(&self) -> Instant {
        let limits = &self.worker.house.limits;
        let phase = match self.phase {
            Phase::Streaming => None,
            Phase::LastWords { until } | Phase::Closing { until, .. } => Some(until),
        };
        let stuck = self.flushing.map(|since| since + limits.dead);
        let next = (self.heard + limits.dead).min(self.prodded + limits.ping);
        [phase, stuck, self.linger].into_iter().flatten().fold(next, Instant::min)
    }

    /// Does what is due. Returns how the connection ended when it did.
    fn act_on_time(&mut self) -> Result<Option<Ended>, Break> {
        let limits = self.worker.house.limits;
        let now = Instant::now();
        if now >= self.heard + limits.dead {
            return Err(Break::Silent);
        }
        if self.flushing.is_some_and(|since| now >= since + limits.dead) {
            return Err(Break::Stuck);
        }
        match self.phase {
            Phase::LastWords { until } if now >= until => {
                self.send(Message::close(Some(CloseCode::NORMAL_CLOSURE), ""))?;
                self.close_with(Ended::Finished { in_order: false });
            }
            Phase::Closing { until, ended } if now >= until => return Ok(Some(ended)),
            _ => {}
        }
        if self.linger.is_some_and(|at| now >= at) {
            self.linger = None;
            self.want = Want::Partial;
        }
        if now >= self.prodded + limits.ping {
            self.prodded = now;
            if !matches!(self.phase, Phase::Closing { .. }) {
                self.send(Message::ping(Bytes::new()))?;
            }
        }
        Ok(None)
    }
}

/// Writes what is queued and reads what comes, whichever is possible first.
async fn drive<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, flushing: bool) -> Step {
    poll_fn(|context| {
        if flushing && let Poll::Ready(result) = socket.poll_flush_unpin(context) {
            return Poll::Ready(Step::Flushed(result));
        }
        socket.poll_next_unpin(context).map(Step::Received)
    })
    .await
}

/// Now, in microseconds since the Unix epoch.
fn now_us() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
