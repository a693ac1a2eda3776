//! What CXone's documents allow (contract §5), judged strictly: every field there, of its type, and no other.
//!
//! A reason names the place and never what stands in it.

use earpiece_core::protocol::instant::parse_rfc3339_ms;
use serde_json::{Map, Value};

/// Why a body or frame is not allowed.
pub(crate) type Reason = String;

/// Suggestions that one interaction may have at one time.
pub(crate) const ACTIVE_MAX: usize = 5;

const RELEVANCE_MIN: f64 = 0.70;
const ID_CHARACTERS_MAX: usize = 128;
const CONTENT_BYTES_MAX: usize = 64 * 1024;
const SNIPPET_CHARACTERS_MAX: usize = 150;

/// A suggestion frame that is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Suggest<'a> {
    pub(crate) interaction: &'a str,
    pub(crate) id: &'a str,
    pub(crate) injected_ms: i64,
    pub(crate) ends_ms: i64,
}

/// An `auth` frame; its token.
pub(crate) fn auth(frame: &Value) -> Result<&str, Reason> {
    let frame = object(frame, "frame", &["type", "token"])?;
    is(frame, "frame", "type", "auth")?;
    text(frame, "frame", "token", usize::MAX)
}

pub(crate) fn suggest(frame: &Value) -> Result<Suggest<'_>, Reason> {
    let frame = object(frame, "frame", &["type", "interactionId", "suggestion"])?;
    is(frame, "frame", "type", "agentassist.suggest")?;
    let interaction = id(frame, "frame", "interactionId")?;
    let fields = ["id", "content", "priority", "relevanceScore", "contextWindow", "injectedAt"];
    let suggestion = object(&frame["suggestion"], "suggestion", &fields)?;
    let id = id(suggestion, "suggestion", "id")?;
    text(suggestion, "suggestion", "content", CONTENT_BYTES_MAX)?;
    one_of(suggestion, "suggestion", "priority", &["LOW", "MEDIUM", "HIGH"])?;
    number(suggestion, "suggestion", "relevanceScore", RELEVANCE_MIN, 1.0)?;
    let window = object(&suggestion["contextWindow"], "suggestion.contextWindow", &["start", "end"])?;
    let start_ms = instant(window, "suggestion.contextWindow", "start")?;
    let ends_ms = instant(window, "suggestion.contextWindow", "end")?;
    let injected_ms = instant(suggestion, "suggestion", "injectedAt")?;
    if !(start_ms..=ends_ms).contains(&injected_ms) {
        return Err("suggestion.injectedAt is outside of its contextWindow".to_owned());
    }
    Ok(Suggest { interaction, id, injected_ms, ends_ms })
}

/// Posted insights; how many cards they are.
pub(crate) fn insights(body: &Value) -> Result<usize, Reason> {
    let body = object(body, "body", &["insights", "displayType", "autoDismiss"])?;
    is(body, "body", "displayType", "CARD")?;
    if body["autoDismiss"] != true {
        return Err("body.autoDismiss must be true".to_owned());
    }
    let cards = body["insights"].as_array().filter(|cards| !cards.is_empty());
    let cards = cards.ok_or("body.insights must be a list that is not empty")?;
    let (mut rank_before, mut ids) = (0, Vec::with_capacity(cards.len()));
    for (index, card) in cards.iter().enumerate() {
        let place = format!("body.insights[{index}]");
        let (id, rank) = insight_card(card, &place)?;
        if rank <= rank_before {
            return Err(format!("{place}.priority must be its rank"));
        }
        if ids.contains(&id) {
            return Err(format!("{place}.id is there twice"));
        }
        rank_before = rank;
        ids.push(id);
    }
    Ok(ids.len())
}

fn insight_card<'a>(card: &'a Value, place: &str) -> Result<(&'a str, u64), Reason> {
    let fields = ["id", "title", "priority", "score", "citation", "snippet", "interactionId"];
    let card = object(card, place, &fields)?;
    let id = id(card, place, "id")?;
    text(card, place, "title", CONTENT_BYTES_MAX)?;
    let rank = card["priority"].as_u64().ok_or_else(|| format!("{place}.priority must be a whole number from 1 on"))?;
    number(card, place, "score", 0.0, f64::MAX)?;
    any_text(card, place, "citation")?;
    let snippet = any_text(card, place, "snippet")?;
    if snippet.chars().count() > SNIPPET_CHARACTERS_MAX {
        return Err(format!("{place}.snippet is longer than {SNIPPET_CHARACTERS_MAX} characters"));
    }
    self::id(card, place, "interactionId")?;
    Ok((id, rank))
}

pub(crate) fn feedback(body: &Value) -> Result<(), Reason> {
    let body = object(body, "body", &["interactionId", "insightId", "action", "timestamp"])?;
    id(body, "body", "interactionId")?;
    id(body, "body", "insightId")?;
    one_of(body, "body", "action", &["ACCEPTED", "REJECTED"])?;
    instant(body, "body", "timestamp").map(drop)
}

/// A popup card; its id.
pub(crate) fn card(body: &Value) -> Result<&str, Reason> {
    let body = object(body, "body", &["cardId", "type", "title", "content", "metadata"])?;
    let id = id(body, "body", "cardId")?;
    if !["info", "warning", "success", "error"].iter().any(|&kind| body["type"] == kind) {
        return Err("body.type must be one of info, warning, success, error".to_owned());
    }
    text(body, "body", "title", CONTENT_BYTES_MAX)?;
    text(body, "body", "content", CONTENT_BYTES_MAX)?;
    let metadata = object(&body["metadata"], "body.metadata", &["source", "timestamp"])?;
    text(metadata, "body.metadata", "source", CONTENT_BYTES_MAX)?;
    instant(metadata, "body.metadata", "timestamp")?;
    Ok(id)
}

/// An id of an interaction that stands in a path.
pub(crate) fn path_id(id: &str) -> Result<&str, Reason> {
    let is_fine = !id.is_empty()
        && id.len() <= ID_CHARACTERS_MAX
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte));
    is_fine.then_some(id).ok_or_else(|| "the interaction in the path is no id".to_owned())
}

fn object<'a>(value: &'a Value, place: &str, fields: &[&str]) -> Result<&'a Map<String, Value>, Reason> {
    let object = value.as_object().ok_or_else(|| format!("{place} must be an object"))?;
    if let Some(missing) = fields.iter().find(|&&field| !object.contains_key(field)) {
        return Err(format!("{place}.{missing} is missing"));
    }
    if object.len() > fields.len() {
        return Err(format!("{place} has fields that no document names"));
    }
    Ok(object)
}

fn any_text<'a>(object: &'a Map<String, Value>, place: &str, field: &str) -> Result<&'a str, Reason> {
    object[field].as_str().ok_or_else(|| format!("{place}.{field} must be text"))
}

fn text<'a>(object: &'a Map<String, Value>, place: &str, field: &str, bytes_max: usize) -> Result<&'a str, Reason> {
    let text = any_text(object, place, field)?;
    if text.is_empty() || text.len() > bytes_max {
        return Err(format!("{place}.{field} must have 1 to {bytes_max} bytes"));
    }
    Ok(text)
}

fn id<'a>(object: &'a Map<String, Value>, place: &str, field: &str) -> Result<&'a str, Reason> {
    let id = any_text(object, place, field)?;
    if id.is_empty() || id.chars().count() > ID_CHARACTERS_MAX {
        return Err(format!("{place}.{field} must have 1 to {ID_CHARACTERS_MAX} characters"));
    }
    Ok(id)
}

fn is(object: &Map<String, Value>, place: &str, field: &str, word: &str) -> Result<(), Reason> {
    if object[field] == word { Ok(()) } else { Err(format!("{place}.{field} must be {word}")) }
}

fn one_of(object: &Map<String, Value>, place: &str, field: &str, words: &[&str]) -> Result<(), Reason> {
    let word = any_text(object, place, field)?;
    if words.iter().any(|known| known.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    Err(format!("{place}.{field} must be one of {}", words.join(", ")))
}

fn number(object: &Map<String, Value>, place: &str, field: &str, from: f64, to: f64) -> Result<(), Reason> {
    let is_in = object[field].as_f64().is_some_and(|number| (from..=to).contains(&number));
    if is_in { Ok(()) } else { Err(format!("{place}.{field} must be a number that is allowed")) }
}

fn instant(object: &Map<String, Value>, place: &str, field: &str) -> Result<i64, Reason> {
    let text = any_text(object, place, field)?;
    parse_rfc3339_ms(text).ok_or_else(|| format!("{place}.{field} must be an RFC 3339 time"))
}
