//! Help to an agent through real processes, and what an operator does with it afterwards: letters and audits.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::data;
use crate::platform::{Platform, post};
use crate::serve::{PATIENCE, Serve, json as document, run};

const INTERACTION: &str = "77";

/// A server whose webhook is refused for good by whoever is there: the platform has no such path.
fn serve(data: &Path, platform: &Platform) -> Serve {
    let nowhere = format!("http://{}/nowhere", platform.address);
    let printed: Value = serde_json::from_str(&platform.line).expect("one JSON document on one line");
    let mut environment: Vec<(&str, &str)> = vec![
        ("EARPIECE_ON_ACCEPT_URL", &nowhere),
        ("EARPIECE_WEBHOOK_SECRETS", "a-secret-of-more-than-thirty-two-bytes"),
    ];
    let variables = printed["environment"].as_object().expect("names and values");
    environment.extend(variables.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("text"))));
    Serve::start(data, "127.0.0.1:0", &[], &environment)
}

/// Looks until there are so many dead letters, and gives them.
fn letters(data: &str, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let listed = document(&["outbox", "list", "--data", data]);
        let letters = listed.as_array().expect("a list").clone();
        if letters.len() == count {
            return letters;
        }
        assert!(begun.elapsed() < PATIENCE, "{count} dead letters were expected: {listed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_tried_again_and_dropped_and_the_audit_shows_every_edit() {
    let platform = Platform::start(&["--json"]);
    let folder = data();
    let data = folder.path().to_str().expect("Unicode");
    let mut server = serve(folder.path(), &platform);
    let suggestion = json!({ "id": "s-1", "content": "marker-words", "relevanceScore": 0.9 }).to_string();
    let taken =
        post(server.address, &format!("/contacts/4711/{INTERACTION}/suggestions"), "application/json", &suggestion);
    assert_eq!((&taken["status"], &taken["active"]), (&json!("accepted"), &json!(1)));
    let shown = platform.get("/_platform/received?kind=suggest&interaction=77&waitMs=30000");
    assert_eq!(shown["records"].as_array().map(Vec::len), Some(1), "{shown}");
    let answer = json!({ "interactionId": INTERACTION, "suggestionId": "s-1", "answer": "accepted" }).to_string();
    platform.post("/_platform/answers", "application/json", &answer);

    // The webhook was refused for good.
    let letter = letters(data, 1).remove(0);
    assert_eq!((&letter["interactionId"], &letter["lane"]), (&json!(INTERACTION), &json!("webhooks")));
    let text = run(&["outbox", "--data", data]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(INTERACTION) && !text.contains("marker-words"), "{text}");
    let seq = letter["seq"].as_u64().expect("a number").to_string();
    assert_eq!(document(&["outbox", "retry", INTERACTION, &seq, "--data", data])["handled"], 1);
    // It is refused again, and is another letter.
    let again = letters(data, 1).remove(0);
    assert_ne!(again["seq"], letter["seq"]);
    let gone = run(&["outbox", "retry", INTERACTION, &seq, "--data", data]);
    assert_eq!(gone.status.code(), Some(1), "one letter is not revived twice");
    assert_eq!(document(&["outbox", "drop", "--all", "--data", data])["handled"], 1);
    letters(data, 0);

    audited(data, folder.path());
    let log = server.terminate().await;
    assert!(!log.contains("marker-words"));
}

fn audited(data: &str, folder: &Path) {
    let whole = document(&["audit", "verify", INTERACTION, "--data", data]);
    assert_eq!(whole["whole"], true, "{whole}");
    let export = run(&["audit", "export", INTERACTION, "--data", data]);
    let (records, said) = (String::from_utf8_lossy(&export.stdout), String::from_utf8_lossy(&export.stderr));
    assert_eq!(records.lines().count() as u64, whole["records"].as_u64().expect("a number"), "{records}");
    assert!(!records.contains("marker-words"), "an audit holds no words");
    for event in ["injected", "accepted", "dead_lettered", "dropped"] {
        assert!(records.contains(&format!("\"event\":\"{event}\"")), "{event} in:\n{records}");
    }
    let head = said.split("--head ").nth(1).expect("how it ends").trim().to_owned();

    let file = folder.join("audit.jsonl");
    let verified = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        let name = file.to_str().expect("Unicode");
        run(&["audit", "verify", "--file", name, "--head", &head, "--json"]).status.code()
    };
    assert_eq!(verified(&records), Some(0));
    let lines: Vec<&str> = records.lines().collect();
    assert_eq!(verified(&lines[..lines.len() - 1].join("\n")), Some(1), "its end is missing");
    assert_eq!(verified(&lines[1..].join("\n")), Some(1), "its beginning is missing");
    assert_eq!(verified(&records.replacen("\"event\":\"accepted\"", "\"event\":\"dismissed\"", 1)), Some(1), "edited");
    let mut other_order = lines.clone();
    other_order.swap(1, 2);
    assert_eq!(verified(&other_order.join("\n")), Some(1), "in another order");
}
