use proptest::prelude::*;
use serde_json::json;

use super::*;

fn id(text: &str) -> InteractionId {
    InteractionId::parse(text).unwrap()
}

fn chain_of(interaction: &str, count: usize) -> (Vec<Record>, Head) {
    let mut head = Head::default();
    let records = (0..count)
        .map(|index| {
            let details = json!({"seq": index, "score": 0.1 + 0.2, "nested": {"b": [1, null], "a": "é\n"}});
            let event = Event::ALL[index % Event::ALL.len()];
            append(&mut head, &id(interaction), 1_738_312_200_000, event, &format!("s-{index}"), details)
        })
        .collect();
    (records, head)
}

#[track_caller]
fn assert_broken(records: &[Record], head: &Head, number: u64, what: BrokenKind) {
    assert_eq!(verify(records.iter().cloned(), Some(head)), Err(Broken { number, what }));
}

#[test]
fn a_chain_as_it_was_written_verifies() {
    for count in [0, 1, 2, 20] {
        let (records, head) = chain_of("7", count);
        let expected = Ok(Verified { count: count as u64 });
        assert_eq!(verify(records.iter().cloned(), Some(&head)), expected);
        assert_eq!(verify(records.into_iter(), None), expected);
    }
}

#[test]
fn a_chain_verifies_after_its_way_through_the_export() {
    let (records, head) = chain_of("7", 5);
    let lines: Vec<_> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    let read = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    assert_eq!(verify(read, Some(&head)), Ok(Verified { count: 5 }));
}

#[test]
fn the_hash_is_what_anybody_can_compute() {
    let mut head = Head::default();
    let record = append(&mut head, &id("7"), -5, Event::Queued, "s \"1\"", json!({"b": 1.5, "a": {"d": [], "c": "é"}}));
    let canonical = r#"{"atMs":-5,"details":{"a":{"c":"é","d":[]},"b":1.5},"event":"queued","interaction":"7","number":1,"subject":"s \"1\""}"#;
    assert_eq!(record.hash, sha256_hex(format!("{NO_HASH}{canonical}").as_bytes()));
    assert_eq!(head, Head { count: 1, hash: record.hash });
    assert_eq!(sha256_hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn an_edit_of_any_field_is_found() {
    type Edit = fn(&mut Record);
    let (records, head) = chain_of("7", 4);
    let edits: [(&str, Edit); 8] = [
        ("interaction", |record| record.interaction = id("8")),
        ("number", |record| record.number = 3),
        ("at_ms", |record| record.at_ms += 1),
        ("event", |record| record.event = "dismissed".into()),
        ("subject", |record| record.subject.push('x')),
        ("details", |record| record.details["seq"] = json!(2)),
        ("previous", |record| record.previous = NO_HASH.to_owned()),
        ("hash", |record| record.hash = NO_HASH.to_owned()),
    ];
    for (field, edit) in edits {
        let mut edited = records.clone();
        edit(&mut edited[1]);
        assert_ne!(edited, records, "{field}");
        assert_broken(&edited, &head, 2, BrokenKind::Edited);
    }
}

#[test]
fn an_edit_with_a_hash_that_was_made_to_match_is_found_by_what_follows() {
    let (mut records, head) = chain_of("7", 4);
    for index in [0, 1, 3] {
        let genuine = records[index].clone();
        records[index].subject.push('x');
        records[index].hash = records[index].computed_hash();
        // The last one is found by the head.
        assert_broken(&records, &head, index as u64 + 1, BrokenKind::Edited);
        records[index] = genuine;
    }
}

#[test]
fn a_chain_that_was_forged_from_a_record_on_is_found_by_the_head() {
    let (mut records, head) = chain_of("7", 4);
    records[2].subject.push('x');
    records[2].hash = records[2].computed_hash();
    records[3].previous = records[2].hash.clone();
    records[3].hash = records[3].computed_hash();
    assert_broken(&records, &head, 4, BrokenKind::Edited);
}

#[test]
fn a_removal_is_found_wherever_it_is() {
    let (records, head) = chain_of("7", 4);
    for index in 0..3 {
        let mut removed = records.clone();
        removed.remove(index);
        assert_broken(&removed, &head, index as u64 + 1, BrokenKind::Missing);
    }
    assert_broken(&records[..3], &head, 4, BrokenKind::Truncated);
    assert_broken(&records[..1], &head, 2, BrokenKind::Truncated);
    assert_broken(&[], &head, 1, BrokenKind::Truncated);
}

#[test]
fn another_order_is_found() {
    let (records, head) = chain_of("7", 4);
    for index in 0..3 {
        let mut swapped = records.clone();
        swapped.swap(index, index + 1);
        assert_broken(&swapped, &head, index as u64 + 1, BrokenKind::Reordered);
    }
}

#[test]
fn a_record_that_stands_twice_is_found() {
    let (mut records, head) = chain_of("7", 4);
    records.insert(2, records[1].clone());
    assert_broken(&records, &head, 3, BrokenKind::Reordered);
}

#[test]
fn a_record_of_another_interaction_is_found() {
    let (mut records, head) = chain_of("7", 4);
    records[2] = chain_of("8", 4).0.remove(2);
    assert_broken(&records, &head, 3, BrokenKind::Foreign);
}

#[test]
fn a_record_that_the_head_does_not_know_is_found() {
    let (records, head) = chain_of("7", 4);
    let mut longer = head.clone();
    let added = append(&mut longer, &id("7"), 0, Event::Accepted, "s-9", json!({}));
    let records: Vec<_> = records.into_iter().chain([added]).collect();
    assert_broken(&records, &head, 5, BrokenKind::Foreign);
    assert_broken(&records[..1], &Head::default(), 1, BrokenKind::Foreign);
}

#[test]
fn events_have_words_of_their_own() {
    let labels: std::collections::BTreeSet<_> = Event::ALL.iter().map(|event| event.label()).collect();
    assert_eq!(labels.len(), Event::ALL.len());
}

#[test]
fn a_break_is_told_in_a_sentence() {
    let broken = Broken { number: 3, what: BrokenKind::Missing };
    assert_eq!(broken.to_string(), "record 3 is missing");
}

/// Any JSON value of a few levels.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,4}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Every byte of the export counts. Only a change that says the same (`1e-7` as `1E-7`) may pass.
    #[test]
    fn a_flip_of_any_byte_of_any_record_is_found(count in 1..6_usize, which: prop::sample::Index, place: prop::sample::Index, flip in 1..=255_u8) {
        let (mut records, head) = chain_of("7", count);
        let index = which.index(count);
        let mut bytes = serde_json::to_vec(&records[index]).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        if let Ok(read) = serde_json::from_slice::<Record>(&bytes) {
            let says_the_same = read == records[index];
            records[index] = read;
            prop_assert_eq!(verify(records.into_iter(), Some(&head)).is_ok(), says_the_same);
        }
    }

    #[test]
    fn any_other_sequence_of_the_same_records_is_found(count in 1..7_usize, picks in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let (records, head) = chain_of("7", count);
        let other: Vec<_> = picks.iter().map(|pick| records[pick.index(count)].clone()).collect();
        prop_assert_eq!(verify(other.iter().cloned(), Some(&head)).is_ok(), other == records);
    }

    #[test]
    fn details_of_any_form_keep_their_hash_through_text(details in json(), subject in ".{0,20}") {
        let mut head = Head::default();
        let record = append(&mut head, &id("7"), 0, Event::Queued, &subject, details);
        let read: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        prop_assert_eq!(verify([read].into_iter(), Some(&head)), Ok(Verified { count: 1 }));
    }
}
