//! A breaker per host: one that fails again and again is left alone for a while, and then probed by one request.
//!
//! Pure: time comes in as a value. What is refused here was never sent, so it may be sent later.

use std::time::Duration;

use tokio::time::Instant;

/// So many failures in a row open the circuit.
const FAILURES_MAX: u32 = 5;
/// How long it stays open the first time; it doubles with every probe that fails.
const OPEN_FIRST: Duration = Duration::from_secs(5);
/// How long it stays open at most.
const OPEN_MAX: Duration = Duration::from_mins(1);
/// When to ask again while a probe is under way.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// The state of one host.
#[derive(Debug)]
pub(crate) struct Circuit {
    state: State,
    open_next: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

/// The right to send one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Normal,
    Probe,
}

impl Default for Circuit {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 }, open_next: OPEN_FIRST }
    }
}

impl Circuit {
    /// Asks to send a request; every admission has to be followed by one of the three outcomes.
    ///
    /// # Errors
    ///
    /// How long the host is left alone.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Admission, Duration> {
        match self.state {
            State::Closed { .. } => Ok(Admission::Normal),
            State::Open { until } if now < until => Err(until - now),
            State::Open { .. } => {
                self.state = State::Probing;
                Ok(Admission::Probe)
            }
            State::Probing => Err(PROBE_PAUSE),
        }
    }

    /// The host answered, whatever it said.
    pub(crate) fn succeeded(&mut self, admission: Admission) {
        match (self.state, admission) {
            (State::Closed { .. }, _) | (State::Probing, Admission::Probe) => *self = Self::default(),
            // It was sent before the circuit opened: it says nothing about now.
            _ => {}
        }
    }

    /// The host did not answer, or with a fault of its own.
    pub(crate) fn failed(&mut self, admission: Admission, now: Instant) {
        match (self.state, admission) {
            (State::Closed { failures }, _) if failures + 1 < FAILURES_MAX => {
                self.state = State::Closed { failures: failures + 1 };
            }
            (State::Closed { .. }, _) | (State::Probing, Admission::Probe) => {
                self.state = State::Open { until: now + self.open_next };
                self.open_next = (self.open_next * 2).min(OPEN_MAX);
            }
            _ => {}
        }
    }

    /// The request was given up: the next one may probe.
    pub(crate) fn abandoned(&mut self, admission: Admission, now: Instant) {
        if matches!((self.state, admission), (State::Probing, Admission::Probe)) {
            self.state = State::Open { until: now };
        }
    }

    /// Whether requests are refused.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES_MAX {
            assert_eq!(circuit.admit(now), Ok(Admission::Normal));
            circuit.failed(Admission::Normal, now);
        }
        circuit
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_counts_from_nothing() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        for _ in 1..FAILURES_MAX {
            circuit.failed(Admission::Normal, now);
        }
        circuit.succeeded(Admission::Normal);
        circuit.failed(Admission::Normal, now);
        assert!(!circuit.is_open());
        assert_eq!(opened(now).admit(now), Err(OPEN_FIRST));
    }

    #[test]
    fn one_probe_goes_through_and_closes_it() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let later = now + OPEN_FIRST;
        assert_eq!(circuit.admit(later), Ok(Admission::Probe));
        assert_eq!(circuit.admit(later), Err(PROBE_PAUSE));
        circuit.succeeded(Admission::Probe);
        assert_eq!(circuit.admit(later), Ok(Admission::Normal));
    }

    #[test]
    fn every_probe_that_fails_doubles_the_pause_up_to_its_limit() {
        let mut now = Instant::now();
        let mut circuit = opened(now);
        for expected_s in [5, 10, 20, 40, 60, 60] {
            let pause = circuit.admit(now).expect_err("open");
            assert_eq!(pause.as_secs(), expected_s);
            now += pause;
            assert_eq!(circuit.admit(now), Ok(Admission::Probe));
            circuit.failed(Admission::Probe, now);
        }
    }

    #[test]
    fn a_probe_that_is_given_up_leaves_the_place_to_the_next() {
        let now = Instant::now();
        let mut circuit = opened(now);
        let later = now + OPEN_FIRST;
        assert_eq!(circuit.admit(later), Ok(Admission::Probe));
        circuit.abandoned(Admission::Probe, later);
        assert_eq!(circuit.admit(later), Ok(Admission::Probe));
    }

    #[test]
    fn what_was_sent_before_it_opened_neither_closes_it_nor_keeps_it_open_for_longer() {
        let now = Instant::now();
        let mut circuit = opened(now);
        circuit.succeeded(Admission::Normal);
        assert!(circuit.is_open());
        circuit.failed(Admission::Normal, now + Duration::from_secs(4));
        assert_eq!(circuit.admit(now + OPEN_FIRST), Ok(Admission::Probe));
    }

    proptest! {
        #[test]
        fn it_never_stays_shut_for_longer_than_its_limit(steps in proptest::collection::vec((0_u8..3, 0_u64..70), 1..200)) {
            let mut now = Instant::now();
            let mut circuit = Circuit::default();
            for (step, seconds) in steps {
                now += Duration::from_secs(seconds);
                match circuit.admit(now) {
                    Ok(admission) if step == 0 => circuit.succeeded(admission),
                    Ok(admission) if step == 1 => circuit.failed(admission, now),
                    Ok(admission) => circuit.abandoned(admission, now),
                    Err(pause) => prop_assert!(pause <= OPEN_MAX),
                }
            }
            prop_assert!(circuit.admit(now + OPEN_MAX).is_ok());
        }
    }
}
