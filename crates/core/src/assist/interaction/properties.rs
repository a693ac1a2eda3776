//! Every step in any order, late and repeated, against a store that only keeps count.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{NOW_MS, card, interaction_id, popup_card, suggestion};
use super::*;
use crate::assist::audit::{Event, Record, verify};
use crate::assist::card::FeedbackAction;
use crate::assist::outbox::{Dead, Payload};
use crate::assist::suggestion::Rules;

const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone)]
enum Op {
    Submit {
        id: u8,
        score: f64,
        window_ms: i64,
    },
    Sent(prop::sample::Index),
    SentAt(prop::sample::Index, i64),
    WindowOver(prop::sample::Index),
    Acked {
        id: u8,
        sent_ago_ms: Option<i64>,
    },
    Answered {
        id: u8,
        answer: Answer,
        hooks: Hooks,
    },
    Popup(u8),
    PopupDone(u8),
    PopupFailed(u8, OnFailure),
    Insights(Vec<u8>),
    InsightsDone(prop::sample::Index),
    Feedback(u8, FeedbackAction),
    FeedbackDone(prop::sample::Index),
    WebhookDone(prop::sample::Index),
    Dead(prop::sample::Index),
    Revived(prop::sample::Index),
    Dropped(prop::sample::Index),
    /// Clocks of two tasks may differ, so it also goes back.
    Pass(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let any_entry = any::<prop::sample::Index>;
    let hooks = || (any::<bool>(), any::<bool>()).prop_map(|(kb_sync, on_accept)| Hooks { kb_sync, on_accept });
    let answer = prop::sample::select(Answer::ALL.to_vec());
    let action = prop::sample::select(FeedbackAction::ALL.to_vec());
    let policy = prop::sample::select(vec![OnFailure::Free, OnFailure::DeadLetter]);
    prop_oneof![
        8 => (0..9_u8, 0.6..=1.0_f64, 0..120_000_i64)
            .prop_map(|(id, score, window_ms)| Op::Submit { id, score, window_ms }),
        4 => any_entry().prop_map(Op::Sent),
        2 => (any_entry(), -100..6_000_i64).prop_map(|(index, ago_ms)| Op::SentAt(index, ago_ms)),
        2 => any_entry().prop_map(Op::WindowOver),
        4 => (0..9_u8, prop::option::of(-100..1_000_i64))
            .prop_map(|(id, sent_ago_ms)| Op::Acked { id, sent_ago_ms }),
        4 => (0..9_u8, answer, hooks()).prop_map(|(id, answer, hooks)| Op::Answered { id, answer, hooks }),
        2 => (0..3_u8).prop_map(Op::Popup),
        2 => (0..3_u8).prop_map(Op::PopupDone),
        2 => (0..3_u8, policy).prop_map(|(trigger, policy)| Op::PopupFailed(trigger, policy)),
        1 => prop::collection::vec(0..9_u8, 0..5).prop_map(Op::Insights),
        1 => any_entry().prop_map(Op::InsightsDone),
        1 => (0..4_u8, action).prop_map(|(id, action)| Op::Feedback(id, action)),
        1 => any_entry().prop_map(Op::FeedbackDone),
        1 => any_entry().prop_map(Op::WebhookDone),
        2 => any_entry().prop_map(Op::Dead),
        2 => any_entry().prop_map(Op::Revived),
        1 => any_entry().prop_map(Op::Dropped),
        2 => (-1_000..40_000_i64).prop_map(Op::Pass),
        1 => Just(Op::Pass(LAPSE_GRACE_MS)),
    ]
}

/// What the store would hold.
#[derive(Default)]
struct Model {
    document: Interaction,
    now_ms: i64,
    entries: Vec<Entry>,
    living: BTreeSet<u64>,
    dead: BTreeSet<u64>,
    records: Vec<Record>,
    /// How often each trigger fired, less how often it was freed.
    popups: BTreeMap<String, i64>,
    answers: u32,
}

impl Model {
    fn apply(&mut self, op: Op) {
        let id = interaction_id();
        let before = self.document.clone();
        let effects = self.step(op, &Context { id: &id, now_ms: self.now_ms });
        assert_eq!(effects.is_empty(), before == self.document, "a change without effects, or the other way round");
        assert_eq!(effects.is_empty(), effects.audit.is_empty(), "effects without a record");
        self.write(effects);
        self.check();
    }

    fn step(&mut self, op: Op, cx: &Context<'_>) -> Effects {
        let entry = |index: prop::sample::Index, entries: &[Entry]| {
            (!entries.is_empty()).then(|| entries[index.index(entries.len())].clone())
        };
        let seq = |index, entries: &[Entry]| entry(index, entries).map_or(u64::MAX, |entry| entry.seq);
        let of_kind = |index, kind| Self::of_kind(&self.entries, index, kind);
        let document = &mut self.document;
        let name = |id: u8| format!("n-{id}");
        match op {
            Op::Submit { id, score, window_ms } => {
                let suggestion = suggestion(&name(id), score, cx.now_ms + window_ms);
                let was_active = document.slot(&suggestion.id).map(|slot| slot.seq);
                let (submitted, effects) = document.submit(cx, &suggestion, &Rules::default());
                if let (Some(former), Ok(submitted)) = (was_active, submitted) {
                    let lapsed = |record: &Record| {
                        [Event::Lapsed.label(), Event::Expired.label()].contains(&record.event.as_str())
                            && record.details["seq"] == former
                    };
                    assert!(effects.audit.iter().any(lapsed), "{submitted:?} was taken while active");
                }
                effects
            }
            Op::Sent(index) => document.sent(cx, seq(index, &self.entries)),
            Op::SentAt(index, ago_ms) => document.sent_at(cx, seq(index, &self.entries), cx.now_ms - ago_ms),
            Op::WindowOver(index) => document.window_over(cx, seq(index, &self.entries)),
            Op::Acked { id, sent_ago_ms } => {
                document.acked(cx, &name(id), sent_ago_ms.map(|ago_ms| cx.now_ms - ago_ms)).1
            }
            Op::Answered { id, answer, hooks } => {
                let (was_active, effects) = document.answered(cx, &name(id), answer, hooks);
                self.answers += u32::from(was_active);
                assert_eq!(was_active, !effects.is_empty());
                effects
            }
            Op::Popup(id) => document.popup(cx, &name(id), &popup_card(&name(id))).1,
            Op::PopupDone(id) => document.popup_done(cx, &name(id)),
            Op::PopupFailed(id, policy) => document.popup_failed(cx, &name(id), policy, "refused"),
            Op::Insights(ids) => document.insights(cx, ids.into_iter().map(|id| card(&name(id))).collect()).1,
            Op::InsightsDone(index) => document.insights_done(cx, of_kind(index, "insights")),
            Op::Feedback(id, action) => document.feedback(cx, &name(id), action).1,
            Op::FeedbackDone(index) => document.feedback_done(cx, of_kind(index, "feedback")),
            Op::WebhookDone(index) => document.webhook_done(cx, of_kind(index, "webhook")),
            Op::Dead(index) => match entry(index, &self.entries) {
                Some(entry) => document.dead(cx, &entry, "attempts_max"),
                None => Effects::default(),
            },
            Op::Revived(index) => self.by_operator(index, cx, true),
            Op::Dropped(index) => self.by_operator(index, cx, false),
            Op::Pass(ms) => {
                self.now_ms += ms;
                Effects::default()
            }
        }
    }

    /// A task settles only what it has sent: an entry of the kind that the step is for.
    fn of_kind(entries: &[Entry], index: prop::sample::Index, kind: &str) -> u64 {
        let entries: Vec<_> = entries.iter().filter(|entry| entry.payload.label() == kind).collect();
        if entries.is_empty() { u64::MAX } else { entries[index.index(entries.len())].seq }
    }

    /// An operator was shown any entry at any time, perhaps as a dead letter: by now it may be something else.
    fn by_operator(&mut self, index: prop::sample::Index, cx: &Context<'_>, revive: bool) -> Effects {
        if self.entries.is_empty() {
            return Effects::default();
        }
        let shown = self.entries[index.index(self.entries.len())].clone();
        let is_dead = self.dead.contains(&shown.seq);
        let is_there = is_dead || self.living.contains(&shown.seq);
        let shown = Entry { dead: Some(Dead { reason: "refused".into(), at_ms: cx.now_ms }), ..shown };
        if revive {
            let effects = self.document.revived(cx, &shown);
            assert!(is_dead || effects.is_empty(), "what is not dead was revived");
            return effects;
        }
        let effects = self.document.dropped(cx, &shown);
        assert_eq!(is_there, !effects.is_empty());
        effects
    }

    fn write(&mut self, effects: Effects) {
        for seq in &effects.close {
            assert!(self.living.remove(seq) || self.dead.remove(seq), "{seq} was closed and is not there");
        }
        for (seq, _) in &effects.bury {
            assert!(self.living.remove(seq), "{seq} was buried and does not live");
            assert!(self.dead.insert(*seq));
        }
        for entry in &effects.put {
            assert!(self.entries.iter().all(|known| known.seq != entry.seq), "{} was given twice", entry.seq);
            assert!(self.living.insert(entry.seq));
        }
        for record in &effects.audit {
            let fired = i64::from(record.event == Event::PopupPending.label());
            let freed = i64::from(record.event == Event::PopupFreed.label());
            if fired + freed > 0 {
                let trigger = record.details["trigger"].as_str().unwrap().to_owned();
                *self.popups.entry(trigger).or_default() += fired - freed;
            }
        }
        self.entries.extend(effects.put);
        for record in effects.audit {
            self.check_cause(&record);
            self.records.push(record);
        }
    }

    /// What happens to a suggestion happens after its cause, and what happens once is recorded once.
    fn check_cause(&self, record: &Record) {
        let known = |event: Event| {
            let of_same =
                |known: &&Record| known.event == event.label() && known.details["seq"] == record.details["seq"];
            self.records.iter().filter(of_same).count()
        };
        let is = |event: Event| record.event == event.label();
        let is_answer = is(Event::Accepted) || is(Event::Dismissed);
        if is(Event::Injected) {
            assert_eq!(known(Event::Injected), 0, "injected twice");
        }
        if is(Event::Acknowledged) || is(Event::Lapsed) || is_answer {
            assert_eq!(known(Event::Injected), 1, "{} before it was injected", record.event);
            assert_eq!(known(Event::Accepted) + known(Event::Dismissed) + known(Event::Lapsed), 0);
        }
        if is(Event::Acknowledged) {
            assert_eq!(known(Event::Acknowledged), 0, "acknowledged twice");
        }
        if is(Event::Expired) {
            assert_eq!(known(Event::Injected), 0, "expired after it was injected");
        }
    }

    fn check(&self) {
        let document = &self.document;
        assert!(document.active.len() <= 5, "more than five are active");
        let ids: BTreeSet<_> = document.active.iter().map(|slot| &slot.id).collect();
        assert_eq!(ids.len(), document.active.len(), "an id is active twice");
        assert_eq!(document.open, self.living, "the document and the store disagree on what lives");
        assert_eq!(document.buried, self.dead, "the document and the store disagree on what is dead");
        assert!(self.popups.values().all(|fired| (0..=1).contains(fired)), "a trigger fired twice: {:?}", self.popups);
        assert_eq!(document.accepted + document.dismissed, self.answers);

        // Whatever waits to be sent holds a slot, and the other way round: nothing is lost, and no slot leaks.
        let queued = document.active.iter().filter(|slot| slot.state == ActiveState::Queued).map(|slot| slot.seq);
        let unsent = self.entries.iter().filter(|entry| matches!(entry.payload, Payload::Suggestion(_)));
        let unsent = unsent.map(|entry| entry.seq).filter(|seq| self.living.contains(seq));
        assert_eq!(queued.collect::<BTreeSet<_>>(), unsent.collect());
        let pending = document.popups.values().filter(|mark| mark.state == PopupState::Pending).map(|mark| mark.seq);
        let undelivered = self.entries.iter().filter(|entry| matches!(entry.payload, Payload::Popup { .. }));
        let undelivered = undelivered.map(|entry| entry.seq).filter(|seq| self.living.contains(seq));
        assert_eq!(pending.collect::<BTreeSet<_>>(), undelivered.collect());

        let text = serde_json::to_string(document).unwrap();
        assert!(text.len() < DOCUMENT_BYTES_MAX);
        assert_eq!(&serde_json::from_str::<Interaction>(&text).unwrap(), document);
    }
}

proptest! {
    #[test]
    fn whatever_comes_in_whatever_order_the_rules_hold(ops in prop::collection::vec(op(), 1..80)) {
        let mut model = Model { now_ms: NOW_MS, ..Model::default() };
        for op in ops {
            model.apply(op);
        }
        let verified = verify(model.records.iter().cloned(), Some(&model.document.audit)).unwrap();
        prop_assert_eq!(verified.count, model.records.len() as u64);
    }
}
