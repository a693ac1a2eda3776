//! Speech from files: raw µ-law, or WAV with µ-law or 16-bit PCM; 8000 Hz, mono.

use std::path::Path;

use bytes::Bytes;
use earpiece_core::audio::ulaw;
use earpiece_core::audio::wav::{self, Channels, Format};
use earpiece_core::contact::SAMPLE_RATE_HZ;

use crate::trouble::Trouble;

/// Largest file that is read: nine hours of µ-law.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Reads a voice.
///
/// # Errors
///
/// When there is no such file, or it is not speech that CXone's hook could carry; says how to convert it.
pub(crate) async fn read(path: &Path) -> Result<Bytes, Trouble> {
    let name = path.display();
    let unreadable = |error: std::io::Error| Trouble::usage(format!("{name} cannot be read: {error}"));
    let size = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        return Err(Trouble::usage(format!("{name} is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    let file = tokio::fs::read(path).await.map_err(unreadable)?;
    decode(file).map_err(|problem| {
        Trouble::usage(format!("{name} cannot be spoken: {problem}"))
            .next(format!("sox {name} -r 8000 -c 1 -e mu-law -t raw voice.ul"))
    })
}

fn decode(file: Vec<u8>) -> Result<Bytes, String> {
    if file.is_empty() {
        return Err("it is empty".into());
    }
    if !file.starts_with(b"RIFF") {
        return Ok(file.into());
    }
    let wav = wav::parse(&file).map_err(|error| error.to_string())?;
    if wav.rate_hz != SAMPLE_RATE_HZ {
        return Err(format!("it has {} Hz, and the hook carries {SAMPLE_RATE_HZ} Hz", wav.rate_hz));
    }
    if wav.channels != Channels::Mono {
        return Err("it is stereo, and each leg of a call is mono".into());
    }
    if wav.data.is_empty() {
        return Err("it has no audio".into());
    }
    Ok(match wav.format {
        Format::Ulaw => Bytes::copy_from_slice(wav.data),
        Format::Pcm16 => {
            let (samples, _) = wav.data.as_chunks::<2>();
            samples.iter().map(|sample| ulaw::encode(i16::from_le_bytes(*sample))).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav_of(format: Format, channels: Channels, data: &[u8]) -> Vec<u8> {
        wav::file(format, channels, data, &[]).expect("a file")
    }

    #[test]
    fn raw_bytes_are_taken_as_ulaw() {
        assert_eq!(decode(vec![1, 2, 3]), Ok(Bytes::from_static(&[1, 2, 3])));
    }

    #[test]
    fn wav_files_are_taken_apart_and_pcm_is_encoded() {
        let spoken = [ulaw::encode(100), ulaw::encode(-20_000)];
        assert_eq!(decode(wav_of(Format::Ulaw, Channels::Mono, &spoken)), Ok(Bytes::copy_from_slice(&spoken)));
        let linear: Vec<u8> = spoken.iter().flat_map(|&code| ulaw::decode(code).to_le_bytes()).collect();
        assert_eq!(decode(wav_of(Format::Pcm16, Channels::Mono, &linear)), Ok(Bytes::copy_from_slice(&spoken)));
    }

    #[test]
    fn what_the_hook_cannot_carry_is_refused() {
        assert!(decode(Vec::new()).is_err());
        assert!(decode(b"RIFF....".to_vec()).is_err());
        let stereo = wav_of(Format::Ulaw, Channels::Stereo, &[1, 2]);
        assert!(decode(stereo).is_err_and(|problem| problem.contains("stereo")));
        let mut fast = wav_of(Format::Ulaw, Channels::Mono, &[1, 2]);
        fast[24..28].copy_from_slice(&16_000_u32.to_le_bytes());
        assert!(decode(fast).is_err_and(|problem| problem.contains("16000 Hz")));
    }
}
