use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::assist::interaction::ActiveState;

const NOW_MS: i64 = 1_738_312_200_000;

fn suggestion() -> Suggestion {
    Suggestion {
        id: "s-1".into(),
        content: Private::new("words".into()),
        priority: Priority::Medium,
        relevance_score: 0.9,
        context_window: Window { start_ms: NOW_MS - 1_000, end_ms: NOW_MS + 1_000 },
    }
}

fn active(ids: &[&str]) -> Vec<Active> {
    let slot = |(seq, id): (u64, &&str)| Active {
        id: (*id).to_owned(),
        seq,
        state: ActiveState::Sent,
        since_ms: NOW_MS,
        ends_ms: NOW_MS,
        sent_ms: Some(NOW_MS),
        acked: false,
    };
    (0..).zip(ids).map(slot).collect()
}

#[test]
fn at_most_five_are_active() {
    let rules = Rules::default();
    let four = active(&["a", "b", "c", "d"]);
    assert_eq!(judge(&four, &suggestion(), &rules, NOW_MS), Ok(()));
    let five = active(&["a", "b", "c", "d", "e"]);
    let rejection = judge(&five, &suggestion(), &rules, NOW_MS).unwrap_err();
    assert_eq!(rejection, Rejection::BufferFull { active: 5, max: 5 });
    assert_eq!(rejection.status(), 409);
    assert_eq!(rejection.to_json(), json!({"rule": "active_max", "active": 5, "max": 5}));
}

#[test]
fn no_id_that_is_active_is_taken_twice() {
    let rejection = judge(&active(&["s-0", "s-1"]), &suggestion(), &Rules::default(), NOW_MS).unwrap_err();
    assert_eq!(rejection, Rejection::Duplicate { id: "s-1".into() });
    assert_eq!(rejection.status(), 409);
    assert_eq!(rejection.to_json(), json!({"rule": "duplicate_id", "id": "s-1"}));
    assert_eq!(judge(&active(&["S-1", "s-11"]), &suggestion(), &Rules::default(), NOW_MS), Ok(()));
}

#[test]
fn only_within_the_context_window() {
    let Window { start_ms, end_ms } = suggestion().context_window;
    for (now_ms, is_within) in
        [(start_ms - 1, false), (start_ms, true), (NOW_MS, true), (end_ms, true), (end_ms + 1, false)]
    {
        let judged = judge(&[], &suggestion(), &Rules::default(), now_ms);
        let expected = if is_within { Ok(()) } else { Err(Rejection::OutsideWindow { start_ms, end_ms, now_ms }) };
        assert_eq!(judged, expected);
    }
    let rejection = Rejection::OutsideWindow { start_ms: 0, end_ms: 1, now_ms: 2 };
    assert_eq!(rejection.status(), 422);
    assert_eq!(
        rejection.to_json(),
        json!({
            "rule": "context_window", "start": "1970-01-01T00:00:00.000Z", "end": "1970-01-01T00:00:00.001Z",
            "now": "1970-01-01T00:00:00.002Z",
        })
    );
}

#[test]
fn relevance_below_the_threshold_is_refused() {
    let of_score =
        |score| judge(&[], &Suggestion { relevance_score: score, ..suggestion() }, &Rules::default(), NOW_MS);
    for passes in [0.70, 0.700_000_1, 1.0] {
        assert_eq!(of_score(passes), Ok(()), "{passes}");
    }
    for (score, min) in [(0.699_999_9, 0.70), (0.0, 0.70), (-1.0, 0.70)] {
        assert_eq!(of_score(score), Err(Rejection::LowRelevance { score, min }));
    }
    assert!(of_score(f64::NAN).is_err());
    let rejection = of_score(0.5).unwrap_err();
    assert_eq!(rejection.status(), 422);
    assert_eq!(rejection.to_json(), json!({"rule": "relevance_min", "score": 0.5, "min": 0.7}));
}

#[test]
fn the_rules_are_judged_in_the_documented_order() {
    let hopeless = Suggestion { relevance_score: 0.1, ..suggestion() };
    let full = active(&["a", "b", "c", "d", "s-1"]);
    let late_ms = NOW_MS + 10_000;
    let rule = |active: &[Active], suggestion: &Suggestion, now_ms| {
        judge(active, suggestion, &Rules::default(), now_ms).map_err(|rejection| rejection.rule())
    };
    assert_eq!(rule(&full, &hopeless, late_ms), Err("active_max"));
    assert_eq!(rule(&full[1..], &hopeless, late_ms), Err("duplicate_id"));
    assert_eq!(rule(&full[1..4], &hopeless, late_ms), Err("context_window"));
    assert_eq!(rule(&full[1..4], &hopeless, NOW_MS), Err("relevance_min"));
    assert_eq!(rule(&full[1..4], &suggestion(), NOW_MS), Ok(()));
}

#[track_caller]
fn assert_nudged(score: f64, accepted: u32, dismissed: u32, expected: f64) {
    let nudged = nudge(score, accepted, dismissed, &Rules::default());
    assert!(nudged.to_bits() == expected.to_bits(), "{score} with {accepted}:{dismissed} became {nudged}");
}

#[test]
fn above_four_fifths_accepted_the_score_is_nudged_up_to_one_at_most() {
    assert_nudged(0.9, 9, 1, 0.95);
    assert_nudged(0.7, 5, 0, 0.75);
    assert_nudged(0.95, 9, 1, 1.0);
    assert_nudged(0.97, 9, 1, 1.0);
    assert_nudged(1.0, 9, 1, 1.0);
}

#[test]
fn below_three_tenths_accepted_the_score_is_nudged_down_to_the_threshold_at_least() {
    assert_nudged(0.9, 1, 9, 0.85);
    assert_nudged(1.0, 0, 5, 0.95);
    assert_nudged(0.75, 0, 5, 0.7);
    assert_nudged(0.72, 0, 5, 0.7);
    assert_nudged(0.7, 0, 5, 0.7);
}

#[test]
fn a_rate_of_exactly_four_fifths_or_three_tenths_moves_nothing() {
    for (accepted, dismissed) in [(4, 1), (8, 2), (3, 7), (6, 14), (300, 700), (1, 1), (3, 2)] {
        assert_nudged(0.9, accepted, dismissed, 0.9);
    }
    assert_nudged(0.9, 801, 199, 0.95);
    assert_nudged(0.9, 299, 701, 0.85);
}

#[test]
fn with_too_few_observations_the_rate_says_nothing() {
    for (accepted, dismissed) in [(0, 0), (4, 0), (0, 4), (1, 3)] {
        assert_nudged(0.9, accepted, dismissed, 0.9);
    }
    assert_nudged(0.9, 5, 0, 0.95);
    assert_nudged(0.9, 0, 5, 0.85);
    let eager = Rules { observations_min: 0, ..Rules::default() };
    assert!((nudge(0.9, 0, 0, &eager) - 0.9).abs() < f64::EPSILON);
}

#[test]
fn a_nudge_down_never_raises_a_score() {
    assert_nudged(0.6, 0, 5, 0.6);
}

#[test]
fn counts_at_their_end_are_still_a_rate() {
    assert_nudged(0.9, u32::MAX, 1, 0.95);
    assert_nudged(0.9, u32::MAX, u32::MAX, 0.9);
    assert_nudged(0.9, 1, u32::MAX, 0.85);
}

#[test]
fn a_submission_is_read_with_its_defaults() {
    let read = Suggestion::read(&json!({"id": "x", "content": "c", "relevanceScore": 1, "other": 5}), NOW_MS).unwrap();
    assert_eq!(
        read,
        Suggestion {
            id: "x".into(),
            content: Private::new("c".into()),
            priority: Priority::Medium,
            relevance_score: 1.0,
            context_window: Window { start_ms: NOW_MS, end_ms: NOW_MS + 300_000 },
        }
    );
}

#[test]
fn a_submission_is_read_with_everything_in_it() {
    let value = json!({
        "id": "é".repeat(128), "content": "x".repeat(4096), "priority": " high ", "relevanceScore": 0.83,
        "contextWindow": {"start": "2025-01-31T09:30:00+01:00", "end": "2025-01-31T08:35:00.5Z"},
    });
    let read = Suggestion::read(&value, 0).unwrap();
    assert_eq!(read.priority, Priority::High);
    assert_eq!(read.context_window, Window { start_ms: NOW_MS, end_ms: NOW_MS + 300_500 });
}

#[test]
fn a_field_that_is_wrong_is_named_and_not_repeated() {
    let good = json!({
        "id": "x", "content": "c", "relevanceScore": 0.8, "priority": "LOW",
        "contextWindow": {"start": "2025-01-31T08:30:00Z", "end": "2025-01-31T08:30:00Z"},
    });
    assert!(Suggestion::read(&good, 0).is_ok());
    let window = |start: &str, end: &str| json!({"start": start, "end": end});
    let late = "2025-01-31T08:30:01Z";
    for (field, named, wrong) in [
        ("id", "`id`", json!(null)),
        ("id", "`id`", json!("")),
        ("id", "`id`", json!(4711)),
        ("id", "`id`", json!("hunter2\n")),
        ("id", "`id`", json!("hunter2".repeat(20))),
        ("content", "`content`", json!(null)),
        ("content", "`content`", json!(["hunter2"])),
        ("content", "`content`", json!(" \n")),
        ("content", "`content`", json!("hunter2".repeat(1000))),
        ("priority", "`priority`", json!("hunter2")),
        ("priority", "`priority`", json!(3)),
        ("relevanceScore", "`relevanceScore`", json!(null)),
        ("relevanceScore", "`relevanceScore`", json!("0.8")),
        ("relevanceScore", "`relevanceScore`", json!(1.000_001)),
        ("relevanceScore", "`relevanceScore`", json!(-0.1)),
        ("contextWindow", "`contextWindow.start`", json!("hunter2")),
        ("contextWindow", "`contextWindow.start`", json!({})),
        ("contextWindow", "`contextWindow.start`", window("hunter2", late)),
        ("contextWindow", "`contextWindow.end`", window(late, "2025-01-31")),
        ("contextWindow", "`contextWindow.end`", window(late, "2025-01-31T08:30:00Z")),
    ] {
        let mut value = good.clone();
        value[field] = wrong.clone();
        let fault = Suggestion::read(&value, 0).unwrap_err();
        assert_eq!(fault.kind, Kind::BadInput);
        assert!(fault.public.starts_with(named), "{field} = {wrong}: {fault}");
        assert!(!fault.public.contains("hunter2") && !fault.public.contains("4711"), "{fault}");
    }
    assert!(Suggestion::read(&json!("hunter2"), 0).is_err());
}

#[test]
fn a_suggestion_prints_no_word_of_its_content() {
    assert!(!format!("{:?}", suggestion()).contains("words"));
}

proptest! {
    #[test]
    fn a_suggestion_is_read_from_the_store_as_it_was_written(
        id in "[^\\p{Cc}]{1,128}",
        content in ".{1,60}",
        score in 0.0..=1.0_f64,
        priority in prop::sample::select(Priority::ALL.to_vec()),
        start_ms in 0..=4_102_444_800_000_i64,
        length_ms in 0..=1_000_000_000_i64,
    ) {
        let context_window = Window { start_ms, end_ms: start_ms + length_ms };
        let written = Suggestion { id, content: Private::new(content), priority, relevance_score: score, context_window };
        let value = serde_json::to_value(&written).unwrap();
        let text = value.to_string();
        prop_assert_eq!(&serde_json::from_str::<Suggestion>(&text).unwrap(), &written);
        // The same form is what an assist app submits.
        if !written.content.reveal().trim().is_empty() {
            prop_assert_eq!(Suggestion::read(&value, 0).unwrap(), written);
        }
    }

    #[test]
    fn a_nudged_score_of_what_has_passed_would_pass_again(
        score in 0.70..=1.0_f64, accepted in 0..40_u32, dismissed in 0..40_u32,
    ) {
        let nudged = nudge(score, accepted, dismissed, &Rules::default());
        prop_assert!((0.70..=1.0).contains(&nudged));
        prop_assert!((nudged - score).abs() <= 0.05 + 1e-9);
    }
}
