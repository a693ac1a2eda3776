use tokio::time::Instant;

use super::super::To;
use super::*;

async fn search(platform: &Platform, token: &str) -> Option<Got> {
    let authorization = format!("Bearer {token}");
    ask(platform, "GET", &format!("{SEARCH}?q=bill"), &[("Authorization", &authorization)], "").await
}

#[tokio::test]
async fn requests_are_refused_with_429_and_503_as_often_as_told() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    let bodies = [
        (On::Cards, CARDS, card("c")),
        (On::Insights, INSIGHTS, insights(&["a"])),
        (On::Feedback, FEEDBACK, feedback()),
    ];
    for (on, target, body) in bodies {
        platform.fault(Fault::once(on, FaultKind::TooManyRequests).retry_after_s(7).times(2)).unwrap();
        platform.fault(Fault::once(on, FaultKind::Unavailable)).unwrap();
        let mut answers = Vec::new();
        for _ in 0..4 {
            let got = post(&platform, target, &token, &body).await.unwrap();
            answers.push((got.status, got.header("retry-after").map(str::to_owned)));
        }
        let seven = Some("7".to_owned());
        assert_eq!(answers[..3], [(429, seven.clone()), (429, seven), (503, None)]);
        assert!((200..300).contains(&answers[3].0), "{target}");
    }
    assert_eq!(platform.tally().cards, 1, "what was refused did not reach the desktop");
    let named = platform.received_of(Kind::Card).iter().filter(|record| record.id.as_deref() == Some("c")).count();
    assert_eq!(named, 4, "and is known all the same");
}

#[tokio::test]
async fn a_storm_lasts_as_long_as_told() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    let begun = Instant::now();
    platform.fault(Fault::once(On::Search, FaultKind::TooManyRequests).for_ms(200)).unwrap();
    let mut refused = 0;
    while search(&platform, &token).await.unwrap().status == 429 {
        refused += 1;
    }
    assert!(refused > 0 && begun.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_token_request_can_be_refused_slow_and_cut() {
    let platform = platform(PlatformSettings::default()).await;
    let form = format!("grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}");
    for (kind, expected) in [
        (FaultKind::TooManyRequests, Some(429)),
        (FaultKind::Unavailable, Some(503)),
        (FaultKind::AuthFailure, Some(401)),
        (FaultKind::Slow, Some(200)),
        (FaultKind::Abort, None),
    ] {
        platform.fault(Fault::once(On::Token, kind).delay_ms(50)).unwrap();
        let begun = Instant::now();
        let got = ask_token(&platform, "/oauth2/token", None, &form).await;
        assert_eq!(got.map(|got| got.status), expected, "{kind:?}");
        assert!(kind != FaultKind::Slow || begun.elapsed() >= Duration::from_millis(50));
    }
}

#[tokio::test]
async fn an_answer_that_is_slow_cut_or_missing_comes_after_the_work_was_done() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    for kind in [FaultKind::Slow, FaultKind::HalfClose, FaultKind::Abort] {
        platform.fault(Fault::once(On::Cards, kind).delay_ms(50)).unwrap();
        let got = post(&platform, CARDS, &token, &card("c")).await;
        match kind {
            FaultKind::Slow => assert!(got.unwrap().is_whole()),
            FaultKind::HalfClose => {
                let got = got.unwrap();
                assert!(got.status == 201 && !got.is_whole() && !got.body.is_empty(), "{got:?}");
            }
            _ => assert!(got.is_none()),
        }
    }
    assert_eq!((platform.tally().cards, platform.tally().cards_repeated), (1, 2));
}

#[tokio::test]
async fn a_token_can_be_refused_once_and_revoked_in_mid_stream() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    platform.fault(Fault::once(On::Search, FaultKind::AuthFailure)).unwrap();
    assert_eq!(search(&platform, &token).await.unwrap().status, 401);
    assert_eq!(search(&platform, &token).await.unwrap().status, 200, "it was good all the time");
    platform.fault(Fault::once(On::Search, FaultKind::Revoke)).unwrap();
    assert_eq!(search(&platform, &token).await.unwrap().status, 401);
    assert_eq!(search(&platform, &token).await.unwrap().status, 401, "it is gone");

    for (on, uplink) in [(On::InsightsStream, Uplink::Insights), (On::InteractionsStream, Uplink::Interactions)] {
        let mut client = Client::stream(&platform, uplink).await;
        platform.fault(Fault::once(on, FaultKind::Revoke)).unwrap();
        assert_eq!(client.closed().await, Some(1008));
    }
}

#[tokio::test]
async fn upgrades_and_authorisation_can_be_refused() {
    let platform = platform(PlatformSettings::default()).await;
    let query = format!("?access_token={}", token(&platform, "").await);
    for (on, uplink) in [(On::InsightsStream, Uplink::Insights), (On::InteractionsStream, Uplink::Interactions)] {
        for (kind, status) in
            [(FaultKind::TooManyRequests, 429), (FaultKind::Unavailable, 503), (FaultKind::AuthFailure, 401)]
        {
            platform.fault(Fault::once(on, kind)).unwrap();
            assert_eq!(Client::dial(&platform, uplink, &query).await.err(), Some(status));
        }
        assert!(Client::dial(&platform, uplink, &query).await.is_ok());
    }
    platform.fault(Fault::once(On::Suggestions, FaultKind::Unavailable)).unwrap();
    assert_eq!(Client::dial(&platform, Uplink::Suggestions, "").await.err(), Some(503));
    platform.fault(Fault::once(On::Suggestions, FaultKind::AuthFailure)).unwrap();
    let mut client = Client::authenticate(&platform, &token(&platform, "").await).await;
    assert_eq!(client.next().await["type"], "auth.failure");
    assert_eq!(client.closed().await, Some(1008));
    Client::suggestions(&platform).await;
}

#[tokio::test]
async fn open_sockets_are_closed_with_1011_or_dropped() {
    let platform = platform(PlatformSettings::default()).await;
    for (kind, code) in [(FaultKind::Close1011, Some(1011)), (FaultKind::Abort, None)] {
        for (on, uplink) in [(On::InsightsStream, Uplink::Insights), (On::InteractionsStream, Uplink::Interactions)] {
            let mut client = Client::stream(&platform, uplink).await;
            platform.fault(Fault::once(on, kind)).unwrap();
            assert_eq!(client.closed().await, code, "{uplink:?}");
        }
        let mut client = Client::suggestions(&platform).await;
        assert!(platform.wait_for_socket(Uplink::Suggestions, SOON).await);
        platform.fault(Fault::once(On::Suggestions, kind)).unwrap();
        assert_eq!(client.closed().await, code);
        drop(client);
        platform.wait_for(SOON, |received| received.sockets().is_empty().then_some(())).await.unwrap();
    }
}

#[tokio::test]
async fn a_fault_that_finds_no_socket_waits_and_the_newest_is_hit_first() {
    let platform = platform(PlatformSettings::default()).await;
    platform.fault(Fault::once(On::InsightsStream, FaultKind::Close1011)).unwrap();
    let query = format!("?access_token={}", token(&platform, "").await);
    let mut client = Client::dial(&platform, Uplink::Insights, &query).await.unwrap();
    assert_eq!(client.closed().await, Some(1011));

    let mut older = Client::stream(&platform, Uplink::Insights).await;
    let mut newer = Client::stream(&platform, Uplink::Insights).await;
    platform.fault(Fault::once(On::InsightsStream, FaultKind::Close1011)).unwrap();
    assert_eq!(newer.closed().await, Some(1011));
    platform.send_event(Uplink::Insights, &json!({ "type": "X" }), To::All).await;
    assert_eq!(older.next().await["type"], "X");
}

#[tokio::test]
async fn a_half_closed_socket_says_nothing_more_and_still_hears() {
    let platform = platform(PlatformSettings::default()).await;
    let (mut sink, mut stream) = Client::suggestions(&platform).await.0.split();
    assert!(platform.wait_for_socket(Uplink::Suggestions, SOON).await);
    platform.fault(Fault::once(On::Suggestions, FaultKind::HalfClose)).unwrap();
    assert!(timeout(SOON, stream.next()).await.unwrap().is_none(), "the end, without a close frame");
    sink.send(Message::text(suggest("i1", "s1").to_string())).await.unwrap();
    let heard = platform.wait_for(SOON, |received| (received.tally().suggestions == 1).then_some(())).await;
    assert!(heard.is_some());
}

#[tokio::test]
async fn a_deaf_socket_stays_open_and_does_nothing() {
    let platform = platform(PlatformSettings::default()).await;
    let mut client = Client::stream(&platform, Uplink::Insights).await;
    platform.fault(Fault::once(On::InsightsStream, FaultKind::Deaf)).unwrap();
    platform.wait_for(SOON, |received| received.sockets().is_empty().then_some(())).await.unwrap();
    assert_eq!(platform.send_event(Uplink::Insights, &json!({}), To::All).await, 0);
    client.0.send(Message::ping("are you there")).await.unwrap();
    assert!(timeout(Duration::from_millis(100), client.0.next()).await.is_err(), "neither a pong nor an end");
}

#[tokio::test]
async fn events_are_duplicated_reordered_and_delayed() {
    let platform = platform(PlatformSettings::default()).await;
    let mut client = Client::stream(&platform, Uplink::Interactions).await;
    platform.fault(Fault::once(On::InteractionsStream, FaultKind::Duplicate)).unwrap();
    platform.fault(Fault::once(On::InteractionsStream, FaultKind::Reorder).delay_ms(10_000)).unwrap();
    for nth in 1..=4 {
        platform.send_event(Uplink::Interactions, &json!({ "nth": nth }), To::All).await;
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(client.next().await["nth"].as_u64().unwrap());
    }
    assert_eq!(order, [1, 1, 3, 2, 4]);

    platform.fault(Fault::once(On::InteractionsStream, FaultKind::Reorder).delay_ms(20)).unwrap();
    platform.send_event(Uplink::Interactions, &json!({ "nth": 5 }), To::All).await;
    assert_eq!(client.next().await["nth"], 5, "one that nothing overtakes comes all the same");

    platform.fault(Fault::once(On::InteractionsStream, FaultKind::Slow).delay_ms(50)).unwrap();
    let begun = Instant::now();
    platform.send_event(Uplink::Interactions, &json!({ "nth": 6 }), To::All).await;
    client.next().await;
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn acknowledgements_can_come_twice() {
    let platform = platform(PlatformSettings::default()).await;
    let mut client = Client::suggestions(&platform).await;
    platform.fault(Fault::once(On::Suggestions, FaultKind::Duplicate)).unwrap();
    client.say(&suggest("i1", "s1")).await;
    let (first, second) = (client.next().await, client.next().await);
    assert_eq!((first["type"].as_str(), first == second), (Some("agentassist.ack"), true));
}
