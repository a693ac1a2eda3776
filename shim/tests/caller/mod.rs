//! A caller by hand, on a plain blocking socket: it allocates nothing while it sends, and needs no simulator.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Samples of a frame: 20 ms.
pub(crate) const FRAME_SAMPLES: usize = 160;

/// Nothing here takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A masked binary frame, as a client sends it: built once.
pub(crate) fn frame() -> Vec<u8> {
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

/// Shakes hands as contact 1 of business unit 1, perspective TX.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
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

/// Sends frames, a pause after each so that each is a wake-up of its own.
pub(crate) fn send(stream: &mut TcpStream, frame: &[u8], frames: usize) {
    for _ in 0..frames {
        stream.write_all(frame).expect("a frame");
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// A plain HTTP request: the whole answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Waits until a counter of the shim has reached a number.
pub(crate) fn wait_for(address: SocketAddr, metric: &str, at_least: usize) {
    let begun = std::time::Instant::now();
    loop {
        let metrics = get(address, "/metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        if value.expect("the metric").parse::<usize>().expect("a number") >= at_least {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{metric} never reached {at_least}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
