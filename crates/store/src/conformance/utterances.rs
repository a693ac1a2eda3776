//! An utterance is accepted once, and kept until it is delivered.

use earpiece_core::contact::ContactKey;
use earpiece_core::protocol::perspective::Perspective;
use tokio::task::JoinSet;

use super::{EVERYTHING, Scene, eventually, ms};
use crate::utterance::{PAYLOAD_BYTES_MAX, UTTERANCES_READ_MAX};
use crate::{Acceptance, Accepted, DueUtterance, Store};

/// Copies of one utterance, or sweepers, at once.
const AT_ONCE: usize = 50;
/// How often a race is run.
const ROUNDS: usize = 5;
/// For how long only the request delivers, here.
const LEASE_MS: u64 = 30_000;
/// For how long a delivered utterance is remembered, here.
const WINDOW_MS: u64 = 300_000;
/// For how long a delivery is worth trying, and a dead letter is kept, here.
const KEEP_MS: u64 = 86_400_000;

/// Every case of this module.
pub async fn all(store: &Store) {
    of_copies_at_once_exactly_one_is_new(store).await;
    a_request_that_was_sent_twice_is_new_twice(store).await;
    an_undelivered_utterance_is_a_duplicate_however_late(store).await;
    a_delivered_utterance_is_a_duplicate_within_the_window(store).await;
    contacts_do_not_share_their_utterances(store).await;
    what_is_not_delivered_within_its_lease_is_due(store).await;
    of_sweepers_exactly_one_takes_a_due_utterance(store).await;
    what_was_put_off_is_due_again_then_unless_another_has_it(store).await;
    whoever_delivers_last_delivers(store).await;
    a_dead_letter_is_kept_and_can_be_brought_back(store).await;
    an_expired_dead_letter_is_absent(store).await;
    the_longest_overdue_are_read_first(store).await;
    the_largest_payload_comes_back_as_it_went(store).await;
    a_contact_and_its_utterances_do_not_see_each_other(store).await;
}

impl Scene {
    async fn accept(&self, key: &str, request_id: &str, after_ms: i64) -> Accepted {
        self.accept_payload(key, request_id, request_id.as_bytes(), after_ms).await
    }

    async fn accept_payload(&self, key: &str, request_id: &str, payload: &[u8], after_ms: i64) -> Accepted {
        let (contact, now_ms) = (self.contact, self.now_ms + after_ms);
        let (lease_ms, window_ms, keep_ms) = (LEASE_MS, WINDOW_MS, KEEP_MS);
        let acceptance = Acceptance { contact, key, request_id, payload, now_ms, lease_ms, window_ms, keep_ms };
        self.store.accept_utterance(&acceptance).await.unwrap()
    }

    async fn delivered(&self, key: &str, request_id: &str, after_ms: i64) {
        let now_ms = self.now_ms + after_ms;
        self.store.utterance_delivered(&self.contact, key, request_id, now_ms, WINDOW_MS).await.unwrap();
    }

    /// The contact's due utterances, in the first seconds of 1970 or whenever the scene plays: only when nothing older
    /// lies in the table is it sure to be among them.
    async fn due_utterances(&self, after_ms: i64) -> Vec<DueUtterance> {
        let due = self.store.due_utterances(self.now_ms + after_ms, EVERYTHING).await.unwrap();
        due.into_iter().filter(|due| due.contact == self.contact).collect()
    }

    async fn due_utterance(&self, after_ms: i64) -> DueUtterance {
        assert!(eventually(async || self.due_utterances(after_ms).await.len() == 1).await);
        self.due_utterances(after_ms).await.remove(0)
    }

    async fn dead_utterances(&self, after_ms: i64) -> Vec<DueUtterance> {
        let dead = self.store.dead_utterances(self.now_ms + after_ms, EVERYTHING).await.unwrap();
        dead.into_iter().filter(|dead| dead.contact == self.contact).collect()
    }

    async fn bury(&self, key: &str, request_id: &str, after_ms: i64) {
        let now_ms = self.now_ms + after_ms;
        self.store.bury_utterance(&self.contact, key, request_id, now_ms, KEEP_MS, "refused").await.unwrap();
    }
}

/// A scene in 1970, so that its utterances are before everybody else's.
fn long_ago(store: &Store) -> Scene {
    Scene { now_ms: 1000, ..Scene::new(store) }
}

fn duplicate_of(request_id: &str, is_delivered: bool) -> Accepted {
    Accepted::Duplicate { request_id: request_id.to_owned(), is_delivered }
}

/// The rest is told whose it is.
pub async fn of_copies_at_once_exactly_one_is_new(store: &Store) {
    for _ in 0..ROUNDS {
        let scene = Scene::new(store);
        let mut copies = JoinSet::new();
        for copy in 0..AT_ONCE {
            let scene = scene.clone();
            copies.spawn(async move {
                let request_id = format!("request-{copy}");
                (scene.accept("key", &request_id, 0).await, request_id)
            });
        }
        let accepted = copies.join_all().await;
        let new: Vec<_> = accepted.iter().filter(|(accepted, _)| *accepted == Accepted::New).collect();
        let [(_, winner)] = new[..] else { panic!("{} are new", new.len()) };
        let others = accepted.iter().filter(|(_, request_id)| request_id != winner);
        assert!(others.into_iter().all(|(accepted, _)| *accepted == duplicate_of(winner, false)));
        scene.delivered("key", winner, 10).await;
    }
}

/// But not once it was taken or delivered: then there is nothing left to do.
pub async fn a_request_that_was_sent_twice_is_new_twice(store: &Store) {
    let scene = long_ago(store);
    assert_eq!(scene.accept("key", "one", 0).await, Accepted::New);
    assert_eq!(scene.accept("key", "one", 0).await, Accepted::New);
    let due = scene.due_utterance(ms(LEASE_MS)).await;
    assert!(store.take_utterance(&due, scene.now_ms + ms(LEASE_MS), LEASE_MS).await.unwrap());
    assert_eq!(scene.accept("key", "one", 0).await, duplicate_of("one", false));
    scene.delivered("key", "one", ms(LEASE_MS)).await;
    assert_eq!(scene.accept("key", "one", 0).await, duplicate_of("one", true));
}

/// Its window begins when it is delivered.
pub async fn an_undelivered_utterance_is_a_duplicate_however_late(store: &Store) {
    let scene = Scene::new(store);
    assert_eq!(scene.accept("key", "one", 0).await, Accepted::New);
    let late_ms = ms(KEEP_MS) * 1000;
    assert_eq!(scene.accept("key", "two", late_ms).await, duplicate_of("one", false));
    scene.delivered("key", "one", late_ms).await;
    assert_eq!(scene.accept("key", "two", late_ms + 1).await, duplicate_of("one", true));
}

/// To the millisecond, though times to live are whole seconds.
pub async fn a_delivered_utterance_is_a_duplicate_within_the_window(store: &Store) {
    let scene = Scene::new(store);
    assert_eq!(scene.accept("key", "one", 0).await, Accepted::New);
    scene.delivered("key", "another", 50).await;
    assert_eq!(scene.accept("key", "two", 60).await, duplicate_of("one", false), "another's delivery is not its own");
    scene.delivered("key", "one", 100).await;
    let over_ms = 100 + ms(WINDOW_MS);
    scene.delivered("key", "one", over_ms).await;
    assert_eq!(scene.accept("key", "two", over_ms - 1).await, duplicate_of("one", true), "and twice is once");
    assert_eq!(scene.accept("key", "two", over_ms).await, Accepted::New);
    assert_eq!(scene.accept("key", "three", over_ms).await, duplicate_of("two", false));
    scene.delivered("key", "two", over_ms).await;
}

/// The same words in two contacts are two utterances.
pub async fn contacts_do_not_share_their_utterances(store: &Store) {
    for scene in [Scene::new(store), Scene::new(store)] {
        assert_eq!(scene.accept("key", "one", 0).await, Accepted::New);
        assert_eq!(scene.accept("other", "one", 0).await, Accepted::New);
        scene.delivered("key", "one", 1).await;
        scene.delivered("other", "one", 1).await;
    }
}

/// With everything that is needed to deliver it.
pub async fn what_is_not_delivered_within_its_lease_is_due(store: &Store) {
    let scene = long_ago(store);
    assert_eq!(scene.accept_payload("key", "one", b"\x00words\xff", 7).await, Accepted::New);
    let due_ms = 7 + ms(LEASE_MS);
    let due = scene.due_utterance(due_ms).await;
    assert_eq!(scene.due_utterances(due_ms - 1).await, []);
    assert_eq!(
        (due.key.as_str(), due.request_id.as_str(), due.payload.as_slice()),
        ("key", "one", &b"\x00words\xff"[..])
    );
    assert_eq!((due.attempts, due.dead_reason.as_deref()), (0, None));
    assert_eq!(
        [due.accepted_at_ms, due.due_at_ms, due.keep_until_ms].map(|at_ms| at_ms - scene.now_ms),
        [7, due_ms, 7 + ms(KEEP_MS)]
    );
    scene.delivered("key", "one", due_ms).await;
    assert!(eventually(async || scene.due_utterances(due_ms).await.is_empty()).await);
}

/// And it counts as one attempt.
pub async fn of_sweepers_exactly_one_takes_a_due_utterance(store: &Store) {
    for _ in 0..ROUNDS {
        let scene = long_ago(store);
        scene.accept("key", "one", 0).await;
        let due = scene.due_utterance(ms(LEASE_MS)).await;
        let mut sweepers = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (store, due, now_ms) = (store.clone(), due.clone(), scene.now_ms + ms(LEASE_MS));
            sweepers.spawn(async move { store.take_utterance(&due, now_ms, LEASE_MS).await.unwrap() });
        }
        assert_eq!(sweepers.join_all().await.into_iter().filter(|taken| *taken).count(), 1);
        let again = scene.due_utterance(2 * ms(LEASE_MS)).await;
        assert_eq!((again.attempts, again.due_at_ms), (1, scene.now_ms + 2 * ms(LEASE_MS)));
        scene.delivered("key", "one", 3 * ms(LEASE_MS)).await;
    }
}

/// Somebody whose lease ran out does not move what another works at.
pub async fn what_was_put_off_is_due_again_then_unless_another_has_it(store: &Store) {
    let scene = long_ago(store);
    scene.accept("key", "one", 0).await;
    let (first_ms, second_ms) = (ms(LEASE_MS), 2 * ms(LEASE_MS));
    let first = scene.due_utterance(first_ms).await;
    assert!(store.take_utterance(&first, scene.now_ms + first_ms, LEASE_MS).await.unwrap());
    store.put_off_utterance(&first, scene.now_ms + first_ms + 500).await.unwrap();
    let second = scene.due_utterance(first_ms + 500).await;
    assert_eq!((second.attempts, second.due_at_ms), (1, scene.now_ms + first_ms + 500));

    assert!(store.take_utterance(&second, scene.now_ms + second_ms, LEASE_MS).await.unwrap());
    store.put_off_utterance(&first, scene.now_ms).await.unwrap();
    let third = scene.due_utterance(second_ms + ms(LEASE_MS)).await;
    assert_eq!((third.attempts, third.due_at_ms), (2, scene.now_ms + second_ms + ms(LEASE_MS)));
    scene.delivered("key", "one", second_ms).await;
    store.put_off_utterance(&third, scene.now_ms).await.unwrap();
    assert!(eventually(async || scene.due_utterances(ms(KEEP_MS)).await.is_empty()).await);
}

/// What is delivered after all is no dead letter, and cannot be buried.
pub async fn whoever_delivers_last_delivers(store: &Store) {
    let scene = long_ago(store);
    scene.accept("late", "one", 0).await;
    scene.bury("late", "one", 100).await;
    scene.delivered("late", "one", 200).await;
    scene.accept("early", "two", 0).await;
    scene.delivered("early", "two", 100).await;
    scene.bury("early", "two", 200).await;
    assert_eq!(scene.accept("late", "three", 300).await, duplicate_of("one", true));
    assert_eq!(scene.accept("early", "three", 300).await, duplicate_of("two", true));
    assert!(eventually(async || scene.dead_utterances(300).await.is_empty()).await);
    assert!(!store.revive_utterance(&scene.contact, "late", scene.now_ms).await.unwrap());
}

/// It is due no more, it is a duplicate still, and it says why.
pub async fn a_dead_letter_is_kept_and_can_be_brought_back(store: &Store) {
    let scene = long_ago(store);
    scene.accept("key", "one", 0).await;
    let due = scene.due_utterance(ms(LEASE_MS)).await;
    assert!(store.take_utterance(&due, scene.now_ms + ms(LEASE_MS), LEASE_MS).await.unwrap());
    scene.bury("key", "one", 50_000).await;
    assert!(eventually(async || scene.due_utterances(ms(KEEP_MS)).await.is_empty()).await);
    assert!(eventually(async || scene.dead_utterances(50_000).await.len() == 1).await);
    let dead = scene.dead_utterances(50_000).await.remove(0);
    assert_eq!((dead.payload.as_slice(), dead.attempts), (&b"one"[..], 1));
    assert_eq!((dead.dead_reason.as_deref(), dead.due_at_ms), (Some("refused"), scene.now_ms + 50_000));
    assert_eq!(scene.accept("key", "two", 60_000).await, duplicate_of("one", false));

    let revived_ms = 70_000;
    assert!(!store.revive_utterance(&scene.contact, "unknown", scene.now_ms).await.unwrap());
    assert!(store.revive_utterance(&scene.contact, "key", scene.now_ms + revived_ms).await.unwrap());
    assert!(!store.revive_utterance(&scene.contact, "key", scene.now_ms + revived_ms).await.unwrap());
    let due = scene.due_utterance(revived_ms).await;
    assert_eq!((due.attempts, due.dead_reason, due.payload), (0, None, b"one".to_vec()));
    assert_eq!(due.keep_until_ms, scene.now_ms + revived_ms + ms(KEEP_MS));
    assert!(eventually(async || scene.dead_utterances(revived_ms).await.is_empty()).await);
    scene.delivered("key", "one", revived_ms).await;
}

/// It cannot be brought back, and the same words are new.
pub async fn an_expired_dead_letter_is_absent(store: &Store) {
    // Not long ago: an endpoint may delete what has expired.
    let scene = Scene::new(store);
    scene.accept("key", "one", 0).await;
    scene.bury("key", "one", 0).await;
    let expired_ms = ms(KEEP_MS) + 1000;
    assert_eq!(scene.dead_utterances(expired_ms).await, []);
    assert!(!store.revive_utterance(&scene.contact, "key", scene.now_ms + expired_ms).await.unwrap());
    assert_eq!(scene.accept("key", "two", expired_ms).await, Accepted::New);
    scene.delivered("key", "two", expired_ms).await;
}

/// Over all shards of the index, and no more of them than may be read at once.
pub async fn the_longest_overdue_are_read_first(store: &Store) {
    let scene = Scene { now_ms: -1_000_000, ..Scene::new(store) };
    let count = UTTERANCES_READ_MAX + 8;
    let keys: Vec<_> = (0..count).map(|index| format!("{index:064x}")).collect();
    for (index, key) in keys.iter().enumerate().rev() {
        scene.accept(key, "one", i64::try_from(index).unwrap()).await;
    }
    for (limit, expected) in [(EVERYTHING, UTTERANCES_READ_MAX), (3, 3), (0, 0)] {
        let is_right = async || {
            let due = store.due_utterances(0, limit).await.unwrap();
            due.iter().map(|due| &due.key).eq(keys.iter().take(expected))
        };
        assert!(eventually(is_right).await, "limit {limit}");
    }
    for key in &keys {
        scene.delivered(key, "one", 0).await;
    }
}

/// Also in the index.
pub async fn the_largest_payload_comes_back_as_it_went(store: &Store) {
    let scene = long_ago(store);
    let payload: Vec<u8> = (0..=u8::MAX).cycle().take(PAYLOAD_BYTES_MAX).collect();
    assert_eq!(scene.accept_payload("key", "one", &payload, 0).await, Accepted::New);
    let due = scene.due_utterance(ms(LEASE_MS)).await;
    assert!(due.payload == payload);
    scene.delivered("key", "one", 0).await;
}

/// They share a partition and an index.
pub async fn a_contact_and_its_utterances_do_not_see_each_other(store: &Store) {
    let scene = long_ago(store);
    scene.accept("key", "one", 0).await;
    scene.accept("dead", "two", 0).await;
    scene.bury("dead", "two", 0).await;
    assert_eq!(store.contact(&scene.contact, scene.now_ms).await.unwrap(), None);
    assert!(!scene.is_live().await && !scene.is_due(ms(KEEP_MS)).await);
    scene.opened(&Perspective::Tx).await;
    assert!(eventually(async || scene.is_live().await).await);
    assert_eq!(scene.due_utterances(ms(LEASE_MS)).await.len(), 1);
    let contacts = store.live(EVERYTHING).await.unwrap();
    assert_eq!(contacts.iter().filter(|record| record.contact == scene.contact).count(), 1);
    let other = ContactKey { contact_id: scene.contact.contact_id ^ (1 << 40), ..scene.contact };
    assert_eq!(store.contact(&other, scene.now_ms).await.unwrap(), None);
    scene.delivered("key", "one", 0).await;
    scene.request_end(0).await;
    let ending = scene.begin_ending("finisher", ms(KEEP_MS)).await;
    assert!(ending.is_some() && scene.finish("finisher", ms(KEEP_MS)).await);
}
