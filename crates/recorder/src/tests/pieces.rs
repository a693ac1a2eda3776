//! Streams that are written a piece at a time, by handlers that share nothing, in whatever order these come to it.

use earpiece_core::contact::facts::{Lost, LostReason};
use proptest::prelude::*;

use super::recording::stores;
use super::*;
use crate::Error;

/// A stream as it is known after each of its messages.
struct Told {
    said: Vec<u8>,
    /// First sample of each message, and the facts after it.
    pieces: Vec<(usize, StreamFacts)>,
    facts: StreamFacts,
}

impl Told {
    fn new(recorder: &Recorder, n: u64, perspective: Perspective) -> Self {
        let facts = Voice::new(recorder, n, perspective, 0).facts;
        Self { said: Vec::new(), pieces: Vec::new(), facts }
    }

    fn say(&mut self, samples: usize) {
        let from = self.said.len();
        let seed = self.facts.generation.unwrap_or(0) * 77_777;
        self.said.extend((from..from + samples).map(|n| sample(seed + n as u64)));
        if self.facts.runs.is_empty() {
            self.facts.runs.push(Run { first_sample: 0, samples: 0, anchor_us: ORIGIN_US, drift_samples: 0 });
        }
        self.facts.frames += 1;
        self.facts.samples += samples as u64;
        self.facts.runs.last_mut().expect("a run").samples += samples as u64;
        self.pieces.push((from, self.facts.clone()));
    }

    fn close(&mut self) {
        let at_us = ORIGIN_US + self.facts.samples.cast_signed() * 125;
        self.facts.closed = Some(Closed { at_us, reason: CloseReason::PeerClosed });
    }

    fn samples_of(&self, piece: usize) -> &[u8] {
        let (from, facts) = &self.pieces[piece];
        &self.said[*from..usize::try_from(facts.samples).expect("short")]
    }

    /// Writes a piece with the facts as they were then.
    async fn write(&self, recorder: &Recorder, piece: usize) {
        let (from, facts) = &self.pieces[piece];
        recorder.write_piece(facts, *from as u64, self.samples_of(piece)).await.expect("written");
    }

    async fn write_end(&self, recorder: &Recorder) {
        recorder.write_piece(&self.facts, self.facts.samples, &[]).await.expect("written");
    }

    fn into_said(self) -> Said {
        Said { facts: self.facts, samples: self.said }
    }
}

#[tokio::test]
async fn a_piece_is_there_when_it_is_acknowledged_and_the_same_piece_is_the_same_object() {
    for (store, _folder) in stores() {
        let recorder = recorder(&store);
        let mut told = Told::new(&recorder, 1, Perspective::Tx);
        recorder.write_piece(&told.facts, 0, &[]).await.expect("written");
        told.say(8_001);
        told.write(&recorder, 0).await;
        let once = everything(&store).await;
        let stream = stream_id(1);
        assert_eq!(
            once.keys().collect::<Vec<_>>(),
            [&format!("live/7/42/{stream}-000000000000-1.wav"), &format!("live/7/42/{stream}-000000000000.wav")]
        );
        told.write(&recorder, 0).await;
        assert_eq!(everything(&store).await, once);
        assert_eq!(recorder.counters().segments(), 3);
    }
}

#[tokio::test]
async fn facts_that_do_not_know_a_piece_are_refused() {
    let store = memory();
    let recorder = recorder(&store);
    let mut told = Told::new(&recorder, 1, Perspective::Tx);
    told.say(100);
    let refused = recorder.write_piece(&told.facts, 1, &[0; 100]).await;
    assert!(matches!(refused, Err(Error::NotWritable { .. })), "{refused:?}");
    assert!(names(&store).await.is_empty());
}

#[tokio::test]
async fn a_piece_that_was_claimed_and_never_written_is_named_as_lost() {
    let store = memory();
    let recorder = recorder(&store);
    let mut told = Told::new(&recorder, 1, Perspective::Tx);
    for _ in 0..3 {
        told.say(8_000);
    }
    told.close();
    told.write(&recorder, 0).await;
    told.write(&recorder, 2).await;
    told.write_end(&recorder).await;
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    let lost = Lost { first_sample: 8_000, samples: 8_000, reason: LostReason::SegmentNotWritten };
    assert_eq!(ledger.streams[0].lost, [lost]);
    assert_recording_is(&store, &ledger, &[told.into_said()]).await;
    assert_eq!(samples_lost(&ledger), 8_000);
}

#[tokio::test]
async fn the_end_may_be_told_before_the_last_piece_is_written() {
    let store = memory();
    let recorder = recorder(&store);
    let mut told = Told::new(&recorder, 1, Perspective::Rx);
    told.say(8_000);
    told.say(4_000);
    told.close();
    told.write(&recorder, 0).await;
    told.write_end(&recorder).await;
    told.write(&recorder, 1).await;
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_eq!(ledger.streams[0].closed, told.facts.closed);
    assert_recording_is(&store, &ledger, &[told.into_said()]).await;
    assert_eq!((samples_lost(&ledger), ledger.unwritten.len()), (0, 0));
}

#[tokio::test]
async fn a_piece_that_comes_after_its_contact_was_finished_fills_its_place() {
    let store = memory();
    let recorder = recorder(&store);
    let mut told = Told::new(&recorder, 1, Perspective::Tx);
    for _ in 0..3 {
        told.say(8_000);
    }
    told.close();
    told.write(&recorder, 0).await;
    told.write_end(&recorder).await;
    let before = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_eq!(samples_lost(&before), 16_000);

    told.write(&recorder, 2).await;
    let ledger = recorder.finish(CONTACT).await.expect("finished again").ledger;
    assert_eq!((ledger.pieces.clone(), samples_lost(&ledger)), (before.pieces, 8_000));
    assert_eq!(ledger.lost[0].position, 8_000);
    told.write(&recorder, 1).await;
    let ledger = recorder.finish(CONTACT).await.expect("finished again").ledger;
    assert_eq!((samples_lost(&ledger), ledger.streams[0].lost.len()), (0, 0));
    assert_recording_is(&store, &ledger, &[told.into_said()]).await;
    assert_eq!(names(&store).await.len(), 3, "nothing is left behind");
}

#[tokio::test]
async fn events_beside_pieces_are_in_the_file_even_those_that_come_after_their_contact_was_finished() {
    let store = memory();
    let recorder = recorder(&store);
    let mut told = Told::new(&recorder, 1, Perspective::Tx);
    told.say(8_000);
    told.say(8_000);
    told.close();
    told.write(&recorder, 0).await;
    // Two tasks, one of which knows of the first piece alone.
    let (here, elsewhere) = (recorder.events(stream_id(1)), recorder.events(stream_id(1)));
    here.push(&event(stream_id(1), ORIGIN_US + 3, "hello"));
    elsewhere.push(&event(stream_id(1), ORIGIN_US + 2, "before"));
    recorder.write_events(&told.pieces[0].1, &here, ORIGIN_US).await.expect("written");
    recorder.write_events(&told.pieces[0].1, &elsewhere, ORIGIN_US).await.expect("written");
    recorder.write_events(&told.pieces[0].1, &here, ORIGIN_US).await.expect("there is nothing to write");
    assert_eq!(names(&store).await.len(), 3);
    told.write(&recorder, 1).await;
    told.write_end(&recorder).await;
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_eq!((ledger.samples, samples_lost(&ledger)), (16_000, 0));
    let words = |events: &[Value]| -> Vec<Value> { events.iter().map(|event| event["body"]["text"].clone()).collect() };
    assert_eq!(words(&events(&store).await), ["before", "hello"]);

    here.push(&event(stream_id(1), ORIGIN_US + 4, "last words"));
    recorder.write_events(&told.pieces[0].1, &here, ORIGIN_US).await.expect("written");
    let again = recorder.finish(CONTACT).await.expect("finished again").ledger;
    assert_eq!(again, ledger, "old facts change nothing");
    assert_eq!(words(&events(&store).await), ["before", "hello", "last words"]);
    assert_recording_is(&store, &again, &[told.into_said()]).await;
    assert_eq!(names(&store).await.len(), 3, "nothing is left behind");
}

#[tokio::test]
async fn further_events_stand_among_the_others_in_the_order_of_time_and_once() {
    let store = memory();
    let recorder = recorder(&store);
    let mut voice = Voice::new(&recorder, 1, Perspective::Tx, 0);
    voice.say(1_000);
    voice.tap.events().push(&event(stream_id(1), ORIGIN_US + 5, "hello"));
    voice.close();
    let told = |at: i64, word: &str| json!({ "atUs": ORIGIN_US + at, "type": "script", "event": word });
    let hold_and_start = [told(7, "hold"), told(1, "start")];
    recorder.finish_with(CONTACT, &hold_and_start).await.expect("finished");
    let order = |events: Vec<Value>| -> Vec<i64> {
        events.iter().map(|event| event["atUs"].as_i64().expect("a time") - ORIGIN_US).collect()
    };
    assert_eq!(order(events(&store).await), [1, 5, 7]);
    // Nothing new was said, but the script told more.
    let with_end = [told(7, "hold"), told(1, "start"), told(9, "end")];
    recorder.finish_with(CONTACT, &with_end).await.expect("finished");
    assert_eq!(order(events(&store).await), [1, 5, 7, 9]);
    recorder.finish(CONTACT).await.expect("finished");
    assert_eq!(events(&store).await.len(), 4);
}

#[derive(Debug, Clone)]
enum Step {
    Piece(usize),
    End,
    Finish,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the order, whatever is written twice, and however often the contact is finished between.
    #[test]
    fn every_piece_that_was_written_is_in_the_recording_and_every_other_one_is_named(
        lengths in prop::collection::vec(1usize..700, 1..8),
        mut order in prop::collection::vec(0usize..9, 0..16),
        end_at in 0usize..16,
        finish_at in prop::option::of(0usize..16),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let store = memory();
            let recorder = recorder(&store);
            let mut told = Told::new(&recorder, 1, Perspective::Tx);
            for length in &lengths {
                told.say(*length);
            }
            told.close();
            order.retain(|piece| *piece < lengths.len());
            let mut steps: Vec<Step> = order.iter().map(|piece| Step::Piece(*piece)).collect();
            steps.insert(end_at.min(steps.len()), Step::End);
            if let Some(at) = finish_at {
                // After the end: before it a contact is finished only when its task is thought dead.
                let end = steps.iter().position(|step| matches!(step, Step::End)).expect("an end");
                steps.insert((end + 1 + at).min(steps.len()), Step::Finish);
            }
            steps.push(Step::Finish);
            let mut last = None;
            for step in steps {
                match step {
                    Step::Piece(piece) => told.write(&recorder, piece).await,
                    Step::End => told.write_end(&recorder).await,
                    Step::Finish => last = Some(recorder.finish(CONTACT).await.expect("finished").ledger),
                }
            }
            let ledger = last.expect("finished");
            let missing = (0..lengths.len()).filter(|piece| !order.contains(piece));
            let missing: usize = missing.map(|piece| lengths[piece]).sum();
            assert_eq!(samples_lost(&ledger), missing as u64);
            assert_recording_is(&store, &ledger, &[told.into_said()]).await;
            assert_eq!(names(&store).await.len(), 3);
        });
    }
}

#[test]
fn everything_can_run_on_any_thread() {
    fn can_be_sent<T: Send>(_: &T) {}
    fn check(recorder: &Recorder, facts: &StreamFacts, events: &[Value]) {
        can_be_sent(&recorder.finish(CONTACT));
        can_be_sent(&recorder.finish_with(CONTACT, events));
        can_be_sent(&recorder.write_piece(facts, 0, &[]));
        can_be_sent(&recorder.ledger(CONTACT));
    }
    // It is the compiler that judges.
    let _: fn(&Recorder, &StreamFacts, &[Value]) = check;
}
