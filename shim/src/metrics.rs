//! What this task measures, as Prometheus text. Names are in `core::telemetry`; nothing here is touched per frame.

use earpiece_core::contact::facts::{CloseReason, LostReason};
use earpiece_core::error::Kind;
use earpiece_core::telemetry as names;
use earpiece_recorder::Recorder;
use earpiece_relay::VoiceRelay;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Upper bounds of the buckets for the time to answer a handshake, in seconds.
const ACK_BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.6, 1.0, 2.5, 5.0];

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

    /// Everything as Prometheus text, sinks included.
    ///
    /// # Errors
    ///
    /// When a metric cannot be written, which its type rules out.
    pub(crate) fn text(&self, recorder: &Recorder, relay: Option<&VoiceRelay>) -> Result<Vec<u8>, prometheus::Error> {
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
        let mut text = Vec::with_capacity(8 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn ring(&self, sink: &str, samples: u64) {
        self.ring_samples.with_label_values(&[sink]).set(i64::try_from(samples).unwrap_or(i64::MAX));
    }
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
}
