//! Searches cost CXone something, and CXone says when it is enough.

use std::time::{Duration, Instant};

use earpiece_simulator::platform::{Client, Fault, FaultKind, Kind, On, PlatformSettings};
use serde_json::json;

use super::stage::{CLIENT_ID, CLIENT_SECRET, Stage, WITHIN, cards_in, ids};

#[tokio::test(flavor = "multi_thread")]
async fn equal_questions_of_twenty_interactions_are_one_request() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    // So that all of them ask while the first request is under way.
    stage.platform.fault(Fault::once(On::Search, FaultKind::Slow).delay_ms(500)).unwrap();
    let questions = ["Where is my parcel?", "where is my PARCEL", " where  is my parcel… "];
    for (number, question) in (1..=20).zip(questions.iter().cycle()) {
        stage.asks(&number.to_string(), question).await;
    }
    let posts = stage.taken(Kind::Insight, 20).await;
    assert!(posts.iter().all(|post| ids(&cards_in(post)) == ["parcel"]));
    assert_eq!(stage.searches().len(), 1);
    assert_eq!(task.counted("earpiece_knowledge_searches_total{outcome=\"cached\"}"), Some(19));
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_429s_on_searches_delays_only_what_is_not_known() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    stage.asks("before", "the modem").await;
    stage.cards_of("before").await;

    let storm = Duration::from_millis(2500);
    let storm_ms = u64::try_from(storm.as_millis()).unwrap();
    let began_at = Instant::now();
    let fault = Fault::once(On::Search, FaultKind::TooManyRequests).for_ms(storm_ms).retry_after_s(1);
    stage.platform.fault(fault).unwrap();
    // More of them than there are lookups at a time.
    for number in 1..=40 {
        stage.asks(&format!("waits-{number}"), &format!("a question about parcel {}", "x".repeat(number))).await;
    }
    let limited = |received: &earpiece_simulator::platform::Received| {
        received.of(Kind::Search).any(|record| record.status == 429).then_some(())
    };
    stage.platform.wait_for(WITHIN, limited).await.expect("the storm is felt");
    // What is known goes on, and judgements do.
    stage.asks("known", "The modem!").await;
    assert_eq!(ids(&stage.cards_of("known").await), ["modem"]);
    stage
        .event(&json!({
            "type": "INSIGHT_ACCEPTED", "interactionId": "known", "insightId": "modem", "action": "ACCEPTED"
        }))
        .await;
    stage.taken(Kind::Feedback, 1).await;
    assert!(began_at.elapsed() < storm, "all that happened in the storm");
    // Of what waits only the newest question is asked.
    stage.asks("waits-1", "forget it, the modem is broken").await;

    stage.taken(Kind::Insight, 42).await;
    assert!(began_at.elapsed() >= storm);
    assert_eq!(ids(&stage.cards_of("waits-1").await), ["modem"]);
    assert_eq!(ids(&stage.cards_of("waits-40").await), ["parcel"]);
    let searches = stage.searches();
    let refused = searches.iter().filter(|(_, status)| *status == 429).count();
    // A hold of a second each, and as many as are under way when one ends.
    assert!((1..=64).contains(&refused), "{refused} requests were refused");
    let answered: Vec<_> = searches.iter().filter(|(_, status)| *status == 200).collect();
    assert_eq!(answered.len(), 41, "each question once, and the one before the storm");
    stage.no_violations();
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_that_hang_hold_up_neither_the_reader_nor_what_is_known() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    stage.asks("before", "the modem").await;
    stage.cards_of("before").await;
    stage.platform.fault(Fault::once(On::Search, FaultKind::Slow).times(10).delay_ms(3000)).unwrap();
    let began_at = Instant::now();
    for number in 1..=10 {
        stage.asks(&format!("slow-{number}"), &format!("parcel {}", "x".repeat(number))).await;
    }
    stage.asks("known", "the modem").await;
    assert_eq!(ids(&stage.cards_of("known").await), ["modem"]);
    assert!(began_at.elapsed() < Duration::from_secs(3));
    for number in 1..=10 {
        assert_eq!(ids(&stage.cards_of(&format!("slow-{number}")).await), ["parcel"]);
    }
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_fails_for_a_while_is_made_again() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    stage.platform.fault(Fault::once(On::Search, FaultKind::Unavailable).times(2).retry_after_s(1)).unwrap();
    stage.asks("1", "the modem").await;
    assert_eq!(ids(&stage.cards_of("1").await), ["modem"]);
    assert_eq!(stage.searches().iter().filter(|(_, status)| *status == 503).count(), 2);
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_is_forbidden_is_not_hammered_and_holds_up_nothing_else() {
    let client = Client::new(CLIENT_ID, CLIENT_SECRET).with_scopes(&["agentassist:read", "ai:training:write"]);
    let stage = Stage::with(PlatformSettings { clients: vec![client], ..PlatformSettings::default() }).await;
    let task = stage.task().await;
    for number in 1..=20 {
        stage.asks(&number.to_string(), &format!("parcel {}", "x".repeat(number))).await;
    }
    let refused = |received: &earpiece_simulator::platform::Received| {
        received.of(Kind::Search).any(|record| record.status == 403).then_some(())
    };
    stage.platform.wait_for(WITHIN, refused).await.expect("it is tried");
    let accepted = json!({
        "type": "INSIGHT_ACCEPTED", "interactionId": "1", "insightId": "parcel", "action": "ACCEPTED"
    });
    stage.event(&accepted).await;
    stage.taken(Kind::Feedback, 1).await;
    // As many as were under way when the first answer came.
    assert!(stage.searches().len() <= 16, "{}", stage.searches().len());
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_knows_makes_no_card_and_is_not_asked_twice() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    stage.asks("1", "xyzzy").await;
    stage.asks("2", "xyzzy").await;
    stage.asks("3", "the modem").await;
    stage.cards_of("3").await;
    assert_eq!(stage.taken(Kind::Insight, 1).await.len(), 1);
    assert_eq!(stage.searches().iter().filter(|(query, _)| query.contains("xyzzy")).count(), 1);
    task.stop().await;
}
