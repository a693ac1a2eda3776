use super::super::{AccessKey, Client as OauthClient};
use super::*;

const BASIC: Option<(&str, &str)> = Some((CLIENT_ID, CLIENT_SECRET));

#[tokio::test]
async fn client_credentials_are_taken_from_the_form_and_from_basic_at_both_paths() {
    let platform =
        platform(PlatformSettings { token_life: Duration::from_mins(5), ..PlatformSettings::default() }).await;
    let form = format!("grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}");
    for (path, basic, form) in [
        ("/oauth2/token", None, form.as_str()),
        ("/oauth/token", BASIC, "grant_type=client_credentials&scope=knowledge:read+agentassist:write"),
    ] {
        let got = ask_token(&platform, path, basic, form).await.unwrap();
        assert_eq!((got.status, got.header("cache-control")), (200, Some("no-store")));
        let body = got.json();
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(300)));
        let found = get(&platform, &format!("{SEARCH}?q=bill"), body["access_token"].as_str().unwrap()).await;
        assert_eq!(found.status, 200);
    }
    assert_eq!(platform.tally().tokens, 2);
    let records = platform.received_of(Kind::Token);
    assert!(records.iter().all(|record| record.id.as_deref() == Some(CLIENT_ID)));
    assert!(records.iter().all(|record| !record.body().unwrap().contains(CLIENT_SECRET)));
}

#[tokio::test]
async fn a_secret_with_signs_in_it_is_form_encoded_inside_basic() {
    let clients = vec![OauthClient::new("a client", "p&s=%w+d")];
    let platform = platform(PlatformSettings { clients, ..PlatformSettings::default() }).await;
    let basic = Some(("a+client", "p%26s%3D%25w%2Bd"));
    let got = ask_token(&platform, "/oauth2/token", basic, "grant_type=client_credentials").await.unwrap();
    assert_eq!(got.status, 200);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_request_is_said_in_the_words_of_the_standard() {
    let clients = vec![OauthClient::new(CLIENT_ID, CLIENT_SECRET).with_scopes(&["knowledge:read"])];
    let platform = platform(PlatformSettings { clients, ..PlatformSettings::default() }).await;
    for (basic, form, status, error) in [
        (BASIC, "", 400, "invalid_request"),
        (BASIC, "grant_type=implicit", 400, "unsupported_grant_type"),
        (None, "grant_type=client_credentials", 401, "invalid_client"),
        (Some((CLIENT_ID, "wrong")), "grant_type=client_credentials", 401, "invalid_client"),
        (Some(("who", CLIENT_SECRET)), "grant_type=client_credentials", 401, "invalid_client"),
        (BASIC, "grant_type=client_credentials&scope=agentassist:write", 400, "invalid_scope"),
        (BASIC, "grant_type=password&username=earpiece", 400, "invalid_request"),
        (BASIC, "grant_type=password&username=earpiece&password=wrong", 400, "invalid_grant"),
    ] {
        let got = ask_token(&platform, "/oauth2/token", basic, form).await.unwrap();
        assert_eq!((got.status, &got.json()["error"]), (status, &json!(error)), "{form}");
        assert_eq!(got.header("www-authenticate").is_some(), status == 401);
    }
    assert_eq!(ask(&platform, "GET", "/oauth2/token", &[], "").await.unwrap().status, 405);
    assert_eq!(ask(&platform, "POST", "/oauth2/token", &[], "x").await.unwrap().status, 400);
}

#[tokio::test]
async fn access_keys_are_taken_as_a_password_and_as_json() {
    let access_keys = vec![AccessKey::new("key", "shh")];
    let platform = platform(PlatformSettings { access_keys, ..PlatformSettings::default() }).await;
    let form = "grant_type=password&username=key&password=shh";
    assert_eq!(ask_token(&platform, "/oauth/token", BASIC, form).await.unwrap().status, 200);
    assert_eq!(ask_token(&platform, "/oauth/token", None, form).await.unwrap().status, 401, "without its client");

    let path = "/authentication/v1/token/access-key";
    for (body, status) in [
        (json!({ "accessKeyId": "key", "accessKeySecret": "shh" }), 200),
        (json!({ "accessKeyId": "key", "accessKeySecret": "hush" }), 401),
        (json!({ "accessKeyId": "key" }), 400),
    ] {
        let got = post(&platform, path, "", &body).await.unwrap();
        assert_eq!(got.status, status);
        assert_eq!(got.json()["access_token"].is_string(), status == 200);
    }
}

#[tokio::test]
async fn a_token_ends_with_its_life_and_with_its_revocation() {
    let settings = PlatformSettings { token_life: Duration::ZERO, ..PlatformSettings::default() };
    let short = platform(settings).await;
    let expired = token(&short, "").await;
    assert_eq!(get(&short, &format!("{SEARCH}?q=bill"), &expired).await.status, 401);

    let platform = platform(PlatformSettings::default()).await;
    let revoked = token(&platform, "").await;
    assert_eq!(get(&platform, &format!("{SEARCH}?q=bill"), &revoked).await.status, 200);
    assert_eq!(platform.revoke(), 1);
    let got = get(&platform, &format!("{SEARCH}?q=bill"), &revoked).await;
    assert_eq!((got.status, got.header("www-authenticate").unwrap().contains("invalid_token")), (401, true));
}

#[tokio::test]
async fn discovery_leads_to_the_token_endpoint_and_the_api() {
    let platform = platform(PlatformSettings::default()).await;
    let openid = ask(&platform, "GET", "/.well-known/openid-configuration", &[], "").await.unwrap().json();
    assert_eq!(openid["issuer"], platform.url());
    assert_eq!(openid["token_endpoint"], format!("{}/oauth2/token", platform.url()));
    let path = "/.well-known/cxone-configuration";
    let found = ask(&platform, "GET", &format!("{path}?tenantId=earpiece-tenant"), &[], "").await.unwrap();
    assert_eq!(found.json()["api_endpoint"], platform.url());
    assert_eq!(ask(&platform, "GET", &format!("{path}?tenantId=other"), &[], "").await.unwrap().status, 404);
    assert_eq!(ask(&platform, "GET", path, &[], "").await.unwrap().status, 400);
    let statuses: Vec<_> = platform.received_of(Kind::Discovery).iter().map(|record| record.status).collect();
    assert_eq!(statuses, [200, 200, 404, 400]);
}
