//! However many step an interaction at once, its document, its entries and its audit say the same.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use earpiece_core::assist::audit::{self, Record};
use earpiece_core::assist::{
    Answer, Context, Effects, Hooks, Interaction, InteractionId, Lane, Payload, Priority, Rejection, Rules, Submitted,
    Suggestion, Window,
};
use earpiece_core::secret::Private;
use tokio::task::JoinSet;

use super::{Scene, ms};
use crate::interaction::{DOCUMENT_BYTES_MAX, STEP_EFFECTS_MAX};
use crate::key::Key;
use crate::outbox::PAYLOAD_BYTES_MAX;
use crate::read::PAGE_ITEMS_MAX;
use crate::{Store, StoreError};

/// Submitters at once.
const AT_ONCE: usize = 50;
/// How often a race is run.
const ROUNDS: usize = 3;
/// How many suggestions may be active, by the documented rules.
const ACTIVE_MAX: usize = 5;
/// How long a step is kept, here.
pub(super) const KEEP_MS: u64 = 3_600_000;

/// Every case of this module.
pub async fn all(store: &Store) {
    of_submitters_at_once_only_as_many_as_may_are_taken(&several(store)).await;
    a_freed_slot_is_taken_once(&several(store)).await;
    answers_and_submissions_at_once_leave_nothing_twice_and_nothing_out(&several(store)).await;
    what_is_unknown_is_empty(store).await;
    a_step_that_changes_nothing_writes_nothing(store).await;
    a_step_without_effects_writes_the_document_alone(store).await;
    an_expired_interaction_begins_anew(store).await;
    what_waits_to_leave_keeps_its_interaction(store).await;
    who_keeps_shorter_takes_nothing_from_who_kept_longer(store).await;
    a_record_that_has_not_expired_is_never_written_over(store).await;
    an_entry_that_somebody_deleted_does_not_hold_its_slot(store).await;
    an_audit_of_many_pages_is_read_whole(store).await;
    what_does_not_fit_is_refused_and_leaves_no_trace(store).await;
    whoever_waits_is_told_of_what_was_put_and_of_nothing_else(store).await;
}

/// As many tasks would see the table: two share what a process shares, the others share nothing.
fn several(store: &Store) -> Vec<Store> {
    let alone = |_| Store::new(store.client.clone(), store.table());
    [store.clone(), store.clone()].into_iter().chain((0..3).map(alone)).collect()
}

impl Scene {
    /// An interaction of its own for every scene.
    pub(super) fn interaction_id(&self) -> InteractionId {
        InteractionId::parse(&format!("{}-{}", self.contact.bus_no, self.contact.contact_id)).unwrap()
    }

    /// The same scene as another task sees it.
    fn through(&self, store: &Store) -> Self {
        Self { store: store.clone(), ..self.clone() }
    }

    pub(super) fn suggestion(&self, id: &str) -> Suggestion {
        Suggestion {
            id: id.to_owned(),
            content: Private::new(String::from("offer the usual refund")),
            priority: Priority::High,
            relevance_score: 0.9,
            context_window: Window { start_ms: self.now_ms, end_ms: self.now_ms + ms(KEEP_MS) },
        }
    }

    /// One step, kept for [`KEEP_MS`].
    pub(super) async fn step<T>(
        &self,
        after_ms: i64,
        step: impl FnMut(&mut Interaction, &Context<'_>) -> (T, Effects) + Send,
    ) -> T {
        self.step_kept(after_ms, KEEP_MS, step).await.unwrap()
    }

    async fn step_kept<T>(
        &self,
        after_ms: i64,
        keep_ms: u64,
        mut step: impl FnMut(&mut Interaction, &Context<'_>) -> (T, Effects) + Send,
    ) -> Result<T, StoreError> {
        let (id, now_ms) = (self.interaction_id(), self.now_ms + after_ms);
        let cx = Context { id: &id, now_ms };
        self.store.step_interaction(&id, now_ms, keep_ms, |interaction| step(interaction, &cx)).await
    }

    pub(super) async fn submit(&self, id: &str, after_ms: i64) -> Result<Submitted, Rejection> {
        let suggestion = self.suggestion(id);
        self.step(after_ms, |interaction, cx| interaction.submit(cx, &suggestion, &Rules::default())).await
    }

    pub(super) async fn sent(&self, seq: u64, after_ms: i64) {
        self.step(after_ms, |interaction, cx| ((), interaction.sent(cx, seq))).await;
    }

    pub(super) async fn answered(&self, id: &str, hooks: Hooks, after_ms: i64) -> bool {
        self.step(after_ms, |interaction, cx| interaction.answered(cx, id, Answer::Accepted, hooks)).await
    }

    pub(super) async fn interaction(&self, after_ms: i64) -> Interaction {
        self.store.interaction(&self.interaction_id(), self.now_ms + after_ms).await.unwrap().interaction
    }

    pub(super) async fn entry_numbers(&self, lane: Lane) -> Vec<u64> {
        let entries = self.store.outbox(&self.interaction_id(), lane, self.now_ms).await.unwrap();
        entries.iter().map(|entry| entry.seq).collect()
    }

    /// The audit, which has to be whole.
    pub(super) async fn whole_audit(&self, after_ms: i64) -> Vec<Record> {
        let records = self.store.audit(&self.interaction_id()).await.unwrap();
        let head = self.interaction(after_ms).await.audit;
        let verified = audit::verify(records.clone().into_iter(), Some(&head)).unwrap();
        assert_eq!(verified.count, records.len() as u64);
        records
    }
}

/// Half of them bring an id that another brings too. Every one is told what the table then says.
pub async fn of_submitters_at_once_only_as_many_as_may_are_taken(stores: &[Store]) {
    for _ in 0..ROUNDS {
        let scene = Scene::new(&stores[0]);
        let mut submitters = JoinSet::new();
        for (submitter, store) in (0..AT_ONCE).zip(stores.iter().cycle()) {
            let scene = scene.through(store);
            submitters.spawn(async move {
                let id = format!("s{}", submitter / 2);
                (scene.submit(&id, 0).await, id)
            });
        }
        let judged = submitters.join_all().await;
        let taken: Vec<_> = judged.iter().filter_map(|(judged, id)| Some((judged.as_ref().ok()?.seq, id))).collect();
        let taken_ids: BTreeSet<_> = taken.iter().map(|(_, id)| id.as_str()).collect();
        assert_eq!((taken.len(), taken_ids.len()), (ACTIVE_MAX, ACTIVE_MAX), "{judged:?}");

        let interaction = scene.interaction(0).await;
        let active: BTreeSet<_> = interaction.active.iter().map(|slot| slot.id.as_str()).collect();
        assert_eq!((interaction.active.len(), active), (ACTIVE_MAX, taken_ids));
        let entries = scene.store.outbox(&scene.interaction_id(), Lane::Suggestions, scene.now_ms).await.unwrap();
        let mut seqs: Vec<_> = taken.iter().map(|(seq, _)| *seq).collect();
        seqs.sort_unstable();
        assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), seqs);
        for entry in &entries {
            let Payload::Suggestion(suggestion) = &entry.payload else { panic!("{entry:?}") };
            assert!(taken.contains(&(entry.seq, &suggestion.id)), "{entry:?}");
        }
        assert_eq!(scene.whole_audit(0).await.len(), AT_ONCE, "one record for everybody");
    }
}

/// By whoever is first, and the others are told that all are taken.
pub async fn a_freed_slot_is_taken_once(stores: &[Store]) {
    let scene = Scene::new(&stores[0]);
    for id in 0..ACTIVE_MAX {
        scene.submit(&format!("s{id}"), 0).await.unwrap();
    }
    assert!(scene.answered("s0", Hooks::default(), 1).await);
    let mut submitters = JoinSet::new();
    for (submitter, store) in (0..AT_ONCE / 2).zip(stores.iter().cycle()) {
        let scene = scene.through(store);
        submitters.spawn(async move { scene.submit(&format!("new-{submitter}"), 2).await });
    }
    let judged = submitters.join_all().await;
    assert_eq!(judged.iter().filter(|judged| judged.is_ok()).count(), 1);
    let is_full = |judged: &Result<_, Rejection>| matches!(judged, Err(Rejection::BufferFull { .. }));
    assert_eq!(judged.iter().filter(|judged| is_full(judged)).count(), AT_ONCE / 2 - 1);
    assert_eq!(scene.entry_numbers(Lane::Suggestions).await.len(), ACTIVE_MAX, "that of the answered one is closed");
    scene.whole_audit(2).await;
}

/// Each answer comes three times, while others submit.
pub async fn answers_and_submissions_at_once_leave_nothing_twice_and_nothing_out(stores: &[Store]) {
    let scene = Scene::new(&stores[0]);
    for id in 0..ACTIVE_MAX {
        let submitted = scene.submit(&format!("old-{id}"), 0).await.unwrap();
        scene.sent(submitted.seq, 1).await;
    }
    let hooks = Hooks { kb_sync: true, on_accept: true };
    let mut steps = JoinSet::new();
    for (step, store) in (0..ACTIVE_MAX * 3).zip(stores.iter().cycle()) {
        let (answering, submitting) = (scene.through(store), scene.through(store));
        steps.spawn(async move { answering.answered(&format!("old-{}", step % ACTIVE_MAX), hooks, 2).await });
        steps.spawn(async move {
            // Whether it is taken depends on who was first.
            drop(submitting.submit(&format!("new-{step}"), 2).await);
            false
        });
    }
    let counted = steps.join_all().await.into_iter().filter(|counted| *counted).count();
    let interaction = scene.interaction(2).await;
    assert_eq!((counted, interaction.accepted), (ACTIVE_MAX, 5));
    assert!(interaction.active.len() <= ACTIVE_MAX && interaction.slot("old-0").is_none());
    assert_eq!(scene.entry_numbers(Lane::Suggestions).await.len(), interaction.active.len());
    let webhooks = scene.store.outbox(&scene.interaction_id(), Lane::Webhooks, scene.now_ms).await.unwrap();
    let events: BTreeSet<_> = webhooks.iter().map(|entry| entry.payload.subject()).collect();
    assert_eq!((webhooks.len(), events.len()), (2 * ACTIVE_MAX, 2 * ACTIVE_MAX));
    let known: BTreeSet<_> = interaction.open.iter().copied().collect();
    let mut open = scene.entry_numbers(Lane::Suggestions).await;
    open.extend(webhooks.iter().map(|entry| entry.seq));
    assert_eq!(open.into_iter().collect::<BTreeSet<_>>(), known, "the document knows what lies there");
    scene.whole_audit(2).await;
}

/// No error, no record.
pub async fn what_is_unknown_is_empty(store: &Store) {
    let scene = Scene::new(store);
    let record = store.interaction(&scene.interaction_id(), scene.now_ms).await.unwrap();
    assert_eq!((record.version, record.interaction), (0, Interaction::default()));
    assert_eq!(store.audit(&scene.interaction_id()).await.unwrap(), []);
    assert!(scene.entry_numbers(Lane::Suggestions).await.is_empty());
}

/// Neither for an interaction that is there nor for one that is not.
pub async fn a_step_that_changes_nothing_writes_nothing(store: &Store) {
    let scene = Scene::new(store);
    for version in [0, 1] {
        assert!(!scene.answered("unknown", Hooks::default(), 0).await);
        let record = store.interaction(&scene.interaction_id(), scene.now_ms).await.unwrap();
        assert_eq!(record.version, version);
        scene.submit(&format!("known-{version}"), 0).await.unwrap();
    }
}

/// And loses nothing when others do the same.
pub async fn a_step_without_effects_writes_the_document_alone(store: &Store) {
    let scene = Scene::new(store);
    let mut steps = JoinSet::new();
    for store in several(store) {
        let scene = scene.through(&store);
        steps.spawn(async move {
            let counting = |interaction: &mut Interaction, _: &Context<'_>| {
                interaction.accepted += 1;
                ((), Effects::default())
            };
            scene.step(0, counting).await;
        });
    }
    let count = steps.join_all().await.len();
    let record = store.interaction(&scene.interaction_id(), scene.now_ms).await.unwrap();
    assert_eq!((record.version, record.interaction.accepted as usize), (count as u64, count));
}

/// Deleted or not. What its earlier life left behind is in nobody's way, and not in the new audit.
pub async fn an_expired_interaction_begins_anew(store: &Store) {
    let scene = Scene::new(store);
    let seq = scene.submit("s1", 0).await.unwrap().seq;
    scene.sent(seq, 1).await;
    assert!(scene.answered("s1", Hooks::default(), 2).await);
    assert_eq!(scene.whole_audit(2).await.len(), 3);

    let expired_ms = ms(KEEP_MS) + 2000;
    let expired = store.interaction(&scene.interaction_id(), scene.now_ms + expired_ms).await.unwrap();
    assert_eq!((expired.version, expired.interaction), (0, Interaction::default()));
    let later = Scene { now_ms: scene.now_ms + expired_ms, ..scene.clone() };
    let again = later.submit("s1", 0).await.unwrap();
    assert_eq!(again.seq, seq, "numbers begin again");
    let records = later.whole_audit(0).await;
    assert_eq!(records.iter().map(|record| record.at_ms).collect::<Vec<_>>(), [later.now_ms]);
    assert_eq!(later.entry_numbers(Lane::Suggestions).await, [seq]);
}

/// For as long as nothing can be sent.
pub async fn what_waits_to_leave_keeps_its_interaction(store: &Store) {
    let scene = Scene::new(store);
    let seq = scene.submit("s1", 0).await.unwrap().seq;
    let late_ms = 1000 * ms(KEEP_MS);
    assert_eq!(scene.interaction(late_ms).await.active.len(), 1);
    let entries = store.outbox(&scene.interaction_id(), Lane::Suggestions, scene.now_ms + late_ms).await.unwrap();
    assert_eq!(entries.len(), 1);
    scene.sent(seq, late_ms).await;
    assert_eq!(scene.interaction(late_ms + ms(KEEP_MS) - 1).await.active.len(), 1);
    assert_eq!(scene.interaction(late_ms + ms(KEEP_MS) + 1000).await, Interaction::default());
}

/// Otherwise numbers would begin again before the records that have them are gone.
pub async fn who_keeps_shorter_takes_nothing_from_who_kept_longer(store: &Store) {
    let scene = Scene::new(store);
    let seq = scene.submit("s1", 0).await.unwrap().seq;
    scene.step_kept(1, 1000, |interaction, cx| ((), interaction.sent(cx, seq))).await.unwrap();
    assert_eq!(scene.interaction(ms(KEEP_MS) - 1).await.active.len(), 1);
    assert_eq!(scene.interaction(ms(KEEP_MS) + 1000).await, Interaction::default());
}

/// Not even when the document is lost.
pub async fn a_record_that_has_not_expired_is_never_written_over(store: &Store) {
    let scene = Scene::new(store);
    let seq = scene.submit("s1", 0).await.unwrap().seq;
    scene.sent(seq, 1).await;
    let audit = scene.whole_audit(1).await;
    delete(store, &Key::interaction(&scene.interaction_id())).await;
    let suggestion = scene.suggestion("s2");
    let submitting =
        |interaction: &mut Interaction, cx: &Context<'_>| interaction.submit(cx, &suggestion, &Rules::default());
    let refused = scene.step_kept(2, KEEP_MS, submitting).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Damaged { attribute } if attribute.starts_with("AUDIT#")), "{refused}");
    assert_eq!(store.audit(&scene.interaction_id()).await.unwrap(), audit);
    assert!(scene.entry_numbers(Lane::Suggestions).await.is_empty(), "all or nothing");
}

/// Whether it would have been closed or buried.
pub async fn an_entry_that_somebody_deleted_does_not_hold_its_slot(store: &Store) {
    let scene = Scene::new(store);
    for id in ["buried", "answered"] {
        let seq = scene.submit(id, 0).await.unwrap().seq;
        let entries = store.outbox(&scene.interaction_id(), Lane::Suggestions, scene.now_ms).await.unwrap();
        delete(store, &Key::entry(&scene.interaction_id(), seq)).await;
        match id {
            "buried" => scene.step(1, |interaction, cx| ((), interaction.dead(cx, &entries[0], "refused"))).await,
            _ => assert!(scene.answered(id, Hooks::default(), 1).await),
        }
        assert_eq!(scene.interaction(1).await.active, []);
    }
    let dead = store.dead_entries(super::EVERYTHING).await.unwrap();
    assert!(!dead.iter().any(|entry| entry.interaction == scene.interaction_id()), "and nothing is made up");
    scene.whole_audit(1).await;
}

/// In the order of its numbers.
pub async fn an_audit_of_many_pages_is_read_whole(store: &Store) {
    let scene = Scene::new(store);
    let count = PAGE_ITEMS_MAX * 2 + 1;
    let suggestion = Suggestion { relevance_score: 0.1, ..scene.suggestion("weak") };
    let mut left = count;
    while left > 0 {
        let together = left.min(STEP_EFFECTS_MAX);
        scene
            .step(0, |interaction, cx| {
                let refused = (0..together).map(|_| interaction.submit(cx, &suggestion, &Rules::default()).1);
                let audit = refused.flat_map(|effects| effects.audit).collect();
                ((), Effects { audit, ..Effects::default() })
            })
            .await;
        left -= together;
    }
    assert_eq!(scene.whole_audit(0).await.len(), count);
}

/// Whichever part of it does not.
pub async fn what_does_not_fit_is_refused_and_leaves_no_trace(store: &Store) {
    let scene = Scene::new(store);
    let weak = Suggestion { relevance_score: 0.1, ..scene.suggestion("weak") };
    let too_many = |interaction: &mut Interaction, cx: &Context<'_>| {
        let refused = (0..=STEP_EFFECTS_MAX).map(|_| interaction.submit(cx, &weak, &Rules::default()).1);
        let audit = refused.flat_map(|effects| effects.audit).collect();
        ((), Effects { audit, ..Effects::default() })
    };
    let refused = scene.step_kept(0, KEEP_MS, too_many).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Refused { code, .. } if code == "TooManyEffects"), "{refused}");

    let long = Private::new("x".repeat(PAYLOAD_BYTES_MAX));
    let long = Suggestion { content: long, ..scene.suggestion("long") };
    let too_large = |interaction: &mut Interaction, cx: &Context<'_>| {
        let (_, effects) = interaction.submit(cx, &long, &Rules::default());
        ((), effects)
    };
    let refused = scene.step_kept(0, KEEP_MS, too_large).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { bytes_max: PAYLOAD_BYTES_MAX, .. }), "{refused}");

    let too_long = |interaction: &mut Interaction, _: &Context<'_>| {
        interaction.audit.hash = "x".repeat(DOCUMENT_BYTES_MAX);
        interaction.audit.count = 1;
        ((), Effects::default())
    };
    let refused = scene.step_kept(0, KEEP_MS, too_long).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { bytes_max: DOCUMENT_BYTES_MAX, .. }), "{refused}");
    let record = store.interaction(&scene.interaction_id(), scene.now_ms).await.unwrap();
    assert_eq!((record.version, store.audit(&scene.interaction_id()).await.unwrap()), (0, vec![]));
}

/// A clone tells it of its fellows' entries too.
pub async fn whoever_waits_is_told_of_what_was_put_and_of_nothing_else(store: &Store) {
    // Nobody else puts anything through this one.
    let store = Store::new(store.client.clone(), store.table());
    let scene = Scene::new(&store);
    let changed = store.clone().outbox_changed();
    let mut told = pin!(changed.notified());
    assert!(!told.as_mut().enable());
    let submitted = scene.submit("s1", 0).await.unwrap();
    assert!(tokio::time::timeout(Duration::ZERO, told).await.is_ok());
    let mut told = pin!(changed.notified());
    assert!(!told.as_mut().enable());
    scene.sent(submitted.seq, 1).await;
    assert!(tokio::time::timeout(Duration::ZERO, told).await.is_err());
}

/// As somebody does who does not know what it is.
async fn delete(store: &Store, key: &Key) {
    store.client.delete_item().table_name(store.table()).set_key(Some(key.to_item())).send().await.unwrap();
}
