//! The pause after a wrong token.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// How long to pause, and how much to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PenaltyRules {
    /// Pause after a first failure.
    pub min: Duration,
    /// No pause is longer than this.
    pub max: Duration,
    /// Without a failure for so long, one starts again at `min`.
    pub forgotten_after: Duration,
    /// How many are remembered; beyond, whoever failed least recently is forgotten. At least one is.
    pub entries_max: usize,
}

impl Default for PenaltyRules {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            max: Duration::from_secs(16),
            forgotten_after: Duration::from_mins(10),
            entries_max: 10_000,
        }
    }
}

/// Whose failures count together: an address and the business unit it spoke for.
///
/// Of an IPv6 address only the first 64 bits count, since whoever has one address of such a network has all of them;
/// an IPv4 address written as IPv6 is the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Who {
    network: IpAddr,
    bus_no: Option<u64>,
}

impl Who {
    /// Somebody at an address; `bus_no` is absent when the failure came before a business unit was named.
    #[must_use]
    pub fn new(address: IpAddr, bus_no: Option<u64>) -> Self {
        Self { network: network_of(address.to_canonical()), bus_no }
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    const UPPER_HALF: u128 = !0 << 64;
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & UPPER_HALF).into(),
    }
}

/// Remembers who failed how often, and says how long to pause before the refusal is sent.
///
/// A failure pauses for [`PenaltyRules::min`], and each further one twice as long, up to [`PenaltyRules::max`]. Only
/// failures come here: a success has no pause and wipes out nothing, or one right token would buy free guesses.
#[derive(Debug)]
pub struct Penalties {
    rules: PenaltyRules,
    failures: HashMap<Who, Failures>,
    /// Who failed, by the turn of the last failure: the first is the one to forget.
    turns: BTreeMap<u64, Who>,
    next_turn: u64,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    /// The pause of the last failure.
    pause: Duration,
    last_at: Duration,
    last_turn: u64,
}

impl Penalties {
    /// Remembers nobody yet.
    #[must_use]
    pub fn new(rules: PenaltyRules) -> Self {
        Self { rules, failures: HashMap::new(), turns: BTreeMap::new(), next_turn: 0 }
    }

    /// Notes a failure and gives the pause for it. `now` counts from any fixed point and must not run backwards.
    #[must_use = "the pause is what the failure costs"]
    pub fn failed(&mut self, who: Who, now: Duration) -> Duration {
        self.forget_expired(now);
        let pause = match self.forget(who) {
            Some(before) => before.pause.saturating_mul(2).min(self.rules.max),
            None => self.rules.min.min(self.rules.max),
        };
        if self.failures.len() >= self.rules.entries_max {
            self.forget_oldest();
        }
        self.failures.insert(who, Failures { pause, last_at: now, last_turn: self.next_turn });
        self.turns.insert(self.next_turn, who);
        self.next_turn += 1;
        pause
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.failures.len()
    }

    /// Whether nobody is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }

    /// Each entry is forgotten once, so this costs no more than what was noted before.
    fn forget_expired(&mut self, now: Duration) {
        while let Some(who) = self.turns.first_key_value().map(|(_, who)| *who) {
            let is_expired = self
                .failures
                .get(&who)
                .is_none_or(|failures| now.saturating_sub(failures.last_at) >= self.rules.forgotten_after);
            if !is_expired {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, who)) = self.turns.pop_first() {
            self.failures.remove(&who);
        }
    }

    fn forget(&mut self, who: Who) -> Option<Failures> {
        let failures = self.failures.remove(&who)?;
        self.turns.remove(&failures.last_turn);
        Some(failures)
    }
}

impl Default for Penalties {
    fn default() -> Self {
        Self::new(PenaltyRules::default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::{Verdict, Verifier};
    use crate::secret::Secret;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn who(last_octet: u8) -> Who {
        Who::new(IpAddr::from([10, 0, 0, last_octet]), Some(1))
    }

    #[test]
    fn a_first_failure_costs_a_second_and_each_further_one_twice_as_much_up_to_sixteen() {
        let mut penalties = Penalties::default();
        let pauses = [0; 7].map(|_| penalties.failed(who(1), seconds(5)).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 16, 16, 16]);
    }

    #[test]
    fn failures_count_per_address_and_business_unit() {
        let mut penalties = Penalties::default();
        let address = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(penalties.failed(Who::new(address, Some(1)), seconds(0)), seconds(1));
        assert_eq!(penalties.failed(Who::new(address, Some(1)), seconds(0)), seconds(2));
        assert_eq!(penalties.failed(Who::new(address, Some(2)), seconds(0)), seconds(1));
        assert_eq!(penalties.failed(Who::new(address, None), seconds(0)), seconds(1));
        assert_eq!(penalties.failed(who(2), seconds(0)), seconds(1));
    }

    #[test]
    fn one_network_of_version_six_is_one_and_a_mapped_address_is_its_own() {
        let somebody = |text: &str| Who::new(text.parse().unwrap(), None);
        assert_eq!(somebody("2001:db8:1:2::1"), somebody("2001:db8:1:2:ffff::9"));
        assert_ne!(somebody("2001:db8:1:2::1"), somebody("2001:db8:1:3::1"));
        assert_eq!(somebody("::ffff:10.0.0.1"), somebody("10.0.0.1"));
        assert_ne!(somebody("10.0.0.2"), somebody("10.0.0.1"));
    }

    #[test]
    fn ten_minutes_after_the_last_failure_all_is_forgotten() {
        let mut penalties = Penalties::default();
        assert_eq!(penalties.failed(who(1), seconds(0)), seconds(1));
        assert_eq!(penalties.failed(who(1), seconds(599)), seconds(2));
        assert_eq!(penalties.failed(who(1), seconds(599 + 599)), seconds(4));
        assert_eq!(penalties.failed(who(1), seconds(599 + 599 + 600)), seconds(1));
    }

    #[test]
    fn expired_entries_give_their_room_back() {
        let mut penalties = Penalties::default();
        for octet in 0..100 {
            let _ = penalties.failed(who(octet), seconds(0));
        }
        assert_eq!(penalties.len(), 100);
        let _ = penalties.failed(who(200), seconds(600));
        assert_eq!((penalties.len(), penalties.turns.len()), (1, 1));
    }

    #[test]
    fn beyond_the_limit_whoever_failed_least_recently_is_forgotten_first() {
        let mut penalties = Penalties::new(PenaltyRules { entries_max: 3, ..PenaltyRules::default() });
        for octet in [1, 2, 3, 1, 4] {
            let _ = penalties.failed(who(octet), seconds(0));
        }
        assert_eq!(penalties.len(), 3);
        assert_eq!(penalties.failed(who(1), seconds(1)), seconds(4), "failed again, so 2 was older");
        assert_eq!(penalties.failed(who(2), seconds(1)), seconds(1), "was forgotten");
        assert_eq!(penalties.failed(who(4), seconds(1)), seconds(2), "was still known");
    }

    #[test]
    fn a_success_is_neither_delayed_by_failures_nor_forgives_them() {
        let mut penalties = Penalties::default();
        let verifier = Verifier::new([Secret::new("right")]);
        for _ in 0..10 {
            assert_eq!(verifier.judge(["wrong"]), Verdict::Wrong);
            let _ = penalties.failed(who(1), seconds(0));
        }
        assert_eq!(verifier.judge(["right"]), Verdict::Accepted);
        assert_eq!(penalties.failed(who(1), seconds(1)), seconds(16));
    }

    #[test]
    fn no_rules_and_no_clock_are_strange_enough_to_panic() {
        let strange =
            PenaltyRules { min: Duration::MAX, max: Duration::MAX, forgotten_after: seconds(0), entries_max: 0 };
        let mut penalties = Penalties::new(strange);
        assert_eq!(penalties.failed(who(1), Duration::MAX), Duration::MAX);
        assert_eq!(penalties.failed(who(1), seconds(0)), Duration::MAX);
        assert_eq!(penalties.len(), 1);
    }

    proptest! {
        #[test]
        fn memory_stays_within_its_limit_and_pauses_within_their_bounds(
            entries_max in 1_usize..8,
            events in prop::collection::vec((0_u8..20, 0_u64..400), 0..200),
        ) {
            let rules = PenaltyRules { entries_max, ..PenaltyRules::default() };
            let mut penalties = Penalties::new(rules);
            let mut now = seconds(0);
            for (octet, later) in events {
                now += seconds(later);
                let pause = penalties.failed(who(octet), now);
                prop_assert!(rules.min <= pause && pause <= rules.max);
                prop_assert!(penalties.len() <= entries_max);
                prop_assert_eq!(penalties.len(), penalties.turns.len());
            }
        }
    }
}
