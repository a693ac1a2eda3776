//! The bookkeeping that all steps share: which entries live, and the audit chain.

use serde_json::{Value, json};

use super::{BURIED_MAX, Context, Effects, Interaction, OPEN_MAX};
use crate::assist::audit::{self, Event};
use crate::assist::outbox::{Dead, Entry, Payload};

/// One step in the making: the document, and the effects so far.
pub(super) struct Step<'a> {
    pub(super) document: &'a mut Interaction,
    pub(super) cx: Context<'a>,
    effects: Effects,
}

impl<'a> Step<'a> {
    pub(super) fn new(document: &'a mut Interaction, cx: &Context<'a>) -> Self {
        Self { document, cx: *cx, effects: Effects::default() }
    }

    pub(super) fn finish(self) -> Effects {
        self.effects
    }

    /// Puts a new entry, due now, and returns its number.
    pub(super) fn put(&mut self, payload: Payload) -> u64 {
        self.put_created(payload, self.cx.now_ms)
    }

    /// As [`Self::put`], for what was wanted before.
    pub(super) fn put_created(&mut self, payload: Payload, created_ms: i64) -> u64 {
        let entry = self.entry(payload, created_ms);
        let seq = entry.seq;
        self.document.open.insert(seq);
        self.effects.put.push(entry);
        seq
    }

    /// As [`Self::put`], except where the document has no room for another living entry: there it becomes a dead letter
    /// at once, so that an operator can have it delivered after all.
    pub(super) fn put_or_bury(&mut self, payload: Payload) -> u64 {
        const REASON: &str = "open_max";
        if self.has_room() {
            return self.put(payload);
        }
        let mut entry = self.entry(payload, self.cx.now_ms);
        let seq = entry.seq;
        entry.dead = Some(Dead { reason: REASON.to_owned(), at_ms: self.cx.now_ms });
        self.remember_buried(seq);
        self.record_letter(Event::DeadLettered, &entry, REASON);
        self.effects.put.push(entry);
        seq
    }

    /// Whether another entry may live.
    pub(super) fn has_room(&self) -> bool {
        self.document.open.len() < OPEN_MAX
    }

    /// Closes an entry if it lives.
    pub(super) fn close(&mut self, seq: u64) -> bool {
        let lives = self.document.open.remove(&seq);
        if lives {
            self.effects.close.push(seq);
        }
        lives
    }

    /// Makes an entry a dead letter if it lives.
    pub(super) fn bury(&mut self, seq: u64, reason: &'static str) -> bool {
        let lives = self.document.open.remove(&seq);
        if lives {
            self.remember_buried(seq);
            self.effects.bury.push((seq, reason));
        }
        lives
    }

    /// Closes an entry if it is a dead letter. The document knows the latest ones; of one that it may have forgotten, the
    /// entry's own mark is believed.
    pub(super) fn exhume(&mut self, entry: &Entry) -> bool {
        let may_be_forgotten = entry.seq < self.document.buried_floor && !self.document.open.contains(&entry.seq);
        let is_buried = self.document.buried.remove(&entry.seq) || (may_be_forgotten && entry.dead.is_some());
        if is_buried {
            self.effects.close.push(entry.seq);
        }
        is_buried
    }

    pub(super) fn record(&mut self, event: Event, subject: &str, details: Value) {
        let record = audit::append(&mut self.document.audit, self.cx.id, self.cx.now_ms, event, subject, details);
        self.effects.audit.push(record);
    }

    pub(super) fn record_letter(&mut self, event: Event, entry: &Entry, reason: &str) {
        let details = json!({
            "kind": entry.payload.label(), "seq": entry.seq, "attempts": entry.attempts, "reason": reason,
        });
        self.record(event, entry.payload.subject(), details);
    }

    /// An entry with the next number, due now.
    fn entry(&mut self, payload: Payload, created_ms: i64) -> Entry {
        let seq = self.document.next_seq;
        self.document.next_seq += 1;
        let expires_ms = match &payload {
            Payload::Suggestion(suggestion) => Some(suggestion.context_window.end_ms),
            _ => None,
        };
        let (interaction, due_ms) = (self.cx.id.clone(), self.cx.now_ms);
        Entry { interaction, seq, payload, created_ms, expires_ms, due_ms, attempts: 0, sender: None, dead: None }
    }

    fn remember_buried(&mut self, seq: u64) {
        let buried = &mut self.document.buried;
        buried.insert(seq);
        if buried.len() > BURIED_MAX
            && let Some(forgotten) = buried.pop_first()
        {
            self.document.buried_floor = self.document.buried_floor.max(forgotten + 1);
        }
    }
}
