//! One connection behind API Gateway: awaiting → opening → streaming, and gone. Sans I/O, and never at rest in memory:
//! every message meets another process, which reads this from the store, moves it on and writes it back under the
//! condition that nobody else did.
//!
//! API Gateway gives no order: the end of a connection may be told before its last messages and even before its
//! beginning, messages come side by side, and each of them may come again. So every move can be made twice, what is
//! over never begins again, and a message takes its place on the timeline once, however often it is told: its position
//! is *claimed* here before anything is written anywhere.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::facts::{CloseReason, Closed, StreamFacts};
use super::timeline::{Settings, State, Timeline};
use super::{ContactKey, SAMPLES_PER_MS, StreamId};
use crate::protocol::perspective::Perspective;
use crate::secret::Private;

/// The samples that one message can carry: 128 KiB of base64 text, the most that API Gateway lets through.
pub const PIECE_SAMPLES_MAX: u32 = 96 << 10;

/// How many messages with audio are remembered, so that one which comes again is known as such.
pub const REMEMBERED_MAX: usize = 64;

/// How long a stream goes without telling the store that it lives, in microseconds: a minute.
pub const CHECK_US: i64 = 60_000_000;

/// `systemTelemetryData` above this many bytes of JSON is left out of the facts: all of this is written with every
/// message.
pub const TELEMETRY_BYTES_MAX: usize = 2 << 10;

/// [`Opening::app`] above this many bytes of JSON is left out, for the same reason.
pub const APP_BYTES_MAX: usize = 8 << 10;

/// Times here are those at which API Gateway took a message in. Messages carry whole stretches and their sender is no
/// telephone exchange, so more lateness than on a socket of our own makes no hold. There are fewer runs, too.
const TIMELINE: Settings =
    Settings { break_us: 500_000, behind_us: 250_000, settle_us: 10_000_000, window_us: 30_000_000, runs_max: 256 };

/// The state of one connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    phase: Phase,
    /// Since when nobody is there any more, as API Gateway said or an answer to us showed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    gone: Option<Closed>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Phase {
    /// No init message was accepted yet.
    #[default]
    Awaiting,
    /// One was, and its generation is being claimed.
    Opening(Box<Opening>),
    /// Audio is welcome.
    Streaming(Box<Streaming>),
    /// It was refused. Nothing begins here any more.
    Refused,
}

/// A stream that is about to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Opening {
    /// The message that opens it.
    pub message_id: String,
    /// Which contact.
    pub contact: ContactKey,
    /// Whose voice.
    pub perspective: Perspective,
    /// Which socket: the same id, however often its claim is repeated.
    pub stream: StreamId,
    /// When the handshake came, in microseconds since the Unix epoch.
    pub opened_us: i64,
    /// Who holds it, as the store knows it.
    pub task: String,
    /// CXone's `systemTelemetryData`; see [`TELEMETRY_BYTES_MAX`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub telemetry: Option<Value>,
    /// What of the init message is for the assist app, where one is to be told: `{appParams, appConfig, unknown}`; see
    /// [`APP_BYTES_MAX`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app: Option<Private<Value>>,
    /// Fields of the init message that no document names.
    pub unknown_fields: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Streaming {
    opening: Opening,
    generation: u64,
    timeline: State,
    /// Messages with audio, the newest last.
    remembered: VecDeque<Remembered>,
    /// The latest arrival.
    heard_us: i64,
    /// When a message was last asked to tell the store.
    checked_us: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    closed: Option<Closed>,
}

/// A message, its first sample and the number of its samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered(String, u64, u32);

/// What becomes of an init message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It opens a stream: claim its generation, then [`Connection::opened`].
    Opening,
    /// It opened the stream before: all that is left is to answer, again perhaps.
    Streaming,
    /// The connection has another stream already, or is to have one.
    Taken,
    /// The connection was refused, or nobody is there any more.
    Over,
}

/// What becomes of a claimed generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// The stream lives: answer.
    Live,
    /// Nobody is there any more, so the stream has ended as soon as it began: see it out.
    Gone,
    /// There is no stream to be opened.
    Nothing,
}

/// Where the audio of a message belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Index, in the stream, of its first sample.
    pub first_sample: u64,
    /// Whether the same message was placed before. Its samples are not counted again; whether they were written then
    /// is not known here, so they have to be written again.
    pub is_repeat: bool,
    /// Whether it is time for a checkpoint. Exactly one message is told so.
    pub is_check_due: bool,
}

/// Why audio has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unplaced {
    /// No init message was accepted yet.
    #[error("audio came before an accepted init message")]
    BeforeInit,
    /// The stream was ended by us.
    #[error("the stream has ended")]
    Ended(CloseReason),
    /// The connection was refused, or never had a stream and nobody is there any more.
    #[error("the connection is over")]
    Over,
}

impl Connection {
    /// An init message was accepted by those who judge it. The first one wins.
    pub fn begin(&mut self, opening: Opening) -> Begun {
        match &self.phase {
            Phase::Awaiting if self.is_gone() => Begun::Over,
            Phase::Awaiting => {
                let telemetry = opening.telemetry.filter(|value| fits(value, TELEMETRY_BYTES_MAX));
                let app = opening.app.filter(|app| fits(app.reveal(), APP_BYTES_MAX));
                self.phase = Phase::Opening(Box::new(Opening { telemetry, app, ..opening }));
                Begun::Opening
            }
            Phase::Opening(_) | Phase::Streaming(_) => self.begun(&opening.message_id).unwrap_or(Begun::Taken),
            Phase::Refused => Begun::Over,
        }
    }

    /// Whether this very message was accepted before, and how far that went.
    #[must_use]
    pub fn begun(&self, message_id: &str) -> Option<Begun> {
        match &self.phase {
            Phase::Opening(opening) if opening.message_id == message_id => Some(Begun::Opening),
            Phase::Streaming(streaming) if streaming.opening.message_id == message_id => Some(Begun::Streaming),
            _ => None,
        }
    }

    /// The stream, or the one that is about to be.
    #[must_use]
    pub const fn opening(&self) -> Option<&Opening> {
        match &self.phase {
            Phase::Opening(opening) => Some(opening),
            Phase::Streaming(streaming) => Some(&streaming.opening),
            Phase::Awaiting | Phase::Refused => None,
        }
    }

    /// The generation of the stream was claimed.
    pub fn opened(&mut self, stream: StreamId, generation: u64) -> Opened {
        match &self.phase {
            Phase::Opening(opening) if opening.stream == stream => {
                self.phase = Phase::Streaming(Box::new(Streaming {
                    generation,
                    timeline: State::default(),
                    remembered: VecDeque::new(),
                    heard_us: opening.opened_us,
                    checked_us: opening.opened_us,
                    closed: self.gone,
                    opening: (**opening).clone(),
                }));
            }
            Phase::Streaming(streaming) if streaming.opening.stream == stream => {}
            _ => return Opened::Nothing,
        }
        if self.is_gone() { Opened::Gone } else { Opened::Live }
    }

    /// An init message was refused. Whether that is the end of the connection: what was accepted before stays.
    pub fn refuse(&mut self) -> bool {
        let is_end = matches!(self.phase, Phase::Awaiting | Phase::Refused);
        if is_end {
            self.phase = Phase::Refused;
        }
        is_end
    }

    /// The claim of a stream was refused, which is the end of the connection. A stream that was opened stays.
    pub fn lose(&mut self, stream: StreamId) {
        if matches!(&self.phase, Phase::Opening(opening) if opening.stream == stream) {
            self.phase = Phase::Refused;
        }
    }

    /// Gives the audio of a message its place. `arrived_us` is when API Gateway took the message in, in microseconds
    /// since the Unix epoch.
    ///
    /// Audio is welcome after the connection ended, too: it was sent before, and overtaken.
    ///
    /// # Errors
    /// [`Unplaced`] when there is no stream for it. Nothing changes then.
    pub fn take(&mut self, message_id: &str, samples: u32, arrived_us: i64) -> Result<Taken, Unplaced> {
        let streaming = match &mut self.phase {
            Phase::Streaming(streaming) => streaming,
            Phase::Awaiting | Phase::Opening(_) if self.gone.is_none() => return Err(Unplaced::BeforeInit),
            Phase::Awaiting | Phase::Opening(_) | Phase::Refused => return Err(Unplaced::Over),
        };
        if let Some(Remembered(_, first_sample, _)) = streaming.remembered.iter().find(|known| known.0 == message_id) {
            return Ok(Taken { first_sample: *first_sample, is_repeat: true, is_check_due: false });
        }
        if let Some(closed) = streaming.closed.filter(|_| streaming.closed != self.gone) {
            return Err(Unplaced::Ended(closed.reason));
        }
        Ok(streaming.place(message_id, samples, arrived_us))
    }

    /// We end the stream. Whether there was one that lived.
    pub fn close(&mut self, at_us: i64, reason: CloseReason) -> bool {
        match &mut self.phase {
            Phase::Streaming(streaming) if streaming.closed.is_none() => {
                streaming.closed = Some(Closed { at_us, reason });
                true
            }
            _ => false,
        }
    }

    /// Nobody is there any more. Whatever [`Connection::opening`] names from now on has to be seen out by whoever learns
    /// of this, and may be seen out twice.
    pub fn hang_up(&mut self, at_us: i64, reason: CloseReason) {
        let gone = *self.gone.get_or_insert(Closed { at_us, reason });
        self.close(gone.at_us, gone.reason);
    }

    /// Whether nobody is there any more.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Whether it was refused.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self.phase, Phase::Refused)
    }

    /// What the stream did so far; `None` before its generation was claimed.
    #[must_use]
    pub fn facts(&self) -> Option<StreamFacts> {
        let Phase::Streaming(streaming) = &self.phase else { return None };
        Some(streaming.facts())
    }
}

/// Whether a value has at most so many bytes as JSON.
fn fits(value: &Value, bytes_max: usize) -> bool {
    value.to_string().len() <= bytes_max
}

impl Streaming {
    fn place(&mut self, message_id: &str, samples: u32, arrived_us: i64) -> Taken {
        // Messages overtake each other; a timeline knows no way back.
        self.heard_us = self.heard_us.max(arrived_us);
        let first_sample = self.timeline.samples();
        let mut timeline = Timeline::resume(TIMELINE, &self.timeline);
        timeline.frame(self.heard_us, samples);
        self.timeline = timeline.state();
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        self.remembered.push_back(Remembered(message_id.to_owned(), first_sample, samples));
        let is_check_due = self.heard_us.saturating_sub(self.checked_us) >= CHECK_US;
        if is_check_due {
            self.checked_us = self.heard_us;
        }
        Taken { first_sample, is_repeat: false, is_check_due }
    }

    fn facts(&self) -> StreamFacts {
        let opening = &self.opening;
        let timeline = Timeline::resume(TIMELINE, &self.timeline);
        StreamFacts {
            contact: opening.contact,
            stream: opening.stream,
            perspective: opening.perspective.clone(),
            generation: Some(self.generation),
            opened_us: opening.opened_us,
            degraded: false,
            task: opening.task.clone(),
            segment_ms: PIECE_SAMPLES_MAX / u32::try_from(SAMPLES_PER_MS).unwrap_or(u32::MAX),
            frames: timeline.frames(),
            samples: timeline.samples(),
            frame_samples: timeline.frame_samples(),
            runs: timeline.runs().to_vec(),
            runs_joined: timeline.runs_joined(),
            lost: Vec::new(),
            closed: self.closed,
            telemetry: opening.telemetry.clone(),
            unknown_fields: opening.unknown_fields,
        }
    }
}

#[cfg(test)]
mod tests;
