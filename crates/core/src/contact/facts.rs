//! What one stream did, as far as is known: a small cumulative record that travels with every recording segment.
//!
//! Facts are what was observed (counts, and when samples arrived); where a sample belongs in the call is worked out
//! from all facts together in [`super::ledger`]. So any task can finish a contact that other tasks began, and a task
//! that died leaves behind everything up to its last segment.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ContactKey, StreamId};
use crate::protocol::perspective::Perspective;

/// What one stream did so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamFacts {
    /// Which contact.
    pub contact: ContactKey,
    /// Which socket.
    pub stream: StreamId,
    /// Whose voice.
    pub perspective: Perspective,
    /// The generation it claimed; absent while a slow store has not yet answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generation: Option<u64>,
    /// When the handshake was answered, in microseconds since the Unix epoch.
    pub opened_us: i64,
    /// Whether the call was accepted before the store had answered.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub degraded: bool,
    /// Which task held it.
    pub task: String,
    /// How often that task cut a segment, in milliseconds: what a lost task can have lost at most.
    pub segment_ms: u32,
    /// Binary frames with audio in them.
    pub frames: u64,
    /// Samples received (one byte each).
    pub samples: u64,
    /// The size of every frame but the last, when all were alike: the sender's packet time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub frame_samples: Option<u32>,
    /// Stretches of unbroken audio, in order.
    pub runs: Vec<Run>,
    /// Runs beyond the limit that were joined to the last one.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub runs_joined: u64,
    /// Samples that were received but not recorded.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lost: Vec<Lost>,
    /// How it ended; absent while it lives, and for ever if its task died.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closed: Option<Closed>,
    /// CXone's `systemTelemetryData`, as it came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub telemetry: Option<Value>,
    /// Fields of the init message that no document names.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub unknown_fields: u64,
}

impl StreamFacts {
    /// How many separate losses are kept; further ones are joined to the last, with what lies between.
    pub const LOST_MAX: usize = 1024;

    /// Notes samples that a sink lost. Losses in a row become one.
    pub fn note_lost(&mut self, lost: Lost) {
        let is_full = self.lost.len() >= Self::LOST_MAX;
        let same = |known: &&mut Lost| {
            known.reason == lost.reason && (is_full || known.first_sample + known.samples == lost.first_sample)
        };
        match self.lost.iter_mut().rev().find(same) {
            Some(known) => {
                let end = (lost.first_sample + lost.samples).max(known.first_sample + known.samples);
                known.samples = end - known.first_sample;
            }
            None => self.lost.push(lost),
        }
    }
}

/// A stretch of audio without a break: `samples` samples of the stream from `first_sample` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Index, in the stream, of the first sample.
    pub first_sample: u64,
    /// Number of samples.
    pub samples: u64,
    /// When the first sample was spoken, in microseconds since the Unix epoch: the best estimate from all arrivals.
    pub anchor_us: i64,
    /// How far the sender's clock moved against ours over the run, in samples: positive when it ran fast.
    pub drift_samples: i64,
}

/// Samples that arrived but are not in the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lost {
    /// Index, in the stream, of the first lost sample.
    pub first_sample: u64,
    /// Number of samples.
    pub samples: u64,
    /// Which sink lost them, and why.
    pub reason: LostReason,
}

/// Why a sink lost samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostReason {
    /// The recorder could not write fast enough and its ring was full.
    RecorderRingFull,
    /// The assist app was away or slow and its ring was full. The recording has these samples.
    RelayRingFull,
    /// A segment could not be written, after all retries.
    SegmentNotWritten,
}

impl LostReason {
    /// Every reason, for metrics.
    pub const ALL: [Self; 3] = [Self::RecorderRingFull, Self::RelayRingFull, Self::SegmentNotWritten];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::RecorderRingFull => "recorder_ring_full",
            Self::RelayRingFull => "relay_ring_full",
            Self::SegmentNotWritten => "segment_not_written",
        }
    }

    /// Whether the recording lacks these samples.
    #[must_use]
    pub const fn is_missing_from_recording(self) -> bool {
        !matches!(self, Self::RelayRingFull)
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    /// When, in microseconds since the Unix epoch.
    pub at_us: i64,
    /// Why.
    pub reason: CloseReason,
}

/// Why a streaming socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// CXone closed it: a hold, or the end of the call.
    PeerClosed,
    /// The connection broke without a close frame.
    PeerVanished,
    /// The peer stopped answering pings.
    PeerDead,
    /// The peer sent text where audio belongs.
    PeerViolation,
    /// The peer broke the WebSocket protocol.
    ProtocolViolation,
    /// A frame above the limit.
    TooLarge,
    /// A newer generation took over.
    Superseded,
    /// This task went away (1012); CXone shakes hands again elsewhere.
    Drained,
    /// A defect of ours.
    Internal,
    /// Nothing was heard of its task any more; found by whoever finished the contact.
    TaskLost,
}

impl CloseReason {
    /// Every reason, for metrics.
    pub const ALL: [Self; 10] = [
        Self::PeerClosed,
        Self::PeerVanished,
        Self::PeerDead,
        Self::PeerViolation,
        Self::ProtocolViolation,
        Self::TooLarge,
        Self::Superseded,
        Self::Drained,
        Self::Internal,
        Self::TaskLost,
    ];

    /// The metric label, and the word in the ledger.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::PeerVanished => "peer_vanished",
            Self::PeerDead => "peer_dead",
            Self::PeerViolation => "peer_violation",
            Self::ProtocolViolation => "protocol_violation",
            Self::TooLarge => "too_large",
            Self::Superseded => "superseded",
            Self::Drained => "drained",
            Self::Internal => "internal",
            Self::TaskLost => "task_lost",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}
