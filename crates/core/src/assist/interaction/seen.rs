//! What one interaction has had already: a short memory of ids, of bounded size whatever the ids look like.

use serde::{Deserialize, Serialize};

use crate::assist::audit::sha256_hex;

/// The last [`Seen::MAX`] ids, as the first 64 bits of their SHA-256: ids come from elsewhere and have no longest length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seen(Vec<String>);

impl Seen {
    /// How many are remembered; the oldest is forgotten for a new one.
    pub const MAX: usize = 128;
    const DIGITS: usize = 16;

    /// Whether an id is remembered.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.0.contains(&digest(id))
    }

    /// How many ids are remembered.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remembers an id, unless it is remembered already: then the answer is false.
    pub(super) fn insert(&mut self, id: &str) -> bool {
        let digest = digest(id);
        if self.0.contains(&digest) {
            return false;
        }
        if self.0.len() >= Self::MAX {
            self.0.remove(0);
        }
        self.0.push(digest);
        true
    }
}

fn digest(id: &str) -> String {
    let mut digest = sha256_hex(id.as_bytes());
    digest.truncate(Seen::DIGITS);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_and_the_oldest_is_forgotten_first() {
        let mut seen = Seen::default();
        assert!(seen.insert("0"));
        assert!(!seen.insert("0"));
        for id in 1..=Seen::MAX {
            assert!(seen.insert(&id.to_string()));
        }
        assert_eq!(seen.len(), Seen::MAX);
        assert!(!seen.contains("0"));
        assert!(seen.contains("1"));
    }
}
