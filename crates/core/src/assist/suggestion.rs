//! A suggestion, and the rules that it has to pass before it may be sent (contract §5 A).
//!
//! Each rule is a function of its own and knows nothing of the others; [`judge`] asks them in the documented order and
//! [`nudge`] moves the score of what has passed. Nothing is remembered here: what is active and what the agent made of
//! earlier suggestions comes in from the interaction's document.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::interaction::Active;
use crate::error::{Fault, Kind};
use crate::protocol::instant::{format_rfc3339_ms, parse_rfc3339_ms};
use crate::secret::Private;

/// The longest suggestion id, in characters.
pub const ID_CHARS_MAX: usize = 128;
/// The longest content, in bytes of UTF-8.
pub const CONTENT_BYTES_MAX: usize = 4096;
/// How long a suggestion that names no context window may wait and count, in milliseconds.
pub const DEFAULT_WINDOW_MS: i64 = 5 * 60 * 1000;

/// One suggestion for the agent. Its JSON form is the document's, with the score that is sent.
#[derive(Clone, Serialize, Deserialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    /// Its id: 1 to [`ID_CHARS_MAX`] characters, none of them a control character.
    pub id: String,
    /// What the agent reads: 1 to [`CONTENT_BYTES_MAX`] bytes.
    pub content: Private<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// How well it fits, 0 to 1.
    pub relevance_score: f64,
    /// When it may be shown.
    pub context_window: Window,
}

/// How urgent a suggestion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Priority {
    /// Shown last.
    Low,
    /// What is taken where nothing is said.
    #[default]
    Medium,
    /// Shown first.
    High,
}

impl Priority {
    /// Every priority.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// The word on the wire.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        }
    }

    /// Reads the word, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.label().eq_ignore_ascii_case(word.trim()))
    }
}

/// When a suggestion may be shown, both ends included. In JSON both are RFC 3339 text: `{"start": …, "end": …}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From when on, in milliseconds since the Unix epoch.
    pub start_ms: i64,
    /// Until when, in milliseconds since the Unix epoch.
    pub end_ms: i64,
}

impl Window {
    /// Whether a moment lies within.
    #[must_use]
    pub const fn contains(self, now_ms: i64) -> bool {
        self.start_ms <= now_ms && now_ms <= self.end_ms
    }
}

#[derive(Serialize, Deserialize)]
struct WindowText {
    start: String,
    end: String,
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WindowText { start: format_rfc3339_ms(self.start_ms), end: format_rfc3339_ms(self.end_ms) }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = WindowText::deserialize(deserializer)?;
        let read = |instant: &str| {
            parse_rfc3339_ms(instant).ok_or_else(|| serde::de::Error::custom("an end of a window must be RFC 3339"))
        };
        Ok(Self { start_ms: read(&text.start)?, end_ms: read(&text.end)? })
    }
}

impl Suggestion {
    /// Reads what an assist app submits: `id`, `content` and `relevanceScore` must be there; without `priority` it is
    /// [`Priority::Medium`], without `contextWindow` it counts from now for [`DEFAULT_WINDOW_MS`]. Fields that nobody
    /// knows are ignored.
    ///
    /// # Errors
    /// [`Kind::BadInput`] for a field that is missing or not what it must be. The text names the field and does not
    /// repeat what was sent.
    pub fn read(value: &Value, now_ms: i64) -> Result<Self, Fault> {
        let fields =
            value.as_object().ok_or_else(|| Fault::new(Kind::BadInput, "a suggestion must be a JSON object"))?;
        Ok(Self {
            id: read_id(fields)?,
            content: read_content(fields)?,
            priority: read_priority(fields)?,
            relevance_score: read_score(fields)?,
            context_window: read_window(fields, now_ms)?,
        })
    }
}

/// A field that may be absent; null is absent.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

fn bad(problem: &'static str) -> Fault {
    Fault::new(Kind::BadInput, problem)
}

fn read_id(fields: &Map<String, Value>) -> Result<String, Fault> {
    let problem = "`id` must be a text of 1 to 128 characters without control characters";
    let id = field(fields, "id").ok_or_else(|| bad("`id` is missing"))?.as_str().ok_or_else(|| bad(problem))?;
    let is_good = !id.is_empty() && id.chars().count() <= ID_CHARS_MAX && !id.chars().any(char::is_control);
    if is_good { Ok(id.to_owned()) } else { Err(bad(problem)) }
}

fn read_content(fields: &Map<String, Value>) -> Result<Private<String>, Fault> {
    let problem = "`content` must be a text of 1 to 4096 bytes";
    let content = field(fields, "content").ok_or_else(|| bad("`content` is missing"))?;
    let content = content.as_str().ok_or_else(|| bad(problem))?;
    if content.trim().is_empty() || content.len() > CONTENT_BYTES_MAX {
        return Err(bad(problem));
    }
    Ok(Private::new(content.to_owned()))
}

fn read_priority(fields: &Map<String, Value>) -> Result<Priority, Fault> {
    let Some(priority) = field(fields, "priority") else { return Ok(Priority::default()) };
    priority.as_str().and_then(Priority::parse).ok_or_else(|| bad("`priority` must be LOW, MEDIUM or HIGH"))
}

fn read_score(fields: &Map<String, Value>) -> Result<f64, Fault> {
    let score = field(fields, "relevanceScore").ok_or_else(|| bad("`relevanceScore` is missing"))?.as_f64();
    score
        .filter(|score| (0.0..=1.0).contains(score))
        .ok_or_else(|| bad("`relevanceScore` must be a number from 0 to 1"))
}

fn read_window(fields: &Map<String, Value>, now_ms: i64) -> Result<Window, Fault> {
    let Some(window) = field(fields, "contextWindow") else {
        return Ok(Window { start_ms: now_ms, end_ms: now_ms.saturating_add(DEFAULT_WINDOW_MS) });
    };
    let instant = |name| window.get(name).and_then(Value::as_str).and_then(parse_rfc3339_ms);
    let start_ms =
        instant("start").ok_or_else(|| bad("`contextWindow.start` must be a time in RFC 3339 with an offset"))?;
    let end_ms = instant("end").ok_or_else(|| bad("`contextWindow.end` must be a time in RFC 3339 with an offset"))?;
    if end_ms < start_ms {
        return Err(bad("`contextWindow.end` must not lie before `contextWindow.start`"));
    }
    Ok(Window { start_ms, end_ms })
}

/// The figures of the rules; the documented ones by default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// How many suggestions may be active in one interaction.
    pub active_max: usize,
    /// The lowest relevance score that is sent.
    pub relevance_min: f64,
    /// How many answers of the agent it takes before the acceptance rate says anything.
    pub observations_min: u32,
    /// By how much a score is nudged.
    pub nudge: f64,
    /// The acceptance rate above which scores are nudged up.
    pub rate_high: f64,
    /// The acceptance rate below which scores are nudged down.
    pub rate_low: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { active_max: 5, relevance_min: 0.70, observations_min: 5, nudge: 0.05, rate_high: 0.8, rate_low: 0.3 }
    }
}

/// The rule that a suggestion did not pass, with its figures.
#[derive(Debug, Clone, PartialEq)]
pub enum Rejection {
    /// As many are active as may be.
    BufferFull {
        /// How many are active.
        active: usize,
        /// How many may be.
        max: usize,
    },
    /// One with this id is active.
    Duplicate {
        /// The id.
        id: String,
    },
    /// Now is not within the context window.
    OutsideWindow {
        /// From when on it could be shown, in milliseconds since the Unix epoch.
        start_ms: i64,
        /// Until when.
        end_ms: i64,
        /// When it was judged.
        now_ms: i64,
    },
    /// The relevance score is too low.
    LowRelevance {
        /// The score.
        score: f64,
        /// The lowest that is sent.
        min: f64,
    },
}

impl Rejection {
    /// The name of the rule: metric label, and `rule` in the answer.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::BufferFull { .. } => "active_max",
            Self::Duplicate { .. } => "duplicate_id",
            Self::OutsideWindow { .. } => "context_window",
            Self::LowRelevance { .. } => "relevance_min",
        }
    }

    /// The HTTP status: 409 where the same suggestion may pass later, 422 where it has to change.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::BufferFull { .. } | Self::Duplicate { .. } => 409,
            Self::OutsideWindow { .. } | Self::LowRelevance { .. } => 422,
        }
    }

    /// The rule and its figures: the body of the answer, and the details of the audit record.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::BufferFull { active, max } => json!({ "rule": self.rule(), "active": active, "max": max }),
            Self::Duplicate { id } => json!({ "rule": self.rule(), "id": id }),
            Self::OutsideWindow { start_ms, end_ms, now_ms } => json!({
                "rule": self.rule(), "start": format_rfc3339_ms(*start_ms), "end": format_rfc3339_ms(*end_ms),
                "now": format_rfc3339_ms(*now_ms),
            }),
            Self::LowRelevance { score, min } => json!({ "rule": self.rule(), "score": score, "min": min }),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferFull { active, max } => write!(f, "{active} suggestions are active and {max} may be"),
            Self::Duplicate { .. } => f.write_str("a suggestion with this id is active"),
            Self::OutsideWindow { start_ms, end_ms, now_ms } => {
                let [now, start, end] = [*now_ms, *start_ms, *end_ms].map(format_rfc3339_ms);
                write!(f, "now ({now}) is not within the context window ({start} to {end})")
            }
            Self::LowRelevance { score, min } => write!(f, "the relevance score {score} is below {min}"),
        }
    }
}

impl std::error::Error for Rejection {}

/// Judges a suggestion by the rules, in the documented order.
///
/// # Errors
/// The first rule that it does not pass.
pub fn judge(active: &[Active], suggestion: &Suggestion, rules: &Rules, now_ms: i64) -> Result<(), Rejection> {
    has_room(active, rules)?;
    is_no_duplicate(active, suggestion)?;
    is_within_window(suggestion, now_ms)?;
    is_relevant(suggestion, rules)
}

/// At most so many are active in one interaction.
fn has_room(active: &[Active], rules: &Rules) -> Result<(), Rejection> {
    if active.len() < rules.active_max {
        return Ok(());
    }
    Err(Rejection::BufferFull { active: active.len(), max: rules.active_max })
}

/// No id that is active.
fn is_no_duplicate(active: &[Active], suggestion: &Suggestion) -> Result<(), Rejection> {
    if active.iter().all(|slot| slot.id != suggestion.id) {
        return Ok(());
    }
    Err(Rejection::Duplicate { id: suggestion.id.clone() })
}

/// Now is within the context window.
fn is_within_window(suggestion: &Suggestion, now_ms: i64) -> Result<(), Rejection> {
    let window = suggestion.context_window;
    if window.contains(now_ms) {
        return Ok(());
    }
    Err(Rejection::OutsideWindow { start_ms: window.start_ms, end_ms: window.end_ms, now_ms })
}

/// The score is high enough. What is no number is not.
fn is_relevant(suggestion: &Suggestion, rules: &Rules) -> Result<(), Rejection> {
    if suggestion.relevance_score >= rules.relevance_min {
        return Ok(());
    }
    Err(Rejection::LowRelevance { score: suggestion.relevance_score, min: rules.relevance_min })
}

/// Moves the score of a suggestion that has passed the rules by what the agent made of earlier ones in the same
/// interaction: up where the share of accepted ones is above [`Rules::rate_high`] (never above 1), down where it is below
/// [`Rules::rate_low`] (never below [`Rules::relevance_min`]). With fewer than [`Rules::observations_min`] answers it
/// stays as it is.
#[must_use]
pub fn nudge(score: f64, accepted: u32, dismissed: u32, rules: &Rules) -> f64 {
    let observations = u64::from(accepted) + u64::from(dismissed);
    if observations == 0 || observations < u64::from(rules.observations_min) {
        return score;
    }
    let rate = f64::from(accepted) / (f64::from(accepted) + f64::from(dismissed));
    if rate > rules.rate_high {
        without_noise(score + rules.nudge).min(1.0)
    } else if rate < rules.rate_low {
        // One that is below the lowest score already is not raised to it.
        without_noise(score - rules.nudge).max(rules.relevance_min.min(score))
    } else {
        score
    }
}

/// A sum of decimal fractions as people write it: 0.9 + 0.05 is 0.95, and not 0.9500000000000001.
fn without_noise(score: f64) -> f64 {
    const DECIMALS: f64 = 1e9;
    (score * DECIMALS).round() / DECIMALS
}

#[cfg(test)]
mod tests;
