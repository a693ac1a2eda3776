//! Peers that misbehave, one connection each: what an endpoint must survive while good calls go on.
//!
//! A peer here never answers a ping. Every one of them ends within the time it is given.

use std::io;
use std::time::Duration;

use earpiece_core::audio::ulaw;
use earpiece_core::contact::ContactKey;
use earpiece_core::secret::Secret;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::dial::{Endpoint, Stream, is_connected, micros};
use crate::init::{InitShape, Params};
use crate::leg::reset_on_drop;
use crate::plan::PlanError;
use crate::wire::{Frames, ServerFrame, UpgradeError, opcode, push_fragment, push_frame, read_frame, upgrade};

/// Size of what is sent where too much is sent.
pub const HUGE_BYTES: usize = 1024 * 1024;

/// A slow peer sends one byte in this time.
pub const DRIBBLE: Duration = Duration::from_millis(50);

const FRAME: Duration = Duration::from_millis(20);
const FRAME_BYTES: usize = 160;
const MASK: [u8; 4] = [0x1D, 0xA7, 0x52, 0xC4];

/// One way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Misbehaviour {
    /// The init message is cut off in the middle.
    BadJson,
    /// The first frame is audio.
    BinaryFirst,
    /// The first frame is an empty text frame.
    EmptyFrame,
    /// The init message has [`HUGE_BYTES`] of parameters.
    InitTooLarge,
    /// The init message comes one byte at a time, one in [`DRIBBLE`].
    SlowInit,
    /// No init message; a ping every second shows that it is alive.
    NoInit,
    /// The token is wrong.
    WrongToken,
    /// `executionInfo` has no `contactId`.
    MissingContactId,
    /// `contactId` is −1.
    NegativeContactId,
    /// The HTTP request never ends.
    HalfRequest,
    /// Upgrades, then neither reads nor writes.
    HalfOpen,
    /// Streams for a second, then neither reads nor writes: pings stay without answer.
    Deaf,
    /// A text frame where audio belongs.
    TextAfterInit,
    /// A binary frame of [`HUGE_BYTES`] where audio belongs.
    HugeFrame,
    /// The init message in many fragments with a ping between them. Legal: the call must be accepted.
    FragmentedInit,
    /// Closes with 1000 instead of an init message.
    CloseAtOnce,
    /// Resets the connection instead of an init message.
    RstAtOnce,
    /// Streams and reads nothing for three quarters of its time. Legal: the call must be accepted.
    SlowReader,
}

impl Misbehaviour {
    /// Every one.
    pub const ALL: [Self; 18] = [
        Self::BadJson,
        Self::BinaryFirst,
        Self::EmptyFrame,
        Self::InitTooLarge,
        Self::SlowInit,
        Self::NoInit,
        Self::WrongToken,
        Self::MissingContactId,
        Self::NegativeContactId,
        Self::HalfRequest,
        Self::HalfOpen,
        Self::Deaf,
        Self::TextAfterInit,
        Self::HugeFrame,
        Self::FragmentedInit,
        Self::CloseAtOnce,
        Self::RstAtOnce,
        Self::SlowReader,
    ];

    /// Whether it is odd but legal, so that the call must be accepted and lose nothing.
    #[must_use]
    pub const fn is_legal(self) -> bool {
        matches!(self, Self::FragmentedInit | Self::SlowReader)
    }

    /// Whether an endpoint can only end it by a deadline: the init message's or the HTTP request's, or (for
    /// [`Misbehaviour::Deaf`]) that of an unanswered ping.
    #[must_use]
    pub const fn ends_by_deadline(self) -> bool {
        matches!(self, Self::SlowInit | Self::NoInit | Self::HalfRequest | Self::HalfOpen | Self::Deaf)
    }
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The first text frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The code of the server's close frame; 1005 when it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<u16>,
    /// How the connection ended.
    pub end: End,
    /// From dialling to the end, in microseconds.
    pub after_us: u64,
}

impl Outcome {
    /// Whether the server said `CONNECTED`.
    #[must_use]
    pub fn was_connected(&self) -> bool {
        self.answer.as_deref().is_some_and(|answer| is_connected(answer.as_bytes()))
    }
}

/// How a misbehaving peer's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With a close frame from the server.
    Closed,
    /// The server ended the TCP stream without one.
    Eof,
    /// The connection broke.
    Broken,
    /// The peer reset it, as it had in mind.
    Reset,
    /// The server did not end it in the time given.
    StillOpen,
    /// The upgrade was answered with another HTTP status than 101.
    NotUpgraded(u16),
    /// Nobody listens.
    Unreachable,
}

/// Misbehaves once, for at most `within`.
///
/// # Errors
///
/// When `url` is no `ws://` or `wss://` URL. Whatever the endpoint does is an [`Outcome`].
pub async fn misbehave(
    url: &str,
    kind: Misbehaviour,
    token: Option<&Secret>,
    contact: ContactKey,
    within: Duration,
) -> Result<Outcome, PlanError> {
    let endpoint = Endpoint::new(url)?;
    let begun = Instant::now();
    let mut heard = Answers::default();
    let peer = Peer { kind, init: init(kind, token, contact), within };
    let end = timeout_at(begun + within, peer.meet(&endpoint, &mut heard)).await.unwrap_or(End::StillOpen);
    Ok(Outcome { answer: heard.answer, close: heard.close, end, after_us: micros(begun.elapsed()) })
}

/// The init message that this peer would send.
fn init(kind: Misbehaviour, token: Option<&Secret>, contact: ContactKey) -> Vec<u8> {
    let mut shape = InitShape::default();
    if kind == Misbehaviour::InitTooLarge {
        shape.app_params = Params::Object(json!({ "padding": "x".repeat(HUGE_BYTES) }));
    }
    let wrong = Secret::new("no-such-token");
    let token = if kind == Misbehaviour::WrongToken { Some(&wrong) } else { token };
    let message = shape.message(contact, token, &json!("TX"));
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut value = serde_json::from_slice(&message).unwrap_or_default();
        edit(&mut value);
        value.to_string().into_bytes()
    };
    match kind {
        Misbehaviour::BadJson => message[..message.len() / 2].to_vec(),
        Misbehaviour::EmptyFrame => Vec::new(),
        Misbehaviour::NegativeContactId => edited(&|message| message["executionInfo"]["contactId"] = json!(-1)),
        Misbehaviour::MissingContactId => edited(&|message| {
            if let Some(info) = message["executionInfo"].as_object_mut() {
                info.remove("contactId");
            }
        }),
        _ => message.to_vec(),
    }
}

#[derive(Default)]
struct Answers {
    answer: Option<String>,
    close: Option<u16>,
}

/// What the listening half tells the acting half.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answered {
    NotYet,
    Connected,
    Otherwise,
}

struct Peer {
    kind: Misbehaviour,
    init: Vec<u8>,
    within: Duration,
}

impl Peer {
    async fn meet(&self, endpoint: &Endpoint, heard: &mut Answers) -> End {
        let Ok(mut stream) = endpoint.connect().await else { return End::Unreachable };
        if self.kind == Misbehaviour::HalfRequest {
            // A server that has had enough may answer with a status before it ends this; that is read over.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: half\r\nUpgr").await;
            return wait_for_end(&mut stream).await;
        }
        let frames = match upgrade(&mut stream, endpoint).await {
            Ok(frames) => frames,
            Err(UpgradeError::Status(status)) => return End::NotUpgraded(status),
            Err(UpgradeError::Nonsense | UpgradeError::Io(_)) => return End::Broken,
        };
        if self.kind == Misbehaviour::RstAtOnce {
            reset_on_drop(&stream);
            return End::Reset;
        }
        let (answered, news) = watch::channel(Answered::NotYet);
        let (reader, mut writer) = tokio::io::split(stream);
        let acting = async {
            // The server may end the connection at any moment of this: then there is nothing left to do.
            let _ = self.act(&mut writer, news).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = self.listen(reader, frames, &answered, heard) => end,
            () = acting => End::StillOpen,
        }
    }

    async fn listen(
        &self,
        mut reader: ReadHalf<Stream>,
        mut frames: Frames,
        answered: &watch::Sender<Answered>,
        heard: &mut Answers,
    ) -> End {
        if self.kind == Misbehaviour::SlowReader {
            sleep(self.slow_time()).await;
        }
        loop {
            match read_frame(&mut reader, &mut frames).await {
                Ok(Some(frame)) => {
                    if frame.opcode == opcode::TEXT && heard.answer.is_none() {
                        let connected = note_answer(&frame, heard);
                        answered.send_replace(if connected { Answered::Connected } else { Answered::Otherwise });
                    }
                    if let Some(code) = frame.close_code() {
                        heard.close = Some(code);
                        return End::Closed;
                    }
                }
                Ok(None) => return End::Eof,
                Err(_) => return End::Broken,
            }
        }
    }

    async fn act(&self, writer: &mut WriteHalf<Stream>, news: watch::Receiver<Answered>) -> io::Result<()> {
        match self.kind {
            Misbehaviour::BinaryFirst => send(writer, opcode::BINARY, &self.init).await?,
            Misbehaviour::SlowInit => return self.dribble(writer).await,
            Misbehaviour::NoInit => loop {
                sleep(Duration::from_secs(1)).await;
                send(writer, opcode::PING, b"").await?;
            },
            Misbehaviour::HalfOpen => return Ok(()),
            Misbehaviour::FragmentedInit => self.fragments(writer).await?,
            Misbehaviour::CloseAtOnce => return close(writer).await,
            Misbehaviour::SlowReader => {
                send(writer, opcode::TEXT, &self.init).await?;
                speak(writer, self.slow_time()).await?;
                return close(writer).await;
            }
            _ => send(writer, opcode::TEXT, &self.init).await?,
        }
        if !was_connected(news).await {
            return Ok(());
        }
        match self.kind {
            Misbehaviour::Deaf => return speak(writer, Duration::from_secs(1)).await,
            Misbehaviour::TextAfterInit => return send(writer, opcode::TEXT, b"{\"hello\":true}").await,
            Misbehaviour::HugeFrame => return send(writer, opcode::BINARY, &vec![ulaw::SILENCE; HUGE_BYTES]).await,
            _ => speak(writer, FRAME * 5).await?,
        }
        close(writer).await
    }

    async fn dribble(&self, writer: &mut WriteHalf<Stream>) -> io::Result<()> {
        let mut frame = Vec::new();
        push_frame(&mut frame, opcode::TEXT, MASK, &self.init);
        for byte in frame {
            writer.write_all(&[byte]).await?;
            writer.flush().await?;
            sleep(DRIBBLE).await;
        }
        Ok(())
    }

    async fn fragments(&self, writer: &mut WriteHalf<Stream>) -> io::Result<()> {
        const FRAGMENT_BYTES: usize = 50;
        let mut bytes = Vec::new();
        let last = self.init.chunks(FRAGMENT_BYTES).len().saturating_sub(1);
        for (index, part) in self.init.chunks(FRAGMENT_BYTES).enumerate() {
            let opcode = if index == 0 { opcode::TEXT } else { opcode::CONTINUATION };
            push_fragment(&mut bytes, opcode, index == last, MASK, part);
            if index == 1 {
                push_frame(&mut bytes, opcode::PING, MASK, b"between");
            }
        }
        writer.write_all(&bytes).await?;
        writer.flush().await
    }

    fn slow_time(&self) -> Duration {
        self.within.mul_f64(0.75)
    }
}

fn note_answer(frame: &ServerFrame, heard: &mut Answers) -> bool {
    heard.answer = Some(String::from_utf8_lossy(&frame.payload).into_owned());
    is_connected(&frame.payload)
}

async fn was_connected(mut news: watch::Receiver<Answered>) -> bool {
    news.wait_for(|answered| *answered != Answered::NotYet).await.is_ok_and(|news| *news == Answered::Connected)
}

async fn send(writer: &mut WriteHalf<Stream>, opcode: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = Vec::new();
    push_frame(&mut frame, opcode, MASK, payload);
    writer.write_all(&frame).await?;
    writer.flush().await
}

async fn close(writer: &mut WriteHalf<Stream>) -> io::Result<()> {
    send(writer, opcode::CLOSE, &1000_u16.to_be_bytes()).await
}

/// Sends silence at the pace of a call.
async fn speak(writer: &mut WriteHalf<Stream>, time: Duration) -> io::Result<()> {
    let begun = Instant::now();
    let mut due = begun;
    while due < begun + time {
        tokio::time::sleep_until(due).await;
        send(writer, opcode::BINARY, &[ulaw::SILENCE; FRAME_BYTES]).await?;
        due += FRAME;
    }
    Ok(())
}

/// Reads whatever comes until the server ends the stream.
async fn wait_for_end(stream: &mut Stream) -> End {
    match tokio::io::copy(stream, &mut tokio::io::sink()).await {
        Ok(_) => End::Eof,
        Err(_) => End::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Endpoint as Server, Manner};

    const CONTACT: ContactKey = ContactKey { bus_no: 1, contact_id: 2 };
    const LONG: Duration = Duration::from_secs(90);

    async fn meet(server: &Server, kind: Misbehaviour) -> Outcome {
        misbehave(&server.url, kind, None, CONTACT, LONG).await.unwrap()
    }

    #[test]
    fn each_init_message_is_wrong_in_its_own_way_only() {
        let parse = |kind| serde_json::from_slice::<Value>(&init(kind, Some(&Secret::new("right")), CONTACT));
        assert!(parse(Misbehaviour::BadJson).is_err() && parse(Misbehaviour::EmptyFrame).is_err());
        let missing = parse(Misbehaviour::MissingContactId).unwrap();
        assert!(missing["executionInfo"]["contactId"].is_null() && missing["executionInfo"]["busNo"] == 1);
        assert_eq!(parse(Misbehaviour::NegativeContactId).unwrap()["executionInfo"]["contactId"], -1);
        assert_ne!(parse(Misbehaviour::WrongToken).unwrap()["authenticationToken"], "right");
        assert!(init(Misbehaviour::InitTooLarge, None, CONTACT).len() > HUGE_BYTES);
        assert_eq!(parse(Misbehaviour::Deaf).unwrap()["authenticationToken"], "right");
    }

    #[tokio::test(start_paused = true)]
    async fn legal_oddities_are_accepted_by_a_proper_endpoint() {
        for kind in Misbehaviour::ALL.into_iter().filter(|kind| kind.is_legal()) {
            let server = Server::start(&[Manner::Listen]).await;
            let outcome = meet(&server, kind).await;
            assert!(outcome.was_connected(), "{kind:?}: {outcome:?}");
            assert_eq!((outcome.close, outcome.end), (Some(1000), End::Closed), "{kind:?}");
            let heard = &server.over(1).await[0];
            assert!(heard.frames.len() >= 5 && heard.close == Some(1000), "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_nobody_ends_ends_in_its_time() {
        for kind in Misbehaviour::ALL.into_iter().filter(|kind| kind.ends_by_deadline()) {
            let server = Server::start(&[Manner::Listen]).await;
            let begun = Instant::now();
            let within = Duration::from_secs(3);
            let outcome = misbehave(&server.url, kind, None, CONTACT, within).await.unwrap();
            assert_eq!(outcome.end, End::StillOpen, "{kind:?}: {outcome:?}");
            assert_eq!(outcome.after_us, 3_000_000, "{kind:?}");
            assert!(begun.elapsed() < Duration::from_secs(4));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_reported_with_its_code() {
        for kind in [Misbehaviour::BadJson, Misbehaviour::WrongToken, Misbehaviour::EmptyFrame] {
            let server = Server::start(&[Manner::Refuse(1008)]).await;
            let outcome = meet(&server, kind).await;
            assert_eq!((outcome.close, outcome.end), (Some(1008), End::Closed), "{kind:?}");
            assert!(outcome.answer.unwrap().contains("ERROR"), "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_ends_it_itself_does_so_at_once() {
        let server = Server::start(&[Manner::Listen]).await;
        let closed = meet(&server, Misbehaviour::CloseAtOnce).await;
        assert_eq!((closed.end, closed.close), (End::Closed, Some(1000)));
        assert_eq!(meet(&server, Misbehaviour::RstAtOnce).await.end, End::Reset);
        assert!(server.heard().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn text_and_huge_frames_come_after_the_answer() {
        for (kind, frames) in [(Misbehaviour::TextAfterInit, 0), (Misbehaviour::HugeFrame, 1)] {
            let server = Server::start(&[Manner::Listen]).await;
            let outcome = meet(&server, kind).await;
            assert!(outcome.was_connected() && outcome.end == End::StillOpen, "{kind:?}: {outcome:?}");
            let heard = &server.over(1).await[0];
            assert_eq!(heard.frames.len(), frames, "{kind:?}");
            assert!(heard.frames.iter().all(|(_, frame)| frame.len() == HUGE_BYTES));
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_an_outcome() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        drop(listener);
        let outcome = misbehave(&url, Misbehaviour::BadJson, None, CONTACT, LONG).await.unwrap();
        assert_eq!(outcome.end, End::Unreachable);
        assert!(misbehave("http://h/", Misbehaviour::BadJson, None, CONTACT, LONG).await.is_err());
    }
}
