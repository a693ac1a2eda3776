//! The steps of what is delivered over REST: popups, insight cards, feedback on them, and webhooks.

use serde_json::json;

use super::step::Step;
use super::{
    CARDS_MAX, Context, Effects, Interaction, OnFailure, POPUP_NAME_BYTES_MAX, POPUPS_MAX, PopupMark, PopupState,
};
use crate::assist::audit::{Event, sha256_hex};
use crate::assist::card::{Card, FeedbackAction, PopupCard};
use crate::assist::outbox::Payload;

impl Interaction {
    /// A trigger fired: its popup is pending, unless the trigger has fired before. The answer is whether it is new.
    ///
    /// A popup beyond [`POPUPS_MAX`] is refused, and so is one whose trigger or card id is empty, longer than
    /// [`POPUP_NAME_BYTES_MAX`] or holds anything but letters, digits and `_.:-`. That leaves one record per interaction.
    pub fn popup(&mut self, cx: &Context<'_>, trigger: &str, card: &PopupCard) -> (bool, Effects) {
        let mut step = Step::new(self, cx);
        if step.document.popups.contains_key(trigger) {
            return (false, step.finish());
        }
        if !is_short_and_plain(trigger) || !is_short_and_plain(&card.card_id) || !step.has_room_for_popup() {
            step.refuse_popup();
            return (false, step.finish());
        }
        let seq = step.put(Payload::Popup { trigger: trigger.to_owned(), card: card.clone() });
        step.mark(trigger, PopupState::Pending, seq, &card.card_id);
        let content = sha256_hex(card.content.reveal().as_bytes());
        step.record(
            Event::PopupPending,
            &card.card_id,
            json!({ "seq": seq, "trigger": trigger, "contentSha256": content }),
        );
        (true, step.finish())
    }

    /// A trigger's popup was delivered.
    pub fn popup_done(&mut self, cx: &Context<'_>, trigger: &str) -> Effects {
        let mut step = Step::new(self, cx);
        if let Some(mark) = step.pending(trigger) {
            step.close(mark.seq);
            step.mark(trigger, PopupState::Done, mark.seq, &mark.card_id);
            let waited_ms = u64::try_from(cx.now_ms.saturating_sub(mark.at_ms)).unwrap_or(0);
            let details = json!({ "seq": mark.seq, "trigger": trigger, "waitedMs": waited_ms });
            step.record(Event::PopupDelivered, &mark.card_id, details);
        }
        step.finish()
    }

    /// A trigger's popup cannot be delivered: by `policy` the trigger may fire again, or the popup is a dead letter.
    pub fn popup_failed(
        &mut self,
        cx: &Context<'_>,
        trigger: &str,
        policy: OnFailure,
        reason: &'static str,
    ) -> Effects {
        let mut step = Step::new(self, cx);
        if let Some(mark) = step.pending(trigger) {
            let event = match policy {
                OnFailure::Free => {
                    step.close(mark.seq);
                    step.document.popups.remove(trigger);
                    Event::PopupFreed
                }
                OnFailure::DeadLetter => {
                    step.bury(mark.seq, reason);
                    step.mark(trigger, PopupState::Dead, mark.seq, &mark.card_id);
                    Event::DeadLettered
                }
            };
            let details = json!({ "kind": "popup", "seq": mark.seq, "trigger": trigger, "reason": reason });
            step.record(event, &mark.card_id, details);
        }
        step.finish()
    }

    /// Cards were found: those that this interaction has not had wait to be delivered, together and in the given order.
    /// The answer is how many those are: [`CARDS_MAX`] at most, and none while [`super::OPEN_MAX`] entries wait.
    pub fn insights(&mut self, cx: &Context<'_>, cards: Vec<Card>) -> (usize, Effects) {
        let mut step = Step::new(self, cx);
        if !step.has_room() {
            return (0, step.finish());
        }
        let shown = &mut step.document.shown;
        let fresh: Vec<_> = cards.into_iter().filter(|card| shown.insert(&card.id)).take(CARDS_MAX).collect();
        let Some(first) = fresh.first() else { return (0, step.finish()) };
        let (subject, queued) = (first.id.clone(), fresh.len());
        let listed: Vec<_> = fresh
            .iter()
            .map(|card| {
                let content = sha256_hex(card.snippet.reveal().as_bytes());
                json!({ "id": card.id, "score": card.score, "contentSha256": content })
            })
            .collect();
        let seq = step.put(Payload::Insights { cards: fresh });
        step.record(Event::InsightsQueued, &subject, json!({ "seq": seq, "cards": listed }));
        (queued, step.finish())
    }

    /// Cards were delivered.
    pub fn insights_done(&mut self, cx: &Context<'_>, seq: u64) -> Effects {
        self.delivered(cx, seq, Event::InsightsDelivered)
    }

    /// The agent judged an insight: the judgement waits to be forwarded, unless it is known. The answer is whether it is
    /// new; another judgement of the same insight is.
    pub fn feedback(&mut self, cx: &Context<'_>, insight_id: &str, action: FeedbackAction) -> (bool, Effects) {
        let mut step = Step::new(self, cx);
        if !step.document.feedback.insert(&format!("{}:{insight_id}", action.word())) {
            return (false, step.finish());
        }
        let (insight, at_ms) = (insight_id.to_owned(), cx.now_ms);
        let seq = step.put_or_bury(Payload::Feedback { insight_id: insight, action, at_ms });
        step.record(Event::FeedbackQueued, insight_id, json!({ "seq": seq, "action": action.word() }));
        (true, step.finish())
    }

    /// A judgement was forwarded.
    pub fn feedback_done(&mut self, cx: &Context<'_>, seq: u64) -> Effects {
        self.delivered(cx, seq, Event::FeedbackDelivered)
    }

    /// A webhook was called and has taken the event.
    pub fn webhook_done(&mut self, cx: &Context<'_>, seq: u64) -> Effects {
        self.delivered(cx, seq, Event::WebhookDelivered)
    }

    /// The record's subject is the entry's number: what it was about stands in the record of its cause.
    fn delivered(&mut self, cx: &Context<'_>, seq: u64, event: Event) -> Effects {
        let mut step = Step::new(self, cx);
        if step.close(seq) {
            step.record(event, &seq.to_string(), json!({ "seq": seq }));
        }
        step.finish()
    }
}

impl Step<'_> {
    pub(super) fn has_room_for_popup(&self) -> bool {
        self.document.popups.len() < POPUPS_MAX
    }

    pub(super) fn mark(&mut self, trigger: &str, state: PopupState, seq: u64, card_id: &str) {
        let mark = PopupMark { state, seq, card_id: card_id.to_owned(), at_ms: self.cx.now_ms };
        self.document.popups.insert(trigger.to_owned(), mark);
    }

    fn pending(&self, trigger: &str) -> Option<PopupMark> {
        self.document.popups.get(trigger).filter(|mark| mark.state == PopupState::Pending).cloned()
    }

    fn refuse_popup(&mut self) {
        if !self.document.popups_full {
            self.document.popups_full = true;
            let details = json!({ "rule": "popups_max", "max": POPUPS_MAX, "nameBytesMax": POPUP_NAME_BYTES_MAX });
            self.record(Event::Refused, "popup", details);
        }
    }
}

/// Names of popups are keys of the document: they cannot be of any length or form.
fn is_short_and_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
    (1..=POPUP_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}
