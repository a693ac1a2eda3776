//! The front: what a request presents, judged.

use std::fmt;
use std::sync::Arc;

use earpiece_core::access::{PRESENTED_MAX, Verdict, Verifier, bare_token};
use earpiece_core::contact::ContactKey;

use crate::grant::Grant;
use crate::jwt::{self, Jwt};
use crate::refusal::Refusal;
use crate::scope::Scope;

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// What for.
    pub scope: Scope,
    /// With which contact; absent where it is not known yet. Then [`Grant::check`] is due as soon as it is.
    pub contact: Option<ContactKey>,
    /// The time, in seconds since the Unix epoch.
    pub now_s: i64,
}

/// Stands at a door. Clones share the keys that they fetched.
#[derive(Clone)]
pub struct Guard {
    admitted: Admitted,
}

#[derive(Clone)]
enum Admitted {
    Everybody,
    Known(Arc<Known>),
}

struct Known {
    verifier: Verifier,
    jwt: Option<Jwt>,
}

impl Guard {
    /// Lets everybody in. Only ever chosen by this name, and never the outcome of a configuration that came out empty.
    #[must_use]
    pub const fn open() -> Self {
        Self { admitted: Admitted::Everybody }
    }

    /// Lets in who has one of the verifier's static tokens, or a JWT that is accepted. A verifier that would accept
    /// everybody counts as one without tokens here: beside JWTs it would make them pointless. With neither, nobody
    /// is let in.
    #[must_use]
    pub fn new(verifier: Verifier, jwt: Option<Jwt>) -> Self {
        let verifier = if verifier.is_open() { Verifier::new([]) } else { verifier };
        Self { admitted: Admitted::Known(Arc::new(Known { verifier, jwt })) }
    }

    /// Whether everybody is let in.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.admitted, Admitted::Everybody)
    }

    /// Whether keys have to be fetched before a JWT can be judged.
    #[must_use]
    pub fn needs_keys(&self) -> bool {
        self.jwt().is_some_and(Jwt::needs_keys)
    }

    /// Fetches the keys, so that the first request does not have to wait for them. It takes two seconds at most; when
    /// it comes to nothing, the first request tries again.
    pub async fn warm(&self) {
        if let Some(jwt) = self.jwt() {
            jwt.warm().await;
        }
    }

    /// Judges the tokens of one request, with or without a leading `Bearer`, of which at most [`PRESENTED_MAX`] are
    /// looked at. One that is right is enough. Static tokens are compared in constant time, and before any JWT.
    ///
    /// # Errors
    ///
    /// Why none of them is enough; of several reasons the most telling one.
    pub async fn judge<'a>(
        &self,
        presented: impl IntoIterator<Item = &'a str>,
        wanted: &Wanted,
    ) -> Result<Grant, Refusal> {
        let Admitted::Known(known) = &self.admitted else { return Ok(Grant::everybody()) };
        let presented: Vec<&str> = presented.into_iter().take(PRESENTED_MAX).map(bare_token).collect();
        let mut refusal = match known.verifier.judge(presented.iter().copied()) {
            Verdict::Accepted => return Ok(Grant::everybody()),
            Verdict::Missing => return Err(Refusal::Missing),
            Verdict::Wrong => Refusal::Wrong,
        };
        let Some(jwt) = &known.jwt else { return Err(refusal) };
        for token in presented.into_iter().filter(|token| jwt::looks_like_one(token)) {
            match jwt.judge(token, wanted).await {
                Ok(grant) => return Ok(grant),
                Err(reason) => refusal = refusal.max(reason),
            }
        }
        Err(refusal)
    }

    fn jwt(&self) -> Option<&Jwt> {
        match &self.admitted {
            Admitted::Everybody => None,
            Admitted::Known(known) => known.jwt.as_ref(),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.admitted {
            Admitted::Everybody => f.write_str("Guard(open)"),
            Admitted::Known(known) => f.debug_tuple("Guard").field(&known.verifier).field(&known.jwt).finish(),
        }
    }
}
