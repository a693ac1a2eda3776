//! What the Studio script says of a contact.

use earpiece_core::contact::event::ScriptEventKind::{self, End, Hold, Resume, Start};
use earpiece_core::protocol::perspective::Perspective;

use super::{LEASE_MS, QUIET_MS, RETAIN_MS, STALE_MS, Scene, eventually, ms};
use crate::{EndReason, NotedEvent, Store, StreamError};

/// How long a hold counts, here: longer than the quiet period.
const HOLD_MAX_MS: u64 = 4 * QUIET_MS;
/// How long events are kept, here.
const KEEP_MS: u64 = 86_400_000;

/// Every case of this module.
pub async fn all(store: &Store) {
    events_are_kept_in_the_order_of_their_times(store).await;
    an_event_of_an_unknown_contact_is_kept_and_makes_none(store).await;
    a_hold_keeps_a_contact_from_ending_and_not_for_ever(store).await;
    a_resume_begins_the_quiet_period_again(store).await;
    a_hold_ends_by_the_next_word_or_handshake(store).await;
    an_event_that_is_late_changes_no_hold(store).await;
    an_end_ends_a_contact_that_is_on_hold(store).await;
    a_contact_that_is_over_hears_no_more(store).await;
}

impl Scene {
    async fn note(&self, kind: ScriptEventKind, after_ms: i64) -> bool {
        self.note_late(kind, after_ms, after_ms).await
    }

    /// Notes an event that took some time to arrive.
    async fn note_late(&self, kind: ScriptEventKind, after_ms: i64, arrives_after_ms: i64) -> bool {
        let event = event(kind, self.now_ms + after_ms, None);
        let now_ms = self.now_ms + arrives_after_ms;
        self.store.note_event(&self.contact, &event, now_ms, HOLD_MAX_MS, KEEP_MS).await.unwrap()
    }

    async fn hold_since_ms(&self) -> Option<i64> {
        self.record().await.hold.map(|hold| hold.since_ms - self.now_ms)
    }

    /// A contact that streamed for a second.
    async fn quiet(store: &Store) -> Self {
        let scene = Self::new(store);
        let stream = scene.opened(&Perspective::Tx).await;
        let ended: Result<(), StreamError> = scene.end(&Perspective::Tx, stream, 1000).await;
        ended.unwrap();
        scene
    }
}

fn event(kind: ScriptEventKind, at_ms: i64, agent_id: Option<&str>) -> NotedEvent {
    let request_id = format!("{}-{at_ms}", kind.label());
    NotedEvent { kind, at_ms, agent_id: agent_id.map(str::to_owned), request_id }
}

/// Whatever the order of their arrival; each once, and not for ever.
pub async fn events_are_kept_in_the_order_of_their_times(store: &Store) {
    let scene = Scene::new(store);
    let at = |after_ms: i64| scene.now_ms + after_ms;
    let events = [
        event(Start, at(0), Some("agent 12")),
        event(Hold, at(10), None),
        event(Resume, at(20), None),
        event(End, at(30), None),
    ];
    for index in [2, 0, 3, 1, 1] {
        store.note_event(&scene.contact, &events[index], at(40), HOLD_MAX_MS, KEEP_MS).await.unwrap();
    }
    assert_eq!(store.contact_events(&scene.contact, at(40), 100).await.unwrap(), events);
    assert_eq!(store.contact_events(&scene.contact, at(40), 2).await.unwrap(), events[2..], "the newest");
    assert_eq!(store.contact_events(&scene.contact, at(ms(KEEP_MS) + 2000), 100).await.unwrap(), []);
    assert_eq!(store.contact_events(&Scene::new(store).contact, at(40), 100).await.unwrap(), []);
}

/// A script may say that an agent has the contact before there is any audio.
pub async fn an_event_of_an_unknown_contact_is_kept_and_makes_none(store: &Store) {
    let scene = Scene::new(store);
    for kind in ScriptEventKind::ALL {
        assert!(!scene.note(kind, 0).await, "{kind:?}");
    }
    assert_eq!(store.contact(&scene.contact, scene.now_ms).await.unwrap(), None);
    assert_eq!(store.contact_events(&scene.contact, scene.now_ms, 100).await.unwrap().len(), 4);
    scene.opened(&Perspective::Tx).await;
    assert!(scene.note(Start, 1).await);
}

/// A script that never says "resume" does not keep it for good.
pub async fn a_hold_keeps_a_contact_from_ending_and_not_for_ever(store: &Store) {
    let scene = Scene::quiet(store).await;
    assert!(scene.note(Hold, 2000).await);
    assert!(scene.note(Hold, 3000).await);
    assert_eq!(scene.hold_since_ms().await, Some(2000), "said twice is said once");
    let quiet_ms = 1000 + ms(QUIET_MS);
    assert!(eventually(async || scene.is_due(quiet_ms).await).await);
    assert_eq!(scene.begin_ending("task", quiet_ms).await, None);
    let until_ms = 2000 + ms(HOLD_MAX_MS);
    assert_eq!(scene.due_after_ms().await, Some(until_ms), "put off");
    assert_eq!(scene.begin_ending("task", until_ms - 1).await, None);
    assert_eq!(scene.begin_ending("task", until_ms).await.unwrap().end_reason, Some(EndReason::Quiet));
}

/// Somebody looks at it at once, as it was put off.
pub async fn a_resume_begins_the_quiet_period_again(store: &Store) {
    let scene = Scene::quiet(store).await;
    assert!(scene.note(Hold, 2000).await);
    let resumed_ms = 2 * ms(QUIET_MS);
    assert_eq!(scene.begin_ending("task", resumed_ms).await, None);
    assert!(scene.note(Resume, resumed_ms).await);
    assert_eq!(scene.due_after_ms().await, Some(resumed_ms));
    assert_eq!(scene.begin_ending("task", resumed_ms).await, None);
    assert_eq!(scene.due_after_ms().await, Some(resumed_ms + ms(QUIET_MS)));
    assert!(scene.begin_ending("task", resumed_ms + ms(QUIET_MS)).await.is_some());
}

/// And it begins again by the next hold.
pub async fn a_hold_ends_by_the_next_word_or_handshake(store: &Store) {
    let scene = Scene::new(store);
    scene.opened(&Perspective::Tx).await;
    for (index, kind) in [Start, Resume].into_iter().enumerate() {
        let after_ms = i64::try_from(index).unwrap() * 100;
        assert!(scene.note(Hold, after_ms).await);
        assert_eq!(scene.hold_since_ms().await, Some(after_ms));
        assert!(scene.note(kind, after_ms + 50).await);
        assert_eq!(scene.hold_since_ms().await, None, "{kind:?}");
        assert!(scene.note(kind, after_ms + 60).await);
    }
    assert!(scene.note(Hold, 1000).await);
    scene.claim(&Perspective::Rx, 2_000_000).await.1.unwrap();
    assert_eq!(scene.hold_since_ms().await, None);
    assert_eq!(scene.due_after_ms().await, Some(2000 + ms(STALE_MS)));
}

/// "Hold" that overtakes "resume" on the way; a clock that is ahead outdoes nobody.
pub async fn an_event_that_is_late_changes_no_hold(store: &Store) {
    let scene = Scene::quiet(store).await;
    assert!(scene.note(Resume, 2000).await);
    assert!(scene.note_late(Hold, 1500, 2500).await);
    assert_eq!(scene.hold_since_ms().await, None);
    assert!(scene.note_late(Hold, 1_000_000, 3000).await);
    assert_eq!(scene.hold_since_ms().await, Some(3000));
    assert!(scene.note_late(Resume, 2900, 3100).await);
    assert_eq!(scene.hold_since_ms().await, Some(3000));
    assert!(scene.note(Resume, 3200).await);
    assert_eq!(scene.hold_since_ms().await, None);
}

/// A caller may hang up on hold.
pub async fn an_end_ends_a_contact_that_is_on_hold(store: &Store) {
    let scene = Scene::quiet(store).await;
    assert!(scene.note(Hold, 2000).await);
    assert!(scene.note(End, 3000).await);
    assert_eq!(scene.due_after_ms().await, Some(3000));
    assert_eq!(scene.begin_ending("task", 3000).await.unwrap().end_reason, Some(EndReason::Event));
}

/// But what is said is kept.
pub async fn a_contact_that_is_over_hears_no_more(store: &Store) {
    let scene = Scene::new(store);
    scene.ending("finisher").await;
    let ending = scene.record().await;
    for kind in ScriptEventKind::ALL {
        assert!(scene.note(kind, 2000 + ms(LEASE_MS)).await, "{kind:?}");
    }
    assert_eq!(scene.record().await, ending);
    assert!(scene.finish("finisher", 3000).await);
    let ended = scene.record().await;
    assert!(scene.note(Hold, 4000).await);
    assert_eq!(scene.record().await, ended);
    assert!(!scene.note(Hold, 4000 + 2 * ms(RETAIN_MS)).await, "expired is unknown");
    assert_eq!(store.contact_events(&scene.contact, scene.now_ms, 100).await.unwrap().len(), 6);
}
