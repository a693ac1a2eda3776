//! A finish that dies after any of its steps, and is done again by another task, comes to the same.

use super::store::{Moody, Put};
use super::*;

/// A contact that was finished as mono, came back with both sides and a mixed stream at once, and lost a segment.
async fn contact_that_came_back(store: &Arc<dyn ObjectStore>) -> Vec<Said> {
    let recorder = recorder(store);
    let mut said = Vec::new();
    let mut mix = Voice::new(&recorder, 1, Perspective::Mix, 0);
    mix.say(1_200);
    mix.tap.events().push(&event(stream_id(1), ORIGIN_US, "before"));
    said.push(mix.close());
    recorder.finish(CONTACT).await.expect("finished");

    for (n, perspective, at_ms) in [
        (2, Perspective::Tx, 1_000),
        (3, Perspective::Rx, 1_100),
        (4, Perspective::Mix, 2_000),
        (5, Perspective::Tx, 2_600),
        (6, Perspective::Rx, 2_700),
    ] {
        let mut voice = Voice::new(&recorder, n, perspective, at_ms);
        for _ in 0..3 {
            voice.say(400);
            voice.tap.events().push(&event(stream_id(n), voice.now_us(), "after"));
            voice.cut();
            recorder.flushed().await;
        }
        said.push(if n == 5 { voice.die() } else { voice.close() });
        recorder.flushed().await;
    }
    let torn = format!("live/7/42/{}-000000003200.wav", stream_id(3));
    store.put(&Path::from(torn), b"torn".to_vec().into()).await.expect("torn");
    said
}

#[tokio::test]
async fn a_finish_that_dies_after_any_change_is_made_good_by_the_next() {
    let undisturbed = memory();
    let said = contact_that_came_back(&undisturbed).await;
    let ledger = recorder(&undisturbed).finish(CONTACT).await.expect("finished").ledger;
    assert_recording_is(&undisturbed, &ledger, &said).await;
    let expected = everything(&undisturbed).await;
    assert_eq!(expected.len(), 4, "three files, and the segment that was torn");

    let mut deaths = 0;
    loop {
        let store = memory();
        contact_that_came_back(&store).await;
        let dying = Moody::over(&store);
        dying.dies_after(deaths);
        let through: Arc<dyn ObjectStore> = dying;
        let survived = recorder(&through).finish(CONTACT).await.is_ok();
        let again = recorder(&store).finish(CONTACT).await.expect("finished").ledger;
        assert_eq!(again, ledger, "after {deaths} changes");
        assert!(everything(&store).await == expected, "after {deaths} changes");
        if survived {
            break;
        }
        deaths += 1;
    }
    // Recording, events, ledger, the torn segment's copy, and every segment.
    assert!(deaths > 15, "{deaths}");
}

#[tokio::test(start_paused = true)]
async fn two_tasks_that_finish_at_once_do_each_other_no_harm() {
    let undisturbed = memory();
    contact_that_came_back(&undisturbed).await;
    let ledger = recorder(&undisturbed).finish(CONTACT).await.expect("finished").ledger;
    let expected = everything(&undisturbed).await;
    for round in 0..40_u64 {
        let store = memory();
        contact_that_came_back(&store).await;
        let tasks = [0, 1].map(|task| {
            let moody = Moody::over(&store);
            moody.next_puts((0..3).map(|step| Put::Takes((round * 7 + task * 13 + step * 5) % 17)));
            let through: Arc<dyn ObjectStore> = moody;
            recorder(&through)
        });
        let begins = std::time::Duration::from_millis(round % 11);
        let late = async {
            tokio::time::sleep(begins).await;
            tasks[1].finish(CONTACT).await
        };
        let (one, other) = tokio::join!(tasks[0].finish(CONTACT), late);
        assert!(one.is_ok() || other.is_ok(), "round {round}");
        let again = recorder(&store).finish(CONTACT).await.expect("finished").ledger;
        assert_eq!(again, ledger, "round {round}");
        assert!(everything(&store).await == expected, "round {round}");
    }
}

#[tokio::test]
async fn segments_that_remain_in_any_number_and_order_change_nothing() {
    let store = memory();
    contact_that_came_back(&store).await;
    let segments: Vec<_> = everything(&store).await.into_iter().filter(|(name, _)| name.starts_with("live/")).collect();
    let ledger = recorder(&store).finish(CONTACT).await.expect("finished").ledger;
    let expected = everything(&store).await;
    for round in 0..20_usize {
        for (n, (name, bytes)) in segments.iter().enumerate() {
            if (n * 7 + round * 3) % 5 < 2 {
                store.put(&Path::from(name.as_str()), bytes.clone().into()).await.expect("put back");
            }
        }
        let again = recorder(&store).finish(CONTACT).await.expect("finished").ledger;
        assert_eq!(again, ledger, "round {round}");
        assert!(everything(&store).await == expected, "round {round}");
    }
}
