//! The platform's books judged: what came once, what came again, and which kill that falls on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use earpiece_simulator::platform::{Kind, Received, Record};

/// How long before a kill something may have been sent and not been settled: a suggestion's acknowledgement is waited for
/// for five seconds, and a busy machine takes its time with the rest.
const UNSETTLED_MS_MAX: i64 = 15_000;

/// One lane, as the platform sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Suggestions,
    Cards,
}

impl Sort {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Suggestions => "suggestions",
            Self::Cards => "cards",
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Suggestions => Kind::Suggest,
            Self::Cards => Kind::Card,
        }
    }

    /// How much a holder may have sent and not settled: 64 interactions and one more are worked on at a time. Beside
    /// them, 64 suggestions wait for their acknowledgement, and as many may have waited in vain and be about to be noted.
    const fn unsettled_max(self) -> usize {
        match self {
            Self::Suggestions => 65 + 64 + 64,
            Self::Cards => 65,
        }
    }
}

/// A holder of a lane was killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// When, in milliseconds since the Unix epoch.
    pub(crate) killed_ms: i64,
    /// What came up to this record was sent by the dead holder or those before it; what came later was not.
    pub(crate) boundary: u64,
    /// From the kill until somebody else held the lease.
    pub(crate) took: Duration,
}

/// What one lane brought.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) came: usize,
    pub(crate) distinct: usize,
    /// For each kill in the lane, how much came again because of it.
    pub(crate) repeated: Vec<usize>,
    /// How long before its kill the oldest of that was sent, in milliseconds.
    pub(crate) age_ms_max: i64,
}

/// Judges one lane: everything was taken, and what came again was under way when a holder was killed.
pub(crate) fn judge(received: &Received, sort: Sort, cuts: &[Cut]) -> Lane {
    let records: Vec<&Record> = received.of(sort.kind()).collect();
    let mut copies: HashMap<(Arc<str>, Arc<str>), Vec<usize>> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        assert!(record.is_taken(), "{record:?} was not taken");
        let name = record.interaction.clone().zip(record.id.clone()).expect("a name");
        copies.entry(name).or_default().push(place);
    }
    let (mut repeated, mut age_ms_max) = (vec![0; cuts.len()], 0);
    for (name, places) in &copies {
        for pair in places.windows(2) {
            let (first, again) = (records[pair[0]], records[pair[1]]);
            let fell = cuts.iter().position(|cut| (first.number..again.number).contains(&cut.boundary));
            let Some(cut) = fell else { panic!("{name:?} came again without a kill: {first:?}, {again:?}") };
            assert_ne!(first.connection, again.connection, "{name:?}: a connection outlived its process");
            age_ms_max = age_ms_max.max(cuts[cut].killed_ms - first.at_ms);
            repeated[cut] += 1;
        }
    }
    assert!(age_ms_max <= UNSETTLED_MS_MAX, "{} {age_ms_max} ms before a kill were not settled", sort.label());
    let most = repeated.iter().max().copied().unwrap_or_default();
    assert!(most <= sort.unsettled_max(), "{most} {} came again after one kill", sort.label());
    Lane { came: records.len(), distinct: copies.len(), repeated, age_ms_max }
}
