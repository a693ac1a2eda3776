//! The steps of entries that cannot be delivered: dead letters, and what an operator does with them.

use serde_json::json;

use super::step::Step;
use super::{Context, Effects, Interaction, PopupState};
use crate::assist::audit::Event;
use crate::assist::outbox::{Entry, Payload};
use crate::assist::suggestion::{Rules, judge};

impl Interaction {
    /// An entry cannot be delivered and becomes a dead letter. A suggestion's slot is free again; a popup's trigger does
    /// not fire again.
    pub fn dead(&mut self, cx: &Context<'_>, entry: &Entry, reason: &'static str) -> Effects {
        let mut step = Step::new(self, cx);
        if step.bury(entry.seq, reason) {
            step.give_up(entry);
            step.record_letter(Event::DeadLettered, entry, reason);
        }
        step.finish()
    }

    /// An operator has a dead letter tried again: it is closed, and the same thing is put anew, due at once, under a new
    /// number. The effects are all there is to do.
    ///
    /// **Empty effects say that it stays dead**: it is none any more, its popup was delivered in some other way, too many
    /// entries live, or it is a suggestion that does not pass the documented rules now. The window may be over or the
    /// slots taken, and an operator's retry is no way round that.
    pub fn revived(&mut self, cx: &Context<'_>, entry: &Entry) -> Effects {
        let mut step = Step::new(self, cx);
        if !step.may_live_again(entry) || !step.exhume(entry) {
            return step.finish();
        }
        let seq = step.put_created(entry.payload.clone(), entry.created_ms);
        match &entry.payload {
            Payload::Suggestion(suggestion) => step.hold_slot(suggestion, seq),
            Payload::Popup { trigger, card } => step.mark(trigger, PopupState::Pending, seq, &card.card_id),
            Payload::Insights { .. } | Payload::Feedback { .. } | Payload::Webhook { .. } => {}
        }
        let details = json!({ "kind": entry.payload.label(), "seq": seq, "formerSeq": entry.seq });
        step.record(Event::Revived, entry.payload.subject(), details);
        step.finish()
    }

    /// An operator drops an entry, dead or alive: it is closed. A suggestion's slot is free again; a popup's trigger does
    /// not fire again.
    pub fn dropped(&mut self, cx: &Context<'_>, entry: &Entry) -> Effects {
        let mut step = Step::new(self, cx);
        if step.close(entry.seq) || step.exhume(entry) {
            step.give_up(entry);
            step.record_letter(Event::Dropped, entry, "operator");
        }
        step.finish()
    }
}

impl Step<'_> {
    fn may_live_again(&self, entry: &Entry) -> bool {
        match &entry.payload {
            Payload::Suggestion(suggestion) => {
                judge(&self.document.active, suggestion, &Rules::default(), self.cx.now_ms).is_ok()
            }
            Payload::Popup { trigger, .. } => match self.document.popups.get(trigger) {
                Some(mark) => mark.state == PopupState::Dead && mark.seq == entry.seq,
                None => self.has_room_for_popup(),
            },
            Payload::Insights { .. } | Payload::Feedback { .. } | Payload::Webhook { .. } => self.has_room(),
        }
    }

    /// Takes back what the document promised on behalf of an entry.
    fn give_up(&mut self, entry: &Entry) {
        match &entry.payload {
            Payload::Suggestion(_) => {
                self.free(|slot| slot.seq == entry.seq);
            }
            Payload::Popup { trigger, card } => {
                if self.document.popups.get(trigger).is_some_and(|mark| mark.seq == entry.seq) {
                    self.mark(trigger, PopupState::Dead, entry.seq, &card.card_id);
                }
            }
            Payload::Insights { .. } | Payload::Feedback { .. } | Payload::Webhook { .. } => {}
        }
    }
}
