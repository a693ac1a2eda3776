//! Who a request comes from: judged by API Gateway's authorizer before it got here, or judged here.
//!
//! What the authorizer found out travels in the request's context, which only API Gateway can write. A token that is
//! good for one use is spent here, in the store, so that it is spent for every door at once.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use earpiece_access::{Grant, Guard, Refusal, Scope, Wanted};
use earpiece_core::contact::ContactKey;
use earpiece_core::secret::Secret;
use earpiece_core::telemetry::AUTH_REFUSALS;
use earpiece_store::Store;
use lambda_http::RequestExt as _;
use lambda_http::request::RequestContext;
use serde_json::{Map, Value, json};
use tracing::{info, warn};

use crate::answer::{Problem, Request, header};
use crate::clock::{wall_ms, wall_s};
use crate::counters::Counters;

/// The word for "every scope" in a context.
const EVERY_SCOPE: &str = "*";

/// One door: who may come in, and where refusals are counted.
#[derive(Clone)]
pub struct Gate {
    guard: Guard,
    store: Option<Store>,
    counters: Arc<Counters>,
    door: &'static str,
}

impl Gate {
    /// The door of HTTP requests.
    #[must_use]
    pub const fn http(guard: Guard, store: Option<Store>, counters: Arc<Counters>) -> Self {
        Self { guard, store, counters, door: "http" }
    }

    /// The door of sockets through API Gateway.
    #[must_use]
    pub const fn websocket(guard: Guard, store: Option<Store>, counters: Arc<Counters>) -> Self {
        Self { guard, store, counters, door: "websocket" }
    }

    /// Whether everybody is let in.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.guard.is_open()
    }

    /// Lets an HTTP request in, by what the authorizer said of it, or by its `Authorization` header or the token that
    /// came in its body.
    ///
    /// # Errors
    /// Why not; it was counted.
    pub async fn admit(
        &self,
        request: &Request,
        in_body: Option<&Secret>,
        scope: Scope,
        contact: Option<ContactKey>,
    ) -> Result<Grant, Refusal> {
        let grant = self.weigh(request, in_body, scope, contact).await?;
        self.spend(&grant).await?;
        Ok(grant)
    }

    /// The same without spending a token that is good for one use: for a door that has more to ask of the request, and
    /// leaves the token whole where it sends the caller away. It must call [`Gate::spend`] before it does anything.
    ///
    /// # Errors
    /// Why not; it was counted.
    pub async fn weigh(
        &self,
        request: &Request,
        in_body: Option<&Secret>,
        scope: Scope,
        contact: Option<ContactKey>,
    ) -> Result<Grant, Refusal> {
        if let Some(grant) = granted(request) {
            return self.check(grant, scope, contact.as_ref());
        }
        let presented = header(request, "authorization").into_iter().chain(in_body.map(Secret::reveal));
        let wanted = Wanted { scope, contact, now_s: wall_s() };
        self.guard.judge(presented, &wanted).await.inspect_err(|refusal| self.refused(*refusal))
    }

    /// Spends the token that a grant came from, if it is good for one use.
    ///
    /// # Errors
    /// When it was spent before, or nobody can say; it was counted.
    pub async fn spend(&self, grant: &Grant) -> Result<(), Refusal> {
        self.spend_quietly(grant).await.inspect_err(|refusal| self.refused(*refusal))
    }

    /// Judges tokens, and spends the one that is good for one use.
    ///
    /// # Errors
    /// Why not; it was counted.
    pub async fn judge<'a>(
        &self,
        presented: impl IntoIterator<Item = &'a str>,
        wanted: &Wanted,
    ) -> Result<Grant, Refusal> {
        self.judge_quietly(presented, wanted).await.inspect_err(|refusal| self.refused(*refusal))
    }

    /// The same without counting, for a door that asks again before it refuses.
    pub(crate) async fn judge_quietly<'a>(
        &self,
        presented: impl IntoIterator<Item = &'a str>,
        wanted: &Wanted,
    ) -> Result<Grant, Refusal> {
        let grant = self.guard.judge(presented, wanted).await?;
        self.spend_quietly(&grant).await?;
        Ok(grant)
    }

    /// Asks a grant that was given before whether it covers this, too.
    ///
    /// # Errors
    /// Why not; it was counted.
    pub fn check(&self, grant: Grant, scope: Scope, contact: Option<&ContactKey>) -> Result<Grant, Refusal> {
        match grant.check(scope, contact) {
            Ok(()) => Ok(grant),
            Err(refusal) => {
                self.refused(refusal);
                Err(refusal)
            }
        }
    }

    /// Without a store nothing can be spent, and a token that cannot be spent must not pass.
    async fn spend_quietly(&self, grant: &Grant) -> Result<(), Refusal> {
        let Some(one_time) = &grant.one_time else {
            return Ok(());
        };
        let Some(store) = &self.store else {
            return Err(Refusal::KeysUnavailable);
        };
        match store.spend(&one_time.id, one_time.expires_at_s, wall_ms()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Replayed),
            Err(error) => {
                warn!(%error, "a one-time token could not be spent");
                Err(Refusal::KeysUnavailable)
            }
        }
    }

    /// Notes a refusal.
    pub(crate) fn refused(&self, refusal: Refusal) {
        info!(door = self.door, reason = refusal.label(), "refused");
        self.counters.count(AUTH_REFUSALS, &[("door", self.door), ("reason", refusal.label())]);
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::from(refusal.fault())
    }
}

/// What API Gateway's authorizer said of an HTTP request, if one was asked.
fn granted(request: &Request) -> Option<Grant> {
    let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() else {
        return None;
    };
    grant_of(&context.authorizer.as_ref()?.fields)
}

/// Reads a grant from an authorizer's context: the values that [`context_of`] wrote, which API Gateway hands on as text.
///
/// `None` for a context that is not ours, and for one that cannot be read: then the request is judged here.
#[must_use]
pub fn grant_of(fields: &HashMap<String, Value, impl BuildHasher>) -> Option<Grant> {
    let scopes = match text_of(fields, "scope")?.as_str() {
        EVERY_SCOPE => None,
        words => Some(words.split_whitespace().map(Scope::parse).collect::<Option<Vec<_>>>()?),
    };
    Some(Grant {
        subject: text_of(fields, "subject"),
        bus_no: number_of(fields, "busNo")?,
        contact_id: number_of(fields, "contactId")?,
        scopes,
        // Whoever wrote the context has spent it.
        one_time: None,
    })
}

/// A grant as an authorizer's context, all of it text: API Gateway takes nothing else for sockets.
#[must_use]
pub fn context_of(grant: &Grant) -> Value {
    let scope = grant.scopes.as_ref().map_or_else(|| EVERY_SCOPE.to_owned(), |scopes| Scope::list(scopes));
    let mut context = Map::from_iter([("scope".to_owned(), json!(scope))]);
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            context.insert(name.to_owned(), json!(value));
        }
    };
    put("busNo", grant.bus_no.map(|bus_no| bus_no.to_string()));
    put("contactId", grant.contact_id.map(|contact_id| contact_id.to_string()));
    put("subject", grant.subject.clone());
    Value::Object(context)
}

fn text_of(fields: &HashMap<String, Value, impl BuildHasher>, name: &str) -> Option<String> {
    match fields.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// An absent number is no bound; one that cannot be read makes the whole context unreadable, or a bound would be lost.
#[expect(clippy::option_option, reason = "unreadable and absent are different answers")]
fn number_of(fields: &HashMap<String, Value, impl BuildHasher>, name: &str) -> Option<Option<u64>> {
    match fields.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(_) => text_of(fields, name)?.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(context: &Value) -> HashMap<String, Value> {
        context.as_object().unwrap().clone().into_iter().collect()
    }

    #[test]
    fn a_grant_survives_the_way_through_api_gateway() {
        let bound = Grant {
            subject: Some("studio".into()),
            bus_no: Some(4_595_000),
            contact_id: Some(u64::MAX),
            scopes: Some(vec![Scope::Utterances, Scope::Events]),
            one_time: None,
        };
        for grant in [bound, Grant::everybody()] {
            let read = grant_of(&fields(&context_of(&grant))).unwrap();
            assert_eq!(
                (read.subject, read.bus_no, read.contact_id, read.scopes),
                (grant.subject, grant.bus_no, grant.contact_id, grant.scopes)
            );
        }
    }

    #[test]
    fn a_context_of_somebody_else_or_a_damaged_one_grants_nothing() {
        for context in [
            json!({}),
            json!({"subject": "x"}),
            json!({"scope": "all"}),
            json!({"scope": "*", "busNo": "x"}),
            json!({"scope": "*", "contactId": ["1"]}),
            json!({"scope": {}}),
        ] {
            assert!(grant_of(&fields(&context)).is_none(), "{context}");
        }
    }
}
