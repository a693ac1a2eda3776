//! Takes a WAV file in memory apart.

use super::{Channels, Chunk, Format, WavError};

/// How many chunks a file may have besides format and audio.
pub const CHUNKS_MAX: usize = 1024;

/// Written as the length of the audio by programs that did not know it: the audio ends with the file.
const LENGTH_UNKNOWN: u32 = u32::MAX;

/// A WAV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wav<'a> {
    /// How a sample is written.
    pub format: Format,
    /// How many samples make a frame.
    pub channels: Channels,
    /// Frames per second.
    pub rate_hz: u32,
    /// The audio: whole frames only.
    pub data: &'a [u8],
    /// Bytes of audio that the file announces and does not have, or that are not a whole frame: zero unless it was cut.
    pub missing_bytes: u64,
    /// All other chunks, in order; one that the file cuts off is left out.
    pub extra: Vec<Chunk<'a>>,
}

impl<'a> Wav<'a> {
    /// Frames of audio.
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.data.len() / (self.format.sample_bytes() * self.channels.count()) as usize
    }

    /// The first extra chunk of a name.
    #[must_use]
    pub fn chunk(&self, id: [u8; 4]) -> Option<&'a [u8]> {
        self.extra.iter().find(|chunk| chunk.id == id).map(|chunk| chunk.body)
    }
}

/// What a `fmt ` chunk says.
#[derive(Clone, Copy)]
struct Layout {
    format: Format,
    channels: Channels,
    rate_hz: u32,
}

/// Audio as it was found.
struct Audio<'a> {
    layout: Layout,
    data: &'a [u8],
    announced_bytes: u64,
}

/// Reads a WAV file. The length in its RIFF head is not looked at: chunks tell their own, and a recorder that died left
/// it wrong.
///
/// # Errors
/// When it is not a WAV file, or its audio is missing or of a format that is not supported.
pub fn parse(file: &[u8]) -> Result<Wav<'_>, WavError> {
    let [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', rest @ ..] = file else {
        return Err(WavError::NotWav);
    };
    let mut rest = rest;
    let mut layout = None;
    let mut audio = None;
    let mut extra = Vec::new();
    while let Some(found) = next_chunk(rest) {
        rest = found.rest;
        match &found.chunk.id {
            b"fmt " if layout.is_none() => layout = Some(read_layout(found.chunk.body)?),
            b"data" if audio.is_none() => {
                let layout = layout.ok_or(WavError::NoFormat)?;
                audio = Some(Audio { layout, data: found.chunk.body, announced_bytes: found.announced_bytes() });
            }
            // Says nothing that the length of the audio does not say.
            b"fact" => {}
            _ if found.is_cut() => {}
            _ if extra.len() == CHUNKS_MAX => return Err(WavError::TooManyChunks),
            _ => extra.push(found.chunk),
        }
    }
    let Audio { layout, data, announced_bytes } = audio.ok_or(WavError::NoData)?;
    let frame_bytes = usize::from(layout.format.sample_bytes() * layout.channels.count());
    let data = &data[..data.len() - data.len() % frame_bytes];
    Ok(Wav {
        format: layout.format,
        channels: layout.channels,
        rate_hz: layout.rate_hz,
        data,
        missing_bytes: announced_bytes - data.len() as u64,
        extra,
    })
}

/// A chunk as far as the file has it.
struct Found<'a> {
    chunk: Chunk<'a>,
    announced: u32,
    rest: &'a [u8],
}

impl Found<'_> {
    const fn is_cut(&self) -> bool {
        (self.chunk.body.len() as u64) < self.announced as u64
    }

    fn announced_bytes(&self) -> u64 {
        if self.announced == LENGTH_UNKNOWN { self.chunk.body.len() as u64 } else { self.announced.into() }
    }
}

fn next_chunk(bytes: &[u8]) -> Option<Found<'_>> {
    let (id, after_id) = bytes.split_first_chunk::<4>()?;
    let (length, after_head) = after_id.split_first_chunk::<4>()?;
    let announced = u32::from_le_bytes(*length);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    let (body, rest) = after_head.split_at_checked(length).unwrap_or((after_head, &[]));
    let rest = if length.is_multiple_of(2) { rest } else { without_padding(rest) };
    Some(Found { chunk: Chunk { id: *id, body }, announced, rest })
}

/// Skips the byte that must follow an odd chunk. Some programs leave it out; then the next name stands there at once,
/// and no name begins with the zero that padding is.
fn without_padding(rest: &[u8]) -> &[u8] {
    let is_name = |id: &[u8; 4]| id.iter().all(|byte| matches!(byte, b' '..=b'~'));
    match rest {
        [] => rest,
        [0, padded @ ..] => padded,
        _ if rest.first_chunk::<4>().is_some_and(is_name) => rest,
        [_, padded @ ..] => padded,
    }
}

fn read_layout(body: &[u8]) -> Result<Layout, WavError> {
    let fields = body.first_chunk::<16>().ok_or(WavError::NoFormat)?;
    let [tag_0, tag_1, channels_0, channels_1, rate_0, rate_1, rate_2, rate_3, .., bits_0, bits_1] = *fields;
    let tag = u16::from_le_bytes([tag_0, tag_1]);
    let sample_bits = u16::from_le_bytes([bits_0, bits_1]);
    let format = match (tag, sample_bits) {
        (7, 8) => Format::Ulaw,
        (1, 16) => Format::Pcm16,
        _ => return Err(WavError::UnsupportedFormat { tag, sample_bits }),
    };
    let channels = match u16::from_le_bytes([channels_0, channels_1]) {
        1 => Channels::Mono,
        2 => Channels::Stereo,
        count => return Err(WavError::UnsupportedChannels(count)),
    };
    Ok(Layout { format, channels, rate_hz: u32::from_le_bytes([rate_0, rate_1, rate_2, rate_3]) })
}
