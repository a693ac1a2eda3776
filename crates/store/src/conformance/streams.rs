//! The holder of a perspective lives and ends.

use earpiece_core::contact::StreamId;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::protocol::perspective::Perspective;
use tokio::task::JoinSet;

use super::{QUIET_MS, STALE_MS, Scene, ms};
use crate::{ContactState, Store, StreamError};

/// How often streams race to end.
const ROUNDS: usize = 50;

/// Every case of this module.
pub async fn all(store: &Store) {
    a_checkpoint_puts_off_the_moment_its_task_counts_as_dead(store).await;
    a_superseded_stream_has_nothing_to_say(store).await;
    a_stream_of_an_unknown_contact_is_gone(store).await;
    a_stream_that_never_claimed_is_gone(store).await;
    ending_twice_is_ending_once(store).await;
    a_late_checkpoint_does_not_bring_an_ended_stream_back(store).await;
    the_due_time_stays_while_another_perspective_streams(store).await;
    perspectives_that_end_at_once_leave_the_contact_due_at_quiet(store).await;
    a_lost_stream_that_checkpoints_brings_its_contact_back(store).await;
    a_lost_stream_that_ends_brings_its_contact_back(store).await;
}

/// And counts what it heard.
pub async fn a_checkpoint_puts_off_the_moment_its_task_counts_as_dead(store: &Store) {
    let scene = Scene::new(store);
    let stream = scene.opened(&Perspective::Tx).await;
    scene.checkpoint(&Perspective::Tx, stream, 480_000, 60_000).await.unwrap();
    let record = scene.record().await;
    let tx = &record.streams["TX"];
    assert_eq!((tx.samples, tx.seen_at_ms, tx.open), (480_000, scene.now_ms + 60_000, true));
    assert_eq!(record.due_at_ms, Some(scene.now_ms + 60_000 + ms(STALE_MS)));
}

/// Neither a checkpoint nor an end of it changes anything.
pub async fn a_superseded_stream_has_nothing_to_say(store: &Store) {
    let scene = Scene::new(store);
    let old = scene.opened(&Perspective::Tx).await;
    let (new, claimed) = scene.claim(&Perspective::Tx, 1).await;
    let record = claimed.unwrap().record;
    for refused in
        [scene.checkpoint(&Perspective::Tx, old, 5, 1000).await, scene.end(&Perspective::Tx, old, 1000).await]
    {
        let Err(StreamError::Superseded { current }) = refused else { panic!("{refused:?}") };
        assert_eq!(current.stream, new);
    }
    assert_eq!(scene.record().await, record);
}

/// It makes no contact by the way.
pub async fn a_stream_of_an_unknown_contact_is_gone(store: &Store) {
    let scene = Scene::new(store);
    let stream = StreamId::new();
    assert_eq!(scene.checkpoint(&Perspective::Tx, stream, 5, 0).await, Err(StreamError::Gone));
    assert_eq!(scene.end(&Perspective::Tx, stream, 0).await, Err(StreamError::Gone));
    assert_eq!(store.contact(&scene.contact, scene.now_ms).await.unwrap(), None);
}

/// A perspective is not claimed by checkpoint.
pub async fn a_stream_that_never_claimed_is_gone(store: &Store) {
    let scene = Scene::new(store);
    let stream = scene.opened(&Perspective::Tx).await;
    assert_eq!(scene.checkpoint(&Perspective::Rx, stream, 5, 0).await, Err(StreamError::Gone));
    assert_eq!(scene.end(&Perspective::Rx, stream, 0).await, Err(StreamError::Gone));
}

/// A request that was sent twice does not put off the end.
pub async fn ending_twice_is_ending_once(store: &Store) {
    let scene = Scene::new(store);
    let stream = scene.opened(&Perspective::Tx).await;
    scene.end(&Perspective::Tx, stream, 1000).await.unwrap();
    let record = scene.record().await;
    let tx = &record.streams["TX"];
    assert_eq!((tx.open, tx.samples, tx.close_reason), (false, 800, Some(CloseReason::PeerClosed)));
    scene.end(&Perspective::Tx, stream, 2000).await.unwrap();
    assert_eq!(scene.record().await, record);
}

/// Requests may arrive in another order than they were sent.
pub async fn a_late_checkpoint_does_not_bring_an_ended_stream_back(store: &Store) {
    let scene = Scene::new(store);
    let stream = scene.opened(&Perspective::Tx).await;
    scene.end(&Perspective::Tx, stream, 1000).await.unwrap();
    let record = scene.record().await;
    assert_eq!(scene.checkpoint(&Perspective::Tx, stream, 5, 999).await, Err(StreamError::Gone));
    assert_eq!(scene.record().await, record);
}

/// The last one to end starts the quiet period.
pub async fn the_due_time_stays_while_another_perspective_streams(store: &Store) {
    let scene = Scene::new(store);
    let tx = scene.opened(&Perspective::Tx).await;
    let rx = scene.opened(&Perspective::Rx).await;
    scene.end(&Perspective::Tx, tx, 1000).await.unwrap();
    assert_eq!(scene.due_after_ms().await, Some(ms(STALE_MS)));
    scene.end(&Perspective::Rx, rx, 3000).await.unwrap();
    assert_eq!(scene.due_after_ms().await, Some(3000 + ms(QUIET_MS)));
}

/// One of them sees the other closed, whoever is first; so it is with two and with four.
pub async fn perspectives_that_end_at_once_leave_the_contact_due_at_quiet(store: &Store) {
    for _ in 0..ROUNDS {
        let scene = Scene::new(store);
        let (tx, rx) = (scene.opened(&Perspective::Tx).await, scene.opened(&Perspective::Rx).await);
        let (one, other) = tokio::join!(scene.end(&Perspective::Tx, tx, 1000), scene.end(&Perspective::Rx, rx, 1000));
        one.unwrap();
        other.unwrap();
        assert_eq!(scene.due_after_ms().await, Some(1000 + ms(QUIET_MS)));
    }
    let unknown = Perspective::Unknown(String::from("7"));
    for _ in 0..ROUNDS {
        let scene = Scene::new(store);
        let mut streams = Vec::new();
        for perspective in [Perspective::Tx, Perspective::Rx, Perspective::Mix, unknown.clone()] {
            streams.push((scene.opened(&perspective).await, perspective));
        }
        let mut ends = JoinSet::new();
        for (stream, perspective) in streams {
            let scene = scene.clone();
            ends.spawn(async move { scene.end(&perspective, stream, 1000).await });
        }
        assert!(ends.join_all().await.iter().all(Result::is_ok));
        assert_eq!(scene.due_after_ms().await, Some(1000 + ms(QUIET_MS)));
    }
}

/// A task that could not reach the store for long is not dead because the others think so.
pub async fn a_lost_stream_that_checkpoints_brings_its_contact_back(store: &Store) {
    let (scene, stream) = lost(store).await;
    let back_ms = ms(QUIET_MS) + 1000;
    scene.checkpoint(&Perspective::Tx, stream, 99, back_ms).await.unwrap();
    let record = scene.record().await;
    assert_eq!((record.state, record.finisher.as_ref(), record.end_reason), (ContactState::Live, None, None));
    let tx = &record.streams["TX"];
    assert_eq!((tx.open, tx.close_reason, tx.generation), (true, None, 1));
    assert_eq!(record.due_at_ms, Some(scene.now_ms + back_ms + ms(STALE_MS)));
    assert!(!scene.finish("finisher", back_ms).await, "the finisher did not see all of it");
}

/// Its last audio has to be finished too.
pub async fn a_lost_stream_that_ends_brings_its_contact_back(store: &Store) {
    let (scene, stream) = lost(store).await;
    let back_ms = ms(QUIET_MS) + 1000;
    assert!(scene.finish("finisher", back_ms).await);
    scene.end(&Perspective::Tx, stream, back_ms).await.unwrap();
    let record = scene.record().await;
    assert_eq!(record.state, ContactState::Live);
    assert_eq!(record.streams["TX"].close_reason, Some(CloseReason::PeerClosed));
    assert_eq!(record.due_at_ms, Some(scene.now_ms + back_ms + ms(QUIET_MS)));
    let again = scene.begin_ending("finisher", back_ms + ms(QUIET_MS)).await;
    assert!(again.is_some());
}

/// A contact whose only stream counts as lost and which is being finished.
async fn lost(store: &Store) -> (Scene, StreamId) {
    let scene = Scene::new(store);
    let stream = scene.opened(&Perspective::Tx).await;
    let record = scene.begin_ending("finisher", ms(QUIET_MS)).await.unwrap();
    let tx = &record.streams["TX"];
    assert_eq!((tx.open, tx.close_reason), (false, Some(CloseReason::TaskLost)));
    (scene, stream)
}
