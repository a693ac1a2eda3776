//! Discovery: the tenant's API and the issuer's token endpoint, looked up once and kept for an hour.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::addresses::{Addresses, Found, Templates};
use crate::endpoint::Endpoint;
use crate::error::CxoneError;
use crate::gate::Gate;
use crate::template::{Address, Wire};

/// After so long it is looked up anew: tenants are moved, though seldom.
const FRESH_MAX: Duration = Duration::from_hours(1);
/// After a look-up that failed while there is an old one to go on with.
const ASK_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// Where everything is.
pub(crate) struct Directory {
    templates: Arc<Templates>,
    gate: Arc<Gate>,
    /// What was found, and until when it holds. One look-up is under way at most: the others wait for the lock.
    known: Mutex<Option<(Found, Instant)>>,
}

#[derive(Deserialize)]
struct OpenIdConfiguration {
    token_endpoint: Option<String>,
}

#[derive(Deserialize)]
struct CxoneConfiguration {
    api_endpoint: Option<String>,
}

impl Directory {
    pub(crate) fn new(templates: Arc<Templates>, gate: Arc<Gate>) -> Self {
        Self { templates, gate, known: Mutex::new(None) }
    }

    /// Every address.
    ///
    /// # Errors
    ///
    /// When they have to be discovered first, and cannot be.
    pub(crate) async fn addresses(&self) -> Result<Addresses<'_>, CxoneError> {
        let found = match &self.templates.issuer {
            None => Found { api: self.templates.api.clone(), token: None },
            Some(issuer) => self.found(issuer).await?,
        };
        Ok(Addresses { templates: &self.templates, found })
    }

    async fn found(&self, issuer: &Address) -> Result<Found, CxoneError> {
        let mut known = self.known.lock().await;
        if let Some((found, until)) = known.as_ref()
            && Instant::now() < *until
        {
            return Ok(found.clone());
        }
        match (self.discover(issuer).await, known.take()) {
            (Ok(found), _) => {
                *known = Some((found.clone(), Instant::now() + FRESH_MAX));
                Ok(found)
            }
            (Err(error), Some((old, _))) => {
                tracing::warn!(%error, "discovery failed: what was found before goes on being used");
                *known = Some((old.clone(), Instant::now() + ASK_AGAIN_AFTER));
                Ok(old)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn discover(&self, issuer: &Address) -> Result<Found, CxoneError> {
        let mut found = Found { api: self.templates.api.clone(), token: None };
        if !self.templates.has_own_token {
            let place = below(issuer, "/.well-known/openid-configuration")?.uri()?;
            let answer: OpenIdConfiguration = self.get(place).await?;
            found.token = Some(usable(answer.token_endpoint)?);
        }
        if let Some(tenant) = &self.templates.tenant {
            let place = below(issuer, "/.well-known/cxone-configuration")?.with_query(&[("tenantId", tenant)])?;
            let answer: CxoneConfiguration = self.get(place).await?;
            found.api = usable(answer.api_endpoint).ok().filter(Address::is_base).ok_or(CxoneError::Unreadable)?;
        }
        Ok(found)
    }

    async fn get<T: DeserializeOwned>(&self, place: Uri) -> Result<T, CxoneError> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = place;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let answer = self.gate.send(Endpoint::Discovery, request).await?;
        match answer.status().as_u16() {
            200 => serde_json::from_slice(answer.body()).map_err(|_| CxoneError::Unreadable),
            401 => Err(CxoneError::Unauthorized),
            403 => Err(CxoneError::Forbidden { scope: Endpoint::Discovery.scope() }),
            status => Err(CxoneError::Refused { status }),
        }
    }
}

fn below(issuer: &Address, path: &str) -> Result<Address, CxoneError> {
    issuer.below(path).ok_or(CxoneError::NotConfigured { problem: "EARPIECE_CXONE_ISSUER cannot be used" })
}

/// Secrets will travel to this address: it has to be as safe as one that an operator may configure.
fn usable(text: Option<String>) -> Result<Address, CxoneError> {
    text.and_then(|text| Address::parse(&text, Wire::Http)).ok_or(CxoneError::Unreadable)
}
