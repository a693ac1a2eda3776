//! What this task measures, as Prometheus text. Names are in `core::telemetry`; nothing here is touched per frame.

use std::borrow::Cow;

use earpiece_access::Refusal;
use earpiece_core::contact::facts::{CloseReason, LostReason};
use earpiece_core::error::Kind;
use earpiece_core::telemetry as names;
use earpiece_https::server::Tls;
use earpiece_relay::VoiceRelay;
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::Task;
use crate::ingest::Ingest;

/// Upper bounds of the buckets for the time to answer a handshake, in seconds.
const ACK_BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.6, 1.0, 2.5, 5.0];

/// The door's name in [`names::AUTH_REFUSALS`].
const DOOR: &str = "shim";

/// One set of metrics: a task's. Not global, so that tests can run several tasks in one process.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) streams_live: IntGauge,
    pub(crate) opens: IntCounter,
    refusals: IntCounterVec,
    closes: IntCounterVec,
    pub(crate) degraded: IntCounter,
    pub(crate) audio_bytes: IntCounter,
    pub(crate) audio_frames: IntCounter,
    lost: IntCounterVec,
    pub(crate) ack_seconds: Histogram,
    ring_samples: IntGaugeVec,
    sink_errors: IntCounterVec,
    pub(crate) unknown_fields: IntCounter,
    pub(crate) unknown_perspectives: IntCounter,
    pub(crate) contacts_finished: IntCounter,
    store_errors: IntCounterVec,
    segments: IntCounter,
    segments_given_up: IntCounter,
    segments_unreadable: IntCounter,
    app_events: IntCounter,
    app_events_dropped: IntCounterVec,
    app_frames_ignored: IntCounter,
    auth_refusals: IntCounterVec,
    ingest_sessions: IntGauge,
    ingest_pieces: IntCounterVec,
    pub(crate) connections_pruned: IntCounter,
    pub(crate) events_unpublished: IntCounter,
    pub(crate) scale_in_protected: IntGauge,
    tls_reloads: IntCounterVec,
}

impl Metrics {
    /// Declares every metric, with every label value that can occur, so that a dashboard sees zeros and not holes.
    ///
    /// # Errors
    ///
    /// Never in practice: a name declared twice is found by the test below.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            streams_live: gauge(&registry, names::STREAMS_LIVE, "Live audio streams on this task.")?,
            opens: counter(&registry, names::STREAM_OPENS, "Sockets that were answered CONNECTED.")?,
            refusals: counters(&registry, names::STREAM_REFUSALS, "Sockets refused before audio.", "reason")?,
            closes: counters(&registry, names::STREAM_CLOSES, "Streams that ended.", "reason")?,
            degraded: counter(&registry, names::STREAMS_DEGRADED, "Streams accepted before the store answered.")?,
            audio_bytes: counter(&registry, names::AUDIO_BYTES, "Audio bytes received.")?,
            audio_frames: counter(&registry, names::AUDIO_FRAMES, "Audio frames received.")?,
            lost: counters(&registry, names::SAMPLES_LOST, "Samples a sink lost.", "reason")?,
            ack_seconds: {
                let help = "From the end of the init frame to CONNECTED handed to the kernel.";
                let opts = HistogramOpts::new(names::ACK_LATENCY_SECONDS, help).buckets(ACK_BUCKETS.to_vec());
                let histogram = Histogram::with_opts(opts)?;
                registry.register(Box::new(histogram.clone()))?;
                histogram
            },
            ring_samples: {
                let gauges = IntGaugeVec::new(Opts::new(names::RING_SAMPLES, "Samples waiting in rings."), &["sink"])?;
                registry.register(Box::new(gauges.clone()))?;
                gauges
            },
            sink_errors: counters(&registry, names::SINK_ERRORS, "Errors of sinks.", "sink")?,
            unknown_fields: counter(&registry, names::UNKNOWN_FIELDS, "Init fields that no document names.")?,
            unknown_perspectives: counter(&registry, names::UNKNOWN_PERSPECTIVES, "Perspectives nobody documents.")?,
            contacts_finished: counter(&registry, names::CONTACTS_FINISHED, "Contacts finished by this task.")?,
            store_errors: counters(&registry, names::STORE_ERRORS, "Store calls that failed.", "operation")?,
            segments: counter(&registry, names::SEGMENTS, "Segments written.")?,
            segments_given_up: counter(&registry, names::SEGMENTS_GIVEN_UP, "Segments given up.")?,
            segments_unreadable: counter(&registry, names::SEGMENTS_UNREADABLE, "Segments nobody can read.")?,
            app_events: counter(&registry, names::APP_EVENTS, "Events from the assist app.")?,
            app_events_dropped: counters(&registry, names::APP_EVENTS_DROPPED, "Events above a limit.", "sink")?,
            app_frames_ignored: counter(&registry, names::APP_FRAMES_IGNORED, "Frames that are no JSON object.")?,
            auth_refusals: {
                let opts = Opts::new(names::AUTH_REFUSALS, "Tokens that were refused.");
                let counters = IntCounterVec::new(opts, &["door", "reason"])?;
                registry.register(Box::new(counters.clone()))?;
                counters
            },
            ingest_sessions: gauge(&registry, names::INGEST_SESSIONS, "Streams relayed from pieces on this task.")?,
            ingest_pieces: counters(&registry, names::INGEST_PIECES, "Pieces that were handed over.", "outcome")?,
            connections_pruned: counter(&registry, names::CONNECTIONS_PRUNED, "Connections found gone.")?,
            events_unpublished: counter(&registry, names::EVENTS_UNPUBLISHED, "Events that a page was not told.")?,
            scale_in_protected: gauge(&registry, names::SCALE_IN_PROTECTED, "1: this task is not scaled in.")?,
            tls_reloads: counters(&registry, names::TLS_RELOADS, "New certificates.", "outcome")?,
            registry,
        };
        for kind in Kind::ALL {
            metrics.refusals.with_label_values(&[kind.label()]);
        }
        metrics.refusals.with_label_values(&["gone"]);
        for reason in CloseReason::ALL {
            metrics.closes.with_label_values(&[reason.label()]);
        }
        for reason in LostReason::ALL {
            metrics.lost.with_label_values(&[reason.label()]);
        }
        for refusal in Refusal::ALL {
            metrics.auth_refusals.with_label_values(&[DOOR, refusal.label()]);
        }
        for outcome in ["relayed", "duplicate", "late", "unwritten"] {
            metrics.ingest_pieces.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }

    /// Counts a socket that was refused.
    pub(crate) fn refused(&self, kind: Kind) {
        self.refusals.with_label_values(&[kind.label()]).inc();
    }

    /// Counts a peer that left before its handshake was done.
    pub(crate) fn gone(&self) {
        self.refusals.with_label_values(&["gone"]).inc();
    }

    /// Counts a stream that ended.
    pub(crate) fn closed(&self, reason: CloseReason) {
        self.closes.with_label_values(&[reason.label()]).inc();
    }

    /// Counts samples that a sink lost.
    pub(crate) fn lost(&self, reason: LostReason, samples: u64) {
        self.lost.with_label_values(&[reason.label()]).inc_by(samples);
    }

    /// Counts a store call that failed.
    pub(crate) fn store_error(&self, operation: &str) {
        self.store_errors.with_label_values(&[operation]).inc();
    }

    /// Counts a token that was refused.
    pub(crate) fn auth_refused(&self, refusal: Refusal) {
        self.auth_refusals.with_label_values(&[DOOR, refusal.label()]).inc();
    }

    /// Counts a piece that was handed over.
    pub(crate) fn ingested(&self, outcome: &'static str) {
        self.ingest_pieces.with_label_values(&[outcome]).inc();
    }

    /// Everything as Prometheus text: what this task measures, and what is measured beside it.
    ///
    /// # Errors
    ///
    /// When a metric cannot be written, which its type rules out.
    pub(crate) fn text(&self, task: &Task) -> Result<String, prometheus::Error> {
        let text = TextEncoder::new().encode_to_string(&self.gather(task))?;
        Ok(task.extra_metrics.as_ref().map_or_else(|| text.clone(), |extra| merged(&text, &extra())))
    }

    /// Everything as it stands now, sinks included.
    pub(crate) fn gather(&self, task: &Task) -> Vec<MetricFamily> {
        let (recorder, relay) = (&task.recorder, task.relay.as_ref());
        let sessions = task.ingest.as_ref().map_or(0, Ingest::live);
        self.ingest_sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        let reloads = task.tls.as_ref().map(Tls::reloads).unwrap_or_default();
        raise(&self.tls_reloads.with_label_values(&["taken"]), reloads.taken);
        raise(&self.tls_reloads.with_label_values(&["kept_old"]), reloads.kept_old);
        let written = recorder.counters();
        self.ring("recorder", written.ring_samples());
        raise(&self.sink_errors.with_label_values(&["recorder"]), written.write_errors());
        raise(&self.segments, written.segments());
        raise(&self.segments_given_up, written.segments_given_up());
        raise(&self.segments_unreadable, written.segments_unreadable());
        raise(&self.app_events_dropped.with_label_values(&["recorder"]), written.events_dropped());
        let relayed = relay.map(VoiceRelay::counters);
        self.ring("relay", relayed.map_or(0, |counters| counters.ring_samples.get()));
        let relay_errors = relayed.map_or(0, |counters| counters.connect_failures.get() + counters.disconnects.get());
        raise(&self.sink_errors.with_label_values(&["relay"]), relay_errors);
        raise(&self.app_events, relayed.map_or(0, |counters| counters.events.get()));
        let dropped = relayed.map_or(0, |counters| counters.events_dropped.get());
        raise(&self.app_events_dropped.with_label_values(&["relay"]), dropped);
        raise(&self.app_frames_ignored, relayed.map_or(0, |counters| counters.ignored_frames.get()));
        self.registry.gather()
    }

    fn ring(&self, sink: &str, samples: u64) {
        self.ring_samples.with_label_values(&[sink]).set(i64::try_from(samples).unwrap_or(i64::MAX));
    }
}

/// Two sets of metrics as one, as the format asks for: of a metric that both have, the values stand together below the
/// help and type of the first, and of a value that both have there is one: the sum.
pub(crate) fn merged(ours: &str, extra: &str) -> String {
    let mut families: Vec<(&str, Vec<Cow<'_, str>>)> = Vec::new();
    for (is_extra, line) in ours.lines().map(|line| (false, line)).chain(extra.lines().map(|line| (true, line))) {
        let Some(name) = family_of(line) else { continue };
        match families.iter_mut().find(|(known, _)| *known == name || is_part(line, known)) {
            // Its help and type were said.
            Some((_, lines)) if line.starts_with('#') && lines.iter().any(|known| same_remark(known, line)) => {}
            Some((_, lines)) => match lines.iter_mut().find(|known| is_extra && series_of(known) == series_of(line)) {
                Some(known) if !line.starts_with('#') => *known = Cow::Owned(added(known, line)),
                _ => lines.push(Cow::Borrowed(line)),
            },
            None => families.push((name, vec![Cow::Borrowed(line)])),
        }
    }
    let lines = families.into_iter().flat_map(|(_, lines)| lines);
    lines.fold(String::with_capacity(ours.len() + extra.len()), |mut text, line| {
        text.push_str(&line);
        text.push('\n');
        text
    })
}

/// Whether both lines are the help, or both the type, of a metric.
fn same_remark(one: &str, other: &str) -> bool {
    one.starts_with('#') && one.split(' ').take(3).eq(other.split(' ').take(3))
}

/// The name of a value, with its labels.
fn series_of(line: &str) -> &str {
    line.rsplit_once(' ').map_or(line, |(series, _)| series)
}

/// One line for two lines of a value.
fn added(one: &str, other: &str) -> String {
    let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok()).unwrap_or(0.0);
    format!("{} {}", series_of(one), value(one) + value(other))
}

/// The metric that a line is about.
fn family_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")).unwrap_or(line);
    rest.split(['{', ' ']).next().filter(|name| !name.is_empty() && *name != "#")
}

/// Whether a line is one of the values of a histogram.
fn is_part(line: &str, family: &str) -> bool {
    let rest = line.strip_prefix(family).and_then(|rest| rest.split(['{', ' ']).next());
    matches!(rest, Some("_bucket" | "_sum" | "_count"))
}

/// Brings a counter up to a total that is counted elsewhere. Two scrapes at once may each miss what the other added;
/// the next one mends it.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_declared_once() {
        assert!(Metrics::new().is_ok());
    }

    #[test]
    fn what_is_measured_elsewhere_stands_with_its_like_and_is_declared_once() {
        let ours = "# HELP a A.\n# TYPE a counter\na{door=\"shim\"} 1\n# HELP h H.\n# TYPE h histogram\n\
                    h_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n";
        let extra =
            "# HELP a All of them.\n# TYPE a counter\na{door=\"http\"} 2\n\n# HELP b B.\n# TYPE b counter\nb 3\n";
        let expected = "# HELP a A.\n# TYPE a counter\na{door=\"shim\"} 1\na{door=\"http\"} 2\n\
                        # HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n\
                        # HELP b B.\n# TYPE b counter\nb 3\n";
        assert_eq!(merged(ours, extra), expected);
        assert_eq!(merged(ours, ""), ours);
        let twice = merged("# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 1\n", "# TYPE a counter\na{x=\"2\"} 41\n");
        assert_eq!(twice, "# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 42\n", "one value for one series");
        let text = TextEncoder::new().encode_to_string(&Metrics::new().expect("metrics").registry.gather());
        let text = text.expect("text");
        assert_eq!(merged(&text, ""), text);
    }
}
