//! G.711 µ-law, the only encoding on CXone's audio sockets (contract §1.6): one byte per sample, 8000 Hz.
//!
//! A code is the inverted bits of sign, segment (3 bits) and place within the segment (4 bits); each segment is twice as
//! wide as the one before. Both directions are table look-ups, and the tables are built by the compiler.

/// The code of silence: zero, on the positive side.
pub const SILENCE: u8 = 0xFF;

/// Moves every magnitude into a segment of its own power of two.
const BIAS: u16 = 132;

/// The largest magnitude that has a code; louder samples get the code of this one.
const MAGNITUDE_MAX: u16 = 32_635;

const SIGN: u8 = 0x80;

/// Sample of every code.
static SAMPLES: [i16; 256] = samples();

/// Segment of a biased magnitude, by its upper eight bits.
static SEGMENTS: [u8; 256] = segments();

/// The 16-bit sample of a code, −32 124 to 32 124.
#[must_use]
pub fn decode(code: u8) -> i16 {
    SAMPLES[usize::from(code)]
}

/// The code of a 16-bit sample.
#[must_use]
pub fn encode(sample: i16) -> u8 {
    // One's complement, as in ITU-T G.191: so that the two sides are mirror images down to the boundaries of steps.
    let (sign, magnitude) = if sample < 0 { (SIGN, !sample) } else { (0, sample) };
    let biased = magnitude.unsigned_abs().min(MAGNITUDE_MAX) + BIAS;
    let segment = SEGMENTS[usize::from(biased >> 7)];
    let place = (biased >> (segment + 3)).to_le_bytes()[0] & 0x0F;
    !(sign | (segment << 4) | place)
}

/// Decodes as many codes as there is room for, and says how many that were.
pub fn decode_into(codes: &[u8], samples: &mut [i16]) -> usize {
    for (sample, code) in samples.iter_mut().zip(codes) {
        *sample = decode(*code);
    }
    codes.len().min(samples.len())
}

/// Encodes as many samples as there is room for, and says how many that were.
pub fn encode_into(samples: &[i16], codes: &mut [u8]) -> usize {
    for (code, sample) in codes.iter_mut().zip(samples) {
        *code = encode(*sample);
    }
    samples.len().min(codes.len())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "`From` is not const; every value is below 32 768"
)]
const fn samples() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < table.len() {
        let bits = !(code as u8);
        let place = (bits & 0x0F) as u16;
        let segment = (bits >> 4) & 0x07;
        let magnitude = ((((place << 3) + BIAS) << segment) - BIAS) as i16;
        table[code] = if bits & SIGN == 0 { magnitude } else { -magnitude };
        code += 1;
    }
    table
}

#[expect(clippy::cast_possible_truncation, reason = "`From` is not const; a segment is at most 7")]
const fn segments() -> [u8; 256] {
    let mut table = [0; 256];
    let mut upper = 2;
    while upper < table.len() {
        table[upper] = upper.ilog2() as u8;
        upper += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use audio_codec_algorithms::{decode_ulaw, encode_ulaw};

    use super::*;

    #[test]
    fn every_code_decodes_as_an_independent_implementation_says() {
        for code in 0..=u8::MAX {
            assert_eq!(decode(code), decode_ulaw(code), "{code:#04x}");
        }
    }

    #[test]
    fn every_sample_encodes_as_an_independent_implementation_says() {
        for sample in i16::MIN..=i16::MAX {
            assert_eq!(encode(sample), encode_ulaw(sample), "{sample}");
        }
    }

    #[test]
    fn a_decoded_code_encodes_to_itself_but_for_the_negative_zero() {
        for code in 0..=u8::MAX {
            let expected = if code == 0x7F { SILENCE } else { code };
            assert_eq!(encode(decode(code)), expected, "{code:#04x}");
        }
    }

    #[test]
    fn silence_is_zero() {
        assert_eq!((decode(SILENCE), encode(0)), (0, SILENCE));
    }

    #[test]
    fn slices_are_converted_as_far_as_both_reach() {
        let codes: Vec<u8> = (0..=u8::MAX).collect();
        let mut samples = [1_i16; 300];
        assert_eq!(decode_into(&codes, &mut samples), 256);
        assert!(codes.iter().zip(&samples).all(|(code, sample)| decode(*code) == *sample));
        assert!(samples[256..].iter().all(|sample| *sample == 1));

        let mut again = [0_u8; 100];
        assert_eq!(encode_into(&samples, &mut again), 100);
        assert_eq!(again, codes[..100]);
    }
}
