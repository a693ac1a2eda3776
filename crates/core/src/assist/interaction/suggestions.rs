//! The steps of suggestions: submitted, sent, acknowledged, answered, or over before any of it.

use serde_json::{Value, json};

use super::step::Step;
use super::{
    Active, ActiveState, Answer, Context, Effects, Hooks, Interaction, LAPSE_GRACE_MS, LAPSE_WINDOW_MS_MAX, Submitted,
};
use crate::assist::audit::{Event, sha256_hex};
use crate::assist::outbox::{Hook, Payload};
use crate::assist::suggestion::{Rejection, Rules, Suggestion, judge, nudge};
use crate::protocol::instant::format_rfc3339_ms;
use crate::secret::Private;

impl Interaction {
    /// Takes a suggestion, if it passes the rules: it holds a slot, and its entry waits to be sent with the nudged score.
    /// A refusal leaves a record too. Slots of suggestions that were never answered are released first, so that an agent
    /// who ignores five of them does not end all help.
    pub fn submit(
        &mut self,
        cx: &Context<'_>,
        suggestion: &Suggestion,
        rules: &Rules,
    ) -> (Result<Submitted, Rejection>, Effects) {
        let mut step = Step::new(self, cx);
        step.release_stale_slots();
        if let Err(rejection) = judge(&step.document.active, suggestion, rules, cx.now_ms) {
            step.record(Event::Refused, &suggestion.id, refusal(&rejection, suggestion));
            return (Err(rejection), step.finish());
        }
        let (accepted, dismissed) = (step.document.accepted, step.document.dismissed);
        let relevance_score = nudge(suggestion.relevance_score, accepted, dismissed, rules);
        let nudged = Suggestion { relevance_score, ..suggestion.clone() };
        let seq = step.put(Payload::Suggestion(nudged));
        step.hold_slot(suggestion, seq);
        let details = json!({
            "seq": seq, "contentSha256": content_sha256(suggestion), "contentBytes": suggestion.content.reveal().len(),
            "priority": suggestion.priority.label(), "relevanceScore": suggestion.relevance_score,
            "sentScore": relevance_score, "accepted": accepted, "dismissed": dismissed,
            "start": format_rfc3339_ms(suggestion.context_window.start_ms),
            "end": format_rfc3339_ms(suggestion.context_window.end_ms),
        });
        step.record(Event::Queued, &suggestion.id, details);
        (Ok(Submitted { seq, relevance_score }), step.finish())
    }

    /// CXone has a suggestion, as far as can be known without its acknowledgement: its frame was written now. Its entry is
    /// closed, its slot waits for the answer.
    pub fn sent(&mut self, cx: &Context<'_>, seq: u64) -> Effects {
        self.sent_at(cx, seq, cx.now_ms)
    }

    /// As [`Self::sent`], for a frame that was written at `written_ms`, in milliseconds since the Unix epoch: whoever
    /// waited for an acknowledgement in vain notes it later than it happened.
    pub fn sent_at(&mut self, cx: &Context<'_>, seq: u64, written_ms: i64) -> Effects {
        let mut step = Step::new(self, cx);
        step.inject(seq, Some(written_ms));
        step.finish()
    }

    /// A suggestion's window passed before it could be sent: its slot is free again. Nothing happens while the window is
    /// open.
    pub fn window_over(&mut self, cx: &Context<'_>, seq: u64) -> Effects {
        let mut step = Step::new(self, cx);
        if step.queued_slot(seq).is_some_and(|slot| slot.ends_ms < cx.now_ms) {
            step.expire(seq);
        }
        step.finish()
    }

    /// CXone acknowledged a suggestion. One that was not noted as sent is so now, in the same step: its entry is closed,
    /// and the records say `injected` before they say `acknowledged`.
    ///
    /// The answer is how long the acknowledgement took, in milliseconds: from our own note of when the frame was written,
    /// or, where there is none yet, from `sent_ms` if it lies between submission and now. That is when the caller wrote
    /// the frame, or CXone's `sentTimestamp` where somebody else did. Only the first acknowledgement of a suggestion
    /// counts.
    pub fn acked(&mut self, cx: &Context<'_>, suggestion_id: &str, sent_ms: Option<i64>) -> (Option<u64>, Effects) {
        let mut step = Step::new(self, cx);
        let Some(slot) = step.slot_mut(suggestion_id).filter(|slot| !slot.acked) else {
            return (None, step.finish());
        };
        slot.acked = true;
        let told_ms = sent_ms.filter(|sent_ms| (slot.since_ms..=cx.now_ms).contains(sent_ms));
        let seq = slot.seq;
        let latency_ms = slot.sent_ms.or(told_ms).map(|sent_ms| elapsed_ms(sent_ms, cx.now_ms));
        step.inject(seq, told_ms);
        step.record(Event::Acknowledged, suggestion_id, json!({ "seq": seq, "latencyMs": latency_ms }));
        (latency_ms, step.finish())
    }

    /// The agent took a suggestion up or dismissed it: its slot is free again, the answer is counted, and webhooks are
    /// told. The answer is whether it was active; of one that was not, nothing changes, so a repeat counts once.
    ///
    /// One that still waits to be sent may be answered too: whoever sent it may have been killed before it could note so.
    /// Nobody can answer what was not sent, so the records say `injected` first.
    pub fn answered(&mut self, cx: &Context<'_>, suggestion_id: &str, answer: Answer, hooks: Hooks) -> (bool, Effects) {
        let mut step = Step::new(self, cx);
        let Some(slot) = step.free(|slot| slot.id == suggestion_id) else {
            return (false, step.finish());
        };
        if slot.state == ActiveState::Queued {
            step.close(slot.seq);
            step.record_injected(&slot, None);
        }
        let event = step.count(answer);
        let waited_ms = slot.sent_ms.map(|sent_ms| elapsed_ms(sent_ms, cx.now_ms));
        let (accepted, dismissed) = (step.document.accepted, step.document.dismissed);
        let details = json!({
            "seq": slot.seq, "answeredAfterMs": waited_ms, "accepted": accepted, "dismissed": dismissed,
        });
        step.record(event, suggestion_id, details);
        if hooks.kb_sync {
            step.call(Hook::KbSync, &slot, answer);
        }
        if hooks.on_accept && answer == Answer::Accepted {
            step.call(Hook::OnAccept, &slot, answer);
        }
        (true, step.finish())
    }
}

impl Step<'_> {
    /// Gives a suggestion a slot until its entry is sent and answered.
    pub(super) fn hold_slot(&mut self, suggestion: &Suggestion, seq: u64) {
        let (id, ends_ms) = (suggestion.id.clone(), suggestion.context_window.end_ms);
        let (since_ms, state) = (self.cx.now_ms, ActiveState::Queued);
        self.document.active.push(Active { id, seq, state, since_ms, ends_ms, sent_ms: None, acked: false });
    }

    /// Takes a slot away.
    pub(super) fn free(&mut self, which: impl Fn(&Active) -> bool) -> Option<Active> {
        let index = self.document.active.iter().position(which)?;
        Some(self.document.active.remove(index))
    }

    fn slot_mut(&mut self, suggestion_id: &str) -> Option<&mut Active> {
        self.document.active.iter_mut().find(|slot| slot.id == suggestion_id)
    }

    fn queued_slot(&mut self, seq: u64) -> Option<&mut Active> {
        self.document.active.iter_mut().find(|slot| slot.seq == seq && slot.state == ActiveState::Queued)
    }

    /// A suggestion that was not noted as sent is so now, at `written_ms` if that is known.
    fn inject(&mut self, seq: u64, written_ms: Option<i64>) {
        let sent_ms = written_ms.unwrap_or(self.cx.now_ms);
        let Some(slot) = self.queued_slot(seq) else { return };
        slot.state = ActiveState::Sent;
        slot.sent_ms = Some(sent_ms);
        let slot = slot.clone();
        self.close(seq);
        self.record_injected(&slot, written_ms);
    }

    fn record_injected(&mut self, slot: &Active, written_ms: Option<i64>) {
        let waited_ms = written_ms.map(|written_ms| elapsed_ms(slot.since_ms, written_ms));
        self.record(Event::Injected, &slot.id, json!({ "seq": slot.seq, "waitedMs": waited_ms }));
    }

    fn expire(&mut self, seq: u64) {
        if let Some(slot) = self.free(|slot| slot.seq == seq) {
            self.close(seq);
            let waited_ms = elapsed_ms(slot.since_ms, self.cx.now_ms);
            let end = format_rfc3339_ms(slot.ends_ms);
            self.record(Event::Expired, &slot.id, json!({ "seq": seq, "waitedMs": waited_ms, "end": end }));
        }
    }

    /// Releases slots that nobody will come back to: sent and never answered, or never sent although the window closed
    /// long ago.
    fn release_stale_slots(&mut self) {
        let now_ms = self.cx.now_ms;
        let stale = self.document.active.iter().filter(|slot| slot.goes_stale_at_ms() < now_ms);
        let stale: Vec<_> = stale.map(|slot| (slot.seq, slot.state)).collect();
        for (seq, state) in stale {
            match state {
                ActiveState::Queued => self.expire(seq),
                ActiveState::Sent => self.lapse(seq),
            }
        }
    }

    fn lapse(&mut self, seq: u64) {
        if let Some(slot) = self.free(|slot| slot.seq == seq) {
            let waited_ms = elapsed_ms(slot.sent_ms.unwrap_or(slot.since_ms), self.cx.now_ms);
            self.record(Event::Lapsed, &slot.id, json!({ "seq": seq, "unansweredMs": waited_ms }));
        }
    }

    fn count(&mut self, answer: Answer) -> Event {
        let (count, event) = match answer {
            Answer::Accepted => (&mut self.document.accepted, Event::Accepted),
            Answer::Dismissed => (&mut self.document.dismissed, Event::Dismissed),
        };
        *count = count.saturating_add(1);
        event
    }

    fn call(&mut self, hook: Hook, slot: &Active, answer: Answer) {
        let interaction = self.cx.id;
        let event_id = format!("{interaction}:{}:{}:{}", slot.id, slot.seq, hook.label());
        let body = json!({
            "hook": hook.label(), "event": answer.label(), "interactionId": interaction, "suggestionId": slot.id,
            "at": format_rfc3339_ms(self.cx.now_ms), "eventId": event_id,
        });
        self.put_or_bury(Payload::Webhook { hook, event_id, body: Private::new(body) });
    }
}

impl Active {
    /// After which moment the slot is given to the next suggestion, in milliseconds since the Unix epoch.
    fn goes_stale_at_ms(&self) -> i64 {
        let counted_until_ms = match self.state {
            ActiveState::Queued => self.ends_ms,
            ActiveState::Sent => self.ends_ms.min(self.since_ms.saturating_add(LAPSE_WINDOW_MS_MAX)),
        };
        counted_until_ms.saturating_add(LAPSE_GRACE_MS)
    }
}

fn refusal(rejection: &Rejection, suggestion: &Suggestion) -> Value {
    let mut details = rejection.to_json();
    details["contentSha256"] = content_sha256(suggestion).into();
    details["relevanceScore"] = suggestion.relevance_score.into();
    details
}

fn content_sha256(suggestion: &Suggestion) -> String {
    sha256_hex(suggestion.content.reveal().as_bytes())
}

/// Clocks of two tasks may differ: what seems to have taken less than no time took none.
fn elapsed_ms(from_ms: i64, to_ms: i64) -> u64 {
    u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0)
}
