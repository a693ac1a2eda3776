//! What the functions count, and the two forms in which it leaves: Amazon's embedded metric format (a line of JSON
//! on stdout at the end of an invocation) and the text that `/metrics` gives.
//!
//! Names come from [`earpiece_core::telemetry`]. Labels are words of the program, never of a request, so there are as
//! many series as there are words.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

/// The namespace of everything that Earpiece measures.
pub const NAMESPACE: &str = "Earpiece";

/// The dimension that says which program counted.
const SERVICE: &str = "Service";

/// A label: its name and its word.
pub type Label = (&'static str, &'static str);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    labels: Vec<Label>,
    name: &'static str,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    total: u64,
    /// What the last line said already.
    told: u64,
}

/// Counts. They live as long as the process, and only grow.
#[derive(Debug)]
pub struct Counters {
    service: &'static str,
    counts: Mutex<BTreeMap<Series, Count>>,
}

impl Counters {
    /// Nothing counted yet. `service` is the name of the function.
    #[must_use]
    pub const fn new(service: &'static str) -> Self {
        Self { service, counts: Mutex::new(BTreeMap::new()) }
    }

    /// Counts one.
    pub fn count(&self, name: &'static str, labels: &[Label]) {
        self.add(name, labels, 1);
    }

    /// Counts several at once.
    pub fn add(&self, name: &'static str, labels: &[Label], amount: u64) {
        let series = Series { labels: labels.to_vec(), name };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(series).or_default();
        count.total = count.total.saturating_add(amount);
    }

    /// How often something was counted.
    #[must_use]
    pub fn total(&self, name: &'static str, labels: &[Label]) -> u64 {
        let series = Series { labels: labels.to_vec(), name };
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&series).map_or(0, |count| count.total)
    }

    /// What was counted since the last call: one line of JSON per set of labels, or `None` when there is nothing to say.
    #[must_use]
    pub fn emf(&self, now_ms: i64) -> Option<String> {
        let mut groups: BTreeMap<Vec<Label>, Vec<(&'static str, u64)>> = BTreeMap::new();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (series, count) in counts.iter_mut().filter(|(_, count)| count.total > count.told) {
            groups.entry(series.labels.clone()).or_default().push((series.name, count.total - count.told));
            count.told = count.total;
        }
        drop(counts);
        let lines: Vec<String> =
            groups.iter().map(|(labels, counted)| emf_line(self.service, labels, counted, now_ms)).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// Everything that was counted, as Prometheus reads it.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_name: BTreeMap<&str, Vec<(&[Label], u64)>> = BTreeMap::new();
        for (series, count) in counts.iter() {
            by_name.entry(series.name).or_default().push((&series.labels, count.total));
        }
        let mut text = String::new();
        for (name, series) in by_name {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# TYPE {name} counter");
            for (labels, total) in series {
                let labels: Vec<String> = labels.iter().map(|(name, word)| format!("{name}=\"{word}\"")).collect();
                let _ = if labels.is_empty() {
                    writeln!(text, "{name} {total}")
                } else {
                    writeln!(text, "{name}{{{}}} {total}", labels.join(","))
                };
            }
        }
        text
    }
}

/// One line of the embedded metric format. Each metric is there per service, which alarms sum over, and per label.
fn emf_line(service: &'static str, labels: &[Label], counted: &[(&'static str, u64)], now_ms: i64) -> String {
    let mut dimensions = vec![vec![SERVICE]];
    if !labels.is_empty() {
        dimensions.push(std::iter::once(SERVICE).chain(labels.iter().map(|(name, _)| *name)).collect());
    }
    let metrics: Vec<Value> = counted.iter().map(|(name, _)| json!({ "Name": name, "Unit": "Count" })).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now_ms,
            "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": metrics }],
        }),
    );
    line.insert(SERVICE.to_owned(), json!(service));
    line.extend(labels.iter().map(|(name, word)| ((*name).to_owned(), json!(word))));
    line.extend(counted.iter().map(|(name, amount)| ((*name).to_owned(), json!(amount))));
    Value::Object(line).to_string()
}

/// The word of an HTTP status, for a label. Those that no function answers share one.
#[must_use]
pub const fn status_word(status: u16) -> &'static str {
    match status {
        200 => "200",
        202 => "202",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        413 => "413",
        415 => "415",
        422 => "422",
        429 => "429",
        500 => "500",
        503 => "503",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "earpiece_a_total";
    const B: &str = "earpiece_b_total";

    #[test]
    fn a_line_says_only_what_is_new_and_nothing_new_is_no_line() {
        let counters = Counters::new("text-hook");
        assert_eq!(counters.emf(1), None);
        counters.count(A, &[]);
        counters.add(A, &[], 2);
        let line: Value = serde_json::from_str(&counters.emf(1_700_000_000_000).unwrap()).unwrap();
        assert_eq!(
            line,
            json!({
                "_aws": {
                    "Timestamp": 1_700_000_000_000_u64,
                    "CloudWatchMetrics": [{
                        "Namespace": "Earpiece",
                        "Dimensions": [["Service"]],
                        "Metrics": [{"Name": A, "Unit": "Count"}],
                    }],
                },
                "Service": "text-hook",
                "earpiece_a_total": 3,
            })
        );
        assert_eq!(counters.emf(2), None);
        counters.count(A, &[]);
        let line: Value = serde_json::from_str(&counters.emf(3).unwrap()).unwrap();
        assert_eq!(line[A], 1);
        assert_eq!(counters.total(A, &[]), 4);
    }

    #[test]
    fn each_set_of_labels_has_a_line_of_its_own_so_that_no_word_is_taken_for_another() {
        let counters = Counters::new("text-hook");
        counters.count(A, &[("reason", "x")]);
        counters.count(A, &[("reason", "y")]);
        counters.count(B, &[("reason", "y")]);
        let lines = counters.emf(0).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["reason"], &lines[0][A], &lines[0][B]), (&json!("x"), &json!(1), &Value::Null));
        assert_eq!((&lines[1]["reason"], &lines[1][A], &lines[1][B]), (&json!("y"), &json!(1), &json!(1)));
        let dimensions = &lines[1]["_aws"]["CloudWatchMetrics"][0]["Dimensions"];
        assert_eq!(dimensions, &json!([["Service"], ["Service", "reason"]]));
    }

    #[test]
    fn prometheus_gets_totals_whatever_lines_said() {
        let counters = Counters::new("serve");
        counters.count(B, &[]);
        counters.add(A, &[("route", "jwks"), ("status", "200")], 7);
        let _ = counters.emf(0);
        assert_eq!(
            counters.prometheus(),
            "# TYPE earpiece_a_total counter\nearpiece_a_total{route=\"jwks\",status=\"200\"} 7\n\
             # TYPE earpiece_b_total counter\nearpiece_b_total 1\n"
        );
    }
}
