//! How the recorder behaves, and the limits of that.

use std::time::Duration;

use earpiece_core::contact::SAMPLES_PER_MS;

use crate::block::BLOCK_BYTES;
use crate::error::OpenError;

/// How the recorder behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Length of a segment in milliseconds: what a task that dies can lose at most. Left open, it is
    /// [`Settings::FOLDER_SEGMENT_MS`], or sooner when [`Settings::FOLDER_SEGMENT_SAMPLES`] are there, or
    /// [`Settings::S3_SEGMENT_MS`].
    pub segment_ms: Option<u32>,
    /// How much audio of a stream may wait beyond one segment while the store is slow, in milliseconds. The segment
    /// that is being written comes on top.
    pub ring_ms: u32,
    /// Segments that are written at the same time.
    pub writers: usize,
    /// How a segment that could not be written is tried again.
    pub retries: Retries,
    /// Events of the assist app that a stream keeps between two segments, in bytes of JSON.
    pub events_bytes_max: usize,
}

impl Settings {
    /// Length of a segment in a folder: 5 s.
    pub const FOLDER_SEGMENT_MS: u32 = 5_000;
    /// A segment in a folder is cut when so many samples wait, too: 2 s of unbroken audio. What waits to be written is
    /// most of the memory of a stream, and writing to a folder is cheap.
    pub const FOLDER_SEGMENT_SAMPLES: u64 = 16_000;
    /// Length of a segment on S3, where each costs a request: 60 s.
    pub const S3_SEGMENT_MS: u32 = 60_000;

    /// The settings with everything decided.
    pub(crate) fn resolve(&self, usual: Cadence) -> Result<Resolved, OpenError> {
        let segment_ms = self.segment_ms.unwrap_or(usual.segment_ms);
        within("segment_ms", segment_ms.into(), 20, 600_000)?;
        within("ring_ms", self.ring_ms.into(), 0, 600_000)?;
        within("writers", self.writers as u64, 1, 1_024)?;
        within("events_bytes_max", self.events_bytes_max as u64, 0, 4 << 20)?;
        within("retries.attempts_max", self.retries.attempts_max.into(), 1, 20)?;
        within("retries.backoff_cap_ms", self.retries.backoff_cap_ms.into(), 0, 60_000)?;
        within("retries.attempt_ms", self.retries.attempt_ms.into(), 1, 600_000)?;
        within("retries.last_ms", self.retries.last_ms.into(), 0, 600_000)?;
        let ring_samples = (u64::from(segment_ms) + u64::from(self.ring_ms)) * SAMPLES_PER_MS;
        Ok(Resolved {
            segment_ms,
            // Who sets the length wants that length.
            segment_samples_max: if self.segment_ms.is_some() { u64::MAX } else { usual.segment_samples_max },
            // Room is made a block at a time: with less than two, a block would have to leave as soon as it is full.
            ring_samples: ring_samples.max(2 * BLOCK_BYTES as u64),
            writers: self.writers,
            retries: self.retries,
            events_bytes_max: self.events_bytes_max,
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_ms: None,
            ring_ms: 10_000,
            writers: 16,
            retries: Retries::default(),
            events_bytes_max: 256 << 10,
        }
    }
}

/// How a segment that could not be written is tried again: after a random part of a pause that doubles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Attempts in all, the first included.
    pub attempts_max: u32,
    /// The first pause at most, in milliseconds.
    pub backoff_base_ms: u32,
    /// Any pause at most, in milliseconds.
    pub backoff_cap_ms: u32,
    /// How long one attempt may take, in milliseconds.
    pub attempt_ms: u32,
    /// For how long the last segments of a closed stream are tried again and again, in milliseconds: unlike those before
    /// they have no later cut to go with.
    pub last_ms: u32,
}

impl Retries {
    /// The longest pause before an attempt, counted from 1 for the first one that follows a failure.
    pub(crate) fn pause_max(&self, retry: u32) -> Duration {
        let doubled = u64::from(self.backoff_base_ms).saturating_mul(1 << retry.saturating_sub(1).min(32));
        Duration::from_millis(doubled.min(self.backoff_cap_ms.into()))
    }

    /// The longest time in which a segment is written or given up, once it is its turn.
    pub(crate) fn total_max(&self) -> Duration {
        let pauses: Duration = (1..self.attempts_max).map(|retry| self.pause_max(retry)).sum();
        pauses + self.attempt() * self.attempts_max
    }

    /// The longest time in which all that a closed stream has is written or given up, but for very many segments.
    pub(crate) fn last_max(&self) -> Duration {
        self.last() + self.total_max() * 2
    }

    /// See [`Retries::last_ms`].
    pub(crate) fn last(&self) -> Duration {
        Duration::from_millis(self.last_ms.into())
    }

    pub(crate) fn attempt(&self) -> Duration {
        Duration::from_millis(self.attempt_ms.into())
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts_max: 4, backoff_base_ms: 200, backoff_cap_ms: 2_000, attempt_ms: 10_000, last_ms: 60_000 }
    }
}

/// How often segments are usually cut in one kind of store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cadence {
    segment_ms: u32,
    segment_samples_max: u64,
}

impl Cadence {
    pub(crate) const FOLDER: Self =
        Self { segment_ms: Settings::FOLDER_SEGMENT_MS, segment_samples_max: Settings::FOLDER_SEGMENT_SAMPLES };
    #[cfg(feature = "s3")]
    pub(crate) const S3: Self = Self { segment_ms: Settings::S3_SEGMENT_MS, segment_samples_max: u64::MAX };
}

/// Settings that were checked and have no open ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolved {
    pub(crate) segment_ms: u32,
    /// A segment is cut when so many samples wait, too.
    pub(crate) segment_samples_max: u64,
    /// Samples of a stream that may wait, beside those being written.
    pub(crate) ring_samples: u64,
    pub(crate) writers: usize,
    pub(crate) retries: Retries,
    pub(crate) events_bytes_max: usize,
}

impl Resolved {
    pub(crate) fn segment_us(&self) -> i64 {
        i64::from(self.segment_ms) * 1_000
    }
}

const fn within(setting: &'static str, value: u64, min: u64, max: u64) -> Result<(), OpenError> {
    if min <= value && value <= max { Ok(()) } else { Err(OpenError::Setting { setting, min, max }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_defaults_are_within_their_own_limits() {
        let resolved = Settings::default().resolve(Cadence::FOLDER).expect("valid");
        assert_eq!((resolved.segment_ms, resolved.ring_samples), (5_000, 120_000));
        assert_eq!(resolved.segment_samples_max, 16_000);
        let asked_for = Settings { segment_ms: Some(60_000), ..Settings::default() };
        assert_eq!(asked_for.resolve(Cadence::FOLDER).expect("valid").segment_samples_max, u64::MAX);
    }

    #[test]
    fn a_setting_outside_its_limits_is_named() {
        let settings = Settings { writers: 0, ..Settings::default() };
        let error = settings.resolve(Cadence::FOLDER).expect_err("no writers");
        assert_eq!(error.to_string(), "writers must be from 1 to 1024");
    }

    proptest! {
        #[test]
        fn pauses_never_exceed_the_cap_nor_their_sum_the_total(
            attempts_max in 1u32..20, backoff_base_ms: u32, backoff_cap_ms in 0u32..60_000, retry in 1u32..100
        ) {
            let retries = Retries { attempts_max, backoff_base_ms, backoff_cap_ms, attempt_ms: 1, last_ms: 0 };
            prop_assert!(retries.pause_max(retry) <= Duration::from_millis(backoff_cap_ms.into()));
            let most_ms = u64::from(backoff_cap_ms) * u64::from(attempts_max - 1) + u64::from(attempts_max);
            prop_assert!(retries.total_max() <= Duration::from_millis(most_ms));
        }
    }
}
