//! What a call did, exactly: what went out, where on the media clock it did not, and how every socket fared.

use earpiece_core::contact::ContactKey;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// What a call did. Positions are samples on the media clock that all its legs share; sample 0 is spoken when all legs
/// have been answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallReport {
    /// The contact.
    pub contact: ContactKey,
    /// One entry per leg of the plan, in its order.
    pub legs: Vec<LegReport>,
    /// Samples from sample 0 to the last one that any leg sent.
    pub samples: u64,
    /// Whether it was told to stop before the script was over.
    pub stopped: bool,
}

impl CallReport {
    /// Whether every leg was up at the end, or ended by the script.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.legs.iter().all(|leg| !leg.gave_up)
    }
}

/// What one leg did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LegReport {
    /// The `streamPerspective` as it was sent.
    pub perspective: Value,
    /// One entry per connection attempt, in order.
    pub sockets: Vec<SocketReport>,
    /// What was sent: stretches without a break, in order.
    pub sent: Vec<Stretch>,
    /// What was not, between the first sample of the call and the last one of this leg.
    pub gaps: Vec<MediaGap>,
    /// What this leg did not send any more while another one went on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_tail: Option<MediaGap>,
    /// Frames sent.
    pub frames: u64,
    /// Samples sent.
    pub samples: u64,
    /// How late the least punctual frame left, beyond the jitter asked for, in microseconds: how far this machine kept
    /// up.
    pub late_us_max: u64,
    /// Whether it had to stay away: refused for good, or lost too often.
    pub gave_up: bool,
    /// Exactly the bytes of all binary frames, in order, if asked for. Not part of the JSON.
    #[serde(skip)]
    pub audio_sent: Option<Vec<u8>>,
}

/// How one socket fared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketReport {
    /// From dialling to the WebSocket being open, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    /// From just before the init frame is written to the answer being read, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_us: Option<u64>,
    /// The payload of the first text frame, byte for byte.
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub answer: Option<Vec<u8>>,
    /// Whether the answer was `CONNECTED`.
    pub connected: bool,
    /// Frames sent on it.
    pub frames: u64,
    /// Samples sent on it.
    pub samples: u64,
    /// Frames which came after the answer and are neither control frames nor expected.
    pub unexpected_frames: u64,
    /// The close handshake, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close: Option<Close>,
    /// Whether we cut it on purpose, without a close frame.
    pub cut: bool,
    /// What went wrong, without input, URL or secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl SocketReport {
    /// The answer as text, if it was text.
    #[must_use]
    pub fn answer_text(&self) -> Option<&str> {
        self.answer.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}

/// A close handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Close {
    /// The code; 1005 when the frame had none.
    pub code: u16,
    /// The reason given.
    pub reason: String,
    /// Who began it.
    pub by: Side,
}

/// One end of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The media server.
    Us,
    /// The endpoint it called.
    Server,
}

/// Samples that were sent without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stretch {
    /// Position of the first one.
    pub at_sample: u64,
    /// How many.
    pub samples: u64,
}

/// Samples that were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MediaGap {
    /// Position of the first missing one.
    pub at_sample: u64,
    /// How many.
    pub samples: u64,
    /// What began it.
    pub cause: GapCause,
}

/// What began a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// A hold, with the sockets closed.
    HoldClose,
    /// A hold, with the sockets open.
    HoldSilence,
    /// The script cut the connection.
    Drop,
    /// The server closed, refused or lost the connection.
    Server,
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn as_text<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    bytes.as_deref().map(String::from_utf8_lossy).serialize(serializer)
}

/// Keeps a leg's books while it runs.
#[derive(Debug)]
pub(crate) struct LegLog {
    report: LegReport,
    /// What kept the leg from sending since its last frame.
    cause: Option<GapCause>,
}

impl LegLog {
    pub(crate) fn new(perspective: Value, keep_audio: bool) -> Self {
        let report = LegReport {
            perspective,
            sockets: Vec::new(),
            sent: Vec::new(),
            gaps: Vec::new(),
            missing_tail: None,
            frames: 0,
            samples: 0,
            late_us_max: 0,
            gave_up: false,
            audio_sent: keep_audio.then(Vec::new),
        };
        Self { report, cause: None }
    }

    /// A new connection attempt.
    pub(crate) fn dialled(&mut self, socket: SocketReport) {
        self.report.sockets.push(socket);
    }

    /// The current connection attempt, if there was one.
    pub(crate) fn socket(&mut self) -> Option<&mut SocketReport> {
        self.report.sockets.last_mut()
    }

    /// Nothing is sent from here on, for this reason; an earlier reason stands.
    pub(crate) fn interrupted(&mut self, cause: GapCause) {
        self.cause.get_or_insert(cause);
    }

    pub(crate) fn gave_up(&mut self) {
        self.report.gave_up = true;
    }

    pub(crate) fn late(&mut self, late_us: u64) {
        self.report.late_us_max = self.report.late_us_max.max(late_us);
    }

    /// A frame went out at a position.
    pub(crate) fn frame(&mut self, at_sample: u64, audio: &[u8]) {
        let samples = audio.len() as u64;
        let cause = self.cause.take().unwrap_or(GapCause::Server);
        let expected = self.end();
        if at_sample > expected {
            self.report.gaps.push(MediaGap { at_sample: expected, samples: at_sample - expected, cause });
        }
        match self.report.sent.last_mut() {
            Some(last) if at_sample == expected => last.samples += samples,
            _ => self.report.sent.push(Stretch { at_sample, samples }),
        }
        self.report.frames += 1;
        self.report.samples += samples;
        if let Some(socket) = self.report.sockets.last_mut() {
            socket.frames += 1;
            socket.samples += samples;
        }
        if let Some(kept) = &mut self.report.audio_sent {
            kept.extend_from_slice(audio);
        }
    }

    /// Position behind the last sample sent.
    pub(crate) fn end(&self) -> u64 {
        self.report.sent.last().map_or(0, |last| last.at_sample + last.samples)
    }

    /// The report, in a call whose audio ends at a position.
    pub(crate) fn finish(mut self, call_samples: u64) -> LegReport {
        let at_sample = self.end();
        if call_samples > at_sample {
            let cause = self.cause.unwrap_or(GapCause::Server);
            self.report.missing_tail = Some(MediaGap { at_sample, samples: call_samples - at_sample, cause });
        }
        self.report
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gaps_are_what_lies_between_stretches_and_name_what_began_them() {
        let mut log = LegLog::new(json!("TX"), true);
        log.dialled(SocketReport::default());
        log.frame(0, &[1; 160]);
        log.frame(160, &[2; 160]);
        log.interrupted(GapCause::HoldClose);
        log.interrupted(GapCause::Server);
        log.dialled(SocketReport::default());
        log.frame(960, &[3; 160]);
        let report = log.finish(1280);
        assert_eq!(report.sent, [Stretch { at_sample: 0, samples: 320 }, Stretch { at_sample: 960, samples: 160 }]);
        assert_eq!(report.gaps, [MediaGap { at_sample: 320, samples: 640, cause: GapCause::HoldClose }]);
        let tail = report.missing_tail.unwrap();
        assert_eq!((tail.at_sample, tail.samples), (1120, 160));
        assert_eq!((report.frames, report.samples), (3, 480));
        assert_eq!(report.sockets.iter().map(|socket| socket.samples).collect::<Vec<_>>(), [320, 160]);
        assert_eq!(report.audio_sent.unwrap().len(), 480);
    }

    #[test]
    fn the_json_shows_the_answer_as_text_and_no_audio() {
        let mut log = LegLog::new(json!(1), true);
        log.dialled(SocketReport { answer: Some(b"{}".to_vec()), ..SocketReport::default() });
        log.frame(0, b"spoken");
        let json = serde_json::to_value(log.finish(6)).unwrap();
        assert_eq!(json["sockets"][0]["answer"], "{}");
        assert_eq!(json["sent"], json!([{ "atSample": 0, "samples": 6 }]));
        assert!(!json.to_string().contains("spoken") && json.get("audioSent").is_none());
    }
}
