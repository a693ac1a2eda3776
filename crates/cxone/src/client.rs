//! CXone as the rest of the house sees it.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use earpiece_core::assist::InteractionId;
use earpiece_core::assist::card::{Card, FeedbackAction, PopupCard};
use earpiece_core::config::Env;
use earpiece_core::protocol::platform::insights::{self, SearchPage};
use earpiece_core::protocol::platform::{interactions, suggestions};
use earpiece_core::secret::Private;
use earpiece_https::{Client, Trust};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout, timeout_at};

use crate::addresses::Addresses;
use crate::counters::Counters;
use crate::credentials::{Keeper, RELOAD_EVERY};
use crate::dial::Dialler;
use crate::directory::Directory;
use crate::endpoint::{Endpoint, Uplink};
use crate::error::CxoneError;
use crate::gate::Gate;
use crate::secrets_manager::Manager;
use crate::settings::{Settings, Source};
use crate::socket::Socket;
use crate::token::{Token, Tokens};

/// A search is tried so often, since it changes nothing at CXone.
const SEARCH_ATTEMPTS_MAX: u32 = 3;
/// Upper bound of the pause before a search's second attempt; it doubles. Full jitter below it.
const SEARCH_PAUSE: Duration = Duration::from_millis(200);
/// A search that failed is tried again only within this time after its beginning.
const SEARCH_RETRY_WITHIN: Duration = Duration::from_secs(2);
/// How long CXone may take to say whether it accepts a token on the suggestion socket.
const AUTH_MAX: Duration = Duration::from_secs(10);
/// Frames that may come before that answer.
const FRAMES_BEFORE_AUTH_MAX: usize = 16;

/// The client of CXone. Clones share everything.
#[derive(Clone)]
pub struct Cxone {
    inner: Arc<Inner>,
}

struct Inner {
    gate: Arc<Gate>,
    keeper: Arc<Keeper>,
    directory: Arc<Directory>,
    tokens: Tokens,
    dialler: Dialler,
    timeout: Duration,
    ping_every: Duration,
    pong_within: Duration,
}

impl Cxone {
    /// A client. CXone is not asked for anything yet, nor is Secrets Manager; a file with credentials is read, so that
    /// a wrong one is known at start. `trust` is what sockets believe (`https` has its own), and `env` is where region and
    /// credentials for Secrets Manager stand. Has to be called within a tokio runtime, whose clock is the client's.
    ///
    /// While the client or a clone of it lives, its credentials are read again every minute.
    ///
    /// # Errors
    ///
    /// [`CxoneError::NotConfigured`] when the credentials' file cannot be used, when AWS's region or credentials are
    /// missing, or when TLS cannot be set up.
    pub async fn connect(
        settings: &Settings,
        https: Client,
        trust: &Trust,
        env: &impl Env,
    ) -> Result<Self, CxoneError> {
        let manager = match &settings.source {
            Source::Manager(secret_id) => Manager::load(env, &https, secret_id).await,
            Source::Env(_) | Source::File(_) => None,
        };
        let keeper = Arc::new(Keeper::new(&settings.source, settings.form, manager)?);
        if keeper.is_local() {
            keeper.current().await?;
        }
        let dialler = Dialler::new(trust).map_err(|_| CxoneError::NotConfigured { problem: "TLS cannot be set up" })?;
        let gate = Arc::new(Gate::new(https, &settings.rates, settings.timeout));
        let directory = Arc::new(Directory::new(Arc::clone(&settings.templates), Arc::clone(&gate)));
        let tokens = Tokens::new(
            Arc::clone(&gate),
            Arc::clone(&keeper),
            Arc::clone(&directory),
            settings.scope.clone(),
            settings.renew_margin,
        );
        let Settings { timeout, ping_every, pong_within, .. } = *settings;
        let inner = Arc::new(Inner { gate, keeper, directory, tokens, dialler, timeout, ping_every, pong_within });
        if inner.keeper.can_change() {
            tokio::spawn(reread(Arc::downgrade(&inner)));
        }
        Ok(Self { inner })
    }

    /// Asks for a token now: tells whether addresses and credentials are right.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn check(&self) -> Result<(), CxoneError> {
        self.inner.tokens.renewed().await.map(|_| ())
    }

    /// Searches CXone's knowledge base. `language` is a tag such as `en-US`, `page` counts from 1. What failed in a way
    /// that may pass is tried again twice within two seconds; a 429 is not.
    ///
    /// # Errors
    ///
    /// Why there is no page.
    pub async fn search(
        &self,
        query: &Private<String>,
        language: &str,
        page: u32,
        page_size: u32,
    ) -> Result<SearchPage, CxoneError> {
        let give_up_at = Instant::now() + SEARCH_RETRY_WITHIN;
        let (page, page_size) = (page.to_string(), page_size.to_string());
        let fields =
            [("q", query.reveal().as_str()), ("language", language), ("page", &page), ("pageSize", &page_size)];
        let mut attempt = 1;
        loop {
            let answer = self.inner.call(Endpoint::Search, |addresses| get(addresses.search(&fields)?)).await;
            let pause = SEARCH_PAUSE.mul_f64(fastrand::f64()) * 2_u32.pow(attempt - 1);
            match answer {
                Ok(answer) => return insights::read_search(answer.body()).map_err(|_| CxoneError::Unreadable),
                Err(CxoneError::Unavailable { retry_after: None })
                    if attempt < SEARCH_ATTEMPTS_MAX && Instant::now() + pause < give_up_at => {}
                Err(error) => return Err(error),
            }
            attempt += 1;
            sleep(pause).await;
        }
    }

    /// Posts insight cards. One attempt, and after a 401 one more with a new token.
    ///
    /// # Errors
    ///
    /// Why they may not have arrived.
    pub async fn post_insights(&self, cards: &[Card]) -> Result<(), CxoneError> {
        let body = insights::post_body(cards);
        let post = |addresses: &Addresses<'_>| post(addresses.insights()?, body.reveal());
        self.inner.call(Endpoint::Insights, post).await.map(|_| ())
    }

    /// Posts what an agent made of an insight, at `at_ms` (milliseconds since the Unix epoch). One attempt, and after a
    /// 401 one more with a new token.
    ///
    /// # Errors
    ///
    /// Why it may not have arrived.
    pub async fn post_feedback(
        &self,
        interaction: &InteractionId,
        insight_id: &str,
        action: FeedbackAction,
        at_ms: i64,
    ) -> Result<(), CxoneError> {
        let body = insights::feedback_body(interaction, insight_id, action, at_ms);
        let post = |addresses: &Addresses<'_>| post(addresses.feedback()?, &body);
        self.inner.call(Endpoint::Feedback, post).await.map(|_| ())
    }

    /// Posts a popup card. One attempt, and after a 401 one more with a new token.
    ///
    /// # Errors
    ///
    /// Why it may not have arrived.
    pub async fn post_card(&self, interaction: &InteractionId, card: &PopupCard) -> Result<(), CxoneError> {
        let body = interactions::card_body(card);
        let post = |addresses: &Addresses<'_>| post(addresses.cards(interaction)?, body.reveal());
        self.inner.call(Endpoint::Cards, post).await.map(|_| ())
    }

    /// Opens a socket with a token that is asked for now. The suggestion socket is returned only after CXone has accepted
    /// the token on it, so nothing can be sent too early.
    ///
    /// # Errors
    ///
    /// Why it is not open. [`CxoneError::Unauthorized`] and [`CxoneError::Forbidden`] need somebody to act.
    pub async fn open(&self, uplink: Uplink) -> Result<Socket, CxoneError> {
        let token = self.inner.tokens.renewed().await?;
        match self.inner.open_with(uplink, &token).await {
            // It may have been revoked on the way, or come from a time when many sockets were opened.
            Err(Refused::AtUpgrade) => {
                let token = self.inner.tokens.instead_of(&token).await?;
                Ok(self.inner.open_with(uplink, &token).await?)
            }
            other => Ok(other?),
        }
    }

    /// Counts up whenever the credentials have changed: what was stopped for being refused may be tried again.
    #[must_use]
    pub fn credentials_changed(&self) -> watch::Receiver<u64> {
        self.inner.keeper.changes()
    }

    /// What happened so far, for metrics.
    #[must_use]
    pub fn snapshot(&self) -> Counters {
        Counters::of(&self.inner.gate, self.inner.tokens.renewals())
    }
}

impl fmt::Debug for Cxone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cxone")
    }
}

/// Reads the credentials again and again, for as long as there is a client.
async fn reread(inner: Weak<Inner>) {
    let mut ticks = interval_at(Instant::now() + RELOAD_EVERY, RELOAD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        match inner.keeper.reload().await {
            Ok(true) => inner.tokens.forget(),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "CXone's credentials cannot be read again: those that are known stay");
            }
        }
    }
}

/// Why a socket did not open.
enum Refused {
    /// 401 as the answer to the upgrade.
    AtUpgrade,
    Otherwise(CxoneError),
}

impl From<Refused> for CxoneError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::AtUpgrade => Self::Unauthorized,
            Refused::Otherwise(error) => error,
        }
    }
}

impl From<CxoneError> for Refused {
    fn from(error: CxoneError) -> Self {
        Self::Otherwise(error)
    }
}

impl Inner {
    /// Sends a request with a token; after a 401, once more with another one.
    async fn call(
        &self,
        endpoint: Endpoint,
        request: impl Fn(&Addresses<'_>) -> Result<Request<Bytes>, CxoneError>,
    ) -> Result<Response<Bytes>, CxoneError> {
        let token = self.tokens.current().await?;
        let answer = self.send(endpoint, &request, &token).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return judged(endpoint, answer);
        }
        let token = self.tokens.instead_of(&token).await?;
        judged(endpoint, self.send(endpoint, &request, &token).await?)
    }

    async fn send(
        &self,
        endpoint: Endpoint,
        request: impl Fn(&Addresses<'_>) -> Result<Request<Bytes>, CxoneError>,
        token: &Token,
    ) -> Result<Response<Bytes>, CxoneError> {
        let mut request = request(&self.directory.addresses().await?)?;
        let bearer = format!("Bearer {}", token.value.reveal());
        let mut bearer = HeaderValue::try_from(bearer).map_err(|_| CxoneError::Unreadable)?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        self.gate.send(endpoint, request).await
    }

    async fn open_with(&self, uplink: Uplink, token: &Token) -> Result<Socket, Refused> {
        let address = self.directory.addresses().await?.socket(uplink)?;
        let uri = match uplink {
            Uplink::Suggestions => address.uri()?,
            Uplink::Insights | Uplink::Interactions => address.with_query(&[("access_token", token.value.reveal())])?,
        };
        let opened = timeout(self.timeout, self.dialler.open(uri, uplink.scope())).await;
        let wire = match opened.unwrap_or(Err(CxoneError::Unavailable { retry_after: None })) {
            Err(CxoneError::Unauthorized) => return Err(Refused::AtUpgrade),
            other => other?,
        };
        let mut socket = Socket::new(wire, self.ping_every, self.pong_within);
        if uplink == Uplink::Suggestions {
            authenticate(&mut socket, token).await?;
        }
        socket.keep_alive();
        Ok(socket)
    }
}

/// Says who we are, and waits for CXone to agree.
async fn authenticate(socket: &mut Socket, token: &Token) -> Result<(), CxoneError> {
    const UNAVAILABLE: CxoneError = CxoneError::Unavailable { retry_after: None };
    let deadline = Instant::now() + AUTH_MAX;
    let frame = suggestions::auth_frame(&token.value);
    timeout_at(deadline, socket.send(&frame)).await.map_err(|_| UNAVAILABLE)?.map_err(|_| UNAVAILABLE)?;
    for _ in 0..FRAMES_BEFORE_AUTH_MAX {
        let frame = timeout_at(deadline, socket.next()).await.map_err(|_| UNAVAILABLE)?.map_err(|_| UNAVAILABLE)?;
        match suggestions::read(frame.reveal()) {
            Ok(suggestions::Incoming::AuthSuccess) => return Ok(()),
            Ok(suggestions::Incoming::AuthFailure { .. }) => return Err(CxoneError::Unauthorized),
            _ => {}
        }
    }
    Err(CxoneError::Unreadable)
}

fn get(uri: Uri) -> Result<Request<Bytes>, CxoneError> {
    Request::get(uri).body(Bytes::new()).map_err(|_| CxoneError::Unreadable)
}

fn post(uri: Uri, body: &str) -> Result<Request<Bytes>, CxoneError> {
    let request = Request::builder().method(Method::POST).uri(uri).header(CONTENT_TYPE, "application/json");
    request.body(Bytes::copy_from_slice(body.as_bytes())).map_err(|_| CxoneError::Unreadable)
}

fn judged(endpoint: Endpoint, answer: Response<Bytes>) -> Result<Response<Bytes>, CxoneError> {
    match answer.status().as_u16() {
        200..=299 => Ok(answer),
        401 => Err(CxoneError::Unauthorized),
        403 => Err(CxoneError::Forbidden { scope: endpoint.scope() }),
        status => Err(CxoneError::Refused { status }),
    }
}
