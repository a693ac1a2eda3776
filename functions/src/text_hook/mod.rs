//! `POST /agent_assist_text_webhooks/utterance` (contract §2): one thing that somebody typed.
//!
//! One conditional write decides whether it is new, and holds it until the assist app has it; only then CXone is
//! answered. Whatever got a 200 is delivered or kept as a dead letter.

mod key;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use earpiece_access::{Grant, Refusal, Scope};
use earpiece_core::contact::ContactKey;
use earpiece_core::error::Kind;
use earpiece_core::protocol::{ParseError, Utterance};
use earpiece_core::secret::Secret;
use earpiece_core::telemetry::UTTERANCES;
use earpiece_relay::text::UtteranceNote;
use earpiece_store::utterance::PAYLOAD_BYTES_MAX;
use earpiece_store::{Acceptance, Accepted, Store};
use lambda_http::RequestExt as _;
use lambda_http::http::{Method, StatusCode};
use serde_json::{Value, json};
use tracing::{debug, info};

use crate::answer::{self, Answer, Problem, Request};
use crate::auth::Gate;
use crate::clock::{as_ms, wall_ms};
use crate::counters::Counters;
use crate::delivery::{Delivery, KEEP, LEASE_MARGIN, Outcome};
use crate::publish::Publisher;
use crate::routes::{self, Route};
use crate::settings::{Assist, TextRules};
use crate::start::{Setup, StartError};
use crate::suggestions::Desk;

/// Size of a body.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Size of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// What a business unit sends is counted over so many seconds.
pub(crate) const RATE_WINDOW_S: u32 = 10;

/// What is left of an invocation's time for the mark and the answer.
const ANSWER_RESERVE: Duration = Duration::from_millis(500);

/// Lambda's longest invocation: a deadline further away than that is not one.
const INVOCATION_MAX_MS: i64 = 15 * 60 * 1000;

/// The text hook.
#[derive(Clone)]
pub struct TextHook {
    store: Store,
    gate: Gate,
    delivery: Delivery,
    counters: Arc<Counters>,
    rules: TextRules,
}

impl TextHook {
    /// A text hook of these parts.
    #[must_use]
    pub const fn new(store: Store, gate: Gate, delivery: Delivery, counters: Arc<Counters>, rules: TextRules) -> Self {
        Self { store, gate, delivery, counters, rules }
    }

    /// The function's text hook.
    ///
    /// # Errors
    /// When a setting cannot be used, or none says where utterances go.
    pub async fn open(setup: &Setup) -> Result<Self, StartError> {
        let delivery = open_delivery(setup).await?;
        let store = setup.store().await;
        let guard = setup.guard(&setup.settings.text_tokens).await?;
        let gate = Gate::http(guard, Some(store.clone()), Arc::clone(&setup.counters));
        Ok(Self::new(store, gate, delivery, Arc::clone(&setup.counters), setup.settings.text))
    }

    /// Answers a request.
    pub async fn answer(&self, request: &Request) -> Answer {
        let route = Route::TextHook;
        if !route.is_path(answer::path_of(request)) {
            return routes::counted(&self.counters, None, answer::not_found());
        }
        let answer = if *request.method() == Method::POST {
            self.take(request).await.unwrap_or_else(|problem| problem.answer())
        } else {
            answer::method_not_allowed("POST")
        };
        routes::counted(&self.counters, Some(route), answer)
    }

    async fn take(&self, request: &Request) -> Result<Answer, Problem> {
        let utterance = match read(request)? {
            Ok(utterance) => utterance,
            Err(unreadable) => return Err(self.unreadable(request, unreadable).await),
        };
        let grant = self.judge(request, utterance.authorization_header.as_ref(), Some(utterance.contact)).await?;
        let key = dedupe_key_of(request, &utterance)?;
        let note = UtteranceNote::new(&utterance, request_id(), wall_ms());
        let payload = note.to_payload();
        if payload.len() > PAYLOAD_BYTES_MAX {
            let text = format!("the utterance has more than {PAYLOAD_BYTES_MAX} bytes once its JSON is written out");
            return Err(Problem::new(Kind::TooLarge, text));
        }
        self.within_rate(utterance.contact.bus_no).await?;
        // Last, so that whoever is told to come again can: only where the store fails between this write and the next
        // does a 503 need a new token. The other way round, a spent token could bring an utterance in.
        self.gate.spend(&grant).await?;
        self.accept(request, &note, &payload, &key).await
    }

    /// A body that cannot be read has no token in it that can be trusted to be all: the request is refused for its
    /// header where that is wrong and the body holds none, and otherwise for its body.
    async fn unreadable(&self, request: &Request, unreadable: Unreadable) -> Problem {
        let is_presented = answer::header(request, "authorization").is_some();
        if is_presented
            && !unreadable.has_token
            && let Err(refusal) = self.judge(request, None, None).await
        {
            return refusal.into();
        }
        unreadable.error.into()
    }

    /// Spends nothing.
    async fn judge(
        &self,
        request: &Request,
        in_body: Option<&Secret>,
        contact: Option<ContactKey>,
    ) -> Result<Grant, Refusal> {
        self.gate.weigh(request, in_body, Scope::Utterances, contact).await
    }

    async fn within_rate(&self, bus_no: u64) -> Result<(), Problem> {
        let now_s = wall_ms() / 1000;
        let window_start_s = now_s - now_s.rem_euclid(RATE_WINDOW_S.into());
        let max = self.rules.per_second_max.saturating_mul(RATE_WINDOW_S);
        if self.store.count_request(bus_no, window_start_s, max).await? {
            return Ok(());
        }
        Err(Problem::new(Kind::RateLimited, "too many utterances of this business unit; try again").at("busNo"))
    }

    async fn accept(
        &self,
        request: &Request,
        note: &UtteranceNote,
        payload: &[u8],
        key: &str,
    ) -> Result<Answer, Problem> {
        let budget = self.budget(request);
        let acceptance = Acceptance {
            contact: note.contact,
            key,
            request_id: &note.request_id,
            payload,
            now_ms: wall_ms(),
            lease_ms: as_ms(budget + LEASE_MARGIN),
            window_ms: as_ms(self.rules.window),
            keep_ms: as_ms(KEEP),
        };
        match self.store.accept_utterance(&acceptance).await? {
            Accepted::New => {
                self.counters.count(UTTERANCES, &[("outcome", "accepted")]);
                let outcome = self.delivery.first(note, key, budget).await;
                let is_delivered = outcome == Outcome::Delivered;
                debug!(contact = %note.contact, request = note.request_id, is_delivered, "utterance accepted");
                Ok(taken("accepted", &note.contact, &note.request_id))
            }
            Accepted::Duplicate { request_id, .. } => {
                self.counters.count(UTTERANCES, &[("outcome", "duplicate")]);
                Ok(taken("duplicate", &note.contact, &request_id))
            }
        }
    }

    fn budget(&self, request: &Request) -> Duration {
        let deadline_ms = request.lambda_context_ref().and_then(|context| i64::try_from(context.deadline).ok());
        deadline_ms.map_or(self.rules.budget, |deadline_ms| within(self.rules.budget, deadline_ms - wall_ms()))
    }
}

/// The budget, and no more than the invocation has left. `cargo lambda watch` sends a duration where Lambda sends a
/// moment, so what is further away than an invocation can last says nothing.
fn within(budget: Duration, left_ms: i64) -> Duration {
    if left_ms.abs() > INVOCATION_MAX_MS {
        return budget;
    }
    let left = Duration::from_millis(left_ms.max(0).cast_unsigned());
    budget.min(left.saturating_sub(ANSWER_RESERVE))
}

/// The delivery as the settings want it.
///
/// # Errors
/// When a setting cannot be used, or none says where utterances go.
pub(crate) async fn open_delivery(setup: &Setup) -> Result<Delivery, StartError> {
    let relay = match &setup.settings.assist {
        Assist::At(settings) => {
            Some(earpiece_relay::text::TextRelay::new(setup.client()?, settings.clone()).map_err(StartError::new)?)
        }
        Assist::Nobody => {
            info!("there is no assist app for text: utterances are accepted and go nowhere");
            None
        }
        Assist::Unset => {
            return Err(StartError::new(format!(
                "{} is not set: utterances would go nowhere; set it to the assist app's address, or to `none`",
                crate::settings::ASSIST_TEXT_URL.name
            )));
        }
    };
    let store = setup.store().await;
    let publisher = Publisher::new(store.clone(), setup.push().await, Arc::clone(&setup.counters));
    let desk = Desk::new(store.clone(), Arc::clone(&setup.counters), setup.settings.suggestions);
    Ok(Delivery::new(store, relay, publisher, desk, Arc::clone(&setup.counters), setup.settings.text))
}

fn dedupe_key_of(request: &Request, utterance: &Utterance) -> Result<String, Problem> {
    let given = answer::header(request, "idempotency-key");
    if given.is_some_and(|given| given.len() > IDEMPOTENCY_KEY_BYTES_MAX) {
        let text = format!("`Idempotency-Key` is longer than {IDEMPOTENCY_KEY_BYTES_MAX} bytes");
        return Err(Problem::new(Kind::BadInput, text).at("Idempotency-Key"));
    }
    Ok(key::dedupe_key(utterance, given))
}

/// A body that is no utterance.
struct Unreadable {
    error: ParseError,
    has_token: bool,
}

/// The utterance of a request.
fn read(request: &Request) -> Result<Result<Utterance, Unreadable>, Problem> {
    let body = answer::json_body(request, BODY_BYTES_MAX)?;
    Ok(Utterance::parse(body).map_err(|error| Unreadable { error, has_token: has_token(body) }))
}

/// Whether there is a token in a body that is JSON and no utterance.
fn has_token(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return false };
    let is_token = |name: &str| name.eq_ignore_ascii_case("authorizationHeader");
    fields.iter().any(|(name, token)| is_token(name) && token.as_str().is_some_and(|token| !token.trim().is_empty()))
}

/// A name for one utterance: it sorts by time, and nobody else has it.
fn request_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

fn taken(status: &str, contact: &ContactKey, request_id: &str) -> Answer {
    let body = json!({
        "status": status,
        "busNo": contact.bus_no,
        "contactId": contact.contact_id,
        "requestId": request_id,
    });
    answer::json(StatusCode::OK, &body)
}
