//! What is written, and what is read of what others write.

use proptest::prelude::*;

use super::*;

fn any_format() -> impl Strategy<Value = (Format, Channels)> {
    let formats = prop::sample::select(vec![Format::Ulaw, Format::Pcm16]);
    (formats, prop::sample::select(vec![Channels::Mono, Channels::Stereo]))
}

fn any_chunk() -> impl Strategy<Value = ([u8; 4], Vec<u8>)> {
    let ids = prop::sample::select(vec![*b"LIST", *b"ldgr", *b"note"]);
    (ids, prop::collection::vec(any::<u8>(), 0..9))
}

#[test]
fn the_header_of_stereo_ulaw_is_as_documented() {
    let header = header(Format::Ulaw, Channels::Stereo, 8000, &[]).unwrap();
    let mut expected = b"RIFF".to_vec();
    expected.extend((4 + 26 + 12 + 8 + 16_000_u32).to_le_bytes());
    expected.extend(b"WAVEfmt \x12\0\0\0\x07\0\x02\0\x40\x1F\0\0\x80\x3E\0\0\x02\0\x08\0\0\0");
    expected.extend(b"fact\x04\0\0\0\x40\x1F\0\0");
    expected.extend(b"data\x80\x3E\0\0");
    assert_eq!(header, expected);
}

#[test]
fn the_header_of_mono_pcm_is_as_documented() {
    let header = header(Format::Pcm16, Channels::Mono, 8000, &[]).unwrap();
    let mut expected = b"RIFF".to_vec();
    expected.extend((4 + 24 + 8 + 16_000_u32).to_le_bytes());
    expected.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1F\0\0\x80\x3E\0\0\x02\0\x10\0");
    expected.extend(b"data\x80\x3E\0\0");
    assert_eq!(header, expected);
}

#[test]
fn odd_audio_and_odd_chunks_are_padded_and_counted() {
    let note = Chunk { id: *b"note", body: b"abc" };
    let file = file(Format::Ulaw, Channels::Mono, &[1, 2, 3], &[note]).unwrap();
    assert!(file.ends_with(b"note\x03\0\0\0abc\0data\x03\0\0\0\x01\x02\x03\0"));
    assert_eq!(u32::from_le_bytes([file[4], file[5], file[6], file[7]]) as usize, file.len() - 8);
    let wav = parse(&file).unwrap();
    assert_eq!((wav.chunk(*b"note"), wav.chunk(*b"LIST")), (Some(&b"abc"[..]), None));
    assert_eq!((wav.data, wav.frames(), wav.rate_hz, wav.missing_bytes), (&[1, 2, 3][..], 3, 8000, 0));
}

#[test]
fn what_riff_cannot_count_is_refused_and_the_most_it_can_is_not() {
    let before_data = header(Format::Ulaw, Channels::Mono, 0, &[]).unwrap().len() as u64;
    let most = u64::from(u32::MAX) + 8 - before_data;
    let largest_even = most - most % 2;
    assert!(header(Format::Ulaw, Channels::Mono, largest_even, &[]).is_ok());
    assert!(header(Format::Ulaw, Channels::Stereo, largest_even / 2, &[]).is_ok());
    for frames in [largest_even + 1, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
        for format in [Format::Ulaw, Format::Pcm16] {
            for channels in [Channels::Mono, Channels::Stereo] {
                assert_eq!(header(format, channels, frames, &[]), Err(WavError::TooLarge), "{frames}");
            }
        }
    }
    let note = Chunk { id: *b"note", body: b"x" };
    assert_eq!(header(Format::Ulaw, Channels::Mono, largest_even, &[note]), Err(WavError::TooLarge));
}

#[test]
fn audio_that_ends_within_a_frame_is_refused() {
    assert_eq!(file(Format::Ulaw, Channels::Stereo, &[1, 2, 3], &[]), Err(WavError::NotWholeFrames));
    assert_eq!(file(Format::Pcm16, Channels::Stereo, &[1, 2, 3, 4, 5, 6], &[]), Err(WavError::NotWholeFrames));
}

#[test]
fn an_extra_chunk_cannot_pose_as_one_of_ours() {
    for id in [*b"fmt ", *b"fact", *b"data"] {
        let chunk = Chunk { id, body: b"" };
        assert_eq!(header(Format::Ulaw, Channels::Mono, 0, &[chunk]), Err(WavError::ReservedChunk));
    }
}

/// A WAV file of these chunks, each a name, the length it claims and its bytes.
fn riff(chunks: &[(&[u8; 4], u32, &[u8])]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    for (id, length, body) in chunks {
        file.extend(*id);
        file.extend(length.to_le_bytes());
        file.extend(*body);
    }
    file
}

const ULAW_MONO: &[u8] = b"\x07\0\x01\0\x40\x1F\0\0\x40\x1F\0\0\x01\0\x08\0";

#[test]
fn chunks_nobody_knows_are_kept_wherever_they_stand() {
    let file = riff(&[
        (b"JUNK", 2, b"ab"),
        (b"fmt ", 16, ULAW_MONO),
        (b"odd ", 3, b"cde\0"),
        (b"data", 4, b"\x01\x02\x03\x04"),
        (b"LIST", 2, b"fg"),
    ]);
    let wav = parse(&file).unwrap();
    assert_eq!((wav.format, wav.channels, wav.data), (Format::Ulaw, Channels::Mono, &b"\x01\x02\x03\x04"[..]));
    let extra: Vec<_> = wav.extra.iter().map(|chunk| (&chunk.id, chunk.body)).collect();
    assert_eq!(extra, [(b"JUNK", &b"ab"[..]), (b"odd ", b"cde"), (b"LIST", b"fg")]);
}

#[test]
fn a_missing_padding_byte_is_noticed() {
    let file =
        riff(&[(b"fmt ", 16, ULAW_MONO), (b"odd ", 3, b"cde"), (b"data", 3, b"\x01\x02\x03"), (b"LIST", 2, b"fg")]);
    let wav = parse(&file).unwrap();
    assert_eq!((wav.data, wav.chunk(*b"LIST")), (&b"\x01\x02\x03"[..], Some(&b"fg"[..])));
}

#[test]
fn audio_that_was_cut_off_is_read_as_far_as_it_goes_and_the_rest_reported() {
    let whole = file(Format::Pcm16, Channels::Stereo, &[7; 400], &[]).unwrap();
    let cut = &whole[..whole.len() - 101];
    let wav = parse(cut).unwrap();
    assert_eq!((wav.data.len(), wav.frames(), wav.missing_bytes), (296, 74, 104));
}

#[test]
fn audio_of_unannounced_length_ends_with_the_file() {
    let file = riff(&[(b"fmt ", 16, ULAW_MONO), (b"data", u32::MAX, b"\x01\x02\x03")]);
    let wav = parse(&file).unwrap();
    assert_eq!((wav.data, wav.missing_bytes), (&b"\x01\x02\x03"[..], 0));
}

#[test]
fn what_cannot_be_read_is_refused_for_its_reason() {
    let alaw = b"\x06\0\x01\0\x40\x1F\0\0\x40\x1F\0\0\x01\0\x08\0";
    let quad = b"\x07\0\x04\0\x40\x1F\0\0\x40\x1F\0\0\x01\0\x08\0";
    let many: Vec<(&[u8; 4], u32, &[u8])> = vec![(b"JUNK", 0, b""); CHUNKS_MAX + 1];
    for (file, expected) in [
        (Vec::new(), WavError::NotWav),
        (b"RIFF\0\0\0\0WAV".to_vec(), WavError::NotWav),
        (b"RIFX\0\0\0\0WAVE".to_vec(), WavError::NotWav),
        (riff(&[]), WavError::NoData),
        (riff(&[(b"fmt ", 16, ULAW_MONO)]), WavError::NoData),
        (riff(&[(b"data", 1, b"\x01")]), WavError::NoFormat),
        (riff(&[(b"data", 2, b"\x01\x02"), (b"fmt ", 16, ULAW_MONO)]), WavError::NoFormat),
        (riff(&[(b"fmt ", 15, &ULAW_MONO[..15])]), WavError::NoFormat),
        (riff(&[(b"fmt ", 16, alaw)]), WavError::UnsupportedFormat { tag: 6, sample_bits: 8 }),
        (riff(&[(b"fmt ", 16, quad)]), WavError::UnsupportedChannels(4)),
        (riff(&many), WavError::TooManyChunks),
    ] {
        assert_eq!(parse(&file), Err(expected));
    }
}

#[test]
fn channels_are_laid_side_by_side_as_far_as_all_reach() {
    let mut out = [0_u8; 7];
    assert_eq!(interleave_into(&[1, 2, 3, 4], &[5, 6, 7], &mut out), 3);
    assert_eq!(out, [1, 5, 2, 6, 3, 7, 0]);
    assert_eq!(interleave_into(&[9; 10], &[9; 10], &mut out), 3);
    assert_eq!(out, [9, 9, 9, 9, 9, 9, 0]);
}

proptest! {
    #[test]
    fn what_was_written_is_read_as_it_was(
        (format, channels) in any_format(),
        frames in 0_usize..300,
        seed in any::<u8>(),
        extra in prop::collection::vec(any_chunk(), 0..4),
    ) {
        let bytes = frames * usize::from(format.sample_bytes() * channels.count());
        let data: Vec<u8> = (0..bytes).map(|at| at.to_le_bytes()[0].wrapping_mul(31).wrapping_add(seed)).collect();
        let extra: Vec<_> = extra.iter().map(|(id, body)| Chunk { id: *id, body }).collect();
        let file = file(format, channels, &data, &extra).unwrap();
        let expected = Wav { format, channels, rate_hz: 8000, data: &data, missing_bytes: 0, extra };
        prop_assert_eq!(parse(&file).unwrap(), expected);
    }

    #[test]
    fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_damage_to_a_good_file_panics(
        (format, channels) in any_format(),
        damage in prop::collection::vec((0_usize..90, any::<u8>()), 0..6),
        kept in 0_usize..120,
    ) {
        let note = Chunk { id: *b"note", body: b"abc" };
        let mut bytes = file(format, channels, &[0; 32], &[note, note]).unwrap();
        for (at, byte) in damage {
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte;
            }
        }
        bytes.truncate(kept);
        let _ = parse(&bytes);
    }
}
