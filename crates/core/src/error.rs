//! One vocabulary for faults: what kind, whose, whether to try again, and what may be said in public.
//!
//! Libraries keep their own precise error types and turn them into a [`Fault`] where they meet a wire. Each wire has
//! one function that turns a [`Kind`] into its own answer (HTTP status, WebSocket close code, CXone `ERROR`); those
//! functions live with the wire and never log.

use std::borrow::Cow;
use std::fmt;

/// What went wrong, as a word that is also a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The input could not be understood; the public text names the field.
    BadInput,
    /// A frame or message of a type that has no place here.
    Unsupported,
    /// No credential, or a wrong one.
    Unauthorized,
    /// Known, and may not do this: another contact, or a scope that is missing.
    Forbidden,
    /// More bytes than the stated limit.
    TooLarge,
    /// It did not arrive within the stated time.
    TooLate,
    /// A stated limit on concurrent work or on a rate is reached.
    Overloaded,
    /// The caller asks more often than it may.
    RateLimited,
    /// This task is going away; another will take the call.
    Draining,
    /// A newer generation of the same stream has taken over.
    Superseded,
    /// There is no such thing.
    NotFound,
    /// Something we depend on did not answer.
    Unavailable,
    /// A defect of ours.
    Internal,
}

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whoever sent us this.
    Peer,
    /// The operator of this deployment.
    Operator,
    /// A system behind us.
    Downstream,
}

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not without a change.
    Never,
    /// Yes, at once: somewhere else will take it.
    Now,
    /// Yes, after this pause.
    AfterMs(u32),
}

impl Kind {
    /// Every kind, for tables and metrics.
    pub const ALL: [Self; 13] = [
        Self::BadInput,
        Self::Unsupported,
        Self::Unauthorized,
        Self::Forbidden,
        Self::TooLarge,
        Self::TooLate,
        Self::Overloaded,
        Self::RateLimited,
        Self::Draining,
        Self::Superseded,
        Self::NotFound,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BadInput => "bad_input",
            Self::Unsupported => "unsupported",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too_large",
            Self::TooLate => "too_late",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::Draining => "draining",
            Self::Superseded => "superseded",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Who has to act.
    #[must_use]
    pub const fn owner(self) -> Owner {
        match self {
            Self::BadInput
            | Self::Unsupported
            | Self::Unauthorized
            | Self::Forbidden
            | Self::TooLarge
            | Self::TooLate
            | Self::RateLimited
            | Self::Superseded
            | Self::NotFound => Owner::Peer,
            Self::Overloaded | Self::Draining | Self::Internal => Owner::Operator,
            Self::Unavailable => Owner::Downstream,
        }
    }

    /// Whether to try again.
    #[must_use]
    pub const fn retry(self) -> Retry {
        match self {
            Self::BadInput
            | Self::Unsupported
            | Self::Unauthorized
            | Self::Forbidden
            | Self::TooLarge
            | Self::Superseded
            | Self::NotFound
            | Self::Internal => Retry::Never,
            Self::TooLate | Self::Draining => Retry::Now,
            Self::Overloaded | Self::RateLimited | Self::Unavailable => Retry::AfterMs(1000),
        }
    }
}

/// A fault with its kind and the text that may be shown to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What went wrong.
    pub kind: Kind,
    /// What the peer is told. Never holds input, secrets or internals.
    pub public: Cow<'static, str>,
}

impl Fault {
    /// A fault with a public text.
    pub fn new(kind: Kind, public: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, public: public.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.label(), self.public)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_so_that_metrics_can_tell_faults_apart() {
        let labels: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.label()).collect();
        assert_eq!(labels.len(), Kind::ALL.len());
    }
}
