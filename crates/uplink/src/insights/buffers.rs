//! The words of every interaction until they are looked up: one buffer for each, in bounded memory.
//!
//! Pure: time comes in as a value, in milliseconds of a clock that does not go back.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use earpiece_core::assist::InteractionId;
use earpiece_core::assist::transcript::{BufferLimits, TranscriptBuffer};
use earpiece_core::secret::Private;

/// Interactions that are listened to at a time. Each takes 310 bytes (measured) and its words, 8 KiB at most.
pub(crate) const INTERACTIONS_MAX: usize = 10_000;
/// An interaction in which nothing was said for so long is forgotten, in milliseconds.
pub(crate) const IDLE_MS: i64 = 15 * 60 * 1000;

/// An interaction's id, shared by all that speaks of it here.
pub(crate) type Name = Arc<InteractionId>;

/// What was said in one interaction, to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flushed {
    pub(crate) interaction: Name,
    pub(crate) words: Private<String>,
}

/// All buffers.
#[derive(Debug)]
pub(crate) struct Buffers {
    limits: BufferLimits,
    interactions_max: usize,
    tracked: HashMap<Name, Tracked>,
    /// When each interaction is looked at next: exactly one entry for each. What is said later may put that off, which
    /// is found out then and not with every fragment.
    wakes: BTreeSet<(i64, Name)>,
}

#[derive(Debug)]
struct Tracked {
    buffer: TranscriptBuffer,
    heard_ms: i64,
    wakes_ms: i64,
}

impl Tracked {
    /// When there is something to do if nothing more is said.
    fn due_ms(&self) -> i64 {
        self.buffer.due_at_ms().unwrap_or(self.heard_ms.saturating_add(IDLE_MS))
    }
}

impl Buffers {
    pub(crate) fn new(limits: BufferLimits, interactions_max: usize) -> Self {
        Self { limits, interactions_max: interactions_max.max(1), tracked: HashMap::new(), wakes: BTreeSet::new() }
    }

    /// Somebody said something. Gives away what has no room beside it; if that makes one interaction too many, also
    /// what was said in the one that was silent the longest.
    pub(crate) fn hear(&mut self, id: &InteractionId, text: &str, now_ms: i64) -> Vec<Flushed> {
        let mut flushed = Vec::new();
        if !self.tracked.contains_key(id) {
            if text.trim().is_empty() {
                return flushed;
            }
            if self.tracked.len() >= self.interactions_max {
                flushed.extend(self.forget_longest_silent());
            }
            let name = Name::new(id.clone());
            let wakes_ms = now_ms.saturating_add(IDLE_MS);
            let tracked = Tracked { buffer: TranscriptBuffer::new(self.limits), heard_ms: now_ms, wakes_ms };
            self.wakes.insert((wakes_ms, Arc::clone(&name)));
            self.tracked.insert(name, tracked);
        }
        let Some((name, tracked)) = get(&mut self.tracked, id) else { return flushed };
        tracked.heard_ms = now_ms;
        let pieces = tracked.buffer.hear(text, now_ms);
        flushed.extend(pieces.into_iter().map(|words| Flushed { interaction: Arc::clone(&name), words }));
        let due_ms = tracked.due_ms();
        if due_ms < tracked.wakes_ms {
            let former_ms = std::mem::replace(&mut tracked.wakes_ms, due_ms);
            self.wakes.remove(&(former_ms, Arc::clone(&name)));
            self.wakes.insert((due_ms, name));
        }
        flushed
    }

    /// The dialog of an interaction turned.
    pub(crate) fn turn(&mut self, id: &InteractionId) -> Option<Flushed> {
        let (interaction, tracked) = get(&mut self.tracked, id)?;
        let words = tracked.buffer.dialog_state()?;
        Some(Flushed { interaction, words })
    }

    /// When [`Self::tick`] has something to do.
    pub(crate) fn wakes_at_ms(&self) -> Option<i64> {
        self.wakes.first().map(|(at_ms, _)| *at_ms)
    }

    /// Time has passed: gives away what is due, and forgets who has been silent for long.
    pub(crate) fn tick(&mut self, now_ms: i64) -> Vec<Flushed> {
        let mut flushed = Vec::new();
        while self.wakes_at_ms().is_some_and(|at_ms| at_ms <= now_ms)
            && let Some((_, name)) = self.wakes.pop_first()
        {
            let Some(tracked) = self.tracked.get_mut(&name) else { continue };
            if let Some(words) = tracked.buffer.tick(now_ms) {
                flushed.push(Flushed { interaction: Arc::clone(&name), words });
            }
            tracked.wakes_ms = tracked.due_ms();
            if tracked.wakes_ms <= now_ms {
                self.tracked.remove(&name);
            } else {
                self.wakes.insert((tracked.wakes_ms, name));
            }
        }
        flushed
    }

    /// Gives away everything.
    pub(crate) fn flush(&mut self) -> Vec<Flushed> {
        self.wakes.clear();
        let all = self.tracked.drain();
        all.filter_map(|(interaction, mut tracked)| {
            tracked.buffer.dialog_state().map(|words| Flushed { interaction, words })
        })
        .collect()
    }

    /// How many interactions are listened to.
    pub(crate) fn len(&self) -> usize {
        self.tracked.len()
    }

    /// Looks through all of them, which happens only where there are as many as there may be.
    fn forget_longest_silent(&mut self) -> Option<Flushed> {
        let (name, tracked) = self.tracked.iter().min_by_key(|(_, tracked)| tracked.heard_ms)?;
        let (name, wakes_ms) = (Arc::clone(name), tracked.wakes_ms);
        self.wakes.remove(&(wakes_ms, Arc::clone(&name)));
        let words = self.tracked.remove(&name)?.buffer.dialog_state()?;
        Some(Flushed { interaction: name, words })
    }
}

/// An interaction's state with the shared form of its id.
fn get<'a>(tracked: &'a mut HashMap<Name, Tracked>, id: &InteractionId) -> Option<(Name, &'a mut Tracked)> {
    let name = Arc::clone(tracked.get_key_value(id)?.0);
    tracked.get_mut(id).map(|tracked| (name, tracked))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> InteractionId {
        InteractionId::parse(text).unwrap()
    }

    fn buffers(interactions_max: usize) -> Buffers {
        Buffers::new(BufferLimits::default(), interactions_max)
    }

    fn said(flushed: impl IntoIterator<Item = Flushed>) -> Vec<(String, String)> {
        let mut said: Vec<_> =
            flushed.into_iter().map(|flushed| (flushed.interaction.to_string(), flushed.words.into_inner())).collect();
        said.sort();
        said
    }

    fn pair(interaction: &str, words: &str) -> (String, String) {
        (interaction.to_owned(), words.to_owned())
    }

    #[test]
    fn fragments_of_interleaved_interactions_never_mix() {
        let mut buffers = buffers(10);
        for (interaction, text) in [("1", "my bill"), ("2", "my phone"), ("1", "is wrong"), ("2", "is lost")] {
            assert!(buffers.hear(&id(interaction), text, 0).is_empty());
        }
        assert_eq!(said(buffers.turn(&id("2"))), [pair("2", "my phone is lost")]);
        assert_eq!(said(buffers.turn(&id("2"))), [], "nothing is given away twice");
        assert_eq!(said(buffers.tick(3000)), [pair("1", "my bill is wrong")]);
    }

    #[test]
    fn words_are_due_3_s_after_the_last_fragment_and_10_s_after_the_first() {
        let mut buffers = buffers(10);
        buffers.hear(&id("pause"), "a", 0);
        buffers.hear(&id("pause"), "b", 2000);
        for at_ms in (0..=10_000).step_by(1000) {
            let flushed = buffers.hear(&id("talker"), "x", at_ms);
            assert!(flushed.is_empty());
            match at_ms {
                5000 => assert_eq!(said(buffers.tick(at_ms)), [pair("pause", "a b")]),
                10_000 => assert_eq!(said(buffers.tick(at_ms)), [pair("talker", &["x"; 11].join(" "))]),
                _ => assert_eq!(said(buffers.tick(at_ms)), []),
            }
        }
    }

    #[test]
    fn who_was_silent_for_a_quarter_of_an_hour_is_forgotten() {
        let mut buffers = buffers(10);
        buffers.hear(&id("1"), "a", 0);
        buffers.hear(&id("2"), "a", 1000);
        buffers.tick(20_000);
        assert_eq!((buffers.len(), buffers.wakes_at_ms()), (2, Some(IDLE_MS)));
        buffers.tick(IDLE_MS);
        assert_eq!((buffers.len(), buffers.wakes_at_ms()), (1, Some(IDLE_MS + 1000)));
        buffers.tick(IDLE_MS + 1000);
        assert_eq!((buffers.len(), buffers.wakes_at_ms()), (0, None));
    }

    #[test]
    fn one_interaction_too_many_gives_away_what_the_longest_silent_one_said() {
        let mut buffers = buffers(2);
        buffers.hear(&id("1"), "first", 0);
        buffers.hear(&id("2"), "second", 1);
        buffers.hear(&id("1"), "again", 2);
        assert_eq!(said(buffers.hear(&id("3"), "third", 3)), [pair("2", "second")]);
        assert_eq!((buffers.len(), buffers.wakes.len()), (2, 2));
        assert_eq!(said(buffers.flush()), [pair("1", "first again"), pair("3", "third")]);
        assert_eq!((buffers.len(), buffers.wakes_at_ms()), (0, None));
    }

    proptest! {
        #[test]
        fn every_word_leaves_once_in_time_with_its_own_interaction(
            steps in prop::collection::vec((0_u8..5, 0_i64..4000, 0_u8..8), 1..200), interactions_max in 1_usize..6,
        ) {
            let mut buffers = buffers(interactions_max);
            let mut now_ms = 0;
            let mut heard: Vec<(String, i64)> = Vec::new();
            let mut left = Vec::new();
            for (interaction, pause_ms, kind) in steps {
                now_ms += pause_ms;
                left.extend(buffers.tick(now_ms).into_iter().map(|flushed| (flushed, now_ms)));
                let name = id(&format!("i{interaction}"));
                if kind == 0 {
                    left.extend(buffers.turn(&name).map(|flushed| (flushed, now_ms)));
                } else {
                    let word = format!("i{interaction}w{}", heard.len());
                    left.extend(buffers.hear(&name, &word, now_ms).into_iter().map(|flushed| (flushed, now_ms)));
                    heard.push((word, now_ms));
                }
                prop_assert!(buffers.len() <= interactions_max);
                prop_assert_eq!(buffers.len(), buffers.wakes.len());
            }
            left.extend(buffers.flush().into_iter().map(|flushed| (flushed, now_ms)));
            let mut words = Vec::new();
            for (flushed, at_ms) in left {
                for word in flushed.words.reveal().split(' ') {
                    let of_it = format!("{}w", flushed.interaction);
                    prop_assert!(word.starts_with(&of_it), "{} in {}", word, flushed.interaction);
                    words.push((word.to_owned(), at_ms));
                }
            }
            prop_assert_eq!(words.len(), heard.len());
            for (word, heard_ms) in heard {
                let left_ms = words.iter().find(|(other, _)| *other == word).map(|(_, at_ms)| *at_ms);
                // Ticks come with the steps here, which are up to 4 s apart.
                prop_assert!(left_ms.is_some_and(|left_ms| left_ms - heard_ms < 14_000), "{}", word);
            }
        }
    }
}
