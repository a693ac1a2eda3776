use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::facts::{Closed, Lost, Run};
use super::*;

const CONTACT: ContactKey = ContactKey { bus_no: 1, contact_id: 2 };
const ORIGIN_US: i64 = 1_700_000_000_000_000;

/// Ids sort by the order in which tests name them.
fn stream_id(n: u64) -> StreamId {
    format!("0190{n:028x}").parse().expect("an id")
}

fn facts(n: u64, perspective: Perspective, runs: &[(i64, u64)], reason: Option<CloseReason>) -> StreamFacts {
    let mut first_sample = 0;
    let runs: Vec<Run> = runs
        .iter()
        .map(|&(at_ms, samples)| {
            let run = Run { first_sample, samples, anchor_us: ORIGIN_US + at_ms * 1000, drift_samples: 0 };
            first_sample += samples;
            run
        })
        .collect();
    StreamFacts {
        contact: CONTACT,
        stream: stream_id(n),
        perspective,
        generation: Some(n),
        opened_us: runs.first().map_or(ORIGIN_US, |run| run.anchor_us),
        degraded: false,
        task: "task".into(),
        segment_ms: 5000,
        frames: first_sample / 160,
        samples: first_sample,
        frame_samples: Some(160),
        runs,
        runs_joined: 0,
        lost: Vec::new(),
        closed: reason.map(|reason| Closed { at_us: ORIGIN_US, reason }),
        telemetry: None,
        unknown_fields: 0,
    }
}

fn lay_out(streams: Vec<StreamFacts>) -> Ledger {
    Ledger::lay_out(CONTACT, None, streams)
}

fn gaps(ledger: &Ledger) -> Vec<(u64, u64, GapReason)> {
    ledger.gaps.iter().map(|gap| (gap.position, gap.samples, gap.reason)).collect()
}

#[test]
fn two_perspectives_lie_on_one_clock() {
    let ledger = lay_out(vec![
        facts(1, Perspective::Tx, &[(0, 16_000)], Some(CloseReason::PeerClosed)),
        facts(2, Perspective::Rx, &[(503, 8_000)], Some(CloseReason::PeerClosed)),
    ]);
    assert_eq!(ledger.channels, Channels::Stereo);
    assert_eq!(ledger.samples, 16_000);
    assert_eq!(gaps(&ledger), [(0, 4_000, GapReason::NotYetConnected)]);
}

#[test]
fn a_hold_a_silence_and_a_drop_are_gaps_to_the_sample_though_arrivals_are_off_by_milliseconds() {
    let ledger = lay_out(vec![
        facts(1, Perspective::Tx, &[(0, 16_000), (4003, 8_000)], Some(CloseReason::PeerClosed)),
        facts(2, Perspective::Tx, &[(7_008, 8_000)], Some(CloseReason::PeerVanished)),
        facts(3, Perspective::Tx, &[(8_992, 800)], Some(CloseReason::PeerClosed)),
    ]);
    assert_eq!(
        gaps(&ledger),
        [
            (16_000, 16_000, GapReason::Silence),
            (40_000, 16_000, GapReason::Closed),
            (64_000, 8_000, GapReason::Dropped)
        ]
    );
    assert_eq!(ledger.samples, 72_800);
}

#[test]
fn a_burst_after_a_stall_leaves_no_gap_and_one_piece() {
    let ledger =
        lay_out(vec![facts(1, Perspective::Mix, &[(0, 8_000), (1_004, 8_000)], Some(CloseReason::PeerClosed))]);
    assert_eq!(ledger.gaps, []);
    assert_eq!(ledger.pieces.len(), 1);
    assert_eq!(ledger.channels, Channels::Mono);
    assert_eq!(ledger.samples, 16_000);
}

#[test]
fn a_newer_generation_wins_over_what_a_late_old_one_said_at_the_same_time() {
    let ledger = lay_out(vec![
        facts(2, Perspective::Tx, &[(1_000, 8_000)], Some(CloseReason::PeerClosed)),
        facts(1, Perspective::Tx, &[(0, 16_000)], Some(CloseReason::Superseded)),
    ]);
    let pieces: Vec<_> = ledger.pieces.iter().map(|piece| (piece.stream, piece.position, piece.samples)).collect();
    assert_eq!(pieces, [(stream_id(1), 0, 8_000), (stream_id(2), 8_000, 8_000)]);
    assert_eq!(ledger.overlaps.len(), 1);
    assert_eq!((ledger.overlaps[0].position, ledger.overlaps[0].samples), (8_000, 8_000));
}

#[test]
fn a_task_that_died_is_named_with_what_it_can_have_lost_at_most() {
    let ledger = lay_out(vec![
        facts(1, Perspective::Tx, &[(0, 40_000)], None),
        facts(2, Perspective::Tx, &[(8_000, 8_000)], None),
    ]);
    assert_eq!(gaps(&ledger), [(40_000, 24_000, GapReason::TaskLost)]);
    let unwritten: Vec<_> = ledger.unwritten.iter().map(|lost| (lost.position, lost.samples_max)).collect();
    assert_eq!(unwritten, [(40_000, 24_000), (72_000, 40_000)]);
    assert!(ledger.streams.iter().all(|facts| facts.closed.map(|closed| closed.reason) == Some(CloseReason::TaskLost)));
}

#[test]
fn a_contact_that_comes_back_keeps_every_position_it_had() {
    let first = lay_out(vec![facts(1, Perspective::Tx, &[(0, 8_000)], Some(CloseReason::PeerClosed))]);
    let again = Ledger::lay_out(
        CONTACT,
        Some(first.clone()),
        vec![facts(2, Perspective::Tx, &[(60_000, 8_000)], Some(CloseReason::PeerClosed))],
    );
    assert_eq!(again.pieces[0], first.pieces[0]);
    assert_eq!(gaps(&again), [(8_000, 472_000, GapReason::Closed)]);
    assert_eq!(again.streams.len(), 2);
}

#[test]
fn a_contact_that_comes_back_days_later_does_not_record_the_days() {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let first = lay_out(vec![facts(1, Perspective::Tx, &[(0, 8_000)], Some(CloseReason::PeerClosed))]);
    let later = vec![
        facts(2, Perspective::Tx, &[(DAY_MS, 8_000)], Some(CloseReason::PeerClosed)),
        facts(3, Perspective::Rx, &[(DAY_MS + 500, 8_000)], Some(CloseReason::PeerClosed)),
    ];
    let again = Ledger::lay_out(CONTACT, Some(first), later.clone());
    let back = 8_000 + RETURN_SAMPLES_MAX;
    assert_eq!(again.pieces[1].position, back);
    assert_eq!(again.pieces[2].position, back + 4_000, "both sides lie on one clock");
    assert_eq!(again.skips, [Skip { position: 8_000, samples: 24 * 3600 * 8_000 - back }]);
    let repeated = Ledger::lay_out(CONTACT, Some(again.clone()), later);
    assert_eq!((repeated.pieces, repeated.skips), (again.pieces, again.skips));
}

#[test]
fn finishing_twice_from_the_same_segments_changes_nothing() {
    let streams = vec![
        facts(1, Perspective::Tx, &[(0, 8_000), (2_000, 8_000)], Some(CloseReason::PeerClosed)),
        facts(2, Perspective::Rx, &[(1, 8_000)], None),
    ];
    let once = lay_out(streams.clone());
    let twice = Ledger::lay_out(CONTACT, Some(once.clone()), streams);
    assert_eq!(twice.pieces, once.pieces);
    assert_eq!(twice.gaps, once.gaps);
    assert_eq!(twice.samples, once.samples);
    assert_eq!(twice.unwritten, once.unwritten);
}

#[test]
fn lost_samples_are_named_where_they_would_lie() {
    let mut stream = facts(1, Perspective::Tx, &[(0, 8_000), (2_000, 8_000)], Some(CloseReason::PeerClosed));
    stream.lost = vec![Lost { first_sample: 7_000, samples: 2_000, reason: LostReason::RecorderRingFull }];
    let ledger = lay_out(vec![stream]);
    let lost: Vec<_> = ledger.lost.iter().map(|lost| (lost.position, lost.samples)).collect();
    assert_eq!(lost, [(7_000, 1_000), (16_000, 1_000)]);
}

#[test]
fn a_stream_without_a_number_takes_the_one_after_its_predecessor() {
    let mut degraded = facts(7, Perspective::Tx, &[(5_000, 160)], None);
    degraded.generation = None;
    let ledger = lay_out(vec![facts(4, Perspective::Tx, &[(0, 160)], None), degraded]);
    assert_eq!(ledger.streams[1].generation, Some(5));
}

#[test]
fn a_stream_that_ended_in_order_is_never_cut_though_clocks_disagree() {
    let ledger = lay_out(vec![
        facts(1, Perspective::Tx, &[(0, 16_000)], Some(CloseReason::Drained)),
        facts(2, Perspective::Tx, &[(1_950, 8_000)], Some(CloseReason::PeerClosed)),
    ]);
    let pieces: Vec<_> = ledger.pieces.iter().map(|piece| (piece.position, piece.samples)).collect();
    assert_eq!(pieces, [(0, 16_000), (16_000, 8_000)]);
    assert_eq!((ledger.overlaps[0].position, ledger.overlaps[0].samples), (15_600, 400));
}

#[test]
fn what_was_noted_about_audio_that_a_newer_generation_cut_goes_with_it() {
    let mut old = facts(1, Perspective::Tx, &[(0, 40_000), (15_000, 8_000)], Some(CloseReason::Superseded));
    old.lost = vec![Lost { first_sample: 41_000, samples: 500, reason: LostReason::RelayRingFull }];
    let ledger = lay_out(vec![old, facts(2, Perspective::Tx, &[(10_000, 8_000)], Some(CloseReason::PeerClosed))]);
    assert_eq!(gaps(&ledger), [(40_000, 40_000, GapReason::Silence)]);
    assert_eq!((ledger.overlaps[0].position, ledger.overlaps[0].samples), (80_000, 8_000), "audio, not silence");
    assert!(ledger.lost.is_empty());
}

#[test]
fn a_number_that_a_later_stream_has_taken_is_not_given_twice() {
    let mut never_claimed = facts(1, Perspective::Tx, &[(0, 800)], Some(CloseReason::PeerVanished));
    never_claimed.generation = None;
    let mut first = facts(2, Perspective::Tx, &[(1_000, 800)], Some(CloseReason::PeerClosed));
    first.generation = Some(1);
    let ledger = lay_out(vec![never_claimed, first]);
    assert_eq!(ledger.streams.iter().map(|facts| facts.generation).collect::<Vec<_>>(), [None, Some(1)]);
}

#[test]
fn a_large_frame_does_not_move_a_perspective_against_the_other() {
    let mut lone = facts(2, Perspective::Rx, &[(300, 8_000)], Some(CloseReason::PeerClosed));
    lone.frame_samples = Some(8_000);
    let ledger = lay_out(vec![facts(1, Perspective::Tx, &[(0, 16_000)], Some(CloseReason::PeerClosed)), lone]);
    assert_eq!(gaps(&ledger), [(0, 2_400, GapReason::NotYetConnected)]);
}

/// Where each piece lies: the stream, its first position and how many samples.
fn pieces(ledger: &Ledger) -> Vec<(StreamId, u64, u64)> {
    ledger.pieces.iter().map(|piece| (piece.stream, piece.position, piece.samples)).collect()
}

fn overlaps(ledger: &Ledger) -> Vec<(u64, u64)> {
    ledger.overlaps.iter().map(|overlap| (overlap.position, overlap.samples)).collect()
}

fn generations(ledger: &Ledger) -> Vec<Option<u64>> {
    ledger.streams.iter().map(|facts| facts.generation).collect()
}

#[test]
fn a_fenced_stream_gives_way_but_not_what_ended_in_order_before_it() {
    let ledger = lay_out(vec![
        facts(1, Perspective::Tx, &[(0, 16_000)], Some(CloseReason::PeerClosed)),
        facts(2, Perspective::Tx, &[(2_000, 8_000)], Some(CloseReason::Superseded)),
        facts(3, Perspective::Tx, &[(1_500, 8_000)], Some(CloseReason::PeerClosed)),
    ]);
    assert_eq!(pieces(&ledger), [(stream_id(1), 0, 16_000), (stream_id(3), 16_000, 8_000)]);
    assert_eq!(overlaps(&ledger), [(12_000, 4_000), (16_000, 8_000)], "4000 lie behind, 8000 were cut");
}

#[test]
fn it_is_the_last_stream_that_was_heard_that_gives_way_or_not() {
    let ledger = lay_out(vec![
        facts(1, Perspective::Tx, &[(0, 16_000)], Some(CloseReason::PeerClosed)),
        facts(2, Perspective::Tx, &[], Some(CloseReason::Superseded)),
        facts(3, Perspective::Tx, &[(1_500, 8_000)], Some(CloseReason::PeerClosed)),
    ]);
    assert_eq!(pieces(&ledger), [(stream_id(1), 0, 16_000), (stream_id(3), 16_000, 8_000)]);
}

#[test]
fn a_gap_that_a_newer_stream_cuts_short_ends_with_that_stream() {
    let ledger = lay_out(vec![
        facts(1, Perspective::Tx, &[(0, 8_000)], Some(CloseReason::PeerClosed)),
        facts(2, Perspective::Tx, &[(10_000, 8_000)], Some(CloseReason::Superseded)),
        facts(3, Perspective::Tx, &[(5_000, 8_000)], Some(CloseReason::PeerClosed)),
    ]);
    assert_eq!(gaps(&ledger), [(8_000, 32_000, GapReason::Closed)]);
    assert_eq!(ledger.gaps[0].next_generation, Some(3));
}

#[test]
fn what_a_dead_task_can_have_lost_ends_where_a_newer_stream_is_heard() {
    let dead = facts(1, Perspective::Tx, &[(0, 40_000)], None);
    let unwritten = |newer_at_ms: i64| {
        let newer = facts(2, Perspective::Tx, &[(newer_at_ms, 8_000)], Some(CloseReason::PeerClosed));
        let streams = vec![dead.clone(), newer];
        let ledger = lay_out(streams.clone());
        let again = Ledger::lay_out(CONTACT, Some(ledger.clone()), streams);
        assert_eq!(again.unwritten, ledger.unwritten, "finishing twice changes nothing");
        ledger.unwritten.iter().map(|lost| (lost.position, lost.samples_max)).collect::<Vec<_>>()
    };
    assert_eq!(unwritten(6_000), [(40_000, 8_000)]);
    assert_eq!(unwritten(5_000), [], "heard again where the dead one's audio ends");
    assert_eq!(unwritten(4_000), [], "heard again before it ends");
}

#[test]
fn a_guess_in_an_earlier_ledger_gives_way_to_a_number_from_the_store() {
    let mut never_claimed = facts(1, Perspective::Tx, &[(0, 800)], Some(CloseReason::PeerVanished));
    (never_claimed.generation, never_claimed.degraded) = (None, true);
    let guessed = lay_out(vec![never_claimed]);
    assert_eq!(generations(&guessed), [Some(1)]);
    let mut claimed = facts(2, Perspective::Tx, &[(1_000, 800)], Some(CloseReason::PeerClosed));
    claimed.generation = Some(1);
    let told = Ledger::lay_out(CONTACT, Some(guessed), vec![claimed]);
    assert_eq!(generations(&told), [None, Some(1)]);
}

#[test]
fn frames_that_are_too_long_for_a_packet_are_no_measure_of_an_overlap_either() {
    let mut lumpy = facts(2, Perspective::Tx, &[(1_800, 8_000)], Some(CloseReason::PeerClosed));
    lumpy.frame_samples = Some(8_000);
    let ledger = lay_out(vec![facts(1, Perspective::Tx, &[(0, 16_000)], Some(CloseReason::PeerClosed)), lumpy.clone()]);
    assert_eq!(overlaps(&ledger), [(14_400, 1_600)]);
    lumpy.frame_samples = Some(480);
    lumpy.runs[0].anchor_us = ORIGIN_US + 2_035_000;
    let ledger = lay_out(vec![facts(1, Perspective::Tx, &[(0, 16_000)], Some(CloseReason::PeerClosed)), lumpy]);
    assert_eq!(gaps(&ledger), [(16_000, 480, GapReason::Closed)], "packets of 60 ms still are");
}

#[test]
fn unknown_streams_that_really_ran_at_once_lie_one_after_the_other() {
    let unknown = || Perspective::Unknown("7".into());
    let ledger = lay_out(vec![
        facts(1, unknown(), &[(0, 16_000)], Some(CloseReason::PeerClosed)),
        facts(2, unknown(), &[(500, 16_000)], Some(CloseReason::PeerClosed)),
        facts(3, Perspective::Unknown("8".into()), &[(500, 8_000)], Some(CloseReason::PeerClosed)),
    ]);
    assert_eq!(
        pieces(&ledger),
        [(stream_id(1), 0, 16_000), (stream_id(3), 4_000, 8_000), (stream_id(2), 16_000, 16_000)]
    );
    assert_eq!(overlaps(&ledger), [(4_000, 12_000)]);
}

/// Streams with every kind of end and frame size, with losses, and with the numbers that the store gave to some.
fn any_streams() -> impl Strategy<Value = Vec<StreamFacts>> {
    let run = (0i64..100_000, 0u64..20_000);
    let lost = (0u64..40_000, 1u64..4_000);
    let stream = (
        0usize..4,
        prop::collection::vec(run, 0..4),
        prop::option::of(0..CloseReason::ALL.len()),
        prop::sample::select(vec![None, Some(160), Some(480), Some(8_000)]),
        prop::option::of(lost),
        any::<bool>(),
    );
    prop::collection::vec(stream, 0..8).prop_map(|streams| {
        let mut numbers: BTreeMap<&'static str, u64> = BTreeMap::new();
        let built = streams.into_iter().zip(0..).map(|((side, mut runs, reason, frame_samples, lost, claimed), n)| {
            runs.sort_unstable();
            let perspective =
                [Perspective::Tx, Perspective::Rx, Perspective::Mix, Perspective::Unknown("7".into())][side].clone();
            let number = numbers.entry(perspective.label()).or_default();
            *number += u64::from(claimed);
            let generation = claimed.then_some(*number);
            let facts = facts(n, perspective, &runs, reason.map(|index| CloseReason::ALL[index]));
            let lost = lost.map(|(first_sample, samples)| Lost {
                first_sample,
                samples,
                reason: LostReason::RecorderRingFull,
            });
            let lost = lost.into_iter().filter(|lost| lost.first_sample + lost.samples <= facts.samples).collect();
            StreamFacts { generation, degraded: !claimed, frame_samples, lost, ..facts }
        });
        built.collect()
    })
}

/// What the lane of a perspective holds, in order: positions, and whether audio lies there.
fn lane(ledger: &Ledger, perspective: &Perspective) -> Vec<(u64, u64, bool)> {
    let audio = ledger.pieces.iter().filter(|piece| piece.perspective == *perspective);
    let silence = ledger.gaps.iter().filter(|gap| gap.perspective == *perspective);
    let mut lane: Vec<_> = audio.map(|piece| (piece.position, piece.end(), true)).collect();
    lane.extend(silence.map(|gap| (gap.position, gap.position + gap.samples, false)));
    lane.sort_unstable();
    lane
}

proptest! {
    #[test]
    fn no_position_of_a_perspective_is_taken_twice_and_every_sample_is_placed_or_named_as_overlapped(
        streams in any_streams(), split in 0usize..8
    ) {
        let split = split.min(streams.len());
        let first = lay_out(streams[..split].to_vec());
        let ledger = Ledger::lay_out(CONTACT, Some(first.clone()), streams[split..].to_vec());
        let mut last_end: BTreeMap<Perspective, u64> = BTreeMap::new();
        for piece in &ledger.pieces {
            let end = last_end.entry(piece.perspective.clone()).or_default();
            prop_assert!(piece.position >= *end, "pieces overlap");
            *end = piece.end();
            prop_assert!(piece.end() <= ledger.samples);
        }
        for piece in &first.pieces {
            prop_assert!(
                ledger.pieces.iter().any(|now| now.stream == piece.stream
                    && now.position == piece.position && now.samples == piece.samples),
                "a piece that was laid out moved"
            );
        }
        let placed: u64 = ledger.pieces.iter().map(|piece| piece.samples).sum();
        let received: u64 = ledger.streams.iter().map(|facts| facts.samples).sum();
        let overlapped: u64 = ledger.overlaps.iter().map(|overlap| overlap.samples).sum();
        prop_assert!(placed <= received && placed + overlapped >= received);
    }

    #[test]
    fn a_lane_is_audio_and_gaps_without_anything_twice_or_left_out(streams in any_streams(), split in 0usize..8) {
        let split = split.min(streams.len());
        let first = lay_out(streams[..split].to_vec());
        let ledger = Ledger::lay_out(CONTACT, Some(first), streams[split..].to_vec());
        for perspective in ledger.pieces.iter().map(|piece| &piece.perspective).chain(ledger.gaps.iter().map(|gap| &gap.perspective)) {
            let lane = lane(&ledger, perspective);
            let mut next = 0;
            for (position, end, _) in &lane {
                prop_assert_eq!(*position, next, "{:?}", lane);
                prop_assert!(end > position);
                next = *end;
            }
            prop_assert!(lane.last().is_some_and(|(_, _, is_audio)| *is_audio), "a lane ends with audio");
            for lost in ledger.lost.iter().filter(|lost| lost.perspective == *perspective) {
                let within = |piece: &&Piece| piece.stream == lost.stream
                    && piece.position <= lost.position && lost.position + lost.samples <= piece.end();
                prop_assert!(ledger.pieces.iter().find(within).is_some(), "a loss lies outside of its stream's audio");
            }
            for unwritten in ledger.unwritten.iter().filter(|unwritten| unwritten.perspective == *perspective) {
                let end = unwritten.position + unwritten.samples_max;
                let is_heard = |&(position, until, is_audio): &(u64, u64, bool)| {
                    is_audio && position < end && unwritten.position < until
                };
                prop_assert!(!lane.iter().any(is_heard), "somebody is heard where a dead task wrote nothing");
            }
        }
    }

    #[test]
    fn numbers_of_a_perspective_rise_with_its_streams_and_those_of_the_store_stay(
        streams in any_streams(), split in 0usize..8
    ) {
        let split = split.min(streams.len());
        let first = lay_out(streams[..split].to_vec());
        let ledger = Ledger::lay_out(CONTACT, Some(first), streams[split..].to_vec());
        let mut last: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (facts, told) in ledger.streams.iter().zip(&streams) {
            prop_assert_eq!(facts.stream, told.stream);
            prop_assert!(told.generation.is_none() || told.generation == facts.generation);
            if let Some(number) = facts.generation {
                let last = last.entry(facts.perspective.label()).or_default();
                prop_assert!(number > *last, "{number} comes after {last}");
                *last = number;
            }
        }
    }

    #[test]
    fn laying_out_again_what_is_known_changes_nothing(streams in any_streams()) {
        let once = lay_out(streams.clone());
        prop_assert_eq!(&Ledger::lay_out(CONTACT, Some(once.clone()), streams), &once);
        prop_assert_eq!(&Ledger::lay_out(CONTACT, Some(once.clone()), Vec::new()), &once);
    }
}
