//! Why somebody may not go on.

use earpiece_core::error::{Fault, Kind};

/// Why a request was refused. The order is from the least telling to the most: of several tokens of one request, the
/// one that came furthest says what to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// It brought no token.
    Missing,
    /// It brought something that is neither a known token nor a JWT.
    Wrong,
    /// It looks like a JWT and is none, or lacks a claim that it must have, or has one that cannot be understood.
    Malformed,
    /// The token names another algorithm than the one that is configured; `none` is one of those.
    Algorithm,
    /// No key has the id that the token names.
    UnknownKey,
    /// The signature is not by the key.
    Signature,
    /// The keys to judge it with could not be fetched.
    KeysUnavailable,
    /// It comes from somebody else.
    Issuer,
    /// It is meant for somebody else.
    Audience,
    /// Its time is over.
    Expired,
    /// Its time has not come: `nbf` or `iat` lies in the future.
    NotYetValid,
    /// It is not good for this.
    Scope,
    /// It is bound to another contact or business unit.
    ForeignContact,
    /// It was good for one use, and has been used.
    Replayed,
}

impl Refusal {
    /// Every refusal, for metrics.
    pub const ALL: [Self; 14] = [
        Self::Missing,
        Self::Wrong,
        Self::Malformed,
        Self::Algorithm,
        Self::UnknownKey,
        Self::Signature,
        Self::KeysUnavailable,
        Self::Issuer,
        Self::Audience,
        Self::Expired,
        Self::NotYetValid,
        Self::Scope,
        Self::ForeignContact,
        Self::Replayed,
    ];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Scope => "scope",
            Self::ForeignContact => "foreign_contact",
            Self::Replayed => "replayed",
        }
    }

    /// The fault for the wire. Who holds a token that was signed by the right key is told what to mend; everybody else
    /// only that the token is not accepted, and not how near it came.
    #[must_use]
    pub fn fault(self) -> Fault {
        match self {
            Self::Missing => Fault::new(Kind::Unauthorized, "a token is required"),
            Self::Expired => Fault::new(Kind::Unauthorized, "the token has expired"),
            Self::NotYetValid => Fault::new(Kind::Unauthorized, "the token is not valid yet"),
            Self::Replayed => Fault::new(Kind::Unauthorized, "the token has been used"),
            Self::Wrong
            | Self::Malformed
            | Self::Algorithm
            | Self::UnknownKey
            | Self::Signature
            | Self::Issuer
            | Self::Audience => Fault::new(Kind::Unauthorized, "the token is not accepted"),
            Self::Scope => Fault::new(Kind::Forbidden, "the token is not good for this"),
            Self::ForeignContact => Fault::new(Kind::Forbidden, "the token is for another contact"),
            Self::KeysUnavailable => Fault::new(Kind::Unavailable, "tokens cannot be judged at the moment"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_are_distinct_and_every_refusal_stands_in_the_list_in_its_order() {
        let labels: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        assert!(Refusal::ALL.is_sorted());
    }

    #[test]
    fn only_who_is_known_is_told_that_something_is_forbidden() {
        for refusal in Refusal::ALL {
            let expected = match refusal {
                Refusal::Scope | Refusal::ForeignContact => Kind::Forbidden,
                Refusal::KeysUnavailable => Kind::Unavailable,
                _ => Kind::Unauthorized,
            };
            assert_eq!(refusal.fault().kind, expected, "{refusal:?}");
        }
    }
}
