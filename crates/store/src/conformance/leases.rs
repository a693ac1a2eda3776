//! Of many tasks exactly one holds a lease, and everybody can tell which.

use tokio::task::JoinSet;

use super::Scene;
use crate::{LeaseRecord, Store};

/// Takers at once.
const TAKERS: usize = 20;
/// How often a race is run.
const ROUNDS: u64 = 5;

/// Every case of this module.
pub async fn all(store: &Store) {
    of_takers_that_saw_the_same_exactly_one_takes(store).await;
    a_renewal_shows_and_spoils_what_others_saw(store).await;
    what_was_taken_over_cannot_be_renewed(store).await;
    what_was_given_back_is_taken_at_once_and_not_renewed(store).await;
    a_lease_that_nobody_saw_is_not_taken_from_its_holder(store).await;
    leases_are_held_apart(store).await;
}

impl Scene {
    fn lease_name(&self) -> String {
        format!("lease-{}", self.contact)
    }

    async fn lease(&self) -> Option<LeaseRecord> {
        self.store.lease(&self.lease_name()).await.unwrap()
    }

    async fn take(&self, holder: &str, seen: Option<&LeaseRecord>) -> Option<LeaseRecord> {
        self.store.take_lease(&self.lease_name(), holder, seen).await.unwrap()
    }
}

/// The first time and every time after, and each time under the next token.
pub async fn of_takers_that_saw_the_same_exactly_one_takes(store: &Store) {
    let scene = Scene::new(store);
    for token in 1..=ROUNDS {
        let seen = scene.lease().await;
        let mut takers = JoinSet::new();
        for taker in 0..TAKERS {
            let (scene, seen) = (scene.clone(), seen.clone());
            takers.spawn(async move { scene.take(&format!("task-{taker}"), seen.as_ref()).await });
        }
        let taken: Vec<_> = takers.join_all().await.into_iter().flatten().collect();
        let [lease] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!((lease.token, lease.beat, lease.released), (token, 0, false));
        assert_eq!(scene.lease().await.as_ref(), Some(lease));
    }
}

/// Who lives keeps it.
pub async fn a_renewal_shows_and_spoils_what_others_saw(store: &Store) {
    let scene = Scene::new(store);
    let mut mine = scene.take("one", None).await.unwrap();
    for beat in 1..=3 {
        let seen = scene.lease().await;
        mine = store.renew_lease(&mine).await.unwrap().unwrap();
        assert_eq!((mine.token, mine.beat, mine.holder.as_str()), (1, beat, "one"));
        assert_eq!(scene.lease().await.as_ref(), Some(&mine));
        assert_eq!(scene.take("two", seen.as_ref()).await, None);
    }
}

/// Nor given back in the name of who has it now.
pub async fn what_was_taken_over_cannot_be_renewed(store: &Store) {
    let scene = Scene::new(store);
    let old = scene.take("one", None).await.unwrap();
    let new = scene.take("two", Some(&old)).await.unwrap();
    assert_eq!((new.token, new.holder.as_str()), (2, "two"));
    assert_eq!(store.renew_lease(&old).await.unwrap(), None);
    store.release_lease(&old).await.unwrap();
    assert_eq!(scene.lease().await, Some(new.clone()));
    let renewed = store.renew_lease(&new).await.unwrap().unwrap();
    assert_eq!(renewed, LeaseRecord { beat: 1, ..new });
}

/// By whoever sees it first.
pub async fn what_was_given_back_is_taken_at_once_and_not_renewed(store: &Store) {
    let scene = Scene::new(store);
    let taken = scene.take("one", None).await.unwrap();
    let mine = store.renew_lease(&taken).await.unwrap().unwrap();
    store.release_lease(&mine).await.unwrap();
    store.release_lease(&mine).await.unwrap();
    assert_eq!(store.renew_lease(&mine).await.unwrap(), None);
    let seen = scene.lease().await.unwrap();
    assert_eq!(seen, LeaseRecord { released: true, ..mine });
    let new = scene.take("two", Some(&seen)).await.unwrap();
    assert_eq!((new.token, new.beat, new.released, new.holder.as_str()), (2, 0, false, "two"));
    assert_eq!(scene.take("three", Some(&seen)).await, None);
}

/// Whoever believes that there is none has to look first.
pub async fn a_lease_that_nobody_saw_is_not_taken_from_its_holder(store: &Store) {
    let scene = Scene::new(store);
    assert_eq!(scene.lease().await, None);
    let mine = scene.take("one", None).await.unwrap();
    assert_eq!(scene.take("two", None).await, None);
    store.release_lease(&mine).await.unwrap();
    assert_eq!(scene.take("two", None).await, None, "tokens would begin again");
    let never = LeaseRecord { name: scene.lease_name(), token: 7, ..mine };
    assert_eq!(scene.take("two", Some(&never)).await, None);
}

/// Each has its own tokens.
pub async fn leases_are_held_apart(store: &Store) {
    let (one, other) = (Scene::new(store), Scene::new(store));
    let first = one.take("task", None).await.unwrap();
    assert_eq!(one.take("task", Some(&first)).await.map(|lease| lease.token), Some(2));
    assert_eq!(other.take("task", None).await.map(|lease| lease.token), Some(1));
}
