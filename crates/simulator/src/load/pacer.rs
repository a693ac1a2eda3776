//! A pacer: many sockets, one timer. Each stream has its own millisecond within the frame time, so that frames are
//! spread evenly and none waits for more than its neighbours of that millisecond.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use earpiece_core::contact::SAMPLES_PER_MS;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::{LoadPlan, Tally};
use crate::clip;
use crate::wire::{Frames, opcode, push_frame};

/// Frames that a socket may owe before its stream is given up: the server has not read for that long.
const OWED_FRAMES_MAX: u32 = 500;

/// How long the server may take to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A socket is read every so many of its turns: often enough for pings, and cheap, for nothing but pings comes.
const READ_EVERY_TURNS: u32 = 16;

/// Ticks that are later than this are counted.
const LATE: Duration = Duration::from_millis(20);

const TICK: Duration = Duration::from_millis(1);

/// One legal mask key for all prebuilt frames; it guards caches, and there are none here.
const MASK: [u8; 4] = [0x3C, 0x91, 0x6E, 0x0B];

/// Masked frames, built once, one after the other.
#[derive(Debug)]
pub(super) struct Clip {
    bytes: Vec<u8>,
    frame_bytes: usize,
    frames: usize,
}

impl Clip {
    /// Cuts audio into whole frames, at least one.
    pub(super) fn build(audio: &[u8], frame_samples: u32) -> Self {
        let samples = usize::try_from(frame_samples).unwrap_or(usize::MAX);
        let frames = (audio.len() / samples).max(1);
        let (mut bytes, mut payload) = (Vec::new(), vec![0; samples]);
        for index in 0..frames {
            clip::read_looped(audio, (index * samples) as u64, &mut payload);
            push_frame(&mut bytes, opcode::BINARY, MASK, &payload);
        }
        Self { frame_bytes: bytes.len() / frames, bytes, frames }
    }

    fn frame(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.frame_bytes..][..self.frame_bytes]
    }
}

/// A stream that was answered `CONNECTED`.
#[derive(Debug)]
pub(super) struct Stream {
    index: u32,
    tcp: TcpStream,
    incoming: Frames,
    /// The prebuilt frame that is next, and how much of it is written already.
    frame: usize,
    written: usize,
    /// Frames whose time has come and which are not yet written.
    owed: u32,
    turns: u32,
    /// A control frame on its way, between two audio frames.
    control: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Streaming,
    /// Our close frame is on its way or out; the server's is awaited until then.
    Closing(Instant),
}

/// How a stream ended.
enum Over {
    /// Our close frame was answered.
    Closed,
    Lost(String),
}

impl Stream {
    pub(super) fn new(index: u32, tcp: TcpStream, incoming: Frames) -> Self {
        Self {
            index,
            tcp,
            incoming,
            // Neighbours say different things, as callers do.
            frame: usize::try_from(index).unwrap_or(0),
            written: 0,
            owed: 0,
            turns: index,
            control: Vec::new(),
            state: State::Streaming,
        }
    }

    /// One turn: what is due is written as far as the socket takes it. Returns frames completed.
    fn turn(&mut self, clip: &Clip, now: Instant) -> Result<u64, Over> {
        self.turns = self.turns.wrapping_add(1);
        match self.state {
            State::Streaming => self.owed += 1,
            State::Closing(until) if now >= until => return Err(Over::Lost("close not answered".to_owned())),
            State::Closing(_) => {}
        }
        if self.owed > OWED_FRAMES_MAX {
            return Err(Over::Lost("stalled".to_owned()));
        }
        let is_closing = self.state != State::Streaming;
        if is_closing || self.turns.is_multiple_of(READ_EVERY_TURNS) {
            self.read()?;
        }
        self.write(clip).map_err(|error| Over::Lost(format!("io {}", error.kind())))
    }

    fn write(&mut self, clip: &Clip) -> io::Result<u64> {
        let mut completed = 0;
        loop {
            let at_boundary = self.written == 0;
            let (bytes, is_control) = if at_boundary && !self.control.is_empty() {
                (&self.control[..], true)
            } else if self.owed > 0 {
                (&clip.frame(self.frame % clip.frames)[self.written..], false)
            } else {
                return Ok(completed);
            };
            let count = match self.tcp.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(completed),
                Err(error) => return Err(error),
            };
            if is_control {
                self.control.drain(..count);
                continue;
            }
            self.written += count;
            if self.written == clip.frame_bytes {
                self.written = 0;
                self.frame = self.frame.wrapping_add(1);
                self.owed -= 1;
                completed += 1;
            }
        }
    }

    /// Reads what is there. Costs no system call while the reactor has seen nothing.
    fn read(&mut self) -> Result<(), Over> {
        let mut chunk = [0; 512];
        loop {
            match self.tcp.try_read(&mut chunk) {
                Ok(0) => return Err(Over::Lost("eof".to_owned())),
                Ok(count) => self.incoming.feed(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.heed(),
                Err(error) => return Err(Over::Lost(format!("io {}", error.kind()))),
            }
            self.heed()?;
        }
    }

    fn heed(&mut self) -> Result<(), Over> {
        while let Some(frame) = self.incoming.next().map_err(|_| Over::Lost("bad frame".to_owned()))? {
            match (frame.close_code(), self.state) {
                (Some(_), State::Closing(_)) => return Err(Over::Closed),
                (Some(code), State::Streaming) => return Err(Over::Lost(format!("close {code}"))),
                (None, State::Streaming) if frame.opcode == opcode::PING => {
                    push_frame(&mut self.control, opcode::PONG, MASK, &frame.payload);
                }
                (None, _) => {}
            }
        }
        Ok(())
    }

    /// Ends the audio: what is owed is still sent, then a close frame.
    fn close(&mut self, now: Instant) {
        self.state = State::Closing(now + CLOSE_TIMEOUT);
        if self.written == 0 {
            self.owed = 0;
        } else {
            // The frame that is partly out must be finished first.
            self.owed = 1;
        }
        push_frame(&mut self.control, opcode::CLOSE, MASK, &1000_u16.to_be_bytes());
    }
}

/// What a pacer did.
#[derive(Debug, Default)]
pub(super) struct PacerReport {
    pub(super) frames: u64,
    pub(super) closed: u64,
    pub(super) lost: BTreeMap<String, u64>,
    pub(super) late_ticks: u64,
    pub(super) late_max: Duration,
}

/// A task that owns streams and writes their frames on time.
pub(super) struct Pacer {
    clip: Arc<Clip>,
    arrivals: mpsc::Receiver<Stream>,
    /// When streams begin to close, once that is known.
    closing: watch::Receiver<Option<Instant>>,
    tally: Arc<Tally>,
    plan: LoadPlan,
    /// Streams by their millisecond within the frame time.
    slots: Vec<Vec<Stream>>,
    live: usize,
    report: PacerReport,
}

impl Pacer {
    pub(super) fn new(
        clip: Arc<Clip>,
        arrivals: mpsc::Receiver<Stream>,
        closing: watch::Receiver<Option<Instant>>,
        tally: Arc<Tally>,
        plan: LoadPlan,
    ) -> Self {
        let slots = usize::try_from(u64::from(plan.frame_samples) / SAMPLES_PER_MS).unwrap_or(1);
        let slots = (0..slots).map(|_| Vec::new()).collect();
        Self { clip, arrivals, closing, tally, plan, slots, live: 0, report: PacerReport::default() }
    }

    pub(super) async fn run(mut self) -> PacerReport {
        let mut due = Instant::now();
        let mut slot = 0;
        while self.admit() {
            sleep_until(due).await;
            let now = Instant::now();
            let late = now.saturating_duration_since(due);
            self.report.late_max = self.report.late_max.max(late);
            self.report.late_ticks += u64::from(late > LATE);
            let close_from = *self.closing.borrow();
            // The timer is as coarse as a tick: those that have become due meanwhile are done with this one.
            while due <= now {
                self.tick(slot, now, close_from);
                slot = (slot + 1) % self.slots.len();
                due += TICK;
            }
            if late > TICK {
                // Behind: the reactor and the handshakes must get their turn all the same.
                yield_now().await;
            }
        }
        self.report
    }

    /// Takes new streams in, each into the emptiest millisecond. False when none is left and none will come.
    fn admit(&mut self) -> bool {
        loop {
            match self.arrivals.try_recv() {
                Ok(stream) => {
                    if let Some(slot) = self.slots.iter_mut().min_by_key(|slot| slot.len()) {
                        slot.push(stream);
                        self.live += 1;
                    }
                }
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return self.live > 0,
            }
        }
    }

    fn tick(&mut self, slot: usize, now: Instant, close_from: Option<Instant>) {
        let streams = &mut self.slots[slot];
        let (mut frames, mut index) = (0, 0);
        while let Some(stream) = streams.get_mut(index) {
            let is_due = |from: Instant| now >= from + self.plan.offset(stream.index);
            if stream.state == State::Streaming && close_from.is_some_and(is_due) {
                stream.close(now);
            }
            match stream.turn(&self.clip, now) {
                Ok(completed) => {
                    frames += completed;
                    index += 1;
                }
                Err(over) => {
                    streams.swap_remove(index);
                    self.live -= 1;
                    self.tally.live.fetch_sub(1, Ordering::Relaxed);
                    match over {
                        Over::Closed => self.report.closed += 1,
                        Over::Lost(reason) => {
                            self.tally.lost.fetch_add(1, Ordering::Relaxed);
                            *self.report.lost.entry(reason).or_default() += 1;
                        }
                    }
                }
            }
        }
        self.report.frames += frames;
        self.tally.frames.fetch_add(frames, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn what_a_full_socket_did_not_take_is_sent_later_byte_for_byte() {
        let audio: Vec<u8> = (0..90_000_u32).map(|index| u8::try_from(index % 241).unwrap()).collect();
        let clip = Clip::build(&audio, 30_000);
        let (near, mut far) = pair().await;
        let mut stream = Stream::new(0, near, Frames::default());
        let (mut completed, now) = (0, Instant::now());
        stream.tcp.writable().await.unwrap();
        // Until the socket is full in the middle of a frame.
        while stream.owed < 3 {
            completed += stream.turn(&clip, now).map_err(|_| "over").unwrap();
        }
        assert!(stream.written > 0, "the kernel's buffer holds no whole number of frames");
        stream.close(now);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        while !stream.control.is_empty() {
            stream.tcp.writable().await.unwrap();
            completed += stream.write(&clip).unwrap();
        }
        drop(stream);
        let mut expected = Vec::new();
        for frame in 0..usize::try_from(completed).unwrap() {
            expected.extend_from_slice(clip.frame(frame % 3));
        }
        push_frame(&mut expected, opcode::CLOSE, MASK, &1000_u16.to_be_bytes());
        assert!(reading.await.unwrap() == expected, "bytes differ");
    }

    #[tokio::test]
    async fn a_server_that_never_reads_is_given_up_at_the_stated_number_of_frames() {
        let clip = Clip::build(&[], 60_000);
        let (near, _far) = pair().await;
        near.writable().await.unwrap();
        let mut stream = Stream::new(0, near, Frames::default());
        let mut turns = 0;
        let over = loop {
            turns += 1;
            if let Err(over) = stream.turn(&clip, Instant::now()) {
                break over;
            }
        };
        assert!(turns > OWED_FRAMES_MAX);
        assert!(matches!(over, Over::Lost(reason) if reason == "stalled"));
    }
}
