//! What the documents about suggestions, insights and popups list as common errors: each has a row in the troubleshooting
//! table, and a test that shows what Earpiece makes of it.

use std::path::Path;

/// A common error: which document (by its letter in the contract's §5), what it says, how its row in the table begins, and
/// the file and name of its test.
const COMMON_ERRORS: [(&str, &str, &str, &str, &str); 14] = [
    (
        "A",
        "401, auth.failure",
        "| log: CXone refuses our credentials (401), or `auth.failure`",
        "crates/uplink/src/tests/uplinks.rs",
        "auth_failure_stops_each_uplink_and_raises_an_alarm_instead_of_hammering",
    ),
    (
        "A",
        "1006",
        "| a socket to CXone ends with 1006",
        "crates/uplink/src/tests/suggestions.rs",
        "a_connection_that_ends_with_1006_or_1011_is_made_again_and_nothing_is_lost",
    ),
    (
        "A",
        "buffer limit",
        "| 409 `active_max` |",
        "functions/src/suggestions/tests.rs",
        "a_sixth_active_suggestion_is_answered_409_with_the_figures",
    ),
    (
        "A",
        "duplicate",
        "| 409 `duplicate_id` |",
        "functions/src/suggestions/tests.rs",
        "a_duplicate_a_window_and_a_relevance_are_answered_with_their_rule",
    ),
    (
        "A",
        "context window",
        "| 422 `context_window` |",
        "functions/src/suggestions/tests.rs",
        "a_duplicate_a_window_and_a_relevance_are_answered_with_their_rule",
    ),
    (
        "B",
        "401 at the handshake",
        "| log: CXone refuses our credentials (401), or `auth.failure`",
        "crates/uplink/src/tests/uplinks.rs",
        "auth_failure_stops_each_uplink_and_raises_an_alarm_instead_of_hammering",
    ),
    (
        "B",
        "429 on search",
        "| cards come late, log: too many requests (429)",
        "crates/uplink/src/insights/tests/limits.rs",
        "a_storm_of_429s_on_searches_delays_only_what_is_not_known",
    ),
    (
        "B",
        "403 on a POST",
        "| log: CXone forbids this (403)",
        "crates/uplink/src/tests/uplinks.rs",
        "insights_that_cxone_forbids_are_asked_for_once_and_are_a_dead_letter",
    ),
    (
        "B",
        "1006",
        "| a socket to CXone ends with 1006",
        "crates/uplink/src/tests/uplinks.rs",
        "an_insight_stream_that_ends_with_1006_or_1011_is_opened_again_and_words_give_cards",
    ),
    (
        "C",
        "401",
        "| log: CXone refuses our credentials (401), or `auth.failure`",
        "crates/uplink/src/tests/uplinks.rs",
        "auth_failure_stops_each_uplink_and_raises_an_alarm_instead_of_hammering",
    ),
    (
        "C",
        "403",
        "| log: CXone forbids this (403)",
        "crates/uplink/src/tests/popups.rs",
        "a_card_that_cxone_forbids_is_asked_for_once_and_is_a_dead_letter",
    ),
    (
        "C",
        "429",
        "| popups come late (429 on cards)",
        "crates/uplink/src/tests/popups.rs",
        "a_429_on_cards_holds_cards_back_and_not_suggestions",
    ),
    (
        "C",
        "1006",
        "| a socket to CXone ends with 1006",
        "crates/uplink/src/tests/uplinks.rs",
        "an_interaction_stream_that_ends_with_1006_or_1011_is_opened_again_and_events_give_cards",
    ),
    (
        "C",
        "1011",
        "| 1011 from CXone |",
        "crates/uplink/src/tests/uplinks.rs",
        "an_interaction_stream_that_ends_with_1006_or_1011_is_opened_again_and_events_give_cards",
    ),
];

#[test]
fn every_common_error_of_the_documents_has_a_row_and_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let page = read("docs/troubleshooting.md");
    for (document, what, row, file, test) in COMMON_ERRORS {
        assert!(page.lines().any(|line| line.starts_with(row)), "{document}, {what}: no row begins with {row}");
        assert!(read(file).contains(&format!("fn {test}(")), "{document}, {what}: {file} has no test {test}");
    }
}
