//! REST: what each answer means, holds, circuits and budgets.

use std::time::Duration;

use earpiece_core::assist::card::Card;
use earpiece_core::secret::Private;
use serde_json::Value;

use super::fake::{Answer, Fake, nothing_found, status, token};
use super::{connect, feedback, interaction, leap, search, shared, with_client};
use crate::settings;
use crate::{CxoneError, Endpoint, Outcome};

const FEEDBACK: &str = "/api/v2/ai/training/feedback";
const SEARCH: &str = "/api/v2/knowledge/articles/search";
const INSIGHTS: &str = "/api/v2/agentassist/insights";

/// A platform whose token endpoint works.
async fn platform(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Fake {
    Fake::answering(move |asked| match asked.path.as_str() {
        "/oauth2/token" => token("t"),
        path => answer(path, asked.turn),
    })
    .await
}

fn card() -> Card {
    Card {
        id: String::from("kb-1"),
        title: Private::new(String::from("Restart")),
        priority: 1,
        score: 0.9,
        citation: String::new(),
        snippet: Private::new(String::from("Hold the button.")),
        interaction_id: interaction(),
    }
}

#[tokio::test]
async fn posts_carry_their_documented_bodies() {
    let fake = platform(|_, _| status(201)).await;
    let cxone = connect(&with_client(&fake.address)).await;
    cxone.post_insights(&[card()]).await.unwrap();
    feedback(&cxone).await.unwrap();
    let insights: Value = serde_json::from_str(&fake.asked(INSIGHTS)[0].body).unwrap();
    assert_eq!((&insights["displayType"], &insights["insights"][0]["id"]), (&"CARD".into(), &"kb-1".into()));
    let said: Value = serde_json::from_str(&fake.asked(FEEDBACK)[0].body).unwrap();
    assert_eq!((&said["interactionId"], &said["insightId"]), (&"700100".into(), &"insight-1".into()));
    assert_eq!(cxone.snapshot().answers(Endpoint::Insights, Outcome::Ok), 1);
}

#[tokio::test]
async fn a_403_is_final_and_names_the_documented_scope() {
    let fake = platform(|_, _| status(403)).await;
    let cxone = connect(&with_client(&fake.address)).await;
    assert_eq!(search(&cxone).await, Err(CxoneError::Forbidden { scope: "knowledge:read" }));
    assert_eq!(feedback(&cxone).await, Err(CxoneError::Forbidden { scope: "ai:training:write" }));
    assert_eq!(cxone.post_insights(&[card()]).await, Err(CxoneError::Forbidden { scope: "agentassist:write" }));
    for path in [SEARCH, FEEDBACK, INSIGHTS] {
        assert_eq!(fake.asked(path).len(), 1, "{path}");
    }
    assert_eq!(fake.asked("/oauth2/token").len(), 1);
}

#[tokio::test]
async fn a_429_shuts_its_endpoint_for_as_long_as_it_says_and_no_other() {
    let fake = platform(|path, turn| match (path, turn) {
        (SEARCH, 0) => status(429).retry_after("60"),
        (SEARCH, _) => nothing_found(),
        _ => status(204),
    })
    .await;
    let cxone = connect(&with_client(&fake.address)).await;
    assert_eq!(search(&cxone).await, Err(CxoneError::RateLimited { retry_after: Duration::from_mins(1) }));
    let error = search(&cxone).await.unwrap_err();
    assert!(error.retry_after().is_some_and(|pause| pause > Duration::from_secs(50)), "{error}");
    assert_eq!(fake.asked(SEARCH).len(), 1);
    feedback(&cxone).await.unwrap();
    let counters = cxone.snapshot();
    assert!(counters.endpoint(Endpoint::Search).is_held_back && !counters.endpoint(Endpoint::Feedback).is_held_back);
    leap(Duration::from_mins(1)).await;
    assert_eq!(search(&cxone).await, Ok(0));
    assert!(!cxone.snapshot().endpoint(Endpoint::Search).is_held_back);
}

#[tokio::test]
async fn a_429_without_a_pause_means_five_seconds_and_no_pause_is_longer_than_an_hour() {
    let fake = platform(|path, _| if path == SEARCH { status(429) } else { status(429).retry_after("999999") }).await;
    let cxone = connect(&with_client(&fake.address)).await;
    assert_eq!(search(&cxone).await, Err(CxoneError::RateLimited { retry_after: Duration::from_secs(5) }));
    assert_eq!(feedback(&cxone).await, Err(CxoneError::RateLimited { retry_after: Duration::from_hours(1) }));
}

#[tokio::test]
async fn failures_of_a_host_open_its_circuit_and_a_probe_closes_it() {
    let is_well = shared(false);
    let health = std::sync::Arc::clone(&is_well);
    let fake = platform(move |_, _| if *health.lock().unwrap() { status(204) } else { status(503) }).await;
    let cxone = connect(&with_client(&fake.address)).await;
    for _ in 0..5 {
        assert_eq!(feedback(&cxone).await, Err(CxoneError::Unavailable { retry_after: None }));
    }
    assert!(matches!(feedback(&cxone).await, Err(CxoneError::CircuitOpen { .. })));
    assert!(matches!(cxone.post_insights(&[card()]).await, Err(CxoneError::CircuitOpen { .. })));
    assert_eq!(fake.asked(FEEDBACK).len(), 5);
    assert!(cxone.snapshot().endpoint(Endpoint::Feedback).is_circuit_open);
    *is_well.lock().unwrap() = true;
    leap(Duration::from_secs(5)).await;
    feedback(&cxone).await.unwrap();
    cxone.post_insights(&[card()]).await.unwrap();
    assert!(!cxone.snapshot().endpoint(Endpoint::Feedback).is_circuit_open);
}

#[tokio::test]
async fn a_search_that_failed_in_passing_is_tried_again_and_a_post_is_not() {
    let fake = platform(|path, turn| match (path, turn) {
        (SEARCH, 0 | 1) => status(502),
        (SEARCH, _) => nothing_found(),
        _ => status(502),
    })
    .await;
    let cxone = connect(&with_client(&fake.address)).await;
    assert_eq!(search(&cxone).await, Ok(0));
    assert_eq!(fake.asked(SEARCH).len(), 3);
    assert!(feedback(&cxone).await.unwrap_err().is_transient());
    assert_eq!(fake.asked(FEEDBACK).len(), 1);
}

#[tokio::test]
async fn the_pause_that_a_503_asks_for_is_passed_on() {
    let fake = platform(|_, _| status(503).retry_after("9")).await;
    let expected = CxoneError::Unavailable { retry_after: Some(Duration::from_secs(9)) };
    assert_eq!(search(&connect(&with_client(&fake.address)).await).await, Err(expected));
    assert_eq!(fake.asked(SEARCH).len(), 1);
}

#[tokio::test]
async fn what_cxone_does_not_want_is_refused_once_and_for_all() {
    let fake = platform(|_, turn| status([400, 404, 409, 302][turn])).await;
    let cxone = connect(&with_client(&fake.address)).await;
    for expected in [400, 404, 409, 302] {
        let error = feedback(&cxone).await.unwrap_err();
        assert_eq!(error, CxoneError::Refused { status: expected });
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn an_answer_that_is_no_page_is_unreadable() {
    let fake = platform(|_, _| status(200)).await;
    assert_eq!(search(&connect(&with_client(&fake.address)).await).await, Err(CxoneError::Unreadable));
}

#[tokio::test]
async fn a_host_that_does_not_answer_in_time_is_unavailable() {
    let fake = Fake::waiting(|asked| async move {
        if asked.path == "/oauth2/token" { token("t") } else { std::future::pending().await }
    })
    .await;
    let cxone = connect(&with_client(&fake.address).with(&settings::TIMEOUT, "100ms")).await;
    assert_eq!(feedback(&cxone).await, Err(CxoneError::Unavailable { retry_after: None }));
    assert_eq!(cxone.snapshot().answers(Endpoint::Feedback, Outcome::Unreachable), 1);
}

#[tokio::test]
async fn the_budget_of_an_endpoint_spreads_requests_and_sends_away_what_would_wait_too_long() {
    let fake = platform(|path, _| if path == SEARCH { nothing_found() } else { status(204) }).await;
    let cxone = connect(&with_client(&fake.address).with(&settings::SEARCH_RATE, "2")).await;
    cxone.check().await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let cxone = cxone.clone();
        callers.spawn(async move { search(&cxone).await });
    }
    let outcomes = super::within_patience(callers.join_all()).await;
    let limited = outcomes.iter().filter(|outcome| matches!(outcome, Err(CxoneError::RateLimited { .. }))).count();
    // Two at once, two more within a second.
    assert!((15..=18).contains(&limited), "{limited}");
    assert_eq!(fake.asked(SEARCH).len(), 20 - limited);
    feedback(&cxone).await.unwrap();
}
