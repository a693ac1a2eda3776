use serde_json::json;

use super::*;
use crate::assist::audit::{Event, sha256_hex, verify};
use crate::assist::card::{Card, CardKind, CardMetadata, FeedbackAction, PopupCard};
use crate::assist::outbox::{Dead, Hook, Payload};
use crate::assist::suggestion::{Priority, Rejection, Rules, Suggestion, Window};
use crate::secret::Private;

mod deliveries;
mod letters;

pub(super) const NOW_MS: i64 = 1_738_312_200_000;
const ALL_HOOKS: Hooks = Hooks { kb_sync: true, on_accept: true };

pub(super) fn interaction_id() -> InteractionId {
    InteractionId::parse("7").unwrap()
}

pub(super) fn suggestion(id: &str, relevance_score: f64, ends_ms: i64) -> Suggestion {
    Suggestion {
        id: id.to_owned(),
        content: Private::new(format!("words of {id}")),
        priority: Priority::High,
        relevance_score,
        context_window: Window { start_ms: NOW_MS - 60_000, end_ms: ends_ms },
    }
}

pub(super) fn popup_card(trigger: &str) -> PopupCard {
    PopupCard {
        card_id: format!("earpiece-{trigger}"),
        kind: CardKind::Warning,
        title: "words".into(),
        content: Private::new("words".into()),
        metadata: CardMetadata { source: "earpiece".into(), timestamp: "2025-01-31T08:30:00.000Z".into() },
    }
}

pub(super) fn card(id: &str) -> Card {
    Card {
        id: id.to_owned(),
        title: Private::new("words".into()),
        priority: 1,
        score: 0.5,
        citation: String::new(),
        snippet: Private::new("words".into()),
        interaction_id: interaction_id(),
    }
}

/// A document, what stands in the store because of it, and a clock.
struct Bench {
    id: InteractionId,
    document: Interaction,
    records: Vec<audit::Record>,
    entries: BTreeMap<u64, Entry>,
    now_ms: i64,
}

impl Bench {
    fn new() -> Self {
        let (document, records, entries) = (Interaction::default(), Vec::new(), BTreeMap::new());
        Self { id: interaction_id(), document, records, entries, now_ms: NOW_MS }
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Interaction, &Context<'_>) -> (T, Effects)) -> (T, Effects) {
        let (answer, effects) = step(&mut self.document, &Context { id: &self.id, now_ms: self.now_ms });
        self.records.extend(effects.audit.iter().cloned());
        self.entries.extend(effects.put.iter().map(|entry| (entry.seq, entry.clone())));
        assert!(verify(self.records.iter().cloned(), Some(&self.document.audit)).is_ok());
        (answer, effects)
    }

    fn effects(&mut self, step: impl FnOnce(&mut Interaction, &Context<'_>) -> Effects) -> Effects {
        self.step(|document, cx| ((), step(document, cx))).1
    }

    fn submit(&mut self, id: &str) -> Result<Submitted, Rejection> {
        let suggestion = suggestion(id, 0.9, self.now_ms + 60_000);
        self.step(|document, cx| document.submit(cx, &suggestion, &Rules::default())).0
    }

    /// Submits and sends.
    fn send(&mut self, id: &str) -> u64 {
        let seq = self.submit(id).unwrap().seq;
        self.effects(|document, cx| document.sent(cx, seq));
        seq
    }

    fn answer(&mut self, id: &str, answer: Answer) -> (bool, Effects) {
        self.step(|document, cx| document.answered(cx, id, answer, ALL_HOOKS))
    }

    fn popup(&mut self, trigger: &str) -> (bool, Effects) {
        let card = popup_card(trigger);
        self.step(|document, cx| document.popup(cx, trigger, &card))
    }

    fn as_dead(&self, seq: u64) -> Entry {
        Entry { dead: Some(Dead { reason: "refused".into(), at_ms: self.now_ms }), ..self.entries[&seq].clone() }
    }

    #[track_caller]
    fn assert_last(&self, event: Event, subject: &str) -> &serde_json::Value {
        let last = self.records.last().unwrap();
        assert_eq!((last.event.as_str(), last.subject.as_str()), (event.label(), subject));
        &last.details
    }
}

#[test]
fn a_suggestion_that_passes_holds_a_slot_and_waits_to_be_sent() {
    let mut bench = Bench::new();
    let suggestion = suggestion("s-1", 0.83, NOW_MS + 5_000);
    let (submitted, effects) = bench.step(|document, cx| document.submit(cx, &suggestion, &Rules::default()));
    assert_eq!(submitted, Ok(Submitted { seq: 0, relevance_score: 0.83 }));
    let [entry] = effects.put.as_slice() else { panic!("{effects:?}") };
    assert_eq!((entry.seq, entry.expires_ms, entry.due_ms), (0, Some(NOW_MS + 5_000), NOW_MS));
    assert_eq!(entry.payload, Payload::Suggestion(suggestion));
    let details = bench.assert_last(Event::Queued, "s-1");
    assert_eq!(details["contentSha256"], sha256_hex(b"words of s-1"));
    assert_eq!(bench.document.slot("s-1").map(|slot| slot.state), Some(ActiveState::Queued));
    assert!(!bench.document.is_idle());
}

#[test]
fn a_refusal_leaves_a_record_with_the_rule_and_its_figures_and_nothing_else() {
    let mut bench = Bench::new();
    let low = suggestion("s-1", 0.69, NOW_MS);
    let (submitted, effects) = bench.step(|document, cx| document.submit(cx, &low, &Rules::default()));
    assert_eq!(submitted, Err(Rejection::LowRelevance { score: 0.69, min: 0.70 }));
    assert!(effects.put.is_empty() && effects.close.is_empty() && effects.bury.is_empty());
    let details = bench.assert_last(Event::Refused, "s-1");
    assert_eq!((&details["rule"], &details["min"]), (&json!("relevance_min"), &json!(0.7)));
    assert!(bench.document.is_idle());
}

#[test]
fn a_sixth_suggestion_waits_for_an_answer_to_one_of_the_five() {
    let mut bench = Bench::new();
    for id in ["a", "b", "c", "d", "e"] {
        bench.send(id);
    }
    assert_eq!(bench.submit("f"), Err(Rejection::BufferFull { active: 5, max: 5 }));
    assert!(bench.answer("c", Answer::Dismissed).0);
    assert!(bench.submit("f").is_ok());
    assert!(bench.submit("g").is_err());
}

#[test]
fn an_id_may_be_taken_again_after_its_answer() {
    let mut bench = Bench::new();
    bench.send("a");
    assert_eq!(bench.submit("a"), Err(Rejection::Duplicate { id: "a".into() }));
    bench.answer("a", Answer::Dismissed);
    assert!(bench.submit("a").is_ok());
}

#[test]
fn scores_are_nudged_by_what_the_agent_made_of_earlier_suggestions() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        assert!((bench.submit("a").unwrap().relevance_score - 0.9).abs() < 1e-12);
        bench.answer("a", Answer::Accepted);
    }
    let submitted = bench.submit("b").unwrap();
    assert!((submitted.relevance_score - 0.95).abs() < 1e-12);
    let Payload::Suggestion(sent) = &bench.entries[&submitted.seq].payload else { panic!("no suggestion") };
    assert!((sent.relevance_score - 0.95).abs() < 1e-12);
}

#[test]
fn a_frame_that_was_written_closes_its_entry_once() {
    let mut bench = Bench::new();
    bench.submit("a").unwrap();
    bench.now_ms += 40;
    let effects = bench.effects(|document, cx| document.sent(cx, 0));
    assert_eq!(effects.close, [0]);
    assert_eq!(bench.assert_last(Event::Injected, "a")["waitedMs"], 40);
    assert!(bench.effects(|document, cx| document.sent(cx, 0)).is_empty());
    assert!(bench.effects(|document, cx| document.sent(cx, 99)).is_empty());
}

#[test]
fn an_unsent_suggestion_expires_after_its_window_and_not_at_its_end() {
    let mut bench = Bench::new();
    bench.submit("a").unwrap();
    bench.now_ms += 60_000;
    assert!(bench.effects(|document, cx| document.window_over(cx, 0)).is_empty());
    bench.now_ms += 1;
    let effects = bench.effects(|document, cx| document.window_over(cx, 0));
    assert_eq!(effects.close, [0]);
    bench.assert_last(Event::Expired, "a");
    assert!(bench.document.is_idle());
    assert!(bench.effects(|document, cx| document.window_over(cx, 0)).is_empty());
}

#[test]
fn a_sent_suggestion_does_not_expire() {
    let mut bench = Bench::new();
    let seq = bench.send("a");
    bench.now_ms += 120_000;
    assert!(bench.effects(|document, cx| document.window_over(cx, seq)).is_empty());
}

#[test]
fn a_sent_suggestion_that_nobody_answers_gives_its_slot_to_a_later_one_after_the_grace() {
    let mut bench = Bench::new();
    for id in ["a", "b", "c", "d", "e"] {
        bench.send(id);
    }
    bench.now_ms += 60_000 + LAPSE_GRACE_MS;
    assert!(bench.submit("f").is_err());
    bench.now_ms += 1;
    assert!(bench.submit("f").is_ok());
    assert_eq!(bench.records.iter().filter(|record| record.event == Event::Lapsed.label()).count(), 5);
    assert_eq!(bench.document.active.len(), 1);
    assert!(!bench.answer("a", Answer::Accepted).0);
}

#[test]
fn a_window_without_end_holds_a_slot_for_a_day_once_sent() {
    let mut bench = Bench::new();
    let endless = suggestion("a", 0.9, i64::MAX);
    bench.step(|document, cx| document.submit(cx, &endless, &Rules::default())).0.unwrap();
    bench.effects(|document, cx| document.sent(cx, 0));
    bench.now_ms += LAPSE_WINDOW_MS_MAX + LAPSE_GRACE_MS;
    bench.submit("b").unwrap();
    assert!(bench.document.slot("a").is_some());
    bench.now_ms += 1;
    bench.submit("c").unwrap();
    assert!(bench.document.slot("a").is_none());
}

#[test]
fn an_unsent_suggestion_that_nobody_expired_is_closed_by_a_later_submission() {
    let mut bench = Bench::new();
    bench.submit("a").unwrap();
    bench.now_ms += 60_000 + LAPSE_GRACE_MS + 1;
    let later = suggestion("b", 0.9, bench.now_ms);
    let (submitted, effects) = bench.step(|document, cx| document.submit(cx, &later, &Rules::default()));
    assert_eq!((submitted.unwrap().seq, effects.close), (1, vec![0]));
    assert!(bench.effects(|document, cx| document.sent(cx, 0)).is_empty());
}

#[test]
fn the_first_acknowledgement_tells_the_latency_and_a_repeat_nothing() {
    let mut bench = Bench::new();
    bench.send("a");
    bench.now_ms += 35;
    let (latency_ms, _) = bench.step(|document, cx| document.acked(cx, "a", Some(5)));
    assert_eq!(latency_ms, Some(35));
    assert_eq!(bench.assert_last(Event::Acknowledged, "a")["latencyMs"], 35);
    let (latency_ms, effects) = bench.step(|document, cx| document.acked(cx, "a", None));
    assert_eq!((latency_ms, effects), (None, Effects::default()));
    assert_eq!(bench.step(|document, cx| document.acked(cx, "other", None)), (None, Effects::default()));
}

#[test]
fn a_latency_is_never_negative() {
    let mut bench = Bench::new();
    bench.send("a");
    bench.now_ms -= 5_000;
    assert_eq!(bench.step(|document, cx| document.acked(cx, "a", None)).0, Some(0));
}

#[test]
fn an_acknowledgement_of_what_is_not_noted_as_sent_notes_it_in_the_same_step() {
    for (sent_ms, expected) in
        [(Some(NOW_MS + 20), Some(30)), (Some(NOW_MS - 1), None), (Some(NOW_MS + 51), None), (None, None)]
    {
        let mut bench = Bench::new();
        let seq = bench.submit("a").unwrap().seq;
        bench.now_ms += 50;
        let (latency_ms, effects) = bench.step(|document, cx| document.acked(cx, "a", sent_ms));
        assert_eq!((latency_ms, effects.close), (expected, vec![seq]));
        let events: Vec<_> = effects.audit.iter().map(|record| record.event.as_str()).collect();
        assert_eq!(events, [Event::Injected.label(), Event::Acknowledged.label()]);
        assert_eq!(effects.audit[0].details["waitedMs"], json!(expected.map(|_| 20)));
        assert_eq!(effects.audit[1].details["latencyMs"], json!(expected));
        assert_eq!(bench.document.slot("a").map(|slot| slot.state), Some(ActiveState::Sent));
        assert!(bench.effects(|document, cx| document.sent(cx, seq)).is_empty());
        assert!(bench.effects(|document, cx| document.acked(cx, "a", sent_ms).1).is_empty());
        assert!(bench.effects(|document, cx| document.window_over(cx, seq)).is_empty());
    }
}

#[test]
fn a_frame_that_is_noted_late_was_sent_when_it_was_written() {
    let mut bench = Bench::new();
    let seq = bench.submit("a").unwrap().seq;
    bench.now_ms += 5_000;
    let effects = bench.effects(|document, cx| document.sent_at(cx, seq, NOW_MS + 40));
    assert_eq!(effects.close, [seq]);
    assert_eq!(bench.assert_last(Event::Injected, "a")["waitedMs"], 40);
    bench.now_ms += 1_000;
    assert_eq!(bench.step(|document, cx| document.acked(cx, "a", None)).0, Some(5_960));
}

#[test]
fn accepted_frees_the_slot_counts_once_and_calls_both_webhooks() {
    let mut bench = Bench::new();
    let seq = bench.send("a");
    bench.now_ms += 900;
    let (was_active, effects) = bench.answer("a", Answer::Accepted);
    assert!(was_active && effects.close.is_empty());
    let hooks: Vec<_> = effects.put.iter().map(|entry| &entry.payload).collect();
    let [Payload::Webhook { hook: Hook::KbSync, event_id, body }, Payload::Webhook { hook: Hook::OnAccept, .. }] =
        hooks.as_slice()
    else {
        panic!("{hooks:?}")
    };
    assert_eq!(event_id, &format!("7:a:{seq}:kbSync"));
    assert_eq!(
        body.reveal(),
        &json!({
            "hook": "kbSync", "event": "accepted", "interactionId": "7", "suggestionId": "a",
            "at": "2025-01-31T08:30:00.900Z", "eventId": event_id,
        })
    );
    assert_eq!(bench.assert_last(Event::Accepted, "a")["answeredAfterMs"], 900);
    let before = bench.document.clone();
    for answer in Answer::ALL {
        assert_eq!(bench.answer("a", answer), (false, Effects::default()));
    }
    assert_eq!(bench.document, before);
    assert_eq!((before.accepted, before.dismissed), (1, 0));
}

#[test]
fn dismissed_frees_the_slot_and_calls_only_the_one_that_is_told_of_everything() {
    let mut bench = Bench::new();
    bench.send("a");
    let (_, effects) = bench.answer("a", Answer::Dismissed);
    let [Entry { payload: Payload::Webhook { hook: Hook::KbSync, body, .. }, .. }] = effects.put.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!(body.reveal()["event"], "dismissed");
    assert_eq!((bench.document.accepted, bench.document.dismissed), (0, 1));
    assert!(bench.document.active.is_empty());
}

#[test]
fn without_webhooks_an_answer_puts_nothing() {
    let mut bench = Bench::new();
    bench.send("a");
    let (_, effects) = bench.step(|document, cx| document.answered(cx, "a", Answer::Accepted, Hooks::default()));
    assert!(effects.put.is_empty());
    assert!(bench.document.is_idle());
}

#[test]
fn an_answer_before_the_note_that_it_was_sent_closes_the_entry() {
    let mut bench = Bench::new();
    let seq = bench.submit("a").unwrap().seq;
    let (was_active, effects) = bench.answer("a", Answer::Accepted);
    assert!(was_active);
    assert_eq!(effects.close, [seq]);
    let events: Vec<_> = effects.audit.iter().map(|record| record.event.as_str()).collect();
    assert_eq!(events, [Event::Injected.label(), Event::Accepted.label()], "nobody answers what was not sent");
    assert!(bench.effects(|document, cx| document.sent(cx, seq)).is_empty());
}

#[test]
fn no_record_holds_a_word() {
    let mut bench = Bench::new();
    bench.send("a");
    bench.answer("a", Answer::Accepted);
    bench.popup("angry");
    bench.step(|document, cx| document.insights(cx, vec![card("b")]));
    let dead = suggestion("c", 0.1, NOW_MS);
    bench.step(|document, cx| document.submit(cx, &dead, &Rules::default())).0.unwrap_err();
    assert!(!serde_json::to_string(&bench.records).unwrap().contains("words"));
}

#[test]
fn an_empty_document_is_written_as_nothing_and_read_again() {
    assert_eq!(serde_json::to_string(&Interaction::default()).unwrap(), "{}");
    assert_eq!(serde_json::from_str::<Interaction>("{}").unwrap(), Interaction::default());
}

#[test]
fn a_document_in_which_every_limit_is_reached_stays_below_64_kib() {
    let mut bench = Bench::new();
    bench.document.next_seq = 9_000_000;
    for index in 0..POPUPS_MAX {
        let name = format!("{index:x>POPUP_NAME_BYTES_MAX$}");
        let card = PopupCard { card_id: name.clone(), ..popup_card("") };
        assert!(bench.step(|document, cx| document.popup(cx, &name, &card)).0);
    }
    for index in 0..Seen::MAX {
        let id = format!("{index:x>1000}");
        bench.step(|document, cx| document.insights(cx, vec![card(&id)]));
        bench.step(|document, cx| document.feedback(cx, &id, FeedbackAction::Accepted));
    }
    for index in 0..5 {
        bench.send(&format!("{index}{}", "\u{1f600}".repeat(127)));
    }
    bench.document.open.extend((9_100_000..).take(OPEN_MAX - bench.document.open.len()));
    bench.document.buried.extend((9_200_000..).take(BURIED_MAX));
    let text = serde_json::to_string(&bench.document).unwrap();
    assert!(text.len() < 64 * 1024, "{}", text.len());
    assert_eq!(serde_json::from_str::<Interaction>(&text).unwrap(), bench.document);
}

#[test]
fn a_document_of_an_ordinary_call_fits_one_write_unit() {
    let mut bench = Bench::new();
    for index in 0..10 {
        bench.send(&format!("suggestion-{index:08}"));
        bench.answer(&format!("suggestion-{index:08}"), Answer::Accepted);
    }
    for seq in 0..bench.document.next_seq {
        bench.effects(|document, cx| document.webhook_done(cx, seq));
    }
    for index in 0..5 {
        bench.send(&format!("suggestion-1{index:08}"));
    }
    bench.popup("angry");
    bench.effects(|document, cx| document.popup_done(cx, "angry"));
    bench.step(|document, cx| document.insights(cx, ["a", "b", "c", "d", "e"].map(card).to_vec()));
    let bytes = serde_json::to_string(&bench.document).unwrap().len();
    assert!(bytes < 1024, "{bytes}");
}
