//! Words of one interaction, kept until they are looked up (contract §5 B).
//!
//! Fragments come in by the second; a search for each would be noise and rate limits. A buffer gathers them until the
//! dialog turns, nobody has said anything for a while, or the first of them has waited long enough. There is **one
//! buffer per interaction**: whoever owns the map of them owns their number, too. No clock lives here: the time comes in
//! with every call, in milliseconds since any zero, from a clock that does not go back.

use crate::secret::Private;

/// When a buffer gives its words away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimits {
    /// After the **last** fragment, in milliseconds.
    pub pause_ms: u32,
    /// After the **first** fragment, in milliseconds, however many follow.
    pub age_ms: u32,
    /// The most that one flush can hold, in bytes.
    pub bytes_max: usize,
    /// The most fragments that are kept.
    pub fragments_max: usize,
}

impl Default for BufferLimits {
    /// The pause and the age that the contract names.
    fn default() -> Self {
        Self { pause_ms: 3_000, age_ms: 10_000, bytes_max: 8_192, fragments_max: 256 }
    }
}

impl BufferLimits {
    /// The least that one flush must be able to hold, in bytes: any character fits.
    pub const BYTES_MIN: usize = char::MAX.len_utf8();
}

/// The words of one interaction that have not been looked up yet. They never leave by `Debug`.
#[derive(Debug)]
pub struct TranscriptBuffer {
    limits: BufferLimits,
    words: Private<String>,
    fragments: usize,
    first_ms: i64,
    last_ms: i64,
}

impl TranscriptBuffer {
    /// An empty buffer. A `bytes_max` under [`BufferLimits::BYTES_MIN`] counts as that, a `fragments_max` of 0 as 1.
    #[must_use]
    pub fn new(limits: BufferLimits) -> Self {
        let limits = BufferLimits {
            bytes_max: limits.bytes_max.max(BufferLimits::BYTES_MIN),
            fragments_max: limits.fragments_max.max(1),
            ..limits
        };
        Self { limits, words: Private::new(String::new()), fragments: 0, first_ms: 0, last_ms: 0 }
    }

    /// Takes one fragment, and gives away what it has no room for beside it: nothing as a rule, what was buffered
    /// before if both together are above a limit, and several pieces only if the fragment alone is longer than
    /// `bytes_max`. Such a fragment is cut between words where it has any, else between characters. No piece is longer
    /// than `bytes_max`, and nothing is lost.
    ///
    /// Blanks around a fragment are dropped, and a fragment of nothing else is none: it does not put off a pause.
    pub fn hear(&mut self, text: &str, now_ms: i64) -> Vec<Private<String>> {
        let mut rest = text.trim();
        let mut flushed = Vec::new();
        if rest.is_empty() {
            return flushed;
        }
        if !self.has_room_for(rest) {
            flushed.extend(self.flush());
        }
        while rest.len() > self.limits.bytes_max {
            let (piece, after) = cut(rest, self.limits.bytes_max);
            flushed.push(Private::new(piece.to_owned()));
            rest = after;
        }
        self.keep(rest, now_ms);
        flushed
    }

    /// The dialog turned: gives away everything there is.
    pub fn dialog_state(&mut self) -> Option<Private<String>> {
        self.flush()
    }

    /// When [`Self::tick`] will give something away if nothing more is heard; `None` while there is nothing to give.
    #[must_use]
    pub fn due_at_ms(&self) -> Option<i64> {
        let pause_ends_ms = self.last_ms.saturating_add(self.limits.pause_ms.into());
        let age_ends_ms = self.first_ms.saturating_add(self.limits.age_ms.into());
        (!self.is_empty()).then(|| pause_ends_ms.min(age_ends_ms))
    }

    /// Time has passed: gives away everything there is if it is due.
    pub fn tick(&mut self, now_ms: i64) -> Option<Private<String>> {
        if self.due_at_ms()? <= now_ms { self.flush() } else { None }
    }

    /// Whether there is nothing to give away.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.fragments == 0
    }

    fn has_room_for(&self, fragment: &str) -> bool {
        let blank_and_fragment = fragment.len().saturating_add(1);
        let bytes = self.words.reveal().len().saturating_add(blank_and_fragment);
        self.is_empty() || (bytes <= self.limits.bytes_max && self.fragments < self.limits.fragments_max)
    }

    fn keep(&mut self, fragment: &str, now_ms: i64) {
        let mut words = self.take_words();
        if self.fragments == 0 {
            self.first_ms = now_ms;
        } else {
            words.push(' ');
        }
        words.push_str(fragment);
        self.words = Private::new(words);
        self.fragments += 1;
        self.last_ms = now_ms;
    }

    fn flush(&mut self) -> Option<Private<String>> {
        if self.is_empty() {
            return None;
        }
        self.fragments = 0;
        Some(Private::new(self.take_words()))
    }

    fn take_words(&mut self) -> String {
        std::mem::replace(&mut self.words, Private::new(String::new())).into_inner()
    }
}

/// Parts a text that is longer than `bytes_max` into a beginning of at most that many bytes and the rest, neither with
/// blanks at the cut. The text has no blanks around it, so both hold something.
fn cut(text: &str, bytes_max: usize) -> (&str, &str) {
    let longest = text.floor_char_boundary(bytes_max);
    // A blank right behind the longest piece ends a word, too.
    let after_cut = text[longest..].chars().next().map_or(longest, |next| longest + next.len_utf8());
    let end = text[..after_cut].rfind(char::is_whitespace).unwrap_or(longest);
    let (piece, rest) = text.split_at(end);
    (piece.trim_end(), rest.trim_start())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buffer() -> TranscriptBuffer {
        TranscriptBuffer::new(BufferLimits::default())
    }

    fn small(bytes_max: usize, fragments_max: usize) -> TranscriptBuffer {
        TranscriptBuffer::new(BufferLimits { bytes_max, fragments_max, ..BufferLimits::default() })
    }

    fn words(flushed: impl IntoIterator<Item = Private<String>>) -> Vec<String> {
        flushed.into_iter().map(Private::into_inner).collect()
    }

    #[test]
    fn a_dialog_state_flushes_all_fragments_in_order_and_only_once() {
        let mut buffer = buffer();
        assert!(buffer.hear("my bill", 0).is_empty());
        assert!(buffer.hear("  is too high \n", 10).is_empty());
        assert_eq!(words(buffer.dialog_state()), ["my bill is too high"]);
        assert_eq!(buffer.dialog_state(), None);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_pause_is_measured_from_the_last_fragment() {
        let mut buffer = buffer();
        buffer.hear("one", 1_000);
        assert_eq!(buffer.due_at_ms(), Some(4_000));
        buffer.hear("two", 3_500);
        assert_eq!(buffer.due_at_ms(), Some(6_500));
        assert_eq!(buffer.tick(6_499), None);
        assert_eq!(words(buffer.tick(6_500)), ["one two"]);
        assert_eq!(buffer.due_at_ms(), None);
    }

    #[test]
    fn the_age_is_measured_from_the_first_fragment_however_many_follow() {
        let mut buffer = buffer();
        for at_ms in (0..10_000).step_by(1_000) {
            assert_eq!(buffer.tick(at_ms), None);
            assert!(buffer.hear("word", at_ms).is_empty());
        }
        assert_eq!(buffer.due_at_ms(), Some(10_000));
        assert_eq!(buffer.tick(9_999), None);
        assert_eq!(words(buffer.tick(10_000)), [["word"; 10].join(" ")]);
    }

    #[test]
    fn the_age_begins_anew_after_a_flush() {
        let mut buffer = buffer();
        buffer.hear("one", 0);
        buffer.dialog_state();
        for at_ms in [9_000, 11_000, 13_000] {
            buffer.hear("two", at_ms);
            assert_eq!(buffer.tick(at_ms), None);
        }
        assert_eq!(buffer.due_at_ms(), Some(16_000));
    }

    #[test]
    fn an_empty_buffer_gives_nothing_and_is_never_due() {
        let mut buffer = buffer();
        assert_eq!((buffer.due_at_ms(), buffer.tick(i64::MAX), buffer.dialog_state()), (None, None, None));
    }

    #[test]
    fn a_fragment_without_words_is_none_and_puts_off_no_pause() {
        let mut buffer = buffer();
        assert!(buffer.hear(" \t\n", 0).is_empty());
        assert!(buffer.is_empty());
        buffer.hear("one", 0);
        buffer.hear("  ", 2_900);
        assert_eq!(buffer.due_at_ms(), Some(3_000));
        assert_eq!(words(buffer.tick(3_000)), ["one"]);
    }

    #[test]
    fn what_has_no_room_beside_a_fragment_is_flushed_before_it() {
        let mut buffer = small(11, 256);
        assert!(buffer.hear("12345", 0).is_empty());
        assert!(buffer.hear("67890", 1).is_empty(), "with the blank between them they fill it exactly");
        assert_eq!(words(buffer.hear("x", 2)), ["12345 67890"]);
        assert_eq!(buffer.due_at_ms(), Some(3_002), "pause and age are those of the fragment that stayed");
        assert_eq!(words(buffer.dialog_state()), ["x"]);
    }

    #[test]
    fn no_more_fragments_are_kept_than_the_limit() {
        let mut buffer = small(8_192, 2);
        assert!(buffer.hear("a", 0).is_empty());
        assert!(buffer.hear("b", 0).is_empty());
        assert_eq!(words(buffer.hear("c", 0)), ["a b"]);
        assert_eq!(words(buffer.dialog_state()), ["c"]);
    }

    #[test]
    fn a_fragment_longer_than_the_limit_is_cut_between_words() {
        let mut buffer = small(10, 256);
        buffer.hear("before", 0);
        assert_eq!(words(buffer.hear("one two three four-five", 1)), ["before", "one two", "three"]);
        assert_eq!(words(buffer.dialog_state()), ["four-five"]);
        assert_eq!(words(buffer.hear("exactly-10 behind", 1)), ["exactly-10"]);
    }

    #[test]
    fn a_word_longer_than_the_limit_is_cut_between_characters() {
        let mut buffer = small(10, 256);
        assert_eq!(words(buffer.hear(&"字".repeat(7), 0)), ["字字字", "字字字"]);
        assert_eq!(words(buffer.dialog_state()), ["字"]);
    }

    #[test]
    fn limits_of_nothing_still_hold_a_character() {
        let limits = BufferLimits { pause_ms: 0, age_ms: 0, bytes_max: 0, fragments_max: 0 };
        let mut buffer = TranscriptBuffer::new(limits);
        assert_eq!(words(buffer.hear("😀é", 5)), ["😀"]);
        assert_eq!(words(buffer.tick(5)), ["é"]);
    }

    #[test]
    fn times_at_the_edge_of_what_can_be_said_do_no_harm() {
        let mut buffer = buffer();
        buffer.hear("one", i64::MAX);
        assert_eq!(buffer.due_at_ms(), Some(i64::MAX));
        assert_eq!(words(buffer.tick(i64::MAX)), ["one"]);
    }

    #[test]
    fn debug_prints_no_word() {
        let mut buffer = buffer();
        buffer.hear("hunter2", 0);
        assert!(!format!("{buffer:?}").contains("hunter2"));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Hear(String),
        DialogState,
        Tick,
    }

    fn step(fragment: impl Strategy<Value = String> + 'static) -> impl Strategy<Value = Step> {
        prop_oneof![6 => fragment.prop_map(Step::Hear), 1 => Just(Step::DialogState), 2 => Just(Step::Tick)]
    }

    /// Everything that leaves, in order, and what is left at the end.
    fn run(buffer: &mut TranscriptBuffer, steps: &[(Step, i64)]) -> Vec<String> {
        let mut now_ms = 0;
        let mut flushed = Vec::new();
        for (step, later_ms) in steps {
            now_ms += later_ms;
            match step {
                Step::Hear(text) => flushed.extend(buffer.hear(text, now_ms)),
                Step::DialogState => flushed.extend(buffer.dialog_state()),
                Step::Tick => flushed.extend(buffer.tick(now_ms)),
            }
        }
        flushed.extend(buffer.dialog_state());
        words(flushed)
    }

    fn heard(steps: &[(Step, i64)]) -> String {
        steps
            .iter()
            .map(|(step, _)| if let Step::Hear(text) = step { format!("{text} ") } else { String::new() })
            .collect()
    }

    proptest! {
        #[test]
        fn no_word_is_lost_or_repeated_or_moved(
            steps in prop::collection::vec((step("[a-zé字]{0,6}( [a-z]{1,6}){0,6}"), 0_i64..4_000), 0..40),
            bytes_max in 18_usize..64,
            fragments_max in 1_usize..5,
        ) {
            let flushed = run(&mut small(bytes_max, fragments_max), &steps);
            let heard = heard(&steps);
            let out: Vec<&str> = flushed.iter().flat_map(|piece| piece.split_whitespace()).collect();
            prop_assert_eq!(out, heard.split_whitespace().collect::<Vec<_>>());
        }

        #[test]
        fn no_character_is_lost_and_no_piece_is_empty_or_above_the_limit(
            steps in prop::collection::vec((step(any::<String>()), 0_i64..4_000), 0..40),
            bytes_max in 4_usize..32,
        ) {
            let flushed = run(&mut small(bytes_max, 256), &steps);
            let visible = |text: &str| text.chars().filter(|char| !char.is_whitespace()).collect::<String>();
            prop_assert_eq!(visible(&flushed.concat()), visible(&heard(&steps)));
            prop_assert!(flushed.iter().all(|piece| (1..=bytes_max).contains(&piece.len())));
        }

        #[test]
        fn whoever_ticks_when_it_is_due_waits_no_longer_than_the_pause_and_the_age(
            gaps_ms in prop::collection::vec(0_i64..3_500, 1..40),
        ) {
            let mut buffer = buffer();
            let (mut now_ms, mut first_ms, mut last_ms) = (0, None, 0);
            for gap_ms in gaps_ms {
                now_ms += gap_ms;
                if let Some(due_ms) = buffer.due_at_ms().filter(|due_ms| *due_ms <= now_ms) {
                    let first: i64 = first_ms.take().expect("something was heard");
                    prop_assert_eq!(due_ms, (last_ms + 3_000).min(first + 10_000));
                    prop_assert!(buffer.tick(due_ms).is_some());
                }
                buffer.hear("word", now_ms);
                first_ms = first_ms.or(Some(now_ms));
                last_ms = now_ms;
            }
        }
    }
}
