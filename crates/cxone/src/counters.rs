//! What happened so far, for metrics.

use crate::endpoint::{Endpoint, Outcome};
use crate::gate::Gate;

/// A reading of the client's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Tokens that were fetched.
    pub token_renewals: u64,
    /// One row per endpoint, in the order of [`Endpoint::ALL`].
    pub endpoints: Vec<EndpointCounters>,
}

/// A reading of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointCounters {
    /// Which.
    pub endpoint: Endpoint,
    /// Answers by outcome, in the order of [`Outcome::ALL`].
    pub answers: Vec<(Outcome, u64)>,
    /// Whether requests to it are refused at once for now: because of a 429, or because its host's circuit is open.
    pub is_held_back: bool,
    /// Whether its host's circuit is open.
    pub is_circuit_open: bool,
}

impl Counters {
    pub(crate) fn of(gate: &Gate, token_renewals: u64) -> Self {
        let row = |endpoint| EndpointCounters {
            endpoint,
            answers: Outcome::ALL.into_iter().map(|outcome| (outcome, gate.answers(endpoint, outcome))).collect(),
            is_held_back: gate.is_held_back(endpoint),
            is_circuit_open: gate.is_circuit_open(endpoint),
        };
        Self { token_renewals, endpoints: Endpoint::ALL.into_iter().map(row).collect() }
    }

    /// How often an endpoint's answer had this outcome.
    #[must_use]
    pub fn answers(&self, endpoint: Endpoint, outcome: Outcome) -> u64 {
        self.endpoints[endpoint.index()].answers[outcome.index()].1
    }

    /// The row of an endpoint.
    #[must_use]
    pub fn endpoint(&self, endpoint: Endpoint) -> &EndpointCounters {
        &self.endpoints[endpoint.index()]
    }
}
