//! What the uplinks measure, as Prometheus text. Names are in [`earpiece_core::telemetry`]; labels are words of the
//! program.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::assist::interaction::Submitted;
use earpiece_core::assist::outbox::Lane;
use earpiece_core::assist::suggestion::Rejection;
use earpiece_core::telemetry as names;
use earpiece_cxone::Counters;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::settings::Which;

/// Upper bounds of the buckets for suggestions and their acknowledgements, in seconds.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];

/// What becomes of suggestions.
const SUGGESTION_OUTCOMES: [&str; 11] = [
    "accepted",
    "refused",
    "unreadable",
    "foreign",
    "dropped",
    "lost",
    "sent",
    "repeated",
    "expired",
    "taken_up",
    "dismissed",
];
/// What becomes of popups.
const POPUP_OUTCOMES: [&str; 5] = ["pending", "sent", "freed", "dead", "held_back"];
/// What becomes of insight cards.
const INSIGHT_OUTCOMES: [&str; 3] = ["sent", "known", "empty"];
/// Where transcripts come from.
const FRAGMENT_SOURCES: [&str; 2] = ["cxone", "app"];
/// What becomes of searches.
const SEARCH_OUTCOMES: [&str; 5] = ["found", "cached", "nothing", "limited", "failed"];
/// What the outbox does with an entry.
const ENTRY_OUTCOMES: [&str; 3] = ["delivered", "retried", "dead"];

/// One set of metrics: a task's. Clones are the same set. Not global, so that tests can run several tasks in one
/// process.
#[derive(Clone)]
pub struct Metrics {
    set: Arc<Set>,
}

struct Set {
    registry: Registry,
    suggestions: IntCounterVec,
    suggestion_seconds: Histogram,
    ack_seconds: Histogram,
    popups: IntCounterVec,
    insights: IntCounterVec,
    fragments: IntCounterVec,
    fragments_dropped: IntCounter,
    searches: IntCounterVec,
    interactions_tracked: IntGauge,
    entries: IntCounterVec,
    outbox_age_seconds: GaugeVec,
    outbox_dead: IntGauge,
    leases_held: IntGaugeVec,
    uplink_up: IntGaugeVec,
    uplink_refused: IntGaugeVec,
    uplink_breaks: IntCounterVec,
    store_errors: IntCounterVec,
    cxone_answers: IntCounterVec,
    cxone_held_back: IntGaugeVec,
}

impl Metrics {
    /// Declares every metric, with every label value that can occur, so that a dashboard sees zeros and not holes.
    ///
    /// # Errors
    ///
    /// Never in practice: a name declared twice is found by a test.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let r = &registry;
        let set = Set {
            suggestions: counters(r, names::SUGGESTIONS, "Suggestions.", &["outcome"])?,
            suggestion_seconds: histogram(r, names::SUGGESTION_LATENCY_SECONDS, "From submission to frame.")?,
            ack_seconds: histogram(r, names::SUGGESTION_ACK_SECONDS, "From frame to acknowledgement.")?,
            popups: counters(r, names::POPUPS, "Popups.", &["outcome"])?,
            insights: counters(r, names::INSIGHTS, "Insight cards.", &["outcome"])?,
            fragments: counters(r, names::FRAGMENTS, "Transcript fragments heard.", &["source"])?,
            fragments_dropped: {
                let counter = IntCounter::new(names::FRAGMENTS_DROPPED, "Transcript fragments above a limit.")?;
                r.register(Box::new(counter.clone()))?;
                counter
            },
            searches: counters(r, names::SEARCHES, "Searches for knowledge.", &["outcome"])?,
            interactions_tracked: gauge(r, names::INTERACTIONS_TRACKED, "Interactions kept in memory.")?,
            entries: counters(r, names::OUTBOX_ENTRIES, "Entries of the outbox.", &["lane", "outcome"])?,
            outbox_age_seconds: {
                let opts = Opts::new(names::OUTBOX_AGE_SECONDS, "Age of the oldest entry that should have left.");
                let gauges = GaugeVec::new(opts, &["lane"])?;
                r.register(Box::new(gauges.clone()))?;
                gauges
            },
            outbox_dead: gauge(r, names::OUTBOX_DEAD, "Dead letters of the outbox.")?,
            leases_held: gauges(r, names::LEASES_HELD, "1: this task holds the lease.", "lease")?,
            uplink_up: gauges(r, names::UPLINK_UP, "1: the socket to CXone is up.", "uplink")?,
            uplink_refused: gauges(r, names::UPLINK_REFUSED, "1: CXone refuses our credentials.", "uplink")?,
            uplink_breaks: counters(r, names::UPLINK_BREAKS, "Connections that ended or failed.", &["uplink"])?,
            store_errors: counters(r, names::STORE_ERRORS, "Store calls that failed.", &["operation"])?,
            cxone_answers: counters(r, names::CXONE_ANSWERS, "Answers of CXone.", &["endpoint", "outcome"])?,
            cxone_held_back: gauges(r, names::CXONE_HELD_BACK, "1: requests are held back.", "endpoint")?,
            registry,
        };
        set.show_zeros();
        Ok(Self { set: Arc::new(set) })
    }

    /// Everything as Prometheus text.
    #[must_use]
    pub fn text(&self) -> String {
        // Writing to a string fails only where a metric has no values, and those are not gathered.
        TextEncoder::new().encode_to_string(&self.set.registry.gather()).unwrap_or_default()
    }

    /// Counts what the rules said of a suggestion.
    pub fn judged(&self, verdict: &Result<Submitted, Rejection>) {
        self.suggestion(if verdict.is_ok() { "accepted" } else { "refused" });
    }

    /// Counts what became of a suggestion: one of the outcomes of [`names::SUGGESTIONS`].
    pub fn suggestion(&self, outcome: &'static str) {
        self.set.suggestions.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn suggestion_sent_after(&self, elapsed: Duration) {
        self.set.suggestion_seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn acked_after(&self, elapsed: Duration) {
        self.set.ack_seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn popup(&self, outcome: &'static str) {
        self.set.popups.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn insights(&self, outcome: &'static str, count: usize) {
        self.set.insights.with_label_values(&[outcome]).inc_by(count as u64);
    }

    pub(crate) fn fragment(&self, source: &'static str) {
        self.set.fragments.with_label_values(&[source]).inc();
    }

    pub(crate) fn fragments_dropped(&self, count: u64) {
        self.set.fragments_dropped.inc_by(count);
    }

    pub(crate) fn search(&self, outcome: &'static str) {
        self.set.searches.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn interactions_tracked(&self, count: usize) {
        self.set.interactions_tracked.set(as_i64(count));
    }

    pub(crate) fn entry(&self, lane: Lane, outcome: &'static str) {
        self.set.entries.with_label_values(&[lane.label(), outcome]).inc();
    }

    pub(crate) fn outbox_age(&self, lane: Lane, age: Duration) {
        self.set.outbox_age_seconds.with_label_values(&[lane.label()]).set(age.as_secs_f64());
    }

    pub(crate) fn outbox_dead(&self, count: usize) {
        self.set.outbox_dead.set(as_i64(count));
    }

    pub(crate) fn lease(&self, lease: &str, is_held: bool) {
        self.set.leases_held.with_label_values(&[lease]).set(i64::from(is_held));
    }

    pub(crate) fn uplink_up(&self, which: Which, is_up: bool) {
        self.set.uplink_up.with_label_values(&[which.label()]).set(i64::from(is_up));
    }

    pub(crate) fn uplink_refused(&self, which: Which, is_refused: bool) {
        self.set.uplink_refused.with_label_values(&[which.label()]).set(i64::from(is_refused));
    }

    pub(crate) fn uplink_broke(&self, which: Which) {
        self.set.uplink_breaks.with_label_values(&[which.label()]).inc();
    }

    /// Takes over what the client of CXone has counted.
    pub(crate) fn cxone(&self, totals: &Counters) {
        for row in &totals.endpoints {
            let endpoint = row.endpoint.label();
            self.set.cxone_held_back.with_label_values(&[endpoint]).set(i64::from(row.is_held_back));
            for (outcome, total) in &row.answers {
                let counter = self.set.cxone_answers.with_label_values(&[endpoint, outcome.label()]);
                counter.inc_by(total.saturating_sub(counter.get()));
            }
        }
    }

    pub(crate) fn store_error(&self, operation: &'static str) {
        self.set.store_errors.with_label_values(&[operation]).inc();
    }
}

impl Set {
    fn show_zeros(&self) {
        let all: [(&IntCounterVec, &[&str]); 5] = [
            (&self.suggestions, &SUGGESTION_OUTCOMES),
            (&self.popups, &POPUP_OUTCOMES),
            (&self.insights, &INSIGHT_OUTCOMES),
            (&self.fragments, &FRAGMENT_SOURCES),
            (&self.searches, &SEARCH_OUTCOMES),
        ];
        for (counters, labels) in all {
            for label in labels {
                counters.with_label_values(&[*label]);
            }
        }
        for lane in Lane::ALL {
            self.outbox_age_seconds.with_label_values(&[lane.label()]);
            for outcome in ENTRY_OUTCOMES {
                self.entries.with_label_values(&[lane.label(), outcome]);
            }
        }
        for which in Which::ALL {
            for gauges in [&self.leases_held, &self.uplink_up, &self.uplink_refused] {
                gauges.with_label_values(&[which.label()]);
            }
            self.uplink_breaks.with_label_values(&[which.label()]);
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn gauges(registry: &Registry, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, prometheus::Error> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn histogram(registry: &Registry, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_declared_once_and_every_word_has_a_value_from_the_start() {
        let text = Metrics::new().unwrap().text();
        for (name, labels) in [
            (names::SUGGESTIONS, "outcome=\"taken_up\""),
            (names::POPUPS, "outcome=\"freed\""),
            (names::OUTBOX_ENTRIES, "lane=\"webhooks\",outcome=\"dead\""),
            (names::OUTBOX_AGE_SECONDS, "lane=\"suggestions\""),
            (names::LEASES_HELD, "lease=\"insights\""),
            (names::UPLINK_REFUSED, "uplink=\"popups\""),
        ] {
            assert!(text.contains(&format!("{name}{{{labels}}} 0\n")), "{name}");
        }
    }
}
