//! What reading shows.

use std::collections::BTreeSet;

use earpiece_core::contact::ContactKey;
use earpiece_core::protocol::perspective::Perspective;
use tokio::task::JoinSet;

use super::{EVERYTHING, QUIET_MS, RETAIN_MS, STALE_MS, Scene, eventually, ms};
use crate::read::PAGE_ITEMS_MAX;
use crate::{Store, StreamError};

/// Every case of this module.
pub async fn all(store: &Store) {
    an_unknown_contact_is_absent(store).await;
    an_expired_contact_is_absent_everywhere(store).await;
    only_contacts_that_are_due_are_due(store).await;
    the_longest_overdue_come_first_and_no_more_than_asked_for(store).await;
    all_live_contacts_are_listed_however_many_pages_they_fill(store).await;
}

/// No error, no record.
pub async fn an_unknown_contact_is_absent(store: &Store) {
    let scene = Scene::new(store);
    assert_eq!(store.contact(&scene.contact, scene.now_ms).await.unwrap(), None);
}

/// DynamoDB deletes it days later: until then every operation treats it as if it were not there.
pub async fn an_expired_contact_is_absent_everywhere(store: &Store) {
    let scene = Scene::new(store);
    let stream = scene.ending("finisher").await;
    assert!(scene.finish("finisher", 3000).await);
    let expired_ms = 4000 + ms(RETAIN_MS);
    assert_eq!(store.contact(&scene.contact, scene.now_ms + expired_ms).await.unwrap(), None);
    assert_eq!(scene.checkpoint(&Perspective::Tx, stream, 1, expired_ms).await, Err(StreamError::Gone));
    assert_eq!(scene.end(&Perspective::Tx, stream, expired_ms).await, Err(StreamError::Gone));
    assert!(!scene.request_end(expired_ms).await);
    assert_eq!(scene.begin_ending("finisher", expired_ms).await, None);
}

/// Neither those whose time is to come nor those that are finished.
pub async fn only_contacts_that_are_due_are_due(store: &Store) {
    let (streaming, on_hold, finished) = (Scene::new(store), Scene::new(store), Scene::new(store));
    streaming.opened(&Perspective::Tx).await;
    let stream = on_hold.opened(&Perspective::Tx).await;
    on_hold.end(&Perspective::Tx, stream, 1000).await.unwrap();
    finished.ending("finisher").await;
    assert!(finished.finish("finisher", 2000).await);

    let (stale_ms, quiet_ms) = (ms(STALE_MS), 1000 + ms(QUIET_MS));
    let seen = async |after_ms| {
        (streaming.is_due(after_ms).await, on_hold.is_due(after_ms).await, finished.is_due(after_ms).await)
    };
    assert!(eventually(async || seen(stale_ms - 1).await == (false, false, false)).await);
    assert!(eventually(async || seen(stale_ms).await == (true, false, false)).await);
    assert!(eventually(async || seen(quiet_ms - 1).await == (true, false, false)).await);
    assert!(eventually(async || seen(quiet_ms).await == (true, true, false)).await);
}

/// Over all shards of the index.
pub async fn the_longest_overdue_come_first_and_no_more_than_asked_for(store: &Store) {
    let mine: Vec<_> = (0..8).map(|_| Scene::new(store)).collect();
    // In the first seconds of 1970, so that nobody else's contacts come before these; written in another order.
    for second in (1..=8).rev() {
        let long_ago = Scene { now_ms: second * 1000, ..mine[usize::try_from(second).unwrap() - 1].clone() };
        long_ago.opened(&Perspective::Tx).await;
    }
    let keys = |count: usize| mine.iter().take(count).map(|scene| scene.contact).collect::<Vec<_>>();
    for limit in [8, 3, 1] {
        let is_right = async || {
            let due = store.due(mine[0].now_ms, limit).await.unwrap();
            due.iter().map(|record| record.contact).collect::<Vec<_>>() == keys(limit)
        };
        assert!(eventually(is_right).await, "limit {limit}");
    }
    assert_eq!(store.due(mine[0].now_ms, 0).await.unwrap(), []);
    for scene in &mine {
        assert!(scene.begin_ending("finisher", 0).await.is_some());
        assert!(scene.finish("finisher", 0).await);
    }
}

/// One shard alone holds more than a page.
pub async fn all_live_contacts_are_listed_however_many_pages_they_fill(store: &Store) {
    let first = Scene::new(store);
    // Contacts whose ids differ by 4 lie in one shard; this business unit is used by nothing else.
    let bus_no = first.contact.bus_no ^ (1 << 63);
    let scene_of = |contact_id| Scene { contact: ContactKey { bus_no, contact_id }, ..first.clone() };
    let count = PAGE_ITEMS_MAX as u64 * 2 + 1;
    let mut claims = JoinSet::new();
    for index in 0..count {
        let scene = scene_of(index * 4);
        claims.spawn(async move { scene.opened(&Perspective::Tx).await });
    }
    claims.join_all().await;

    let is_complete = async || {
        let live = store.live(EVERYTHING).await.unwrap();
        let mine = live.iter().map(|record| record.contact).filter(|contact| contact.bus_no == bus_no);
        let mine: Vec<_> = mine.collect();
        assert!(mine.is_sorted());
        let distinct: BTreeSet<_> = mine.iter().collect();
        assert_eq!(distinct.len(), mine.len(), "no contact twice");
        mine.len() as u64 == count
    };
    assert!(eventually(is_complete).await);
    for limit in [0, 1, PAGE_ITEMS_MAX + 1] {
        assert_eq!(store.live(limit).await.unwrap().len(), limit);
    }
}
