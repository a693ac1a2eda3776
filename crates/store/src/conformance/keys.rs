//! The signing keys of the token server. A table has one of them, so the cases follow one another.

use tokio::task::JoinSet;

use super::{Scene, clock_ms};
use crate::keys::CurrentKey;
use crate::{Store, StoredKey};

/// Rotators at once.
const ROTATORS: usize = 50;
/// How often a race is run.
const ROUNDS: usize = 5;
/// How long a pair lives, here, in seconds.
const LIFE_S: i64 = 7200;

/// Every case of this module.
pub async fn all(store: &Store) {
    of_first_keys_at_once_exactly_one_signs(store).await;
    of_rotators_at_once_exactly_one_rotates(store).await;
    a_key_is_replaced_by_who_knows_it_only(store).await;
    an_expired_key_neither_signs_nor_verifies(store).await;
}

fn pair(kid: &str, created_at_s: i64) -> (StoredKey, StoredKey) {
    let half = |body: &str| StoredKey { kid: kid.to_owned(), created_at_s, body: format!("{body} of {kid}") };
    (half("private"), half("public"))
}

/// All rotate at once to pairs of their own. Returns who was told that it did.
async fn rotate(store: &Store, replaces: Option<&str>, now_s: i64) -> Vec<String> {
    let mut rotators = JoinSet::new();
    for rotator in 0..ROTATORS {
        let kid = format!("{}-{rotator}", Scene::new(store).contact);
        let (store, replaces) = (store.clone(), replaces.map(str::to_owned));
        rotators.spawn(async move {
            let (private, public) = pair(&kid, now_s);
            let added = store.add_signing_key(&private, &public, replaces.as_deref(), now_s + LIFE_S).await.unwrap();
            added.then_some(kid)
        });
    }
    rotators.join_all().await.into_iter().flatten().collect()
}

async fn current_kid(store: &Store, now_s: i64) -> Option<String> {
    store.signing_key(now_s).await.unwrap().map(|current| current.key.kid)
}

/// Whatever runs before left behind has expired by then.
fn beginning_s() -> i64 {
    clock_ms() / 1000 + 2 * LIFE_S
}

/// Both halves of it, and nobody else's.
pub async fn of_first_keys_at_once_exactly_one_signs(store: &Store) {
    let now_s = beginning_s() + 10 * LIFE_S;
    let before = store.public_keys(now_s).await.unwrap();
    assert_eq!((current_kid(store, now_s).await, before), (None, vec![]), "the suite has the keys for itself");
    let won = rotate(store, None, now_s).await;
    let [kid] = &won[..] else { panic!("{won:?}") };
    let (private, public) = pair(kid, now_s);
    let expires_at_s = now_s + LIFE_S;
    assert_eq!(store.signing_key(now_s).await.unwrap(), Some(CurrentKey { key: private, expires_at_s }));
    assert_eq!(store.public_keys(now_s).await.unwrap(), [public]);
}

/// What was replaced still verifies.
pub async fn of_rotators_at_once_exactly_one_rotates(store: &Store) {
    let begun_s = beginning_s() + 20 * LIFE_S;
    let (private, public) = pair(&format!("first-{}", Scene::new(store).contact), begun_s);
    assert!(store.add_signing_key(&private, &public, None, begun_s + LIFE_S).await.unwrap());
    let mut published = vec![public];
    for round in 1..=ROUNDS {
        let now_s = begun_s + i64::try_from(round).unwrap();
        let replaces = current_kid(store, now_s).await.unwrap();
        let won = rotate(store, Some(&replaces), now_s).await;
        let [kid] = &won[..] else { panic!("{won:?}") };
        assert_eq!(current_kid(store, now_s).await.as_ref(), Some(kid));
        published.insert(0, pair(kid, now_s).1);
        assert_eq!(store.public_keys(now_s).await.unwrap(), published);
    }
}

/// Nobody rotates a key away that somebody else has just made.
pub async fn a_key_is_replaced_by_who_knows_it_only(store: &Store) {
    let now_s = beginning_s() + 30 * LIFE_S;
    let [one, two, three] = ["one", "two", "three"].map(|name| format!("{name}-{}", Scene::new(store).contact));
    let add = async |kid: &str, replaces| {
        let (private, public) = pair(kid, now_s);
        store.add_signing_key(&private, &public, replaces, now_s + LIFE_S).await.unwrap()
    };
    assert!(!add(&one, Some(&*two)).await, "nothing signs");
    assert!(add(&one, None).await);
    assert!(add(&one, None).await, "the same pair again is a request that was sent twice");
    assert!(!add(&two, None).await);
    assert!(add(&two, Some(&*one)).await);
    assert!(!add(&three, Some(&*one)).await);
    assert_eq!(current_kid(store, now_s).await, Some(two));
    let kids: Vec<_> = store.public_keys(now_s).await.unwrap().into_iter().map(|key| key.kid).collect();
    assert!(!kids.contains(&three), "what never signed is not published");
}

/// DynamoDB deletes it days later.
pub async fn an_expired_key_neither_signs_nor_verifies(store: &Store) {
    let now_s = beginning_s() + 40 * LIFE_S;
    let (old, new) = (format!("old-{}", Scene::new(store).contact), format!("new-{}", Scene::new(store).contact));
    let (private, public) = pair(&old, now_s);
    assert!(store.add_signing_key(&private, &public, None, now_s + LIFE_S).await.unwrap());
    assert_eq!(current_kid(store, now_s + LIFE_S - 1).await, Some(old.clone()));
    let expired_s = now_s + LIFE_S;
    assert_eq!(current_kid(store, expired_s).await, None);
    assert_eq!(store.public_keys(expired_s).await.unwrap(), []);
    let (private, public) = pair(&new, expired_s);
    assert!(!store.add_signing_key(&private, &public, Some(&old), expired_s + LIFE_S).await.unwrap());
    assert!(store.add_signing_key(&private, &public, None, expired_s + LIFE_S).await.unwrap());
    assert_eq!(store.public_keys(expired_s).await.unwrap(), [public]);
}
