//! A contact ends, and one task finishes it.

use earpiece_core::contact::StreamId;
use earpiece_core::protocol::perspective::Perspective;
use tokio::task::JoinSet;

use super::{LEASE_MS, QUIET_MS, RETAIN_MS, STALE_MS, Scene, clock_ms, eventually, ms};
use crate::{Claim, ContactState, EndReason, Finisher, Store};

/// Tasks that bid for one contact.
const TASKS: usize = 20;
/// How often a race is run.
const ROUNDS: usize = 20;

/// Every case of this module.
pub async fn all(store: &Store) {
    a_requested_end_is_due_when_the_last_stream_ends(store).await;
    a_requested_end_of_a_quiet_contact_is_due_at_once(store).await;
    a_requested_end_never_misses_the_last_stream(store).await;
    an_end_of_what_is_unknown_or_over_changes_nothing(store).await;
    of_tasks_that_bid_for_a_contact_exactly_one_gets_it(store).await;
    a_contact_that_is_not_over_is_not_given_away(store).await;
    a_contact_that_is_due_too_early_is_put_off(store).await;
    a_stream_is_lost_when_it_said_so_itself_and_not_when_the_finisher_thinks_so(store).await;
    a_lease_that_ran_out_is_taken_over(store).await;
    a_handshake_during_the_bid_leaves_the_contact_live(store).await;
    a_finished_contact_leaves_the_index_and_expires(store).await;
    only_the_finisher_can_finish(store).await;
}

/// The Studio script says "over" while the sockets are still open: the usual order.
pub async fn a_requested_end_is_due_when_the_last_stream_ends(store: &Store) {
    let scene = Scene::new(store);
    let (tx, rx) = (scene.opened(&Perspective::Tx).await, scene.opened(&Perspective::Rx).await);
    assert!(scene.request_end(1000).await);
    assert!(scene.record().await.end_requested);
    assert_eq!(scene.due_after_ms().await, Some(ms(STALE_MS)), "while it streams it is not over");
    assert_eq!(scene.begin_ending("task", 1500).await, None);
    scene.end(&Perspective::Tx, tx, 2000).await.unwrap();
    assert_eq!(scene.begin_ending("task", 2500).await, None);
    scene.end(&Perspective::Rx, rx, 3000).await.unwrap();
    assert!(scene.due_after_ms().await.unwrap() <= 3000);
    assert!(eventually(async || scene.is_due(3000).await).await);
    let record = scene.begin_ending("task", 3000).await.unwrap();
    assert_eq!((record.end_reason, record.ended_at_ms), (Some(EndReason::Event), Some(scene.now_ms + 3000)));
}

/// No quiet period is waited for.
pub async fn a_requested_end_of_a_quiet_contact_is_due_at_once(store: &Store) {
    let scene = Scene::new(store);
    let tx = scene.opened(&Perspective::Tx).await;
    scene.end(&Perspective::Tx, tx, 1000).await.unwrap();
    assert!(scene.request_end(2000).await);
    assert_eq!(scene.due_after_ms().await, Some(2000));
}

/// Both in the same instant: the contact is due, whoever is first.
pub async fn a_requested_end_never_misses_the_last_stream(store: &Store) {
    for _ in 0..ROUNDS {
        let scene = Scene::new(store);
        let tx = scene.opened(&Perspective::Tx).await;
        let (requested, ended) = tokio::join!(scene.request_end(1000), scene.end(&Perspective::Tx, tx, 1000));
        assert!(requested);
        ended.unwrap();
        assert_eq!(scene.due_after_ms().await, Some(1000));
    }
}

/// An event may come for a contact of which no audio ever came, or come twice.
pub async fn an_end_of_what_is_unknown_or_over_changes_nothing(store: &Store) {
    let scene = Scene::new(store);
    assert!(!scene.request_end(0).await);
    assert_eq!(store.contact(&scene.contact, scene.now_ms).await.unwrap(), None);
    scene.ending("finisher").await;
    let ending = scene.record().await;
    assert!(scene.request_end(3000).await);
    assert_eq!(scene.record().await, ending);
    assert!(scene.finish("finisher", 3000).await);
    let ended = scene.record().await;
    assert!(scene.request_end(4000).await);
    assert_eq!(scene.record().await, ended);
    assert!(!scene.request_end(2 * ms(RETAIN_MS)).await, "expired is unknown");
}

/// The others get nothing, and the record says who.
pub async fn of_tasks_that_bid_for_a_contact_exactly_one_gets_it(store: &Store) {
    for _ in 0..ROUNDS {
        let scene = Scene::new(store);
        let tx = scene.opened(&Perspective::Tx).await;
        scene.end(&Perspective::Tx, tx, 1000).await.unwrap();
        let now_ms = 1000 + ms(QUIET_MS);
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let (scene, task) = (scene.clone(), format!("task-{task}"));
            tasks.spawn(async move { scene.begin_ending(&task, now_ms).await.map(|record| (task, record)) });
        }
        let mut won: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        let (task, record) = won.pop().unwrap();
        assert_eq!(won, []);
        let lease_until_ms = scene.now_ms + now_ms + ms(LEASE_MS);
        assert_eq!((record.state, record.end_reason), (ContactState::Ending, Some(EndReason::Quiet)));
        assert_eq!(
            (&record.finisher, record.due_at_ms),
            (&Some(Finisher { task, lease_until_ms }), Some(lease_until_ms))
        );
        assert_eq!(record, scene.record().await);
    }
}

/// Not while it streams, not while it is on hold.
pub async fn a_contact_that_is_not_over_is_not_given_away(store: &Store) {
    let scene = Scene::new(store);
    assert_eq!(scene.begin_ending("task", 0).await, None);
    let tx = scene.opened(&Perspective::Tx).await;
    assert_eq!(scene.begin_ending("task", ms(STALE_MS) - 1).await, None);
    scene.end(&Perspective::Tx, tx, 1000).await.unwrap();
    let on_hold = scene.record().await;
    assert_eq!(scene.begin_ending("task", ms(QUIET_MS)).await, None);
    assert_eq!(scene.record().await, on_hold);
}

/// A dead task leaves a due time that knows nothing of the quiet period: who looks corrects it, so that the sweep
/// does not see the same contact for ever.
pub async fn a_contact_that_is_due_too_early_is_put_off(store: &Store) {
    let scene = Scene::new(store);
    scene.opened(&Perspective::Tx).await;
    assert!(eventually(async || scene.is_due(ms(STALE_MS)).await).await);
    assert_eq!(scene.begin_ending("task", ms(STALE_MS)).await, None);
    assert_eq!(scene.due_after_ms().await, Some(ms(QUIET_MS)));
    assert!(eventually(async || !scene.is_due(ms(STALE_MS)).await).await);
    assert!(scene.begin_ending("task", ms(QUIET_MS)).await.is_some());
}

/// API Gateway's streams are noted less often than the shim's, and either side finishes the contacts of both.
pub async fn a_stream_is_lost_when_it_said_so_itself_and_not_when_the_finisher_thinks_so(store: &Store) {
    let patient_ms = 2 * QUIET_MS;
    let scene = Scene::new(store);
    let stream = StreamId::new();
    let claim = Claim { stale_after_ms: patient_ms, ..scene.claiming(&Perspective::Tx, stream, 0) };
    store.claim(&claim).await.unwrap();
    assert_eq!(scene.record().await.streams["TX"].stale_after_ms, Some(patient_ms));
    // Another perspective of another kind brings the contact before the finisher early.
    let hasty = scene.opened(&Perspective::Rx).await;
    scene.end(&Perspective::Rx, hasty, 1000).await.unwrap();
    assert!(scene.request_end(1500).await);
    assert!(eventually(async || scene.is_due(ms(STALE_MS)).await).await);
    assert_eq!(scene.begin_ending("task", ms(STALE_MS)).await, None, "in mid-call");
    assert_eq!(scene.due_after_ms().await, Some(ms(patient_ms)), "it is put off by the stream's measure");
    assert_eq!(scene.begin_ending("task", ms(patient_ms) - 1).await, None);

    // The next sign of life says anew for how long it holds.
    scene.checkpoint(&Perspective::Tx, stream, 8000, 60_000).await.unwrap();
    assert_eq!(scene.record().await.streams["TX"].stale_after_ms, Some(STALE_MS));
    let dead_ms = 60_000 + ms(STALE_MS);
    assert_eq!(scene.begin_ending("task", dead_ms - 1).await, None);
    let ending = scene.begin_ending("task", dead_ms).await.unwrap();
    assert_eq!((ending.end_reason, ending.streams["TX"].open), (Some(EndReason::Event), false));
}

/// The new finisher has it; the old one is told so.
pub async fn a_lease_that_ran_out_is_taken_over(store: &Store) {
    let scene = Scene::new(store);
    scene.ending("first").await;
    let runs_out_ms = 2000 + ms(LEASE_MS);
    assert_eq!(scene.begin_ending("second", runs_out_ms - 1).await, None);
    assert!(eventually(async || scene.is_due(runs_out_ms).await).await);
    let taken = scene.begin_ending("second", runs_out_ms).await.unwrap();
    assert_eq!(taken.finisher.unwrap().task, "second");
    assert_eq!((taken.end_reason, taken.ended_at_ms), (Some(EndReason::Event), Some(scene.now_ms + 2000)));
    assert!(!scene.finish("first", runs_out_ms).await);
    assert!(scene.finish("second", runs_out_ms).await);
}

/// Whichever is first: nobody finishes a contact that streams.
pub async fn a_handshake_during_the_bid_leaves_the_contact_live(store: &Store) {
    for _ in 0..ROUNDS {
        let scene = Scene::new(store);
        let tx = scene.opened(&Perspective::Tx).await;
        scene.end(&Perspective::Tx, tx, 1000).await.unwrap();
        assert!(scene.request_end(1000).await);
        let (bid, (_, claimed)) =
            tokio::join!(scene.begin_ending("finisher", 2000), scene.claim(&Perspective::Tx, 2_000_000));
        assert_eq!(claimed.unwrap().reopened, bid.is_some());
        let record = scene.record().await;
        assert_eq!((record.state, record.streams["TX"].open), (ContactState::Live, true));
        assert!(!scene.finish("finisher", 2500).await);
    }
}

/// Finishing twice is finishing once.
pub async fn a_finished_contact_leaves_the_index_and_expires(store: &Store) {
    let scene = Scene::new(store);
    scene.ending("finisher").await;
    assert!(eventually(async || scene.is_live().await).await);
    assert!(scene.finish("finisher", 3000).await);
    assert!(scene.finish("finisher", 3000).await, "a request that was sent twice");
    let record = scene.record().await;
    assert_eq!((record.state, record.finisher, record.due_at_ms), (ContactState::Ended, None, None));
    assert!(eventually(async || !scene.is_live().await && !scene.is_due(ms(RETAIN_MS)).await).await);
    assert_eq!(scene.begin_ending("finisher", ms(RETAIN_MS)).await, None);

    let kept_until_ms = scene.now_ms + 3000 + ms(RETAIN_MS);
    assert!(clock_ms() < kept_until_ms);
    assert!(store.contact(&scene.contact, kept_until_ms - 1).await.unwrap().is_some());
    // Times to live are whole seconds, rounded up.
    assert_eq!(store.contact(&scene.contact, kept_until_ms + 1000).await.unwrap(), None);
}

/// And only while it is finishing.
pub async fn only_the_finisher_can_finish(store: &Store) {
    let scene = Scene::new(store);
    assert!(!scene.finish("finisher", 0).await, "an unknown contact");
    let live = Scene::new(store);
    live.opened(&Perspective::Tx).await;
    assert!(!live.finish("finisher", 0).await, "a contact that streams");
    scene.ending("finisher").await;
    assert!(!scene.finish("somebody else", 3000).await);
    assert_eq!(scene.record().await.state, ContactState::Ending);
}
