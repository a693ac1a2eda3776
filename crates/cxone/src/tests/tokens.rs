//! Tokens: their forms, their lives, and that they are asked for once.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::fake::{Asked, Fake, body, nothing_found, status, token};
use super::{connect, environment, feedback, leap, search, shared, with_client, within_patience};
use crate::settings;
use crate::{CxoneError, Endpoint, Outcome};

const TOKEN: &str = "/oauth2/token";
const FEEDBACK: &str = "/api/v2/ai/training/feedback";
const SEARCH: &str = "/api/v2/knowledge/articles/search";

/// Tokens `t0`, `t1`, … and a platform that judges them by `is_good`.
async fn judging(is_good: impl Fn(&str, usize) -> bool + Send + Sync + 'static) -> Fake {
    Fake::answering(move |asked| match asked.path.as_str() {
        TOKEN => token(&format!("t{}", asked.turn)),
        _ if is_good(asked.bearer(), asked.turn) => status(204),
        _ => status(401),
    })
    .await
}

#[tokio::test]
async fn client_credentials_are_sent_as_a_form_and_the_token_as_a_bearer() {
    let fake = judging(|bearer, _| bearer == "t0").await;
    let cxone = connect(&with_client(&fake.address).with(&settings::SCOPE, "knowledge:read a:b")).await;
    feedback(&cxone).await.unwrap();
    feedback(&cxone).await.unwrap();
    let asked = fake.asked(TOKEN);
    assert_eq!(asked.len(), 1);
    assert!(asked[0].is_form() && asked[0].method == "POST");
    for (name, expected) in [
        ("grant_type", "client_credentials"),
        ("client_id", "app"),
        ("client_secret", "hunter2"),
        ("scope", "knowledge:read a:b"),
    ] {
        assert_eq!(asked[0].field(name).as_deref(), Some(expected), "{name}");
    }
    assert_eq!(cxone.snapshot().token_renewals, 1);
}

#[tokio::test]
async fn the_token_endpoint_is_a_template() {
    for path in ["/oauth/token", "/auth/token"] {
        let fake = Fake::answering(move |asked| if asked.path == path { token("t") } else { status(204) }).await;
        let env = with_client(&fake.address).with(&settings::TOKEN_URL, format!("{{api}}{path}"));
        connect(&env).await.check().await.unwrap();
        assert_eq!(fake.asked(path).len(), 1);
    }
}

#[tokio::test]
async fn access_keys_are_traded_at_the_token_endpoint_with_a_clients_basic_credentials() {
    let fake = judging(|_, _| true).await;
    let env =
        with_client(&fake.address).with(&settings::ACCESS_KEY_ID, "KEY").with(&settings::ACCESS_KEY_SECRET, "s=&");
    connect(&env).await.check().await.unwrap();
    let asked = &fake.asked(TOKEN)[0];
    for (name, expected) in [("grant_type", "password"), ("username", "KEY"), ("password", "s=&")] {
        assert_eq!(asked.field(name).as_deref(), Some(expected), "{name}");
    }
    assert_eq!(asked.field("client_secret"), None);
    assert_eq!(asked.header(AUTHORIZATION), format!("Basic {}", BASE64_STANDARD.encode("app:hunter2")));
}

#[tokio::test]
async fn access_keys_are_traded_in_json_at_their_own_endpoint() {
    const PATH: &str = "/authentication/v1/token/access-key";
    let fake = Fake::answering(|asked| if asked.path == PATH { token("t") } else { status(204) }).await;
    let env = environment(&fake.address).with(&settings::ACCESS_KEY_ID, "KEY").with(&settings::ACCESS_KEY_SECRET, "s");
    connect(&env).await.check().await.unwrap();
    let body: Value = serde_json::from_str(&fake.asked(PATH)[0].body).unwrap();
    assert_eq!(body, json!({ "accessKeyId": "KEY", "accessKeySecret": "s" }));
}

/// An issuer, and another host for the API.
async fn discoverable() -> (Fake, Fake) {
    let api = Fake::answering(|_| status(204)).await;
    let api_address = format!("http://{}", api.address);
    let own = shared(String::new());
    let own_address = Arc::clone(&own);
    let issuer = Fake::answering(move |asked| match asked.path.as_str() {
        "/.well-known/openid-configuration" => {
            body(&json!({ "token_endpoint": format!("{}/connect/token", own_address.lock().unwrap()) }))
        }
        "/.well-known/cxone-configuration" if asked.query == "tenantId=t+1" => {
            body(&json!({ "api_endpoint": api_address, "area": "na1" }))
        }
        "/connect/token" => token("t"),
        _ => status(404),
    })
    .await;
    *own.lock().unwrap() = format!("http://{}", issuer.address);
    (issuer, api)
}

#[tokio::test]
async fn the_tenants_api_and_the_issuers_token_endpoint_are_discovered_once_an_hour() {
    let (issuer, api) = discoverable().await;
    let env = with_client("127.0.0.1:1")
        .with(&settings::ISSUER, format!("http://{}", issuer.address))
        .with(&settings::TENANT, "t 1");
    let cxone = connect(&env).await;
    feedback(&cxone).await.unwrap();
    feedback(&cxone).await.unwrap();
    assert_eq!(api.asked(FEEDBACK).len(), 2);
    assert_eq!(issuer.asked("/connect/token").len(), 1);
    assert_eq!(issuer.asked("/.well-known/cxone-configuration").len(), 1);
    leap(Duration::from_secs(3_700)).await;
    feedback(&cxone).await.unwrap();
    assert_eq!(issuer.asked("/.well-known/cxone-configuration").len(), 2);
}

#[tokio::test]
async fn secrets_never_travel_to_a_discovered_address_that_is_not_safe() {
    for unsafe_place in ["http://issuer.example/token", "https://me:you@issuer.example/token", "token"] {
        let fake = Fake::answering(move |_| body(&json!({ "token_endpoint": unsafe_place }))).await;
        let env = with_client("127.0.0.1:1").with(&settings::ISSUER, format!("http://{}", fake.address));
        assert_eq!(connect(&env).await.check().await, Err(CxoneError::Unreadable), "{unsafe_place}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_while_the_old_one_is_still_used() {
    let fake = judging(|_, _| true).await;
    let cxone = connect(&with_client(&fake.address).with(&settings::RENEW_MARGIN, "60s")).await;
    feedback(&cxone).await.unwrap();
    leap(Duration::from_secs(3_539)).await;
    feedback(&cxone).await.unwrap();
    assert_eq!(fake.asked(TOKEN).len(), 1);
    leap(Duration::from_secs(2)).await;
    feedback(&cxone).await.unwrap();
    fake.wait_for(TOKEN, 2).await;
    while cxone.snapshot().token_renewals < 2 {
        tokio::task::yield_now().await;
    }
    feedback(&cxone).await.unwrap();
    let bearers: Vec<_> = fake.asked(FEEDBACK).iter().map(|asked| asked.bearer().to_owned()).collect();
    assert_eq!(bearers, ["t0", "t0", "t0", "t1"]);
}

#[tokio::test]
async fn a_life_shorter_than_the_margin_is_renewed_at_its_half() {
    let fake = Fake::answering(|asked| match asked.path.as_str() {
        TOKEN => body(&json!({ "access_token": format!("t{}", asked.turn), "expires_in": 10 })),
        _ => status(204),
    })
    .await;
    let cxone = connect(&with_client(&fake.address)).await;
    for expected in [1, 1, 2] {
        feedback(&cxone).await.unwrap();
        fake.wait_for(TOKEN, expected).await;
        assert_eq!(fake.asked(TOKEN).len(), expected);
        leap(Duration::from_secs(3)).await;
    }
}

#[tokio::test]
async fn a_hundred_callers_wait_for_one_request_also_when_the_first_of_them_gives_up() {
    let open = Arc::new(Notify::new());
    let gate = Arc::clone(&open);
    let fake = Fake::waiting(move |asked: Asked| {
        let gate = Arc::clone(&gate);
        async move {
            if asked.path != TOKEN {
                return status(204);
            }
            gate.notified().await;
            token("t")
        }
    })
    .await;
    let cxone = connect(&with_client(&fake.address)).await;
    let first = tokio::spawn({
        let cxone = cxone.clone();
        async move { feedback(&cxone).await }
    });
    fake.wait_for(TOKEN, 1).await;
    let mut others = JoinSet::new();
    for _ in 0..99 {
        let cxone = cxone.clone();
        others.spawn(async move { feedback(&cxone).await });
    }
    tokio::task::yield_now().await;
    first.abort();
    open.notify_one();
    for outcome in within_patience(others.join_all()).await {
        outcome.unwrap();
    }
    assert_eq!(fake.asked(TOKEN).len(), 1);
}

#[tokio::test]
async fn a_token_revoked_in_mid_use_costs_one_refresh_and_one_more_try() {
    let fake = judging(|bearer, turn| bearer == "t1" || turn == 0).await;
    let cxone = connect(&with_client(&fake.address)).await;
    for _ in 0..3 {
        feedback(&cxone).await.unwrap();
    }
    assert_eq!(fake.asked(TOKEN).len(), 2);
    let bearers: Vec<_> = fake.asked(FEEDBACK).iter().map(|asked| asked.bearer().to_owned()).collect();
    assert_eq!(bearers, ["t0", "t0", "t1", "t1"]);
}

#[tokio::test]
async fn a_hundred_refusals_at_once_cause_one_refresh() {
    let fake = judging(|bearer, _| bearer == "t1").await;
    let cxone = connect(&with_client(&fake.address).with(&settings::FEEDBACK_RATE, "1000")).await;
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let cxone = cxone.clone();
        callers.spawn(async move { feedback(&cxone).await });
    }
    for outcome in within_patience(callers.join_all()).await {
        outcome.unwrap();
    }
    assert_eq!(fake.asked(TOKEN).len(), 2);
}

#[tokio::test]
async fn a_401_after_the_refresh_is_final() {
    let fake = judging(|_, _| false).await;
    let cxone = connect(&with_client(&fake.address)).await;
    assert_eq!(feedback(&cxone).await, Err(CxoneError::Unauthorized));
    assert_eq!((fake.asked(TOKEN).len(), fake.asked(FEEDBACK).len()), (2, 2));
    assert_eq!(cxone.snapshot().answers(Endpoint::Feedback, Outcome::Unauthorized), 2);
}

#[tokio::test]
async fn a_platform_that_refuses_every_token_does_not_make_us_run_down_its_issuer() {
    let fake = judging(|_, _| false).await;
    let cxone = connect(&with_client(&fake.address)).await;
    for _ in 0..60 {
        assert_eq!(feedback(&cxone).await, Err(CxoneError::Unauthorized));
    }
    assert!(fake.asked(TOKEN).len() <= 25, "{}", fake.asked(TOKEN).len());
}

#[tokio::test]
async fn a_429_of_the_token_endpoint_is_honoured() {
    let fake = Fake::answering(|asked| match (asked.path.as_str(), asked.turn) {
        (TOKEN, 0) => status(429).retry_after("7"),
        (TOKEN, _) => token("t"),
        _ => status(204),
    })
    .await;
    let cxone = connect(&with_client(&fake.address)).await;
    for _ in 0..3 {
        let error = feedback(&cxone).await.unwrap_err();
        let Some(pause) = error.retry_after() else { panic!("{error}") };
        assert!(pause > Duration::from_secs(5) && pause <= Duration::from_secs(7), "{error}");
    }
    assert_eq!(fake.asked(TOKEN).len(), 1);
    leap(Duration::from_secs(7)).await;
    feedback(&cxone).await.unwrap();
    assert_eq!(fake.asked(TOKEN).len(), 2);
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_token_in_use_until_its_end() {
    let fake = Fake::answering(|asked| match (asked.path.as_str(), asked.turn) {
        (TOKEN, 0) => token("t0"),
        (TOKEN, _) => status(429).retry_after("3600"),
        _ => status(204),
    })
    .await;
    let cxone = connect(&with_client(&fake.address)).await;
    feedback(&cxone).await.unwrap();
    leap(Duration::from_secs(3_550)).await;
    for _ in 0..3 {
        feedback(&cxone).await.unwrap();
        fake.wait_for(TOKEN, 2).await;
    }
    leap(Duration::from_mins(1)).await;
    assert!(matches!(feedback(&cxone).await, Err(CxoneError::RateLimited { .. })));
    assert_eq!(fake.asked(TOKEN).len(), 2);
}

#[tokio::test]
async fn refused_credentials_are_not_sent_again_and_again() {
    let fake = Fake::answering(|_| status(401)).await;
    let cxone = connect(&with_client(&fake.address)).await;
    for _ in 0..5 {
        assert_eq!(cxone.check().await, Err(CxoneError::Unauthorized));
    }
    assert_eq!(fake.asked(TOKEN).len(), 1);
    leap(Duration::from_secs(5)).await;
    assert_eq!(cxone.check().await, Err(CxoneError::Unauthorized));
    assert_eq!(fake.asked(TOKEN).len(), 2);
}

#[tokio::test]
async fn a_search_is_encoded_and_read() {
    let fake = Fake::answering(|asked| match asked.path.as_str() {
        TOKEN => token("t"),
        SEARCH => nothing_found(),
        _ => status(404),
    })
    .await;
    assert_eq!(search(&connect(&with_client(&fake.address)).await).await, Ok(0));
    assert_eq!(fake.asked(SEARCH)[0].query, "q=my+router+blinks+%26+hisses&language=en-US&page=1&pageSize=5");
}
