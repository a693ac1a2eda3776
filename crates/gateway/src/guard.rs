//! What API Gateway refuses by looking at frames, before a message is whole: binary ones, and large ones.
//!
//! The WebSocket layer knows one limit for frames and messages alike, and hands a binary message over only when it is
//! complete. So this stands between it and the connection, follows the heads of the frames (RFC 6455, 5.2) in the bytes
//! that come, and ends reading at the first head that breaks a rule. Everything before it is still delivered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
const FIRST_CONTROL: u8 = 0x8;
const HEAD_BYTES_MAX: usize = 10;
const MASK_BYTES: u64 = 4;

/// A rule that a peer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A binary frame.
    Binary,
    /// A frame above the limit for frames.
    FrameTooLarge,
    /// A message above the limit for messages.
    MessageTooLarge,
}

/// Follows the heads of frames.
#[derive(Debug)]
pub(crate) struct Heads {
    frame_bytes_max: u64,
    message_bytes_max: u64,
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    /// What is left of the frame that is being passed on, its mask included.
    left: u64,
    message_bytes: u64,
}

impl Heads {
    pub(crate) fn new(frame_bytes_max: usize, message_bytes_max: usize) -> Self {
        Self {
            frame_bytes_max: frame_bytes_max as u64,
            message_bytes_max: message_bytes_max as u64,
            head: [0; HEAD_BYTES_MAX],
            head_bytes: 0,
            left: 0,
            message_bytes: 0,
        }
    }

    /// Looks at the next bytes. On a broken rule, says how many of them came before the head that broke it.
    fn follow(&mut self, bytes: &[u8]) -> Result<(), (usize, Broken)> {
        let mut at = 0;
        let mut head_at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.left -= passed as u64;
                at += passed;
                continue;
            }
            if self.head_bytes == 0 {
                head_at = at;
            }
            self.head[self.head_bytes] = bytes[at];
            self.head_bytes += 1;
            at += 1;
            if self.head_bytes == self.head_bytes_needed() {
                self.judge().map_err(|broken| (head_at, broken))?;
            }
        }
        Ok(())
    }

    /// Without the mask: it is passed over like the payload.
    fn head_bytes_needed(&self) -> usize {
        match (self.head_bytes, self.head[1] & 0x7f) {
            (0 | 1, _) => 2,
            (_, 126) => 4,
            (_, 127) => 10,
            _ => 2,
        }
    }

    /// A head is complete.
    fn judge(&mut self) -> Result<(), Broken> {
        let opcode = self.head[0] & 0x0f;
        let payload_bytes = match self.head_bytes {
            2 => u64::from(self.head[1] & 0x7f),
            4 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            _ => self.head[2..].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let mask_bytes = if self.head[1] & 0x80 == 0 { 0 } else { MASK_BYTES };
        self.left = payload_bytes.saturating_add(mask_bytes);
        self.head_bytes = 0;
        if opcode >= FIRST_CONTROL {
            // May stand between the frames of a message, and is small or the WebSocket layer refuses it.
            return Ok(());
        }
        if opcode == BINARY {
            return Err(Broken::Binary);
        }
        let before = if opcode == CONTINUATION { self.message_bytes } else { 0 };
        self.message_bytes = before.saturating_add(payload_bytes);
        if payload_bytes > self.frame_bytes_max {
            return Err(Broken::FrameTooLarge);
        }
        if self.message_bytes > self.message_bytes_max {
            return Err(Broken::MessageTooLarge);
        }
        Ok(())
    }
}

/// A connection whose incoming frames are followed.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    io: S,
    heads: Heads,
    broken: Option<Broken>,
}

impl<S> Guarded<S> {
    pub(crate) fn new(io: S, heads: Heads) -> Self {
        Self { io, heads, broken: None }
    }

    /// The rule that the peer broke; reading has failed because of it, or will.
    pub(crate) const fn broken(&self) -> Option<Broken> {
        self.broken
    }

    pub(crate) fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.broken.is_some() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        let this = &mut *self;
        std::task::ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        if let Err((good, broken)) = this.heads.follow(&buf.filled()[before..]) {
            this.broken = Some(broken);
            if good == 0 {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            buf.set_filled(before + good);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const TEXT: u8 = 0x81;
    const TEXT_MORE: u8 = 0x01;
    const LAST: u8 = 0x80;

    /// A masked frame, as a client sends it.
    fn frame(first: u8, payload_bytes: usize) -> Vec<u8> {
        let mut frame = vec![first];
        if payload_bytes < 126 {
            frame.push(0x80 | u8::try_from(payload_bytes).unwrap());
        } else if let Ok(length) = u16::try_from(payload_bytes) {
            frame.push(0xfe);
            frame.extend_from_slice(&length.to_be_bytes());
        } else {
            frame.push(0xff);
            frame.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
        // The mask and the payload look like heads of binary frames, and are none.
        frame.extend(std::iter::repeat_n(0x82, 4 + payload_bytes));
        frame
    }

    /// What is found, and after how many bytes, with the bytes coming in pieces of every size.
    fn found(frames: &[Vec<u8>]) -> Option<(usize, Broken)> {
        let bytes = frames.concat();
        let whole = Heads::new(1000, 70_000).follow(&bytes).err();
        for piece_bytes in [1, 2, 3, 7, 500] {
            let mut heads = Heads::new(1000, 70_000);
            let found = bytes.chunks(piece_bytes).find_map(|piece| heads.follow(piece).err());
            assert_eq!(found.map(|(_, broken)| broken), whole.map(|(_, broken)| broken), "{piece_bytes}");
        }
        whole
    }

    #[test]
    fn text_of_any_length_up_to_the_limit_passes() {
        for payload_bytes in [0, 1, 125, 126, 999, 1000] {
            assert_eq!(found(&[frame(TEXT, payload_bytes), frame(TEXT, 3)]), None, "{payload_bytes}");
        }
    }

    #[test]
    fn the_first_head_that_breaks_a_rule_is_found() {
        let text = frame(TEXT, 200);
        for (wrong, broken) in [
            (frame(0x82, 0), Broken::Binary),
            (frame(0x02, 70_001), Broken::Binary),
            (frame(TEXT, 1001), Broken::FrameTooLarge),
            (frame(TEXT, 65_536), Broken::FrameTooLarge),
        ] {
            assert_eq!(found(&[text.clone(), wrong]), Some((text.len(), broken)));
        }
    }

    #[test]
    fn a_message_is_counted_over_its_frames_and_anew_after_them() {
        let mut message = vec![frame(TEXT_MORE, 1000)];
        message.extend(std::iter::repeat_n(frame(0x00, 1000), 68));
        message.push(frame(0x89, 3));
        let mut allowed = message.clone();
        allowed.extend([frame(LAST, 1000), frame(TEXT, 1000)]);
        assert_eq!(found(&allowed), None);
        let mut too_long = message;
        too_long.extend([frame(0x00, 1000), frame(LAST, 1)]);
        let before: usize = too_long[..too_long.len() - 1].iter().map(Vec::len).sum();
        assert_eq!(found(&too_long), Some((before, Broken::MessageTooLarge)));
    }

    #[tokio::test]
    async fn what_came_before_the_broken_rule_is_still_read() {
        let (good, wrong) = (frame(TEXT, 20), frame(0x82, 20));
        let bytes = [good.clone(), wrong].concat();
        let mut guarded = Guarded::new(&bytes[..], Heads::new(1000, 1000));
        let mut read = Vec::new();
        assert!(guarded.read_to_end(&mut read).await.is_err());
        assert_eq!((read, guarded.broken()), (good, Some(Broken::Binary)));
    }
}
