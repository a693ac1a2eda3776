//! What waits to leave is due, is sent by one, and is a dead letter only until somebody decides.

use earpiece_core::assist::card::{Card, CardKind, CardMetadata, PopupCard};
use earpiece_core::assist::interaction::PopupState;
use earpiece_core::assist::{Effects, Entry, Hooks, InteractionId, Lane};
use earpiece_core::secret::Private;
use tokio::task::JoinSet;

use super::interactions::KEEP_MS;
use super::{EVERYTHING, Scene, eventually, ms};
use crate::Store;

/// Senders or operators at once.
const AT_ONCE: u64 = 20;
/// For how long a claim holds, here.
const LEASE_MS: u64 = 10_000;

/// Every case of this module.
pub async fn all(store: &Store) {
    each_lane_sees_its_own(store).await;
    the_longest_overdue_interactions_come_first_each_once(store).await;
    entries_come_in_the_order_of_their_numbers(store).await;
    of_claims_under_one_token_exactly_one_sends(store).await;
    whoever_comes_after_a_kill_claims_again(store).await;
    an_old_token_loses_once_a_new_one_has_claimed(store).await;
    of_claims_under_many_tokens_the_latest_stands(store).await;
    what_is_closed_or_dead_cannot_be_claimed(store).await;
    a_dead_letter_is_brought_back_and_delivered(store).await;
    of_operators_exactly_one_decides(store).await;
    what_is_dropped_is_gone(store).await;
    an_expired_dead_letter_is_nobodys(store).await;
}

impl Scene {
    /// A popup waits to leave.
    async fn popup(&self, trigger: &str, after_ms: i64) {
        let card = PopupCard {
            card_id: format!("card-{trigger}"),
            kind: CardKind::Warning,
            title: String::from("Angry"),
            content: Private::new(String::from("be kind")),
            metadata: CardMetadata {
                source: CardMetadata::SOURCE.to_owned(),
                timestamp: String::from("2026-01-01T00:00:00.000Z"),
            },
        };
        assert!(self.step(after_ms, |interaction, cx| interaction.popup(cx, trigger, &card)).await);
    }

    async fn insight(&self, id: &str) {
        let card = Card {
            id: id.to_owned(),
            title: Private::new(String::from("Refunds")),
            priority: 1,
            score: 0.5,
            citation: String::new(),
            snippet: Private::new(String::from("Within a month.")),
            interaction_id: self.interaction_id(),
        };
        assert_eq!(self.step(0, |interaction, cx| interaction.insights(cx, vec![card.clone()])).await, 1);
    }

    /// The one entry that waits in a lane.
    async fn waiting(&self, lane: Lane) -> Entry {
        let mut entries = self.store.outbox(&self.interaction_id(), lane, self.now_ms).await.unwrap();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    }

    /// A suggestion that waits.
    async fn waiting_suggestion(&self) -> Entry {
        self.submit("s1", 0).await.unwrap();
        self.waiting(Lane::Suggestions).await
    }

    async fn due(&self, lane: Lane, after_ms: i64) -> bool {
        let due = self.store.due_interactions(lane, self.now_ms + after_ms, EVERYTHING).await.unwrap();
        due.contains(&self.interaction_id())
    }

    async fn claim_entry(&self, entry: &Entry, token: u64, after_ms: i64) -> bool {
        self.store.claim_entry(entry, token, self.now_ms + after_ms, LEASE_MS).await.unwrap()
    }

    async fn bury_entry(&self, entry: &Entry, after_ms: i64) {
        self.step(after_ms, |interaction, cx| ((), interaction.dead(cx, entry, "refused"))).await;
    }

    async fn dead_entries(&self) -> Vec<Entry> {
        let dead = self.store.dead_entries(EVERYTHING).await.unwrap();
        dead.into_iter().filter(|entry| entry.interaction == self.interaction_id()).collect()
    }

    async fn revive(&self, seq: u64, after_ms: i64) -> bool {
        self.store.revive_entry(&self.interaction_id(), seq, self.now_ms + after_ms).await.unwrap()
    }

    async fn drop_entry(&self, seq: u64, after_ms: i64) -> bool {
        self.store.drop_entry(&self.interaction_id(), seq, self.now_ms + after_ms).await.unwrap()
    }

    /// Leaves nothing behind that others of the table might take for theirs.
    async fn clear(&self) {
        for seq in self.interaction(0).await.open {
            assert!(self.drop_entry(seq, 0).await);
        }
    }
}

/// In 1970, so that its entries are before everybody else's.
fn long_ago(store: &Store, second: i64) -> Scene {
    Scene { now_ms: second * 1000, ..Scene::new(store) }
}

/// Of one interaction as of many.
pub async fn each_lane_sees_its_own(store: &Store) {
    let scene = long_ago(store, 1);
    let due = async || {
        let mut due = Vec::new();
        for lane in Lane::ALL {
            due.push((scene.due(lane, -1).await, scene.due(lane, 0).await));
        }
        due
    };
    let (no, yes) = ((false, false), (false, true));
    assert_eq!(due().await, [no, no, no, no]);
    scene.submit("s1", 0).await.unwrap();
    assert!(eventually(async || due().await == [yes, no, no, no]).await);
    scene.popup("angry", 0).await;
    assert!(eventually(async || due().await == [yes, no, yes, no]).await);
    scene.insight("a1").await;
    assert!(eventually(async || due().await == [yes, yes, yes, no]).await);
    assert!(scene.answered("s1", Hooks { kb_sync: true, on_accept: false }, 0).await);
    assert!(eventually(async || due().await == [no, yes, yes, yes]).await);
    for (lane, label) in [(Lane::Insights, "insights"), (Lane::Popups, "popup"), (Lane::Webhooks, "webhook")] {
        assert_eq!(scene.waiting(lane).await.payload.label(), label);
        assert!(eventually(async || store.oldest_due_ms(lane).await.unwrap() == Some(scene.now_ms)).await);
    }
    assert!(scene.entry_numbers(Lane::Suggestions).await.is_empty());
    scene.clear().await;
    assert!(eventually(async || due().await == [no, no, no, no]).await);
    assert!(eventually(async || store.oldest_due_ms(Lane::Popups).await.unwrap() != Some(scene.now_ms)).await);
}

/// Over all shards of the index, and however many entries each of them has.
pub async fn the_longest_overdue_interactions_come_first_each_once(store: &Store) {
    let scenes: Vec<_> = (1..=8).map(|second| long_ago(store, second)).collect();
    for scene in scenes.iter().rev() {
        for trigger in ["one", "two", "three"] {
            scene.popup(trigger, 0).await;
        }
    }
    let ids: Vec<_> = scenes.iter().map(Scene::interaction_id).collect();
    for limit in [8, 3, 1, 0] {
        let is_right = async || {
            let due: Vec<InteractionId> = store.due_interactions(Lane::Popups, 8000, limit).await.unwrap();
            due == ids[..limit]
        };
        assert!(eventually(is_right).await, "limit {limit}");
    }
    for scene in &scenes {
        scene.clear().await;
    }
}

/// Of those as figures, and not as texts.
pub async fn entries_come_in_the_order_of_their_numbers(store: &Store) {
    let scene = Scene::new(store);
    for trigger in 0..12 {
        scene.popup(&format!("t{trigger}"), 0).await;
    }
    assert_eq!(scene.entry_numbers(Lane::Popups).await, (0..12).collect::<Vec<_>>());
    scene.clear().await;
}

/// And it counts as one attempt.
pub async fn of_claims_under_one_token_exactly_one_sends(store: &Store) {
    let scene = Scene::new(store);
    let entry = scene.waiting_suggestion().await;
    assert_eq!((entry.attempts, entry.sender, entry.due_ms), (0, None, scene.now_ms));
    for (round, after_ms) in [(1, 0), (2, ms(LEASE_MS))] {
        let mut senders = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (scene, entry) = (scene.clone(), entry.clone());
            senders.spawn(async move { scene.claim_entry(&entry, 3, after_ms).await });
        }
        assert_eq!(senders.join_all().await.into_iter().filter(|claimed| *claimed).count(), 1);
        let claimed = scene.waiting(Lane::Suggestions).await;
        let due_ms = scene.now_ms + after_ms + ms(LEASE_MS);
        assert_eq!((claimed.attempts, claimed.sender, claimed.due_ms), (round, Some(3), due_ms));
        assert_eq!(claimed.payload, entry.payload);
    }
    scene.clear().await;
}

/// Itself when its claim has run out, a successor at once.
pub async fn whoever_comes_after_a_kill_claims_again(store: &Store) {
    let scene = Scene::new(store);
    let entry = scene.waiting_suggestion().await;
    assert!(scene.claim_entry(&entry, 1, 0).await);
    assert!(!scene.claim_entry(&entry, 1, ms(LEASE_MS) - 1).await);
    assert!(scene.claim_entry(&entry, 1, ms(LEASE_MS)).await);
    assert!(scene.claim_entry(&entry, 2, ms(LEASE_MS)).await);
    assert_eq!(scene.waiting(Lane::Suggestions).await.attempts, 3);
    scene.sent(entry.seq, ms(LEASE_MS)).await;
    assert!(scene.entry_numbers(Lane::Suggestions).await.is_empty());
    scene.whole_audit(0).await;
}

/// Due or not, and it cannot put off what another sends.
pub async fn an_old_token_loses_once_a_new_one_has_claimed(store: &Store) {
    let scene = Scene::new(store);
    let entry = scene.waiting_suggestion().await;
    let put_off = async |token, after_ms| {
        store.put_off_entry(&entry, token, scene.now_ms + after_ms).await.unwrap();
        scene.waiting(Lane::Suggestions).await.due_ms - scene.now_ms
    };
    assert!(scene.claim_entry(&entry, 1, 0).await);
    assert_eq!(put_off(1, 500).await, 500);
    assert!(!scene.claim_entry(&entry, 1, 499).await && scene.claim_entry(&entry, 1, 500).await);
    assert!(scene.claim_entry(&entry, 2, 600).await);
    let held_ms = 600 + ms(LEASE_MS);
    assert!(!scene.claim_entry(&entry, 1, held_ms + 1000).await);
    assert_eq!(put_off(1, 700).await, held_ms);
    assert_eq!(put_off(2, 700).await, 700);
    assert!(eventually(async || scene.due(Lane::Suggestions, 700).await).await);
    assert!(eventually(async || !scene.due(Lane::Suggestions, 699).await).await);
    scene.clear().await;
}

/// Whoever came before it has to find out that it lost.
pub async fn of_claims_under_many_tokens_the_latest_stands(store: &Store) {
    let scene = Scene::new(store);
    let entry = scene.waiting_suggestion().await;
    let mut senders = JoinSet::new();
    for token in 1..=AT_ONCE {
        let (scene, entry) = (scene.clone(), entry.clone());
        senders.spawn(async move { scene.claim_entry(&entry, token, 0).await });
    }
    let claimed = senders.join_all().await.into_iter().filter(|claimed| *claimed).count();
    let standing = scene.waiting(Lane::Suggestions).await;
    assert_eq!((standing.sender, standing.attempts as usize), (Some(AT_ONCE), claimed));
    scene.clear().await;
}

/// Nor put off.
pub async fn what_is_closed_or_dead_cannot_be_claimed(store: &Store) {
    let scene = Scene::new(store);
    let closed = scene.waiting_suggestion().await;
    scene.sent(closed.seq, 0).await;
    scene.popup("angry", 0).await;
    let dead = scene.waiting(Lane::Popups).await;
    scene.bury_entry(&dead, 0).await;
    for entry in [&closed, &dead] {
        assert!(!scene.claim_entry(entry, 9, ms(LEASE_MS)).await);
        store.put_off_entry(entry, 9, 0).await.unwrap();
    }
    assert!(scene.entry_numbers(Lane::Suggestions).await.is_empty(), "nothing is made up");
    assert!(eventually(async || scene.dead_entries().await.len() == 1).await);
    assert_eq!(scene.dead_entries().await[0].due_ms, scene.now_ms);
    assert!(scene.drop_entry(dead.seq, 0).await);
}

/// With its words, its attempts before it again, and under a number of its own.
pub async fn a_dead_letter_is_brought_back_and_delivered(store: &Store) {
    let scene = Scene::new(store);
    scene.popup("angry", 0).await;
    let entry = scene.waiting(Lane::Popups).await;
    assert!(scene.claim_entry(&entry, 1, 0).await);
    scene.bury_entry(&entry, 100).await;
    assert!(scene.entry_numbers(Lane::Popups).await.is_empty());
    assert!(eventually(async || scene.dead_entries().await.len() == 1).await);
    assert!(eventually(async || !scene.due(Lane::Popups, ms(KEEP_MS)).await).await);
    let dead = scene.dead_entries().await.remove(0);
    let why = dead.dead.clone().unwrap();
    assert_eq!((why.reason.as_str(), why.at_ms, dead.attempts), ("refused", scene.now_ms + 100, 1));
    assert_eq!(dead.payload, entry.payload);

    assert!(!scene.revive(entry.seq + 1, 200).await);
    assert!(scene.revive(entry.seq, 200).await);
    assert!(!scene.revive(entry.seq, 200).await);
    assert!(eventually(async || scene.dead_entries().await.is_empty()).await);
    let again = scene.waiting(Lane::Popups).await;
    let expected = Entry { seq: entry.seq + 1, due_ms: scene.now_ms + 200, ..entry };
    assert_eq!(again, expected, "as if it had never been tried");
    assert!(eventually(async || scene.due(Lane::Popups, 200).await).await);
    assert!(scene.claim_entry(&again, 1, 200).await);
    scene.step(300, |interaction, cx| ((), interaction.popup_done(cx, "angry"))).await;
    assert_eq!(scene.interaction(300).await.popups["angry"].state, PopupState::Done);
    assert!(scene.entry_numbers(Lane::Popups).await.is_empty());
    scene.whole_audit(300).await;
}

/// One more entry, and not many; also where the document has forgotten the letter, as it remembers only so many.
pub async fn of_operators_exactly_one_decides(store: &Store) {
    for is_forgotten in [false, true] {
        let scene = Scene::new(store);
        let entry = scene.waiting_suggestion().await;
        scene.bury_entry(&entry, 0).await;
        if is_forgotten {
            scene
                .step(0, |interaction, _| {
                    interaction.buried.clear();
                    interaction.buried_floor = interaction.next_seq;
                    ((), Effects::default())
                })
                .await;
        }
        let mut operators = JoinSet::new();
        for operator in 0..AT_ONCE {
            let (scene, seq) = (scene.clone(), entry.seq);
            operators.spawn(async move {
                if operator % 2 == 0 { scene.revive(seq, 1).await } else { scene.drop_entry(seq, 1).await }
            });
        }
        let decided = operators.join_all().await.into_iter().filter(|decided| *decided).count();
        assert_eq!(decided, 1, "forgotten: {is_forgotten}");
        let revived = scene.entry_numbers(Lane::Suggestions).await;
        assert_eq!(scene.interaction(1).await.open.into_iter().collect::<Vec<_>>(), revived);
        assert!(eventually(async || scene.dead_entries().await.is_empty()).await);
        scene.whole_audit(1).await;
        scene.clear().await;
    }
}

/// A living one too: its slot is free again.
pub async fn what_is_dropped_is_gone(store: &Store) {
    let scene = Scene::new(store);
    let living = scene.waiting_suggestion().await;
    assert!(scene.drop_entry(living.seq, 0).await);
    assert_eq!(scene.interaction(0).await.active, []);
    scene.popup("angry", 0).await;
    let dead = scene.waiting(Lane::Popups).await;
    scene.bury_entry(&dead, 0).await;
    assert!(scene.drop_entry(dead.seq, 0).await);
    for seq in [living.seq, dead.seq, 99] {
        assert!(!scene.drop_entry(seq, 0).await && !scene.revive(seq, 0).await);
    }
    assert!(eventually(async || scene.dead_entries().await.is_empty()).await);
    let dropped = scene.whole_audit(0).await.into_iter().filter(|record| record.event == "dropped").count();
    assert_eq!(dropped, 2);
}

/// Whether it is deleted yet or not.
pub async fn an_expired_dead_letter_is_nobodys(store: &Store) {
    let scene = Scene::new(store);
    let entry = scene.waiting_suggestion().await;
    scene.bury_entry(&entry, 0).await;
    let expired_ms = ms(KEEP_MS) + 1000;
    assert!(!scene.revive(entry.seq, expired_ms).await);
    assert!(!scene.drop_entry(entry.seq, expired_ms).await);
    // Its number is free: a new life of the interaction may have it.
    let later = Scene { now_ms: scene.now_ms + expired_ms, ..scene.clone() };
    assert_eq!(later.submit("s2", 0).await.unwrap().seq, entry.seq);
    assert_eq!(later.waiting(Lane::Suggestions).await.dead, None);
    later.clear().await;
}
