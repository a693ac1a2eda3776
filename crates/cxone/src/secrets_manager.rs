//! AWS Secrets Manager, over the same HTTPS client as everything else.
//!
//! Region and credentials come from the environment, as in a function or a shell. Only the feature `chain` looks further,
//! as the SDK does by default: profiles, a container's role, a machine's.

use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Builder, Config, Credentials, Region, SharedHttpClient};
use aws_sdk_secretsmanager::error::ProvideErrorMetadata as _;
use earpiece_core::config::Env;
use earpiece_https::aws::{Environment, carried_by};

use crate::error::CxoneError;

/// One attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// All of them.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
const ATTEMPTS_MAX: u32 = 3;
/// The variables with an endpoint other than the region's own, the stronger one first.
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"];

/// One secret.
pub(crate) struct Manager {
    client: Client,
    secret_id: String,
}

impl Manager {
    /// Asks the environment for what is needed. `None` where it does not say enough.
    pub(crate) async fn load(env: &impl Env, https: &earpiece_https::Client, secret_id: &str) -> Option<Self> {
        let http = carried_by(Ok(https.clone()));
        let config = match Environment::read(env) {
            Some(Environment { region: Some(region), access_key_id, secret_access_key, session_token }) => {
                let token = session_token.map(|token| token.reveal().to_owned());
                let keys = Credentials::new(access_key_id, secret_access_key.reveal(), token, None, "environment");
                let mut config = patient(Config::builder().behavior_version(behavior()).http_client(http))
                    .region(Region::new(region))
                    .credentials_provider(keys);
                config.set_endpoint_url(ENDPOINTS.iter().find_map(|name| env.get(name)));
                config.build()
            }
            _ => elsewhere(http).await?,
        };
        Some(Self { client: Client::from_conf(config), secret_id: secret_id.to_owned() })
    }

    /// The secret's text.
    pub(crate) async fn read(&self) -> Result<Vec<u8>, CxoneError> {
        let answer = self.client.get_secret_value().secret_id(&self.secret_id).send().await.map_err(|error| {
            let code = error.code().unwrap_or("none");
            tracing::warn!(code, "Secrets Manager did not give CXone's credentials");
            match code {
                "ResourceNotFoundException" | "AccessDeniedException" => CxoneError::NotConfigured {
                    problem: "the secret of EARPIECE_CXONE_CREDENTIALS does not exist, or may not be read",
                },
                _ => CxoneError::Unavailable { retry_after: None },
            }
        })?;
        answer
            .secret_string
            .map(String::into_bytes)
            .ok_or(CxoneError::NotConfigured { problem: "the secret of EARPIECE_CXONE_CREDENTIALS holds no text" })
    }
}

/// Region and credentials from wherever the SDK finds them.
#[cfg(feature = "chain")]
async fn elsewhere(http: SharedHttpClient) -> Option<Config> {
    let found = aws_config::defaults(behavior()).http_client(http).load().await;
    Some(patient(Builder::from(&found)).build())
}

#[cfg(not(feature = "chain"))]
fn elsewhere(_: SharedHttpClient) -> std::future::Ready<Option<Config>> {
    std::future::ready(None)
}

fn patient(builder: Builder) -> Builder {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    builder.timeout_config(timeouts).retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
}

/// The SDK's behaviour is chosen, and does not change when it is updated.
fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}
