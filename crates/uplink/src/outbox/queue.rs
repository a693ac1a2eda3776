//! Which interaction is next.

use std::collections::{HashSet, VecDeque};

use earpiece_core::assist::InteractionId;

/// Interactions that have something to send: each is worked on by one at a time, and once more if it was named
/// meanwhile.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<InteractionId>,
    /// Waiting, or worked on.
    known: HashSet<InteractionId>,
    again: HashSet<InteractionId>,
    working: HashSet<InteractionId>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn add(&mut self, id: InteractionId) {
        if self.working.contains(&id) {
            self.again.insert(id);
        } else if self.known.insert(id.clone()) {
            self.waiting.push_back(id);
        }
    }

    pub(super) fn next(&mut self) -> Option<InteractionId> {
        let id = self.waiting.pop_front()?;
        self.working.insert(id.clone());
        Some(id)
    }

    pub(super) fn done(&mut self, id: &InteractionId) {
        self.working.remove(id);
        self.known.remove(id);
        if let Some(id) = self.again.take(id) {
            self.add(id);
        }
    }

    /// Forgets what is not worked on.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.again.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> InteractionId {
        InteractionId::parse(text).unwrap()
    }

    #[test]
    fn an_interaction_is_worked_on_by_one_at_a_time_and_once_more_if_it_was_named_meanwhile() {
        let mut queue = Queue::default();
        queue.add(id("1"));
        queue.add(id("1"));
        queue.add(id("2"));
        assert_eq!((queue.next(), queue.next(), queue.next()), (Some(id("1")), Some(id("2")), None));
        queue.add(id("1"));
        queue.add(id("1"));
        assert_eq!(queue.next(), None, "it is worked on");
        queue.done(&id("1"));
        assert_eq!((queue.next(), queue.next()), (Some(id("1")), None));
        queue.done(&id("1"));
        queue.done(&id("2"));
        assert_eq!(queue.next(), None);
        assert!(queue.known.is_empty() && queue.working.is_empty() && queue.again.is_empty());
    }
}
