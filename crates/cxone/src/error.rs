//! Why CXone did not do what it was asked. No variant can hold an address, a token or a word.

use std::time::Duration;

use earpiece_core::error::{Fault, Kind};

/// How a request to CXone failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CxoneError {
    /// CXone does not accept our credentials, or still refuses a token that was just renewed. Somebody has to act.
    #[error("CXone refuses our credentials (401): check the client id and secret, or the access key")]
    Unauthorized,
    /// Our credentials are good, and may not do this. Somebody has to act.
    #[error("CXone forbids this (403): the credentials need the scope {scope}")]
    Forbidden {
        /// The scope that the documents name for the endpoint.
        scope: &'static str,
    },
    /// CXone, or our own budget for the endpoint, lets no more requests through for now.
    #[error("too many requests (429): to be tried again in {} ms", retry_after.as_millis())]
    RateLimited {
        /// How long the endpoint stays shut.
        retry_after: Duration,
    },
    /// No answer, or one with a status of 5xx.
    #[error("CXone is not available")]
    Unavailable {
        /// The pause that CXone asked for, if it did.
        retry_after: Option<Duration>,
    },
    /// So many requests to the host failed that it is left alone for a while: nothing was sent.
    #[error("CXone's host failed too often and is left alone for {} ms", retry_after.as_millis())]
    CircuitOpen {
        /// Until the host is probed again.
        retry_after: Duration,
    },
    /// CXone understood, and does not want it: the same request will be refused again.
    #[error("CXone refused the request with status {status}")]
    Refused {
        /// Status of the answer.
        status: u16,
    },
    /// A setting is missing or cannot be used. Somebody has to act.
    #[error("CXone cannot be reached as configured: {problem}")]
    NotConfigured {
        /// What is missing: it names the setting.
        problem: &'static str,
    },
    /// The answer is not what the documents describe.
    #[error("CXone's answer cannot be understood")]
    Unreadable,
}

impl CxoneError {
    /// What is told to whoever asked us. Only the operator can do something about our standing with CXone, so his
    /// caller is not told more than that.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unauthorized | Self::Forbidden { .. } | Self::NotConfigured { .. } => {
                Fault::new(Kind::Internal, "CXone does not accept this deployment's credentials or configuration")
            }
            Self::RateLimited { .. } => Fault::new(Kind::Overloaded, "CXone takes no more requests for now"),
            Self::Unavailable { .. } | Self::CircuitOpen { .. } => {
                Fault::new(Kind::Unavailable, "CXone is not available")
            }
            Self::Refused { status: 404 } => Fault::new(Kind::NotFound, "CXone does not know this"),
            Self::Refused { .. } => Fault::new(Kind::Internal, "CXone refused the request"),
            Self::Unreadable => Fault::new(Kind::Unavailable, "CXone's answer cannot be understood"),
        }
    }

    /// Whether the same request may succeed later without anybody doing something about it.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Unavailable { .. } | Self::CircuitOpen { .. } | Self::Unreadable => true,
            Self::Unauthorized | Self::Forbidden { .. } | Self::Refused { .. } | Self::NotConfigured { .. } => false,
        }
    }

    /// The pause before the next attempt, where one was asked for.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::CircuitOpen { retry_after } => Some(*retry_after),
            Self::Unavailable { retry_after } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_403_names_the_scope_that_is_missing() {
        let said = CxoneError::Forbidden { scope: "knowledge:read" }.to_string();
        assert_eq!(said, "CXone forbids this (403): the credentials need the scope knowledge:read");
    }

    #[test]
    fn what_needs_somebody_to_act_is_not_transient() {
        for error in [
            CxoneError::Unauthorized,
            CxoneError::Forbidden { scope: "a" },
            CxoneError::Refused { status: 400 },
            CxoneError::NotConfigured { problem: "a" },
        ] {
            assert!(!error.is_transient() && error.retry_after().is_none(), "{error}");
        }
        let pause = Duration::from_secs(7);
        for error in [CxoneError::RateLimited { retry_after: pause }, CxoneError::CircuitOpen { retry_after: pause }] {
            assert!(error.is_transient(), "{error}");
            assert_eq!(error.retry_after(), Some(pause), "{error}");
        }
    }
}
