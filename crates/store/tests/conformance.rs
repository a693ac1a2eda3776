//! The store's suite against the embedded DynamoDB, in memory and on a file.

use earpiece_store::{Embedded, Store, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_in_memory_keeps_its_word() {
    let embedded = Embedded::memory().unwrap();
    conformance::all(&embedded.store("calls").await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_on_a_file_keeps_its_word() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::file(&folder.path().join("calls.db")).unwrap();
    conformance::all(&embedded.store("calls").await.unwrap()).await;
    embedded.stop().await;
}

/// As two processes would be: they share nothing but the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_submitters_of_two_stores_on_one_file_are_judged_together() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Embedded::file(&folder.path().join("calls.db")).unwrap();
    let one = embedded.store("calls").await.unwrap();
    let other = Store::connect_local(&embedded.endpoint(), "calls");
    let stores = [one.clone(), other.clone(), one, other];
    conformance::interactions::of_submitters_at_once_only_as_many_as_may_are_taken(&stores).await;
    conformance::interactions::a_freed_slot_is_taken_once(&stores).await;
    embedded.stop().await;
}
