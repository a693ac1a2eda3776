//! One live stream: frames in, sinks fed, the end settled.
//!
//! The loop wakes at most once per frame and touches nothing that is shared between calls: counts are kept here and
//! handed to the metrics when the stream's own timer fires.

use std::pin::pin;
use std::sync::Arc;

use earpiece_core::contact::event::{AppEvent, What};
use earpiece_core::contact::facts::{CloseReason, Closed, StreamFacts};
use earpiece_core::contact::stream::{Effect, Event, Stream};
use earpiece_core::contact::timeline::{Arrival, US_PER_SAMPLE};
use earpiece_core::contact::{ContactKey, state};
use earpiece_core::error::{Fault, Kind};
use earpiece_core::protocol::{InitMessage, Message as Answer, Perspective};
use earpiece_recorder::{EventLog, Tap as RecorderTap};
use earpiece_relay::{Start, Tap as VoiceTap};
use earpiece_store::{Checkpoint, StreamEnd, StreamError};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_websockets::{CloseCode, Message, WebSocketStream};
use tracing::{info, warn};

use crate::Task;
use crate::admission::Permit;
use crate::claim::{self, Outcome, Wanted};
use crate::clock::{Clock, wall_ms};
use crate::limits::{as_ms, as_us};
use crate::pulse::Pulse;
use crate::session::{Heard, heard};
use crate::{socket, wire};

/// Events of the assist app that may wait for the recorder, per stream.
const APP_EVENTS_WAITING_MAX: usize = 64;

/// What the handshake settled.
pub(crate) struct Opened {
    pub(crate) wanted: Wanted,
    pub(crate) generation: Option<u64>,
    /// The claim that goes on, while a slow store has not answered.
    pub(crate) claim: Option<JoinHandle<Outcome>>,
}

/// What a live stream holds on this task.
pub(crate) struct Hold {
    /// Where the order to end comes from.
    pub(crate) end: oneshot::Receiver<CloseReason>,
    pub(crate) permit: Permit,
    /// Whether `CONNECTED` could be sent.
    pub(crate) answered: bool,
}

/// A stream that was answered.
pub(crate) struct Live {
    task: Arc<Task>,
    clock: Clock,
    machine: Stream,
    pulse: Pulse,
    facts: StreamFacts,
    recorder: RecorderTap,
    voice: Option<Voice>,
    claim: Option<JoinHandle<Outcome>>,
    hold: Hold,
    counted_samples: u64,
    counted_frames: u64,
    checkpoint_us: i64,
}

/// The voice relay of one stream, and the task that keeps what the app says.
struct Voice {
    tap: VoiceTap,
    events: JoinHandle<()>,
}

impl Live {
    pub(crate) fn begin(
        task: Arc<Task>,
        clock: Clock,
        machine: Stream,
        opened: Opened,
        init: &InitMessage,
        hold: Hold,
    ) -> Self {
        task.metrics.streams_live.inc();
        let Opened { wanted, generation, claim } = opened;
        let recorder = task.recorder.tap(wanted.contact, wanted.stream);
        let facts = StreamFacts {
            contact: wanted.contact,
            stream: wanted.stream,
            perspective: wanted.perspective,
            generation,
            opened_us: wanted.opened_us,
            degraded: generation.is_none(),
            task: task.name.clone(),
            segment_ms: task.recorder.segment_ms(),
            frames: 0,
            samples: 0,
            frame_samples: None,
            runs: Vec::new(),
            runs_joined: 0,
            lost: Vec::new(),
            closed: None,
            telemetry: init.telemetry_value(),
            unknown_fields: init.unknown_fields(),
        };
        let voice = task.relay.as_ref().map(|relay| {
            let (events, said) = mpsc::channel(APP_EVENTS_WAITING_MAX);
            let start = Start {
                contact: facts.contact,
                stream: facts.stream,
                perspective: facts.perspective.clone(),
                generation,
                app_params: init.app_params.to_value(),
                app_config: init.app_config.to_value(),
                unknown: init.unknown_value(),
            };
            let keeper = keep_events(task.clone(), facts.contact, recorder.events(), said);
            Voice { tap: relay.open(start, events), events: tokio::spawn(keeper) }
        });
        let now_us = clock.now_us();
        let checkpoint_us = now_us + as_us(task.limits.checkpoint);
        let pulse = Pulse::new(&task.limits, now_us);
        let mut live = Self {
            task,
            clock,
            machine,
            pulse,
            facts,
            recorder,
            voice,
            claim,
            hold,
            counted_samples: 0,
            counted_frames: 0,
            checkpoint_us,
        };
        // So that a task which dies within the first segment is named in the ledger, too.
        live.cut(now_us);
        live
    }

    /// Streams until the socket ends or has to, and settles what is left.
    pub(crate) async fn run<S>(mut self, mut socket: WebSocketStream<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let reason = if self.hold.answered { self.stream(&mut socket).await } else { CloseReason::PeerVanished };
        // Boxed: what only the end needs must not weigh on every stream while it lives.
        Box::pin(self.settle(socket, reason)).await;
    }

    async fn stream<S: AsyncRead + AsyncWrite + Unpin>(&mut self, socket: &mut WebSocketStream<S>) -> CloseReason {
        let mut timer = pin!(tokio::time::sleep_until(self.wake()));
        let mut is_told = false;
        loop {
            // Orders and time come before the peer: one that sends without a pause must not keep them waiting.
            let effect = tokio::select! {
                biased;
                reason = &mut self.hold.end, if !is_told => {
                    is_told = true;
                    self.told(reason.ok())
                }
                () = &mut timer => {
                    let effect = self.tick();
                    timer.as_mut().reset(self.wake());
                    effect
                }
                outcome = claimed(&mut self.claim), if self.claim.is_some() => {
                    self.claim = None;
                    self.late_claim(outcome)
                }
                next = socket.next() => self.take(heard(next)),
            };
            match effect {
                Effect::Close(reason) => return reason,
                Effect::Ping if !self.send(socket, Message::ping("")).await => return CloseReason::PeerVanished,
                Effect::Goodbye => {
                    // What is on its way until the peer has heard it is taken like any other audio.
                    if !self.send(socket, goodbye(CloseReason::Drained)).await {
                        return CloseReason::Drained;
                    }
                    timer.as_mut().reset(self.wake());
                }
                _ => {}
            }
        }
    }

    /// Sends a control message; whether the peer took it in time.
    async fn send<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: &mut WebSocketStream<S>, message: Message) -> bool {
        matches!(tokio::time::timeout(self.task.limits.farewell, socket.send(message)).await, Ok(Ok(())))
    }

    fn take(&mut self, heard: Heard) -> Effect {
        match heard {
            Heard::Audio(payload) => {
                self.audio(&payload);
                Effect::None
            }
            Heard::SignOfLife if self.pulse.is_flood(self.clock.now_us()) => {
                self.step(Event::Ended(CloseReason::ProtocolViolation))
            }
            Heard::SignOfLife => self.step(Event::SignOfLife),
            Heard::Text(_) => self.step(Event::Text),
            Heard::TooLarge => self.step(Event::Ended(CloseReason::TooLarge)),
            Heard::Ended(reason) => self.step(Event::Ended(reason)),
        }
    }

    fn told(&mut self, reason: Option<CloseReason>) -> Effect {
        match reason {
            Some(CloseReason::Drained) => self.step(Event::Drain),
            Some(_) => self.step(Event::Superseded),
            // The registry never drops a signal unsent while the stream is in it.
            None => self.step(Event::Ended(CloseReason::Internal)),
        }
    }

    fn step(&mut self, event: Event) -> Effect {
        let now_us = self.clock.now_us();
        self.machine.step(now_us, event).unwrap_or_else(|error| {
            warn!(contact = %self.facts.contact, stream = %self.facts.stream, %error, "an illegal move");
            Effect::Close(CloseReason::Internal)
        })
    }

    /// The way of every frame.
    fn audio(&mut self, payload: &[u8]) {
        let now_us = self.clock.now_us();
        let samples = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let arrival = match self.machine.step(now_us, Event::Audio(samples)) {
            Ok(Effect::Audio(arrival)) => arrival,
            Ok(Effect::Audible { arrival, silent_us }) => {
                self.audible(now_us, silent_us);
                arrival
            }
            // An empty frame is a sign of life and no audio; only a closed machine refuses, and then the loop is over.
            _ => return,
        };
        self.recorder.push(payload);
        if let Some(voice) = &mut self.voice {
            if let Arrival::Breaks { silent_us } = arrival {
                voice.tap.silence((silent_us / US_PER_SAMPLE).cast_unsigned());
            }
            voice.tap.push(payload);
        }
        if self.recorder.is_due(now_us) {
            self.cut(now_us);
        }
    }

    fn audible(&mut self, now_us: i64, silent_us: i64) {
        let (contact, perspective) = (self.facts.contact, self.facts.perspective.clone());
        let gap_ms = (silent_us / 1000).cast_unsigned();
        self.task.contacts.tell(contact, now_us, What::Audible { perspective, silent_ms: gap_ms });
        self.task.contacts.note(contact, now_us, state::Event::Audible(self.facts.stream));
    }

    fn tick(&mut self) -> Effect {
        let now_us = self.clock.now_us();
        self.count();
        if self.recorder.is_due(now_us) {
            self.cut(now_us);
        }
        if now_us >= self.checkpoint_us {
            self.checkpoint_us = now_us + as_us(self.task.limits.checkpoint);
            self.checkpoint();
        }
        let effect = self.step(Event::Tick);
        if effect == Effect::Silent {
            let (contact, perspective) = (self.facts.contact, self.facts.perspective.clone());
            self.task.contacts.tell(contact, now_us, What::Silent { perspective });
            self.task.contacts.note(contact, now_us, state::Event::Silent(self.facts.stream));
        }
        effect
    }

    /// When the timer is needed next. Never more often than once a second while audio flows.
    fn wake(&self) -> Instant {
        let now_us = self.clock.now_us();
        let segment_us = i64::from(self.facts.segment_ms) * 1000;
        let due_us = now_us + segment_us.min(as_us(self.task.limits.silence));
        let wake_us = self.machine.wake_us().unwrap_or(due_us).min(due_us).min(self.checkpoint_us);
        self.clock.instant(wake_us.max(now_us + 1_000)).into()
    }

    /// Hands the counts since the last time to the metrics.
    fn count(&mut self) {
        let timeline = self.machine.timeline();
        self.task.metrics.audio_bytes.inc_by(timeline.samples() - self.counted_samples);
        self.task.metrics.audio_frames.inc_by(timeline.frames() - self.counted_frames);
        self.counted_samples = timeline.samples();
        self.counted_frames = timeline.frames();
    }

    fn cut(&mut self, now_us: i64) {
        self.note_facts();
        self.recorder.cut(now_us, &self.facts);
    }

    /// Brings the facts up to what the timeline and the sinks know.
    fn note_facts(&mut self) {
        let timeline = self.machine.timeline();
        self.facts.frames = timeline.frames();
        self.facts.samples = timeline.samples();
        self.facts.frame_samples = timeline.frame_samples();
        self.facts.runs_joined = timeline.runs_joined();
        timeline.runs().clone_into(&mut self.facts.runs);
        if let Some(voice) = &mut self.voice {
            while let Some(lost) = voice.tap.take_lost() {
                self.task.metrics.lost(lost.reason, lost.samples);
                self.facts.note_lost(lost);
            }
        }
        while let Some(lost) = self.recorder.take_lost() {
            self.task.metrics.lost(lost.reason, lost.samples);
            self.facts.note_lost(lost);
        }
    }

    /// Says in the store that the stream lives. Beside the stream: a slow store must not hold up a frame.
    fn checkpoint(&mut self) {
        if self.facts.generation.is_none() {
            self.claim_again();
            return;
        }
        let task = self.task.clone();
        let (contact, stream, perspective) = (self.facts.contact, self.facts.stream, self.facts.perspective.clone());
        let samples = self.machine.timeline().samples();
        tokio::spawn(async move {
            let checkpoint = Checkpoint {
                contact,
                perspective: &perspective,
                stream,
                samples,
                now_ms: wall_ms(),
                stale_after_ms: as_ms(task.limits.stale).cast_unsigned(),
            };
            match task.store.checkpoint(&checkpoint).await {
                Ok(()) => {}
                // Perspectives that nobody documents share one place in the store and never fence each other.
                Err(StreamError::Superseded { .. }) if matches!(perspective, Perspective::Unknown(_)) => {}
                Err(StreamError::Superseded { .. }) => task.contacts.end(stream, CloseReason::Superseded),
                Err(error) => {
                    task.metrics.store_error("checkpoint");
                    warn!(%contact, %stream, %error, "the stream could not be noted in the store");
                }
            }
        });
    }

    /// The claim was given up while the store was away: it is begun again for as long as the call lasts.
    fn claim_again(&mut self) {
        if self.claim.is_none() {
            let wanted = Wanted {
                contact: self.facts.contact,
                perspective: self.facts.perspective.clone(),
                stream: self.facts.stream,
                opened_us: self.facts.opened_us,
            };
            self.claim = Some(claim::begin(self.task.clone(), wanted));
        }
    }

    /// The store answered after the call had been accepted without it.
    fn late_claim(&mut self, outcome: Outcome) -> Effect {
        match outcome {
            Outcome::Won(generation) => {
                self.facts.generation = Some(generation);
                if let Some(voice) = &mut self.voice {
                    voice.tap.set_generation(generation);
                }
                let (contact, stream) = (self.facts.contact, self.facts.stream);
                self.task.contacts.note(contact, self.clock.now_us(), state::Event::Numbered { stream, generation });
                info!(%contact, %stream, generation, "the store answered late");
                Effect::None
            }
            Outcome::Superseded => self.step(Event::Superseded),
            Outcome::GaveUp => Effect::None,
        }
    }

    /// Everything after the last frame, in the order in which nothing gets lost: the place is given back, the app is
    /// told, its last words are kept, the last segment is written, and only then the store hears of the end.
    async fn settle<S>(mut self, socket: WebSocketStream<S>, reason: CloseReason)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let now_us = self.clock.now_us();
        let (contact, stream) = (self.facts.contact, self.facts.stream);
        self.count();
        self.note_facts();
        self.task.metrics.streams_live.dec();
        self.task.metrics.closed(reason);
        drop(self.hold.permit);
        self.facts.closed = Some(Closed { at_us: now_us, reason });
        let samples = self.machine.timeline().samples();
        let closed = What::StreamClosed { stream, perspective: self.facts.perspective.clone(), reason, samples };
        self.task.contacts.tell(contact, now_us, closed);
        self.task.contacts.close(contact, stream, now_us);
        info!(%contact, %stream, reason = reason.label(), samples, "stream ended");

        let (task, mut facts) = (self.task, self.facts);
        let (voice, recorder, mut claim) = (self.voice, self.recorder, self.claim);
        let farewell = part(socket, reason, task.limits.farewell);
        let settled = async {
            if let Some(voice) = voice {
                let mut stopped = voice.tap.stop(reason);
                // Ends when the relay's task does, which is bounded by its flush time.
                let _ = voice.events.await;
                while let Some(lost) = stopped.take_lost() {
                    task.metrics.lost(lost.reason, lost.samples);
                    facts.note_lost(lost);
                }
            }
            // The number, if the store has it by now; the last segment does not wait for a store that is away.
            if let Some(claim) = &mut claim
                && let Ok(Ok(Outcome::Won(generation))) = tokio::time::timeout(task.limits.store_deadline, claim).await
            {
                facts.generation = Some(generation);
            }
            // A writer that panicked took its segment with it; what is missing is named when the contact is finished.
            for lost in recorder.close(&facts).await.unwrap_or_default() {
                task.metrics.lost(lost.reason, lost.samples);
            }
            let is_claimed = match claim.filter(|claim| facts.generation.is_none() && !claim.is_finished()) {
                Some(claim) => matches!(claim.await, Ok(Outcome::Won(_))),
                None => facts.generation.is_some(),
            };
            if is_claimed {
                end_stream(&task, &facts, reason).await;
            }
        };
        tokio::join!(farewell, settled);
    }
}

/// The close frame of a reason.
fn goodbye(reason: CloseReason) -> Message {
    let (code, text) = wire::goodbye(reason).unwrap_or((1000, ""));
    Message::close(CloseCode::try_from(code).ok(), text)
}

async fn claimed(claim: &mut Option<JoinHandle<Outcome>>) -> Outcome {
    match claim {
        Some(claim) => claim.await.unwrap_or(Outcome::GaveUp),
        None => Outcome::GaveUp,
    }
}

/// Closes the socket as the reason asks for.
async fn part<S>(mut socket: WebSocketStream<S>, reason: CloseReason, within: std::time::Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match wire::goodbye(reason).filter(|_| reason != CloseReason::Drained) {
        Some(goodbye) => {
            let is_fault =
                matches!(reason, CloseReason::PeerViolation | CloseReason::ProtocolViolation | CloseReason::TooLarge);
            let text = is_fault.then(|| Answer::error(&Fault::new(Kind::Unsupported, goodbye.1)).to_json());
            socket::farewell(socket.into_inner(), text.as_deref(), goodbye, within).await;
        }
        None => {
            // Answers a close frame with ours, or waits for the answer to the one that was sent; whether it gets there is
            // the peer's affair.
            let _ = tokio::time::timeout(within, socket.close()).await;
        }
    }
}

async fn end_stream(task: &Task, facts: &StreamFacts, reason: CloseReason) {
    let ended = claim::retry("end_stream", task, task.limits.store_patience, || async {
        let end = StreamEnd {
            contact: facts.contact,
            perspective: &facts.perspective,
            stream: facts.stream,
            samples: facts.samples,
            reason,
            now_ms: wall_ms(),
            quiet_ms: as_ms(task.limits.quiet).cast_unsigned(),
        };
        match task.store.end_stream(&end).await {
            // A newer stream holds the perspective: there is nothing to end.
            Ok(()) | Err(StreamError::Superseded { .. } | StreamError::Gone) => Ok(()),
            Err(StreamError::Store(error)) => Err(error),
        }
    });
    if ended.await.is_none() {
        warn!(contact = %facts.contact, stream = %facts.stream, "the store did not hear of the stream's end");
    }
}

/// Keeps what the assist app says: with the recording, and for those who watch.
async fn keep_events(task: Arc<Task>, contact: ContactKey, log: EventLog, mut said: mpsc::Receiver<AppEvent>) {
    while let Some(event) = said.recv().await {
        log.push(&event);
        task.hear(contact, &event);
        task.contacts.tell(contact, event.at_us, What::App(event));
    }
}
