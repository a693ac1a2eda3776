//! A handshake takes a perspective.

use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use tokio::task::JoinSet;

use super::{LEASE_MS, QUIET_MS, RETAIN_MS, STALE_MS, Scene, ms};
use crate::{Claim, ClaimError, ContactState, Store};

/// Sockets that race for one generation.
const SOCKETS: usize = 50;
/// How often they do.
const ROUNDS: u64 = 50;

/// Every case of this module.
pub async fn all(store: &Store) {
    generations_count_up_in_each_perspective_by_itself(store).await;
    a_claim_makes_the_contact_and_its_stream_live(store).await;
    a_repeated_claim_is_answered_as_the_first_time(store).await;
    a_handshake_that_is_not_newer_is_refused(store).await;
    of_handshakes_in_the_same_microsecond_exactly_one_wins(store).await;
    of_handshakes_in_any_order_the_newest_holds_the_stream(store).await;
    a_handshake_after_a_hold_reopens_nothing(store).await;
    a_handshake_takes_a_contact_back_from_its_finisher(store).await;
    a_handshake_brings_an_ended_contact_back_for_good(store).await;
    an_expired_contact_refuses_no_handshake(store).await;
    the_largest_ids_come_back_as_they_went(store).await;
}

/// 1, 2, 3 for each perspective, whatever the others do.
pub async fn generations_count_up_in_each_perspective_by_itself(store: &Store) {
    let scene = Scene::new(store);
    let unknown = Perspective::Unknown(String::from("7"));
    for round in 1..=3 {
        for perspective in [Perspective::Tx, Perspective::Rx, Perspective::Mix, unknown.clone()] {
            let (stream, claimed) = scene.claim(&perspective, round).await;
            let claimed = claimed.unwrap();
            assert_eq!(claimed.generation, round.cast_unsigned());
            assert_eq!(claimed.record.stream(&perspective).unwrap().stream, stream);
        }
    }
    assert_eq!(scene.record().await.streams.len(), 4);
}

/// Every field of a first claim.
pub async fn a_claim_makes_the_contact_and_its_stream_live(store: &Store) {
    let scene = Scene::new(store);
    let (stream, claimed) = scene.claim(&Perspective::Tx, 2500).await;
    let claimed = claimed.unwrap();
    assert!(!claimed.reopened);
    assert_eq!(claimed.record, scene.record().await);

    let record = claimed.record;
    assert_eq!(record.contact, scene.contact);
    assert_eq!(record.state, ContactState::Live);
    assert_eq!(record.opened_at_us, scene.now_ms * 1000 + 2500);
    assert_eq!(record.due_at_ms, Some(scene.now_ms + 2 + ms(STALE_MS)));
    assert!(!record.end_requested && record.finisher.is_none() && record.end_reason.is_none());

    let tx = &record.streams["TX"];
    assert_eq!((tx.stream, tx.generation, tx.task.as_str()), (stream, 1, "task"));
    assert_eq!((tx.open, tx.samples, tx.close_reason), (true, 0, None));
    assert_eq!((tx.opened_at_us, tx.seen_at_ms), (record.opened_at_us, scene.now_ms + 2));
}

/// A request that was sent twice, because its first answer was lost, takes no second generation.
pub async fn a_repeated_claim_is_answered_as_the_first_time(store: &Store) {
    let scene = Scene::new(store);
    let stream = StreamId::new();
    let first = scene.claim_as(&Perspective::Rx, stream, 0).await.unwrap();
    let again = scene.claim_as(&Perspective::Rx, stream, 0).await.unwrap();
    assert_eq!(first, again);
}

/// Older or as old: refused, and told who holds the stream.
pub async fn a_handshake_that_is_not_newer_is_refused(store: &Store) {
    let scene = Scene::new(store);
    let (holder, claimed) = scene.claim(&Perspective::Tx, 1000).await;
    let held = claimed.unwrap().record;
    for after_us in [0, 999, 1000] {
        let (_, refused) = scene.claim(&Perspective::Tx, after_us).await;
        let Err(ClaimError::Superseded { current }) = refused else { panic!("{refused:?}") };
        assert_eq!(current.stream, holder);
    }
    assert_eq!(scene.record().await, held);
    assert_eq!(scene.claim(&Perspective::Tx, 1001).await.1.unwrap().generation, 2);
}

/// 50 sockets claim one generation, 50 times over.
pub async fn of_handshakes_in_the_same_microsecond_exactly_one_wins(store: &Store) {
    let scene = Scene::new(store);
    for round in 1..=ROUNDS {
        let mut sockets = JoinSet::new();
        for _ in 0..SOCKETS {
            let scene = scene.clone();
            sockets.spawn(async move { scene.claim(&Perspective::Tx, round.cast_signed()).await });
        }
        let (mut winners, mut refused_by) = (Vec::new(), Vec::new());
        for (stream, claimed) in sockets.join_all().await {
            match claimed {
                Ok(claimed) => winners.push((stream, claimed.generation)),
                Err(ClaimError::Superseded { current }) => refused_by.push((current.stream, current.generation)),
                Err(ClaimError::Store(error)) => panic!("{error}"),
            }
        }
        let [winner] = winners[..] else { panic!("round {round}: {winners:?}") };
        assert_eq!(winner.1, round);
        assert_eq!(refused_by, vec![winner; SOCKETS - 1]);
    }
}

/// 50 sockets that shook hands one after the other reach the store in any order.
pub async fn of_handshakes_in_any_order_the_newest_holds_the_stream(store: &Store) {
    let scene = Scene::new(store);
    let mut sockets = JoinSet::new();
    for socket in 0..SOCKETS {
        let scene = scene.clone();
        // 23 and 50 share no factor: every instant once, well shuffled, on top of what the scheduler does.
        let after_us = i64::try_from(socket * 23 % SOCKETS).unwrap();
        sockets.spawn(async move { (after_us, scene.claim(&Perspective::Tx, after_us).await) });
    }
    let mut winners = Vec::new();
    for (after_us, (stream, claimed)) in sockets.join_all().await {
        match claimed {
            Ok(claimed) => winners.push((claimed.generation, after_us, stream)),
            Err(ClaimError::Superseded { current }) => {
                assert!(current.opened_at_us > scene.now_ms * 1000 + after_us, "refused by an older one");
            }
            Err(ClaimError::Store(error)) => panic!("{error}"),
        }
    }
    winners.sort_unstable();
    assert!(winners.is_sorted_by(|(_, one, _), (_, next, _)| one < next), "generations follow the handshakes");
    let generations: Vec<_> = winners.iter().map(|(generation, ..)| *generation).collect();
    assert_eq!(generations, (1..=winners.len() as u64).collect::<Vec<_>>());

    let (generation, after_us, stream) = winners.pop().unwrap();
    let current = scene.record().await.streams["TX"].clone();
    assert_eq!(after_us, i64::try_from(SOCKETS - 1).unwrap());
    assert_eq!((current.stream, current.generation), (stream, generation));
}

/// A hold by closed sockets is no end.
pub async fn a_handshake_after_a_hold_reopens_nothing(store: &Store) {
    let scene = Scene::new(store);
    let held = scene.opened(&Perspective::Tx).await;
    scene.end(&Perspective::Tx, held, 1000).await.unwrap();
    let (_, resumed) = scene.claim(&Perspective::Tx, 5_000_000).await;
    let resumed = resumed.unwrap();
    assert!(!resumed.reopened);
    let tx = &resumed.record.streams["TX"];
    assert_eq!((resumed.generation, tx.open, tx.samples, tx.close_reason), (2, true, 0, None));
    assert_eq!(resumed.record.due_at_ms, Some(scene.now_ms + 5000 + ms(STALE_MS)));
}

/// The finisher learns that its work was not the last.
pub async fn a_handshake_takes_a_contact_back_from_its_finisher(store: &Store) {
    let scene = Scene::new(store);
    scene.ending("finisher").await;
    let (_, claimed) = scene.claim(&Perspective::Rx, 3_000_000).await;
    let claimed = claimed.unwrap();
    assert!(claimed.reopened);
    assert_eq!((claimed.record.state, claimed.record.finisher), (ContactState::Live, None));
    assert!(!claimed.record.end_requested, "an end that was requested before does not end what came after");
    assert_eq!((claimed.record.ended_at_ms, claimed.record.end_reason), (None, None));
    assert!(!scene.finish("finisher", 4000).await);
    assert_eq!(scene.record().await.state, ContactState::Live);
}

/// It is as live as any other, its generations go on, and it does not expire.
pub async fn a_handshake_brings_an_ended_contact_back_for_good(store: &Store) {
    let scene = Scene::new(store);
    scene.ending("finisher").await;
    assert!(scene.finish("finisher", 3000).await);
    let (_, claimed) = scene.claim(&Perspective::Tx, 4_000_000).await;
    let claimed = claimed.unwrap();
    assert!(claimed.reopened);
    assert_eq!(claimed.generation, 2);
    assert_eq!(claimed.record.opened_at_us, scene.now_ms * 1000, "it is the same contact");
    let long_after_ms = scene.now_ms + 100 * ms(RETAIN_MS);
    assert_eq!(store.contact(&scene.contact, long_after_ms).await.unwrap(), Some(claimed.record));
}

/// It counts as absent, even for a handshake that is older than the last one it knew.
pub async fn an_expired_contact_refuses_no_handshake(store: &Store) {
    let scene = Scene::new(store);
    scene.ending("finisher").await;
    assert!(scene.finish("finisher", 3000).await);
    let stream = StreamId::new();
    let claim = Claim {
        contact: scene.contact,
        perspective: &Perspective::Tx,
        stream,
        opened_at_us: scene.now_ms * 1000,
        task: "task",
        now_ms: scene.now_ms + ms(LEASE_MS + RETAIN_MS + QUIET_MS),
        stale_after_ms: STALE_MS,
    };
    let claimed = store.claim(&claim).await.unwrap();
    assert_eq!(claimed.record.streams["TX"].stream, stream);
    assert_eq!(store.contact(&scene.contact, i64::MAX).await.unwrap(), Some(claimed.record));
}

/// 64 bits, as the contract allows.
pub async fn the_largest_ids_come_back_as_they_went(store: &Store) {
    let contact = ContactKey { bus_no: u64::MAX, contact_id: u64::MAX };
    // Other runs may have used it: only what this one wrote is looked at.
    let scene = Scene { contact, ..Scene::new(store) };
    let stream = scene.opened(&Perspective::Mix).await;
    scene.checkpoint(&Perspective::Mix, stream, u64::MAX, 1).await.unwrap();
    let record = scene.record().await;
    assert_eq!(record.contact, contact);
    assert_eq!((record.streams["MIX"].stream, record.streams["MIX"].samples), (stream, u64::MAX));
    scene.end(&Perspective::Mix, stream, 1000).await.unwrap();
    scene.request_end(1000).await;
    assert!(scene.begin_ending("finisher", 2000).await.is_some());
    assert!(scene.finish("finisher", 2000).await);
}
