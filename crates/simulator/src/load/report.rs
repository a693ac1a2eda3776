//! What a load did.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::LoadPlan;
use super::opening::Opened;
use super::pacer::PacerReport;
use crate::dial::micros;

/// How it goes, once a second. Counts are totals since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadProgress {
    /// Since the start, in milliseconds.
    pub elapsed_ms: u64,
    /// Streams that were answered `CONNECTED`.
    pub opened: u64,
    /// Streams that were not.
    pub refused: u64,
    /// Streams alive now.
    pub live: u64,
    /// Streams that ended before we closed them.
    pub lost: u64,
    /// Frames sent.
    pub frames: u64,
}

/// What a load did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadReport {
    /// Streams asked for.
    pub streams: u32,
    /// Streams that were answered `CONNECTED`.
    pub opened: u64,
    /// Streams that were not, by reason: `close 1008`, `http 503`, `io …`, `timeout` …
    pub refused: BTreeMap<String, u64>,
    /// Streams that were closed by us and whose close was answered.
    pub closed: u64,
    /// Streams that ended otherwise, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Frames that the kernel took whole.
    pub frames_sent: u64,
    /// Samples in these: one byte each.
    pub bytes_sent: u64,
    /// From dialling to the open WebSocket.
    pub connect: Latency,
    /// From just before the init message is written to the answer being read.
    pub ack: Latency,
    /// Ticks of a pacer that were more than 20 ms late: this machine did not keep up.
    pub late_ticks: u64,
    /// The latest tick, in microseconds.
    pub late_us_max: u64,
    /// For how long all streams were open, in milliseconds.
    pub plateau_ms: u64,
    /// From the first dial to the last close, in milliseconds.
    pub elapsed_ms: u64,
}

impl LoadReport {
    pub(super) fn conclude(
        plan: &LoadPlan,
        opened: &[Opened],
        pacers: Vec<PacerReport>,
        plateau: Duration,
        elapsed: Duration,
    ) -> Self {
        let mut refused = BTreeMap::new();
        let (mut connect, mut ack) = (Vec::new(), Vec::new());
        for outcome in opened {
            match outcome {
                Ok(times) => {
                    connect.push(times.connect_us);
                    ack.push(times.ack_us);
                }
                Err(reason) => *refused.entry(reason.clone()).or_default() += 1,
            }
        }
        let opened = ack.len() as u64;
        let mut paced = PacerReport::default();
        for pacer in pacers {
            paced.frames += pacer.frames;
            paced.closed += pacer.closed;
            paced.late_ticks += pacer.late_ticks;
            paced.late_max = paced.late_max.max(pacer.late_max);
            for (reason, count) in pacer.lost {
                *paced.lost.entry(reason).or_default() += count;
            }
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            streams: plan.streams,
            opened,
            refused,
            closed: paced.closed,
            lost: paced.lost,
            frames_sent: paced.frames,
            bytes_sent: paced.frames * u64::from(plan.frame_samples),
            connect: Latency::of(connect),
            ack: Latency::of(ack),
            late_ticks: paced.late_ticks,
            late_us_max: micros(paced.late_max),
            plateau_ms: millis(plateau),
            elapsed_ms: millis(elapsed),
        }
    }
}

/// Percentiles of a time, in microseconds; zero when nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Measurements.
    pub count: u64,
    /// Half were at most this.
    pub p50_us: u64,
    /// 95 of 100 were at most this.
    pub p95_us: u64,
    /// 99 of 100 were at most this.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Latency {
    /// Percentiles by nearest rank.
    #[must_use]
    pub fn of(mut times_us: Vec<u64>) -> Self {
        times_us.sort_unstable();
        let rank = |percent: usize| {
            let index = (times_us.len() * percent).div_ceil(100).saturating_sub(1);
            times_us.get(index).copied().unwrap_or(0)
        };
        Self {
            count: times_us.len() as u64,
            p50_us: rank(50),
            p95_us: rank(95),
            p99_us: rank(99),
            max_us: times_us.last().copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measurements_and_not_between_them() {
        let latency = Latency::of((1..=200).rev().collect());
        let percentiles = (latency.p50_us, latency.p95_us, latency.p99_us, latency.max_us);
        assert_eq!((latency.count, percentiles), (200, (100, 190, 198, 200)));
        assert_eq!(Latency::of(vec![7]).p50_us, 7);
        assert_eq!(Latency::of(Vec::new()), Latency::default());
    }
}
