//! What came to the platform: every record in order of arrival, and a tally of what reached the agents' desktops.
//!
//! Everything here is bounded. The oldest records go first, and their bodies before them; ids are held once, however
//! many records name them.

mod record;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Uplink;
pub(crate) use record::Note;
pub use record::{Kind, Record};

/// Interactions whose suggestions and cards are told apart by id; of older ones only the counts stay.
pub const INTERACTIONS_MAX: usize = 200_000;

/// Suggestions, and cards, of one interaction that are told apart.
pub const IDS_PER_INTERACTION_MAX: usize = 4_096;

/// How long after its context window a suggestion without an answer still takes a place on the agent's desktop, in
/// milliseconds.
pub const LAPSE_MS: i64 = 10 * 60 * 1_000;

/// Bytes of an id that are kept: what is refused may name anything.
const ID_BYTES_MAX: usize = 512;

/// What an agent did with a suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It was used.
    Accepted,
    /// It was put aside.
    Dismissed,
}

/// What one interaction got.
#[derive(Debug, Clone, Default)]
pub struct InteractionSeen {
    /// Its suggestions in order of first arrival.
    pub suggestions: Vec<SuggestionSeen>,
    /// Its popup cards in order of first arrival.
    pub cards: Vec<CardSeen>,
}

impl InteractionSeen {
    /// Suggestions that take a place on the agent's desktop: without an answer, and not lapsed ([`LAPSE_MS`]).
    #[must_use]
    pub fn active(&self, now_ms: i64) -> usize {
        let is_active = |seen: &&SuggestionSeen| seen.answer.is_none() && now_ms <= seen.window_ends_ms + LAPSE_MS;
        self.suggestions.iter().filter(is_active).count()
    }
}

/// A suggestion that arrived.
#[derive(Debug, Clone)]
pub struct SuggestionSeen {
    /// Its id.
    pub id: Arc<str>,
    /// How often it arrived.
    pub times: u32,
    /// What the agent did with it, as far as that was sent.
    pub answer: Option<Answer>,
    /// The end of its context window, in milliseconds since the Unix epoch.
    pub window_ends_ms: i64,
}

/// A popup card that arrived.
#[derive(Debug, Clone)]
pub struct CardSeen {
    /// Its id.
    pub id: Arc<str>,
    /// How often it arrived.
    pub times: u32,
}

/// Counts over everything that was ever taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Suggestions, each id of an interaction once.
    pub suggestions: u64,
    /// Suggestions that had arrived before.
    pub suggestions_repeated: u64,
    /// The most suggestions that any interaction had on the desktop at one time.
    pub active_max: usize,
    /// Suggestions that were accepted.
    pub accepted: u64,
    /// Suggestions that were dismissed.
    pub dismissed: u64,
    /// Popup cards, each id of an interaction once.
    pub cards: u64,
    /// Popup cards that had arrived before.
    pub cards_repeated: u64,
    /// Insight cards.
    pub insight_cards: u64,
    /// Feedback.
    pub feedback: u64,
    /// Searches that were answered.
    pub searches: u64,
    /// Tokens that were issued.
    pub tokens: u64,
    /// What CXone's documents do not allow.
    pub violations: u64,
}

/// A socket that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenSocket {
    /// The TCP connection, counted from 1.
    pub connection: u64,
    /// Which socket.
    pub uplink: Uplink,
    /// When it was opened, in milliseconds since the Unix epoch.
    pub opened_ms: i64,
    /// Whether events can be sent on it: a suggestion socket is ready once it is authorised.
    pub ready: bool,
}

/// How a suggestion arrived.
pub(crate) struct Arrival {
    /// Its place among all suggestions when it is new.
    pub(crate) nth: Option<u64>,
    /// How many its interaction has on the desktop now.
    pub(crate) active: usize,
    /// What the agent did with it when it was here before.
    pub(crate) answer: Option<Answer>,
}

/// Everything that came to the platform.
#[derive(Debug)]
pub struct Received {
    records: VecDeque<Record>,
    records_max: usize,
    body_bytes: usize,
    body_bytes_max: usize,
    /// Records at the front that have no body any more.
    bodiless: usize,
    numbered: u64,
    ids: HashSet<Arc<str>>,
    interactions: HashMap<Arc<str>, InteractionSeen>,
    oldest_interactions: VecDeque<Arc<str>>,
    tally: Tally,
    pub(super) sockets: Vec<OpenSocket>,
}

impl Received {
    pub(crate) fn new(records_max: usize, body_bytes_max: usize) -> Self {
        Self {
            records: VecDeque::new(),
            records_max,
            body_bytes: 0,
            body_bytes_max,
            bodiless: 0,
            numbered: 0,
            ids: HashSet::new(),
            interactions: HashMap::new(),
            oldest_interactions: VecDeque::new(),
            tally: Tally::default(),
            sockets: Vec::new(),
        }
    }

    /// Every record that is still kept, in order of arrival.
    #[must_use]
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter()
    }

    /// Records of one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter().filter(move |record| record.kind == kind)
    }

    /// Records after the one with this number: 0 is all of them. Costs nothing for those before.
    #[must_use]
    pub fn since(&self, number: u64) -> impl DoubleEndedIterator<Item = &Record> {
        let first = self.records.front().map_or(1, |record| record.number);
        let skipped = usize::try_from((number + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        self.records.range(skipped.min(self.records.len())..)
    }

    /// The number of the newest record; 0 when nothing came.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.numbered
    }

    /// The counts.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// What one interaction got; none when it got nothing, or long ago ([`INTERACTIONS_MAX`]).
    #[must_use]
    pub fn interaction(&self, id: &str) -> Option<&InteractionSeen> {
        self.interactions.get(id)
    }

    /// What every interaction got, in no order.
    pub fn interactions(&self) -> impl Iterator<Item = (&str, &InteractionSeen)> {
        self.interactions.iter().map(|(id, seen)| (&**id, seen))
    }

    /// The sockets that are open, the oldest first.
    #[must_use]
    pub fn sockets(&self) -> &[OpenSocket] {
        &self.sockets
    }

    /// Sockets of one sort on which events can be sent.
    #[must_use]
    pub fn ready(&self, uplink: Uplink) -> usize {
        self.sockets.iter().filter(|socket| socket.uplink == uplink && socket.ready).count()
    }

    pub(crate) fn record(&mut self, kind: Kind, connection: u64, at_ms: i64, note: &Note<'_>) {
        self.numbered += 1;
        self.count(kind, note.status);
        let record = Record {
            number: self.numbered,
            at_ms,
            connection,
            kind,
            interaction: note.interaction.map(|id| self.intern(id)),
            id: note.id.map(|id| self.intern(id)),
            status: note.status,
            body: (!note.body.is_empty()).then(|| note.body.into()),
        };
        self.body_bytes += note.body.len();
        self.records.push_back(record);
        self.make_room();
    }

    fn count(&mut self, kind: Kind, status: u16) {
        let is_taken = (200..300).contains(&status);
        match kind {
            Kind::Violation => self.tally.violations += 1,
            Kind::Feedback if is_taken => self.tally.feedback += 1,
            Kind::Search if is_taken => self.tally.searches += 1,
            Kind::Token if is_taken => self.tally.tokens += 1,
            _ => {}
        }
    }

    fn make_room(&mut self) {
        while self.records.len() > self.records_max {
            let Some(gone) = self.records.pop_front() else { break };
            self.bodiless = self.bodiless.saturating_sub(1);
            self.body_bytes -= gone.body().map_or(0, str::len);
            for id in [gone.interaction, gone.id].into_iter().flatten() {
                self.forget(&id);
            }
        }
        while self.body_bytes > self.body_bytes_max {
            let Some(record) = self.records.get_mut(self.bodiless) else { break };
            self.body_bytes -= record.body.take().map_or(0, |body| body.len());
            self.bodiless += 1;
        }
    }

    /// The one copy of an id: equal ids are the same.
    fn intern(&mut self, id: &str) -> Arc<str> {
        let id = &id[..id.floor_char_boundary(ID_BYTES_MAX)];
        if let Some(known) = self.ids.get(id) {
            return Arc::clone(known);
        }
        let id: Arc<str> = id.into();
        self.ids.insert(Arc::clone(&id));
        id
    }

    /// Drops an id that nothing else names: one count is the caller's, one the set's.
    fn forget(&mut self, id: &Arc<str>) {
        if Arc::strong_count(id) == 2 {
            self.ids.remove(id);
        }
    }

    pub(crate) fn suggestion_came(&mut self, interaction: &str, id: &str, ends_ms: i64, now_ms: i64) -> Arrival {
        let id = self.intern(id);
        let seen = self.seen(interaction);
        let known = seen.suggestions.iter_mut().find(|seen| Arc::ptr_eq(&seen.id, &id));
        let is_new = known.is_none();
        let (mut answer, mut dropped) = (None, None);
        if let Some(known) = known {
            known.times += 1;
            known.window_ends_ms = ends_ms;
            answer = known.answer;
        } else {
            seen.suggestions.push(SuggestionSeen { id, times: 1, answer: None, window_ends_ms: ends_ms });
            dropped = oldest_above_the_limit(&mut seen.suggestions).map(|oldest| oldest.id);
        }
        let active = seen.active(now_ms);
        if let Some(dropped) = dropped {
            self.forget(&dropped);
        }
        self.tally.active_max = self.tally.active_max.max(active);
        if is_new {
            self.tally.suggestions += 1;
        } else {
            self.tally.suggestions_repeated += 1;
        }
        Arrival { nth: is_new.then_some(self.tally.suggestions), active, answer }
    }

    /// Notes what the agent did; the first answer stands. Returns the answer that stands, and whether this was the first;
    /// none for a suggestion that never came.
    pub(crate) fn suggestion_answered(
        &mut self,
        interaction: &str,
        id: &str,
        answer: Answer,
    ) -> Option<(Answer, bool)> {
        let seen = self.interactions.get_mut(interaction)?;
        let seen = seen.suggestions.iter_mut().find(|seen| &*seen.id == id)?;
        if let Some(before) = seen.answer {
            return Some((before, false));
        }
        seen.answer = Some(answer);
        match answer {
            Answer::Accepted => self.tally.accepted += 1,
            Answer::Dismissed => self.tally.dismissed += 1,
        }
        Some((answer, true))
    }

    pub(crate) fn card_came(&mut self, interaction: &str, id: &str) {
        let id = self.intern(id);
        let seen = self.seen(interaction);
        if let Some(known) = seen.cards.iter_mut().find(|seen| Arc::ptr_eq(&seen.id, &id)) {
            known.times += 1;
            self.tally.cards_repeated += 1;
            return;
        }
        seen.cards.push(CardSeen { id, times: 1 });
        let dropped = oldest_above_the_limit(&mut seen.cards);
        self.tally.cards += 1;
        if let Some(dropped) = dropped {
            self.forget(&dropped.id);
        }
    }

    pub(crate) const fn insight_cards_came(&mut self, count: u64) {
        self.tally.insight_cards += count;
    }

    fn seen(&mut self, interaction: &str) -> &mut InteractionSeen {
        let id = self.intern(interaction);
        if !self.interactions.contains_key(&id) {
            self.oldest_interactions.push_back(Arc::clone(&id));
            if self.oldest_interactions.len() > INTERACTIONS_MAX {
                self.drop_oldest_interaction();
            }
        }
        self.interactions.entry(id).or_default()
    }

    fn drop_oldest_interaction(&mut self) {
        let Some(oldest) = self.oldest_interactions.pop_front() else { return };
        let Some((id, seen)) = self.interactions.remove_entry(&oldest) else { return };
        // The map's and the queue's name for it are one too many to be the last.
        drop(id);
        self.forget(&oldest);
        for suggestion in seen.suggestions {
            self.forget(&suggestion.id);
        }
        for card in seen.cards {
            self.forget(&card.id);
        }
    }
}

fn oldest_above_the_limit<T>(seen: &mut Vec<T>) -> Option<T> {
    (seen.len() > IDS_PER_INTERACTION_MAX).then(|| seen.remove(0))
}
