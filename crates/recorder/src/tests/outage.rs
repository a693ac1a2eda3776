//! A slow or failing store harms nobody, and what it costs is named to the sample.

use earpiece_core::contact::facts::{Lost, LostReason};

use super::store::{Moody, Put};
use super::*;
use crate::block::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

fn moody() -> (Arc<dyn ObjectStore>, Arc<Moody>, Recorder) {
    moody_with(settings())
}

fn moody_with(settings: Settings) -> (Arc<dyn ObjectStore>, Arc<Moody>, Recorder) {
    let store = memory();
    let moody = Moody::over(&store);
    let through: Arc<dyn ObjectStore> = moody.clone();
    (store, moody, recorder_with(&through, settings))
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_fails_a_few_times_is_written_all_the_same() {
    let (store, moody, recorder) = moody();
    moody.next_puts([Put::Fails, Put::Fails]);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    tx.cut();
    recorder.flushed().await;
    assert_eq!((recorder.counters().segments(), recorder.counters().write_errors()), (1, 2));
    assert_eq!((recorder.counters().ring_samples(), names(&store).await.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_no_retry_could_write_goes_with_the_next_cut() {
    let (store, moody, recorder) = moody();
    moody.all_puts(Put::Fails);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    tx.tap.events().push(&event(stream_id(1), 1, "kept with its segment"));
    tx.cut();
    recorder.flushed().await;
    assert_eq!(recorder.counters().write_errors(), 3);
    moody.all_puts(Put::Succeeds);
    tx.say(1_000);
    assert!(tx.tap.is_due(tx.now_us() + 1_000_000));
    tx.cut();
    recorder.flushed().await;
    assert_eq!(names(&store).await.len(), 2, "each under its own name");
    let said = [tx.close()];
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_eq!((samples_lost(&ledger), recorder.counters().segments_given_up()), (0, 0));
    assert_recording_is(&store, &ledger, &said).await;
    assert_eq!(events(&store).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_a_segment_is_in_the_air_audio_gathers_and_no_cut_is_due() {
    let (store, moody, recorder) = moody();
    moody.next_puts([Put::Takes(900)]);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    tx.cut();
    tx.say(1_500);
    assert!(!tx.tap.is_due(tx.now_us() + 5_000_000));
    tx.cut();
    recorder.flushed().await;
    assert_eq!(names(&store).await.len(), 1);
    assert!(tx.tap.is_due(tx.now_us() + 5_000_000), "it has landed");
    let said = [tx.close()];
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_recording_is(&store, &ledger, &said).await;
    assert_eq!(samples_lost(&ledger), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_ring_cannot_hold_is_lost_from_its_oldest_end_and_named_once() {
    let (store, moody, recorder) = moody();
    moody.next_puts([Put::Takes(900)]);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    tx.cut();
    // 3 s fit (segment and ring), and half a second is made room for at a time.
    tx.say(5_000);
    let lost = tx.tap.take_lost().expect("lost");
    assert_eq!(lost, Lost { first_sample: 8_000, samples: 4 * BLOCK, reason: LostReason::RecorderRingFull });
    assert_eq!(tx.tap.take_lost(), None);
    tx.facts.lost.push(lost);
    recorder.flushed().await;
    tx.cut();
    recorder.flushed().await;
    let said = [tx.close()];
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_recording_is(&store, &ledger, &said).await;
    let lost: Vec<_> = ledger.lost.iter().map(|lost| (lost.position, lost.samples, lost.reason)).collect();
    assert_eq!(lost, [(8_000, 16_000, LostReason::RecorderRingFull)]);
}

#[tokio::test(start_paused = true)]
async fn a_segment_for_which_there_is_no_more_room_is_given_up_and_its_events_are_counted() {
    let (store, moody, recorder) = moody();
    moody.all_puts(Put::Fails);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    tx.tap.events().push(&event(stream_id(1), 1, "lost with its segment"));
    tx.cut();
    tx.say(2_600);
    recorder.flushed().await;
    let lost = tx.tap.take_lost().expect("lost");
    assert_eq!(lost, Lost { first_sample: 0, samples: 8_000, reason: LostReason::SegmentNotWritten });
    assert_eq!(recorder.counters().segments_given_up(), 1);
    tx.facts.lost.push(lost);
    moody.all_puts(Put::Succeeds);
    let said = [tx.close()];
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_recording_is(&store, &ledger, &said).await;
    assert_eq!(samples_lost(&ledger), 8_000);
    assert_eq!(events(&store).await[0]["body"], json!({ "events": 1 }));
}

#[tokio::test(start_paused = true)]
async fn the_last_segment_names_what_could_not_be_written_before_it() {
    let (store, moody, recorder) = moody_with(impatient());
    // The segment in the air fails, and fails again when the stream is closed; then the last one gets through.
    moody.next_puts([Put::Takes(2_000), Put::Fails, Put::Fails, Put::Fails, Put::Fails, Put::Fails]);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    tx.cut();
    tx.say(500);
    let said = [tx.close()];
    recorder.flushed().await;
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_recording_is(&store, &ledger, &said).await;
    assert_eq!(
        ledger.streams[0].lost,
        [Lost { first_sample: 0, samples: 8_000, reason: LostReason::SegmentNotWritten }]
    );
    assert!(ledger.unwritten.is_empty(), "its end is known");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_closed_during_an_outage_of_a_minute_loses_nothing() {
    let (store, moody, recorder) = moody();
    moody.all_puts(Put::Fails);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    tx.cut();
    tx.say(500);
    let said = [tx.close()];
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(names(&store).await.len(), 0);
    moody.all_puts(Put::Succeeds);
    recorder.flushed().await;
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_recording_is(&store, &ledger, &said).await;
    assert_eq!((samples_lost(&ledger), recorder.counters().segments_given_up()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_was_written_though_nobody_heard_is_not_called_lost() {
    let (store, moody, recorder) = moody_with(impatient());
    moody.all_puts(Put::SucceedsUnheard);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    tx.cut();
    tx.say(2_600);
    recorder.flushed().await;
    tx.note_lost();
    assert_eq!(tx.facts.lost.len(), 1, "as far as the stream knows");
    let said = [tx.close()];
    recorder.flushed().await;
    moody.all_puts(Put::Succeeds);
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_recording_is(&store, &ledger, &said).await;
    assert_eq!(samples_lost(&ledger), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_given_up_in_bounded_time_and_writers_are_shared() {
    let (_store, moody, recorder) = moody_with(Settings { writers: 2, ..impatient() });
    moody.all_puts(Put::Takes(u64::MAX / 2));
    let began = tokio::time::Instant::now();
    for n in 0..4 {
        let mut voice = Voice::new(&recorder, n, Perspective::Tx, 0);
        voice.say(200);
        let _ = voice.close();
    }
    recorder.flushed().await;
    // Three attempts of a second each, by two writers for four streams, and the pauses between.
    assert!(began.elapsed() <= std::time::Duration::from_millis(2 * 3_000 + 300), "{:?}", began.elapsed());
    assert_eq!(recorder.counters().segments_given_up(), 4);
    assert_eq!(recorder.counters().ring_samples(), 0);
}

#[tokio::test(start_paused = true)]
async fn finishing_waits_for_the_contacts_own_segments_but_for_no_others() {
    let (store, moody, recorder) = moody();
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    moody.next_puts([Put::Takes(500), Put::Takes(950)]);
    let said = [tx.close()];
    tokio::task::yield_now().await;
    let other = ContactKey { bus_no: 1, contact_id: 1 };
    let mut elsewhere = recorder.tap(other, stream_id(9));
    elsewhere.push(&[1; 100]);
    let facts = StreamFacts { contact: other, stream: stream_id(9), ..said[0].facts.clone() };
    elsewhere.close(&facts);
    let began = tokio::time::Instant::now();
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_eq!(began.elapsed().as_millis(), 500);
    assert_recording_is(&store, &ledger, &said).await;
}

#[tokio::test(start_paused = true)]
async fn no_text_of_the_store_nor_of_the_call_is_in_an_error() {
    let (_store, moody, recorder) = moody();
    moody.all_puts(Put::Fails);
    let error = recorder.finish(CONTACT).await.expect_err("nothing can be written");
    assert_eq!(error.to_string(), "the recordings store failed to write a recording: the store reported a failure");
    assert_eq!(error.kind(), earpiece_core::error::Kind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn events_beside_pieces_that_no_retry_could_write_are_counted_in_the_next_segment() {
    let (store, moody, recorder) = moody();
    moody.all_puts(Put::Fails);
    let facts = Voice::new(&recorder, 1, Perspective::Tx, 0).facts;
    let log = recorder.events(stream_id(1));
    log.push(&event(stream_id(1), ORIGIN_US + 1, "lost"));
    assert!(recorder.write_events(&facts, &log, ORIGIN_US + 2).await.is_err());
    assert_eq!((recorder.counters().events_dropped(), recorder.counters().segments_given_up()), (1, 1));
    moody.all_puts(Put::Succeeds);
    log.push(&event(stream_id(1), ORIGIN_US + 3, "kept"));
    recorder.write_events(&facts, &log, ORIGIN_US + 3).await.expect("written");
    recorder.finish(CONTACT).await.expect("finished");
    let kinds: Vec<Value> = events(&store).await.iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["earpiece.dropped", "transcript"]);
}
