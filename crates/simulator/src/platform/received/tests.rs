use super::*;

fn note<'a>(id: &'a str, body: &'a str) -> Note<'a> {
    Note { interaction: Some("i"), id: Some(id), status: 200, body }
}

#[test]
fn the_oldest_records_go_first_and_their_bodies_before_them() {
    let mut received = Received::new(3, 8);
    for id in ["a", "b", "c", "d"] {
        received.record(Kind::Card, 1, 0, &note(id, "1234"));
    }
    let kept: Vec<_> = received.records().map(|record| (record.number, record.body())).collect();
    assert_eq!(kept, [(2, None), (3, Some("1234")), (4, Some("1234"))]);
    let since: Vec<_> = received.since(3).map(|record| record.number).collect();
    assert_eq!((since, received.since(0).count(), received.since(4).count()), (vec![4], 3, 0));
    assert_eq!(received.since(u64::MAX - 1).count(), 0);
    received.record(Kind::Card, 1, 0, &note("e", "123456789"));
    assert!(received.records().all(|record| record.body().is_none()), "one that is too large is not kept either");
    received.record(Kind::Card, 1, 0, &note("f", "1"));
    assert_eq!(received.records().next_back().unwrap().body(), Some("1"));
}

#[test]
fn ids_are_held_once_and_only_as_long_as_something_names_them() {
    let mut received = Received::new(2, 1_000);
    for id in ["a", "b", "b"] {
        received.record(Kind::Card, 1, 0, &note(id, ""));
    }
    assert_eq!(received.ids.len(), 2, "the interaction and `b`");
    received.card_came("i", "x");
    received.drop_oldest_interaction();
    assert_eq!(received.ids.len(), 2, "the interaction is still named by records, `x` by nothing");
}

#[test]
fn the_tally_tells_the_first_from_the_repeated_and_knows_what_is_on_the_desktop() {
    let mut received = Received::new(10, 1_000);
    for id in ["a", "b", "a"] {
        received.suggestion_came("i", id, 1_000, 0);
    }
    let mut answered = |id, answer| received.suggestion_answered("i", id, answer);
    assert_eq!(answered("a", Answer::Accepted), Some((Answer::Accepted, true)));
    assert_eq!(answered("a", Answer::Dismissed), Some((Answer::Accepted, false)), "the first answer stands");
    assert_eq!(answered("z", Answer::Dismissed), None, "never heard of");
    let arrival = received.suggestion_came("i", "c", 1_000, 0);
    assert_eq!((arrival.nth, arrival.active), (Some(3), 2));
    let late = received.suggestion_came("i", "d", 10_000_000, 1_001 + LAPSE_MS);
    assert_eq!(late.active, 1, "`b` and `c` have lapsed");
    received.card_came("i", "card");
    received.card_came("i", "card");
    received.card_came("j", "card");
    let tally = received.tally();
    assert_eq!((tally.suggestions, tally.suggestions_repeated, tally.active_max), (4, 1, 2));
    assert_eq!((tally.cards, tally.cards_repeated, tally.accepted, tally.dismissed), (2, 1, 1, 0));
}

#[test]
fn ids_are_bounded_in_length_and_in_number_per_interaction() {
    let mut received = Received::new(1, 1_000);
    received.record(Kind::Card, 1, 0, &note(&"é".repeat(ID_BYTES_MAX), ""));
    assert_eq!(received.records().next().unwrap().id.as_ref().unwrap().len(), ID_BYTES_MAX);
    for nth in 0..=IDS_PER_INTERACTION_MAX {
        received.card_came("i", &nth.to_string());
        received.suggestion_came("i", &format!("s{nth}"), 0, 0);
    }
    let seen = received.interaction("i").unwrap();
    assert_eq!((seen.cards.len(), seen.suggestions.len()), (IDS_PER_INTERACTION_MAX, IDS_PER_INTERACTION_MAX));
    assert!(!received.ids.contains("0") && !received.ids.contains("s0"));
    assert!(received.ids.contains("1") && received.ids.contains("s1"));
}

#[test]
fn a_record_does_not_print_what_was_said() {
    let mut received = Received::new(1, 100);
    received.record(Kind::Search, 1, 0, &note("a", "my card is 4111"));
    assert!(!format!("{received:?}").contains("4111"));
}

#[test]
fn every_kind_is_read_from_its_own_word() {
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.label()), Some(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.label());
    }
}
