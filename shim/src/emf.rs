//! The same measurements for `CloudWatch`: one line of its embedded metric format (EMF) on standard output, now and then.
//!
//! Whatever collects the container's log turns such lines into metrics; no agent and no request is needed. Counters go
//! out as what was added since the line before, gauges as they stand, the histogram as its buckets. A metric has one
//! dimension, `Service`, so that its average is that over all tasks, which is what scaling goes by. What stands behind
//! a label is in the line, too, as plain properties: to be searched for, and not to be paid for as a metric each.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::{MetricFamily, MetricType};
use serde_json::{Map, Value, json};
use tracing::warn;

use crate::Task;
use crate::clock::wall_ms;

/// Where the metrics are found in `CloudWatch`.
const NAMESPACE: &str = "Earpiece";

/// The value of the one dimension.
const SERVICE: &str = "shim";

/// How often a line is written: `CloudWatch` keeps one value a minute, and scaling looks as often.
const PERIOD: Duration = Duration::from_mins(1);

/// Everything that was measured, at one instant.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Snapshot(BTreeMap<String, Family>);

#[derive(Debug, Clone, PartialEq)]
enum Family {
    Counter(Series),
    Gauge(Series),
    Histogram(Distribution),
}

/// Values by their labels, as `reason=overloaded`; under the empty text where there is no label.
type Series = BTreeMap<String, f64>;

#[derive(Debug, Clone, Default, PartialEq)]
struct Distribution {
    /// Upper bounds, and how many lay at or below each.
    buckets: Vec<(f64, u64)>,
    count: u64,
    sum: f64,
}

impl Snapshot {
    /// Reads what a registry gathered.
    pub(crate) fn of(families: &[MetricFamily]) -> Self {
        Self(families.iter().filter_map(|family| Some((family.name().to_owned(), read(family)?))).collect())
    }
}

fn read(family: &MetricFamily) -> Option<Family> {
    let series = |value: fn(&prometheus::proto::Metric) -> f64| -> Series {
        family.get_metric().iter().map(|metric| (labels(metric), value(metric))).collect()
    };
    match family.get_field_type() {
        MetricType::COUNTER => Some(Family::Counter(series(|metric| metric.get_counter().get_value()))),
        MetricType::GAUGE => Some(Family::Gauge(series(|metric| metric.get_gauge().get_value()))),
        MetricType::HISTOGRAM => {
            let histogram = family.get_metric().first()?.get_histogram();
            let buckets = histogram.get_bucket().iter();
            Some(Family::Histogram(Distribution {
                buckets: buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).collect(),
                count: histogram.get_sample_count(),
                sum: histogram.get_sample_sum(),
            }))
        }
        // Not used here.
        _ => None,
    }
}

fn labels(metric: &prometheus::proto::Metric) -> String {
    let pairs: Vec<String> =
        metric.get_label().iter().map(|label| format!("{}={}", label.name(), label.value())).collect();
    pairs.join(",")
}

/// One EMF line, without its line break, for what happened between two snapshots.
pub(crate) fn emf(before: &Snapshot, now: &Snapshot, now_ms: i64) -> String {
    let mut declared = Vec::new();
    let mut line = Map::new();
    for (name, family) in &now.0 {
        let Some((value, by_label)) = values(before.0.get(name), family) else { continue };
        declared.push(json!({ "Name": name, "Unit": unit(name) }));
        line.insert(name.clone(), value);
        for (labels, value) in by_label.into_iter().filter(|(labels, value)| !labels.is_empty() && *value != 0.0) {
            line.insert(format!("{name}{{{labels}}}"), value.into());
        }
    }
    let directive = json!({ "Namespace": NAMESPACE, "Dimensions": [["Service"]], "Metrics": declared });
    line.insert("_aws".to_owned(), json!({ "Timestamp": now_ms, "CloudWatchMetrics": [directive] }));
    line.insert("Service".to_owned(), SERVICE.into());
    Value::Object(line).to_string()
}

/// What a family says in the line, and the parts of it by label. `None` where there is nothing to say.
fn values(before: Option<&Family>, now: &Family) -> Option<(Value, Series)> {
    match now {
        Family::Gauge(series) => Some((series.values().sum::<f64>().into(), series.clone())),
        Family::Counter(series) => {
            let known = |labels: &String| match before {
                Some(Family::Counter(before)) => before.get(labels).copied().unwrap_or_default(),
                _ => 0.0,
            };
            let added: Series =
                series.iter().map(|(labels, value)| (labels.clone(), (value - known(labels)).max(0.0))).collect();
            Some((added.values().sum::<f64>().into(), added))
        }
        Family::Histogram(distribution) => {
            let none = Distribution::default();
            let before = match before {
                Some(Family::Histogram(before)) => before,
                _ => &none,
            };
            Some((distribution.since(before)?, Series::new()))
        }
    }
}

impl Distribution {
    /// What came since, in the form from which `CloudWatch` works out percentiles: every bucket that got something, by its
    /// upper bound. What lay above the last bound counts as that bound. `None` when nothing came.
    fn since(&self, before: &Self) -> Option<Value> {
        let count = self.count.checked_sub(before.count).filter(|count| *count > 0)?;
        let mut bounds = Vec::new();
        let mut counts = Vec::new();
        let mut below = 0;
        for (index, (bound, cumulative)) in self.buckets.iter().enumerate().filter(|(_, (bound, _))| bound.is_finite())
        {
            let known = before.buckets.get(index).map_or(0, |(_, cumulative)| *cumulative);
            let added = cumulative.saturating_sub(known);
            if added > below {
                bounds.push(*bound);
                counts.push(added - below);
            }
            below = added.max(below);
        }
        if count > below {
            let last = self.buckets.iter().map(|(bound, _)| *bound).rfind(|bound| bound.is_finite())?;
            if bounds.last() == Some(&last) {
                counts.pop();
                bounds.pop();
            }
            let counted: u64 = counts.iter().sum();
            bounds.push(last);
            counts.push(count - counted);
        }
        let (min, max) = (bounds.first()?, bounds.last()?);
        Some(json!({
            "Values": bounds, "Counts": counts, "Min": min, "Max": max, "Sum": self.sum - before.sum, "Count": count,
        }))
    }
}

fn unit(name: &str) -> &'static str {
    if name.ends_with("_seconds") {
        "Seconds"
    } else if name.contains("_bytes") {
        "Bytes"
    } else {
        "Count"
    }
}

/// Writes lines for as long as it is let.
pub(crate) struct Reporter {
    task: Arc<Task>,
    before: Snapshot,
}

impl Reporter {
    pub(crate) const fn new(task: Arc<Task>) -> Self {
        Self { task, before: Snapshot(BTreeMap::new()) }
    }

    /// A line now and then, until `over` resolves; and one at the end, so that nothing is left uncounted.
    pub(crate) async fn run(mut self, over: impl Future<Output = ()>) {
        let mut over = std::pin::pin!(over);
        loop {
            let is_over = tokio::select! {
                () = &mut over => true,
                () = tokio::time::sleep(PERIOD) => false,
            };
            self.report().await;
            if is_over {
                return;
            }
        }
    }

    async fn report(&mut self) {
        let now = Snapshot::of(&self.task.metrics.gather(&self.task));
        let mut line = emf(&self.before, &now, wall_ms());
        line.push('\n');
        self.before = now;
        // Whoever reads our output may be slow.
        let written = tokio::task::spawn_blocking(move || std::io::stdout().lock().write_all(line.as_bytes())).await;
        if !matches!(written, Ok(Ok(()))) {
            warn!("the metrics could not be written to standard output");
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

    use super::*;

    struct House {
        registry: Registry,
        live: IntGauge,
        bytes: IntCounter,
        refusals: IntCounterVec,
        ack: Histogram,
    }

    impl House {
        fn open() -> Self {
            let house = Self {
                registry: Registry::new(),
                live: IntGauge::new("earpiece_streams_live", "Live.").expect("a gauge"),
                bytes: IntCounter::new("earpiece_audio_bytes_total", "Bytes.").expect("a counter"),
                refusals: IntCounterVec::new(Opts::new("earpiece_stream_refusals_total", "Refusals."), &["reason"])
                    .expect("counters"),
                ack: Histogram::with_opts(
                    HistogramOpts::new("earpiece_ack_latency_seconds", "Ack.").buckets(vec![0.001, 0.01, 0.1]),
                )
                .expect("a histogram"),
            };
            house.registry.register(Box::new(house.live.clone())).expect("new");
            house.registry.register(Box::new(house.bytes.clone())).expect("new");
            house.registry.register(Box::new(house.refusals.clone())).expect("new");
            house.registry.register(Box::new(house.ack.clone())).expect("new");
            house
        }

        fn snapshot(&self) -> Snapshot {
            Snapshot::of(&self.registry.gather())
        }
    }

    fn line(before: &Snapshot, now: &Snapshot) -> Value {
        let line = emf(before, now, 1_700_000_000_000);
        assert!(!line.contains('\n'));
        serde_json::from_str(&line).expect("one JSON document")
    }

    #[test]
    fn counters_are_told_as_what_was_added_and_gauges_as_they_stand() {
        let house = House::open();
        house.live.set(7);
        house.bytes.inc_by(160);
        let first = house.snapshot();
        assert_eq!(line(&Snapshot::default(), &first)["earpiece_audio_bytes_total"], 160.0);
        house.bytes.inc_by(40);
        house.live.set(5);
        let second = line(&first, &house.snapshot());
        assert_eq!(second["earpiece_audio_bytes_total"], 40.0);
        assert_eq!(second["earpiece_streams_live"], 5.0);
        assert_eq!(line(&house.snapshot(), &house.snapshot())["earpiece_audio_bytes_total"], 0.0);
    }

    #[test]
    fn every_metric_of_a_line_is_declared_under_the_service_with_its_unit() {
        let house = House::open();
        house.ack.observe(0.002);
        let line = line(&Snapshot::default(), &house.snapshot());
        assert_eq!(line["_aws"]["Timestamp"], 1_700_000_000_000_i64);
        assert_eq!(line["Service"], "shim");
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Earpiece");
        assert_eq!(directive["Dimensions"], json!([["Service"]]));
        let declared = directive["Metrics"].as_array().expect("a list");
        assert!(declared.len() <= 100, "the most that CloudWatch takes in one directive");
        for metric in declared {
            assert!(line.get(metric["Name"].as_str().expect("a name")).is_some(), "{metric}");
        }
        let unit_of = |name: &str| declared.iter().find(|metric| metric["Name"] == name).map(|metric| &metric["Unit"]);
        assert_eq!(unit_of("earpiece_ack_latency_seconds"), Some(&json!("Seconds")));
        assert_eq!(unit_of("earpiece_audio_bytes_total"), Some(&json!("Bytes")));
        assert_eq!(unit_of("earpiece_streams_live"), Some(&json!("Count")));
    }

    #[test]
    fn labels_are_summed_in_the_metric_and_told_apart_beside_it() {
        let house = House::open();
        house.refusals.with_label_values(&["overloaded"]).inc_by(2);
        house.refusals.with_label_values(&["unauthorized"]).inc();
        house.refusals.with_label_values(&["draining"]).inc_by(0);
        let line = line(&Snapshot::default(), &house.snapshot());
        assert_eq!(line["earpiece_stream_refusals_total"], 3.0);
        assert_eq!(line["earpiece_stream_refusals_total{reason=overloaded}"], 2.0);
        assert!(line.get("earpiece_stream_refusals_total{reason=draining}").is_none(), "zeros would only be noise");
    }

    #[test]
    fn a_histogram_is_told_by_what_its_buckets_got_since() {
        let house = House::open();
        house.ack.observe(0.0005);
        let first = house.snapshot();
        for seconds in [0.0005, 0.05, 0.05, 0.1, 3.0] {
            house.ack.observe(seconds);
        }
        let ack = &line(&first, &house.snapshot())["earpiece_ack_latency_seconds"];
        assert_eq!(ack["Values"], json!([0.001, 0.1]));
        assert_eq!(ack["Counts"], json!([1, 4]), "what lies above the last bound counts as that");
        assert_eq!((&ack["Min"], &ack["Max"], &ack["Count"]), (&json!(0.001), &json!(0.1), &json!(5)));
        assert!((ack["Sum"].as_f64().expect("a number") - 3.2005).abs() < 1e-9);
        let quiet = line(&house.snapshot(), &house.snapshot());
        assert!(quiet.get("earpiece_ack_latency_seconds").is_none());
    }
}
