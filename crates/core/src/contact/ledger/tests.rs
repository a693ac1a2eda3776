use proptest::prelude::*;

use super::super::facts::{Closed, Lost};
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

fn any_streams() -> impl Strategy<Value = Vec<StreamFacts>> {
    let run = (0i64..100_000, 0u64..20_000);
    let stream = (0usize..4, prop::collection::vec(run, 0..4), any::<bool>());
    prop::collection::vec(stream, 0..6).prop_map(|streams| {
        streams
            .into_iter()
            .enumerate()
            .map(|(n, (side, mut runs, closed))| {
                runs.sort_unstable();
                let perspective =
                    [Perspective::Tx, Perspective::Rx, Perspective::Mix, Perspective::Unknown("7".into())][side]
                        .clone();
                let reason = [CloseReason::PeerClosed, CloseReason::Superseded][n % 2];
                facts(n as u64, perspective, &runs, closed.then_some(reason))
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn no_position_of_a_perspective_is_taken_twice_and_every_sample_is_placed_or_named_as_overlapped(
        streams in any_streams(), split in 0usize..6
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
        for gap in &ledger.gaps {
            let crosses = |piece: &&Piece| piece.perspective == gap.perspective
                && piece.position < gap.position + gap.samples && gap.position < piece.end();
            prop_assert!(ledger.pieces.iter().find(crosses).is_none(), "a gap lies where audio lies");
        }
        let placed: u64 = ledger.pieces.iter().map(|piece| piece.samples).sum();
        let received: u64 = ledger.streams.iter().map(|facts| facts.samples).sum();
        let overlapped: u64 = ledger.overlaps.iter().map(|overlap| overlap.samples).sum();
        prop_assert!(placed <= received && placed + overlapped >= received);
    }
}
