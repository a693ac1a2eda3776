//! One of the three sockets, from its upgrade to its end: authorisation, frames in both directions, faults.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use earpiece_core::secret::Secret;
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_websockets::{CloseCode, Limits, Message, ServerBuilder, WebSocketStream};

use super::Uplink;
use super::check::{self, ACTIVE_MAX, Suggest};
use super::faults::FaultKind;
use super::received::{Arrival, Kind, Note, Received};
use super::serve::Admitted;
use super::shared::{Inbox, Outgoing, Said, Shared, now_ms};
use super::tokens::Refused;
use crate::stop::told_to_stop;

/// Bound on the bytes behind the upgrade becoming ours.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a suggestion socket may take to send its `auth` frame.
const AUTH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a socket stays deaf at most: no client should wait as long.
const DEAF_MAX: Duration = Duration::from_mins(5);

/// Largest message taken.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Answers of agents that think about suggestions of one socket at one time; further ones are given at once.
const THINKING_MAX: usize = 10_000;

/// A connection that ended without a close frame (RFC 6455 §7.4.1).
const ABNORMAL: u16 = 1006;

type Socket = WebSocketStream<TcpStream>;

/// How a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is gone: the code of the client's close frame, or [`ABNORMAL`].
    Gone(u16),
    /// With a close frame.
    Close(CloseCode, &'static str),
    /// `auth.failure` first, where that exists, then 1008.
    Unauthorised(&'static str),
    /// The connection is reset.
    Abort,
    /// It stays open and does nothing.
    Deaf,
}

/// A frame that is to be overtaken by the next one, or to be sent at this time.
struct Held {
    frame: Bytes,
    until: Instant,
}

/// What came on a socket.
enum Heard {
    Text(String),
    Binary,
}

struct Conversation {
    shared: Arc<Shared>,
    socket: Socket,
    connection: u64,
    uplink: Uplink,
    token: Option<Secret>,
    inbox: Inbox,
    held: Option<Held>,
    /// Answers that agents are still thinking about.
    thinking: VecDeque<(Instant, Said)>,
    /// Shut in the direction to the client: it is heard, and gets nothing.
    mute: bool,
}

pub(super) async fn converse(shared: Arc<Shared>, admitted: Admitted) {
    let Admitted { connection, uplink, token, upgrade } = admitted;
    let Ok(Ok(upgraded)) = timeout(UPGRADE_TIMEOUT, upgrade).await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
    if !parts.read_buf.is_empty() {
        shared.violation(connection, uplink.label(), None, "frames were sent before the upgrade was answered");
        return;
    }
    let limits = Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX));
    let socket = ServerBuilder::new().limits(limits).serve(parts.io.into_inner());
    let inbox = shared.take_seat(connection, uplink);
    let conversation = Conversation {
        shared,
        socket,
        connection,
        uplink,
        token,
        inbox,
        held: None,
        thinking: VecDeque::new(),
        mute: false,
    };
    conversation.run().await;
}

impl Conversation {
    async fn run(mut self) {
        let begun = if self.uplink == Uplink::Suggestions { self.authorise().await } else { Ok(()) };
        let end = match begun {
            Ok(()) => self.talk().await,
            Err(end) => end,
        };
        // Nobody is to wait for what this socket will not say any more.
        self.shared.leave_seat(self.connection);
        self.keep_unsaid();
        let code = match end {
            End::Gone(code) => code,
            End::Close(code, _) => code.into(),
            End::Unauthorised(_) => CloseCode::POLICY_VIOLATION.into(),
            End::Abort | End::Deaf => ABNORMAL,
        };
        let note = Note { id: Some(self.uplink.label()), status: code, ..Note::default() };
        self.shared.record(Kind::Closed, self.connection, &note);
        self.finish(end).await;
    }

    /// Hands on what agents wanted to say here.
    fn keep_unsaid(&mut self) {
        // Nothing may slip in behind what is taken out here.
        self.inbox.frames.close();
        let thought = self.thinking.drain(..).map(|(_, said)| said);
        let outgoing = std::iter::from_fn(|| self.inbox.frames.try_recv().ok());
        let said = outgoing.filter_map(|outgoing| match outgoing {
            Outgoing::Said(said) => Some(said),
            Outgoing::Frame(_) => None,
        });
        self.shared.keep_unsaid(thought.chain(said));
    }

    /// Reads the `auth` frame and judges its token. Nothing else may come before `auth.success` is on its way.
    async fn authorise(&mut self) -> Result<(), End> {
        let first = timeout(AUTH_TIMEOUT, self.hear()).await.map_err(|_| End::Abort)??;
        let frame: Value = match &first {
            Heard::Text(text) => serde_json::from_str(text).unwrap_or_default(),
            Heard::Binary => Value::Null,
        };
        let Ok(token) = check::auth(&frame) else {
            self.violation(None, "the first frame must be an auth frame");
            return Err(End::Abort);
        };
        let token = Secret::new(token);
        tokio::select! {
            () = sleep(self.shared.settings.auth_pause) => {}
            early = self.hear() => {
                early?;
                self.violation(None, "a frame was sent before auth.success");
                return Err(End::Abort);
            }
        }
        let fault = self.shared.take_fault(self.uplink.into(), |kind| kind == FaultKind::AuthFailure);
        let refused = self.shared.judge(Some(token.reveal()), self.uplink.scopes()).err();
        let status = if fault.is_some() { 401 } else { refused.map_or(200, Refused::status) };
        let note = Note { status, ..Note::default() };
        self.shared.record(Kind::Auth, self.connection, &note);
        match status {
            200 => {}
            403 => return Err(End::Unauthorised("the token lacks the scope agentassist:write")),
            _ => return Err(End::Unauthorised("the token is not valid")),
        }
        self.token = Some(token);
        self.write(Message::text(r#"{"type":"auth.success"}"#)).await
    }

    /// Until the socket's end.
    async fn talk(&mut self) -> End {
        self.shared.ready_seat(self.connection);
        let end = match self.begin().await {
            Ok(()) => self.go_on().await,
            Err(end) => Err(end),
        };
        end.err().unwrap_or(End::Gone(ABNORMAL))
    }

    async fn begin(&mut self) -> Result<(), End> {
        if let Some(fault) = self.shared.take_fault(self.uplink.into(), FaultKind::ends_a_socket) {
            self.strike(fault.kind).await?;
        }
        if self.uplink == Uplink::Suggestions {
            // All of it is due at once, and what this socket cannot say any more the next one will.
            let now = Instant::now();
            self.thinking.extend(self.shared.take_unsaid().into_iter().map(|said| (now, said)));
        }
        Ok(())
    }

    async fn go_on(&mut self) -> Result<(), End> {
        let mut stop = self.shared.stop.subscribe();
        loop {
            let wake = self.wake_at();
            tokio::select! {
                biased;
                () = told_to_stop(&mut stop) => return Err(End::Close(CloseCode::GOING_AWAY, "the platform goes away")),
                Some(kind) = self.inbox.strikes.recv() => self.strike(kind).await?,
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.wake().await?,
                Some(outgoing) = self.inbox.frames.recv() => match outgoing {
                    Outgoing::Frame(frame) => self.say(frame).await?,
                    Outgoing::Said(said) => self.answer(said).await?,
                },
                heard = hear(&mut self.socket) => self.on(heard?).await?,
            }
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let held = self.held.as_ref().map(|held| held.until);
        let thought = self.thinking.front().map(|&(due, _)| due);
        [held, thought].into_iter().flatten().min()
    }

    async fn wake(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if let Some(held) = self.held.take_if(|held| held.until <= now) {
            self.write(text(held.frame)).await?;
        }
        while let Some((_, said)) = self.thinking.pop_front_if(|(due, _)| *due <= now) {
            self.answer(said).await?;
        }
        Ok(())
    }

    async fn strike(&mut self, kind: FaultKind) -> Result<(), End> {
        match kind {
            FaultKind::Close1011 => Err(End::Close(CloseCode::INTERNAL_SERVER_ERROR, "on purpose")),
            FaultKind::Abort => Err(End::Abort),
            FaultKind::Deaf => Err(End::Deaf),
            FaultKind::Revoke => {
                if let Some(token) = &self.token {
                    self.shared.tokens().revoke(token.reveal());
                }
                Err(End::Unauthorised("the token was revoked"))
            }
            FaultKind::HalfClose => {
                // Failing means that the connection is gone, which reading on will show.
                let _ = self.socket.get_mut().shutdown().await;
                self.mute = true;
                self.shared.leave_seat(self.connection);
                self.keep_unsaid();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn on(&mut self, heard: Heard) -> Result<(), End> {
        match heard {
            Heard::Text(frame) if self.uplink == Uplink::Suggestions => self.on_suggestion(&frame).await,
            Heard::Text(_) => {
                self.violation(None, "nothing is to be sent on this stream");
                Ok(())
            }
            Heard::Binary => {
                self.violation(None, "frames must be text");
                Ok(())
            }
        }
    }

    async fn on_suggestion(&mut self, frame: &str) -> Result<(), End> {
        let value: Value = serde_json::from_str(frame).unwrap_or_default();
        let suggest = match check::suggest(&value) {
            Ok(suggest) => suggest,
            Err(reason) => {
                let (interaction, id) = (value["interactionId"].as_str(), value["suggestion"]["id"].as_str());
                let note = Note { interaction, id, status: 400, body: frame };
                self.shared.record(Kind::Suggest, self.connection, &note);
                self.violation(interaction, &reason);
                return Ok(());
            }
        };
        let arrival = self.note_arrival(&suggest, frame);
        if arrival.active > ACTIVE_MAX {
            self.violation(Some(suggest.interaction), "more than 5 suggestions are active");
            return Ok(());
        }
        let policy = self.shared.policy().clone();
        if !policy.never_ack {
            let ack = json!({
                "type": "agentassist.ack", "interactionId": suggest.interaction, "suggestionId": suggest.id,
                "sentTimestamp": suggest.injected_ms,
            });
            self.say(ack.to_string().into()).await?;
        }
        // One that comes again after its answer was sent into the void gets the same answer.
        let answer = arrival.answer.or_else(|| policy.answer_to(arrival.nth?));
        let Some(answer) = answer else { return Ok(()) };
        let said = Said { interaction: suggest.interaction.into(), suggestion: suggest.id.into(), answer };
        let is_thought_about = policy.after_ms > 0 && arrival.answer.is_none() && self.thinking.len() < THINKING_MAX;
        if !is_thought_about {
            return self.answer(said).await;
        }
        let due = Instant::now() + Duration::from_millis(policy.after_ms);
        // A policy may have changed to quicker answers meanwhile.
        let place = self.thinking.partition_point(|&(other, _)| other <= due);
        self.thinking.insert(place, (due, said));
        Ok(())
    }

    fn note_arrival(&self, suggest: &Suggest<'_>, frame: &str) -> Arrival {
        let at_ms = now_ms();
        self.shared.change(|received| {
            let arrival = received.suggestion_came(suggest.interaction, suggest.id, suggest.ends_ms, at_ms);
            let status = if arrival.active > ACTIVE_MAX { 409 } else { 200 };
            let note = Note { interaction: Some(suggest.interaction), id: Some(suggest.id), status, body: frame };
            received.record(Kind::Suggest, self.connection, at_ms, &note);
            arrival
        })
    }

    async fn answer(&mut self, mut said: Said) -> Result<(), End> {
        let noted =
            |received: &mut Received| received.suggestion_answered(&said.interaction, &said.suggestion, said.answer);
        if let Some((stands, _)) = self.shared.change(noted) {
            said.answer = stands;
        }
        if self.mute {
            self.shared.keep_unsaid([said]);
            return Ok(());
        }
        if let Err(end) = self.say(said.frame()).await {
            self.shared.keep_unsaid([said]);
            return Err(end);
        }
        Ok(())
    }

    /// Sends a frame, bent by the fault that waits for one.
    async fn say(&mut self, frame: Bytes) -> Result<(), End> {
        let fault = self.shared.take_fault(self.uplink.into(), FaultKind::bends_frames);
        let Some(fault) = fault else {
            self.write(text(frame)).await?;
            return self.release().await;
        };
        match fault.kind {
            FaultKind::Reorder => {
                // One that is held already has been overtaken enough.
                self.release().await?;
                self.held = Some(Held { frame, until: Instant::now() + fault.reorder_wait() });
                return Ok(());
            }
            FaultKind::Slow => sleep(fault.slowness()).await,
            _ => self.write(text(frame.clone())).await?,
        }
        self.write(text(frame)).await?;
        self.release().await
    }

    async fn release(&mut self) -> Result<(), End> {
        match self.held.take() {
            Some(held) => self.write(text(held.frame)).await,
            None => Ok(()),
        }
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        if self.mute {
            return Ok(());
        }
        self.socket.send(message).await.map_err(|_| End::Gone(ABNORMAL))
    }

    async fn hear(&mut self) -> Result<Heard, End> {
        hear(&mut self.socket).await
    }

    fn violation(&self, interaction: Option<&str>, reason: &str) {
        self.shared.violation(self.connection, self.uplink.label(), interaction, reason);
    }

    async fn finish(mut self, end: End) {
        match end {
            // One more read answers the client's close frame.
            End::Gone(_) => {
                let _ = timeout(CLOSE_TIMEOUT, self.socket.next()).await;
            }
            End::Close(code, reason) => self.close(code, reason).await,
            End::Unauthorised(reason) => {
                if self.uplink == Uplink::Suggestions {
                    let failure = json!({ "type": "auth.failure", "message": reason }).to_string();
                    let _ = self.write(Message::text(failure)).await;
                }
                self.close(CloseCode::POLICY_VIOLATION, reason).await;
            }
            End::Abort => {
                // Failing means that the connection is gone already.
                let _ = self.socket.get_ref().set_zero_linger();
            }
            End::Deaf => {
                let mut stop = self.shared.stop.subscribe();
                tokio::select! {
                    () = sleep(DEAF_MAX) => {}
                    () = told_to_stop(&mut stop) => {}
                }
            }
        }
    }

    /// Closes, and waits a little for the client's own close frame. What comes meanwhile is not taken any more.
    async fn close(&mut self, code: CloseCode, reason: &str) {
        if self.mute || self.socket.send(Message::close(Some(code), reason)).await.is_err() {
            return;
        }
        let leaving = async {
            while let Some(Ok(message)) = self.socket.next().await {
                let Some(frame) = message.as_text().filter(|_| self.uplink == Uplink::Suggestions) else { continue };
                let value: Value = serde_json::from_str(frame).unwrap_or_default();
                let (interaction, id) = (value["interactionId"].as_str(), value["suggestion"]["id"].as_str());
                let note = Note { interaction, id, status: 410, body: frame };
                self.shared.record(Kind::Suggest, self.connection, &note);
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, leaving).await;
    }
}

fn text(frame: Bytes) -> Message {
    Message::text(frame)
}

/// The next frame with something in it. Reading on is what answers pings and close frames. Loses nothing when dropped.
async fn hear(socket: &mut Socket) -> Result<Heard, End> {
    while let Some(Ok(message)) = socket.next().await {
        if let Some((code, _)) = message.as_close() {
            return Err(End::Gone(code.into()));
        }
        if let Some(text) = message.as_text() {
            return Ok(Heard::Text(text.to_owned()));
        }
        if message.is_binary() {
            return Ok(Heard::Binary);
        }
    }
    Err(End::Gone(ABNORMAL))
}
