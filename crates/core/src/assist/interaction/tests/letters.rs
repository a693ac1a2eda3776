//! Dead letters, and what an operator does with them.

use super::*;

#[test]
fn a_suggestion_that_cannot_be_delivered_frees_its_slot() {
    let mut bench = Bench::new();
    let seq = bench.submit("a").unwrap().seq;
    let entry = bench.entries[&seq].clone();
    let effects = bench.effects(|document, cx| document.dead(cx, &entry, "attempts_max"));
    assert_eq!(effects.bury, [(seq, "attempts_max")]);
    assert_eq!(bench.assert_last(Event::DeadLettered, "a")["reason"], "attempts_max");
    assert!(bench.document.is_idle());
    assert!(bench.effects(|document, cx| document.dead(cx, &entry, "attempts_max")).is_empty());
}

#[test]
fn a_dead_suggestion_is_revived_only_if_it_passes_the_rules_then() {
    let mut bench = Bench::new();
    let seq = bench.submit("a").unwrap().seq;
    let living = bench.entries[&seq].clone();
    assert!(bench.effects(|document, cx| document.revived(cx, &living)).is_empty());
    bench.effects(|document, cx| document.dead(cx, &living, "attempts_max"));
    let dead = bench.as_dead(seq);

    bench.submit("a").unwrap();
    assert!(bench.effects(|document, cx| document.revived(cx, &dead)).is_empty());
    bench.answer("a", Answer::Dismissed);

    let effects = bench.effects(|document, cx| document.revived(cx, &dead));
    assert_eq!((effects.put.len(), effects.close, effects.bury), (1, vec![seq], vec![]));
    let anew = effects.put[0].clone();
    assert_eq!((&anew.payload, anew.attempts, anew.created_ms), (&dead.payload, 0, dead.created_ms));
    bench.assert_last(Event::Revived, "a");
    assert!(bench.effects(|document, cx| document.revived(cx, &dead)).is_empty());
    assert_eq!(bench.effects(|document, cx| document.sent(cx, anew.seq)).close, [anew.seq]);

    let seq = bench.submit("late").unwrap().seq;
    let late = bench.entries[&seq].clone();
    bench.effects(|document, cx| document.dead(cx, &late, "attempts_max"));
    bench.now_ms += 60_001;
    let dead = bench.as_dead(seq);
    assert!(bench.effects(|document, cx| document.revived(cx, &dead)).is_empty());
}

#[test]
fn a_dead_letter_that_the_document_has_forgotten_is_believed_by_its_own_mark() {
    let mut bench = Bench::new();
    for index in 0..=BURIED_MAX {
        bench.popup(&format!("t-{}", index % POPUPS_MAX));
        let id = format!("i-{index}");
        let (_, effects) = bench.step(|document, cx| document.feedback(cx, &id, FeedbackAction::Accepted));
        let entry = effects.put[0].clone();
        bench.effects(|document, cx| document.dead(cx, &entry, "refused"));
    }
    let forgotten = *bench.entries.iter().find(|(_, entry)| entry.payload.label() == "feedback").unwrap().0;
    assert_eq!((bench.document.buried.len(), bench.document.buried.contains(&forgotten)), (BURIED_MAX, false));
    let unmarked = bench.entries[&forgotten].clone();
    assert!(bench.effects(|document, cx| document.revived(cx, &unmarked)).is_empty());
    let dead = bench.as_dead(forgotten);
    assert_eq!(bench.effects(|document, cx| document.revived(cx, &dead)).close, [forgotten]);
    // One that is remembered needs no mark, and one that lives is not believed to be dead.
    assert!(bench.document.open.contains(&0));
    let living = bench.as_dead(0);
    assert!(bench.effects(|document, cx| document.revived(cx, &living)).is_empty());
}

#[test]
fn an_operator_drops_what_is_dead_and_what_lives() {
    let mut bench = Bench::new();
    let seq = bench.submit("a").unwrap().seq;
    let living = bench.entries[&seq].clone();
    assert_eq!(bench.effects(|document, cx| document.dropped(cx, &living)).close, [seq]);
    bench.assert_last(Event::Dropped, "a");
    assert!(bench.document.is_idle());
    assert!(bench.effects(|document, cx| document.dropped(cx, &living)).is_empty());

    let (_, effects) = bench.popup("angry");
    let entry = effects.put[0].clone();
    bench.effects(|document, cx| document.dead(cx, &entry, "refused"));
    let dead = bench.as_dead(entry.seq);
    let effects = bench.effects(|document, cx| document.dropped(cx, &dead));
    assert_eq!(effects.close, [entry.seq]);
    bench.assert_last(Event::Dropped, "earpiece-angry");
    assert!(bench.effects(|document, cx| document.dropped(cx, &dead)).is_empty());
    assert_eq!(bench.popup("angry"), (false, Effects::default()));
}
