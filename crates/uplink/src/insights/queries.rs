//! Who has a question: at most one is asked per interaction at a time, and only its newest waits.
//!
//! Pure: time comes in as a value, in milliseconds of a clock that does not go back.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use earpiece_core::secret::Private;

use super::buffers::{Flushed, Name};

/// Interactions that can have a question at a time.
pub(crate) const WAITING_MAX: usize = 10_000;
/// An answer to what was said longer ago is of no use to an agent, in milliseconds.
pub(crate) const LIFE_MS: i64 = 120_000;

/// Words that are to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) words: Private<String>,
    /// When they were flushed.
    pub(crate) since_ms: i64,
}

impl Query {
    /// Whether nobody needs the answer any more.
    pub(crate) const fn is_stale(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.since_ms) > LIFE_MS
    }
}

/// All questions.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    askers: HashMap<Name, Asker>,
    ready: VecDeque<Name>,
    later: BTreeSet<(i64, Name)>,
}

/// An interaction with a question: in `ready`, or in `later`, or with a lookup under way.
#[derive(Debug)]
struct Asker {
    /// What is to be asked; `None` only while a lookup is under way.
    newest: Option<Query>,
    is_under_way: bool,
}

impl Queries {
    /// An interaction has a question, which replaces one that waits. `false` where too many have one.
    pub(crate) fn add(&mut self, flushed: Flushed, now_ms: i64) -> bool {
        let query = Query { words: flushed.words, since_ms: now_ms };
        let is_full = self.askers.len() >= WAITING_MAX;
        match self.askers.entry(flushed.interaction) {
            Entry::Occupied(mut asker) => asker.get_mut().newest = Some(query),
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(asker) => {
                self.ready.push_back(Arc::clone(asker.key()));
                asker.insert(Asker { newest: Some(query), is_under_way: false });
            }
        }
        true
    }

    /// The next question to be looked up. Whoever takes it ends with [`Self::done`] or [`Self::put_off`].
    pub(crate) fn next(&mut self) -> Option<(Name, Query)> {
        while let Some(name) = self.ready.pop_front() {
            let Some(asker) = self.askers.get_mut(&name) else { continue };
            let Some(query) = asker.newest.take() else { continue };
            asker.is_under_way = true;
            return Some((name, query));
        }
        None
    }

    /// A lookup is over: the interaction's next question, if it has one, is in turn.
    pub(crate) fn done(&mut self, name: &Name) {
        let Some(asker) = self.askers.get_mut(name).filter(|asker| asker.is_under_way) else { return };
        if asker.newest.is_some() {
            asker.is_under_way = false;
            self.ready.push_back(Arc::clone(name));
        } else {
            self.askers.remove(name);
        }
    }

    /// A lookup could not be made: the question is asked again then, unless there is a newer one, which waits instead.
    pub(crate) fn put_off(&mut self, name: &Name, query: Query, at_ms: i64) {
        let Some(asker) = self.askers.get_mut(name).filter(|asker| asker.is_under_way) else { return };
        asker.is_under_way = false;
        asker.newest.get_or_insert(query);
        self.later.insert((at_ms, Arc::clone(name)));
    }

    /// When [`Self::tick`] has something to do.
    pub(crate) fn wakes_at_ms(&self) -> Option<i64> {
        self.later.first().map(|(at_ms, _)| *at_ms)
    }

    /// Time has passed: what was put off until now is in turn.
    pub(crate) fn tick(&mut self, now_ms: i64) {
        while self.wakes_at_ms().is_some_and(|at_ms| at_ms <= now_ms)
            && let Some((_, name)) = self.later.pop_first()
        {
            self.ready.push_back(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use earpiece_core::assist::InteractionId;
    use proptest::prelude::*;

    use super::*;

    fn flushed(interaction: &str, words: &str) -> Flushed {
        Flushed {
            interaction: Arc::new(InteractionId::parse(interaction).unwrap()),
            words: Private::new(words.to_owned()),
        }
    }

    fn next(queries: &mut Queries) -> Option<(Name, Query, String)> {
        queries.next().map(|(name, query)| (name, query.clone(), query.words.into_inner()))
    }

    #[test]
    fn one_interaction_asks_one_thing_at_a_time_and_then_its_newest() {
        let mut queries = Queries::default();
        queries.add(flushed("1", "a"), 0);
        let (name, _, words) = next(&mut queries).unwrap();
        assert_eq!(words, "a");
        queries.add(flushed("1", "b"), 1);
        queries.add(flushed("1", "c"), 2);
        assert!(queries.ready.is_empty(), "its lookup is under way");
        queries.done(&name);
        assert_eq!(next(&mut queries).unwrap().2, "c");
        queries.done(&name);
        assert!(next(&mut queries).is_none());
        assert!(queries.askers.is_empty());
    }

    #[test]
    fn what_is_put_off_holds_up_nobody_else_and_gives_way_to_what_is_newer() {
        let mut queries = Queries::default();
        queries.add(flushed("1", "old"), 0);
        let (name, query, _) = next(&mut queries).unwrap();
        queries.put_off(&name, query, 5000);
        queries.add(flushed("1", "new"), 10);
        queries.add(flushed("2", "other"), 20);
        assert_eq!(next(&mut queries).unwrap().2, "other");
        assert_eq!(queries.wakes_at_ms(), Some(5000));
        queries.tick(4999);
        assert!(queries.ready.is_empty());
        queries.tick(5000);
        assert_eq!(next(&mut queries).unwrap().2, "new");
        assert_eq!(queries.wakes_at_ms(), None);
    }

    #[test]
    fn there_is_a_limit_to_how_many_can_ask() {
        let mut queries = Queries::default();
        for number in 0..WAITING_MAX {
            assert!(queries.add(flushed(&number.to_string(), "a"), 0));
        }
        assert!(!queries.add(flushed("more", "a"), 0));
        assert!(queries.add(flushed("7", "newer"), 0), "who waits already can change its mind");
    }

    proptest! {
        #[test]
        fn no_newest_question_is_lost_and_none_is_asked_twice_at_a_time(
            steps in prop::collection::vec((0_u8..4, 0_u8..4), 1..300),
        ) {
            let mut queries = Queries::default();
            let mut now_ms = 0;
            let mut newest = HashMap::new();
            let mut under_way: Vec<(Name, Query)> = Vec::new();
            let mut asked = HashMap::new();
            for (kind, interaction) in steps {
                now_ms += 1;
                match kind {
                    0 => {
                        let (name, words) = (format!("{interaction}"), format!("{now_ms}"));
                        prop_assert!(queries.add(flushed(&name, &words), now_ms));
                        newest.insert(name, words);
                    }
                    1 => if let Some((name, query)) = queries.next() {
                        prop_assert!(under_way.iter().all(|(other, _)| *other != name));
                        under_way.push((name, query));
                    },
                    2 => if let Some((name, query)) = under_way.pop() {
                        queries.done(&name);
                        asked.insert(name.to_string(), query.words.into_inner());
                    },
                    _ => if let Some((name, query)) = under_way.pop() {
                        queries.put_off(&name, query, now_ms + 5);
                    },
                }
                queries.tick(now_ms);
            }
            queries.tick(now_ms + 5);
            loop {
                if let Some(next) = queries.next() {
                    under_way.push(next);
                }
                let Some((name, query)) = under_way.pop() else { break };
                queries.done(&name);
                asked.insert(name.to_string(), query.words.into_inner());
            }
            prop_assert_eq!(asked, newest);
            prop_assert!(queries.askers.is_empty());
        }
    }
}
