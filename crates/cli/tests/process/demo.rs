//! `earpiece demo` as a process: the whole loop, for a person and for a machine.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::data;
use crate::serve::program;

/// What a terminal shows as it opens.
const COLUMNS_MAX: usize = 79;

/// The demo must be over before a newcomer wonders.
const TOOK_MS_MAX: u64 = 40_000;

/// Runs it in its own folder, as it comes.
fn demo(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = program();
    command.arg("demo").args(arguments).current_dir(folder).stdin(Stdio::null());
    let output = command.output().expect("the program runs");
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_brings_help_back_to_the_agent_once_and_says_how_long_it_took() {
    let folders: [TempDir; 2] = [data(), data()];
    let [for_people, for_machines] = [&[][..], &["--json"]]
        .into_iter()
        .zip(&folders)
        .map(|(arguments, folder)| {
            let path = folder.path().to_owned();
            tokio::task::spawn_blocking(move || demo(&path, arguments))
        })
        .collect::<Vec<_>>()
        .try_into()
        .expect("two runs");

    let output = for_people.await.expect("exit code 0");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(!text.contains('\u{1b}'), "no terminal, no escape codes");
    let wide = text.lines().find(|line| line.chars().count() > COLUMNS_MAX);
    assert_eq!(wide, None, "it fits a terminal");
    for told in [
        "Agent desk  gets suggestion tip-1,",
        "Agent desk  gets knowledge,",
        "Agent desk  gets a popup,",
        "Agent desk  takes tip-1 up",
        "Agent desk  waves tip-2 away",
        "What came back to the agent",
    ] {
        assert_eq!(text.matches(told).count().min(2), if told.contains("knowledge") { 2 } else { 1 }, "{told}\n{text}");
    }

    let output = for_machines.await.expect("exit code 0");
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(document["ok"], true);
    let checks = document["checks"].as_array().expect("checks");
    assert!(checks.len() > 6 && checks.iter().all(|check| check["ok"] == true), "{checks:#?}");
    let help = &document["assistance"];
    let answers: Vec<_> =
        help["suggestions"].as_array().expect("suggestions").iter().map(|one| &one["answer"]).collect();
    assert_eq!(answers, [&json!("accepted"), &json!("dismissed")]);
    assert_eq!(help["popups"].as_array().map(Vec::len), Some(1));
    for kind in ["suggestions", "knowledge", "popups"] {
        let every = help[kind].as_array().expect("a list");
        assert!(!every.is_empty() && every.iter().all(|one| one["afterMs"].is_u64()), "{kind}: {help}");
    }
    assert!(document["auditRecords"].as_u64().is_some_and(|records| records > 6));
    assert!(document["tookMs"].as_u64().is_some_and(|took_ms| took_ms < TOOK_MS_MAX), "{}", document["tookMs"]);
}
