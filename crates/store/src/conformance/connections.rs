//! Connections of API Gateway, whose events come in any order, and what they listen to.

use serde_json::json;
use tokio::task::JoinSet;

use super::{Scene, ms};
use crate::read::PAGE_ITEMS_MAX;
use crate::{ConnectionRecord, Store};

/// Writers of one connection at once.
const WRITERS: usize = 50;
/// How long a connection is remembered, here.
const LIFE_MS: u64 = 7_200_000;

/// Every case of this module.
pub async fn all(store: &Store) {
    an_unknown_connection_has_version_0(store).await;
    a_connection_comes_back_as_it_was_written(store).await;
    what_was_read_before_another_wrote_is_refused(store).await;
    of_writers_at_once_no_update_is_lost(store).await;
    of_first_writers_at_once_exactly_one_wins(store).await;
    what_is_gone_stays_gone_in_any_order(store).await;
    an_expired_connection_is_absent(store).await;
    listeners_are_heard_of_until_they_leave_or_expire(store).await;
    many_listeners_are_listed_however_many_pages_they_fill(store).await;
}

impl Scene {
    /// A connection id that nobody else uses.
    fn connection_id(&self) -> String {
        format!("{}-{}=", self.contact.bus_no, self.contact.contact_id)
    }

    async fn connection(&self) -> ConnectionRecord {
        self.store.connection(&self.connection_id(), self.now_ms).await.unwrap()
    }

    async fn write(&self, record: &ConnectionRecord) -> Result<ConnectionRecord, ConnectionRecord> {
        self.store.write_connection(record, self.now_ms, LIFE_MS).await.unwrap()
    }

    async fn listeners(&self, after_ms: i64) -> Vec<String> {
        self.store.listeners(&self.contact, self.now_ms + after_ms, 1000).await.unwrap()
    }
}

/// And nothing in it.
pub async fn an_unknown_connection_has_version_0(store: &Store) {
    let scene = Scene::new(store);
    assert_eq!(scene.connection().await, ConnectionRecord::unknown(scene.connection_id()));
}

/// With another version after each write.
pub async fn a_connection_comes_back_as_it_was_written(store: &Store) {
    let scene = Scene::new(store);
    let document = json!({"handshake": {"busNo": u64::MAX, "words": "é\u{1f600}\u{0}"}, "samples": [1, 2.5, null]});
    let first = ConnectionRecord { document, ..ConnectionRecord::unknown(scene.connection_id()) };
    let written = scene.write(&first).await.unwrap();
    assert_ne!(written.version, 0);
    assert_eq!(written, ConnectionRecord { version: written.version, ..first });
    assert_eq!(scene.connection().await, written);

    let opened = ConnectionRecord { opened_at_ms: Some(scene.now_ms), document: json!(null), ..written.clone() };
    let again = scene.write(&opened).await.unwrap();
    assert!(again.version > written.version);
    assert_eq!(scene.connection().await, ConnectionRecord { version: again.version, ..opened });
}

/// And it is told what stands.
pub async fn what_was_read_before_another_wrote_is_refused(store: &Store) {
    let scene = Scene::new(store);
    let read = scene.connection().await;
    let first = scene.write(&ConnectionRecord { document: json!(1), ..read.clone() }).await.unwrap();
    assert_eq!(scene.write(&ConnectionRecord { document: json!(2), ..read }).await, Err(first.clone()));
    let second = scene.write(&ConnectionRecord { document: json!(2), ..first.clone() }).await.unwrap();
    // The same content is no excuse.
    assert_eq!(scene.write(&ConnectionRecord { document: json!(2), ..first }).await, Err(second));
}

/// Each adds its own number to the document.
pub async fn of_writers_at_once_no_update_is_lost(store: &Store) {
    let scene = Scene::new(store);
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let scene = scene.clone();
        writers.spawn(async move {
            let mut record = scene.connection().await;
            loop {
                let mut numbers = record.document.as_array().cloned().unwrap_or_default();
                numbers.push(json!(number));
                match scene.write(&ConnectionRecord { document: numbers.into(), ..record }).await {
                    Ok(_) => return,
                    Err(standing) => record = standing,
                }
            }
        });
    }
    writers.join_all().await;
    let record = scene.connection().await;
    let mut numbers: Vec<_> =
        record.document.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..WRITERS as u64).collect::<Vec<_>>());
}

/// `$connect` and the first messages may come at the same moment.
pub async fn of_first_writers_at_once_exactly_one_wins(store: &Store) {
    let scene = Scene::new(store);
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let scene = scene.clone();
        let record = ConnectionRecord { document: json!(number), ..ConnectionRecord::unknown(scene.connection_id()) };
        writers.spawn(async move { scene.write(&record).await });
    }
    let (won, refused): (Vec<_>, Vec<_>) = writers.join_all().await.into_iter().partition(Result::is_ok);
    let [Ok(winner)] = &won[..] else { panic!("{} won", won.len()) };
    assert!(refused.iter().all(|standing| standing.as_ref() == Err(winner)));
}

/// `$disconnect` before `$default` before `$connect`.
pub async fn what_is_gone_stays_gone_in_any_order(store: &Store) {
    let scene = Scene::new(store);
    let unknown = scene.connection().await;
    let gone = scene.write(&ConnectionRecord { gone: true, ..unknown.clone() }).await.unwrap();
    let late = ConnectionRecord { document: json!("late"), ..unknown };
    assert_eq!(scene.write(&late).await, Err(gone.clone()));
    assert_eq!(scene.write(&ConnectionRecord { gone: false, ..gone.clone() }).await, Err(gone.clone()), "not revived");
    let opened = ConnectionRecord { opened_at_ms: Some(scene.now_ms), document: json!("late"), ..gone };
    let opened = scene.write(&opened).await.unwrap();
    assert!(opened.gone);
    assert_eq!(scene.connection().await, opened);
}

/// It may be written as if it had never been.
pub async fn an_expired_connection_is_absent(store: &Store) {
    let scene = Scene::new(store);
    let gone = ConnectionRecord { gone: true, document: json!(1), ..scene.connection().await };
    let gone = scene.write(&gone).await.unwrap();
    let later = Scene { now_ms: scene.now_ms + ms(LIFE_MS) + 1000, ..scene };
    let unknown = ConnectionRecord::unknown(later.connection_id());
    assert_eq!(later.connection().await, unknown);
    assert_eq!(later.write(&gone).await, Err(unknown.clone()));
    let opened = later.write(&ConnectionRecord { opened_at_ms: Some(1), ..unknown }).await.unwrap();
    assert!(!opened.gone && opened.document.is_null());
    assert_eq!(later.connection().await, opened);
}

/// Listening is to one contact, known or not.
pub async fn listeners_are_heard_of_until_they_leave_or_expire(store: &Store) {
    let (scene, other) = (Scene::new(store), Scene::new(store));
    let listen = async |id: &str, life_ms| store.listen(&scene.contact, id, scene.now_ms, life_ms).await.unwrap();
    listen("b", LIFE_MS).await;
    listen("a", LIFE_MS).await;
    listen("a", LIFE_MS).await;
    listen("short", 1000).await;
    assert_eq!(scene.listeners(0).await, ["a", "b", "short"]);
    assert_eq!(scene.listeners(2000).await, ["a", "b"]);
    assert_eq!(store.listeners(&scene.contact, scene.now_ms, 1).await.unwrap(), ["a"]);
    assert_eq!(other.listeners(0).await, [""; 0]);
    store.unlisten(&scene.contact, "a").await.unwrap();
    store.unlisten(&scene.contact, "a").await.unwrap();
    assert_eq!(scene.listeners(2000).await, ["b"]);
    assert_eq!(scene.listeners(ms(LIFE_MS) + 1000).await, [""; 0]);
}

/// The expired ones among them hide nobody.
pub async fn many_listeners_are_listed_however_many_pages_they_fill(store: &Store) {
    let scene = Scene::new(store);
    let mut listens = JoinSet::new();
    for index in 0..=PAGE_ITEMS_MAX * 2 {
        let scene = scene.clone();
        let life_ms = if index % 2 == 0 { LIFE_MS } else { 1000 };
        listens.spawn(async move {
            scene.store.listen(&scene.contact, &format!("{index:04}"), scene.now_ms, life_ms).await.unwrap();
        });
    }
    listens.join_all().await;
    let expected: Vec<_> = (0..=PAGE_ITEMS_MAX).map(|index| format!("{:04}", index * 2)).collect();
    assert_eq!(scene.listeners(5000).await, expected);
}
