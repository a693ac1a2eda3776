//! A stream ends, a connection is gone.
//!
//! Each step here may be the last that a handler takes, and each may be taken again: the store's document says first
//! that it is over, the last facts are written next, and the contact hears of it after that.

use earpiece_core::contact::facts::CloseReason;
use earpiece_core::error::Fault;
use earpiece_core::telemetry::{CONNECTIONS_PRUNED, STREAM_CLOSES};
use earpiece_store::{StreamEnd, StreamError};
use tracing::{info, warn};

use super::document::{Page, Step};
use super::pieces::Piece;
use super::visit::Visit;
use super::{Outcome, Rooms, away};
use crate::clock::as_ms;

impl Rooms {
    /// The connection is gone, whatever of it was seen before.
    pub(super) async fn leave(&self, visit: &Visit, reason: CloseReason) -> Outcome {
        let page = self.page(visit).await?;
        let left = self.change(visit, page, |document| {
            let is_news = !document.connection.is_gone();
            document.connection.hang_up(visit.arrived_us(), reason);
            (if is_news { Step::Changed } else { Step::Same }, is_news)
        });
        let (page, is_news) = left.await?;
        if is_news {
            self.count("closed");
        }
        self.see_out(visit, &page).await
    }

    /// Somebody is gone who was about to be told something.
    pub(super) async fn prune(&self, visit: &Visit, reason: CloseReason) -> Outcome {
        self.parts.counters.count(CONNECTIONS_PRUNED, &[]);
        self.leave(visit, reason).await
    }

    /// Another stream has the perspective: this one ends, though its connection stands.
    pub(super) async fn supersede(&self, visit: &Visit) -> Outcome {
        let page = self.page(visit).await?;
        let ended = self.change(visit, page, |document| {
            let is_news = document.connection.close(visit.arrived_us(), CloseReason::Superseded);
            (if is_news { Step::Changed } else { Step::Same }, ())
        });
        let (page, ()) = ended.await?;
        self.end_stream(visit, &page).await
    }

    /// Undoes what a connection holds elsewhere. May be done any number of times.
    pub(super) async fn see_out(&self, visit: &Visit, page: &Page) -> Outcome {
        let mut outcome = Ok(());
        for contact in &page.document.listening {
            if let Err(error) = self.parts.store.unlisten(contact, &visit.connection).await {
                outcome = Err(away("unlisten", &error));
            }
        }
        self.end_stream(visit, page).await.and(outcome)
    }

    /// The last facts, then the end in the store.
    async fn end_stream(&self, visit: &Visit, page: &Page) -> Outcome {
        let Some(opening) = page.document.connection.opening() else {
            return Ok(());
        };
        let facts = page.document.connection.facts();
        let closed = facts.as_ref().and_then(|facts| facts.closed);
        let reason = closed.map_or(CloseReason::PeerVanished, |closed| closed.reason);
        let written = match &facts {
            Some(facts) => self.write_end(facts).await,
            None => Ok(()),
        };
        let end = StreamEnd {
            contact: opening.contact,
            perspective: &opening.perspective,
            stream: opening.stream,
            samples: facts.as_ref().map_or(0, |facts| facts.samples),
            reason,
            now_ms: visit.now_ms,
            quiet_ms: as_ms(self.parts.limits.quiet),
        };
        match self.parts.store.end_stream(&end).await {
            Ok(()) => {
                self.parts.counters.count(STREAM_CLOSES, &[("reason", reason.label())]);
                info!(contact = %end.contact, stream = %end.stream, reason = reason.label(), "stream ended");
            }
            // A newer one has its place, or it never had one: nothing to end.
            Err(StreamError::Superseded { .. } | StreamError::Gone) => {}
            Err(StreamError::Store(error)) => {
                return written.and(Err(away("end a stream", &error)));
            }
        }
        written
    }

    async fn write_end(&self, facts: &earpiece_core::contact::facts::StreamFacts) -> Result<(), Fault> {
        let written = self.parts.pieces.write(Piece::of_facts(facts), &self.parts.limits).await;
        self.parts.pieces.end(facts, &self.parts.limits).await;
        written.inspect_err(|fault| {
            warn!(contact = %facts.contact, stream = %facts.stream, %fault, "the end of a stream is not written");
        })
    }
}

/// Why a connection ended, by the WebSocket close code that `$disconnect` names.
pub(super) const fn reason_of(code: Option<i64>) -> CloseReason {
    match code {
        // Without a code, or with none that is known, the peer closed as peers do.
        None | Some(1000 | 1001 | 1005) => CloseReason::PeerClosed,
        Some(1002 | 1007) => CloseReason::ProtocolViolation,
        Some(1003) => CloseReason::PeerViolation,
        Some(1009) => CloseReason::TooLarge,
        Some(_) => CloseReason::PeerVanished,
    }
}
