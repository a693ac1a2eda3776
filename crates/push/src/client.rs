//! The SDK's client: whom it trusts, and how long it waits.
//!
//! Amazon's roots are compiled in. Left to itself the SDK reads every certificate of the machine at the first request,
//! which is most of a function's cold start.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::config::{Builder, Credentials, Region, SharedHttpClient};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// How long one TCP and TLS connection may take to stand.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one attempt of a request may take.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Every root from which Amazon's own services, and certificates of AWS Certificate Manager, descend.
const AMAZON_ROOTS_PEM: &[u8] = include_bytes!("amazon.pem");
/// The region that local endpoints are told; they do not care.
const LOCAL_REGION: &str = "us-east-1";

/// A PEM text that holds no certificate, or one that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the certificates to trust are not usable PEM")]
pub struct NotTrusted;

pub(crate) fn amazon() -> TrustStore {
    TrustStore::empty().with_pem_certificate(AMAZON_ROOTS_PEM)
}

pub(crate) fn amazon_and(pem: &[u8]) -> Result<TrustStore, NotTrusted> {
    judge(pem)?;
    Ok(amazon().with_pem_certificate(pem))
}

/// The SDK would find a fault only with the first request, and panic.
fn judge(pem: &[u8]) -> Result<(), NotTrusted> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|_| NotTrusted)?).map_err(|_| NotTrusted)?;
    }
    if roots.is_empty() { Err(NotTrusted) } else { Ok(()) }
}

pub(crate) async fn remote(endpoint: &str, trust: TrustStore) -> Client {
    // The look-up of credentials goes through the same client, and so needs no second trust store.
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https(trust));
    let loader = match region_of(endpoint) {
        Some(region) => loader.region(Region::new(region)),
        None => loader,
    };
    let environment = loader.load().await;
    Client::from_conf(limited(Builder::from(&environment)).endpoint_url(endpoint).build())
}

fn https(trust: TrustStore) -> SharedHttpClient {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
    match TlsContext::builder().with_trust_store(trust).build() {
        Ok(context) => http.tls_context(context).build_https(),
        // Cannot happen; if it did, the machine's certificates would be asked, which only costs time.
        Err(error) => {
            tracing::warn!(%error, "the trust store was not taken");
            http.build_https()
        }
    }
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
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
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

    #[test]
    fn amazons_roots_are_whole() {
        assert_eq!(judge(AMAZON_ROOTS_PEM), Ok(()));
        assert_eq!(CertificateDer::pem_slice_iter(AMAZON_ROOTS_PEM).count(), 5);
    }

    #[test]
    fn what_is_no_certificate_is_not_trusted() {
        let damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in [&b""[..], b"# nothing", damaged, b"-----BEGIN CERTIFICATE-----\n???"] {
            assert_eq!(judge(pem), Err(NotTrusted), "{}", String::from_utf8_lossy(pem));
        }
    }

    #[tokio::test]
    async fn the_trust_store_is_taken_by_the_sdk_and_a_stranger_is_not_believed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Builder::default()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(https(amazon_and(AMAZON_ROOTS_PEM).unwrap()))
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
