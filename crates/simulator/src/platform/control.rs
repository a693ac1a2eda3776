//! The control interface, for programs on the same machine: what was received, events and faults.
//!
//! | request below `/_platform/` | answer |
//! | --- | --- |
//! | `GET received?kind=card,suggest&interaction=…&since=n&limit=n&waitMs=n` | records in order of arrival |
//! | `GET tally` | counts over everything |
//! | `GET interactions/{id}` | what one interaction got |
//! | `GET sockets` | the open sockets |
//! | `POST events` `{"socket", "frame" or "frames", "to"}` | sends events |
//! | `POST answers` `{"interactionId", "suggestionId", "answer"}` | lets an agent answer |
//! | `POST policy` | an [`AnswerPolicy`](super::AnswerPolicy) |
//! | `POST faults` | one [`Fault`] or a list; `GET` those that wait, `DELETE` all |
//! | `POST revoke` | revokes every token |

use std::net::IpAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::faults::Fault;
use super::received::{Answer, Kind, Received, Record};
use super::reply::{Call, Reply};
use super::settings::AnswerPolicy;
use super::shared::{Outgoing, Shared};
use super::{To, Uplink};

/// Records in one answer.
const RECORDS_MAX: usize = 10_000;

/// The longest wait for a record.
const WAIT_MAX: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Events {
    socket: Uplink,
    frame: Option<Value>,
    #[serde(default)]
    frames: Vec<Value>,
    #[serde(default)]
    to: To,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Answered {
    interaction_id: String,
    suggestion_id: String,
    answer: Answer,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Fault>),
    One(Fault),
}

/// Which records are asked for.
struct Wanted {
    kinds: Vec<Kind>,
    interaction: Option<String>,
    since: u64,
    limit: usize,
}

impl Wanted {
    fn wants(&self, record: &Record) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&record.kind))
            && self.interaction.as_deref().is_none_or(|interaction| record.is_of(interaction))
    }

    /// The records, and the number up to which the search came.
    fn find(&self, received: &Received) -> (Vec<Value>, u64) {
        let found = received.since(self.since).filter(|record| self.wants(record)).take(self.limit);
        let found: Vec<_> = found.map(|record| (record.number, record.to_json())).collect();
        let is_whole = found.len() < self.limit;
        let next = if is_whole { received.newest() } else { found.last().map_or(self.since, |&(number, _)| number) };
        (found.into_iter().map(|(_, record)| record).collect(), next)
    }
}

pub(crate) async fn answer(shared: &Shared, call: &Call, path: &str) -> Reply {
    if !is_this_machine(call.peer.ip()) {
        return Reply::error(StatusCode::FORBIDDEN, "forbidden", "the control interface is for the same machine only");
    }
    match (call.method.as_str(), path) {
        ("GET", "received") => received(shared, call).await,
        ("GET", "tally") => ok(&json!(shared.received().tally())),
        ("GET", "sockets") => ok(&json!({ "sockets": shared.received().sockets() })),
        ("GET", "faults") => ok(&json!({ "faults": shared.faults().waiting() })),
        ("POST", "events") => events(shared, call).await,
        ("POST", "answers") => answers(shared, call).await,
        ("POST", "policy") => read::<AnswerPolicy>(call).map_or_else(bad, |policy| {
            *shared.policy() = policy;
            Reply::empty(StatusCode::NO_CONTENT)
        }),
        ("POST", "faults") => faults(shared, call),
        ("DELETE", "faults") => {
            shared.faults().clear();
            Reply::empty(StatusCode::NO_CONTENT)
        }
        ("POST", "revoke") => ok(&json!({ "revoked": shared.revoke_all() })),
        _ => match path.strip_prefix("interactions/").filter(|_| call.method == Method::GET) {
            Some(id) => interaction(shared, id),
            None => Reply::error(StatusCode::NOT_FOUND, "not_found", "the control interface has no such request"),
        },
    }
}

fn is_this_machine(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

async fn received(shared: &Shared, call: &Call) -> Reply {
    let wanted = match wanted(call) {
        Ok(wanted) => wanted,
        Err(reason) => return bad(reason),
    };
    let wait =
        call.parameter("waitMs").and_then(|text| text.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
    let something = |received: &Received| Some(wanted.find(received)).filter(|(records, _)| !records.is_empty());
    let found = if wait.is_zero() { None } else { shared.wait_for(wait.min(WAIT_MAX), something).await };
    let (records, next) = found.unwrap_or_else(|| wanted.find(&shared.received()));
    ok(&json!({ "records": records, "next": next }))
}

fn wanted(call: &Call) -> Result<Wanted, &'static str> {
    let number = |name: &str, default: u64| match call.parameter(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| "since and limit must be whole numbers"),
    };
    let kinds = call.parameter("kind").unwrap_or_default();
    let kinds = kinds.split(',').filter(|word| !word.is_empty()).map(|word| Kind::parse(word).ok_or("an unknown kind"));
    let limit = usize::try_from(number("limit", RECORDS_MAX as u64)?).unwrap_or(RECORDS_MAX);
    Ok(Wanted {
        kinds: kinds.collect::<Result<_, _>>()?,
        interaction: call.parameter("interaction"),
        since: number("since", 0)?,
        limit: limit.clamp(1, RECORDS_MAX),
    })
}

fn interaction(shared: &Shared, id: &str) -> Reply {
    let received = shared.received();
    let Some(seen) = received.interaction(id) else {
        return Reply::error(StatusCode::NOT_FOUND, "not_found", "nothing came for this interaction");
    };
    let suggestion =
        |seen: &super::SuggestionSeen| json!({ "id": &*seen.id, "times": seen.times, "answer": seen.answer });
    ok(&json!({
        "suggestions": seen.suggestions.iter().map(suggestion).collect::<Vec<_>>(),
        "cards": seen.cards.iter().map(|card| json!({ "id": &*card.id, "times": card.times })).collect::<Vec<_>>(),
    }))
}

async fn events(shared: &Shared, call: &Call) -> Reply {
    let events: Events = match read(call) {
        Ok(events) => events,
        Err(reason) => return bad(reason),
    };
    let mut reached = 0;
    for frame in events.frame.into_iter().chain(events.frames) {
        // Text goes out as it is, so that frames that are no JSON can be sent too.
        let text = frame.as_str().map_or_else(|| frame.to_string(), str::to_owned);
        reached += shared.send(events.socket, &Outgoing::Frame(text.into()), events.to).await;
    }
    ok(&json!({ "sent": reached }))
}

async fn answers(shared: &Shared, call: &Call) -> Reply {
    match read::<Answered>(call) {
        Ok(answered) => {
            let is_first = shared.answer(&answered.interaction_id, &answered.suggestion_id, answered.answer).await;
            ok(&json!({ "answered": is_first }))
        }
        Err(reason) => bad(reason),
    }
}

fn faults(shared: &Shared, call: &Call) -> Reply {
    let faults = match read(call) {
        Ok(OneOrMany::One(fault)) => vec![fault],
        Ok(OneOrMany::Many(faults)) => faults,
        Err(reason) => return bad(reason),
    };
    for fault in faults {
        if let Err(error) = shared.fault(fault) {
            return bad(&error.to_string());
        }
    }
    Reply::empty(StatusCode::NO_CONTENT)
}

fn read<T: DeserializeOwned>(call: &Call) -> Result<T, &'static str> {
    serde_json::from_slice(&call.body).map_err(|_| "the body has another shape than it should")
}

fn ok(body: &Value) -> Reply {
    Reply::json(StatusCode::OK, body)
}

fn bad(reason: &str) -> Reply {
    Reply::error(StatusCode::BAD_REQUEST, "invalid_request", reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_answered() {
        for (peer, expected) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_this_machine(peer.parse().unwrap()), expected, "{peer}");
        }
    }
}
