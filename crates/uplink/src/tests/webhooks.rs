//! Signed callbacks, to a receiver over a real socket.

use std::time::Duration;

use aws_lc_rs::hmac;
use earpiece_core::assist::Lane;
use earpiece_core::secret::Secret;
use serde_json::Value;
use tokio::time::timeout;

use super::receiver::{Came, Receiver};
use super::stage::{PATIENCE, Stage, Task, settings};
use crate::clock::now_ms;
use crate::{Settings, Which};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OLD_SECRET: &str = "fedcba9876543210fedcba9876543210";

async fn task(stage: &Stage, receiver: &Receiver, attempts_max: u32) -> Task {
    let settings = Settings {
        uplinks: [Which::Suggestions].into(),
        kb_sync_url: Some(Secret::new(receiver.url("/kb"))),
        on_accept_url: Some(Secret::new(receiver.url("/accepted?key=private"))),
        webhook_secrets: vec![Secret::new(SECRET), Secret::new(OLD_SECRET)],
        outbox_attempts_max: attempts_max,
        ..settings()
    };
    stage.task_with("a", settings).await
}

async fn next(receiver: &mut Receiver) -> Came {
    timeout(PATIENCE, receiver.came.recv()).await.expect("in time").expect("it serves")
}

/// What a receiver does, as the documentation tells it.
fn is_signed(came: &Came, secret: &str) -> bool {
    let header = &came.headers["earpiece-signature"];
    let (time, signature) = header.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).unwrap();
    let age_s = now_ms() / 1000 - time.parse::<i64>().unwrap();
    let signed = [time.as_bytes(), b".", &came.body].concat();
    let signature: Vec<u8> = signature
        .as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    (0..300).contains(&age_s) && hmac::verify(&key, &signed, &signature).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_suggestion_calls_both_and_a_dismissed_one_only_kb_sync_each_once_and_signed() {
    let stage = Stage::new().await;
    let mut receiver = Receiver::answering(&[]).await;
    let task = task(&stage, &receiver, 12).await;
    stage.submit("7", "yes").await.unwrap();
    stage.submit("7", "no").await.unwrap();
    stage.suggested(2).await;
    for _ in 0..2 {
        // The second time it is answered already.
        stage.platform.accept("7", "yes").await;
        stage.platform.dismiss("7", "no").await;
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        let came = next(&mut receiver).await;
        assert!(is_signed(&came, SECRET) && !is_signed(&came, OLD_SECRET), "the first secret signs");
        assert_eq!(came.headers["content-type"], "application/json");
        let body: Value = serde_json::from_slice(&came.body).unwrap();
        assert_eq!(came.headers["idempotency-key"], body["eventId"].as_str().unwrap());
        assert_eq!(body["interactionId"], "7");
        assert!(body["at"].is_string());
        let word = |field: &str| body[field].as_str().unwrap().to_owned();
        told.push((came.path, word("event"), word("suggestionId")));
    }
    told.sort();
    let expected =
        [("/accepted?key=private", "accepted", "yes"), ("/kb", "accepted", "yes"), ("/kb", "dismissed", "no")];
    assert_eq!(told, expected.map(|(path, event, id)| (path.to_owned(), event.to_owned(), id.to_owned())));
    stage.drained(Lane::Webhooks).await;
    task.counted("earpiece_outbox_entries_total{lane=\"webhooks\",outcome=\"delivered\"}", 3).await;
    assert!(receiver.came.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_is_made_again_with_the_same_key() {
    let stage = Stage::new().await;
    let mut receiver = Receiver::answering(&[503, 429]).await;
    let task = task(&stage, &receiver, 12).await;
    stage.submit("7", "no").await.unwrap();
    stage.suggested(1).await;
    assert!(stage.platform.dismiss("7", "no").await);
    let first = next(&mut receiver).await;
    for _ in 0..2 {
        let again = next(&mut receiver).await;
        assert_eq!(again.headers["idempotency-key"], first.headers["idempotency-key"]);
        assert_eq!(again.body, first.body);
        assert!(is_signed(&again, SECRET));
    }
    task.counted("earpiece_outbox_entries_total{lane=\"webhooks\",outcome=\"retried\"}", 2).await;
    task.counted("earpiece_outbox_entries_total{lane=\"webhooks\",outcome=\"delivered\"}", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_refuses_or_never_takes_is_a_dead_letter_that_can_be_tried_again() {
    let stage = Stage::new().await;
    let mut receiver = Receiver::answering(&[410, 503]).await;
    let task = task(&stage, &receiver, 1).await;
    for (suggestion, reason) in [("refused", "refused"), ("failed", "attempts")] {
        stage.submit("7", suggestion).await.unwrap();
        stage.suggested(1).await;
        assert!(
            stage
                .platform
                .wait_for(PATIENCE, |received| {
                    let seen = received.interaction("7")?;
                    seen.suggestions.iter().any(|seen| &*seen.id == suggestion).then_some(())
                })
                .await
                .is_some()
        );
        assert!(stage.platform.dismiss("7", suggestion).await);
        next(&mut receiver).await;
        let dead = timeout(PATIENCE, async {
            loop {
                let dead = stage.store.dead_entries(10).await.unwrap();
                if let Some(letter) = dead.into_iter().find(|letter| letter.dead.as_ref().unwrap().reason == reason) {
                    return letter;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let dead = dead.await.expect("a dead letter in time");
        assert_eq!(dead.payload.lane(), Lane::Webhooks);
        assert!(!format!("{dead:?}").contains("family plan"));
    }
    task.counted("earpiece_outbox_entries_total{lane=\"webhooks\",outcome=\"dead\"}", 2).await;
    for letter in stage.store.dead_entries(10).await.unwrap() {
        assert!(stage.store.revive_entry(&letter.interaction, letter.seq, now_ms()).await.unwrap());
        next(&mut receiver).await;
    }
    task.counted("earpiece_outbox_entries_total{lane=\"webhooks\",outcome=\"delivered\"}", 2).await;
}
