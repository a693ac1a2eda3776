//! How long to wait before the next attempt: exponential with a cap and full jitter. Pure: the caller sleeps.

use std::time::Duration;

/// The pauses of one stream.
///
/// Full jitter (anything between nothing and the step) spreads the streams of a task best when the app comes back and
/// all of them want it at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    base_ms: u64,
    cap_ms: u64,
    failures: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(base_ms: u64, cap_ms: u64, rng: fastrand::Rng) -> Self {
        Self { base_ms, cap_ms, failures: 0, rng }
    }

    /// The pause after one more failure.
    pub(crate) fn pause(&mut self) -> Duration {
        let step_ms = 2_u64.saturating_pow(self.failures).saturating_mul(self.base_ms).min(self.cap_ms);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(self.rng.u64(0..=step_ms))
    }

    /// How many pauses were asked for since the last reset.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// A connection proved stable: begin again at the base.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pause_is_never_above_its_step_nor_above_the_cap(
            base_ms in 1_u64..5_000, cap_ms in 1_u64..100_000, seed: u64, attempts in 1_u32..200,
        ) {
            let mut backoff = Backoff::new(base_ms, cap_ms, fastrand::Rng::with_seed(seed));
            for attempt in 0..attempts {
                let step_ms = u128::from(base_ms) << attempt.min(60);
                let pause_ms = backoff.pause().as_millis();
                prop_assert!(pause_ms <= step_ms.min(u128::from(cap_ms)), "attempt {attempt}: {pause_ms} ms");
            }
            backoff.reset();
            prop_assert!(backoff.pause().as_millis() <= u128::from(base_ms.min(cap_ms)));
        }
    }

    #[test]
    fn pauses_spread_over_the_whole_step() {
        let mut backoff = Backoff::new(1_000, 1_000, fastrand::Rng::with_seed(7));
        let pauses: Vec<_> = (0..1_000).map(|_| backoff.pause().as_millis()).collect();
        assert!(pauses.iter().any(|&pause_ms| pause_ms < 100) && pauses.iter().any(|&pause_ms| pause_ms > 900));
    }
}
