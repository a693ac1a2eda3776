//! WAV files of 8000 Hz: µ-law (format tag 7) and 16-bit PCM, mono and stereo.
//!
//! Writing gives bytes in front of the samples and a byte behind them, so that a recording can be composed without ever
//! being in memory as a whole. Reading takes what other programs write: unknown chunks, odd chunks without their
//! padding, files that were cut off.

mod read;
mod write;

pub use read::{CHUNKS_MAX, Wav, parse};
pub use write::{Chunk, file, header, interleave_into, padding};

/// How a sample is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// G.711 µ-law, one byte.
    Ulaw,
    /// Linear, signed, two bytes, the lower first.
    Pcm16,
}

impl Format {
    /// Bytes of one sample.
    #[must_use]
    pub const fn sample_bytes(self) -> u16 {
        match self {
            Self::Ulaw => 1,
            Self::Pcm16 => 2,
        }
    }

    const fn tag(self) -> u16 {
        match self {
            Self::Ulaw => 7,
            Self::Pcm16 => 1,
        }
    }
}

/// How many samples make a frame, that is, one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channels {
    /// One.
    Mono,
    /// Two: left, right.
    Stereo,
}

impl Channels {
    /// Samples of one frame.
    #[must_use]
    pub const fn count(self) -> u16 {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}

/// Why a file cannot be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WavError {
    /// RIFF counts bytes in 32 bits.
    #[error("a WAV file cannot be larger than 4 GiB")]
    TooLarge,
    /// The bytes do not end where a frame ends.
    #[error("the audio is not a whole number of frames")]
    NotWholeFrames,
    /// `fmt `, `fact` and `data` are written from what is known of the audio.
    #[error("an extra chunk bears a name that WAV itself uses")]
    ReservedChunk,
    /// It does not begin with `RIFF` and `WAVE`.
    #[error("this is not a WAV file")]
    NotWav,
    /// No chunk says what the samples are, or it stands behind them or is too short.
    #[error("the WAV file has no format before its audio")]
    NoFormat,
    /// Neither µ-law of 8 bits nor PCM of 16.
    #[error("format {tag} with {sample_bits} bits per sample is not supported")]
    UnsupportedFormat {
        /// The format tag.
        tag: u16,
        /// Bits per sample.
        sample_bits: u16,
    },
    /// Neither mono nor stereo.
    #[error("{0} channels are not supported")]
    UnsupportedChannels(u16),
    /// No chunk holds samples.
    #[error("the WAV file has no audio")]
    NoData,
    /// More than [`CHUNKS_MAX`].
    #[error("the WAV file has more than {CHUNKS_MAX} chunks")]
    TooManyChunks,
}

#[cfg(test)]
mod tests;
