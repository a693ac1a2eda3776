//! What is measured of the outbox.

use std::sync::Arc;

use earpiece_core::assist::card::{CardKind, CardMetadata, PopupCard};
use earpiece_core::assist::{Context, OnFailure};
use earpiece_core::secret::Private;
use earpiece_core::telemetry as names;

use super::stage::{Stage, id, settings};
use crate::Metrics;
use crate::clock::now_ms;
use crate::run::{Shared, measure_once};

const OVERDUE_MS: i64 = 90_000;
const TRIGGER: &str = "angry";

fn card(card_id: &str) -> PopupCard {
    PopupCard {
        card_id: card_id.to_owned(),
        kind: CardKind::Warning,
        title: "Angry caller".to_owned(),
        content: Private::new("Take care.".to_owned()),
        metadata: CardMetadata {
            source: CardMetadata::SOURCE.to_owned(),
            timestamp: "2026-01-01T00:00:00.000Z".to_owned(),
        },
    }
}

/// Notes a popup that was due long ago, and nobody sends.
async fn overdue(stage: &Stage, interaction: &str) {
    let (id, then_ms) = (id(interaction), now_ms() - OVERDUE_MS);
    let cx = Context { id: &id, now_ms: then_ms };
    let keep_ms = settings().keep_ms();
    let noting = stage.store.step_interaction(&id, then_ms, keep_ms, |document| {
        document.popup(&cx, TRIGGER, &card(&format!("card-{interaction}")))
    });
    assert!(noting.await.unwrap(), "it is new");
}

/// A series as a dashboard sees it.
fn value(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.expect("the series is shown").parse().unwrap()
}

fn age_s(metrics: &Metrics, lane: &str) -> f64 {
    value(metrics, &format!("{}{{lane=\"{lane}\"}}", names::OUTBOX_AGE_SECONDS))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_what_waits_and_the_dead_letters_rise_and_fall() {
    let stage = Stage::new().await;
    let metrics = Metrics::new().unwrap();
    let shared = Arc::new(Shared {
        task: "a".to_owned(),
        store: stage.store.clone(),
        cxone: stage.cxone().await,
        settings: settings(),
        metrics: metrics.clone(),
    });
    let is_zero = |value: f64| value.abs() < f64::EPSILON;
    measure_once(&shared).await;
    assert!(is_zero(age_s(&metrics, "popups")) && is_zero(value(&metrics, names::OUTBOX_DEAD)));

    overdue(&stage, "7").await;
    overdue(&stage, "8").await;
    let (dead, keep_ms) = (id("8"), settings().keep_ms());
    let cx = Context { id: &dead, now_ms: now_ms() };
    let burying = stage.store.step_interaction(&dead, cx.now_ms, keep_ms, |document| {
        ((), document.popup_failed(&cx, TRIGGER, OnFailure::DeadLetter, "refused"))
    });
    burying.await.unwrap();
    measure_once(&shared).await;
    let age = age_s(&metrics, "popups");
    assert!((90.0..150.0).contains(&age), "{age} s");
    assert!(is_zero(age_s(&metrics, "suggestions")), "a lane's age is its own");
    assert!(is_zero(value(&metrics, names::OUTBOX_DEAD) - 1.0));

    let waits = id("7");
    let cx = Context { id: &waits, now_ms: now_ms() };
    let delivering =
        stage.store.step_interaction(&waits, cx.now_ms, keep_ms, |document| ((), document.popup_done(&cx, TRIGGER)));
    delivering.await.unwrap();
    for letter in stage.store.dead_entries(10).await.unwrap() {
        assert!(stage.store.drop_entry(&letter.interaction, letter.seq, now_ms()).await.unwrap());
    }
    measure_once(&shared).await;
    assert!(is_zero(age_s(&metrics, "popups")) && is_zero(value(&metrics, names::OUTBOX_DEAD)));
}
