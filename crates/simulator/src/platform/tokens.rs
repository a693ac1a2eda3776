//! Tokens: who got one, for what and until when.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::secret::Secret;
use tokio::time::Instant;

/// Tokens that are known at one time; the one that ends first makes room.
const TOKENS_MAX: usize = 10_000;

/// What a token is good for.
#[derive(Debug, Clone)]
struct Grant {
    scopes: Arc<[String]>,
    ends: Instant,
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is none.
    Missing,
    /// It was never issued, has expired, or was revoked.
    Invalid,
    /// It lacks this scope.
    Scope(&'static str),
}

impl Refused {
    /// The HTTP status (RFC 6750 §3.1).
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Missing | Self::Invalid => 401,
            Self::Scope(_) => 403,
        }
    }

    /// The value of `WWW-Authenticate`.
    pub(crate) fn challenge(self) -> String {
        match self {
            Self::Missing => "Bearer realm=\"cxone\"".to_owned(),
            Self::Invalid => "Bearer realm=\"cxone\", error=\"invalid_token\"".to_owned(),
            Self::Scope(scope) => format!("Bearer realm=\"cxone\", error=\"insufficient_scope\", scope=\"{scope}\""),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no token"),
            Self::Invalid => f.write_str("the token is not valid"),
            Self::Scope(scope) => write!(f, "the token lacks the scope {scope}"),
        }
    }
}

/// The tokens that are known.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<String, Grant>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    pub(crate) fn issue(&mut self, scopes: Vec<String>, life: Duration) -> Secret {
        self.make_room();
        let token = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let now = Instant::now();
        let ends = now.checked_add(life).unwrap_or(now);
        self.0.insert(token.clone(), Grant { scopes: scopes.into(), ends });
        Secret::new(token)
    }

    /// Judges a token for an endpoint that asks for one of these scopes; the first is the one that is named.
    pub(crate) fn judge(&self, token: Option<&str>, one_of: &[&'static str]) -> Result<(), Refused> {
        let token = token.filter(|token| !token.is_empty()).ok_or(Refused::Missing)?;
        let grant = self.0.get(token).filter(|grant| Instant::now() < grant.ends).ok_or(Refused::Invalid)?;
        if one_of.is_empty() || one_of.iter().any(|&scope| grant.scopes.iter().any(|granted| granted == scope)) {
            return Ok(());
        }
        Err(one_of.first().map_or(Refused::Invalid, |&scope| Refused::Scope(scope)))
    }

    pub(crate) fn revoke(&mut self, token: &str) {
        self.0.remove(token);
    }

    pub(crate) fn revoke_all(&mut self) -> usize {
        let count = self.0.len();
        self.0.clear();
        count
    }

    fn make_room(&mut self) {
        if self.0.len() < TOKENS_MAX {
            return;
        }
        let now = Instant::now();
        self.0.retain(|_, grant| now < grant.ends);
        if self.0.len() >= TOKENS_MAX {
            let first = self.0.iter().min_by_key(|(_, grant)| grant.ends).map(|(token, _)| token.clone());
            if let Some(first) = first {
                self.0.remove(&first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_for_its_scopes_until_it_ends() {
        let mut tokens = Tokens::default();
        let token = tokens.issue(vec!["knowledge:read".to_owned()], Duration::from_secs(2));
        let judge = |tokens: &Tokens, scopes| tokens.judge(Some(token.reveal()), scopes);
        assert_eq!(judge(&tokens, &["knowledge:read"]), Ok(()));
        assert_eq!(judge(&tokens, &["interactions:read", "knowledge:read"]), Ok(()));
        assert_eq!(judge(&tokens, &["agentassist:write"]), Err(Refused::Scope("agentassist:write")));
        assert_eq!(tokens.judge(Some("made up"), &[]), Err(Refused::Invalid));
        assert_eq!(tokens.judge(None, &[]), Err(Refused::Missing));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(judge(&tokens, &["knowledge:read"]), Err(Refused::Invalid));
    }

    #[tokio::test]
    async fn tokens_are_bounded_and_the_oldest_makes_room() {
        let mut tokens = Tokens::default();
        let first = tokens.issue(Vec::new(), Duration::from_secs(1));
        let last = (0..TOKENS_MAX).map(|_| tokens.issue(Vec::new(), Duration::from_hours(1))).last().unwrap();
        assert_eq!(tokens.0.len(), TOKENS_MAX);
        assert_eq!(tokens.judge(Some(first.reveal()), &[]), Err(Refused::Invalid));
        assert_eq!(tokens.judge(Some(last.reveal()), &[]), Ok(()));
        assert_eq!(tokens.revoke_all(), TOKENS_MAX);
    }
}
