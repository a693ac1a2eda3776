//! How loud speech is, as characters.

use earpiece_core::audio::ulaw;

/// From silence to loud.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Mean square of 16-bit samples at which each further step begins: −45, −38, −32, −27, −23, −19 and −15 dB of full
/// scale. Speech on the telephone lies around −20 dB, so its rise and fall is where the steps are close.
const STEP_MEAN_SQUARES: [u64; 7] = [33_954, 170_179, 677_484, 2_142_400, 5_381_536, 13_517_700, 33_954_600];

/// The level of a stretch of µ-law, as one character. Nothing at all is a dot.
pub(crate) fn level(codes: &[u8]) -> char {
    if codes.is_empty() {
        return '·';
    }
    let square = |code: &u8| u64::from(ulaw::decode(*code).unsigned_abs()).pow(2);
    let mean_square = codes.iter().map(square).sum::<u64>() / codes.len() as u64;
    STEPS[STEP_MEAN_SQUARES.partition_point(|least| *least <= mean_square)]
}

/// One character per cell of `cell_samples`. Where `has_audio` says no for all of a cell, nothing is drawn but a line.
pub(crate) fn strip(codes: &[u8], cell_samples: usize, has_audio: impl Fn(usize, usize) -> bool) -> String {
    let cells = codes.chunks(cell_samples.max(1)).enumerate();
    cells
        .map(|(index, cell)| {
            let from = index * cell_samples.max(1);
            if has_audio(from, from + cell.len()) { level(cell) } else { '┄' }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn louder_speech_is_drawn_higher() {
        let of = |sample: i16| level(&[ulaw::encode(sample), ulaw::encode(-sample)]);
        assert_eq!((of(0), of(100), of(32_000)), ('▁', '▁', '█'));
        assert!(of(200) < of(1_000) && of(1_000) < of(4_000));
        assert_eq!(level(&[]), '·');
    }

    #[test]
    fn a_strip_shows_where_there_is_no_audio() {
        let codes = [ulaw::encode(30_000); 6];
        assert_eq!(strip(&codes, 2, |from, _| from != 2), "█┄█");
    }
}
