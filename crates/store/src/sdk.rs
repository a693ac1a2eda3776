//! The SDK behind the store: what it believes, and what it asks the environment for.
//!
//! A function starts often and is waited for. So the roots that AWS's own endpoints stand on are part of the program,
//! and where region and credentials stand in the environment nothing else is asked. Only the feature `chain` looks
//! further, as the SDK does by default: profiles, a container's role, a machine's.

use aws_sdk_dynamodb::Config;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Credentials, Region, SharedHttpClient};
use earpiece_core::config::Env;
use earpiece_https::aws::{Environment, carried_by};
use earpiece_https::client::Client;
use earpiece_https::{Trust, trust};

use crate::client::{ATTEMPT_TIMEOUT, ATTEMPTS_MAX, BACKOFF_INITIAL, BACKOFF_MAX, CONNECT_TIMEOUT, OPERATION_TIMEOUT};
use crate::error::StoreError;

/// The region that local endpoints are told; they do not care.
const LOCAL_REGION: &str = "us-east-1";

/// The variables with an endpoint other than the region's own, the stronger one first.
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"];

/// Asks the environment for everything that a client needs. What cannot be had without a request (the credentials of
/// a container) is fetched with the first one.
pub(crate) async fn load(env: &impl Env, endpoint: Option<&str>) -> Result<Config, StoreError> {
    let refused = |fault: trust::TrustError| StoreError::Refused {
        code: trust::CA_FILE.name.to_owned(),
        message: fault.to_string(),
    };
    let http = http_client(&Trust::read(env).map_err(refused)?);
    match Environment::read(env) {
        Some(Environment { region: Some(region), access_key_id, secret_access_key, session_token }) => {
            let token = session_token.map(|token| token.reveal().to_owned());
            let keys = Credentials::new(access_key_id, secret_access_key.reveal(), token, None, "environment");
            let is_on = |name| env.get(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
            let mut config = patient(http)
                .region(Region::new(region))
                .credentials_provider(keys)
                .use_fips(is_on("AWS_USE_FIPS_ENDPOINT"))
                .use_dual_stack(is_on("AWS_USE_DUALSTACK_ENDPOINT"));
            let configured = ENDPOINTS.iter().find_map(|name| env.get(name));
            config.set_endpoint_url(endpoint.map(str::to_owned).or(configured));
            Ok(config.build())
        }
        _ => elsewhere(http, endpoint).await,
    }
}

/// Region and credentials from wherever the SDK finds them.
#[cfg(feature = "chain")]
async fn elsewhere(http: SharedHttpClient, endpoint: Option<&str>) -> Result<Config, StoreError> {
    let mut loader = aws_config::defaults(behavior()).http_client(http.clone());
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let found = Builder::from(&loader.load().await);
    Ok(found.timeout_config(timeouts()).retry_config(retries()).build())
}

#[cfg(not(feature = "chain"))]
fn elsewhere(_: SharedHttpClient, _: Option<&str>) -> std::future::Ready<Result<Config, StoreError>> {
    let message =
        format!("{} have to be set, and AWS_PROFILE does not count: see the feature `chain`", Environment::NEEDED);
    std::future::ready(Err(StoreError::Refused { code: String::from("NoCredentials"), message }))
}

/// A DynamoDB on this machine.
pub(crate) fn local(endpoint: &str) -> Config {
    patient(http_client(&Trust::public()))
        .endpoint_url(endpoint)
        .region(Region::from_static(LOCAL_REGION))
        .credentials_provider(Credentials::new("local", "local", None, None, "local endpoint"))
        .build()
}

fn patient(http: SharedHttpClient) -> Builder {
    Config::builder().behavior_version(behavior()).http_client(http).timeout_config(timeouts()).retry_config(retries())
}

/// The SDK's behaviour is chosen, and does not change when it is updated.
fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS_MAX)
        .with_initial_backoff(BACKOFF_INITIAL)
        .with_max_backoff(BACKOFF_MAX)
}

fn http_client(trust: &Trust) -> SharedHttpClient {
    carried_by(Client::connecting_within(trust, CONNECT_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    type Variables = HashMap<&'static str, &'static str>;

    struct MapEnv(Variables);

    impl Env for MapEnv {
        fn get(&self, name: &str) -> Option<String> {
            self.0.get(name).map(|value| (*value).to_owned())
        }
    }

    fn env<const N: usize>(variables: [(&'static str, &'static str); N]) -> MapEnv {
        MapEnv(Variables::from(variables))
    }

    fn function() -> MapEnv {
        env([("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")])
    }

    /// A DynamoDB that has no tables, and the heads of what it is asked.
    async fn listening() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (heads, asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                    assert!(stream.read_buf(&mut request).await.unwrap() > 0);
                }
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 17\r\nconnection: close\r\n\r\n{\"TableNames\":[]}";
                stream.write_all(answer.as_bytes()).await.unwrap();
                heads.send(String::from_utf8_lossy(&request).into_owned()).unwrap();
            }
        });
        (endpoint, asked)
    }

    async fn asked_with(env: &MapEnv, endpoint: Option<&str>) {
        let client = aws_sdk_dynamodb::Client::from_conf(load(env, endpoint).await.unwrap());
        client.list_tables().send().await.unwrap();
    }

    #[tokio::test]
    async fn what_a_function_finds_in_its_environment_signs_its_requests() {
        let (endpoint, mut heads) = listening().await;
        let mut variables = function();
        variables.0.insert("AWS_SESSION_TOKEN", "of-the-role");
        asked_with(&variables, Some(&endpoint)).await;
        let head = heads.recv().await.unwrap();
        assert!(head.contains("Credential=id/") && head.contains("/eu-west-1/dynamodb/"), "{head}");
        assert!(head.contains("x-amz-security-token: of-the-role"), "{head}");
    }

    #[tokio::test]
    async fn the_stronger_word_about_the_endpoint_wins() {
        let (endpoint, mut heads) = listening().await;
        let endpoint: &'static str = Box::leak(endpoint.into_boxed_str());
        let nowhere = "http://127.0.0.1:1";
        let mut variables = function();
        variables.0.insert("AWS_ENDPOINT_URL", endpoint);
        asked_with(&variables, None).await;
        variables.0.insert("AWS_ENDPOINT_URL", nowhere);
        variables.0.insert("AWS_ENDPOINT_URL_DYNAMODB", endpoint);
        asked_with(&variables, None).await;
        variables.0.insert("AWS_ENDPOINT_URL_DYNAMODB", nowhere);
        asked_with(&variables, Some(endpoint)).await;
        for _ in 0..3 {
            assert!(heads.recv().await.is_some());
        }
    }

    #[cfg(not(feature = "chain"))]
    #[tokio::test]
    async fn without_the_chain_nothing_else_than_the_environment_is_asked() {
        for lacking in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            let mut variables = function();
            variables.0.remove(lacking);
            let refused = load(&variables, None).await.unwrap_err();
            assert!(matches!(&refused, StoreError::Refused { message, .. } if message.contains(lacking)), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_file_to_trust_that_is_none_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roots.pem");
        std::fs::write(&path, "no PEM").unwrap();
        for unusable in [path.to_str().unwrap(), "/nonexistent/roots.pem"] {
            let mut variables = function();
            variables.0.insert(trust::CA_FILE.name, Box::leak(unusable.to_owned().into_boxed_str()));
            let refused = load(&variables, None).await.unwrap_err();
            assert!(matches!(&refused, StoreError::Refused { code, .. } if code == "EARPIECE_CA_FILE"), "{refused}");
        }
    }
}
