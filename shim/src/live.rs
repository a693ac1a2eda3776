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
use earpiece_core::protocol::InitMessage;
use earpiece_recorder::{EventLog, Tap as RecorderTap};
use earpiece_relay::{Start, Tap as VoiceTap};
use earpiece_store::{Checkpoint, StreamEnd, StreamError};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_websockets::{Message, WebSocketStream};
use tracing::{info, warn};

use crate::Task;
use crate::admission::Permit;
use crate::claim::{self, Outcome, Wanted};
use crate::clock::{Clock, wall_ms};
use crate::limits::{as_ms, as_us};
use crate::session::{Heard, heard};
use crate::{socket, wire};

/// Events of the assist app that may wait for the recorder, per stream.
const APP_EVENTS_WAITING_MAX: usize = 64;

/// What the handshake settled.
pub(crate) struct Opened {
    pub(crate) wanted: Wanted,
    pub(crate) generation: Option<u64>,
}

/// A stream that was answered.
pub(crate) struct Live {
    task: Arc<Task>,
    clock: Clock,
    machine: Stream,
    facts: StreamFacts,
    recorder: RecorderTap,
    voice: Option<Voice>,
    end: oneshot::Receiver<CloseReason>,
    permit: Permit,
    /// Whether `CONNECTED` could be sent.
    answered: bool,
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
    #[expect(clippy::too_many_arguments, reason = "everything the handshake settled, handed over once")]
    pub(crate) fn begin(
        task: Arc<Task>,
        clock: Clock,
        machine: Stream,
        opened: Opened,
        init: &InitMessage,
        end: oneshot::Receiver<CloseReason>,
        permit: Permit,
        answered: bool,
    ) -> Self {
        task.metrics.streams_live.inc();
        let Opened { wanted, generation } = opened;
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
            };
            let keeper = keep_events(task.clone(), facts.contact, recorder.events(), said);
            Voice { tap: relay.open(start, events), events: tokio::spawn(keeper) }
        });
        let now_us = clock.now_us();
        let checkpoint_us = now_us + as_us(task.limits.checkpoint);
        let mut live = Self {
            task,
            clock,
            machine,
            facts,
            recorder,
            voice,
            end,
            permit,
            answered,
            counted_samples: 0,
            counted_frames: 0,
            checkpoint_us,
        };
        // So that a task which dies within the first segment is named in the ledger, too.
        live.cut(now_us);
        live
    }

    /// Streams until the socket ends or has to, and settles what is left.
    pub(crate) async fn run<S>(mut self, mut socket: WebSocketStream<S>, mut claim: Option<JoinHandle<Outcome>>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let reason = if self.answered { self.stream(&mut socket, &mut claim).await } else { CloseReason::PeerVanished };
        // Boxed: what only the end needs must not weigh on every stream while it lives.
        Box::pin(self.settle(socket, claim, reason)).await;
    }

    async fn stream<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut WebSocketStream<S>,
        claim: &mut Option<JoinHandle<Outcome>>,
    ) -> CloseReason {
        let mut timer = pin!(tokio::time::sleep_until(self.wake()));
        loop {
            let effect = tokio::select! {
                biased;
                next = socket.next() => match heard(next) {
                    Heard::Audio(payload) => {
                        self.audio(&payload);
                        Effect::None
                    }
                    Heard::SignOfLife => self.step(Event::SignOfLife),
                    Heard::Text(_) => self.step(Event::Text),
                    Heard::TooLarge => self.step(Event::Ended(CloseReason::TooLarge)),
                    Heard::Ended(reason) => self.step(Event::Ended(reason)),
                },
                reason = &mut self.end => match reason {
                    Ok(CloseReason::Drained) => self.step(Event::Drain),
                    Ok(_) => self.step(Event::Superseded),
                    // The registry never drops a signal unsent while the stream is in it.
                    Err(_) => self.step(Event::Ended(CloseReason::Internal)),
                },
                () = &mut timer => {
                    let effect = self.tick();
                    timer.as_mut().reset(self.wake());
                    effect
                }
                outcome = claimed(claim), if claim.is_some() => {
                    *claim = None;
                    self.late_claim(outcome)
                }
            };
            match effect {
                Effect::Close(reason) => return reason,
                Effect::Ping if socket.send(Message::ping("")).await.is_err() => return CloseReason::PeerVanished,
                _ => {}
            }
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
            // Only a closed machine refuses audio, and then the loop is over.
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
    fn checkpoint(&self) {
        let task = self.task.clone();
        let (contact, stream, perspective) = (self.facts.contact, self.facts.stream, self.facts.perspective.clone());
        let samples = self.machine.timeline().samples();
        if self.facts.generation.is_none() {
            return;
        }
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
                Err(StreamError::Superseded { .. }) => task.contacts.end(stream, CloseReason::Superseded),
                Err(error) => {
                    task.metrics.store_error("checkpoint");
                    warn!(%contact, %stream, %error, "the stream could not be noted in the store");
                }
            }
        });
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
    async fn settle<S>(mut self, socket: WebSocketStream<S>, claim: Option<JoinHandle<Outcome>>, reason: CloseReason)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let now_us = self.clock.now_us();
        let (contact, stream) = (self.facts.contact, self.facts.stream);
        self.count();
        self.note_facts();
        self.task.metrics.streams_live.dec();
        self.task.metrics.closed(reason);
        drop(self.permit);
        self.facts.closed = Some(Closed { at_us: now_us, reason });
        let samples = self.machine.timeline().samples();
        let closed = What::StreamClosed { stream, perspective: self.facts.perspective.clone(), reason, samples };
        self.task.contacts.tell(contact, now_us, closed);
        self.task.contacts.close(contact, stream, now_us);
        info!(%contact, %stream, reason = reason.label(), samples, "stream ended");

        let goodbye = part(socket, reason, self.task.limits.farewell);
        let settled = async {
            if let Some(voice) = self.voice.take() {
                voice.tap.stop(reason);
                // Ends when the relay's task does, which is bounded by its flush time.
                let _ = voice.events.await;
            }
            // A writer that panicked took its segment with it; what is missing is named when the contact is finished.
            let _ = self.recorder.close(&self.facts).await;
            let is_claimed = match claim {
                Some(claim) => matches!(claim.await, Ok(Outcome::Won(_))),
                None => self.facts.generation.is_some(),
            };
            if is_claimed {
                end_stream(&self.task, &self.facts, reason).await;
            }
        };
        tokio::join!(goodbye, settled);
    }
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
    match wire::goodbye(reason) {
        Some(goodbye) => {
            let text = (reason == CloseReason::PeerViolation || reason == CloseReason::TooLarge).then(|| {
                let kind = earpiece_core::error::Kind::Unsupported;
                earpiece_core::protocol::Message::error(&earpiece_core::error::Fault::new(kind, goodbye.1)).to_json()
            });
            socket::farewell(socket.into_inner(), text.as_deref(), goodbye, within).await;
        }
        None => {
            // Answers a close frame with ours; whether it gets there is the peer's affair.
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
        task.contacts.tell(contact, event.at_us, What::App(event));
    }
}
