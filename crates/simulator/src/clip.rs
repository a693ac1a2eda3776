//! µ-law audio that a voice can be asked for at any position: a clip that is over begins again.
//!
//! Reading a clip and mixing two of them, nothing else; where in a call a position belongs is the timetable's.

use bytes::Bytes;
use earpiece_core::audio::ulaw;
use earpiece_core::contact::{SAMPLE_RATE_HZ, SAMPLES_PER_MS};

/// A tone of `ms` milliseconds as µ-law at 8000 Hz mono, for calls that need a voice but no words.
#[must_use]
pub fn tone(frequency_hz: u32, ms: u32) -> Bytes {
    const PEAK: f64 = 8000.0;
    let samples = u64::from(ms) * SAMPLES_PER_MS;
    let step = std::f64::consts::TAU * f64::from(frequency_hz) / f64::from(SAMPLE_RATE_HZ);
    let mut phase = 0.0_f64;
    (0..samples)
        .map(|_| {
            let sample = phase.sin() * PEAK;
            phase = (phase + step) % std::f64::consts::TAU;
            #[expect(clippy::cast_possible_truncation, reason = "PEAK is well inside an i16")]
            ulaw::encode(sample as i16)
        })
        .collect()
}

/// Fills `out` with the clip from position `from` on, from its beginning again whenever it is over. A clip without
/// samples is silence.
pub(crate) fn read_looped(clip: &[u8], from: u64, out: &mut [u8]) {
    if clip.is_empty() {
        out.fill(ulaw::SILENCE);
        return;
    }
    let mut position = wrapped(from, clip.len());
    let mut rest = out;
    while !rest.is_empty() {
        let available = &clip[position..];
        let count = available.len().min(rest.len());
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(&available[..count]);
        rest = later;
        position = 0;
    }
}

/// Mixes the clip from position `from` on into `out`, as a conference bridge does: decode, add, saturate, encode.
pub(crate) fn mix_looped(clip: &[u8], from: u64, out: &mut [u8]) {
    if clip.is_empty() {
        return;
    }
    let mut position = wrapped(from, clip.len());
    for sample in out {
        let sum = ulaw::decode(*sample).saturating_add(ulaw::decode(clip[position]));
        *sample = ulaw::encode(sum);
        position = (position + 1) % clip.len();
    }
}

fn wrapped(position: u64, length: usize) -> usize {
    // The remainder is smaller than a `usize`, so neither conversion can fail.
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    usize::try_from(position % length).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_begins_again_when_it_is_over() {
        let mut out = [0; 7];
        read_looped(&[1, 2, 3], 2, &mut out);
        assert_eq!(out, [3, 1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn an_empty_clip_is_silence_and_mixes_to_nothing() {
        let mut out = [7; 3];
        mix_looped(&[], 0, &mut out);
        assert_eq!(out, [7; 3]);
        read_looped(&[], 5, &mut out);
        assert_eq!(out, [ulaw::SILENCE; 3]);
    }

    #[test]
    fn mixing_adds_linear_samples_and_saturates() {
        let (quiet, loud) = (ulaw::encode(1000), ulaw::encode(32_000));
        let mut out = [quiet, loud, ulaw::SILENCE];
        mix_looped(&[quiet, loud], 0, &mut out);
        let sum = ulaw::encode(ulaw::decode(quiet) * 2);
        assert_eq!(out, [sum, ulaw::encode(i16::MAX), ulaw::encode(ulaw::decode(quiet))]);
    }

    #[test]
    fn a_tone_has_the_asked_length_and_is_not_silent() {
        let clip = tone(440, 20);
        assert_eq!(clip.len(), 160);
        assert!(clip.iter().any(|&code| ulaw::decode(code) > 4000));
    }
}
