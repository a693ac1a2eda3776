//! The program that runs on Fargate, as a process: its table on a DynamoDB and its recordings on an S3 that are not ours.

mod caller;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use caller::{FRAME_SAMPLES, connect, frame, get, send, wait_for};
use earpiece_store::Store;

const FRAMES: usize = 50;

/// The address of a DynamoDB and S3 that `./tests/run` starts.
fn emulator() -> Option<SocketAddr> {
    let endpoint = std::env::var("EARPIECE_TEST_S3_ENDPOINT").ok().filter(|endpoint| !endpoint.is_empty());
    if endpoint.is_none() {
        let required = std::env::var("EARPIECE_TOOLS").is_ok_and(|tools| tools == "required");
        assert!(!required, "the shim's program needs EARPIECE_TEST_S3_ENDPOINT, and tools are required");
        let _ = writeln!(std::io::stderr(), "SKIPPED the shim's program on ministack: run ./tests/run");
    }
    Some(endpoint?.trim_start_matches("http://").parse().expect("http://ADDRESS:PORT"))
}

#[test]
fn the_program_keeps_its_state_in_dynamodb_and_its_recordings_on_s3_and_drains_on_sigterm() {
    let Some(emulator) = emulator() else { return };
    let name = format!("earpiece-fargate-{}", std::process::id());
    let endpoint = format!("http://{emulator}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(Store::connect_local(&endpoint, &name).create_table()).expect("a table");
    let mut bucket = TcpStream::connect(emulator).expect("a connection");
    write!(bucket, "PUT /{name} HTTP/1.1\r\nHost: {emulator}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut made = String::new();
    bucket.read_to_string(&mut made).expect("an answer");
    assert!(made.starts_with("HTTP/1.1 200"), "{made}");

    let mut shim = Command::new(env!("CARGO_BIN_EXE_earpiece-shim"))
        .env("AWS_ENDPOINT_URL", &endpoint)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("EARPIECE_LISTEN", "127.0.0.1:0")
        .env("EARPIECE_TABLE", &name)
        .env("EARPIECE_RECORDINGS", format!("s3://{name}/calls"))
        .env("EARPIECE_QUIET_PERIOD", "1s")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut log = BufReader::new(shim.stderr.take().expect("piped"));
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert!(log.read_line(&mut line).expect("text") > 0, "the program ended before it listened");
        if let Some((_, rest)) = line.split_once("listening address=") {
            break rest.split_whitespace().next().expect("an address").parse().expect("an address");
        }
    };
    let mut stream = connect(address);
    send(&mut stream, &frame(), FRAMES);
    drop(stream);
    wait_for(address, "earpiece_contacts_finished_total", 1);
    let ledger = get(emulator, &format!("/{name}/calls/contacts/1/1/ledger.json"));
    assert!(ledger.contains(&format!("\"samples\": {}", FRAMES * FRAME_SAMPLES)), "{ledger}");

    let killed = Command::new("kill").args(["-TERM", &shim.id().to_string()]).status().expect("kill");
    assert!(killed.success());
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("text");
    assert!(shim.wait().expect("gone").success() && rest.contains("phase=\"done\""), "{rest}");
}
