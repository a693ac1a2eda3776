//! An init message becomes a stream, as on the shim's sockets: read, judged, claimed by one conditional write, answered.

use earpiece_access::{Scope, Wanted};
use earpiece_core::contact::StreamId;
use earpiece_core::contact::connection::{APP_BYTES_MAX, Begun, Opened, Opening};
use earpiece_core::error::{Fault, Kind};
use earpiece_core::protocol::message::CONNECTED;
use earpiece_core::protocol::{InitMessage, Perspective};
use earpiece_core::secret::Private;
use earpiece_core::telemetry::{STREAM_OPENS, UNKNOWN_FIELDS, UNKNOWN_PERSPECTIVES};
use earpiece_store::{Claim, ClaimError};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::document::{Page, Step};
use super::pieces::Piece;
use super::visit::Visit;
use super::{Outcome, Rooms, away};
use crate::clock::as_ms;

pub(super) const SUPERSEDED: &str = "a newer handshake holds this perspective of the contact";

impl Rooms {
    /// A message that is no action: the init message, or it should be.
    pub(super) async fn begin(&self, visit: &Visit, message: Value) -> Outcome {
        let page = self.page(visit).await?;
        let (page, begun) = match page.document.connection.begun(&visit.message) {
            // It came before; how far that went is not known. Nobody judges it twice: its token may be spent.
            Some(begun) => (page, begun),
            None if page.document.connection.opening().is_some() => (page, Begun::Taken),
            None => match self.judge(visit, &page, message).await {
                Ok(opening) => self.note_opening(visit, page, opening).await?,
                Err(fault) if fault.kind == Kind::Unavailable => return self.turn_out(visit, &fault).await,
                Err(fault) => match self.note_refusal(visit, page).await? {
                    (_, None) => return self.turn_out(visit, &fault).await,
                    (page, Some(begun)) => (page, begun),
                },
            },
        };
        match begun {
            Begun::Opening => self.claim(visit, page).await,
            Begun::Streaming => self.welcome(visit, &page).await,
            Begun::Taken => {
                self.object(visit, &Fault::new(Kind::Unsupported, "an init message was accepted before")).await
            }
            Begun::Over => Ok(()),
        }
    }

    /// Language, then token.
    async fn judge(&self, visit: &Visit, page: &Page, message: Value) -> Result<Opening, Fault> {
        let init = InitMessage::from_value(message)?;
        let contact = init.execution_info.contact;
        let wanted = Wanted { scope: Scope::Audio, contact: Some(contact), now_s: visit.now_ms / 1000 };
        let kept = page.document.grant.as_ref();
        self.may(visit, kept, init.authentication_token.as_ref(), &wanted).await?;
        let unknown_fields = init.unknown_fields();
        self.parts.counters.add(UNKNOWN_FIELDS, &[], unknown_fields);
        if matches!(init.perspective, Perspective::Unknown(_)) {
            self.parts.counters.count(UNKNOWN_PERSPECTIVES, &[]);
        }
        Ok(Opening {
            message_id: visit.message.clone(),
            contact,
            stream: StreamId::new(),
            opened_us: visit.arrived_us(),
            task: format!("apigw/{}", visit.connection),
            telemetry: init.telemetry_value(),
            app: self.for_the_app(&init),
            unknown_fields,
            perspective: init.perspective,
        })
    }

    /// What a shim tells the assist app of the stream. It goes with every piece, because any task of the shim may be the
    /// one that opens the app's socket; so it has to be small, and is not kept where nobody is to be told.
    fn for_the_app(&self, init: &InitMessage) -> Option<Private<Value>> {
        let (params, config, unknown) = (init.app_params.to_value(), init.app_config.to_value(), init.unknown_value());
        if !self.parts.pieces.are_handed_over() || (params.is_null() && config.is_null() && unknown.is_none()) {
            return None;
        }
        let app = json!({ "appParams": params, "appConfig": config, "unknown": unknown });
        let bytes = app.to_string().len();
        if bytes > APP_BYTES_MAX {
            self.count("curtailed");
            warn!(contact = %init.execution_info.contact, bytes, "the assist app is not told what the init message says");
            return None;
        }
        Some(Private::new(app))
    }

    /// From here on the stream has its id, so that whatever is done for it can be done again.
    async fn note_opening(&self, visit: &Visit, page: Page, opening: Opening) -> Result<(Page, Begun), Fault> {
        self.change(visit, page, |document| {
            let begun = document.connection.begin(opening.clone());
            let is_noted = document.connection.opening().is_some_and(|noted| noted.stream == opening.stream);
            (if begun == Begun::Opening && is_noted { Step::Changed } else { Step::Same }, begun)
        })
        .await
    }

    /// Takes the perspective, and answers.
    async fn claim(&self, visit: &Visit, page: Page) -> Outcome {
        let Some(opening) = page.document.connection.opening().cloned() else {
            return Ok(());
        };
        let claim = Claim {
            contact: opening.contact,
            perspective: &opening.perspective,
            stream: opening.stream,
            opened_at_us: opening.opened_us,
            task: &opening.task,
            now_ms: visit.now_ms,
            stale_after_ms: as_ms(self.parts.limits.stale),
        };
        let generation = match self.parts.store.claim(&claim).await {
            Ok(claimed) => claimed.generation,
            // Perspectives that nobody documents share one place in the store and never fence each other.
            Err(ClaimError::Superseded { current }) if is_unfenced(&opening.perspective) => current.generation,
            Err(ClaimError::Superseded { .. }) => return self.lose(visit, page, opening.stream).await,
            // The peer shakes hands again, on another connection: this one stays as it is and is forgotten in time.
            Err(ClaimError::Store(error)) => {
                return self.turn_out(visit, &away("claim", &error)).await;
            }
        };
        let opened = self.change(visit, page, |document| {
            let opened = document.connection.opened(opening.stream, generation);
            (if opened == Opened::Nothing { Step::Same } else { Step::Changed }, opened)
        });
        match opened.await? {
            (page, Opened::Live) => {
                self.count("opened");
                self.parts.counters.count(STREAM_OPENS, &[]);
                let (contact, stream) = (opening.contact, opening.stream);
                info!(%contact, %stream, perspective = opening.perspective.label(), generation, "stream opened");
                self.welcome(visit, &page).await
            }
            (page, Opened::Gone) => self.see_out(visit, &page).await,
            (_, Opened::Nothing) => Ok(()),
        }
    }

    /// `CONNECTED`, and then a segment without samples: a stream of which no audio comes is named in the ledger, too.
    async fn welcome(&self, visit: &Visit, page: &Page) -> Outcome {
        self.say(visit, CONNECTED).await?;
        let Some(facts) = page.document.connection.facts().filter(|facts| facts.samples == 0) else {
            return Ok(());
        };
        if let Err(fault) = self.parts.pieces.write(Piece::of_facts(&facts), &self.parts.limits).await {
            // Its first audio or its end will name it.
            warn!(contact = %facts.contact, stream = %facts.stream, %fault, "the beginning of a stream is not written");
        }
        Ok(())
    }

    /// A refusal is the end of the connection, unless an init message was accepted meanwhile; what became of that one.
    /// It may be this very message, told twice at once with a token that is good for one use.
    async fn note_refusal(&self, visit: &Visit, page: Page) -> Result<(Page, Option<Begun>), Fault> {
        self.change(visit, page, |document| {
            let connection = &mut document.connection;
            let was_refused = connection.is_refused();
            match connection.refuse() {
                true if was_refused => (Step::Same, None),
                true => (Step::Changed, None),
                false => (Step::Same, Some(connection.begun(&visit.message).unwrap_or(Begun::Taken))),
            }
        })
        .await
    }

    /// A newer handshake holds the perspective: `ERROR`, and the end of the connection.
    async fn lose(&self, visit: &Visit, page: Page, stream: StreamId) -> Outcome {
        self.change(visit, page, |document| {
            document.connection.lose(stream);
            (Step::Changed, ())
        })
        .await?;
        self.turn_out(visit, &Fault::new(Kind::Superseded, SUPERSEDED)).await
    }
}

/// Perspectives that nobody documents never fence one another.
pub(super) const fn is_unfenced(perspective: &Perspective) -> bool {
    matches!(perspective, Perspective::Unknown(_))
}
