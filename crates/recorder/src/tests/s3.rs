//! The same against something that speaks S3, at `EARPIECE_TEST_S3_ENDPOINT`. Requests cross a real wire, so the store's
//! own rules are in force: parts of 5 MiB, copies, bulk deletes, listings by prefix.

use std::io::Write;

use object_store::aws::AmazonS3Builder;

use super::*;
use crate::open::{Opened, s3};

const BUCKET: &str = "earpiece-recorder-test";

/// The endpoint, or `None` after saying on the process's own stderr (a test's is captured) that the case is skipped.
fn endpoint() -> Option<String> {
    let endpoint = std::env::var("EARPIECE_TEST_S3_ENDPOINT").ok();
    if endpoint.is_none() {
        assert!(
            std::env::var("EARPIECE_TOOLS").as_deref() != Ok("required"),
            "EARPIECE_TEST_S3_ENDPOINT is not set, and tools are required"
        );
        let skipped = "skipped: recordings on S3 (EARPIECE_TEST_S3_ENDPOINT is not set)";
        writeln!(std::io::stderr(), "{skipped}").expect("stderr");
    }
    endpoint
}

fn builder(endpoint: &str) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test")
}

/// A place of its own in a bucket that is made if need be.
async fn store(endpoint: &str) -> Opened {
    make_bucket(endpoint).await;
    s3::open(&format!("{BUCKET}/{}", StreamId::new()), builder(endpoint)).expect("a store")
}

/// The crate has no call for it, and the test's endpoint asks for no signature: a bare `PUT /bucket`.
async fn make_bucket(endpoint: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let authority = endpoint.strip_prefix("http://").expect("an http endpoint").trim_end_matches('/');
    let mut socket = tokio::net::TcpStream::connect(authority).await.expect("it listens");
    let request =
        format!("PUT /{BUCKET} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") || answer.contains("BucketAlready"), "{answer}");
}

#[tokio::test]
async fn a_call_on_s3_is_recorded_finished_and_finished_again() {
    let Some(endpoint) = endpoint() else { return };
    let Opened { segments, results, cadence } = store(&endpoint).await;
    let recorder = Recorder::on(segments, Arc::clone(&results), &Settings::default(), cadence).expect("valid");
    assert_eq!(recorder.segment_ms(), 60_000);
    let mut tx = Voice::new(&recorder, 1, Perspective::Tx, 0);
    let mut rx = Voice::new(&recorder, 2, Perspective::Rx, 100);
    for _ in 0..3 {
        tx.say(3_000);
        rx.say(2_000);
        tx.tap.events().push(&event(stream_id(1), tx.now_us(), "hello"));
        tx.cut();
        rx.cut();
        recorder.flushed().await;
    }
    // Long enough for a recording in parts.
    tx.wait(400_000);
    tx.say(1_000);
    let mut said = vec![tx.close(), rx.close()];
    recorder.flushed().await;
    let torn = Path::from(format!("live/7/42/{}-000000016000.wav", stream_id(2)));
    results.put(&torn, b"torn".to_vec().into()).await.expect("torn");
    assert_eq!(recorder.unfinished(5, Duration::ZERO).await.expect("listed"), [CONTACT]);
    let finished = recorder.finish(CONTACT).await.expect("finished");
    assert_eq!((finished.unreadable, samples_lost(&finished.ledger)), (1, 16_000));
    assert_recording_is(&results, &finished.ledger, &said).await;
    assert_eq!(recorder.unfinished(5, Duration::ZERO).await.expect("listed"), []);

    let mut again = Voice::new(&recorder, 3, Perspective::Tx, 500_000);
    again.say(1_000);
    said.push(again.close());
    let ledger = recorder.finish(CONTACT).await.expect("finished").ledger;
    assert_recording_is(&results, &ledger, &said).await;
    assert_eq!(events(&results).await.len(), 3);
    assert_eq!(names(&results).await.len(), 4, "three files, and the segment that was torn");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_an_error_that_names_what_was_tried() {
    let Some(endpoint) = endpoint() else { return };
    let nowhere = format!("no-such-bucket-{}", StreamId::new());
    let Opened { segments, results, cadence } = s3::open(&nowhere, builder(&endpoint)).expect("a store");
    let recorder = Recorder::on(segments, results, &Settings::default(), cadence).expect("valid");
    let error = recorder.finish(CONTACT).await.expect_err("no bucket");
    assert!(error.to_string().starts_with("the recordings store failed to "), "{error}");
}
