//! The client against the simulator of CXone's platform: the same shapes as everybody else's tests.

use std::time::Duration;

use earpiece_core::assist::card::{CardKind, CardMetadata, PopupCard};
use earpiece_core::secret::Private;
use earpiece_simulator::platform::settings::{CLIENT_ID, CLIENT_SECRET, TENANT};
use earpiece_simulator::platform::{
    Client, Fault, FaultKind, Kind, On, Platform, PlatformSettings, To, Uplink as Theirs,
};
use serde_json::json;

use super::{TestEnv, connect, environment, feedback, interaction, search, within_patience};
use crate::settings;
use crate::{Closed, CxoneError, Uplink};

async fn platform() -> (Platform, TestEnv) {
    let platform = Platform::bind("127.0.0.1:0", PlatformSettings::default()).await.unwrap();
    let env = client_of(&platform);
    (platform, env)
}

fn client_of(platform: &Platform) -> TestEnv {
    environment(&platform.address().to_string())
        .with(&settings::CLIENT_ID, CLIENT_ID)
        .with(&settings::CLIENT_SECRET, CLIENT_SECRET)
}

fn popup() -> PopupCard {
    PopupCard {
        card_id: String::from("earpiece-angry-0123456789abcdef"),
        kind: CardKind::Warning,
        title: String::from("Angry caller"),
        content: Private::new(String::from("Sentiment is -0.8.")),
        metadata: CardMetadata {
            source: CardMetadata::SOURCE.to_owned(),
            timestamp: String::from("2026-01-02T03:04:05.678Z"),
        },
    }
}

#[tokio::test]
async fn every_request_has_the_documented_shape() {
    let (platform, env) = platform().await;
    let cxone = connect(&env).await;
    assert!(search(&cxone).await.unwrap() > 0);
    feedback(&cxone).await.unwrap();
    cxone.post_card(&interaction(), &popup()).await.unwrap();
    let tally = platform.tally();
    assert_eq!((tally.searches, tally.feedback, tally.cards, tally.tokens), (1, 1, 1, 1));
    assert_eq!(tally.violations, 0, "{:?}", platform.received_of(Kind::Violation));
}

#[tokio::test]
async fn access_keys_and_discovery_are_understood_in_every_form() {
    let (platform, client) = platform().await;
    let keys =
        |env: TestEnv| env.with(&settings::ACCESS_KEY_ID, CLIENT_ID).with(&settings::ACCESS_KEY_SECRET, CLIENT_SECRET);
    let address = platform.address().to_string();
    let discovered = client_of(&platform)
        .with(&settings::API, "http://127.0.0.1:1")
        .with(&settings::ISSUER, platform.url())
        .with(&settings::TENANT, TENANT);
    for env in [keys(environment(&address)), keys(client_of(&platform)), discovered, client] {
        feedback(&connect(&env).await).await.unwrap();
    }
    assert_eq!(platform.tally().violations, 0, "{:?}", platform.received_of(Kind::Violation));
}

#[tokio::test]
async fn a_scope_that_is_missing_is_named() {
    let client = Client::new(CLIENT_ID, CLIENT_SECRET).with_scopes(&["agentassist:write"]);
    let settings = PlatformSettings { clients: vec![client], ..PlatformSettings::default() };
    let platform = Platform::bind("127.0.0.1:0", settings).await.unwrap();
    let cxone = connect(&client_of(&platform).with(&settings::SCOPE, "agentassist:write")).await;
    cxone.post_card(&interaction(), &popup()).await.unwrap();
    assert_eq!(search(&cxone).await, Err(CxoneError::Forbidden { scope: "knowledge:read" }));
    let opened = cxone.open(Uplink::Insights).await.err();
    assert_eq!(opened, Some(CxoneError::Forbidden { scope: "agentassist:read" }));
}

#[tokio::test]
async fn a_token_revoked_in_mid_stream_costs_one_more_try() {
    let (platform, env) = platform().await;
    let cxone = connect(&env).await;
    feedback(&cxone).await.unwrap();
    platform.revoke();
    feedback(&cxone).await.unwrap();
    platform.fault(Fault::once(On::Cards, FaultKind::Revoke)).unwrap();
    cxone.post_card(&interaction(), &popup()).await.unwrap();
    assert_eq!(platform.tally().tokens, 3);
}

#[tokio::test]
async fn every_socket_opens_and_hears() {
    let (platform, env) = platform().await;
    let cxone = connect(&env).await;
    for (ours, theirs) in [
        (Uplink::Suggestions, Theirs::Suggestions),
        (Uplink::Insights, Theirs::Insights),
        (Uplink::Interactions, Theirs::Interactions),
    ] {
        let mut socket = cxone.open(ours).await.unwrap();
        assert!(platform.wait_for_socket(theirs, Duration::from_secs(5)).await);
        let event = json!({ "type": "hello" });
        assert_eq!(platform.send_event(theirs, &event, To::All).await, 1);
        assert_eq!(within_patience(socket.next()).await.unwrap().reveal(), &event.to_string());
        assert!(socket.close().await, "the platform answers the close");
    }
    assert_eq!(platform.tally().violations, 0, "{:?}", platform.received_of(Kind::Violation));
}

#[tokio::test]
async fn auth_failure_stops_at_the_first_attempt() {
    let (platform, env) = platform().await;
    platform.fault(Fault::once(On::Suggestions, FaultKind::AuthFailure)).unwrap();
    let cxone = connect(&env).await;
    assert_eq!(cxone.open(Uplink::Suggestions).await.err(), Some(CxoneError::Unauthorized));
    assert_eq!(platform.received_of(Kind::Auth).len(), 1);
}

#[tokio::test]
async fn sockets_that_break_say_how() {
    let (platform, env) = platform().await;
    let cxone = connect(&env.with(&settings::PING, "50ms").with(&settings::PONG, "200ms")).await;
    for (kind, code) in [
        (FaultKind::Close1011, Some(1011)),
        (FaultKind::Abort, Some(1006)),
        (FaultKind::HalfClose, Some(1006)),
        (FaultKind::Deaf, None),
    ] {
        let mut socket = cxone.open(Uplink::Interactions).await.unwrap();
        platform.fault(Fault::once(On::InteractionsStream, kind)).unwrap();
        assert_eq!(within_patience(socket.next()).await.err(), Some(Closed { code }), "{kind:?}");
    }
}
