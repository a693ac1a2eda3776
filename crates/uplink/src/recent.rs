//! What was seen lately, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// A map that forgets what was not asked for the longest. It keeps two generations: what is used goes to the young one,
/// and when that is full the old one is forgotten as a whole. So it holds at least the last `capacity / 2` entries, and
/// never more than `capacity`.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation_max: usize,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation_max: (capacity / 2).max(1) }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.generation_max && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_last_half_of_it_is_known_and_there_is_never_more_than_the_capacity(
            keys in prop::collection::vec(0_u8..64, 1..200), capacity in 2_usize..32,
        ) {
            let mut recent = Recent::new(capacity);
            for (at, key) in keys.iter().enumerate() {
                recent.insert(*key, at);
                prop_assert!(recent.young.len() + recent.old.len() <= capacity);
            }
            let mut last = Vec::new();
            for key in keys.iter().rev() {
                if !last.contains(key) && last.len() < capacity / 2 {
                    last.push(*key);
                }
            }
            for key in last {
                let newest = keys.iter().rposition(|known| *known == key);
                prop_assert_eq!(recent.get(&key).copied(), newest);
            }
        }
    }

    #[test]
    fn what_is_asked_for_is_kept_and_what_was_removed_is_gone() {
        let mut recent = Recent::new(4);
        recent.insert("asked for", 0);
        for key in ["a", "b", "c", "d", "e"] {
            recent.insert(key, 1);
            assert_eq!(recent.get(&"asked for"), Some(&0));
        }
        assert_eq!(recent.remove(&"asked for"), Some(0));
        assert_eq!(recent.get(&"asked for"), None);
    }
}
