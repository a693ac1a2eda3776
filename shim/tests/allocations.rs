//! The way of a frame does not allocate: counted with a counting allocator over the whole process, on a real socket.

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use earpiece_core::config::{EmptyEnv, Overlay};
use earpiece_shim::{Settings, service, settings};
use earpiece_store::embedded::Embedded;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const FRAME_SAMPLES: usize = 160;

/// Frames that are counted: 40 s of speech.
const FRAMES: usize = 2_000;

/// Half a second of audio fits in one block of the recorder's memory, which is allocated (itself, and its entry) while
/// no other has come back.
const FRAMES_PER_BLOCK: usize = 25;

/// What timers and the idle connection to the store may allocate meanwhile.
const ELSEWHERE_MAX: usize = 40;

/// A masked frame of silence's neighbour, as a client sends it: built once.
fn frame() -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | 0x7E, 0, 160, 1, 2, 3, 4];
    frame.extend((0..FRAME_SAMPLES).map(|index| 0x55 ^ [1, 2, 3, 4][index % 4]));
    frame
}

fn text(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    assert!(length < 126, "the short form of a length");
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// Shakes hands by hand, on a plain blocking socket: the client's side must not allocate either.
fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let request = format!(
        "GET /audio HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let init = br#"{"executionInfo":{"contactId":1,"busNo":1},"streamPerspective":"TX"}"#;
    stream.write_all(&text(init)).expect("an init message");
    let mut heard = Vec::new();
    let mut buffer = [0; 1024];
    while !heard.ends_with(br#""message":"BEGIN AUDIO STREAM"}"#) {
        let bytes = stream.read(&mut buffer).expect("an answer");
        assert!(bytes > 0, "the shim hung up");
        heard.extend_from_slice(&buffer[..bytes]);
    }
    stream
}

/// The counter of audio bytes as the shim shows it.
fn audio_bytes(address: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let value = answer.lines().find_map(|line| line.strip_prefix("earpiece_audio_bytes_total "));
    value.expect("the metric").parse().expect("a number")
}

/// Sends frames, a pause after each so that each is a wake-up of its own.
fn send(stream: &mut TcpStream, frame: &[u8], frames: usize) {
    for _ in 0..frames {
        stream.write_all(frame).expect("a frame");
        std::thread::sleep(Duration::from_micros(300));
    }
}

#[test]
fn a_frame_allocates_nothing_but_its_share_of_a_block() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let database = Embedded::memory().expect("a database");
    let env = Overlay::over(EmptyEnv)
        .with(&settings::RECORDINGS, data.path().to_str().expect("a Unicode path"))
        .with(&settings::SEGMENT, "10m");
    let settings = Settings::read(&env).expect("settings");
    let address = runtime.block_on(async {
        let store = database.store("allocations").await.expect("a table");
        let parts = service::parts(&settings, store).expect("parts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(earpiece_shim::run(listener, std::future::pending(), parts));
        address
    });
    let frame = frame();
    let mut stream = connect(address);
    send(&mut stream, &frame, 200);
    let before = Region::new(ALLOCATOR);
    send(&mut stream, &frame, FRAMES);
    let counted = before.change();
    let allocations = counted.allocations + counted.reallocations;
    let allowed = 2 * FRAMES / FRAMES_PER_BLOCK + ELSEWHERE_MAX;
    assert!(allocations <= allowed, "{FRAMES} frames allocated {allocations} times, and {allowed} are allowed");
    // And they were really taken: the stream's own timer hands its counts over.
    let expected = (200 + FRAMES) * FRAME_SAMPLES;
    let begun = std::time::Instant::now();
    while audio_bytes(address) < expected {
        assert!(begun.elapsed() < Duration::from_mins(1), "the frames did not arrive");
        std::thread::sleep(Duration::from_millis(100));
    }
}
