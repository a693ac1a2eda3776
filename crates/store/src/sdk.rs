//! The SDK behind the store: what it believes, and what it asks the environment for.
//!
//! A function starts often and is waited for. What the SDK does by default costs it most of that time: it scans the
//! system's folder of certificates and reads profile files that are not there. So the roots that AWS's own endpoints
//! stand on are part of the program, and where region and credentials stand in the environment nothing else is asked.

use std::path::PathBuf;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use earpiece_core::config::Env;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::client::{ATTEMPT_TIMEOUT, ATTEMPTS_MAX, BACKOFF_INITIAL, BACKOFF_MAX, CONNECT_TIMEOUT, OPERATION_TIMEOUT};
use crate::error::StoreError;

/// The SDK's behaviour is chosen, and does not change when it is updated.
pub(crate) fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// The variable with a PEM file of certificates to trust beside those of AWS.
const CA_FILE: &str = "EARPIECE_CA_FILE";

/// The five roots that AWS says its endpoints stand on: <https://www.amazontrust.com/repository/>.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon.pem");

/// What the regions begin with whose endpoints have other certificates: China, the sovereign and the isolated clouds.
const REGIONS_APART: [&str; 4] = ["cn-", "eusc-", "us-iso", "eu-iso"];

/// Asks the environment for everything that a client needs. What cannot be had without a request (the credentials of
/// a container) is fetched with the first one.
pub(crate) async fn load(env: &impl Env, endpoint: Option<&str>) -> Result<SdkConfig, StoreError> {
    let mut loader = aws_config::defaults(behavior())
        .http_client(http_client(trusted(env, endpoint)?)?)
        .timeout_config(timeouts())
        .retry_config(retries());
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = region_beside_credentials(env) {
        loader = loader
            .region(Region::new(region))
            .credentials_provider(EnvironmentVariableCredentialsProvider::new())
            .profile_files(no_profiles());
    }
    Ok(loader.load().await)
}

#[expect(deprecated, reason = "the new names live in a crate that is none of our dependencies")]
fn no_profiles() -> aws_config::profile::profile_file::ProfileFiles {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
    // Without any the SDK panics.
    ProfileFiles::builder().with_contents(ProfileFileKind::Config, "").build()
}

pub(crate) fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

pub(crate) fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS_MAX)
        .with_initial_backoff(BACKOFF_INITIAL)
        .with_max_backoff(BACKOFF_MAX)
}

/// The SDK's own client, but for its trust. Its connector, and with it TLS, is made by the first request.
fn http_client(trust: TrustStore) -> Result<SharedHttpClient, StoreError> {
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| StoreError::Refused { code: String::from("TlsContext"), message: error.to_string() })?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector =
            ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(context.clone());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    }))
}

/// The region, where the environment has credentials, too, and names no profile that could say otherwise.
fn region_beside_credentials(env: &impl Env) -> Option<String> {
    let has = |name| env.get(name).is_some();
    let has_credentials = has("AWS_ACCESS_KEY_ID") && has("AWS_SECRET_ACCESS_KEY");
    if has_credentials && !has("AWS_PROFILE") { region(env) } else { None }
}

fn region(env: &impl Env) -> Option<String> {
    env.get("AWS_REGION").or_else(|| env.get("AWS_DEFAULT_REGION")).map(|region| region.trim().to_owned())
}

/// Amazon's roots, the operator's, and the system's where neither is sure to be enough.
fn trusted(env: &impl Env, endpoint: Option<&str>) -> Result<TrustStore, StoreError> {
    let trust =
        TrustStore::empty().with_native_roots(needs_system_roots(env, endpoint)).with_pem_certificate(AMAZON_ROOTS);
    let Some(path) = env.get(CA_FILE) else { return Ok(trust) };
    let pem = std::fs::read(PathBuf::from(path.trim()))
        .map_err(|error| StoreError::Refused { code: CA_FILE.to_owned(), message: error.to_string() })?;
    if !are_certificates(&pem) {
        let message = String::from("no certificate, or one that cannot be used");
        return Err(StoreError::Refused { code: CA_FILE.to_owned(), message });
    }
    Ok(trust.with_pem_certificate(pem))
}

/// Whether an endpoint may be asked that Amazon did not certify.
fn needs_system_roots(env: &impl Env, endpoint: Option<&str>) -> bool {
    let configured = [endpoint.map(str::to_owned), env.get("AWS_ENDPOINT_URL_DYNAMODB"), env.get("AWS_ENDPOINT_URL")];
    let is_foreign = |endpoint: &String| endpoint.starts_with("https://") && !is_amazon(endpoint);
    let is_ordinary = |region: &String| !REGIONS_APART.iter().any(|apart| region.starts_with(apart));
    // Without a region in the environment a profile names it, and perhaps an endpoint, too.
    configured.iter().flatten().any(is_foreign) || !region(env).as_ref().is_some_and(is_ordinary)
}

fn is_amazon(endpoint: &str) -> bool {
    let authority = endpoint.trim_start_matches("https://").split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    host.ends_with(".amazonaws.com")
}

/// The SDK panics on certificates that it cannot use, so they are tried before.
fn are_certificates(pem: &[u8]) -> bool {
    let mut roots = RootCertStore::empty();
    let is_usable = |certificate: Result<CertificateDer<'static>, _>| {
        certificate.is_ok_and(|certificate| roots.add(certificate).is_ok())
    };
    CertificateDer::pem_slice_iter(pem).all(is_usable) && !roots.is_empty()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

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

    #[test]
    fn the_roots_of_amazon_are_five_and_can_be_used() {
        assert!(are_certificates(AMAZON_ROOTS));
        assert_eq!(CertificateDer::pem_slice_iter(AMAZON_ROOTS).count(), 5);
    }

    #[test]
    fn a_function_of_an_ordinary_region_scans_no_folder() {
        let function = env([("AWS_REGION", "eu-central-1")]);
        assert!(!needs_system_roots(&function, None));
        assert!(!needs_system_roots(&function, Some("http://10.0.0.1:4566")));
        assert!(!needs_system_roots(&function, Some("https://vpce-1.dynamodb.eu-central-1.vpce.amazonaws.com")));
    }

    #[test]
    fn an_endpoint_that_amazon_did_not_certify_may_stand_on_the_systems_roots() {
        let region = ("AWS_REGION", "eu-central-1");
        assert!(needs_system_roots(&env([region]), Some("https://dynamodb.example.com/x.amazonaws.com")));
        assert!(needs_system_roots(&env([region, ("AWS_ENDPOINT_URL", "https://example.com:4566")]), None));
        for apart in ["cn-north-1", "eusc-de-east-1", "us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1"] {
            assert!(needs_system_roots(&env([("AWS_DEFAULT_REGION", apart)]), None), "{apart}");
        }
        assert!(needs_system_roots(&env([]), None), "a profile has the last word");
    }

    #[test]
    fn profiles_are_not_asked_where_the_environment_says_all() {
        let key = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key"), ("AWS_REGION", "eu-west-1")];
        assert_eq!(region_beside_credentials(&env(key)).as_deref(), Some("eu-west-1"));
        for lacking in 0..key.len() {
            let mut some = env(key);
            some.0.remove(key[lacking].0);
            assert_eq!(region_beside_credentials(&some), None);
        }
        let mut with_profile = env(key);
        with_profile.0.insert("AWS_PROFILE", "other");
        assert_eq!(region_beside_credentials(&with_profile), None);
    }

    #[test]
    fn a_file_to_trust_that_is_none_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".as_slice();
        for (name, pem) in [("empty", b"".as_slice()), ("text", b"no PEM".as_slice()), ("broken", broken)] {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).unwrap();
            let env = env([(CA_FILE, Box::leak(path.to_str().unwrap().to_owned().into_boxed_str()))]);
            assert!(matches!(trusted(&env, None), Err(StoreError::Refused { code, .. }) if code == CA_FILE), "{name}");
        }
        let missing = env([(CA_FILE, "/nonexistent/roots.pem")]);
        assert!(matches!(trusted(&missing, None), Err(StoreError::Refused { .. })));
    }

    #[tokio::test]
    async fn everything_in_the_environment_makes_a_client_of_its_region_and_endpoint() {
        let function =
            env([("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")]);
        let config = load(&function, Some("http://10.0.0.1:4566")).await.unwrap();
        assert_eq!(config.region(), Some(&Region::from_static("eu-west-1")));
        assert_eq!(config.endpoint_url(), Some("http://10.0.0.1:4566"));
        assert!(config.credentials_provider().is_some());
    }
}
