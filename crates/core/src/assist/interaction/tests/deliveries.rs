//! Popups, cards, feedback and webhooks.

use super::*;

#[test]
fn a_trigger_fires_once_and_its_popup_is_delivered_once() {
    let mut bench = Bench::new();
    let (is_new, effects) = bench.popup("angry");
    assert!(is_new);
    assert_eq!(effects.put.iter().map(|entry| entry.payload.lane().label()).collect::<Vec<_>>(), ["popups"]);
    bench.assert_last(Event::PopupPending, "earpiece-angry");
    assert_eq!(bench.popup("angry"), (false, Effects::default()));
    assert_eq!(bench.effects(|document, cx| document.popup_done(cx, "angry")).close, [0]);
    bench.assert_last(Event::PopupDelivered, "earpiece-angry");
    assert!(bench.effects(|document, cx| document.popup_done(cx, "angry")).is_empty());
    assert_eq!(bench.popup("angry"), (false, Effects::default()));
    assert!(bench.popup("waiting").0);
}

#[test]
fn a_trigger_whose_popup_failed_may_fire_again_if_the_policy_frees_it() {
    let mut bench = Bench::new();
    bench.popup("angry");
    let effects = bench.effects(|document, cx| document.popup_failed(cx, "angry", OnFailure::Free, "refused"));
    assert_eq!((effects.close, effects.bury), (vec![0], vec![]));
    bench.assert_last(Event::PopupFreed, "earpiece-angry");
    let (is_new, effects) = bench.popup("angry");
    assert!(is_new);
    assert_eq!(effects.put.first().map(|entry| entry.seq), Some(1));
}

#[test]
fn a_trigger_whose_popup_failed_stays_as_it_is_if_the_policy_buries_it() {
    let mut bench = Bench::new();
    bench.popup("angry");
    let fail = |document: &mut Interaction, cx: &Context<'_>| {
        document.popup_failed(cx, "angry", OnFailure::DeadLetter, "refused")
    };
    assert_eq!(bench.effects(fail).bury, [(0, "refused")]);
    bench.assert_last(Event::DeadLettered, "earpiece-angry");
    assert!(bench.effects(fail).is_empty());
    assert_eq!(bench.popup("angry"), (false, Effects::default()));

    let dead = bench.as_dead(0);
    assert!(!bench.effects(|document, cx| document.revived(cx, &dead)).is_empty());
    assert_eq!(bench.document.popups["angry"].state, PopupState::Pending);
    assert_eq!(bench.effects(|document, cx| document.popup_done(cx, "angry")).close, [1]);
}

#[test]
fn a_popup_beyond_the_limits_is_refused_with_one_record() {
    let mut bench = Bench::new();
    for index in 0..POPUPS_MAX {
        assert!(bench.popup(&format!("t-{index}")).0);
    }
    let (is_new, effects) = bench.popup("one-more");
    assert!(!is_new && effects.put.is_empty());
    bench.assert_last(Event::Refused, "popup");
    assert_eq!(bench.popup("another"), (false, Effects::default()));

    let mut bench = Bench::new();
    for name in ["", "two words", "é", &"x".repeat(POPUP_NAME_BYTES_MAX + 1)] {
        assert!(!bench.popup(name).0);
    }
    assert_eq!(bench.records.len(), 1);
}

#[test]
fn cards_that_were_shown_are_dropped_and_the_rest_leaves_together() {
    let mut bench = Bench::new();
    let (queued, effects) = bench.step(|document, cx| document.insights(cx, vec![card("a"), card("b"), card("a")]));
    assert_eq!((queued, effects.put.len()), (2, 1));
    let (queued, effects) = bench.step(|document, cx| document.insights(cx, vec![card("b"), card("c")]));
    assert_eq!(queued, 1);
    let [Entry { payload: Payload::Insights { cards }, .. }] = effects.put.as_slice() else { panic!("{effects:?}") };
    assert_eq!(cards.iter().map(|card| card.id.as_str()).collect::<Vec<_>>(), ["c"]);
    assert!(bench.document.shown.contains("c"));
    assert_eq!(bench.step(|document, cx| document.insights(cx, vec![card("a")])), (0, Effects::default()));
    assert_eq!(bench.step(|document, cx| document.insights(cx, vec![])), (0, Effects::default()));
    assert_eq!(bench.effects(|document, cx| document.insights_done(cx, 0)).close, [0]);
    assert!(bench.effects(|document, cx| document.insights_done(cx, 0)).is_empty());
}

#[test]
fn more_cards_than_fit_are_left_for_the_next_search() {
    let mut bench = Bench::new();
    let many: Vec<_> = (0..=CARDS_MAX).map(|index| card(&index.to_string())).collect();
    let left = card(&CARDS_MAX.to_string());
    assert_eq!(bench.step(|document, cx| document.insights(cx, many)).0, CARDS_MAX);
    assert_eq!(bench.step(|document, cx| document.insights(cx, vec![left])).0, 1);
}

#[test]
fn a_judgement_of_an_insight_is_forwarded_once_and_a_changed_mind_too() {
    let mut bench = Bench::new();
    let mut judge = |action| bench.step(|document, cx| document.feedback(cx, "a", action)).0;
    assert!(judge(FeedbackAction::Accepted));
    assert!(!judge(FeedbackAction::Accepted));
    assert!(judge(FeedbackAction::Rejected));
    assert!(!judge(FeedbackAction::Accepted));
    assert_eq!(bench.effects(|document, cx| document.feedback_done(cx, 1)).close, [1]);
    assert!(bench.effects(|document, cx| document.feedback_done(cx, 1)).is_empty());
}

#[test]
fn a_webhook_is_done_once() {
    let mut bench = Bench::new();
    bench.send("a");
    bench.answer("a", Answer::Accepted);
    assert_eq!(bench.effects(|document, cx| document.webhook_done(cx, 1)).close, [1]);
    assert!(bench.effects(|document, cx| document.webhook_done(cx, 1)).is_empty());
    assert!(!bench.document.is_idle());
    assert_eq!(bench.effects(|document, cx| document.webhook_done(cx, 2)).close, [2]);
    assert!(bench.document.is_idle());
}

#[test]
fn while_too_many_entries_wait_cards_are_refused_and_feedback_and_webhooks_become_dead_letters() {
    let mut bench = Bench::new();
    bench.send("a");
    bench.document.open = (1_000..).take(OPEN_MAX).collect();
    let (was_active, effects) = bench.answer("a", Answer::Accepted);
    assert!(was_active);
    let dead = |entry: &Entry| entry.dead.as_ref().is_some_and(|dead| dead.reason == "open_max");
    assert!(effects.put.len() == 2 && effects.put.iter().all(dead));
    assert_eq!(bench.step(|document, cx| document.insights(cx, vec![card("a")])), (0, Effects::default()));
    let (is_new, effects) = bench.step(|document, cx| document.feedback(cx, "a", FeedbackAction::Accepted));
    assert!(is_new && effects.put.iter().all(dead));
    assert_eq!(bench.document.open.len(), OPEN_MAX);
    assert_eq!(bench.records.iter().filter(|record| record.event == Event::DeadLettered.label()).count(), 3);

    // They can be brought back once there is room.
    let webhook = bench.entries[&1].clone();
    assert!(bench.effects(|document, cx| document.revived(cx, &webhook)).is_empty());
    bench.document.open.clear();
    assert_eq!(bench.effects(|document, cx| document.revived(cx, &webhook)).close, [1]);
    assert!(bench.submit("b").is_ok());
}
