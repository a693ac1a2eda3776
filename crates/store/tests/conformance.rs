//! The store's suite against the embedded DynamoDB, in memory and on a file.

use earpiece_store::{Embedded, conformance};

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
