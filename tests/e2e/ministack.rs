//! The same store, spoken to by a second, independent DynamoDB.

use std::io::Write as _;

use earpiece_store::Store;

/// The address of a tool that `./tests/run` starts. Without it the case says that it was skipped, past the test
/// harness's capture, and fails where tools are required.
pub(crate) fn endpoint(variable: &str, case: &str) -> Option<String> {
    let endpoint = std::env::var(variable).ok().filter(|endpoint| !endpoint.is_empty());
    if endpoint.is_none() {
        let required = std::env::var("EARPIECE_TOOLS").is_ok_and(|tools| tools == "required");
        assert!(!required, "{case} needs {variable}, and tools are required");
        let _ = writeln!(std::io::stderr(), "SKIPPED {case}: set {variable}, or run ./tests/run");
    }
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conformance_suite_holds_on_a_second_dynamodb() {
    let Some(endpoint) = endpoint("EARPIECE_TEST_DYNAMODB_ENDPOINT", "store conformance on ministack") else { return };
    let store = Store::connect_local(&endpoint, &format!("earpiece-{}", std::process::id()));
    store.create_table().await.expect("a table");
    earpiece_store::conformance::all(&store).await;
}
