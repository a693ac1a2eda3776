//! What a JWT says, read strictly: a binding that cannot be understood makes the token malformed, and never unbound.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Number, Value};
use sha2::{Digest as _, Sha256};

use crate::grant::{Grant, OneTime};
use crate::jwt::{OneTimePolicy, Rules};
use crate::refusal::Refusal;
use crate::scope::Scope;

/// The claims that matter here; a token may have others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Claims {
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    aud: Option<Audience>,
    #[serde(default)]
    sub: Option<String>,
    exp: Number,
    #[serde(default)]
    nbf: Option<Number>,
    #[serde(default)]
    iat: Option<Number>,
    #[serde(default)]
    jti: Option<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    bus_no: Option<Value>,
    #[serde(default)]
    contact_id: Option<Value>,
    #[serde(default)]
    one_time: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn includes(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

impl Claims {
    /// What a token with these claims allows, if its issuer, its audience and its times are right.
    pub(crate) fn judged(self, rules: &Rules, now_s: i64) -> Result<Grant, Refusal> {
        self.judge_parties(rules)?;
        let leeway_s = seconds(rules.leeway);
        let forgotten_at_s = self.judge_times(leeway_s, now_s)?;
        let one_time = self.one_time_use(rules.one_time, forgotten_at_s)?;
        let bus_no = self.bus_no.as_ref().map(id).transpose()?;
        let contact_id = self.contact_id.as_ref().map(id).transpose()?;
        // A contact id names a contact within a business unit only (contract §1.8): alone, it would open one in each.
        if contact_id.is_some() && bus_no.is_none() {
            return Err(Refusal::Malformed);
        }
        let scopes = self.scope.as_deref().map(Scope::parse_list);
        Ok(Grant { subject: self.sub, bus_no, contact_id, scopes, one_time })
    }

    fn judge_parties(&self, rules: &Rules) -> Result<(), Refusal> {
        if rules.issuer.is_some() && self.iss != rules.issuer {
            return Err(Refusal::Issuer);
        }
        match &rules.audience {
            Some(audience) if !self.aud.as_ref().is_some_and(|aud| aud.includes(audience)) => Err(Refusal::Audience),
            _ => Ok(()),
        }
    }

    /// Gives the second from which on the token is refused as expired.
    fn judge_times(&self, leeway_s: i64, now_s: i64) -> Result<i64, Refusal> {
        let over_at_s = whole_seconds(&self.exp)?.saturating_add(leeway_s);
        if now_s >= over_at_s {
            return Err(Refusal::Expired);
        }
        for begin in [&self.nbf, &self.iat].into_iter().flatten() {
            if whole_seconds(begin)? > now_s.saturating_add(leeway_s) {
                return Err(Refusal::NotYetValid);
            }
        }
        Ok(over_at_s)
    }

    fn one_time_use(&self, policy: OneTimePolicy, expires_at_s: i64) -> Result<Option<OneTime>, Refusal> {
        let is_one_time = match policy {
            OneTimePolicy::Off => false,
            OneTimePolicy::Allowed => self.one_time == Some(true),
            OneTimePolicy::Required => true,
        };
        if !is_one_time {
            return Ok(None);
        }
        let jti = self.jti.as_deref().filter(|jti| !jti.is_empty()).ok_or(Refusal::Malformed)?;
        Ok(Some(OneTime { id: one_time_id(self.iss.as_deref(), jti), expires_at_s }))
    }
}

/// The length keeps issuer and `jti` apart: what ends one cannot begin the other.
fn one_time_id(issuer: Option<&str>, jti: &str) -> String {
    let issuer = issuer.unwrap_or_default();
    let mut digest = Sha256::new();
    digest.update(issuer.len().to_be_bytes());
    digest.update(issuer);
    digest.update(jti);
    crate::issue::hex(&digest.finalize())
}

/// Ids come as numbers or as their text (contract §1.3).
fn id(value: &Value) -> Result<u64, Refusal> {
    let id = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    id.ok_or(Refusal::Malformed)
}

/// Times may have a fraction (RFC 7519, section 2), which is of no interest here.
fn whole_seconds(time: &Number) -> Result<i64, Refusal> {
    /// The year 33658: beyond it lies no time that anybody means, and below it every second is a number of its own.
    const SECONDS_MAX: f64 = 1e12;
    if let Some(whole) = time.as_i64() {
        return Ok(whole);
    }
    let fractional = time.as_f64().filter(|time| time.abs() <= SECONDS_MAX).ok_or(Refusal::Malformed)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it lies between the limits, and the fraction is of no interest"
    )]
    Ok(fractional.floor() as i64)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
