//! `POST /contacts/{busNo}/{contactId}/suggestions` and `POST /interactions/{interactionId}/suggestions` (contract §5 A):
//! help for the agent comes in, is judged by the rules, and waits in the outbox for whoever holds CXone's socket.
//!
//! | module | holds |
//! | --- | --- |
//! | `desk` | one suggestion through the rules into the store, whoever brings it |
//! | `place` | whose agent is meant, by path and by token |
//! | `from_app` | suggestions in the assist app's answers to text |
//!
//! What was answered 202 is in the outbox, in one transaction with the slot that it takes: it is sent, or its window
//! ends, and the audit says which. Nothing here speaks to CXone.

mod desk;
mod from_app;
mod place;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use earpiece_access::{Refusal, Scope};
use earpiece_core::assist::{Rejection, Suggestion};
use earpiece_core::error::{Fault, Kind};
use earpiece_store::Store;
use lambda_http::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::answer::{self, Answer, Problem, Request};
use crate::auth::Gate;
use crate::clock::wall_ms;
use crate::counters::Counters;
use crate::routes;
use crate::start::{Setup, StartError};
use crate::text_hook::RATE_WINDOW_S;

pub use self::desk::{Desk, Taken};
pub use self::from_app::{SUGGESTIONS_PER_ANSWER_MAX, UNDER_WAY_MAX};
use self::place::Place;
pub(crate) use self::place::route_of;

/// Size of a body: the longest content with every byte of it escaped, and the rest.
pub const BODY_BYTES_MAX: usize = 32 * 1024;

/// Windows in which suggestions are counted begin between those of utterances, so that neither takes the other's places.
const RATE_WINDOW_OFFSET_S: i64 = 5;

/// Under which business unit suggestions are counted that name none.
const NO_BUSINESS_UNIT: u64 = 0;

/// The word for a suggestion that could be understood and that a rule does not let pass.
const REJECTED: &str = "rejected";

/// The door of suggestions.
#[derive(Clone)]
pub struct Suggestions {
    store: Store,
    gate: Gate,
    desk: Desk,
    counters: Arc<Counters>,
}

impl Suggestions {
    /// A door on these parts.
    #[must_use]
    pub const fn new(store: Store, gate: Gate, desk: Desk, counters: Arc<Counters>) -> Self {
        Self { store, gate, desk, counters }
    }

    /// The function's door.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub async fn open(setup: &Setup) -> Result<Self, StartError> {
        let store = setup.store().await;
        let guard = setup.guard(&setup.settings.text_tokens).await?;
        let gate = Gate::http(guard, Some(store.clone()), Arc::clone(&setup.counters));
        let desk = Desk::new(store.clone(), Arc::clone(&setup.counters), setup.settings.suggestions);
        Ok(Self::new(store, gate, desk, Arc::clone(&setup.counters)))
    }

    /// Answers a request.
    pub async fn answer(&self, request: &Request) -> Answer {
        let path = answer::path_of(request);
        let Some(route) = route_of(path) else {
            return routes::counted(&self.counters, None, answer::not_found());
        };
        let answer = if *request.method() == Method::POST {
            let place = Place::of(path, self.desk.bus_no());
            self.take(request, place).await.unwrap_or_else(|problem| problem.answer())
        } else {
            answer::method_not_allowed("POST")
        };
        routes::counted(&self.counters, Some(route), answer)
    }

    async fn take(&self, request: &Request, place: Result<Place, Problem>) -> Result<Answer, Problem> {
        let body = answer::json_body(request, BODY_BYTES_MAX)?;
        // Who may not speak learns nothing about what is wrong with what it says.
        let contact = place.as_ref().ok().and_then(|place| place.contact);
        let grant = self.gate.weigh(request, None, Scope::Suggestions, contact).await?;
        let place = place?;
        if !place.is_open_to(&grant) {
            self.gate.refused(Refusal::ForeignContact);
            return Err(Refusal::ForeignContact.into());
        }
        if let Some(foreign) = place.of_another_unit(self.desk.bus_no()) {
            return Ok(foreign);
        }
        let now_ms = wall_ms();
        let suggestion = read(body, now_ms)?;
        self.within_rate(&place, now_ms).await?;
        // After all that can be wrong: who corrects it needs no new token.
        self.gate.spend(&grant).await?;
        Ok(match self.desk.submit(&place.interaction, &suggestion, now_ms).await? {
            Ok(taken) => accepted(&place, &suggestion, taken),
            Err(rejection) => rejected(&rejection),
        })
    }

    async fn within_rate(&self, place: &Place, now_ms: i64) -> Result<(), Problem> {
        let bus_no = place.contact.map(|contact| contact.bus_no).or(self.desk.bus_no()).unwrap_or(NO_BUSINESS_UNIT);
        let since_s = (now_ms / 1000 - RATE_WINDOW_OFFSET_S).rem_euclid(RATE_WINDOW_S.into());
        let max = self.desk.per_second_max().saturating_mul(RATE_WINDOW_S);
        if self.store.count_request(bus_no, now_ms / 1000 - since_s, max).await? {
            return Ok(());
        }
        Err(Problem::new(Kind::RateLimited, "too many suggestions for this business unit; try again"))
    }
}

/// The suggestion of a body. One without an id gets one, which the answer says.
fn read(body: &[u8], now_ms: i64) -> Result<Suggestion, Problem> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let mut value: Value = serde_json::from_slice(body).unwrap_or_default();
    let Value::Object(fields) = &mut value else {
        return Err(Problem::new(Kind::BadInput, "the message must be a JSON object"));
    };
    if fields.get("id").is_none_or(Value::is_null) {
        fields.insert("id".to_owned(), json!(uuid::Uuid::now_v7().simple().to_string()));
    }
    Suggestion::read(&value, now_ms).map_err(unreadable)
}

/// A fault's text names the field between backticks; the answer names it apart, too.
fn unreadable(fault: Fault) -> Problem {
    let field = fault.public.split('`').nth(1).unwrap_or_default().to_owned();
    Problem::from(fault).at(field)
}

fn accepted(place: &Place, suggestion: &Suggestion, taken: Taken) -> Answer {
    let body = json!({
        "status": "accepted",
        "interactionId": place.interaction,
        "suggestionId": suggestion.id,
        "relevanceScore": taken.relevance_score,
        "active": taken.active,
    });
    answer::json(StatusCode::ACCEPTED, &body)
}

/// 409 where the interaction's state is in the way, 422 where the suggestion itself is.
fn rejected(rejection: &Rejection) -> Answer {
    let status = if rejection.status() == 422 { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::CONFLICT };
    let mut figures = rejection.to_json();
    if let Value::Object(figures) = &mut figures {
        figures.remove("rule");
    }
    refusal(status, rejection.rule(), &rejection.to_string(), &figures)
}

/// The one shape of what a rule refuses.
fn refusal(status: StatusCode, rule: &str, message: &str, figures: &Value) -> Answer {
    let body = json!({ "error": { "kind": REJECTED, "message": message }, "rule": rule, "figures": figures });
    answer::json(status, &body)
}
