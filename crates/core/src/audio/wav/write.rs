//! What stands around the samples of a WAV file.

use super::{Channels, Format, WavError};
use crate::contact::SAMPLE_RATE_HZ;

/// A chunk that is neither format nor audio: notes, a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Its four-character name, such as `LIST`.
    pub id: [u8; 4],
    /// Its bytes, without padding.
    pub body: &'a [u8],
}

impl Chunk<'_> {
    const HEAD_BYTES: u64 = 8;

    /// Bytes in the file: head, body and padding.
    fn file_bytes(&self) -> u64 {
        let body = self.body.len() as u64;
        Self::HEAD_BYTES + body + body % 2
    }

    fn append_to(&self, file: &mut Vec<u8>) -> Result<(), WavError> {
        file.extend(self.id);
        file.extend(u32::try_from(self.body.len()).map_err(|_| WavError::TooLarge)?.to_le_bytes());
        file.extend(self.body);
        if !self.body.len().is_multiple_of(2) {
            file.push(0);
        }
        Ok(())
    }
}

/// Everything that stands before the samples, for audio whose length in frames is known. Behind the samples goes
/// [`padding`].
///
/// # Errors
/// [`WavError::TooLarge`] when the file would exceed what RIFF can count, [`WavError::ReservedChunk`] when an extra chunk
/// is called `fmt `, `fact` or `data`.
pub fn header(format: Format, channels: Channels, frames: u64, extra: &[Chunk<'_>]) -> Result<Vec<u8>, WavError> {
    if extra.iter().any(|chunk| [*b"fmt ", *b"fact", *b"data"].contains(&chunk.id)) {
        return Err(WavError::ReservedChunk);
    }
    let format_body = format_body(format, channels);
    let frames_body = u32::try_from(frames).map_err(|_| WavError::TooLarge)?.to_le_bytes();
    let mut chunks = vec![Chunk { id: *b"fmt ", body: &format_body }];
    if format == Format::Ulaw {
        // Demanded of every format but PCM.
        chunks.push(Chunk { id: *b"fact", body: &frames_body });
    }
    chunks.extend(extra);

    // Frames fit 32 bits, so this cannot overflow 64.
    let data_bytes = frames * frame_bytes(format, channels);
    let before_data: u64 = chunks.iter().map(Chunk::file_bytes).sum();
    let riff_bytes = (b"WAVE".len() as u64 + before_data + Chunk::HEAD_BYTES)
        .checked_add(data_bytes + data_bytes % 2)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or(WavError::TooLarge)?;
    let data_bytes = u32::try_from(data_bytes).map_err(|_| WavError::TooLarge)?;

    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend(riff_bytes.to_le_bytes());
    file.extend(b"WAVE");
    for chunk in chunks {
        chunk.append_to(&mut file)?;
    }
    file.extend(b"data");
    file.extend(data_bytes.to_le_bytes());
    Ok(file)
}

/// What stands behind the samples: a byte where their number of bytes is odd, else nothing.
#[must_use]
pub const fn padding(format: Format, channels: Channels, frames: u64) -> &'static [u8] {
    // Only one byte per frame can add up to an odd number.
    let is_odd = !frames.is_multiple_of(2) && !frame_bytes(format, channels).is_multiple_of(2);
    if is_odd { &[0] } else { &[] }
}

/// A whole file in memory. `data` is as in the file: µ-law codes, or 16-bit samples with the lower byte first.
///
/// # Errors
/// As [`header`], and [`WavError::NotWholeFrames`] when `data` ends within a frame.
pub fn file(format: Format, channels: Channels, data: &[u8], extra: &[Chunk<'_>]) -> Result<Vec<u8>, WavError> {
    let frame_bytes = frame_bytes(format, channels);
    let data_bytes = data.len() as u64;
    if !data_bytes.is_multiple_of(frame_bytes) {
        return Err(WavError::NotWholeFrames);
    }
    let frames = data_bytes / frame_bytes;
    let mut file = header(format, channels, frames, extra)?;
    file.extend(data);
    file.extend(padding(format, channels, frames));
    Ok(file)
}

/// Lays two channels side by side, as far as both and the room reach, and says how many frames that were. `out` holds
/// two samples per frame: left, right.
pub fn interleave_into<T: Copy>(left: &[T], right: &[T], out: &mut [T]) -> usize {
    let (frames, _) = out.as_chunks_mut::<2>();
    let count = frames.len().min(left.len()).min(right.len());
    for ((frame, left), right) in frames.iter_mut().zip(left).zip(right) {
        *frame = [*left, *right];
    }
    count
}

const fn frame_bytes(format: Format, channels: Channels) -> u64 {
    (format.sample_bytes() * channels.count()) as u64
}

fn format_body(format: Format, channels: Channels) -> Vec<u8> {
    let block_bytes = format.sample_bytes() * channels.count();
    let mut body = Vec::with_capacity(18);
    body.extend(format.tag().to_le_bytes());
    body.extend(channels.count().to_le_bytes());
    body.extend(SAMPLE_RATE_HZ.to_le_bytes());
    body.extend((SAMPLE_RATE_HZ * u32::from(block_bytes)).to_le_bytes());
    body.extend(block_bytes.to_le_bytes());
    body.extend((format.sample_bytes() * 8).to_le_bytes());
    if format == Format::Ulaw {
        // Length of an extension that µ-law does not have, but every format except PCM must mention.
        body.extend([0, 0]);
    }
    body
}
