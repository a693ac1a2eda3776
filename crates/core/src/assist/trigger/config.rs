//! Reads triggers from JSON: every fault is found, each with its path.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::template::{TEMPLATE_CHARS_MAX, Template};
use super::{Condition, SentimentBelow, Thresholds, Trigger, folded};
use crate::assist::card::CardKind;
use crate::assist::interaction::OnFailure;
use crate::protocol::platform::{KIND_BYTES_MAX, QUEUE_CHARS_MAX};

/// The longest configuration of triggers, in bytes.
pub const CONFIG_BYTES_MAX: usize = 256 * 1024;

/// The most triggers.
pub const TRIGGERS_MAX: usize = 64;

/// The longest name of a trigger, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// The most conditions of one trigger, `all` and `any` counted.
pub const CONDITIONS_MAX: usize = 32;

/// The most conditions that stand within one another.
pub const DEPTH_MAX: usize = 8;

/// The most queues for which one trigger has thresholds of their own.
pub const QUEUES_MAX: usize = 256;

/// The most names of queues, or words, of one condition.
pub const WORDS_MAX: usize = 256;

/// The longest title of a card, in characters.
pub const TITLE_CHARS_MAX: usize = 120;

/// The longest wait that can be a threshold, in milliseconds: a week.
pub const WAIT_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

const CONDITIONS: [&str; 7] = ["all", "any", "sentimentBelow", "waitAboveMs", "queue", "typeIs", "directionIs"];

pub(super) fn read(json: &str) -> Result<Vec<Trigger>, Vec<String>> {
    let mut faults = Faults(Vec::new());
    let triggers = read_all(json, &mut faults);
    if faults.0.is_empty() { Ok(triggers) } else { Err(faults.0) }
}

fn read_all(json: &str, faults: &mut Faults) -> Vec<Trigger> {
    if json.len() > CONFIG_BYTES_MAX {
        faults.add("$", format!("must not be longer than {CONFIG_BYTES_MAX} bytes"));
        return Vec::new();
    }
    let value: Value = match serde_json::from_str(json) {
        Ok(value) => value,
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            faults.add("$", format!("cannot be read as JSON (line {line}, column {column})"));
            return Vec::new();
        }
    };
    let Some(items) = faults.array("$", &value, 0..=TRIGGERS_MAX) else { return Vec::new() };
    let mut names = BTreeSet::new();
    let triggers = items.iter().enumerate().filter_map(|(place, item)| {
        let path = format!("$[{place}]");
        let trigger = read_trigger(&path, item, faults);
        let name = item.get("name").and_then(Value::as_str);
        if name.is_some_and(|name| !names.insert(name)) {
            faults.add(&format!("{path}.name"), "is the name of another trigger");
        }
        trigger
    });
    triggers.collect()
}

fn read_trigger(path: &str, value: &Value, faults: &mut Faults) -> Option<Trigger> {
    let mut fields = Fields::of(path, value, faults)?;
    let name = fields.required("name", faults).and_then(|(path, value)| read_name(&path, value, faults));
    let when = fields.required("when", faults).and_then(|(path, value)| read_when(&path, value, faults));
    let queues = fields.optional("queues");
    let queues = queues.map(|(path, value)| read_queues(&path, value, when.as_ref(), faults)).unwrap_or_default();
    let card = fields.required("card", faults).and_then(|(path, value)| read_card(&path, value, faults));
    let on_failure = match fields.optional("onFailure") {
        Some((path, value)) => read_on_failure(&path, value, faults),
        None => Some(OnFailure::DeadLetter),
    };
    fields.finish(faults);
    let (kind, title, content) = card?;
    Some(Trigger { name: name?, when: when?, queues, kind, title, content, on_failure: on_failure? })
}

fn read_name(path: &str, value: &Value, faults: &mut Faults) -> Option<String> {
    let is_plain = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    let name = value.as_str().filter(|name| (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_plain));
    if name.is_none() {
        faults.add(path, format!("must be 1 to {NAME_CHARS_MAX} of a-z, 0-9 and `-`"));
    }
    name.map(str::to_owned)
}

fn read_on_failure(path: &str, value: &Value, faults: &mut Faults) -> Option<OnFailure> {
    let policy = match value.as_str() {
        Some("free") => Some(OnFailure::Free),
        Some("deadLetter") => Some(OnFailure::DeadLetter),
        _ => None,
    };
    if policy.is_none() {
        faults.add(path, "must be `free` or `deadLetter`");
    }
    policy
}

fn read_card(path: &str, value: &Value, faults: &mut Faults) -> Option<(CardKind, String, Template)> {
    let mut fields = Fields::of(path, value, faults)?;
    let kind = fields.required("type", faults).and_then(|(path, value)| {
        let kind = value.as_str().and_then(CardKind::parse);
        if kind.is_none() {
            faults.add(&path, "must be `info`, `warning`, `success` or `error`");
        }
        kind
    });
    let title = fields.required("title", faults).and_then(|(path, value)| {
        let title = faults.text(&path, value, TITLE_CHARS_MAX)?;
        if title.contains(char::is_control) {
            faults.add(&path, "must be one line");
        }
        Some(title.to_owned())
    });
    let content = fields.required("content", faults).and_then(|(path, value)| {
        let text = faults.text(&path, value, TEMPLATE_CHARS_MAX)?;
        Template::parse(text).map_err(|problem| faults.add(&path, problem)).ok()
    });
    fields.finish(faults);
    Some((kind?, title?, content?))
}

fn read_when(path: &str, value: &Value, faults: &mut Faults) -> Option<Condition> {
    let mut count = 0;
    let condition = read_condition(path, value, 1, &mut count, faults);
    if count > CONDITIONS_MAX {
        faults.add(path, format!("has more than {CONDITIONS_MAX} conditions"));
    }
    condition
}

/// Reads a condition with `depth − 1` others around it.
fn read_condition(
    path: &str,
    value: &Value,
    depth: usize,
    count: &mut usize,
    faults: &mut Faults,
) -> Option<Condition> {
    *count += 1;
    if *count > CONDITIONS_MAX {
        // Said once, for all that are too many.
        return None;
    }
    if depth > DEPTH_MAX {
        faults.add(path, format!("stands within more than {} others", DEPTH_MAX - 1));
        return None;
    }
    let only = value.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next());
    let Some((name, value)) = only.filter(|(name, _)| CONDITIONS.contains(&name.as_str())) else {
        faults.add(path, format!("must be an object with exactly one of `{}`", CONDITIONS.join("`, `")));
        return None;
    };
    let path = format!("{path}.{name}");
    match name.as_str() {
        "all" => read_conditions(&path, value, depth, count, faults).map(Condition::All),
        "any" => read_conditions(&path, value, depth, count, faults).map(Condition::Any),
        "sentimentBelow" => read_sentiment(&path, value, faults).map(Condition::SentimentBelow),
        "waitAboveMs" => read_wait_ms(&path, value, faults).map(Condition::WaitAboveMs),
        "queue" => read_queue(&path, value, faults),
        "typeIs" => read_words(&path, value, KIND_BYTES_MAX, faults).map(Condition::TypeIs),
        _ => read_words(&path, value, KIND_BYTES_MAX, faults).map(Condition::DirectionIs),
    }
}

fn read_conditions(
    path: &str,
    value: &Value,
    depth: usize,
    count: &mut usize,
    faults: &mut Faults,
) -> Option<Vec<Condition>> {
    let items = faults.array(path, value, 1..=CONDITIONS_MAX)?;
    let conditions: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(place, item)| read_condition(&format!("{path}[{place}]"), item, depth + 1, count, faults))
        .collect();
    conditions.into_iter().collect()
}

/// A score, or an object with `score` and perhaps `confidenceAtLeast`.
fn read_sentiment(path: &str, value: &Value, faults: &mut Faults) -> Option<SentimentBelow> {
    if value.is_number() {
        let score = read_score(path, value, faults)?;
        return Some(SentimentBelow { score, confidence_at_least: None });
    }
    let mut fields = Fields::of(path, value, faults)?;
    let score = fields.required("score", faults).and_then(|(path, value)| read_score(&path, value, faults));
    let confidence = fields.optional("confidenceAtLeast").map(|(path, value)| {
        let confidence = value.as_f64().filter(|confidence| (0.0..=1.0).contains(confidence));
        if confidence.is_none() {
            faults.add(&path, "must be a number from 0 to 1");
        }
        confidence
    });
    fields.finish(faults);
    let confidence_at_least = match confidence {
        Some(confidence) => Some(confidence?),
        None => None,
    };
    Some(SentimentBelow { score: score?, confidence_at_least })
}

fn read_score(path: &str, value: &Value, faults: &mut Faults) -> Option<f64> {
    // No score is below −1, so that such a threshold would be a trigger that never fires.
    let score = value.as_f64().filter(|score| *score > -1.0 && *score <= 1.0);
    if score.is_none() {
        faults.add(path, "must be a number above -1 and at most 1");
    }
    score
}

fn read_wait_ms(path: &str, value: &Value, faults: &mut Faults) -> Option<u64> {
    let wait_ms = value.as_u64().filter(|wait_ms| *wait_ms <= WAIT_MS_MAX);
    if wait_ms.is_none() {
        faults.add(path, format!("must be a whole number of milliseconds from 0 to {WAIT_MS_MAX}"));
    }
    wait_ms
}

fn read_queue(path: &str, value: &Value, faults: &mut Faults) -> Option<Condition> {
    let only = value.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next());
    match only.map(|(name, names)| (name.as_str(), names)) {
        Some((name @ "oneOf", names)) => {
            read_words(&format!("{path}.{name}"), names, QUEUE_CHARS_MAX, faults).map(Condition::QueueOneOf)
        }
        Some((name @ "noneOf", names)) => {
            read_words(&format!("{path}.{name}"), names, QUEUE_CHARS_MAX, faults).map(Condition::QueueNoneOf)
        }
        _ => {
            faults.add(path, "must be an object with exactly one of `oneOf`, `noneOf`");
            None
        }
    }
}

/// One word or several, in the form in which they are compared.
fn read_words(path: &str, value: &Value, chars_max: usize, faults: &mut Faults) -> Option<Vec<String>> {
    if value.is_string() {
        return faults.text(path, value, chars_max).map(|word| vec![folded(word)]);
    }
    let items = faults.array(path, value, 1..=WORDS_MAX)?;
    let words: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(place, item)| faults.text(&format!("{path}[{place}]"), item, chars_max).map(folded))
        .collect();
    words.into_iter().collect()
}

fn read_queues(
    path: &str,
    value: &Value,
    when: Option<&Condition>,
    faults: &mut Faults,
) -> BTreeMap<String, Thresholds> {
    let mut queues = BTreeMap::new();
    let Some(given) = value.as_object().filter(|given| given.len() <= QUEUES_MAX) else {
        faults.add(path, format!("must be an object with at most {QUEUES_MAX} names of queues"));
        return queues;
    };
    for (name, value) in given {
        let path = format!("{path}[{}]", quoted(name));
        if name.trim().is_empty() || name.chars().count() > QUEUE_CHARS_MAX {
            faults.add(&path, format!("must have a name of 1 to {QUEUE_CHARS_MAX} characters"));
        }
        let thresholds = read_thresholds(&path, value, when, faults);
        if queues.insert(folded(name), thresholds).is_some() {
            faults.add(&path, "is the name of another queue, but for case and blanks");
        }
    }
    queues
}

/// Thresholds of one queue. One that replaces nothing is a fault, since it would never have any effect.
fn read_thresholds(path: &str, value: &Value, when: Option<&Condition>, faults: &mut Faults) -> Thresholds {
    let Some(mut fields) = Fields::of(path, value, faults) else { return Thresholds::default() };
    let replaces = |is_sought: fn(&Condition) -> bool| when.is_none_or(|when| when.has(&is_sought));
    let sentiment = fields.optional("sentimentBelow");
    let wait = fields.optional("waitAboveMs");
    if sentiment.is_none() && wait.is_none() {
        faults.add(path, "must have `sentimentBelow`, `waitAboveMs` or both");
    }
    let sentiment_below = sentiment.and_then(|(path, value)| {
        if !replaces(|condition| matches!(condition, Condition::SentimentBelow(_))) {
            faults.add(&path, "replaces a threshold that `when` does not have");
        }
        read_sentiment(&path, value, faults)
    });
    let wait_above_ms = wait.and_then(|(path, value)| {
        if !replaces(|condition| matches!(condition, Condition::WaitAboveMs(_))) {
            faults.add(&path, "replaces a threshold that `when` does not have");
        }
        read_wait_ms(&path, value, faults)
    });
    fields.finish(faults);
    Thresholds { sentiment_below, wait_above_ms }
}

/// What is wrong, one line each.
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, path: &str, problem: impl AsRef<str>) {
        self.0.push(format!("{path} {}", problem.as_ref()));
    }

    fn array<'a>(&mut self, path: &str, value: &'a Value, len: RangeInclusive<usize>) -> Option<&'a [Value]> {
        let items = value.as_array().filter(|items| len.contains(&items.len()));
        if items.is_none() {
            self.add(path, format!("must be an array with {} to {} entries", len.start(), len.end()));
        }
        items.map(Vec::as_slice)
    }

    fn text<'a>(&mut self, path: &str, value: &'a Value, chars_max: usize) -> Option<&'a str> {
        let text = value.as_str().filter(|text| !text.trim().is_empty() && text.chars().count() <= chars_max);
        if text.is_none() {
            self.add(path, format!("must be text of 1 to {chars_max} characters"));
        }
        text
    }
}

/// The fields of one object; those that nobody asked for are faults, because a slip in a name must not be a default.
struct Fields<'a> {
    path: String,
    given: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    fn of(path: &str, value: &'a Value, faults: &mut Faults) -> Option<Self> {
        let Some(given) = value.as_object() else {
            faults.add(path, "must be an object");
            return None;
        };
        Some(Self { path: path.to_owned(), given, known: Vec::new() })
    }

    fn optional(&mut self, name: &'static str) -> Option<(String, &'a Value)> {
        self.known.push(name);
        self.given.get(name).map(|value| (format!("{}.{name}", self.path), value))
    }

    fn required(&mut self, name: &'static str, faults: &mut Faults) -> Option<(String, &'a Value)> {
        let field = self.optional(name);
        if field.is_none() {
            faults.add(&format!("{}.{name}", self.path), "is missing");
        }
        field
    }

    fn finish(self, faults: &mut Faults) {
        for name in self.given.keys().filter(|name| !self.known.contains(&name.as_str())) {
            faults.add(
                &format!("{}[{}]", self.path, quoted(name)),
                format!("must be one of `{}`", self.known.join("`, `")),
            );
        }
    }
}

/// A name from the configuration as part of a path; of a long one, the beginning.
fn quoted(name: &str) -> String {
    Value::from(crate::assist::card::beginning(name, NAME_CHARS_MAX)).to_string()
}
