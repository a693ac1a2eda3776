//! `$connect`.

use earpiece_access::{Grant, Refusal, Scope, Wanted};
use earpiece_core::error::Fault;
use earpiece_core::secret::Secret;

use super::document::Step;
use super::visit::Visit;
use super::{Outcome, Rooms};

impl Rooms {
    /// Lets a connection in and keeps what its token allows. One that brings no token comes in, too, and may do nothing
    /// until a message of its own brings one: CXone has its token in the init message.
    pub(super) async fn enter(&self, visit: &Visit, tokens: Vec<Secret>) -> Outcome {
        let page = self.page(visit).await?;
        // The event came again: the token was judged, and spent if it was good for one use.
        if page.document.is_let_in {
            return Ok(());
        }
        let grant = self.grant_at_the_door(visit, &tokens).await.map_err(Refusal::fault)?;
        self.change(visit, page, |document| {
            if document.is_let_in {
                return (Step::Same, ());
            }
            document.is_let_in = true;
            document.grant.clone_from(&grant);
            (Step::Changed, ())
        })
        .await?;
        Ok(())
    }

    async fn grant_at_the_door(&self, visit: &Visit, tokens: &[Secret]) -> Result<Option<Grant>, Refusal> {
        // With an authorizer every event says what is allowed; nothing has to be kept.
        if visit.granted.is_some() || tokens.is_empty() || self.gate.is_open() {
            return Ok(None);
        }
        let presented = || tokens.iter().map(Secret::reveal);
        let mut wanted = Wanted { scope: Scope::Audio, contact: None, now_s: visit.now_ms / 1000 };
        // It is not known yet whether a stream or a page comes in: a token that is good for either will do.
        if self.parts.guard.judge(presented(), &wanted).await == Err(Refusal::Scope) {
            wanted.scope = Scope::Listen;
        }
        let grant = self.gate.judge(presented(), &wanted).await?;
        Ok(Some(Grant { one_time: None, ..grant }))
    }

    /// Asks what is known of a connection, and the token that came with a message, whether something is allowed.
    pub(super) async fn may(
        &self,
        visit: &Visit,
        kept: Option<&Grant>,
        token: Option<&Secret>,
        wanted: &Wanted,
    ) -> Result<(), Fault> {
        let granted = self.granted(visit, kept);
        let contact = wanted.contact.as_ref();
        if granted.as_ref().is_some_and(|grant| grant.check(wanted.scope, contact).is_ok()) {
            return Ok(());
        }
        let judged = match (granted, token) {
            // What was refused is what the peer relied on: the grant.
            (Some(grant), None) => self.gate.check(grant, wanted.scope, contact),
            (_, token) => self.gate.judge(token.map(Secret::reveal), wanted).await,
        };
        judged.map(drop).map_err(Refusal::fault)
    }
}
