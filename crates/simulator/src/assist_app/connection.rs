//! One connection to the reference app: `start`, then audio and gaps, then `stop`; acks and the script's lines back.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::contact::ContactKey;
use earpiece_core::protocol::perspective::Perspective;
use futures_util::{SinkExt, StreamExt};
use http::header;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_websockets::{CloseCode, Error, Limits, Message, ServerBuilder, WebSocketStream};

use super::settings::CloseAfter;
use super::{CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX, START_TIMEOUT, Shared};
use crate::stop::told_to_stop;

type Socket = WebSocketStream<TcpStream>;

/// Who speaks on a connection, and where in the stream it is.
struct Speaker {
    contact: ContactKey,
    perspective: Perspective,
    stream: String,
    /// Position of the next sample that this connection brings.
    cursor: u64,
    /// Samples that this connection brought.
    brought: u64,
    /// The last position acknowledged here.
    acked: u64,
    /// Whether it has had its pause in reading: one each.
    paused: bool,
}

/// What the app does after a frame.
#[derive(Default)]
struct Reaction {
    say: Vec<String>,
    close: Option<CloseAfter>,
    pause: Option<Duration>,
    /// The stream is over: nothing more to hear or say.
    leave: bool,
    /// The frame breaks the protocol.
    violation: bool,
}

pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let accepted = timeout(START_TIMEOUT, begin(stream, &shared)).await;
    let Ok(Some((mut socket, mut speaker))) = accepted else {
        shared.change(|hearing| hearing.violations += 1);
        return;
    };
    shared.change(|hearing| hearing.connections_live += 1);
    // An error ends this connection and nothing else; the books show what came before it.
    let _ = listen(&mut socket, &mut speaker, &shared).await;
    shared.change(|hearing| hearing.connections_live -= 1);
}

async fn begin(stream: TcpStream, shared: &Shared) -> Option<(Socket, Speaker)> {
    stream.set_nodelay(true).ok()?;
    let limits = Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX));
    let (request, mut socket) = ServerBuilder::new().limits(limits).accept(stream).await.ok()?;
    let expected = shared.settings.authorization.as_ref().map(|secret| secret.reveal().as_bytes());
    let presented = request.headers().get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let refusal = if expected.is_some() && presented != expected {
        "not authorized"
    } else {
        let start = socket.next().await?.ok()?;
        let start: Value = start.as_text().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        match read(&start) {
            Some(mut speaker) => {
                for text in greet(&mut speaker, &start, shared).say {
                    socket.send(Message::text(text)).await.ok()?;
                }
                return Some((socket, speaker));
            }
            None => "the first frame must be a start",
        }
    };
    close(&mut socket, CloseCode::POLICY_VIOLATION, refusal).await.ok()?;
    None
}

fn read(start: &Value) -> Option<Speaker> {
    if start["type"] != "start" || start["version"] != 1 {
        return None;
    }
    let position = start["position"].as_u64()?;
    Some(Speaker {
        contact: ContactKey {
            bus_no: start["contact"]["busNo"].as_u64()?,
            contact_id: start["contact"]["contactId"].as_u64()?,
        },
        perspective: Perspective::read(&start["perspective"]),
        stream: start["streamId"].as_str()?.to_owned(),
        cursor: position,
        brought: 0,
        acked: position,
        paused: false,
    })
}

/// The start of a connection: an `ack` at once says from where the stream is to go on.
fn greet(speaker: &mut Speaker, start: &Value, shared: &Shared) -> Reaction {
    shared.change(|hearing| {
        let voice = hearing.voices.entry((speaker.contact, speaker.perspective.clone())).or_default();
        let stream = voice.stream(&speaker.stream, shared.settings.keep_audio);
        stream.connected(speaker.cursor, start["clock"].as_u64());
        let known = stream.known();
        let mut reaction = Reaction::default();
        if !shared.faults().never_ack {
            reaction.say.push(ack(speaker, known));
        }
        reaction
    })
}

async fn listen(socket: &mut Socket, speaker: &mut Speaker, shared: &Shared) -> Result<(), Error> {
    let mut stop = shared.stop.subscribe();
    loop {
        let message = tokio::select! {
            () = told_to_stop(&mut stop) => return close(socket, CloseCode::GOING_AWAY, "").await,
            message = socket.next() => message,
        };
        let Some(message) = message.transpose()? else { return Ok(()) };
        let reaction = if message.is_binary() {
            hear(speaker, message.as_payload(), shared)
        } else if let Some(text) = message.as_text() {
            note(speaker, text, shared)
        } else {
            continue;
        };
        if reaction.violation {
            shared.change(|hearing| hearing.violations += 1);
        }
        for text in reaction.say {
            socket.send(Message::text(text)).await?;
        }
        if let Some(fault) = reaction.close {
            let Some(code) = fault.code.and_then(|code| CloseCode::try_from(code).ok()) else { return Ok(()) };
            return close(socket, code, "").await;
        }
        if reaction.leave {
            return close(socket, CloseCode::NORMAL_CLOSURE, "").await;
        }
        if let Some(pause) = reaction.pause {
            tokio::select! {
                () = told_to_stop(&mut stop) => {}
                () = sleep(pause) => {}
            }
        }
    }
}

/// Binary: samples of the stream, at the connection's position.
fn hear(speaker: &mut Speaker, audio: &[u8], shared: &Shared) -> Reaction {
    shared.change(|hearing| {
        let voice = hearing.voices.entry((speaker.contact, speaker.perspective.clone())).or_default();
        let stream = voice.stream(&speaker.stream, shared.settings.keep_audio);
        speaker.cursor = stream.audio(speaker.cursor, audio);
        speaker.brought += audio.len() as u64;
        let known = stream.known();

        let mut reaction = Reaction { violation: audio.len() > CHUNK_BYTES_MAX, ..Reaction::default() };
        let samples = voice.samples();
        let lines = shared.lines(&speaker.perspective);
        while let Some(line) = lines.get(voice.lines_said).filter(|line| line.at_sample <= samples) {
            voice.lines_said += 1;
            reaction.say.push(line.text.clone());
        }
        let mut faults = shared.faults();
        if !faults.never_ack && known >= speaker.acked.saturating_add(shared.settings.ack_samples) {
            reaction.say.push(ack(speaker, known));
        }
        reaction.close = faults.take_close(speaker.brought);
        if !speaker.paused {
            reaction.pause = faults.take_pause(speaker.brought);
            speaker.paused = reaction.pause.is_some();
        }
        reaction
    })
}

/// Text: a gap, or the end.
fn note(speaker: &mut Speaker, text: &str, shared: &Shared) -> Reaction {
    let frame: Value = serde_json::from_str(text).unwrap_or_default();
    let position = frame["position"].as_u64();
    shared.change(|hearing| {
        let voice = hearing.voices.entry((speaker.contact, speaker.perspective.clone())).or_default();
        let stream = voice.stream(&speaker.stream, shared.settings.keep_audio);
        let mut reaction = Reaction { violation: position != Some(speaker.cursor), ..Reaction::default() };
        let (kind, reason) = (frame["type"].as_str(), frame["reason"].as_str());
        let clock = frame["clock"].as_u64();
        if let Some(clock) = clock {
            stream.clock(speaker.cursor, clock);
        }
        match (kind, reason, frame["samples"].as_u64()) {
            (Some("gap"), Some("silence"), Some(samples)) => stream.silence(speaker.cursor, clock, samples),
            (Some("gap"), Some("lost"), Some(samples)) => speaker.cursor = stream.lost(speaker.cursor, samples),
            (Some("stop"), Some(reason), _) => {
                stream.stopped(reason);
                reaction.leave = true;
                let known = stream.known();
                if !shared.faults().never_ack {
                    reaction.say.push(ack(speaker, known));
                }
            }
            _ => reaction.violation = true,
        }
        reaction
    })
}

fn ack(speaker: &mut Speaker, position: u64) -> String {
    speaker.acked = position;
    json!({ "type": "ack", "position": position }).to_string()
}

async fn close(socket: &mut Socket, code: CloseCode, reason: &str) -> Result<(), Error> {
    socket.send(Message::close(Some(code), reason)).await?;
    // Bounded: a peer that never answers the close frame is left alone.
    let _ = timeout(super::CLOSE_TIMEOUT, async { while let Some(Ok(_)) = socket.next().await {} }).await;
    Ok(())
}
