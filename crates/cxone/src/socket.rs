//! One long-lived socket to CXone: frames out, frames in, and pings.
//!
//! Every 20 s (by default) a ping goes out; a socket whose pong does not come within 10 s is dead, however much else
//! arrives on it: a peer that talks and does not listen would never get a suggestion. The same time bounds a write.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use earpiece_core::secret::Private;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_websockets::{CloseCode, Error, Message};

use crate::dial::Wire;

/// Pings of the peer that are answered while nothing could be written. More of them would fill memory.
const PINGS_MAX: usize = 64;
/// Frames that arrive while one is being written and are kept for the next read.
const AHEAD_MAX: usize = 1_024;
/// How long an orderly end may take.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// What a connection that ended without a close frame is said to have (RFC 6455, 7.4.1).
const ABNORMAL: u16 = 1006;

/// A socket that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Closed {
    /// CXone's close code; 1006 where the connection ended without one. `None` when we gave it up: no pong came, nothing
    /// could be written in time, or what came was no WebSocket.
    pub code: Option<u16>,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "the socket was closed with {code}"),
            None => f.write_str("the socket was given up"),
        }
    }
}

const GIVEN_UP: Closed = Closed { code: None };

/// A socket to CXone. Has a `Debug` that says nothing.
pub struct Socket {
    wire: Wire,
    ping_every: Duration,
    pong_within: Duration,
    /// When the next ping is due. Absent until [`Socket::keep_alive`].
    ping_at: Option<Instant>,
    /// Until when the answer to the last one has to come.
    pong_until: Option<Instant>,
    /// Since when something waits to be written.
    flushing_since: Option<Instant>,
    pings_heard: usize,
    ahead: VecDeque<Private<String>>,
    ended: Option<Closed>,
}

enum Step {
    Flushed(Result<(), Error>),
    Received(Option<Result<Message, Error>>),
    Due,
}

impl Socket {
    pub(crate) fn new(wire: Wire, ping_every: Duration, pong_within: Duration) -> Self {
        Self {
            wire,
            ping_every,
            pong_within,
            ping_at: None,
            pong_until: None,
            flushing_since: None,
            pings_heard: 0,
            ahead: VecDeque::new(),
            ended: None,
        }
    }

    /// Begins to ping: nothing at all is sent before CXone has accepted our token.
    pub(crate) fn keep_alive(&mut self) {
        self.ping_at = Some(Instant::now() + self.ping_every);
    }

    /// Sends a text frame, and returns when the kernel has it. What arrives meanwhile is kept for [`Socket::next`].
    ///
    /// Dropped before it is done, the frame may be sent or not.
    ///
    /// # Errors
    ///
    /// When the socket has ended; the frame may have arrived.
    pub async fn send(&mut self, frame: &Private<String>) -> Result<(), Closed> {
        if let Some(ended) = self.ended {
            return Err(ended);
        }
        self.queue(Message::text(frame.reveal().clone()))?;
        while self.flushing_since.is_some() {
            // A peer that writes without end must not fill our memory, and must not block its own way to us either.
            let is_reading = self.ahead.len() < AHEAD_MAX;
            if let Some(frame) = self.step(is_reading).await? {
                self.ahead.push_back(frame);
            }
        }
        Ok(())
    }

    /// The next text frame. Pings are sent and answered here and in [`Socket::send`] only, so one of them has to be
    /// running at nearly all times. Cancel-safe: a call that is dropped loses nothing.
    ///
    /// # Errors
    ///
    /// When the socket has ended, and from then on always.
    pub async fn next(&mut self) -> Result<Private<String>, Closed> {
        loop {
            if let Some(frame) = self.ahead.pop_front() {
                return Ok(frame);
            }
            if let Some(ended) = self.ended {
                return Err(ended);
            }
            if let Some(frame) = self.step(true).await? {
                return Ok(frame);
            }
        }
    }

    /// Ends the socket in order, in two seconds at most. Says whether CXone answered the close: then it has read every
    /// frame that was sent before, because frames come in order.
    pub async fn close(mut self) -> bool {
        let goodbye = async {
            self.wire.send(Message::close(Some(CloseCode::NORMAL_CLOSURE), "")).await?;
            let mut is_answered = false;
            while let Some(message) = self.wire.next().await {
                // One that CXone had sent by itself before ours answers nothing.
                is_answered |= message?.as_close().is_some_and(|(code, _)| code == CloseCode::NORMAL_CLOSURE);
            }
            Ok::<bool, Error>(is_answered)
        };
        // Who does not answer is left without one.
        timeout(CLOSE_MAX, goodbye).await.is_ok_and(|ended| ended.unwrap_or(false))
    }

    /// Whatever comes first: something was written, something arrived, or time is up.
    async fn step(&mut self, is_reading: bool) -> Result<Option<Private<String>>, Closed> {
        let due = self.due();
        let (wire, is_flushing) = (&mut self.wire, self.flushing_since.is_some());
        let io = poll_fn(|context| {
            if is_flushing && let Poll::Ready(result) = wire.poll_flush_unpin(context) {
                return Poll::Ready(Step::Flushed(result));
            }
            if is_reading { wire.poll_next_unpin(context).map(Step::Received) } else { Poll::Pending }
        });
        let step = tokio::select! {
            biased;
            step = io => step,
            () = sleep_until(due) => Step::Due,
        };
        match step {
            Step::Flushed(Ok(())) => {
                self.flushing_since = None;
                self.pings_heard = 0;
                Ok(None)
            }
            Step::Received(Some(Ok(message))) => self.receive(&message),
            Step::Flushed(Err(error)) | Step::Received(Some(Err(error))) => Err(self.end(broken(&error))),
            Step::Received(None) => Err(self.end(Closed { code: Some(ABNORMAL) })),
            Step::Due => self.act_on_time().map(|()| None),
        }
    }

    fn receive(&mut self, message: &Message) -> Result<Option<Private<String>>, Closed> {
        if let Some(text) = message.as_text() {
            return Ok(Some(Private::new(text.to_owned())));
        }
        if message.is_pong() {
            self.pong_until = None;
        } else if message.is_ping() {
            // The library has queued the answer, and would queue as many as are asked for.
            self.flushing_since.get_or_insert_with(Instant::now);
            self.pings_heard += 1;
            if self.pings_heard > PINGS_MAX {
                return Err(self.end(GIVEN_UP));
            }
        } else if let Some((code, _)) = message.as_close() {
            // The library has queued the answer; it leaves with what the kernel still takes.
            let _ = futures_util::FutureExt::now_or_never(self.wire.flush());
            return Err(self.end(Closed { code: Some(u16::from(code)) }));
        }
        Ok(None)
    }

    /// The next moment at which something has to be done without anything having arrived.
    fn due(&self) -> Instant {
        let write_until = self.flushing_since.map(|since| since + self.pong_within);
        let idle_until = Instant::now() + self.ping_every;
        [self.ping_at, self.pong_until, write_until].into_iter().flatten().fold(idle_until, Instant::min)
    }

    fn act_on_time(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        let is_past = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now);
        if is_past(self.pong_until) || is_past(self.flushing_since.map(|since| since + self.pong_within)) {
            return Err(self.end(GIVEN_UP));
        }
        if is_past(self.ping_at) {
            self.ping_at = Some(now + self.ping_every);
            // Where pings come faster than answers are due, the first one's answer counts.
            self.pong_until.get_or_insert(now + self.pong_within);
            self.queue(Message::ping(""))?;
        }
        Ok(())
    }

    fn queue(&mut self, message: Message) -> Result<(), Closed> {
        if let Err(error) = self.wire.start_send_unpin(message) {
            return Err(self.end(broken(&error)));
        }
        self.flushing_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn end(&mut self, closed: Closed) -> Closed {
        *self.ended.get_or_insert(closed)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

fn broken(error: &Error) -> Closed {
    match error {
        Error::Io(_) | Error::AlreadyClosed => Closed { code: Some(ABNORMAL) },
        _ => GIVEN_UP,
    }
}
