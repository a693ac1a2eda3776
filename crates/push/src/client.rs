//! The SDK's client: whom it trusts, how long it waits, and what it asks the environment for.

use std::time::Duration;

use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::config::retry::RetryConfig;
use aws_sdk_apigatewaymanagement::config::timeout::TimeoutConfig;
use aws_sdk_apigatewaymanagement::config::{BehaviorVersion, Builder, Credentials, Region, SharedHttpClient};
use earpiece_core::config::Env;
use earpiece_https::aws::{Environment, carried_by};
use earpiece_https::{Client as Https, Trust, TrustError};

/// How long one TCP connection may take to stand.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one attempt of a request may take.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// The region that local endpoints are told; they do not care.
const LOCAL_REGION: &str = "us-east-1";

/// A client with region and credentials from the environment. One that has none, or cannot trust whom it was told to,
/// says so once, here, and fails every request.
pub(crate) async fn remote(env: &impl Env, endpoint: &str, trust: Result<Trust, TrustError>) -> Client {
    if let Err(fault) = &trust {
        tracing::error!(%fault, "frames cannot be pushed");
    }
    let http = https(trust);
    let config = match Environment::read(env) {
        Some(found) => {
            let token = found.session_token.map(|token| token.reveal().to_owned());
            let keys =
                Credentials::new(found.access_key_id, found.secret_access_key.reveal(), token, None, "environment");
            let region = region_of(endpoint).or(found.region).map(Region::new);
            Builder::new().behavior_version(behavior()).http_client(http).region(region).credentials_provider(keys)
        }
        None => elsewhere(http, endpoint).await,
    };
    Client::from_conf(limited(config).endpoint_url(endpoint).build())
}

/// Region and credentials from wherever the SDK finds them. The look-up goes through the same client.
#[cfg(feature = "chain")]
async fn elsewhere(http: SharedHttpClient, endpoint: &str) -> Builder {
    let loader = aws_config::defaults(behavior()).http_client(http);
    let loader = match region_of(endpoint) {
        Some(region) => loader.region(Region::new(region)),
        None => loader,
    };
    Builder::from(&loader.load().await)
}

#[cfg(not(feature = "chain"))]
fn elsewhere(http: SharedHttpClient, endpoint: &str) -> std::future::Ready<Builder> {
    let needed = Environment::NEEDED;
    tracing::error!(needed, "frames cannot be pushed: there are no credentials in the environment");
    let region = region_of(endpoint).map(Region::new);
    std::future::ready(Builder::new().behavior_version(behavior()).http_client(http).region(region))
}

/// The SDK's behaviour is chosen, and does not change when it is updated.
fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

fn https(trust: Result<Trust, TrustError>) -> SharedHttpClient {
    carried_by(trust.and_then(|trust| Https::connecting_within(&trust, CONNECT_TIMEOUT)))
}

/// The region in the name of API Gateway's own endpoints. Requests are signed for the API's region, wherever we are; and
/// where no region is configured, asking the machine's metadata for it takes seconds.
fn region_of(endpoint: &str) -> Option<String> {
    let uri: http::Uri = endpoint.parse().ok()?;
    let (_api, rest) = uri.host()?.split_once(".execute-api.")?;
    let (region, domain) = rest.split_once('.')?;
    domain.starts_with("amazonaws.com").then(|| region.to_owned())
}

pub(crate) fn local(endpoint: &str) -> Client {
    let config = Builder::default()
        .behavior_version(behavior())
        .http_client(https(Ok(Trust::public())))
        .region(Region::from_static(LOCAL_REGION))
        .credentials_provider(Credentials::new("local", "local", None, None, "local endpoint"))
        .endpoint_url(endpoint);
    Client::from_conf(limited(config).build())
}

/// The SDK retries nothing: after a time-out it would send a frame a second time.
fn limited(config: Builder) -> Builder {
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
    config.timeout_config(timeouts).retry_config(RetryConfig::disabled())
}

/// Whether an endpoint such as `http://127.0.0.1:3001/local` stays on this machine and is plain HTTP.
pub(crate) fn is_loopback(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_this_machine = host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    uri.scheme_str() == Some("http") && is_this_machine
}

#[cfg(test)]
mod tests {
    use aws_sdk_apigatewaymanagement::error::SdkError;
    use aws_sdk_apigatewaymanagement::primitives::Blob;

    use super::*;

    #[tokio::test]
    async fn a_stranger_is_not_believed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Builder::default()
            .behavior_version(behavior())
            .http_client(https(Ok(Trust::public())))
            .region(Region::from_static(LOCAL_REGION))
            .credentials_provider(Credentials::new("x", "x", None, None, "test"))
            .endpoint_url(format!("https://{}", listener.local_addr().unwrap()));
        let client = Client::from_conf(limited(config).build());
        let greeting = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"this is no TLS\r\n").await.unwrap();
        };
        let posted = client.post_to_connection().connection_id("a=").data(Blob::new("x")).send();
        let (posted, ()) = tokio::join!(posted, greeting);
        assert!(matches!(posted, Err(SdkError::DispatchFailure(_))));
    }

    #[test]
    fn requests_are_signed_for_the_region_of_the_api() {
        for (endpoint, region) in [
            ("https://a1.execute-api.eu-central-1.amazonaws.com/prod", Some("eu-central-1")),
            ("https://a1.execute-api.cn-north-1.amazonaws.com.cn/prod", Some("cn-north-1")),
            ("https://push.example.com", None),
            ("https://a1.execute-api.example.com", None),
            ("", None),
        ] {
            assert_eq!(region_of(endpoint).as_deref(), region, "{endpoint}");
        }
    }

    #[test]
    fn only_plain_http_to_this_machine_counts_as_local() {
        for local in ["http://127.0.0.1:3001/local", "http://LOCALHOST:4566", "http://[::1]:80/x", "http://127.9.9.9"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in [
            "https://127.0.0.1:3001",
            "http://10.0.0.1:3001",
            "http://localhost.example.com",
            "https://a1.execute-api.eu-central-1.amazonaws.com/prod",
            "127.0.0.1:3001",
            "not an address",
        ] {
            assert!(!is_loopback(remote), "{remote}");
        }
    }
}
