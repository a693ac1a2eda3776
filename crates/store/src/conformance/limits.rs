//! What may be done once, or so many times.

use tokio::task::JoinSet;

use super::Scene;
use crate::Store;

/// Requests at once.
const AT_ONCE: usize = 50;
/// How often a race is run.
const ROUNDS: usize = 5;
/// How many of them a window lets through, here.
const MAX: u32 = 20;

/// Every case of this module.
pub async fn all(store: &Store) {
    of_spends_at_once_exactly_one_counts(store).await;
    what_is_spent_stays_spent_until_it_expires(store).await;
    what_has_expired_cannot_be_spent(store).await;
    of_requests_at_once_exactly_as_many_pass_as_may(store).await;
    windows_and_business_units_are_counted_apart(store).await;
}

impl Scene {
    async fn spend(&self, expires_after_s: i64, after_s: i64) -> bool {
        let id = format!("{}", self.contact);
        let expires_at_s = self.now_ms / 1000 + expires_after_s;
        self.store.spend(&id, expires_at_s, self.now_ms + after_s * 1000).await.unwrap()
    }

    /// The contact id, which is this scene's own, serves as the business unit.
    async fn count(&self, second: i64, max: u32) -> bool {
        let bus_no = self.contact.bus_no ^ (self.contact.contact_id << 32);
        self.store.count_request(bus_no, self.now_ms / 1000 + second, max).await.unwrap()
    }
}

/// A token that was stolen on the way is as good as used.
pub async fn of_spends_at_once_exactly_one_counts(store: &Store) {
    for _ in 0..ROUNDS {
        let scene = Scene::new(store);
        let mut spends = JoinSet::new();
        for _ in 0..AT_ONCE {
            let scene = scene.clone();
            spends.spawn(async move { scene.spend(300, 0).await });
        }
        assert_eq!(spends.join_all().await.into_iter().filter(|spent| *spent).count(), 1);
    }
}

/// Deleted or not.
pub async fn what_is_spent_stays_spent_until_it_expires(store: &Store) {
    let scene = Scene::new(store);
    assert!(scene.spend(300, 0).await);
    assert!(!scene.spend(900, 299).await);
    assert!(scene.spend(900, 300).await, "forgotten");
    assert!(!scene.spend(900, 301).await);
}

/// Nothing would tell the second time from the first.
pub async fn what_has_expired_cannot_be_spent(store: &Store) {
    let scene = Scene::new(store);
    assert!(!scene.spend(300, 300).await);
    assert!(!scene.spend(300, 1000).await);
}

/// No more and no less.
pub async fn of_requests_at_once_exactly_as_many_pass_as_may(store: &Store) {
    for _ in 0..ROUNDS {
        let scene = Scene::new(store);
        let mut requests = JoinSet::new();
        for _ in 0..AT_ONCE {
            let scene = scene.clone();
            requests.spawn(async move { scene.count(0, MAX).await });
        }
        let passed = requests.join_all().await.into_iter().filter(|passed| *passed).count();
        assert_eq!(passed, MAX as usize);
        assert!(!scene.count(0, MAX).await);
    }
}

/// A limit that is changed meanwhile holds from then on.
pub async fn windows_and_business_units_are_counted_apart(store: &Store) {
    let (scene, other) = (Scene::new(store), Scene::new(store));
    assert!(!scene.count(0, 0).await);
    assert!(scene.count(0, 1).await && !scene.count(0, 1).await);
    assert!(scene.count(1, 1).await && other.count(0, 1).await);
    assert!(scene.count(0, 2).await && !scene.count(0, 2).await && !scene.count(0, 1).await);
}
