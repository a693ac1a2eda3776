//! From taps to recordings, on stores that behave.

use earpiece_core::contact::facts::LostReason;
use earpiece_core::contact::ledger::GapReason;
use object_store::local::LocalFileSystem;

use super::*;

/// Every case here runs on each of these.
pub(super) fn stores() -> Vec<(Arc<dyn ObjectStore>, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().expect("a folder");
    let local = LocalFileSystem::new_with_prefix(folder.path()).expect("a store").with_automatic_cleanup(true);
    vec![(memory(), None), (Arc::new(local), Some(folder))]
}

#[tokio::test]
async fn a_call_is_recorded_byte_for_byte_with_left_the_contact_and_right_the_agent() {
    for (store, _folder) in stores() {
        let recorder = recorder(&store);
        let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
        let mut rx = Voice::new(&recorder, 2, Perspective::Rx, 400);
        for _ in 0..3 {
            tx.say(1_300);
            rx.say(700);
            tx.cut();
            rx.cut();
            recorder.flushed().await;
        }
        rx.wait(5_000);
        rx.say(500);
        let said = [tx.close(), rx.close()];
        recorder.flushed().await;
        let finished = recorder.finish(CONTACT).await.expect("finished");
        assert_eq!((finished.segments, finished.unreadable), (8, 0));
        assert_eq!(finished.ledger.gaps.len(), 2);
        assert_recording_is(&store, &finished.ledger, &said).await;
        assert_eq!(samples_lost(&finished.ledger), 0);
        assert_eq!(
            names(&store).await,
            ["contacts/7/42/events.jsonl", "contacts/7/42/ledger.json", "contacts/7/42/recording.wav"]
        );
        assert_eq!((recorder.counters().segments(), recorder.counters().ring_samples()), (8, 0));
    }
}

#[tokio::test]
async fn one_side_alone_is_stereo_and_a_mixed_call_is_mono() {
    for (perspective, channels) in [
        (Perspective::Tx, Channels::Stereo),
        (Perspective::Rx, Channels::Stereo),
        (Perspective::Mix, Channels::Mono),
        (Perspective::Unknown("7".into()), Channels::Mono),
    ] {
        let store = memory();
        let recorder = recorder(&store);
        let mut voice = Voice::new(&recorder, 1, perspective, 0);
        voice.say(1_020);
        let said = [voice.close()];
        recorder.flushed().await;
        let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
        assert_eq!(ledger.channels, channels);
        assert_recording_is(&store, &ledger, &said).await;
    }
}

#[tokio::test]
async fn a_segment_is_a_playable_file_with_facts_and_events_and_every_odd_byte() {
    let store = memory();
    let recorder = recorder(&store);
    let mut voice = Voice::new(&recorder, 1, Perspective::Tx, 0);
    voice.tap.push(&[1, 2, 3]);
    voice.facts.samples = 3;
    voice.facts.runs.push(Run { first_sample: 0, samples: 3, anchor_us: ORIGIN_US, drift_samples: 0 });
    voice.tap.events().push(&event(stream_id(1), ORIGIN_US, "hello"));
    voice.cut();
    recorder.flushed().await;
    let file = object(&store, &format!("live/7/42/{}-000000000000.wav", stream_id(1))).await;
    assert!(file.len().is_multiple_of(2));
    let wav = wav::parse(&file).expect("a WAV file");
    assert_eq!((wav.channels, wav.data), (wav::Channels::Mono, &[1, 2, 3][..]));
    let facts: StreamFacts = serde_json::from_slice(wav.chunk(*b"earp").expect("facts")).expect("JSON");
    assert_eq!(facts, voice.facts);
    let line: Value = serde_json::from_slice(wav.chunk(*b"evts").expect("events")).expect("JSON");
    assert_eq!(line["body"]["text"], "hello");
}

#[tokio::test]
async fn streams_of_two_tasks_one_of_which_died_make_one_recording() {
    for (store, _folder) in stores() {
        let (one, other) = (recorder(&store), recorder(&store));
        let mut tx = Voice::new(&one, 1, Perspective::Tx, 0);
        let mut rx = Voice::new(&other, 2, Perspective::Rx, 20);
        tx.say(2_000);
        rx.say(2_000);
        tx.cut();
        one.flushed().await;
        tx.say(600);
        let dead = tx.die();
        let mut again = Voice::new(&other, 3, Perspective::Tx, 3_200);
        again.say(800);
        let said = [dead, rx.close(), again.close()];
        other.flushed().await;

        let third = recorder(&store);
        assert_eq!(third.unfinished(10, Duration::ZERO).await.expect("listed"), [CONTACT]);
        let ledger = third.finish(CONTACT).await.expect("finished").ledger;
        assert_recording_is(&store, &ledger, &said).await;
        let unwritten: Vec<_> = ledger.unwritten.iter().map(|lost| (lost.position, lost.samples_max)).collect();
        assert_eq!(unwritten, [(16_000, 8_000)], "one segment at most");
        assert!(ledger.gaps.iter().any(|gap| gap.reason == GapReason::TaskLost));
        assert_eq!(third.unfinished(10, Duration::ZERO).await.expect("listed"), []);
    }
}

#[tokio::test]
async fn a_contact_that_comes_back_keeps_what_it_had_though_mono_becomes_stereo() {
    for (store, _folder) in stores() {
        let recorder = recorder(&store);
        let mut mix = Voice::new(&recorder, 1, Perspective::Mix, 0);
        mix.say(1_500);
        mix.tap.events().push(&event(stream_id(1), ORIGIN_US + 5, "first"));
        let mut said = vec![mix.close()];
        recorder.flushed().await;
        let first = recorder.finish(CONTACT).await.expect("finished").ledger;
        assert_recording_is(&store, &first, &said).await;

        // The agent was already talking when the mixed stream ended; then the contact comes in alone.
        for (n, perspective, at_ms) in
            [(2, Perspective::Rx, 1_200), (3, Perspective::Tx, 4_000), (4, Perspective::Mix, 4_500)]
        {
            let mut voice = Voice::new(&recorder, n, perspective, at_ms);
            voice.say(1_000);
            voice.tap.events().push(&event(stream_id(n), ORIGIN_US + at_ms, "later"));
            said.push(voice.close());
            recorder.flushed().await;
            let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
            assert_eq!(ledger.channels, Channels::Stereo);
            assert_eq!(ledger.pieces[0], first.pieces[0]);
            assert_recording_is(&store, &ledger, &said).await;
        }
        let times: Vec<_> =
            events(&store).await.iter().map(|event| event["atUs"].as_i64().expect("a time") - ORIGIN_US).collect();
        assert_eq!(times, [5, 1_200, 4_000, 4_500]);
    }
}

#[tokio::test]
async fn a_stream_that_goes_on_after_a_finish_is_continued_and_its_end_becomes_known() {
    let store = memory();
    let recorder = recorder(&store);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    tx.cut();
    recorder.flushed().await;
    let early = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_eq!(early.streams[0].closed.map(|closed| closed.reason), Some(CloseReason::TaskLost));
    tx.say(1_000);
    let said = [tx.close()];
    recorder.flushed().await;
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_recording_is(&store, &ledger, &said).await;
    assert_eq!(ledger.streams[0].closed.map(|closed| closed.reason), Some(CloseReason::PeerClosed));
    assert_eq!((ledger.samples, ledger.unwritten.len(), samples_lost(&ledger)), (16_000, 0, 0));
}

#[tokio::test]
async fn finishing_again_with_nothing_new_changes_nothing() {
    let store = memory();
    let recorder = recorder(&store);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    let _ = tx.close();
    let once = recorder.finish(CONTACT).await.expect("it waits for the segment");
    let files = everything(&store).await;
    let twice = recorder.finish(CONTACT).await.expect("finished");
    assert_eq!((twice.ledger, twice.segments), (once.ledger, 0));
    assert_eq!(everything(&store).await, files);
}

#[tokio::test]
async fn a_contact_without_a_single_segment_gets_an_empty_ledger_so_that_it_can_end() {
    let store = memory();
    let recorder = recorder(&store);
    assert_eq!(recorder.ledger(CONTACT).await.expect("looked up"), None);
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_eq!((ledger.samples, ledger.streams.len()), (0, 0));
    assert_recording_is(&store, &ledger, &[]).await;
    // And it begins like any other when something is heard of it at last.
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(100);
    let said = [tx.close()];
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_eq!(ledger.samples, 800);
    assert_recording_is(&store, &ledger, &said).await;
}

#[tokio::test]
async fn a_live_contact_shows_its_ledger_so_far_and_nothing_in_it_has_ended() {
    let store = memory();
    let recorder = recorder(&store);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    let mut rx = Voice::new(&recorder, 2, Perspective::Rx, 0);
    // A stream is known before it says anything.
    rx.cut();
    tx.say(1_000);
    tx.cut();
    recorder.flushed().await;
    let ledger = recorder.ledger(CONTACT).await.expect("looked up").expect("known");
    assert_eq!((ledger.samples, ledger.streams.len(), ledger.unwritten.len()), (8_000, 2, 0));
    assert!(ledger.streams.iter().all(|facts| facts.closed.is_none()));
    rx.say(100);
    let said = [tx.close(), rx.close()];
    let written = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_eq!(recorder.ledger(CONTACT).await.expect("looked up"), Some(written.clone()));
    assert_recording_is(&store, &written, &said).await;
}

#[tokio::test]
async fn a_segment_that_is_none_is_moved_aside_and_what_it_held_is_named() {
    for damage in [b"".to_vec(), b"RIFF".to_vec(), vec![0; 9_000]] {
        let store = memory();
        let recorder = recorder(&store);
        let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
        for _ in 0..3 {
            tx.say(1_000);
            tx.cut();
            recorder.flushed().await;
        }
        let said = [tx.close()];
        recorder.flushed().await;
        let middle = format!("{}-000000008000.wav", stream_id(1));
        let stray = Path::from("live/7/42/notes.txt");
        store.put(&Path::from(format!("live/7/42/{middle}")), damage.clone().into()).await.expect("damaged");
        store.put(&stray, b"x".to_vec().into()).await.expect("put");
        let finished = recorder.finish(CONTACT).await.expect("finished");
        assert_eq!((finished.unreadable, recorder.counters().segments_unreadable()), (2, 2));
        assert_recording_is(&store, &finished.ledger, &said).await;
        let lost: Vec<_> = finished.ledger.lost.iter().map(|lost| (lost.position, lost.samples, lost.reason)).collect();
        assert_eq!(lost, [(8_000, 8_000, LostReason::SegmentNotWritten)]);
        assert_eq!(object(&store, &format!("contacts/7/42/unreadable/{middle}")).await, damage);
        assert_eq!(recorder.unfinished(10, Duration::ZERO).await.expect("listed"), []);
    }
}

#[tokio::test]
async fn a_long_call_is_written_in_parts() {
    for (store, _folder) in stores() {
        let recorder = recorder(&store);
        let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
        for _ in 0..2 {
            tx.say(1_000);
            tx.cut();
            recorder.flushed().await;
            tx.wait(400_000);
        }
        let said = [tx.close()];
        recorder.flushed().await;
        let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
        assert!(ledger.samples * 2 > 6_000_000);
        assert_recording_is(&store, &ledger, &said).await;
    }
}

#[tokio::test]
async fn a_call_longer_than_a_file_can_be_is_refused_and_keeps_its_segments() {
    let store = memory();
    let recorder = recorder(&store);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    tx.wait(80 * 3_600_000);
    tx.say(1_000);
    let _ = tx.close();
    let error = recorder.finish(CONTACT).await.expect_err("too long");
    assert_eq!(error.kind(), earpiece_core::error::Kind::TooLarge);
    assert_eq!(names(&store).await.len(), 1);
    assert_eq!(recorder.unfinished(10, Duration::ZERO).await.expect("listed"), [CONTACT]);
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_is_not_written_over() {
    let store = memory();
    let recorder = recorder(&store);
    let ledger = Path::from("contacts/7/42/ledger.json");
    store.put(&ledger, b"{}".to_vec().into()).await.expect("put");
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(1_000);
    let _ = tx.close();
    let error = recorder.finish(CONTACT).await.expect_err("not a ledger");
    assert!(matches!(error, crate::Error::UnreadableLedger { contact: CONTACT }));
    assert_eq!(object(&store, ledger.as_ref()).await, b"{}");
}

#[tokio::test]
async fn unfinished_contacts_are_listed_up_to_the_limit_and_nothing_else_is() {
    let store = memory();
    let recorder = recorder(&store);
    for name in ["live/1/2/a", "live/1/3/a", "live/2/1/a", "live/x/1/a", "live/01/1/a", "live/9"] {
        store.put(&Path::from(name), b"x".to_vec().into()).await.expect("put");
    }
    let all = recorder.unfinished(10, Duration::ZERO).await.expect("listed");
    assert_eq!(all.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1/2", "1/3", "2/1"]);
    assert_eq!(recorder.unfinished(2, Duration::ZERO).await.expect("listed").len(), 2);
    let hour = Duration::from_hours(1);
    assert_eq!(recorder.unfinished(10, hour).await.expect("listed"), [], "written to a moment ago");
}

#[tokio::test]
async fn the_first_cut_is_due_at_a_time_of_its_own_and_the_next_a_segment_later() {
    let store = memory();
    let recorder = recorder(&store);
    let mut firsts = std::collections::BTreeSet::new();
    for n in 0..20 {
        let mut voice = Voice::new(&recorder, n, Perspective::Tx, 0);
        assert!(!voice.tap.is_due(voice.now_us()), "not before some time has passed");
        let first = (0..=1_000).find(|ms| voice.tap.is_due(voice.now_us() + ms * 1_000)).expect("within a segment");
        firsts.insert(first);
        voice.say(100);
        voice.wait(1_000);
        voice.cut();
        recorder.flushed().await;
        let cut_us = voice.now_us();
        assert!(!voice.tap.is_due(cut_us + 1_000_000), "nothing to write");
        voice.say(20);
        assert!(!voice.tap.is_due(cut_us + 999_999));
        assert!(voice.tap.is_due(cut_us + 1_000_000));
    }
    assert!(firsts.len() > 10, "{firsts:?}");
}

#[tokio::test]
async fn events_without_audio_are_written_too_and_none_is_written_over() {
    let store = memory();
    let recorder = recorder(&store);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    tx.say(100);
    for at_us in 0..3 {
        tx.tap.events().push(&event(stream_id(1), at_us, "on hold"));
        tx.cut();
        recorder.flushed().await;
    }
    tx.wait(1_000);
    tx.say(100);
    tx.tap.events().push(&event(stream_id(1), 3, "back"));
    let said = [tx.close()];
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_recording_is(&store, &ledger, &said).await;
    let times: Vec<_> = events(&store).await.iter().map(|event| event["atUs"].clone()).collect();
    assert_eq!(times, [json!(0), json!(1), json!(2), json!(3)]);
}
