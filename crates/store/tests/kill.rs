//! A process on an embedded store that is killed without warning loses nothing that was answered.

#![expect(clippy::unwrap_used, reason = "a test, and what it is made of")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_store::{Claim, Embedded, Store};

/// Tells the process that is to be killed which file it works on.
const FILE: &str = "EARPIECE_TEST_KILLED_STORE";
/// Claims that are answered before the kill.
const CLAIMS: usize = 100;

#[tokio::test]
async fn what_was_answered_before_a_kill_is_there_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.db");
    let answered = claim_until_killed(&file);

    let embedded = Embedded::file(&file).unwrap();
    let store = embedded.store("calls").await.unwrap();
    assert_eq!(answered.len(), CLAIMS);
    for (contact, stream) in answered {
        let record = store.contact(&contact, 0).await.unwrap().unwrap();
        assert_eq!((record.streams["TX"].stream, record.streams["TX"].generation), (stream, 1));
        // The call goes on as the next generation.
        assert_eq!(claim(&store, contact, StreamId::new(), 1).await, 2);
    }
}

/// Runs this test binary again as a process that claims without end, and kills it in the middle of that. Returns what
/// it had been answered.
fn claim_until_killed(file: &PathBuf) -> Vec<(ContactKey, StreamId)> {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "claims_until_it_is_killed", "--ignored", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let answered = lines.map_while(Result::ok).filter_map(|line| read_answered(&line)).take(CLAIMS).collect();
    process.kill().unwrap();
    assert!(!process.wait().unwrap().success());
    answered
}

fn read_answered(line: &str) -> Option<(ContactKey, StreamId)> {
    let (contact_id, stream) = line.strip_prefix("answered ")?.split_once(' ')?;
    Some((ContactKey { bus_no: 1, contact_id: contact_id.parse().ok()? }, stream.parse().ok()?))
}

#[tokio::test]
#[ignore = "the process that what_was_answered_before_a_kill_is_there_after_it starts and kills"]
async fn claims_until_it_is_killed() {
    let file = PathBuf::from(std::env::var_os(FILE).expect("only the other test runs this one"));
    let embedded = Embedded::file(&file).unwrap();
    let store = embedded.store("calls").await.unwrap();
    println!();
    for contact_id in 0.. {
        let (contact, stream) = (ContactKey { bus_no: 1, contact_id }, StreamId::new());
        assert_eq!(claim(&store, contact, stream, 0).await, 1);
        println!("answered {contact_id} {stream}");
    }
}

async fn claim(store: &Store, contact: ContactKey, stream: StreamId, opened_at_us: i64) -> u64 {
    let perspective = &Perspective::Tx;
    let claim = Claim { contact, perspective, stream, opened_at_us, task: "task", now_ms: 0, stale_after_ms: 1000 };
    store.claim(&claim).await.unwrap().generation
}
