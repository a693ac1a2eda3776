//! `POST /contacts/{busNo}/{contactId}/events` (contract §4): the Studio script says what happens to a contact, so that
//! holds and ends are known rather than guessed.

mod moment;
#[cfg(test)]
#[path = "contact_events/tests.rs"]
mod through_the_doors;

use std::sync::Arc;
use std::time::Duration;

use earpiece_access::Scope;
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::event::{ContactEvent, ScriptEvent, ScriptEventKind, What};
use earpiece_core::error::Kind;
use earpiece_core::telemetry::CONTACT_EVENTS;
use earpiece_store::{NotedEvent, Store};
use lambda_http::http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tracing::info;

use crate::answer::{self, Answer, Problem, Request};
use crate::auth::Gate;
use crate::clock::{as_ms, wall_ms};
use crate::counters::Counters;
use crate::path;
use crate::publish::Publisher;
use crate::routes::{self, Route};
use crate::start::{Setup, StartError};

/// Size of a body.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// Length of an agent's id.
pub const AGENT_ID_CHARACTERS_MAX: usize = 128;

/// How far a script's clock may differ: further away, the moment at which the event came counts.
pub const SKEW_MAX: Duration = Duration::from_hours(24);

/// How long events are kept.
pub const KEEP: Duration = Duration::from_hours(30 * 24);

/// What follows a contact's ids in the path.
pub(crate) const PATH_END: &str = "/events";

/// What the body may be called: the documents leave the name to us, and scripts are written by hand.
const KIND_NAMES: [&str; 2] = ["event", "type"];

/// The contact events.
#[derive(Clone)]
pub struct ContactEvents {
    store: Store,
    gate: Gate,
    publisher: Publisher,
    counters: Arc<Counters>,
    hold_max: Duration,
}

impl ContactEvents {
    /// Contact events on these parts.
    #[must_use]
    pub const fn new(
        store: Store,
        gate: Gate,
        publisher: Publisher,
        counters: Arc<Counters>,
        hold_max: Duration,
    ) -> Self {
        Self { store, gate, publisher, counters, hold_max }
    }

    /// The function's contact events.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub async fn open(setup: &Setup) -> Result<Self, StartError> {
        let store = setup.store().await;
        let guard = setup.guard(&setup.settings.text_tokens).await?;
        let gate = Gate::http(guard, Some(store.clone()), Arc::clone(&setup.counters));
        let publisher = Publisher::new(store.clone(), setup.push().await, Arc::clone(&setup.counters));
        Ok(Self::new(store, gate, publisher, Arc::clone(&setup.counters), setup.settings.hold_max))
    }

    /// Answers a request.
    pub async fn answer(&self, request: &Request) -> Answer {
        let Some(contact) = path::contact_ids(answer::path_of(request), PATH_END).map(path::contact_of) else {
            return routes::counted(&self.counters, None, answer::not_found());
        };
        let answer = if *request.method() == Method::POST {
            self.take(request, contact).await.unwrap_or_else(|problem| problem.answer())
        } else {
            answer::method_not_allowed("POST")
        };
        routes::counted(&self.counters, Some(Route::ContactEvents), answer)
    }

    async fn take(&self, request: &Request, contact: Result<ContactKey, Problem>) -> Result<Answer, Problem> {
        answer::json_body(request, BODY_BYTES_MAX)?;
        // Who may not speak learns nothing about what is wrong with what it says.
        let grant = self.gate.weigh(request, None, Scope::Events, contact.as_ref().ok().copied()).await?;
        let contact = contact?;
        let now_ms = wall_ms();
        let said = Said::read(request.body().as_ref(), now_ms)?;
        // After all that can be wrong: who corrects it needs no new token.
        self.gate.spend(&grant).await?;
        let noted = NotedEvent {
            kind: said.event.kind,
            at_ms: said.at_ms,
            agent_id: said.event.agent_id.clone(),
            request_id: uuid::Uuid::now_v7().simple().to_string(),
        };
        let (hold_max_ms, keep_ms) = (as_ms(self.hold_max), as_ms(KEEP));
        let is_known = self.store.note_event(&contact, &noted, now_ms, hold_max_ms, keep_ms).await?;
        let kind = said.event.kind.label();
        self.counters.count(CONTACT_EVENTS, &[("kind", kind)]);
        info!(%contact, kind, is_known, request = noted.request_id, "contact event");
        let event = ContactEvent { contact, at_us: said.at_ms.saturating_mul(1000), what: What::Script(said.event) };
        self.publisher.tell(&contact, &[event.to_json()]).await;
        let answer = json!({
            "status": "accepted",
            "busNo": contact.bus_no,
            "contactId": contact.contact_id,
            "requestId": noted.request_id,
            "known": is_known,
        });
        Ok(answer::json(StatusCode::OK, &answer))
    }
}

/// What a script said.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    event: ScriptEvent,
    at_ms: i64,
}

impl Said {
    fn read(body: &[u8], now_ms: i64) -> Result<Self, Problem> {
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            return Err(Problem::new(Kind::BadInput, "the message must be a JSON object"));
        };
        Ok(Self {
            event: ScriptEvent { kind: kind_of(&fields)?, agent_id: agent_of(&fields)? },
            at_ms: at_of(&fields, now_ms)?,
        })
    }
}

/// A field by its name in any case; null is absent.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let exact = fields.get(name);
    let found = exact.or_else(|| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    found.filter(|value| !value.is_null())
}

fn kind_of(fields: &Map<String, Value>) -> Result<ScriptEventKind, Problem> {
    let Some(value) = KIND_NAMES.iter().find_map(|name| field(fields, name)) else {
        return Err(Problem::new(Kind::BadInput, "`event` is missing").at("event"));
    };
    value
        .as_str()
        .and_then(ScriptEventKind::parse)
        .ok_or_else(|| Problem::new(Kind::BadInput, "`event` must be `start`, `hold`, `resume` or `end`").at("event"))
}

fn agent_of(fields: &Map<String, Value>) -> Result<Option<String>, Problem> {
    let wrong = || {
        let text = format!("`agentId` must be text or a whole number, of at most {AGENT_ID_CHARACTERS_MAX} characters");
        Problem::new(Kind::BadInput, text).at("agentId")
    };
    match field(fields, "agentId") {
        None => Ok(None),
        Some(Value::String(text)) if text.chars().count() <= AGENT_ID_CHARACTERS_MAX => {
            Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
        }
        Some(Value::Number(number)) if number.is_u64() => Ok(Some(number.to_string())),
        Some(_) => Err(wrong()),
    }
}

/// When it happened: milliseconds since the Unix epoch or RFC 3339 text; now, where nothing is said or the script's
/// clock is far off.
fn at_of(fields: &Map<String, Value>, now_ms: i64) -> Result<i64, Problem> {
    let wrong = || {
        let text = "`at` must be milliseconds since the Unix epoch, or a moment such as 2026-01-31T12:00:00Z";
        Problem::new(Kind::BadInput, text).at("at")
    };
    let at_ms = match field(fields, "at") {
        None => return Ok(now_ms),
        Some(Value::Number(number)) => number.as_i64().filter(|at_ms| *at_ms >= 0).ok_or_else(wrong)?,
        Some(Value::String(text)) => moment::parse_ms(text.trim()).ok_or_else(wrong)?,
        Some(_) => return Err(wrong()),
    };
    let is_near = at_ms.abs_diff(now_ms) <= as_ms(SKEW_MAX);
    Ok(if is_near { at_ms } else { now_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_780_000_000_000;

    fn said(body: &Value) -> Result<Said, String> {
        Said::read(body.to_string().as_bytes(), NOW_MS)
            .map_err(|problem| format!("{}: {}", problem.field.unwrap_or_default(), problem.fault.public))
    }

    #[test]
    fn what_a_script_says_is_read_in_every_form_in_which_it_is_written() {
        let hold = |agent_id: Option<&str>, at_ms| {
            let event = ScriptEvent { kind: ScriptEventKind::Hold, agent_id: agent_id.map(str::to_owned) };
            Ok(Said { event, at_ms })
        };
        assert_eq!(said(&json!({"event": "hold"})), hold(None, NOW_MS));
        assert_eq!(said(&json!({"Type": "HOLD", "agentID": 12})), hold(Some("12"), NOW_MS));
        assert_eq!(
            said(&json!({"event": "hold", "agentId": " a-1 ", "at": NOW_MS - 5})),
            hold(Some("a-1"), NOW_MS - 5)
        );
        assert_eq!(said(&json!({"event": "hold", "at": "2026-05-28T20:26:39.5Z"})), hold(None, NOW_MS - 500));
        assert_eq!(said(&json!({"event": "hold", "at": 5, "agentId": null})), hold(None, NOW_MS));
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_quoted() {
        for (body, field) in [
            (json!([]), ""),
            (json!({}), "event"),
            (json!({"event": "hunter2"}), "event"),
            (json!({"event": 1}), "event"),
            (json!({"event": "end", "agentId": "x".repeat(129)}), "agentId"),
            (json!({"event": "end", "agentId": {"hunter2": 1}}), "agentId"),
            (json!({"event": "end", "at": "hunter2"}), "at"),
            (json!({"event": "end", "at": -1}), "at"),
            (json!({"event": "end", "at": 1.5}), "at"),
        ] {
            let error = said(&body).unwrap_err();
            assert!(error.starts_with(&format!("{field}: ")) && !error.contains("hunter2"), "{body}: {error}");
        }
    }
}
