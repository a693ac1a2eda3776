//! WebSocket frames by hand, for what a well-behaved library does not do: prebuilt frames for thousands of streams, and
//! peers that misbehave.
//!
//! Only the client's side and only what the simulator needs: masked frames out, unmasked frames in, one upgrade.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::dial::Endpoint;

/// Opcodes of RFC 6455 §5.2.
pub(crate) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0;
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const BINARY: u8 = 2;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

/// A key and what a server must make of it (RFC 6455 §1.3). Peers here need no randomness: the key guards against
/// caches, not against people.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Largest response head to the upgrade.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Largest payload taken from a server.
const PAYLOAD_BYTES_MAX: usize = crate::dial::ANSWER_BYTES_MAX;

/// Appends a final, masked frame.
pub(crate) fn push_frame(out: &mut Vec<u8>, opcode: u8, mask: [u8; 4], payload: &[u8]) {
    push_fragment(out, opcode, true, mask, payload);
}

/// Appends a masked frame, final or not.
pub(crate) fn push_fragment(out: &mut Vec<u8>, opcode: u8, is_final: bool, mask: [u8; 4], payload: &[u8]) {
    push_header(out, opcode, is_final, mask, payload.len() as u64);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// Appends the head of a masked frame of this length: the payload is to follow.
pub(crate) fn push_header(out: &mut Vec<u8>, opcode: u8, is_final: bool, mask: [u8; 4], length: u64) {
    const MASKED: u8 = 0x80;
    const LENGTH_IN_2_BYTES: u8 = 0x7E;
    const LENGTH_IN_8_BYTES: u8 = 0x7F;
    out.push(u8::from(is_final) << 7 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => out.push(MASKED | short),
        (_, Ok(medium)) => {
            out.push(MASKED | LENGTH_IN_2_BYTES);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(MASKED | LENGTH_IN_8_BYTES);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerFrame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl ServerFrame {
    /// The code of a close frame; 1005 when it has none.
    pub(crate) fn close_code(&self) -> Option<u16> {
        (self.opcode == opcode::CLOSE)
            .then(|| self.payload.first_chunk().map_or(1005, |code: &[u8; 2]| u16::from_be_bytes(*code)))
    }
}

/// Takes the bytes of a server as they come and gives frames back.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one. Fragments of a message come as the frames they are.
    ///
    /// # Errors
    ///
    /// For a frame that is masked or too large: the server is broken and the connection of no use.
    pub(crate) fn next(&mut self) -> io::Result<Option<ServerFrame>> {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let &[first, second, ref rest @ ..] = &self.buffer[..] else { return Ok(None) };
        if second & 0x80 != 0 {
            return Err(broken());
        }
        let extended = match second {
            126 => rest.first_chunk().map(|length: &[u8; 2]| (4, u64::from(u16::from_be_bytes(*length)))),
            127 => rest.first_chunk().map(|length: &[u8; 8]| (10, u64::from_be_bytes(*length))),
            short => Some((2, u64::from(short))),
        };
        let Some((head, length)) = extended else { return Ok(None) };
        let length = usize::try_from(length).ok().filter(|&length| length <= PAYLOAD_BYTES_MAX).ok_or_else(broken)?;
        let Some(payload) = self.buffer.get(head..head + length) else { return Ok(None) };
        let frame = ServerFrame { opcode: first & 0x0F, payload: payload.to_vec() };
        self.buffer.drain(..head + length);
        if self.buffer.is_empty() {
            // Thousands of idle streams should not each keep a buffer.
            self.buffer = Vec::new();
        }
        Ok(Some(frame))
    }
}

/// Reads until a whole frame is there; none at the end of the stream.
pub(crate) async fn read_frame<S>(stream: &mut S, frames: &mut Frames) -> io::Result<Option<ServerFrame>>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(frame) = frames.next()? {
            return Ok(Some(frame));
        }
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            count => frames.feed(&chunk[..count]),
        }
    }
}

/// Why an upgrade failed.
#[derive(Debug)]
pub(crate) enum UpgradeError {
    /// Answered, but not with 101.
    Status(u16),
    /// Answered with something that is no WebSocket upgrade.
    Nonsense,
    /// The connection broke.
    Io(io::Error),
}

impl From<io::Error> for UpgradeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Asks for the upgrade. What came behind the response head is kept for frames.
pub(crate) async fn upgrade<S>(stream: &mut S, endpoint: &Endpoint) -> Result<Frames, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (target, host) = (endpoint.target(), endpoint.authority());
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(512);
    let end = loop {
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(UpgradeError::Nonsense);
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    };
    judge(&head[..end])?;
    Ok(Frames { buffer: head.split_off(end + 4) })
}

fn judge(head: &[u8]) -> Result<(), UpgradeError> {
    let head = std::str::from_utf8(head).map_err(|_| UpgradeError::Nonsense)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    match status {
        Some(101) => {}
        Some(status) => return Err(UpgradeError::Status(status)),
        None => return Err(UpgradeError::Nonsense),
    }
    let accepted = lines
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT);
    if accepted { Ok(()) } else { Err(UpgradeError::Nonsense) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_form_have_the_right_head() {
        for (length, head) in [
            (0, &[0x82, 0x80][..]),
            (125, &[0x82, 0xFD]),
            (126, &[0x82, 0xFE, 0, 126]),
            (65_535, &[0x82, 0xFE, 0xFF, 0xFF]),
            (65_536, &[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            push_frame(&mut out, opcode::BINARY, [1, 2, 3, 4], &vec![0; length]);
            assert_eq!(&out[..head.len()], head, "{length}");
            assert_eq!(out.len(), head.len() + 4 + length);
        }
    }

    #[test]
    fn the_mask_is_applied_from_the_first_byte_on() {
        let mut out = Vec::new();
        push_frame(&mut out, opcode::TEXT, [1, 2, 3, 4], &[0, 0, 0, 0, 1]);
        assert_eq!(out, [0x81, 0x85, 1, 2, 3, 4, 1, 2, 3, 4, 0]);
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_come_in() {
        let mut bytes = vec![0x81, 2, b'h', b'i', 0x89, 0, 0x82, 126, 0, 200];
        bytes.extend([7; 200]);
        bytes.extend([0x88, 2, 0x03, 0xF0]);
        for size in [1, 3, 1000] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for chunk in bytes.chunks(size) {
                frames.feed(chunk);
                while let Some(frame) = frames.next().unwrap() {
                    seen.push(frame);
                }
            }
            let lengths: Vec<_> = seen.iter().map(|frame| (frame.opcode, frame.payload.len())).collect();
            assert_eq!(lengths, [(1, 2), (9, 0), (2, 200), (8, 2)]);
            assert_eq!(seen[3].close_code(), Some(1008));
        }
    }

    #[test]
    fn a_masked_or_huge_frame_of_a_server_is_an_error() {
        for bytes in [&[0x81, 0x80][..], &[0x82, 127, 0, 0, 0, 0, 0, 2, 0, 0]] {
            let mut frames = Frames::default();
            frames.feed(bytes);
            assert!(frames.next().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn only_a_proper_101_opens_a_websocket() {
        let accept = format!("HTTP/1.1 101 Switching Protocols\r\nSEC-WebSocket-Accept: {ACCEPT}");
        assert!(judge(accept.as_bytes()).is_ok());
        assert!(matches!(judge(b"HTTP/1.1 503 Busy\r\nx: y"), Err(UpgradeError::Status(503))));
        for nonsense in [&b"HTTP/1.1 101 Sure"[..], b"hello", b"\xFF"] {
            assert!(matches!(judge(nonsense), Err(UpgradeError::Nonsense)));
        }
    }
}
