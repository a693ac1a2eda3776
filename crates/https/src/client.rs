//! Requests to others.
//!
//! HTTP/1.1 over pooled connections. One deadline holds for all of it, from the look-up of the name to the answer's
//! last byte; an answer is read up to a stated size; a redirect is an answer like any other. No proxy is used, whatever
//! the environment says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

use crate::trust::{Trust, TrustError};

/// An unused connection is kept for no longer. Below the 60 seconds after which common load balancers close theirs, so
/// that a request is seldom written to a connection that is just being closed.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Unused connections per host: as many as the store has requests in flight, so that a burst opens each only once.
const IDLE_PER_HOST_MAX: usize = 64;
/// One host may have several addresses: this is shared between them, so that one that is dead does not use up the
/// whole deadline.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Status line and headers of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What we call ourselves where the caller says nothing else.
const AGENT: &str = concat!("earpiece/", env!("CARGO_PKG_VERSION"));

/// What one request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the look-up of the name to the last byte of the answer.
    pub deadline: Duration,
    /// The answer's body; its head has a limit of its own.
    pub answer_bytes_max: usize,
}

/// Why there is no answer. None of these says where the request went, or what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection: the name is not known, nobody listens, or the certificate is not trusted. Nothing was sent. An
    /// address that is not HTTP or HTTPS, or has credentials in it, counts as unreachable.
    #[error("no connection could be made")]
    Unreachable,
    /// The deadline came first. The request may have arrived.
    #[error("there was no answer in time")]
    TimedOut,
    /// The answer is larger than its limit. The request has arrived.
    #[error("the answer is too large")]
    TooLarge,
    /// The connection ended within the request or the answer, or what came is no HTTP. The request may have arrived.
    #[error("the connection broke before the answer was complete")]
    Broken,
}

/// An HTTP and HTTPS client. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    /// A client that believes `trust`. Nothing is read and nobody is asked before the first request.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn new(trust: &Trust) -> Result<Self, TrustError> {
        Self::connecting_within(trust, CONNECT_MAX)
    }

    /// As [`Client::new`], with a limit of its own for the look-up of a name and the connections to its addresses.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn connecting_within(trust: &Trust, connect_max: Duration) -> Result<Self, TrustError> {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| TrustError::Tls)?
            .with_root_certificates(trust.clone().into_roots())
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_max));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Ok(Self { inner })
    }

    /// Sends a request with an absolute address, and reads the whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// When there is no complete answer within the limits.
    pub async fn send(&self, request: Request<Bytes>, limits: Limits) -> Result<Response<Bytes>, Failure> {
        if !is_sendable(request.uri()) {
            return Err(Failure::Unreachable);
        }
        let exchange = self.exchange(request, limits.answer_bytes_max);
        tokio::time::timeout(limits.deadline, exchange).await.unwrap_or(Err(Failure::TimedOut))
    }

    async fn exchange(&self, mut request: Request<Bytes>, answer_bytes_max: usize) -> Result<Response<Bytes>, Failure> {
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        let answer = self.inner.request(request.map(Full::new)).await.map_err(|error| failure_of(&error))?;
        let (head, body) = answer.into_parts();
        if usize::try_from(body.size_hint().lower()).is_ok_and(|announced| announced <= answer_bytes_max) {
            let collected = Limited::new(body, answer_bytes_max).collect().await;
            let body = collected
                .map_err(|error| if error.is::<LengthLimitError>() { Failure::TooLarge } else { Failure::Broken })?;
            return Ok(Response::from_parts(head, body.to_bytes()));
        }
        Err(Failure::TooLarge)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// Credentials belong in a header: as a part of the host's name they would be printed by every library on the way.
fn is_sendable(uri: &Uri) -> bool {
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    is_known && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
}

fn failure_of(error: &legacy::Error) -> Failure {
    if error.is_connect() { Failure::Unreachable } else { Failure::Broken }
}
