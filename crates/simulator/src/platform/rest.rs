//! The REST endpoints behind a token: knowledge search, insights, feedback and popup cards.

use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::check;
use super::faults::{Fault, FaultKind, On};
use super::received::{Kind, Note};
use super::reply::{Call, Reply, parameter};
use super::shared::{Shared, now_ms};
use super::tokens::Refused;

const CARDS_PREFIX: &str = "/api/v2/agentassist/interactions/";
const CARDS_SUFFIX: &str = "/cards";

/// Largest page of a search.
const PAGE_SIZE_MAX: usize = 100;

/// Longest query of a search, in bytes.
const QUERY_BYTES_MAX: usize = 16 * 1024;

/// One of the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Search,
    Insights,
    Feedback,
    Cards,
}

impl Endpoint {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/api/v2/knowledge/articles/search" => Some(Self::Search),
            "/api/v2/agentassist/insights" => Some(Self::Insights),
            "/api/v2/ai/training/feedback" => Some(Self::Feedback),
            path => interaction_of(path).map(|_| Self::Cards),
        }
    }

    pub(crate) const fn method(self) -> Method {
        match self {
            Self::Search => Method::GET,
            Self::Insights | Self::Feedback | Self::Cards => Method::POST,
        }
    }

    pub(crate) const fn on(self) -> On {
        match self {
            Self::Search => On::Search,
            Self::Insights => On::Insights,
            Self::Feedback => On::Feedback,
            Self::Cards => On::Cards,
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Search => Kind::Search,
            Self::Insights => Kind::Insight,
            Self::Feedback => Kind::Feedback,
            Self::Cards => Kind::Card,
        }
    }

    const fn scope(self) -> &'static str {
        match self {
            Self::Search => "knowledge:read",
            Self::Insights | Self::Cards => "agentassist:write",
            Self::Feedback => "ai:training:write",
        }
    }
}

/// The interaction in the path of a card, as it stands there.
fn interaction_of(path: &str) -> Option<&str> {
    path.strip_prefix(CARDS_PREFIX)?.strip_suffix(CARDS_SUFFIX).filter(|id| !id.contains('/'))
}

/// The interaction in the path of a card, decoded: a colon may come as `%3A`.
fn interaction_in(path: &str) -> Option<String> {
    let encoded = interaction_of(path)?.replace('+', "%2B").replace('&', "%26");
    parameter(&format!("id={encoded}"), "id")
}

/// A request, and what it is about.
struct Request<'a> {
    endpoint: Endpoint,
    call: &'a Call,
    body: Value,
    in_path: Option<String>,
}

/// Answers a request and writes it down.
pub(crate) fn answer(shared: &Shared, endpoint: Endpoint, call: &Call, fault: Option<&Fault>) -> Reply {
    let (body, in_path) = (call.json().unwrap_or_default(), interaction_in(&call.path));
    let request = Request { endpoint, call, body, in_path };
    let refused = fault.and_then(|fault| refusal(shared, fault, call.bearer()));
    let refused = refused.or_else(|| shared.judge(call.bearer(), &[endpoint.scope()]).err().map(unauthorized));
    let (reply, violation) = match refused {
        Some(reply) => (reply, None),
        None => match request.work(shared) {
            Ok(reply) => (reply, None),
            Err(reason) => (Reply::error(StatusCode::BAD_REQUEST, "invalid_request", &reason), Some(reason)),
        },
    };
    request.write_down(shared, reply.status());
    if let Some(reason) = violation {
        shared.violation(call.connection, endpoint.kind().label(), request.interaction(), &reason);
    }
    reply
}

impl Request<'_> {
    fn work(&self, shared: &Shared) -> Result<Reply, check::Reason> {
        if self.endpoint == Endpoint::Search {
            return search(shared, self.call);
        }
        if !self.call.is_of_type("application/json") {
            return Err("the body must be application/json".to_owned());
        }
        match self.endpoint {
            Endpoint::Search | Endpoint::Insights => {
                let count = check::insights(&self.body)?;
                Ok(Reply::json(StatusCode::OK, &json!({ "accepted": count })))
            }
            Endpoint::Feedback => check::feedback(&self.body).map(|()| Reply::empty(StatusCode::NO_CONTENT)),
            Endpoint::Cards => {
                check::path_id(self.in_path.as_deref().unwrap_or_default())?;
                let id = check::card(&self.body)?;
                Ok(Reply::json(StatusCode::CREATED, &json!({ "cardId": id })))
            }
        }
    }

    /// The interaction that is named, as far as that can be read.
    fn interaction(&self) -> Option<&str> {
        match self.endpoint {
            Endpoint::Search => None,
            Endpoint::Insights => self.body["insights"][0]["interactionId"].as_str(),
            Endpoint::Feedback => self.body["interactionId"].as_str(),
            Endpoint::Cards => self.in_path.as_deref(),
        }
    }

    /// The id that is named, as far as that can be read.
    fn id(&self) -> Option<&str> {
        match self.endpoint {
            Endpoint::Search => None,
            Endpoint::Insights => self.body["insights"][0]["id"].as_str(),
            Endpoint::Feedback => self.body["insightId"].as_str(),
            Endpoint::Cards => self.body["cardId"].as_str(),
        }
    }

    fn write_down(&self, shared: &Shared, status: u16) {
        let (interaction, id) = (self.interaction(), self.id());
        let body = match self.endpoint {
            Endpoint::Search => &self.call.query,
            _ => str::from_utf8(&self.call.body).unwrap_or_default(),
        };
        let (note, at_ms) = (Note { interaction, id, status, body }, now_ms());
        // One change: whoever sees the record sees the tally with it.
        shared.change(|received| {
            received.record(self.endpoint.kind(), self.call.connection, at_ms, &note);
            if !(200..300).contains(&status) {
                return;
            }
            match (self.endpoint, interaction, id) {
                (Endpoint::Cards, Some(interaction), Some(id)) => received.card_came(interaction, id),
                (Endpoint::Insights, ..) => {
                    received.insight_cards_came(self.body["insights"].as_array().map_or(0, Vec::len) as u64);
                }
                _ => {}
            }
        });
    }
}

fn search(shared: &Shared, call: &Call) -> Result<Reply, check::Reason> {
    let query = call.parameter("q").filter(|query| !query.trim().is_empty()).ok_or("q is missing")?;
    if query.len() > QUERY_BYTES_MAX {
        return Err(format!("q has more than {QUERY_BYTES_MAX} bytes"));
    }
    let number = |name: &str, default: usize, max: usize| {
        let Some(text) = call.parameter(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| format!("{name} must be a whole number from 1 to {max}"))
    };
    let page = number("page", 1, usize::MAX)?;
    let page_size = number("pageSize", 25, PAGE_SIZE_MAX)?;
    let found = shared.index.search(&query, call.parameter("language").as_deref(), page, page_size);
    let body = json!({ "entities": found.entities, "page": page, "pageSize": page_size, "total": found.total });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// The answer of a fault that refuses; none of those that only spoil the answer.
pub(crate) fn refusal(shared: &Shared, fault: &Fault, token: Option<&str>) -> Option<Reply> {
    let retry_later = |status, error: &str| {
        let reply = Reply::error(status, error, "on purpose");
        match fault.retry_after_s {
            Some(seconds) => reply.with(header::RETRY_AFTER, &seconds.to_string()),
            None => reply,
        }
    };
    match fault.kind {
        FaultKind::TooManyRequests => Some(retry_later(StatusCode::TOO_MANY_REQUESTS, "rate_limited")),
        FaultKind::Unavailable => Some(retry_later(StatusCode::SERVICE_UNAVAILABLE, "unavailable")),
        FaultKind::AuthFailure => Some(unauthorized(Refused::Invalid)),
        FaultKind::Revoke => {
            if let Some(token) = token {
                shared.tokens().revoke(token);
            }
            Some(unauthorized(Refused::Invalid))
        }
        _ => None,
    }
}

/// The answer to a token that was refused.
pub(crate) fn unauthorized(refused: Refused) -> Reply {
    let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let error = if status == StatusCode::FORBIDDEN { "insufficient_scope" } else { "invalid_token" };
    Reply::error(status, error, &refused.to_string()).with(header::WWW_AUTHENTICATE, &refused.challenge())
}
