//! The same measurements for `CloudWatch`: lines of its embedded metric format (EMF) on standard output, now and then.
//!
//! Whatever collects the container's log turns such lines into metrics; no agent and no request is needed. What is told
//! is what `/metrics` says, whoever measured it: counters as what was added since the time before, gauges as they stand,
//! histograms as their buckets. A metric has one dimension, `Service`, so that its average is that over all tasks, which
//! is what scaling goes by. What stands behind a label is in the line, too, as plain properties: to be searched for, and
//! not to be paid for as a metric each. The few whose sum over a label means nothing have that label as a dimension, and
//! lines of their own.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::telemetry as names;
use serde_json::{Map, Value, json};
use tracing::warn;

use crate::Task;
use crate::clock::wall_ms;

/// Where the metrics are found in `CloudWatch`.
const NAMESPACE: &str = "Earpiece";

/// The value of the dimension that every metric has.
const SERVICE: &str = "shim";

/// How often lines are written: `CloudWatch` keeps one value a minute, and scaling looks as often.
const PERIOD: Duration = Duration::from_mins(1);

/// Gauges whose one label is a dimension: an alarm has to know which lane is stuck and which lease is free. They cost a
/// metric per value of the label, of which there are three or four.
const TOLD_APART: [&str; 4] = [names::OUTBOX_AGE_SECONDS, names::LEASES_HELD, names::UPLINK_UP, names::UPLINK_REFUSED];

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
    /// Reads what `/metrics` says. A line that cannot be read is left out, and no other with it.
    pub(crate) fn read(text: &str) -> Self {
        let mut snapshot = Self::default();
        for line in text.lines() {
            let read = match line.strip_prefix("# TYPE ") {
                Some(declared) => snapshot.declare(declared),
                None if line.starts_with('#') || line.is_empty() => Some(()),
                None => snapshot.note(line),
            };
            if read.is_none() {
                warn!("a metric could not be read; CloudWatch does not get it");
            }
        }
        snapshot
    }

    fn declare(&mut self, declared: &str) -> Option<()> {
        let (name, kind) = declared.split_once(' ')?;
        let family = match kind {
            "counter" => Family::Counter(Series::new()),
            "gauge" => Family::Gauge(Series::new()),
            "histogram" => Family::Histogram(Distribution::default()),
            // Not used here.
            _ => return None,
        };
        self.0.entry(name.to_owned()).or_insert(family);
        Some(())
    }

    fn note(&mut self, line: &str) -> Option<()> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        // Labels and their values are words of the program: nothing in them is escaped.
        let labels = labels.trim_end_matches('}').replace('"', "");
        if let Some(Family::Counter(series) | Family::Gauge(series)) = self.0.get_mut(name) {
            let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite())?;
            *series.entry(labels).or_default() += value;
            return Some(());
        }
        // What is said of a histogram has one of three words behind its name.
        let (name, part) = name.rsplit_once('_')?;
        let Some(Family::Histogram(distribution)) = self.0.get_mut(name) else { return None };
        distribution.note(part, &labels, value)
    }

    fn apart(&self) -> impl Iterator<Item = (&String, &Series)> {
        self.0.iter().filter_map(|(name, family)| match family {
            Family::Gauge(series) if is_told_apart(name) => Some((name, series)),
            _ => None,
        })
    }
}

fn is_told_apart(name: &str) -> bool {
    TOLD_APART.contains(&name)
}

/// The lines, without their line breaks, for what happened between two snapshots: one with everything, then one for each
/// value of a label that is a dimension.
pub(crate) fn emf(before: &Snapshot, now: &Snapshot, now_ms: i64) -> Vec<String> {
    let mut together = Line::of(&[]);
    for (name, family) in now.0.iter().filter(|(name, _)| !is_told_apart(name)) {
        let Some((value, by_label)) = values(before.0.get(name), family) else { continue };
        together.tell(name, value);
        for (labels, value) in by_label.into_iter().filter(|(labels, value)| !labels.is_empty() && *value != 0.0) {
            together.properties.insert(format!("{name}{{{labels}}}"), value.into());
        }
    }
    let mut apart: BTreeMap<&str, Line> = BTreeMap::new();
    for (name, series) in now.apart() {
        for (labels, value) in series {
            let Some(dimension) = labels.split_once('=') else { continue };
            apart.entry(labels).or_insert_with(|| Line::of(&[dimension])).tell(name, (*value).into());
        }
    }
    std::iter::once(together).chain(apart.into_values()).map(|line| line.written(now_ms)).collect()
}

/// A line in the making.
struct Line {
    dimensions: Vec<String>,
    declared: Vec<Value>,
    properties: Map<String, Value>,
}

impl Line {
    /// One with these dimensions beside `Service`.
    fn of(dimensions: &[(&str, &str)]) -> Self {
        let all = [("Service", SERVICE)].iter().chain(dimensions);
        let properties: Map<String, Value> =
            all.map(|(dimension, value)| ((*dimension).to_owned(), Value::from(*value))).collect();
        Self { dimensions: properties.keys().cloned().collect(), declared: Vec::new(), properties }
    }

    fn tell(&mut self, name: &str, value: Value) {
        self.declared.push(json!({ "Name": name, "Unit": unit(name) }));
        self.properties.insert(name.to_owned(), value);
    }

    fn written(self, now_ms: i64) -> String {
        let Self { dimensions, declared, mut properties } = self;
        let directive = json!({ "Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": declared });
        properties.insert("_aws".to_owned(), json!({ "Timestamp": now_ms, "CloudWatchMetrics": [directive] }));
        Value::Object(properties).to_string()
    }
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
    /// Takes one of its lines. Several distributions of a name, told apart by labels, are taken as one.
    fn note(&mut self, part: &str, labels: &str, value: &str) -> Option<()> {
        match part {
            "sum" => self.sum += value.parse::<f64>().ok().filter(|sum| sum.is_finite())?,
            "count" => self.count += value.parse::<u64>().ok()?,
            "bucket" => {
                let bound: f64 = labels.split(',').find_map(|label| label.strip_prefix("le="))?.parse().ok()?;
                let count: u64 = value.parse().ok()?;
                match self.buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                    Some((_, known)) => *known += count,
                    None => self.buckets.push((bound, count)),
                }
            }
            _ => return None,
        }
        Some(())
    }

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

    /// Lines now and then, until `over` resolves; and once more at the end, so that nothing is left uncounted.
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
        let Ok(text) = self.task.metrics.text(&self.task) else {
            warn!("the metrics cannot be told to CloudWatch");
            return;
        };
        let now = Snapshot::read(&text);
        let lines = emf(&self.before, &now, wall_ms());
        let text: String = lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect();
        self.before = now;
        // Whoever reads our output may be slow.
        let written = tokio::task::spawn_blocking(move || std::io::stdout().lock().write_all(text.as_bytes())).await;
        if !matches!(written, Ok(Ok(()))) {
            warn!("the metrics could not be written to standard output");
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{
        Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    };

    use super::*;

    struct House {
        registry: Registry,
        live: IntGauge,
        bytes: IntCounter,
        refusals: IntCounterVec,
        leases: IntGaugeVec,
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
                leases: IntGaugeVec::new(Opts::new(names::LEASES_HELD, "Leases."), &["lease"]).expect("gauges"),
                ack: Histogram::with_opts(
                    HistogramOpts::new("earpiece_ack_latency_seconds", "Ack.").buckets(vec![0.001, 0.01, 0.1]),
                )
                .expect("a histogram"),
            };
            house.registry.register(Box::new(house.live.clone())).expect("new");
            house.registry.register(Box::new(house.bytes.clone())).expect("new");
            house.registry.register(Box::new(house.refusals.clone())).expect("new");
            house.registry.register(Box::new(house.leases.clone())).expect("new");
            house.registry.register(Box::new(house.ack.clone())).expect("new");
            house
        }

        fn snapshot(&self) -> Snapshot {
            Snapshot::read(&TextEncoder::new().encode_to_string(&self.registry.gather()).expect("text"))
        }
    }

    fn lines(before: &Snapshot, now: &Snapshot) -> Vec<Value> {
        let lines = emf(before, now, 1_700_000_000_000);
        assert!(lines.iter().all(|line| !line.contains('\n')));
        lines.iter().map(|line| serde_json::from_str(line).expect("one JSON document")).collect()
    }

    /// The line with everything that has no dimension of its own.
    fn line(before: &Snapshot, now: &Snapshot) -> Value {
        lines(before, now).swap_remove(0)
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

    #[test]
    fn a_label_that_is_a_dimension_has_a_line_per_value_and_is_in_no_sum() {
        let house = House::open();
        house.leases.with_label_values(&["insights"]).set(1);
        house.leases.with_label_values(&["popups"]).set(0);
        let lines = lines(&Snapshot::default(), &house.snapshot());
        let [together, insights, popups] = &lines[..] else { panic!("three lines, not {}", lines.len()) };
        assert!(!together.to_string().contains(names::LEASES_HELD));
        for (line, lease, held) in [(insights, "insights", 1.0), (popups, "popups", 0.0)] {
            let directive = &line["_aws"]["CloudWatchMetrics"][0];
            assert_eq!(directive["Dimensions"], json!([["Service", "lease"]]));
            assert_eq!(directive["Metrics"], json!([{ "Name": names::LEASES_HELD, "Unit": "Count" }]));
            assert_eq!((&line["Service"], &line["lease"]), (&json!("shim"), &json!(lease)));
            assert_eq!(line[names::LEASES_HELD], held, "a free lease is told as well");
        }
    }

    #[test]
    fn what_the_uplinks_measure_is_told_like_everything_else() {
        let uplink = earpiece_uplink::Metrics::new().expect("metrics");
        let lines = lines(&Snapshot::default(), &Snapshot::read(&uplink.text()));
        assert_eq!(lines[0][names::SUGGESTIONS], 0.0);
        assert_eq!(lines[0][names::OUTBOX_DEAD], 0.0);
        let told = |name: &str, label: &str| -> Vec<&Value> {
            lines.iter().filter(|line| line.get(name).is_some()).map(|line| &line[label]).collect()
        };
        assert_eq!(told(names::OUTBOX_AGE_SECONDS, "lane"), ["insights", "popups", "suggestions", "webhooks"]);
        for (name, label) in
            [(names::LEASES_HELD, "lease"), (names::UPLINK_UP, "uplink"), (names::UPLINK_REFUSED, "uplink")]
        {
            assert_eq!(told(name, label), ["insights", "popups", "suggestions"], "{name}");
        }
    }

    #[test]
    fn what_is_no_metric_costs_no_other_metric() {
        let text = "# HELP a A.\n# TYPE a counter\na 1\nnonsense\nb 2\n# TYPE c summary\nc_sum 1\na_sum 4\n\
                    # TYPE d gauge\nd NaN\nd{x=\"y\"} 3\n";
        let line = line(&Snapshot::default(), &Snapshot::read(text));
        assert_eq!((&line["a"], &line["d"], &line["d{x=y}"]), (&json!(1.0), &json!(3.0), &json!(3.0)));
        assert!(line.get("b").is_none() && line.get("c").is_none());
    }
}
