//! From the upgrade to `CONNECTED` or `ERROR`: one socket's handshake.
//!
//! The order is the rule of the house: language, token, place of the business unit, claim, answer. Nothing downstream
//! is begun here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::access::Who;
use earpiece_core::contact::StreamId;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::stream::{Effect, Event, Stream};
use earpiece_core::contact::timeline::Timeline;
use earpiece_core::error::{Fault, Kind};
use earpiece_core::protocol::message::CONNECTED;
use earpiece_core::protocol::{InitMessage, Message, Perspective};
use earpiece_core::secret::Secret;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_websockets::{Payload, WebSocketStream};
use tracing::{debug, info};

use crate::Task;
use crate::admission::Permit;
use crate::claim::{self, Outcome, Wanted};
use crate::clock::Clock;
use crate::live::{Hold, Live, Opened};
use crate::pulse::Pulse;
use crate::settings::TokenSource;
use crate::{socket, tokens, wire};

/// Who is at the door, and what they brought in the request itself.
pub(crate) struct Visitor {
    pub(crate) address: IpAddr,
    /// Tokens from the header and the query, where those may carry one.
    pub(crate) presented: Vec<Secret>,
}

/// What a socket said.
pub(crate) enum Heard {
    Text(Payload),
    Audio(Payload),
    SignOfLife,
    TooLarge,
    Ended(CloseReason),
}

/// Reads what the WebSocket layer gives.
pub(crate) fn heard(next: Option<Result<tokio_websockets::Message, tokio_websockets::Error>>) -> Heard {
    match next {
        Some(Ok(message)) if message.is_binary() => Heard::Audio(message.into_payload()),
        Some(Ok(message)) if message.is_text() => Heard::Text(message.into_payload()),
        Some(Ok(message)) if message.is_close() => Heard::Ended(CloseReason::PeerClosed),
        Some(Ok(_)) => Heard::SignOfLife,
        Some(Err(tokio_websockets::Error::PayloadTooLong { .. })) => Heard::TooLarge,
        Some(Err(tokio_websockets::Error::Protocol(_))) => Heard::Ended(CloseReason::ProtocolViolation),
        Some(Err(_)) | None => Heard::Ended(CloseReason::PeerVanished),
    }
}

/// Serves one socket from its upgrade to its end.
pub(crate) async fn serve<S>(task: Arc<Task>, io: S, visitor: Visitor, permit: Permit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let busy = task.busy();
    let mut door = Door { clock: Clock::set_now(), permit: Some(permit), bus_no: None, task };
    let mut socket = socket::server(io, door.task.limits.init_bytes_max);
    match door.open(&mut socket, &visitor).await {
        Ok(live) => {
            let task = door.task.clone();
            // Its own task: what the handshake needed is given back before the first frame.
            tokio::spawn(async move {
                live.run(socket).await;
                drop(busy);
            });
            debug!(task = task.name, "a handshake is done");
        }
        Err(Refusal::Fault(fault)) => {
            let close = (wire::refusal_code(fault.kind), fault.public.as_ref());
            door.refuse(socket, &visitor, &fault, close).await;
        }
        Err(Refusal::Gone(CloseReason::ProtocolViolation)) => {
            let fault = Fault::new(Kind::BadInput, wire::PROTOCOL_VIOLATION.1);
            door.refuse(socket, &visitor, &fault, wire::PROTOCOL_VIOLATION).await;
        }
        Err(Refusal::Gone(reason)) => {
            door.task.metrics.gone();
            info!(peer = %visitor.address, reason = reason.label(), "a socket went before its handshake");
        }
    }
}

enum Refusal {
    /// There is something to say.
    Fault(Fault),
    /// There is nobody to say it to.
    Gone(CloseReason),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

struct Door {
    task: Arc<Task>,
    clock: Clock,
    permit: Option<Permit>,
    bus_no: Option<u64>,
}

impl Door {
    async fn open<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        socket: &mut WebSocketStream<S>,
        visitor: &Visitor,
    ) -> Result<Live, Refusal> {
        let now_us = self.clock.now_us();
        let timeline = Timeline::new(self.task.timeline);
        let mut machine = Stream::new(self.task.limits.patience(), timeline, now_us);
        let frame = self.init_frame(&mut machine, socket).await?;
        let complete = Instant::now();
        // Boxed: what only a judgement needs must not weigh on every handshake.
        let init = Box::pin(self.judge(&frame, visitor)).await.inspect_err(|fault| {
            // The move is legal in this state; the fault says the same with its text.
            let _ = machine.step(now_us, Event::Refused(fault.kind));
        })?;
        drop(frame);
        let opened = self.claim(&init).await?;
        machine.step(self.clock.now_us(), Event::Accepted).map_err(|_| Fault::new(Kind::Internal, "internal error"))?;
        let contact = opened.wanted.contact;
        let end = self
            .task
            .contacts
            .open(contact, &opened.wanted.perspective, opened.wanted.stream, opened.generation, self.clock.now_us())
            .map_err(|_| Fault::new(Kind::Superseded, SUPERSEDED))?;
        // A drain that began meanwhile has told those who were live then; this one tells itself.
        if *self.task.draining.borrow() {
            self.task.contacts.end(opened.wanted.stream, CloseReason::Drained);
        }
        socket.limits_mut().set_max_payload_len(Some(self.task.limits.frame_bytes_max));
        // A peer that takes nothing must not hold its place for ever.
        let answer = socket.send(tokio_websockets::Message::text(CONNECTED));
        let answered = matches!(tokio::time::timeout(self.task.limits.farewell, answer).await, Ok(Ok(())));
        self.task.metrics.ack_seconds.observe(complete.elapsed().as_secs_f64());
        self.note_opened(&init, &opened, complete.elapsed());
        let Some(permit) = self.permit.take() else {
            return Err(Fault::new(Kind::Internal, "internal error").into());
        };
        let hold = Hold { end, permit, answered };
        Ok(Live::begin(self.task.clone(), self.clock, machine, opened, &init, hold))
    }

    /// Waits for the init frame, for the deadline, or for the drain: whichever comes first.
    async fn init_frame<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        machine: &mut Stream,
        socket: &mut WebSocketStream<S>,
    ) -> Result<Payload, Refusal> {
        let mut draining = self.task.draining.subscribe();
        let mut pulse = Pulse::new(&self.task.limits, self.clock.now_us());
        loop {
            let wake = self.clock.instant(machine.wake_us().unwrap_or_default());
            let (event, frame) = tokio::select! {
                biased;
                next = socket.next() => match heard(next) {
                    Heard::Text(payload) => (Event::Text, Some(payload)),
                    Heard::Audio(payload) => (Event::Audio(u32::try_from(payload.len()).unwrap_or(u32::MAX)), None),
                    Heard::SignOfLife if pulse.is_flood(self.clock.now_us()) => {
                        (Event::Ended(CloseReason::ProtocolViolation), None)
                    }
                    Heard::SignOfLife => (Event::SignOfLife, None),
                    Heard::TooLarge => (Event::Refused(Kind::TooLarge), None),
                    Heard::Ended(reason) => (Event::Ended(reason), None),
                },
                () = tokio::time::sleep_until(wake.into()) => (Event::Tick, None),
                _ = draining.wait_for(|draining| *draining) => (Event::Drain, None),
            };
            match (machine.step(self.clock.now_us(), event), frame) {
                (Ok(Effect::Judge), Some(frame)) => return Ok(frame),
                (Ok(Effect::Refuse(kind)), _) => return Err(self.refusal(kind).into()),
                (Ok(Effect::Close(reason)), _) => return Err(Refusal::Gone(reason)),
                (Ok(_), _) => {}
                (Err(_), _) => return Err(Fault::new(Kind::Internal, "internal error").into()),
            }
        }
    }

    fn refusal(&self, kind: Kind) -> Fault {
        let limits = &self.task.limits;
        match kind {
            Kind::Unsupported => Fault::new(kind, "the first frame must be text: the init message"),
            Kind::TooLate => {
                let seconds = limits.init_deadline.as_secs_f64();
                Fault::new(kind, format!("no complete init message came within {seconds} s"))
            }
            Kind::TooLarge => {
                Fault::new(kind, format!("the init message is larger than {} bytes", limits.init_bytes_max))
            }
            Kind::Draining => Fault::new(kind, "this task is going away; connect again"),
            _ => Fault::new(kind, "internal error"),
        }
    }

    /// Language, token, place of the business unit.
    async fn judge(&mut self, frame: &[u8], visitor: &Visitor) -> Result<InitMessage, Fault> {
        let init = InitMessage::parse(frame)?;
        let contact = init.execution_info.contact;
        self.bus_no = Some(contact.bus_no);
        let in_message = self.task.tokens.sources.contains(&TokenSource::Init);
        let from_message = init.authentication_token.iter().filter(|_| in_message);
        let presented: Vec<&str> = from_message.chain(&visitor.presented).map(Secret::reveal).collect();
        tokens::admit(&self.task, &presented, contact).await?;
        match &mut self.permit {
            Some(permit) => permit.enter_business_unit(contact.bus_no)?,
            None => return Err(Fault::new(Kind::Internal, "internal error")),
        }
        Ok(init)
    }

    /// One conditional write, waited for only so long.
    async fn claim(&self, init: &InitMessage) -> Result<Opened, Fault> {
        let wanted = Wanted {
            contact: init.execution_info.contact,
            perspective: init.perspective.clone(),
            stream: StreamId::new(),
            opened_us: self.clock.now_us(),
        };
        let mut claim = claim::begin(self.task.clone(), wanted.clone());
        let (generation, claim) = match tokio::time::timeout(self.task.limits.store_deadline, &mut claim).await {
            Ok(Ok(Outcome::Won(generation))) => (Some(generation), None),
            Ok(Ok(Outcome::Superseded)) => return Err(Fault::new(Kind::Superseded, SUPERSEDED)),
            // The store is away: the call goes on without it, and the claim is begun again later.
            Ok(Ok(Outcome::GaveUp) | Err(_)) => (None, None),
            Err(_) => (None, Some(claim)),
        };
        Ok(Opened { wanted, generation, claim })
    }

    fn note_opened(&self, init: &InitMessage, opened: &Opened, took: Duration) {
        let metrics = &self.task.metrics;
        metrics.opens.inc();
        if opened.generation.is_none() {
            metrics.degraded.inc();
        }
        let unknown_fields = init.unknown_fields();
        metrics.unknown_fields.inc_by(unknown_fields);
        if matches!(init.perspective, Perspective::Unknown(_)) {
            metrics.unknown_perspectives.inc();
        }
        info!(
            contact = %opened.wanted.contact,
            stream = %opened.wanted.stream,
            perspective = init.perspective.label(),
            generation = opened.generation,
            degraded = opened.generation.is_none(),
            ack_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            unknown_fields,
            "stream opened"
        );
    }

    /// `ERROR`, the close code, and — after a wrong token — a pause before both.
    async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
        mut self,
        socket: WebSocketStream<S>,
        visitor: &Visitor,
        fault: &Fault,
        close: (u16, &str),
    ) {
        // The place is given back before the pause: failures must not take room from good calls.
        drop(self.permit.take());
        self.task.metrics.refused(fault.kind);
        info!(peer = %visitor.address, bus_no = self.bus_no, kind = fault.kind.label(), reason = %fault.public, "refused");
        if fault.kind == Kind::Unauthorized {
            self.task.penalize(Who::new(visitor.address, self.bus_no)).await;
        }
        let answer = Message::error(fault).to_json();
        socket::farewell(socket.into_inner(), Some(&answer), close, self.task.limits.farewell).await;
    }
}

const SUPERSEDED: &str = "a newer handshake holds this perspective of the contact";
