use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW_US: i64 = 1_790_000_000_000_000;
const SECOND_US: i64 = 1_000_000;

fn opening(message_id: &str) -> Opening {
    Opening {
        message_id: message_id.to_owned(),
        contact: ContactKey { bus_no: 4, contact_id: 7 },
        perspective: Perspective::Tx,
        stream: StreamId::new(),
        opened_us: NOW_US,
        task: "apigw/c1".into(),
        telemetry: None,
        app: None,
        unknown_fields: 0,
    }
}

fn streaming() -> Connection {
    let mut connection = Connection::default();
    let opening = opening("init");
    assert_eq!(connection.begin(opening.clone()), Begun::Opening);
    assert_eq!(connection.opened(opening.stream, 3), Opened::Live);
    connection
}

fn samples(connection: &Connection) -> u64 {
    connection.facts().map_or(0, |facts| facts.samples)
}

#[test]
fn a_message_takes_its_place_once_however_often_it_is_told() {
    let mut connection = streaming();
    let first = connection.take("a", 8_000, NOW_US + SECOND_US).expect("streaming");
    assert_eq!(first, Taken { first_sample: 0, is_repeat: false, is_check_due: false });
    assert_eq!(connection.take("b", 8_000, NOW_US + 2 * SECOND_US).expect("streaming").first_sample, 8_000);
    let again = connection.take("a", 8_000, NOW_US + 3 * SECOND_US).expect("streaming");
    assert_eq!(again, Taken { first_sample: 0, is_repeat: true, is_check_due: false });
    assert_eq!(samples(&connection), 16_000);
}

#[test]
fn the_memory_of_messages_is_bounded() {
    let mut connection = streaming();
    for n in 0..=REMEMBERED_MAX {
        connection.take(&n.to_string(), 160, NOW_US).expect("streaming");
    }
    assert!(connection.take("1", 160, NOW_US).expect("streaming").is_repeat);
    assert!(!connection.take("0", 160, NOW_US).expect("streaming").is_repeat, "65 messages ago");
}

#[test]
fn the_facts_say_when_audio_was_spoken_though_messages_overtake_each_other() {
    let mut connection = streaming();
    connection.take("a", 8_000, NOW_US + SECOND_US).expect("streaming");
    connection.take("c", 8_000, NOW_US + 3 * SECOND_US).expect("streaming");
    connection.take("b", 8_000, NOW_US + 2 * SECOND_US).expect("streaming");
    connection.take("d", 8_000, NOW_US + 30 * SECOND_US).expect("streaming");
    let facts = connection.facts().expect("a stream");
    let last = facts.runs.last().expect("runs");
    assert_eq!((last.first_sample, last.anchor_us), (24_000, NOW_US + 29 * SECOND_US));
    assert_eq!((facts.frames, facts.samples, facts.frame_samples), (4, 32_000, Some(8_000)));
    assert_eq!((facts.generation, facts.task.as_str()), (Some(3), "apigw/c1"));
}

#[test]
fn one_message_a_minute_is_asked_for_a_checkpoint() {
    let mut connection = streaming();
    let due: Vec<i64> = (1..=150)
        .filter(|second| {
            let taken = connection.take(&second.to_string(), 8_000, NOW_US + second * SECOND_US);
            taken.expect("streaming").is_check_due
        })
        .collect();
    assert_eq!(due, [60, 120]);
}

#[test]
fn audio_has_no_place_before_the_init_message_nor_after_we_ended_the_stream() {
    let mut connection = Connection::default();
    assert_eq!(connection.take("a", 160, NOW_US), Err(Unplaced::BeforeInit));
    let opening = opening("init");
    connection.begin(opening.clone());
    assert_eq!(connection.take("a", 160, NOW_US), Err(Unplaced::BeforeInit));
    connection.opened(opening.stream, 1);
    connection.take("a", 160, NOW_US).expect("streaming");
    assert!(connection.close(NOW_US, CloseReason::Superseded));
    assert!(!connection.close(NOW_US, CloseReason::Internal), "it ends once");
    assert_eq!(connection.take("b", 160, NOW_US), Err(Unplaced::Ended(CloseReason::Superseded)));
    assert!(connection.take("a", 160, NOW_US).expect("it was placed before").is_repeat);
    connection.hang_up(NOW_US + 1, CloseReason::PeerClosed);
    assert_eq!(connection.take("b", 160, NOW_US), Err(Unplaced::Ended(CloseReason::Superseded)));
}

#[test]
fn audio_that_the_end_of_the_connection_overtook_still_has_its_place() {
    let mut connection = streaming();
    connection.hang_up(NOW_US, CloseReason::PeerVanished);
    assert_eq!(connection.take("a", 160, NOW_US).expect("placed").first_sample, 0);
    let facts = connection.facts().expect("a stream");
    assert_eq!(facts.closed.map(|closed| closed.reason), Some(CloseReason::PeerVanished));
    assert_eq!(facts.samples, 160);
}

#[test]
fn only_the_message_that_opened_the_stream_is_answered_again() {
    let mut connection = streaming();
    assert_eq!(connection.begin(opening("init")), Begun::Streaming);
    assert_eq!(connection.begin(opening("other")), Begun::Taken);
    let mut refused = Connection::default();
    assert!(refused.refuse());
    assert_eq!(refused.begin(opening("init")), Begun::Over);
    assert_eq!(refused.take("a", 160, NOW_US), Err(Unplaced::Over));
}

#[test]
fn a_bad_init_message_does_not_undo_a_good_one() {
    let mut connection = Connection::default();
    let opening = opening("init");
    connection.begin(opening.clone());
    assert!(!connection.refuse());
    connection.lose(StreamId::new());
    assert_eq!(connection.opened(opening.stream, 1), Opened::Live);
    connection.lose(opening.stream);
    assert!(!connection.refuse() && connection.facts().is_some());
}

#[test]
fn a_stream_whose_claim_was_refused_never_opens() {
    let mut connection = Connection::default();
    let opening = opening("init");
    connection.begin(opening.clone());
    connection.lose(opening.stream);
    assert!(connection.is_refused());
    assert_eq!(connection.opened(opening.stream, 1), Opened::Nothing);
}

#[test]
fn a_connection_that_ended_before_its_generation_was_claimed_ends_with_the_claim() {
    let mut connection = Connection::default();
    let opening = opening("init");
    connection.begin(opening.clone());
    connection.hang_up(NOW_US + 5, CloseReason::PeerClosed);
    assert_eq!(connection.opening().map(|opening| opening.stream), Some(opening.stream), "it has to be seen out");
    assert_eq!(connection.opened(opening.stream, 1), Opened::Gone);
    assert!(connection.facts().expect("a stream").closed.is_some());
    assert_eq!(connection.opened(StreamId::new(), 1), Opened::Nothing);
}

#[test]
fn a_connection_that_ended_first_never_begins() {
    let mut connection = Connection::default();
    connection.hang_up(NOW_US, CloseReason::PeerClosed);
    assert_eq!(connection.begin(opening("init")), Begun::Over);
    assert_eq!(connection.take("a", 160, NOW_US), Err(Unplaced::Over));
    assert!(connection.is_gone() && connection.facts().is_none());
}

#[test]
fn what_the_assist_app_is_to_be_told_is_kept_unless_it_is_too_large_and_never_printed() {
    for (bytes, is_kept) in [(APP_BYTES_MAX, true), (APP_BYTES_MAX + 1, false)] {
        // The quotes count.
        let app = Private::new(json!("x".repeat(bytes - 2)));
        let mut connection = Connection::default();
        let opening = Opening { app: Some(app.clone()), ..opening("init") };
        connection.begin(opening.clone());
        connection.opened(opening.stream, 1);
        let json = serde_json::to_value(&connection).expect("JSON");
        let read: Connection = serde_json::from_value(json).expect("a state");
        assert_eq!(read.opening().and_then(|opening| opening.app.clone()), is_kept.then_some(app), "{bytes} bytes");
        assert!(!format!("{read:?}").contains("xxx"));
    }
}

#[test]
fn the_state_stays_small_and_drops_telemetry_that_is_not() {
    let mut connection = Connection::default();
    let opening = Opening { telemetry: Some(json!({ "blob": "x".repeat(TELEMETRY_BYTES_MAX) })), ..opening("init") };
    connection.begin(opening.clone());
    connection.opened(opening.stream, 1);
    for n in 0..2_000i64 {
        // Each begins a run, the worst that can be.
        connection.take(&format!("L1eZdcW4oAMCE{n:03}"), 160, NOW_US + n * 10 * SECOND_US).expect("streaming");
    }
    assert_eq!(connection.facts().expect("a stream").telemetry, None);
    let bytes = serde_json::to_vec(&connection).expect("JSON").len();
    assert!(bytes < 16 << 10, "{bytes} bytes");
}

#[derive(Debug, Clone)]
enum Move {
    Begin(u8),
    Opened,
    Refuse,
    Lose,
    Take(u8),
    Close,
    HangUp,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        3 => (0u8..3).prop_map(Move::Begin),
        3 => Just(Move::Opened),
        1 => Just(Move::Refuse),
        1 => Just(Move::Lose),
        12 => (0u8..40).prop_map(Move::Take),
        1 => Just(Move::Close),
        1 => Just(Move::HangUp),
    ]
}

/// Makes a move. What was placed anew or again goes into `placed`, which panics when the two differ.
fn make(connection: &mut Connection, step: &Move, now_us: i64) -> Option<(u8, Taken, u32)> {
    match step {
        Move::Begin(n) => drop(connection.begin(opening(&format!("init{n}")))),
        Move::Opened => {
            if let Some(stream) = connection.opening().map(|opening| opening.stream) {
                connection.opened(stream, 1);
            }
        }
        Move::Refuse => drop(connection.refuse()),
        Move::Lose => {
            if let Some(stream) = connection.opening().map(|opening| opening.stream) {
                connection.lose(stream);
            }
        }
        // The content belongs to the message: the same id always has as many samples.
        Move::Take(id) => {
            let samples = u32::from(*id) * 37 + 1;
            return connection.take(&format!("m{id}"), samples, now_us).ok().map(|taken| (*id, taken, samples));
        }
        Move::Close => drop(connection.close(now_us, CloseReason::Superseded)),
        Move::HangUp => connection.hang_up(now_us, CloseReason::PeerClosed),
    }
    None
}

/// Where each message lies, by its id.
type Places = BTreeMap<u8, (u64, u32)>;

fn note(places: &mut Places, outcome: Option<(u8, Taken, u32)>) {
    let Some((id, taken, samples)) = outcome else { return };
    let before = places.insert(id, (taken.first_sample, samples));
    assert_eq!(before.is_some(), taken.is_repeat, "message {id}");
    assert!(before.is_none_or(|(first_sample, _)| first_sample == taken.first_sample), "message {id} moved");
}

fn assert_every_sample_is_counted_once(connection: &Connection, places: &Places) {
    let mut spans: Vec<_> = places.values().copied().collect();
    spans.sort_unstable();
    let mut next = 0;
    for (first_sample, samples) in spans {
        assert_eq!(first_sample, next);
        next += u64::from(samples);
    }
    assert_eq!(samples(connection), next);
}

proptest! {
    #[test]
    fn no_order_and_no_repetition_counts_a_sample_twice_or_brings_back_what_is_over(
        steps in prop::collection::vec(moves(), 0..120)
    ) {
        let mut connection = Connection::default();
        let mut places = Places::new();
        let (mut was_gone, mut was_refused, mut stream) = (false, false, None);
        for (n, step) in steps.iter().enumerate() {
            let placed = make(&mut connection, step, NOW_US + i64::try_from(n).expect("few") * SECOND_US);
            note(&mut places, placed);
            prop_assert!(connection.is_gone() || !was_gone);
            prop_assert!(connection.is_refused() || !was_refused);
            (was_gone, was_refused) = (connection.is_gone(), connection.is_refused());
            let facts = connection.facts();
            // Once there is a stream it stays the same one, and only ever learns.
            if let Some(before) = &stream {
                prop_assert_eq!(facts.as_ref().map(|facts| facts.stream), Some(*before));
            }
            stream = facts.as_ref().map(|facts| facts.stream);
            prop_assert!(facts.is_none_or(|facts| facts.closed.is_some() || !was_gone));
            let json = serde_json::to_value(&connection).expect("JSON");
            prop_assert_eq!(&serde_json::from_value::<Connection>(json).expect("a state"), &connection);
        }
        assert_every_sample_is_counted_once(&connection, &places);
    }

    /// Three handlers side by side: each reads, moves on what it read, and writes it back unless another did before.
    #[test]
    fn handlers_side_by_side_lose_nothing_and_count_nothing_twice(
        steps in prop::collection::vec((0usize..3, moves()), 0..120)
    ) {
        let mut stored = (0u64, Connection::default());
        let mut hands: [Option<(u64, Connection, Move)>; 3] = [None, None, None];
        let mut places = Places::new();
        for (n, (hand, step)) in steps.into_iter().enumerate() {
            let now_us = NOW_US + i64::try_from(n).expect("few") * SECOND_US;
            let Some((version, mut connection, step)) = hands[hand].take() else {
                hands[hand] = Some((stored.0, stored.1.clone(), step));
                continue;
            };
            let mut placed = make(&mut connection, &step, now_us);
            if version != stored.0 {
                // The write was refused: redo it on what stands there now.
                connection = stored.1.clone();
                placed = make(&mut connection, &step, now_us);
            }
            stored = (stored.0 + 1, connection);
            note(&mut places, placed);
        }
        assert_every_sample_is_counted_once(&stored.1, &places);
    }
}
