//! When keys are fetched, and what holds while they cannot be.

use tokio::time::{Instant, advance};

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

fn set_of(keys: &[&SigningKey]) -> String {
    key_set(keys.iter().map(|key| key.jwk.clone())).to_string()
}

fn token_by(key: &SigningKey) -> String {
    let message = message(&json!({"alg": "ES256", "kid": key.kid}), &claims(&json!({})));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &es_key(key), Algorithm::ES256).unwrap();
    format!("{message}.{signature}")
}

fn key() -> SigningKey {
    SigningKey::generate(NOW_S).unwrap()
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_once_in_ten_minutes_however_many_ask_at_once() {
    let issuer = Issuer::answering(set_of(&[&ES]));
    let guard = issuer.guard();
    let token = token_by(&ES);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (guard, token) = (guard.clone(), token.clone());
        calls.spawn(async move { judged(&guard, &token).await.is_ok() });
    }
    assert!(calls.join_all().await.into_iter().all(|is_accepted| is_accepted));
    assert_eq!(issuer.asked(), 1);
    advance(9 * MINUTE + Duration::from_secs(59)).await;
    assert!(judged(&guard, &token).await.is_ok());
    assert_eq!(issuer.asked(), 1);
    advance(Duration::from_secs(1)).await;
    assert!(judged(&guard, &token).await.is_ok());
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_warm_guard_has_its_keys_before_the_first_request() {
    let issuer = Issuer::answering(set_of(&[&ES]));
    let guard = issuer.guard();
    guard.warm().await;
    guard.warm().await;
    issuer.hangs();
    assert!(judged(&guard, &token_by(&ES)).await.is_ok());
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_at_once_and_by_everybody_who_brings_it() {
    let (old, new) = (key(), key());
    let issuer = Issuer::answering(set_of(&[]));
    let guard = issuer.guard();
    guard.warm().await;
    issuer.answers(set_of(&[&old]));
    assert!(judged(&guard, &token_by(&old)).await.is_ok(), "the first key of all");
    advance(Duration::from_secs(30)).await;
    issuer.answers(set_of(&[&new, &old]));
    let calls = (0..20).map(|_| {
        let (guard, token) = (guard.clone(), token_by(&new));
        tokio::spawn(async move { judged(&guard, &token).await.is_ok() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap());
    }
    assert!(judged(&guard, &token_by(&old)).await.is_ok());
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_lead_to_one_fetch_in_half_a_minute() {
    let issuer = Issuer::answering(set_of(&[&ES]));
    let guard = issuer.guard();
    for _ in 0..10 {
        assert_eq!(judged(&guard, &token_by(&key())).await, Err(Refusal::UnknownKey));
    }
    assert_eq!(issuer.asked(), 2, "one because there were none, one because of the name");
    advance(Duration::from_secs(29)).await;
    assert_eq!(judged(&guard, &token_by(&key())).await, Err(Refusal::UnknownKey));
    assert_eq!(issuer.asked(), 2);
    advance(Duration::from_secs(1)).await;
    assert_eq!(judged(&guard, &token_by(&key())).await, Err(Refusal::UnknownKey));
    assert_eq!(issuer.asked(), 3);
    assert!(judged(&guard, &token_by(&ES)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_taken_away_is_not_accepted_any_more() {
    let (old, new) = (key(), key());
    let issuer = Issuer::answering(set_of(&[&old, &new]));
    let guard = issuer.guard();
    assert!(judged(&guard, &token_by(&old)).await.is_ok());
    issuer.answers(set_of(&[&new]));
    advance(10 * MINUTE).await;
    assert_eq!(judged(&guard, &token_by(&old)).await, Err(Refusal::UnknownKey));
}

#[tokio::test(start_paused = true)]
async fn old_keys_hold_for_a_day_while_the_issuer_is_away_and_no_longer() {
    let issuer = Issuer::answering(set_of(&[&ES]));
    let guard = issuer.guard();
    let token = token_by(&ES);
    guard.warm().await;
    issuer.fails();
    advance(10 * MINUTE).await;
    for _ in 0..10 {
        assert!(judged(&guard, &token).await.is_ok());
    }
    assert_eq!(issuer.asked(), 2, "one failure holds for half a minute");
    advance(Duration::from_secs(30)).await;
    assert!(judged(&guard, &token).await.is_ok());
    assert_eq!(issuer.asked(), 3);
    assert_eq!(judged(&guard, &token_by(&key())).await, Err(Refusal::KeysUnavailable), "it may be a new key");
    advance((24 * 60 - 11) * MINUTE).await;
    assert!(judged(&guard, &token).await.is_ok());
    advance(MINUTE).await;
    assert_eq!(judged(&guard, &token).await, Err(Refusal::KeysUnavailable));
    issuer.answers(set_of(&[&ES]));
    advance(Duration::from_secs(1)).await;
    assert!(judged(&guard, &token).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_keys_a_request_waits_two_seconds_and_not_for_each_other() {
    let issuer = Issuer::default();
    let guard = issuer.guard();
    let begun = Instant::now();
    let token = token_by(&ES);
    let (first, second) = tokio::join!(judged(&guard, &token), judged(&guard, &token));
    assert_eq!((first, second), (Err(Refusal::KeysUnavailable), Err(Refusal::KeysUnavailable)));
    assert_eq!((begun.elapsed().as_secs(), issuer.asked()), (2, 1));
    assert_eq!(judged(&guard, &token).await, Err(Refusal::KeysUnavailable));
    assert_eq!((begun.elapsed().as_secs(), issuer.asked()), (2, 1), "it was asked just now");
    issuer.answers(set_of(&[&ES]));
    advance(Duration::from_secs(1)).await;
    assert!(judged(&guard, &token).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_has_old_keys_waits_little_for_a_fetch_that_hangs_and_not_at_all_for_somebody_elses() {
    let issuer = Issuer::answering(set_of(&[&ES]));
    let guard = issuer.guard();
    let token = token_by(&ES);
    guard.warm().await;
    issuer.hangs();
    advance(10 * MINUTE).await;
    let begun = Instant::now();
    let one = tokio::spawn({
        let (guard, token) = (guard.clone(), token.clone());
        async move { judged(&guard, &token).await }
    });
    tokio::task::yield_now().await;
    assert!(judged(&guard, &token).await.is_ok());
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(one.await.unwrap().is_ok());
    assert_eq!((begun.elapsed().as_millis() / 10, issuer.asked()), (25, 2));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_refuses_no_caller_with_a_short_deadline_while_good_keys_are_held() {
    let issuer = Issuer::answering(set_of(&[&ES]));
    let guard = issuer.guard();
    let token = token_by(&ES);
    guard.warm().await;
    issuer.hangs();
    advance(10 * MINUTE).await;
    for _ in 0..100 {
        let answer = tokio::time::timeout(Duration::from_millis(500), judged(&guard, &token)).await;
        assert!(answer.expect("an answer in time").is_ok());
        advance(Duration::from_secs(1)).await;
    }
    assert!((4..=5).contains(&issuer.asked()), "one in half a minute, and not one per caller: {}", issuer.asked());

    issuer.answers(set_of(&[]));
    // The fetch that is under way gets its time to fail.
    tokio::time::sleep(MINUTE).await;
    assert_eq!(
        judged(&guard, &token).await,
        Err(Refusal::UnknownKey),
        "the source is back, and the key was taken away"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_goes_on_when_the_request_that_began_it_is_given_up() {
    let issuer = Issuer::default();
    issuer.answers_after(Duration::from_secs(1), set_of(&[&ES]));
    let guard = issuer.guard();
    let token = token_by(&ES);
    for _ in 0..2 {
        let given_up = tokio::time::timeout(Duration::from_millis(400), judged(&guard, &token)).await;
        assert!(given_up.is_err());
    }
    assert!(judged(&guard, &token).await.is_ok());
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_fetch_that_hung_and_was_given_up_the_way_is_free_as_soon_as_its_time_is_over() {
    let issuer = Issuer::default();
    let guard = issuer.guard();
    let token = token_by(&ES);
    let given_up = tokio::time::timeout(Duration::from_millis(500), judged(&guard, &token)).await;
    assert!(given_up.is_err());
    issuer.answers(set_of(&[&ES]));
    assert_eq!(judged(&guard, &token).await, Err(Refusal::KeysUnavailable));
    advance(Duration::from_secs(1)).await;
    assert!(judged(&guard, &token).await.is_ok());
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_though_the_request_that_first_brought_it_was_given_up() {
    let (old, new) = (key(), key());
    let issuer = Issuer::answering(set_of(&[&old]));
    let guard = issuer.guard();
    guard.warm().await;

    issuer.answers_after(Duration::from_secs(1), set_of(&[&new, &old]));
    let token = token_by(&new);
    let given_up = tokio::time::timeout(Duration::from_millis(500), judged(&guard, &token)).await;
    assert!(given_up.is_err());
    issuer.hangs();
    assert!(judged(&guard, &token).await.is_ok(), "the fetch went on");
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_search_for_a_new_key_that_hung_is_made_again_when_the_source_is_back() {
    let (old, new) = (key(), key());
    let issuer = Issuer::answering(set_of(&[&old]));
    let guard = issuer.guard();
    guard.warm().await;

    issuer.hangs();
    let token = token_by(&new);
    let given_up = tokio::time::timeout(Duration::from_millis(500), judged(&guard, &token)).await;
    assert!(given_up.is_err());
    assert!(judged(&guard, &token_by(&old)).await.is_ok());
    issuer.answers(set_of(&[&new, &old]));
    assert_eq!(judged(&guard, &token).await, Err(Refusal::KeysUnavailable), "not a wrong key: nobody could look");
    assert_eq!(judged(&guard, &token).await, Err(Refusal::KeysUnavailable), "it was asked just now");
    assert_eq!(issuer.asked(), 2);
    advance(Duration::from_secs(5)).await;
    assert!(judged(&guard, &token).await.is_ok());
    assert_eq!(issuer.asked(), 3);
}

#[test]
fn a_fetch_that_went_down_with_its_runtime_keeps_nobody_waiting() {
    let issuer = Issuer::default();
    let guard = issuer.guard();
    let token = token_by(&ES);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let first = runtime();
    let given_up = first
        .block_on(async { tokio::time::timeout(Duration::from_millis(500), judged(&guard, &token)).await.is_err() });
    assert!(given_up);
    drop(first);
    issuer.answers(set_of(&[&ES]));
    assert!(runtime().block_on(judged(&guard, &token)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_none_or_too_large_counts_as_not_fetched() {
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, &format!(r#"{{"keys":[],"x":"{}"}}"#, "y".repeat(64 * 1024))] {
        let guard = Issuer::answering(text).guard();
        assert_eq!(judged(&guard, &token_by(&ES)).await, Err(Refusal::KeysUnavailable));
    }
}

#[tokio::test(start_paused = true)]
async fn keys_for_other_uses_are_left_out_and_so_is_what_lies_beyond_the_thirty_second() {
    let changed = |name: &str, value: Value| {
        let mut jwk = ES.jwk.clone();
        jwk[name] = value;
        jwk
    };
    for unusable in [
        changed("use", "enc".into()),
        changed("alg", "ES384".into()),
        changed("crv", "P-384".into()),
        changed("key_ops", json!(["sign"])),
        changed("x", "AAAA".into()),
        changed("y", "!".into()),
        changed("kty", "RSA".into()),
        changed("kid", 7.into()),
        json!("no key"),
    ] {
        let guard = Issuer::answering(key_set([unusable.clone()]).to_string()).guard();
        assert_eq!(judged(&guard, &token_by(&ES)).await, Err(Refusal::UnknownKey), "{unusable}");
        let guard = Issuer::answering(key_set([unusable, ES.jwk.clone()]).to_string()).guard();
        assert!(judged(&guard, &token_by(&ES)).await.is_ok());
    }
    let bare = json!({"kty": "EC", "crv": "P-256", "kid": ES.kid, "x": ES.jwk["x"], "y": ES.jwk["y"]});
    assert!(judged(&Issuer::answering(key_set([bare]).to_string()).guard(), &token_by(&ES)).await.is_ok());

    let place_of_ours = |place: usize| {
        let mut jwks = vec![RS.jwk.clone(); place];
        jwks.push(ES.jwk.clone());
        Issuer::answering(key_set(jwks).to_string()).guard()
    };
    assert!(judged(&place_of_ours(31), &token_by(&ES)).await.is_ok());
    assert_eq!(judged(&place_of_ours(32), &token_by(&ES)).await, Err(Refusal::UnknownKey));
}

#[tokio::test(start_paused = true)]
async fn a_point_that_is_not_on_the_curve_and_a_short_modulus_judge_nothing() {
    let mut off_curve = ES.jwk.clone();
    off_curve["y"] = ES.jwk["x"].clone();
    let guard = Issuer::answering(key_set([off_curve]).to_string()).guard();
    assert_eq!(judged(&guard, &token_by(&ES)).await, Err(Refusal::Signature));

    let mut short = RS.jwk.clone();
    short["n"] = BASE64_URL_SAFE_NO_PAD.encode([0xff; 128]).into();
    let keys = Keys::Rs256(constant(key_set([short]).to_string()));
    let guard = Guard::new(Verifier::new([]), Some(Jwt::new(keys, rules()).unwrap()));
    assert_eq!(judged(&guard, &Signer::Rs.token(&json!({}))).await, Err(Refusal::UnknownKey));
}
