//! One leg of a call: one voice, one socket at a time, on the clock that all legs share.
//!
//! Every frame has an absolute deadline on the media clock. A late frame is caught up, never skewed; a frame whose time
//! passed while there was no answered socket is lost, as it is for a media server.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use earpiece_core::protocol::perspective::Perspective;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_websockets::{CloseCode, MaybeTlsStream, Message};

use crate::call::Progress;
use crate::clip;
use crate::dial::{Endpoint, Shake, Socket, close_of, describe, micros, shake_hands};
use crate::plan::{CallPlan, Cut, FrameShape, FrameSize, HoldBy};
use crate::report::{Close, GapCause, LegLog, LegReport, Side};
use crate::stop::told_to_stop;
use crate::timetable::{CutAt, Entry, MediaClock, Span, Timetable, What};

/// A frame that the endpoint does not take within this time means that the connection is lost.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the endpoint may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What all legs of a call share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) plan: Arc<CallPlan>,
    pub(crate) timetable: Arc<Timetable>,
    pub(crate) endpoint: Endpoint,
    pub(crate) progress: Option<mpsc::Sender<Progress>>,
    pub(crate) stop: watch::Receiver<bool>,
}

pub(crate) struct LegRun {
    shared: Shared,
    index: usize,
    /// The init message: built once, so that every handshake is identical to the first.
    init: Bytes,
    /// Whether it is what the agent hears, so that a conference is heard on it.
    hears_guests: bool,
    link: Link,
    log: LegLog,
    rng: fastrand::Rng,
    reconnects_left: u32,
    /// No frame before this position may be sent any more: its time passed without a socket.
    resume_from: u64,
    /// When the last frame left: frames never overtake each other.
    last_left: Option<Instant>,
}

enum Link {
    Up(Box<Socket>),
    /// No socket; dial again at this time.
    Away(Instant),
    /// No socket, and none any more.
    Gone,
}

/// Why a wait ended.
enum Wake {
    Due,
    Stopped,
    LinkLost,
}

/// The call was told to stop.
struct Stopped;

impl LegRun {
    pub(crate) fn new(shared: Shared, index: usize) -> Self {
        let plan = &shared.plan;
        let leg = &plan.legs[index];
        let token = plan.token.as_ref().filter(|_| plan.token_in == crate::plan::TokenPlace::Init);
        Self {
            index,
            init: plan.init.message(plan.contact, token, &leg.perspective),
            hears_guests: matches!(Perspective::read(&leg.perspective), Perspective::Tx | Perspective::Mix),
            link: Link::Gone,
            log: LegLog::new(leg.perspective.clone(), plan.keep_audio),
            rng: fastrand::Rng::with_seed(plan.seed.wrapping_mul(31).wrapping_add(index as u64)),
            reconnects_left: plan.reconnects_max,
            resume_from: 0,
            last_left: None,
            shared,
        }
    }

    /// The first handshake, tried again as often as the plan allows.
    pub(crate) async fn connect(&mut self) {
        if self.dial().await.is_err() {
            self.link = Link::Gone;
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// Position behind the last sample sent.
    pub(crate) fn end(&self) -> u64 {
        self.log.end()
    }

    pub(crate) fn report(self, call_samples: u64) -> LegReport {
        self.log.finish(call_samples)
    }

    /// Follows the script; true when it was told to stop before the end.
    pub(crate) async fn run(&mut self, clock: MediaClock) -> bool {
        let stopped = self.follow(clock).await.is_err();
        self.close().await;
        stopped
    }

    async fn follow(&mut self, clock: MediaClock) -> Result<(), Stopped> {
        let timetable = Arc::clone(&self.shared.timetable);
        for entry in &timetable.entries {
            match entry {
                Entry::Cut(cut) if cut.leg == self.index => self.cut(cut, clock).await,
                Entry::Cut(_) => {}
                Entry::Span(span) => {
                    self.announce(span);
                    match &span.what {
                        What::Speech { speech_from, guest } => {
                            let guest = guest.as_deref().filter(|_| self.hears_guests);
                            self.speak(span, *speech_from, guest, clock).await?;
                        }
                        What::Hold(by) => self.hold(span, *by, clock).await?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Steps are the call's, not a leg's: the first leg tells of them.
    fn announce(&self, span: &Span) {
        if self.index != 0 {
            return;
        }
        let at_sample = span.from;
        let samples = span.until - span.from;
        self.tell(match &span.what {
            What::Speech { guest: None, .. } => Progress::Speaking { at_sample, samples },
            What::Speech { guest: Some(_), .. } => Progress::Conference { at_sample, samples },
            What::Hold(by) => Progress::Hold { at_sample, samples, by: *by },
        });
    }

    async fn speak(
        &mut self,
        span: &Span,
        speech_from: u64,
        guest: Option<&[u8]>,
        clock: MediaClock,
    ) -> Result<(), Stopped> {
        let leg_audio = self.shared.plan.legs[self.index].audio.clone();
        let mut at = span.from.max(self.resume_from);
        while at < span.until {
            if !self.is_up() {
                self.stay_away(span.until, clock).await?;
                at = at.max(self.resume_from);
                if !self.is_up() {
                    break;
                }
                continue;
            }
            let samples = self.frame_samples(span.until - at);
            let due = clock.instant(at + samples as u64);
            let leaves = self.leave_time(due);
            match self.wait(leaves).await {
                Wake::Stopped => return Err(Stopped),
                Wake::LinkLost => self.lost(clock),
                Wake::Due => {
                    let mut frame = BytesMut::zeroed(samples);
                    let into_span = at - span.from;
                    clip::read_looped(&leg_audio, speech_from + into_span, &mut frame);
                    if let Some(guest) = guest {
                        clip::mix_looped(guest, into_span, &mut frame);
                    }
                    if self.send(at, frame.freeze(), leaves).await {
                        at += samples as u64;
                    } else {
                        self.lost(clock);
                    }
                }
            }
        }
        Ok(())
    }

    /// Size of the next frame when `left` samples remain in the step.
    fn frame_samples(&mut self, left: u64) -> usize {
        let samples = match self.shared.plan.frame.size {
            FrameSize::Fixed { samples } => samples,
            FrameSize::Random { samples_min, samples_max } => self.rng.u32(samples_min..=samples_max),
        };
        usize::try_from(u64::from(samples).min(left)).unwrap_or(usize::MAX)
    }

    /// When a frame leaves that is due at a time: late by the jitter asked for, but never before the one ahead of it.
    fn leave_time(&mut self, due: Instant) -> Instant {
        let FrameShape { late_ms_max, stall_ms, .. } = self.shared.plan.frame;
        let stalls = stall_ms > 0 && self.rng.u32(0..FrameShape::STALL_ONE_IN) == 0;
        let late_ms = if stalls { stall_ms } else { self.rng.u32(0..=late_ms_max) };
        let leaves = due + Duration::from_millis(u64::from(late_ms));
        let leaves = self.last_left.map_or(leaves, |last| leaves.max(last));
        self.last_left = Some(leaves);
        leaves
    }

    async fn send(&mut self, at: u64, frame: Bytes, planned: Instant) -> bool {
        let Link::Up(socket) = &mut self.link else { return false };
        let sent = timeout(SEND_TIMEOUT, socket.send(Message::binary(frame.clone()))).await;
        match sent {
            Ok(Ok(())) => {
                self.log.late(micros(planned.elapsed()));
                self.log.frame(at, &frame);
                true
            }
            Ok(Err(error)) => {
                self.fault(describe(&error));
                false
            }
            Err(_) => {
                self.fault("the endpoint did not take a frame in time".to_owned());
                false
            }
        }
    }

    async fn hold(&mut self, span: &Span, by: HoldBy, clock: MediaClock) -> Result<(), Stopped> {
        match by {
            HoldBy::Silence => {
                self.log.interrupted(GapCause::HoldSilence);
                self.keep_quiet(span.until, clock).await
            }
            HoldBy::Close => {
                self.log.interrupted(GapCause::HoldClose);
                let end = clock.instant(span.until);
                match self.link {
                    Link::Up(_) => {
                        self.close().await;
                        self.link = Link::Away(end);
                    }
                    Link::Away(redial_at) => self.link = Link::Away(redial_at.max(end)),
                    Link::Gone => {}
                }
                self.stay_away(span.until, clock).await
            }
        }
    }

    /// Sends nothing until a position, but keeps a socket.
    async fn keep_quiet(&mut self, until: u64, clock: MediaClock) -> Result<(), Stopped> {
        let end = clock.instant(until);
        while Instant::now() < end {
            if !self.is_up() {
                self.stay_away(until, clock).await?;
                continue;
            }
            match self.wait(end).await {
                Wake::Stopped => return Err(Stopped),
                Wake::LinkLost => self.lost(clock),
                Wake::Due => {}
            }
        }
        Ok(())
    }

    /// Without a socket: waits for the time to dial, or for a position when that comes first, and dials.
    async fn stay_away(&mut self, until: u64, clock: MediaClock) -> Result<(), Stopped> {
        let end = clock.instant(until);
        let redial_at = match self.link {
            Link::Up(_) => return Ok(()),
            Link::Away(redial_at) if redial_at < end => redial_at,
            Link::Away(_) | Link::Gone => return self.pass(end).await,
        };
        self.pass(redial_at).await?;
        self.dial().await?;
        if self.is_up() {
            self.resume_from = clock.next_multiple(self.shared.timetable.grid, Instant::now());
            self.tell(Progress::Reconnected { leg: self.index, resumes_at_sample: self.resume_from });
        }
        Ok(())
    }

    async fn pass(&mut self, until: Instant) -> Result<(), Stopped> {
        match self.wait(until).await {
            Wake::Stopped => Err(Stopped),
            Wake::Due | Wake::LinkLost => Ok(()),
        }
    }

    /// Shakes hands, again after a pause while attempts are left; gives the leg up otherwise.
    async fn dial(&mut self) -> Result<(), Stopped> {
        for attempt in 0.. {
            let limit = self.shared.plan.connect_timeout;
            let mut stop = self.shared.stop.clone();
            let (shake, socket) = tokio::select! {
                () = told_to_stop(&mut stop) => return Err(Stopped),
                shaken = shake_hands(&self.shared.endpoint, &self.init, limit) => shaken,
            };
            self.tell_of_handshake(&socket);
            self.log.dialled(socket);
            match shake {
                Shake::Connected(socket) => {
                    self.link = Link::Up(socket);
                    return Ok(());
                }
                Shake::TryAgain if self.reconnects_left > 0 => {
                    self.reconnects_left -= 1;
                    let pause = self.shared.plan.backoff.pause(attempt, &mut self.rng);
                    self.link = Link::Gone;
                    self.pass(Instant::now() + pause).await?;
                }
                Shake::TryAgain | Shake::Refused => break,
            }
        }
        self.link = Link::Gone;
        self.log.gave_up();
        self.tell(Progress::GaveUp { leg: self.index });
        Ok(())
    }

    fn tell_of_handshake(&self, socket: &crate::report::SocketReport) {
        let leg = self.index;
        match (socket.connect_us, socket.ack_us) {
            (Some(connect_us), Some(ack_us)) if socket.connected => {
                self.tell(Progress::Connected { leg, connect_us, ack_us });
            }
            _ => self.tell(Progress::Refused { leg, close: socket.close.as_ref().map(|close| close.code) }),
        }
    }

    /// The server closed or lost the connection: what CXone does then is dial again with the same handshake.
    fn lost(&mut self, clock: MediaClock) {
        self.log.interrupted(GapCause::Server);
        self.tell(Progress::Lost { leg: self.index, at_sample: self.log.end() });
        if self.reconnects_left == 0 {
            self.link = Link::Gone;
            self.log.gave_up();
            self.tell(Progress::GaveUp { leg: self.index });
            return;
        }
        self.reconnects_left -= 1;
        let now = Instant::now();
        self.resume_from = clock.next_multiple(self.shared.timetable.grid, now);
        self.link = Link::Away(now + self.shared.plan.backoff.pause(0, &mut self.rng));
    }

    async fn cut(&mut self, cut: &CutAt, clock: MediaClock) {
        self.log.interrupted(GapCause::Drop);
        let redial_at = clock.instant(cut.back_at);
        match std::mem::replace(&mut self.link, Link::Gone) {
            Link::Up(socket) => {
                sever(*socket, cut.cut).await;
                if let Some(socket) = self.log.socket() {
                    socket.cut = true;
                }
                self.tell(Progress::Dropped { leg: self.index, at_sample: cut.at });
                self.link = Link::Away(redial_at);
            }
            Link::Away(earlier) => self.link = Link::Away(earlier.max(redial_at)),
            Link::Gone => {}
        }
    }

    /// Closes with 1000 and waits, for a bounded time, for the endpoint to do the same.
    async fn close(&mut self) {
        let Link::Up(mut socket) = std::mem::replace(&mut self.link, Link::Gone) else { return };
        let closing = async {
            socket.send(Message::close(Some(CloseCode::NORMAL_CLOSURE), "")).await?;
            while let Some(message) = socket.next().await {
                message?;
            }
            Ok::<(), tokio_websockets::Error>(())
        };
        let error = match timeout(CLOSE_TIMEOUT, closing).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(describe(&error)),
            Err(_) => Some("the endpoint did not answer the close frame".to_owned()),
        };
        if let Some(socket) = self.log.socket() {
            socket.close = Some(Close { code: 1000, reason: String::new(), by: Side::Us });
            socket.error = error;
        }
    }

    /// Waits for a time while the socket is read: pings are answered, closes noticed.
    async fn wait(&mut self, until: Instant) -> Wake {
        loop {
            let heard = tokio::select! {
                biased;
                () = told_to_stop(&mut self.shared.stop) => return Wake::Stopped,
                heard = hear(&mut self.link) => heard,
                () = sleep_until(until) => return Wake::Due,
            };
            let Some(socket) = self.log.socket() else { continue };
            match heard {
                Some(Ok(message)) if message.is_close() => {
                    socket.close = close_of(&message);
                    // One more read sends our half of the close handshake.
                    let _ = timeout(CLOSE_TIMEOUT, hear(&mut self.link)).await;
                    return Wake::LinkLost;
                }
                Some(Ok(message)) if message.is_ping() || message.is_pong() => {}
                Some(Ok(_)) => socket.unexpected_frames += 1,
                Some(Err(error)) => {
                    socket.error = Some(describe(&error));
                    return Wake::LinkLost;
                }
                None => {
                    socket.error = Some("the connection ended without a close frame".to_owned());
                    return Wake::LinkLost;
                }
            }
        }
    }

    fn fault(&mut self, error: String) {
        if let Some(socket) = self.log.socket() {
            socket.error = Some(error);
        }
    }

    fn tell(&self, progress: Progress) {
        if let Some(watcher) = &self.shared.progress {
            // A watcher that does not keep up misses news; the call does not wait for it.
            let _ = watcher.try_send(progress);
        }
    }
}

async fn hear(link: &mut Link) -> Option<Result<Message, tokio_websockets::Error>> {
    match link {
        Link::Up(socket) => socket.next().await,
        Link::Away(_) | Link::Gone => std::future::pending().await,
    }
}

/// Ends a connection without a close frame.
async fn sever(socket: Socket, cut: Cut) {
    let mut stream = socket.into_inner();
    match cut {
        Cut::Eof => {
            // Failing means that the connection is gone already, which is what was wanted.
            let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
        }
        Cut::Reset => reset_on_drop(&stream),
    }
}

/// Makes the kernel reset the connection when the stream is dropped.
pub(crate) fn reset_on_drop(stream: &crate::dial::Stream) {
    let tcp = match stream {
        MaybeTlsStream::Plain(tcp) => tcp,
        MaybeTlsStream::Rustls(tls) => tls.get_ref().0,
    };
    // Failing means that the connection is gone already.
    let _ = tcp.set_zero_linger();
}
