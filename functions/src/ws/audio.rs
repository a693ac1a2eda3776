//! A piece of a stream: its place is claimed, it is written, and only then is it acknowledged.

use earpiece_core::contact::connection::{Taken, Unplaced};
use earpiece_core::contact::facts::{CloseReason, StreamFacts};
use earpiece_core::error::{Fault, Kind};
use earpiece_core::protocol::Message;
use earpiece_core::protocol::message::Command;
use earpiece_core::secret::Private;
use earpiece_core::telemetry::{AUDIO_BYTES, AUDIO_FRAMES, SINK_ERRORS};
use earpiece_store::{Checkpoint, StreamError};
use serde_json::json;
use tracing::warn;

use super::document::Step;
use super::opening::{SUPERSEDED, is_unfenced};
use super::pieces::Piece;
use super::visit::Visit;
use super::{Outcome, Rooms};
use crate::clock::as_ms;

/// The type and the text of an acknowledgement.
const ACKNOWLEDGED: (&str, &str) = ("EVENT", "AUDIO ACCEPTED");

impl Rooms {
    /// A message with audio.
    pub(super) async fn hear(&self, visit: &Visit, samples: &[u8]) -> Outcome {
        let page = self.page(visit).await?;
        let count = u32::try_from(samples.len()).unwrap_or(u32::MAX);
        let claimed = self.change(visit, page, |document| {
            let taken = document.connection.take(&visit.message, count, visit.arrived_us());
            let is_new = taken.is_ok_and(|taken| !taken.is_repeat);
            (if is_new { Step::Changed } else { Step::Same }, taken)
        });
        let (page, taken) = claimed.await?;
        let connection = &page.document.connection;
        let (taken, facts) = match (taken, connection.facts()) {
            (Ok(taken), Some(facts)) => (taken, facts),
            (Err(unplaced), _) => return self.misplaced(visit, unplaced).await,
            (Ok(_), None) => return Err(Fault::new(Kind::Internal, "internal error")),
        };
        let app = connection.opening().and_then(|opening| opening.app.as_ref());
        let piece = Piece { facts: &facts, app, first_sample: taken.first_sample, samples };
        self.keep(visit, taken, piece, connection.is_gone()).await
    }

    async fn keep(&self, visit: &Visit, taken: Taken, piece: Piece<'_>, is_gone: bool) -> Outcome {
        let Piece { facts, samples, .. } = piece;
        if let Err(fault) = self.parts.pieces.write(piece, &self.parts.limits).await {
            self.parts.counters.count(SINK_ERRORS, &[("sink", "recorder")]);
            warn!(contact = %facts.contact, stream = %facts.stream, %fault, "a piece is not written");
            // Not acknowledged, so it may be sent again. It has another place then, and this one is named as lost.
            self.object(visit, &Fault::new(fault.kind, "the audio could not be kept; send it again")).await?;
            return Err(fault);
        }
        self.count(if taken.is_repeat { "duplicate" } else { "audio" });
        if !taken.is_repeat {
            self.parts.counters.count(AUDIO_FRAMES, &[]);
            self.parts.counters.add(AUDIO_BYTES, &[], samples.len() as u64);
        }
        let told = if is_gone { Ok(()) } else { self.say(visit, &acknowledgement(visit, taken, samples.len())).await };
        let checked = if taken.is_check_due { self.check(visit, facts).await } else { Ok(()) };
        told.and(checked)
    }

    /// Audio without a place.
    async fn misplaced(&self, visit: &Visit, unplaced: Unplaced) -> Outcome {
        match unplaced {
            Unplaced::BeforeInit => {
                let fault = Fault::new(Kind::Unsupported, "audio came before the init message was answered");
                self.object(visit, &fault).await
            }
            Unplaced::Ended(CloseReason::Superseded) => {
                self.turn_out(visit, &Fault::new(Kind::Superseded, SUPERSEDED)).await
            }
            Unplaced::Ended(_) => self.turn_out(visit, &Fault::new(Kind::NotFound, "the stream has ended")).await,
            Unplaced::Over => Ok(()),
        }
    }

    /// Tells the store, once a minute, that the stream lives, and learns whether it still should.
    async fn check(&self, visit: &Visit, facts: &StreamFacts) -> Outcome {
        let checkpoint = Checkpoint {
            contact: facts.contact,
            perspective: &facts.perspective,
            stream: facts.stream,
            samples: facts.samples,
            now_ms: visit.now_ms,
            stale_after_ms: as_ms(self.parts.limits.stale),
        };
        match self.parts.store.checkpoint(&checkpoint).await {
            Err(StreamError::Superseded { .. }) if !is_unfenced(&facts.perspective) => {
                self.supersede(visit).await?;
                self.turn_out(visit, &Fault::new(Kind::Superseded, SUPERSEDED)).await
            }
            // Ended, or about to be: whoever ends it writes its facts.
            Ok(()) | Err(StreamError::Superseded { .. } | StreamError::Gone) => Ok(()),
            Err(StreamError::Store(error)) => {
                // The audio is kept and acknowledged. The next minute's message tells the store.
                warn!(contact = %facts.contact, stream = %facts.stream, %error, "a stream could not be noted");
                Ok(())
            }
        }
    }
}

fn acknowledgement(visit: &Visit, taken: Taken, samples: usize) -> String {
    let (message_type, message) = ACKNOWLEDGED;
    let parameters = json!({
        "firstSample": taken.first_sample,
        "samples": samples,
        "messageId": visit.message,
    });
    let message = Message {
        command: Command::Message,
        message_type: message_type.to_owned(),
        message: message.to_owned(),
        parameters: Some(Private::new(parameters)),
    };
    message.to_json()
}
