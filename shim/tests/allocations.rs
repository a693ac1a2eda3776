//! The way of a frame does not allocate: counted with a counting allocator over the whole process, on a real socket.

mod caller;

use std::alloc::System;
use std::time::Duration;

use caller::{FRAME_SAMPLES, connect, frame, send, wait_for};
use earpiece_core::config::{EmptyEnv, Overlay};
use earpiece_shim::{Settings, service, settings};
use earpiece_store::embedded::Embedded;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Frames that are counted: 40 s of speech.
const FRAMES: usize = 2_000;

/// Half a second of audio fits in one block of the recorder's memory, which is allocated (itself, and its entry) while
/// no other has come back.
const FRAMES_PER_BLOCK: usize = 25;

/// What the stream's timer may allocate meanwhile.
const ELSEWHERE_MAX: usize = 40;

#[test]
fn a_frame_allocates_nothing_but_its_share_of_a_block() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let database = Embedded::memory().expect("a database");
    let env = Overlay::over(EmptyEnv)
        .with(&settings::RECORDINGS, data.path().to_str().expect("a Unicode path"))
        .with(&settings::SEGMENT, "10m");
    let mut settings = Settings::read(&env).expect("settings");
    // What is done beside the streams, now and then, is not what is counted.
    settings.limits.sweep = Duration::from_hours(1);
    settings.limits.checkpoint = Duration::from_hours(1);
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
    wait_for(address, "earpiece_audio_bytes_total", (200 + FRAMES) * FRAME_SAMPLES);
}
