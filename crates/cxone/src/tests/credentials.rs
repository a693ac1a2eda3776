//! Credentials that are rotated while the client runs.

use std::time::Duration;

use http::header::AUTHORIZATION;
use serde_json::json;

use super::fake::{Fake, body, status, token};
use super::{TestEnv, connect, environment, feedback, leap, shared, try_connect, variable, within_patience};
use crate::CxoneError;
use crate::settings;

const TOKEN: &str = "/oauth2/token";

fn document(secret: &str) -> String {
    json!({ "clientId": "app", "clientSecret": secret }).to_string()
}

/// A platform that accepts one secret, and tokens that it gave for it.
async fn accepting(secret: &std::sync::Arc<std::sync::Mutex<String>>) -> Fake {
    let secret = std::sync::Arc::clone(secret);
    Fake::answering(move |asked| {
        let secret = secret.lock().unwrap().clone();
        match asked.path.as_str() {
            TOKEN if asked.field("client_secret").as_deref() == Some(&secret) => token(&format!("token-of-{secret}")),
            _ if asked.bearer() == format!("token-of-{secret}") => status(204),
            _ => status(401),
        }
    })
    .await
}

#[tokio::test]
async fn a_file_that_is_rotated_is_read_again_as_soon_as_cxone_refuses_the_old_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cxone.json");
    std::fs::write(&path, document("one")).unwrap();
    let secret = shared(String::from("one"));
    let fake = accepting(&secret).await;
    let cxone =
        connect(&environment(&fake.address).with(&settings::CREDENTIALS, format!("file:{}", path.display()))).await;
    feedback(&cxone).await.unwrap();

    let mut changes = cxone.credentials_changed();
    *secret.lock().unwrap() = String::from("two");
    std::fs::write(&path, document("two")).unwrap();
    feedback(&cxone).await.unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(fake.asked(TOKEN).len(), 2);
}

#[tokio::test]
async fn a_file_that_is_rotated_is_found_within_a_minute_and_its_token_is_used_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cxone.json");
    std::fs::write(&path, document("one")).unwrap();
    let fake = Fake::answering(|asked| match asked.path.as_str() {
        TOKEN => token(&asked.field("client_secret").unwrap_or_default()),
        _ => status(204),
    })
    .await;
    let cxone =
        connect(&environment(&fake.address).with(&settings::CREDENTIALS, format!("file:{}", path.display()))).await;
    feedback(&cxone).await.unwrap();
    let mut changes = cxone.credentials_changed();
    std::fs::write(&path, document("two")).unwrap();
    leap(Duration::from_secs(61)).await;
    within_patience(changes.changed()).await.unwrap();
    feedback(&cxone).await.unwrap();
    let bearers: Vec<_> =
        fake.asked("/api/v2/ai/training/feedback").iter().map(|asked| asked.bearer().to_owned()).collect();
    assert_eq!(bearers, ["one", "two"]);
}

#[tokio::test]
async fn credentials_that_are_refused_are_read_again_before_anybody_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cxone.json");
    std::fs::write(&path, document("one")).unwrap();
    let fake = accepting(&shared(String::from("two"))).await;
    let cxone =
        connect(&environment(&fake.address).with(&settings::CREDENTIALS, format!("file:{}", path.display()))).await;
    std::fs::write(&path, document("two")).unwrap();
    cxone.check().await.unwrap();
    assert_eq!(fake.asked(TOKEN).len(), 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_known_at_start() {
    let env = environment("127.0.0.1:1").with(&settings::CREDENTIALS, "file:/nonexistent/cxone.json");
    assert!(matches!(try_connect(&env).await.err(), Some(CxoneError::NotConfigured { .. })));
}

fn aws(env: TestEnv, endpoint: &str) -> TestEnv {
    env.with(&variable("AWS_REGION"), "eu-west-1")
        .with(&variable("AWS_ACCESS_KEY_ID"), "id")
        .with(&variable("AWS_SECRET_ACCESS_KEY"), "key")
        .with(&variable("AWS_ENDPOINT_URL_SECRETS_MANAGER"), format!("http://{endpoint}"))
}

#[tokio::test]
async fn a_secret_of_secrets_manager_is_fetched_when_needed_and_again_after_a_refusal() {
    let secret = shared(String::from("one"));
    let stored = std::sync::Arc::clone(&secret);
    let manager = Fake::answering(move |_| body(&json!({ "SecretString": document(&stored.lock().unwrap()) }))).await;
    let fake = accepting(&secret).await;
    let env =
        aws(environment(&fake.address), &manager.address).with(&settings::CREDENTIALS, "secretsmanager:cxone/app");
    let cxone = connect(&env).await;
    assert_eq!(manager.asked("/").len(), 0);
    feedback(&cxone).await.unwrap();
    let asked = &manager.asked("/")[0];
    assert!(asked.body.contains("cxone/app"), "{}", asked.body);
    assert!(asked.header(AUTHORIZATION).contains("/eu-west-1/secretsmanager/"));
    *secret.lock().unwrap() = String::from("two");
    feedback(&cxone).await.unwrap();
    assert_eq!(manager.asked("/").len(), 2);
}

#[cfg(not(feature = "chain"))]
#[tokio::test]
async fn secrets_manager_without_a_region_is_known_at_start() {
    use earpiece_core::config::{EmptyEnv, Overlay};

    let env = Overlay::over(EmptyEnv).with(&settings::CREDENTIALS, "secretsmanager:cxone");
    assert!(matches!(try_connect(&env).await.err(), Some(CxoneError::NotConfigured { .. })));
}
