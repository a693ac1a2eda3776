//! What the assist app has heard: pure bookkeeping by position, so that a replay adds nothing twice and a loss is seen.

use std::collections::BTreeMap;

use earpiece_core::contact::ContactKey;
use earpiece_core::protocol::perspective::Perspective;
use serde::Serialize;

/// Gaps noted per stream; later ones are only counted.
pub const GAPS_MAX: usize = 10_000;

/// Everything heard since the app started.
#[derive(Debug, Default)]
pub struct Hearing {
    pub(crate) voices: BTreeMap<(ContactKey, Perspective), Voice>,
    /// Connections open now that have said `start`.
    pub connections_live: u64,
    /// Connections that were accepted, whatever became of them.
    pub connections: u64,
    /// Connections refused by [`super::Faults::refuse`].
    pub refused: u64,
    /// Frames or handshakes that the protocol does not allow.
    pub violations: u64,
}

impl Hearing {
    /// What one perspective of a contact said, over all its streams.
    #[must_use]
    pub fn heard(&self, contact: ContactKey, perspective: &Perspective) -> Option<Heard> {
        self.voices.get(&(contact, perspective.clone())).map(Voice::heard)
    }

    /// Contacts and perspectives heard of.
    pub fn voices(&self) -> impl Iterator<Item = (ContactKey, &Perspective)> {
        self.voices.keys().map(|(contact, perspective)| (*contact, perspective))
    }

    /// Samples heard in all, each counted once.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.voices.values().map(Voice::samples).sum()
    }
}

/// What one perspective of a contact said, its streams one after the other in the order in which they began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Heard {
    /// Samples heard, each counted once.
    pub samples: u64,
    /// Samples that the other side said are lost.
    pub lost: u64,
    /// Samples skipped without a word: a violation of the protocol.
    pub skipped: u64,
    /// Samples that came again in a replay and were dropped.
    pub replayed: u64,
    /// Samples of time without audio, as told.
    pub silent: u64,
    /// Every gap told of, in order; at most [`GAPS_MAX`] per stream.
    pub gaps: Vec<HeardGap>,
    /// Streams: one for each socket of CXone's.
    pub streams: u64,
    /// Connections to this app.
    pub connections: u64,
    /// The reason of each `stop`, in order.
    pub stops: Vec<String>,
    /// Exactly the samples heard, if they are kept. Not part of the JSON.
    #[serde(skip)]
    pub audio: Option<Vec<u8>>,
}

/// A gap as the other side told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeardGap {
    /// The stream's own sample count where it lies.
    pub position: u64,
    /// How long, in samples.
    pub samples: u64,
    /// Why.
    pub reason: HeardGapReason,
}

/// Why a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeardGapReason {
    /// Time passed without audio; positions do not advance.
    Silence,
    /// Samples were dropped on the way; positions advance over them.
    Lost,
}

/// One perspective of one contact.
#[derive(Debug, Default)]
pub(crate) struct Voice {
    streams: Vec<StreamBook>,
    /// Lines of the app's script already said.
    pub(crate) lines_said: usize,
}

impl Voice {
    /// The book of a stream, by its id.
    pub(crate) fn stream(&mut self, id: &str, keep_audio: bool) -> &mut StreamBook {
        let index = self.streams.iter().position(|stream| stream.id == id).unwrap_or_else(|| {
            let audio = keep_audio.then(Vec::new);
            self.streams.push(StreamBook { id: id.to_owned(), audio, ..StreamBook::default() });
            self.streams.len() - 1
        });
        &mut self.streams[index]
    }

    pub(crate) fn samples(&self) -> u64 {
        self.streams.iter().map(|stream| stream.samples).sum()
    }

    fn heard(&self) -> Heard {
        let mut heard = Heard::default();
        for stream in &self.streams {
            heard.samples += stream.samples;
            heard.lost += stream.lost;
            heard.skipped += stream.skipped;
            heard.replayed += stream.replayed;
            heard.silent += stream.silent;
            heard.gaps.extend_from_slice(&stream.gaps);
            heard.streams += 1;
            heard.connections += stream.connections;
            heard.stops.extend(stream.stop.clone());
            if let Some(audio) = &stream.audio {
                heard.audio.get_or_insert_default().extend_from_slice(audio);
            }
        }
        heard
    }
}

/// One stream, over all connections that carried it.
#[derive(Debug, Default)]
pub(crate) struct StreamBook {
    id: String,
    /// Everything before this position is accounted for: heard, lost or skipped.
    known: u64,
    samples: u64,
    lost: u64,
    skipped: u64,
    replayed: u64,
    silent: u64,
    gaps: Vec<HeardGap>,
    connections: u64,
    stop: Option<String>,
    audio: Option<Vec<u8>>,
}

impl StreamBook {
    /// Position up to which everything is accounted for: what an `ack` says.
    pub(crate) fn known(&self) -> u64 {
        self.known
    }

    /// A connection begins at a position. One beyond what is known means that the samples between are gone.
    pub(crate) fn connected(&mut self, position: u64, clock: Option<u64>) {
        self.connections += 1;
        self.skip_to(position);
        if let Some(clock) = clock {
            self.clock(position, clock);
        }
    }

    /// Audio at a position of the stream. Returns the position behind it.
    pub(crate) fn audio(&mut self, position: u64, audio: &[u8]) -> u64 {
        let end = position.saturating_add(audio.len() as u64);
        self.skip_to(position);
        let again = self.known.min(end) - position;
        self.replayed += again;
        let fresh = usize::try_from(again).map_or(&[][..], |again| &audio[again..]);
        self.samples += fresh.len() as u64;
        if let Some(kept) = &mut self.audio {
            kept.extend_from_slice(fresh);
        }
        self.known = self.known.max(end);
        end
    }

    /// Samples that will never come. Returns the position behind them.
    pub(crate) fn lost(&mut self, position: u64, samples: u64) -> u64 {
        self.skip_to(position);
        let end = position.saturating_add(samples);
        if end > self.known {
            let fresh = HeardGap { position: self.known, samples: end - self.known, reason: HeardGapReason::Lost };
            self.lost += fresh.samples;
            self.known = end;
            self.note(fresh);
        }
        end
    }

    /// Time that passed without audio at a position. Told again in a replay, it counts once: by the clock (the position
    /// plus all silence before it) when there is one, else by its place.
    pub(crate) fn silence(&mut self, position: u64, clock: Option<u64>, samples: u64) {
        if let Some(clock) = clock {
            return self.clock(position, clock.saturating_add(samples));
        }
        let gap = HeardGap { position, samples, reason: HeardGapReason::Silence };
        if !self.gaps.contains(&gap) {
            self.silent += samples;
            self.note(gap);
        }
    }

    /// The clock at a position: silence that was not told of by itself shows here.
    pub(crate) fn clock(&mut self, position: u64, clock: u64) {
        let silent = clock.saturating_sub(position);
        if silent > self.silent {
            self.note(HeardGap { position, samples: silent - self.silent, reason: HeardGapReason::Silence });
            self.silent = silent;
        }
    }

    pub(crate) fn stopped(&mut self, reason: &str) {
        self.stop = Some(reason.to_owned());
    }

    fn skip_to(&mut self, position: u64) {
        if position > self.known {
            self.skipped += position - self.known;
            self.known = position;
        }
    }

    fn note(&mut self, gap: HeardGap) {
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push(gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> StreamBook {
        StreamBook { audio: Some(Vec::new()), ..StreamBook::default() }
    }

    #[test]
    fn a_replay_adds_only_what_is_new() {
        let mut book = book();
        assert_eq!(book.audio(0, &[1, 2, 3, 4]), 4);
        assert_eq!(book.audio(2, &[3, 4, 5]), 5);
        assert_eq!(book.audio(0, &[1, 2]), 2);
        assert_eq!((book.samples, book.replayed, book.skipped), (5, 4, 0));
        assert_eq!(book.audio.as_deref(), Some(&[1, 2, 3, 4, 5][..]));
    }

    #[test]
    fn a_loss_counts_once_however_often_it_is_told() {
        let mut book = book();
        book.audio(0, &[0; 10]);
        assert_eq!(book.lost(10, 20), 30);
        assert_eq!(book.lost(5, 25), 30);
        assert_eq!(book.lost(20, 20), 40);
        assert_eq!((book.lost, book.known(), book.gaps.len()), (30, 40, 2));
    }

    #[test]
    fn a_position_that_jumps_without_a_word_is_seen() {
        let mut book = book();
        book.audio(0, &[0; 10]);
        book.audio(15, &[0; 5]);
        assert_eq!((book.samples, book.skipped, book.lost, book.known()), (15, 5, 0, 20));
    }

    #[test]
    fn silence_takes_time_but_no_position_and_counts_once() {
        let mut book = book();
        book.audio(0, &[0; 10]);
        book.silence(10, None, 8000);
        book.silence(10, None, 8000);
        book.silence(10, None, 80);
        assert_eq!((book.silent, book.known(), book.gaps.len()), (8080, 10, 2));
    }

    #[test]
    fn by_the_clock_silence_counts_once_even_when_a_replay_tells_it_in_other_pieces() {
        let mut book = book();
        book.audio(0, &[0; 10]);
        book.silence(10, Some(10), 100);
        book.silence(10, Some(110), 50);
        book.silence(10, Some(10), 200);
        assert_eq!((book.silent, book.gaps.len()), (200, 3));
        book.clock(5, 5);
        book.clock(10, 215);
        let last = HeardGap { position: 10, samples: 5, reason: HeardGapReason::Silence };
        assert_eq!((book.silent, book.gaps.last()), (205, Some(&last)));
    }

    #[test]
    fn streams_of_one_voice_follow_each_other() {
        let mut voice = Voice::default();
        voice.stream("a", true).audio(0, &[1, 2]);
        voice.stream("b", true).audio(0, &[3]);
        voice.stream("a", true).audio(2, &[9]);
        let heard = voice.heard();
        assert_eq!((heard.streams, heard.samples), (2, 4));
        assert_eq!(heard.audio.as_deref(), Some(&[1, 2, 9, 3][..]));
    }
}
