//! `POST /oauth/token`: OAuth 2.0 client credentials (RFC 6749), so that Studio scripts carry no long-lived secret; our
//! public keys; and the metadata by which both are found (RFC 8414).
//!
//! Errors here have the shape of RFC 6749, section 5.2, and not the one of the other routes.

mod form;
mod keys;
#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use earpiece_access::Scope;
use earpiece_access::issue::{Claims, Client, Clients, sign};
use earpiece_core::access::{Penalties, PenaltyRules, Who};
use earpiece_core::error::Kind;
use earpiece_core::telemetry::{AUTH_REFUSALS, TOKENS_ISSUED};
use earpiece_store::Store;
use lambda_http::http::StatusCode;
use lambda_http::http::header::{HeaderValue, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tracing::info;

use self::form::Asked;
use self::keys::KeyRing;
pub use self::keys::published_keys;
use crate::answer::{self, Answer, Problem, Request};
use crate::clock::wall_s;
use crate::counters::Counters;
use crate::routes::{self, Route};
use crate::settings::{self, Settings, TokenRules};
use crate::start::{Setup, StartError};

/// Size of a body.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// How long others may keep our public keys, in seconds.
const KEYS_FRESH_S: u32 = 300;

/// The pause after a wrong secret: from half a second to four. API Gateway waits for 29 seconds, and every second is paid
/// for.
const PENALTIES: PenaltyRules = PenaltyRules {
    min: Duration::from_millis(500),
    max: Duration::from_secs(4),
    forgotten_after: Duration::from_mins(10),
    entries_max: 10_000,
};

/// Answers that are held back at once; beyond, wrong secrets are answered without a pause.
const HELD_BACK_MAX: usize = 64;

/// The authorization server.
pub struct TokenServer {
    ring: KeyRing,
    issue: Option<Issue>,
    rules: TokenRules,
    counters: Arc<Counters>,
    penalties: Mutex<Penalties>,
    held_back: Semaphore,
    started: Instant,
}

/// Who gets tokens, and what stands in them.
struct Issue {
    clients: Clients,
    issuer: String,
    /// The issuer as an address, where it is one: without it there are no metadata (RFC 8414).
    address: Option<String>,
    audience: Option<String>,
}

impl TokenServer {
    /// A server on the table's keys. Without clients it issues nothing, and its paths are not there.
    #[must_use]
    pub fn new(store: Store, settings: &Settings, counters: Arc<Counters>) -> Self {
        let issuer = settings.issuer.clone();
        let issue = settings.token_clients.clone().zip(issuer).map(|(clients, issuer)| Issue {
            clients,
            address: address_of(&issuer),
            issuer,
            audience: settings.audience.clone(),
        });
        Self {
            ring: KeyRing::new(store, settings.token),
            issue,
            rules: settings.token,
            counters,
            penalties: Mutex::new(Penalties::new(PENALTIES)),
            held_back: Semaphore::new(HELD_BACK_MAX),
            started: Instant::now(),
        }
    }

    /// The function's server. Without clients it starts as well: whoever asks for keys gets 404 and no error of ours.
    ///
    /// # Errors
    /// None; functions open alike.
    pub async fn open(setup: &Setup) -> Result<Self, StartError> {
        Ok(Self::new(setup.store().await, &setup.settings, Arc::clone(&setup.counters)))
    }

    /// Answers a request.
    pub async fn answer(&self, request: &Request) -> Answer {
        let route = Route::of(answer::path_of(request));
        let answer = match (route, &self.issue) {
            (Some(route @ (Route::Token | Route::Jwks | Route::Metadata)), issue) => {
                if request.method().as_str() == route.method() {
                    self.answer_route(request, route, issue.as_ref()).await
                } else {
                    answer::method_not_allowed(route.method())
                }
            }
            _ => answer::not_found(),
        };
        routes::counted(&self.counters, route, answer)
    }

    async fn answer_route(&self, request: &Request, route: Route, issue: Option<&Issue>) -> Answer {
        let Some(issue) = issue else {
            return Problem::new(Kind::NotFound, "no tokens are issued here").answer();
        };
        match route {
            Route::Token => self.token(request, issue).await.unwrap_or_else(|refused| refused.answer()),
            Route::Jwks => self.key_set().await.unwrap_or_else(|problem| problem.answer()),
            _ => match &issue.address {
                Some(address) => answer::document(metadata(issue, address).to_string(), KEYS_FRESH_S),
                None => Problem::new(Kind::NotFound, "tokens are issued here by an issuer without an address").answer(),
            },
        }
    }

    async fn token(&self, request: &Request, issue: &Issue) -> Result<Answer, Refused> {
        let asked = Asked::read(request)?;
        let Some(client) = issue.clients.check(&asked.id, asked.secret.reveal()) else {
            self.hold_back(request, &asked.id).await;
            self.counters.count(AUTH_REFUSALS, &[("door", "http"), ("reason", "wrong")]);
            return Err(Refused::client());
        };
        let granted = granted(client, &asked)?;
        let now_s = wall_s();
        let key = self.ring.current(now_s).await?;
        let ttl_s = i64::try_from(self.rules.ttl.as_secs()).unwrap_or(i64::MAX);
        let scope = Scope::list(&granted.scopes);
        let claims = Claims {
            iss: Some(issue.issuer.clone()),
            aud: issue.audience.clone(),
            sub: client.id.clone(),
            iat: now_s,
            nbf: now_s,
            exp: now_s.saturating_add(ttl_s),
            jti: uuid::Uuid::now_v7().simple().to_string(),
            scope: scope.clone(),
            bus_no: granted.bus_no,
            contact_id: granted.contact_id,
            one_time: asked.one_time.then_some(true),
        };
        let token = sign(&key, &claims).map_err(|_| Refused::server())?;
        self.counters.count(TOKENS_ISSUED, &[]);
        info!(client = client.id, kid = key.kid, jti = claims.jti, "token issued");
        let body = json!({
            "access_token": token.reveal(),
            "token_type": "Bearer",
            "expires_in": ttl_s,
            "scope": scope,
        });
        Ok(unkept(StatusCode::OK, &body))
    }

    /// The key set. There is one key at least, or whoever asked first would keep an empty set for minutes.
    async fn key_set(&self) -> Result<Answer, Problem> {
        let unavailable = |_| Problem::new(Kind::Unavailable, "the keys are not available; try again");
        self.ring.current(wall_s()).await.map_err(unavailable)?;
        Ok(answer::document(self.ring.published().await?, KEYS_FRESH_S))
    }

    /// Failures count together per network and client, so that no client can be locked out from everywhere. The memory
    /// is this process's own: in Lambda the throttle of the API is what holds for all.
    async fn hold_back(&self, request: &Request, client_id: &str) {
        let address = answer::peer_of(request).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut hasher = DefaultHasher::new();
        client_id.hash(&mut hasher);
        let who = Who::new(address, Some(hasher.finish()));
        let pause = self.penalties.lock().unwrap_or_else(PoisonError::into_inner).failed(who, self.started.elapsed());
        if let Ok(_place) = self.held_back.try_acquire() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// What a token will be good for.
struct Granted {
    scopes: Vec<Scope>,
    bus_no: Option<u64>,
    contact_id: Option<u64>,
}

/// What was asked for, if the client may have it. Nothing is left out silently: who asks for more gets nothing.
fn granted(client: &Client, asked: &Asked) -> Result<Granted, Refused> {
    let scopes = match &asked.scopes {
        None => client.scopes.clone(),
        Some(scopes) if scopes.iter().all(|scope| client.scopes.contains(scope)) => scopes.clone(),
        Some(_) => return Err(Refused::scope("the client may not have every scope that it asks for")),
    };
    if client.bus_no.is_some() && asked.bus_no.is_some() && client.bus_no != asked.bus_no {
        return Err(Refused::scope("`bus_no` is not the business unit of this client"));
    }
    let bus_no = client.bus_no.or(asked.bus_no);
    if asked.contact_id.is_some() && bus_no.is_none() {
        return Err(Refused::request(
            "`contact_id` needs `bus_no`: contact ids are unique within a business unit only",
        ));
    }
    Ok(Granted { scopes, bus_no, contact_id: asked.contact_id })
}

/// The address of an issuer that can have metadata: neither a query nor a fragment is in it (RFC 8414, section 2).
fn address_of(issuer: &str) -> Option<String> {
    settings::web_address(issuer).filter(|address| !address.contains(['?', '#']))
}

fn metadata(issue: &Issue, address: &str) -> Value {
    json!({
        "issuer": issue.issuer,
        "token_endpoint": format!("{address}{}", Route::Token.path()),
        "jwks_uri": format!("{address}{}", Route::Jwks.path()),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "scopes_supported": Scope::ALL.map(Scope::word),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    })
}

/// A refusal in the words of RFC 6749.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    status: StatusCode,
    error: &'static str,
    description: &'static str,
}

impl Refused {
    const fn new(status: StatusCode, error: &'static str, description: &'static str) -> Self {
        Self { status, error, description }
    }

    pub(crate) const fn request(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    const fn scope(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_scope", description)
    }

    const fn client() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", "the client is not known by this id and secret")
    }

    const fn server() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "no token could be signed")
    }

    const fn unavailable() -> Self {
        let text = "the keys are not available; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text)
    }

    fn answer(&self) -> Answer {
        let mut answer = unkept(self.status, &json!({ "error": self.error, "error_description": self.description }));
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"earpiece\", charset=\"UTF-8\"");
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

impl From<keys::KeyError> for Refused {
    fn from(error: keys::KeyError) -> Self {
        match error {
            keys::KeyError::Unavailable => Self::unavailable(),
            keys::KeyError::Unusable => Self::server(),
        }
    }
}

/// Nobody on the way may keep a token (RFC 6749, section 5.1).
fn unkept(status: StatusCode, body: &Value) -> Answer {
    let mut answer = answer::json(status, body);
    answer.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    answer
}
