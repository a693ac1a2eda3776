//! AWS's SDK, carried by [`Client`]: one HTTP stack, one TLS, one set of roots in every program.
//!
//! The SDK's own client speaks HTTP/2, looks for proxies and scans the machine's certificates; none of that is needed
//! for DynamoDB or API Gateway, and a function pays for it at every cold start. Also here is what Lambda puts into the
//! environment, because reading it is all that a function needs of the SDK's search for credentials.

use std::fmt;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use earpiece_core::config::Env;
use earpiece_core::secret::Secret;
use http_body_util::BodyExt as _;

use crate::client::{Client, Failure, Limits};
use crate::trust::TrustError;

/// How long an exchange may take where the SDK states no limit of its own. Its limits on attempts are shorter.
const EXCHANGE_MAX: Duration = Duration::from_secs(30);
/// No answer that AWS gives to us is larger: a page of a query has 1 MB, a batch 16 MB.
const ANSWER_BYTES_MAX: usize = 17 * 1024 * 1024;

/// The SDK's HTTP client. One that could not be made fails every request, with the reason why.
#[must_use]
pub fn carried_by(client: Result<Client, TrustError>) -> SharedHttpClient {
    SharedHttpClient::new(Carrier { client: client.map_err(|fault| fault.to_string()) })
}

struct Carrier {
    client: Result<Client, String>,
}

impl HttpClient for Carrier {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Exchange { client: self.client.clone(), limits: limits(settings) })
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

struct Exchange {
    client: Result<Client, String>,
    limits: Limits,
}

impl HttpConnector for Exchange {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, limits) = (self.client.clone(), self.limits);
        HttpConnectorFuture::new(async move {
            let client = client.map_err(|fault| ConnectorError::user(fault.into()))?;
            exchange(&client, request, limits).await
        })
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

/// The SDK states these two only where it wants an answer soon, as from a machine that may not be there at all.
pub(crate) fn limits(settings: &HttpConnectorSettings) -> Limits {
    let deadline = settings.read_timeout().map(|read| settings.connect_timeout().unwrap_or_default() + read);
    Limits { deadline: deadline.unwrap_or(EXCHANGE_MAX), answer_bytes_max: ANSWER_BYTES_MAX }
}

pub(crate) async fn exchange(
    client: &Client,
    request: HttpRequest,
    limits: Limits,
) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(ConnectorError::user)?.to_bytes();
    let answer = client.send(http::Request::from_parts(head, body), limits).await.map_err(error_of)?;
    HttpResponse::try_from(answer.map(SdkBody::from)).map_err(|error| ConnectorError::other(error.into(), None))
}

/// What the SDK's retries make of it: no connection, a broken one, and silence may be tried again.
fn error_of(failure: Failure) -> ConnectorError {
    match failure {
        Failure::Unreachable => ConnectorError::io(failure.into()).never_connected(),
        Failure::Broken => ConnectorError::io(failure.into()),
        Failure::TimedOut => ConnectorError::timeout(failure.into()),
        Failure::TooLarge => ConnectorError::other(failure.into(), None),
    }
}

/// A region and credentials, as they stand in the environment of a function, or of a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// `AWS_REGION`, or `AWS_DEFAULT_REGION`. `None` where neither is set.
    pub region: Option<String>,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Secret,
    /// `AWS_SESSION_TOKEN`, which the credentials of a role have.
    pub session_token: Option<Secret>,
}

impl Environment {
    /// The variables that have to be set.
    pub const NEEDED: &'static str = "AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

    /// Reads the variables. `None` where there are no credentials, or where a profile is named that could say otherwise.
    #[must_use]
    pub fn read(env: &impl Env) -> Option<Self> {
        if env.get("AWS_PROFILE").is_some() {
            return None;
        }
        let trimmed = |name| env.get(name).map(|value| value.trim().to_owned());
        Some(Self {
            region: trimmed("AWS_REGION").or_else(|| trimmed("AWS_DEFAULT_REGION")),
            access_key_id: trimmed("AWS_ACCESS_KEY_ID")?,
            secret_access_key: trimmed("AWS_SECRET_ACCESS_KEY").map(Secret::new)?,
            session_token: trimmed("AWS_SESSION_TOKEN").map(Secret::new),
        })
    }
}
