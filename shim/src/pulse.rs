//! How many control frames a peer may send.
//!
//! Every ping asks for a pong that waits in memory until the peer reads. A peer that only pings could make that grow
//! without end, so it may send a few at once and then two in a second.

use crate::limits::Limits;

/// The control frames that a peer may still send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pulse {
    left: i64,
    filled_us: i64,
    max: i64,
    refill_us: i64,
}

impl Pulse {
    pub(crate) fn new(limits: &Limits, now_us: i64) -> Self {
        let max = i64::from(limits.control_frames_max);
        Self {
            left: max,
            filled_us: now_us,
            max,
            refill_us: 1_000_000 / i64::from(limits.control_frames_per_second.max(1)),
        }
    }

    /// Takes one control frame into account; whether it was one too many.
    pub(crate) fn is_flood(&mut self, now_us: i64) -> bool {
        let refilled = (now_us - self.filled_us) / self.refill_us;
        self.filled_us += refilled * self.refill_us;
        self.left = (self.left + refilled).min(self.max) - 1;
        self.left < 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_and_two_in_a_second_are_no_flood_and_more_are() {
        let limits = Limits::default();
        let mut pulse = Pulse::new(&limits, 0);
        let burst = (0..1_000).take_while(|_| !pulse.is_flood(0)).count();
        assert_eq!(burst, usize::try_from(limits.control_frames_max).expect("small"));
        let mut steady = Pulse::new(&limits, 0);
        assert!((1..10_000).all(|n| !steady.is_flood(n * 500_000)));
        assert!((1..10_000).any(|n| steady.is_flood(5_000_000_000 + n * 100_000)));
    }
}
