//! The reaper through the doors, on the embedded store, a folder of recordings and a real HTTP assist app.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use earpiece_core::contact::facts::{Run, StreamFacts};
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::Perspective;
use earpiece_store::{Acceptance, ContactState};

use super::*;
use crate::delivery::KEEP;
use crate::settings;
use crate::testing::{CONTACT, House, env, files_under, utterance};

const HOUR_MS: i64 = 3_600_000;
const ADOPTION_PERIOD_MS: i64 = 600_000;

fn open_to_all() -> earpiece_core::config::Overlay<earpiece_core::config::EmptyEnv> {
    env().with(&settings::TEXT_TOKENS, settings::NONE)
}

/// As if so many utterances had been accepted, and each function had died before its first delivery.
async fn leave_undelivered(house: &House, count: usize) {
    for index in 0..count {
        let said = earpiece_core::protocol::Utterance::from_value(utterance(&index.to_string())).unwrap();
        let request_id = format!("request-{index}");
        let note = earpiece_relay::text::UtteranceNote::new(&said, request_id.clone(), wall_ms());
        let acceptance = Acceptance {
            contact: CONTACT,
            key: &format!("{index:064x}"),
            request_id: &request_id,
            payload: &note.to_payload(),
            now_ms: wall_ms(),
            lease_ms: 1000,
            window_ms: 60_000,
            keep_ms: as_ms(KEEP),
        };
        house.store.accept_utterance(&acceptance).await.unwrap();
    }
}

#[tokio::test]
async fn one_sweep_delivers_everything_that_is_due_however_much_the_store_gives_at_once() {
    const DUE: usize = 100;
    const { assert!(DUE > 3 * UTTERANCES_READ_MAX) };
    let house = House::open().await;
    leave_undelivered(&house, DUE).await;
    let swept = house.doors.reaper().sweep_once(wall_ms() + HOUR_MS).await;
    assert_eq!(swept, Swept { delivered: DUE, ..Swept::default() });
    let delivered: std::collections::BTreeSet<_> = house
        .app
        .taken()
        .iter()
        .map(|taken| taken.headers["idempotency-key"].clone().to_str().unwrap().to_owned())
        .collect();
    assert_eq!((delivered.len(), house.app.taken().len()), (DUE, DUE));
}

#[tokio::test]
async fn while_the_app_is_away_one_sweep_tries_everything_once_and_no_more() {
    let house = House::open().await;
    leave_undelivered(&house, UTTERANCES_READ_MAX + 1).await;
    house.app.set_status(503);
    let swept = house.doors.reaper().sweep_once(wall_ms() + HOUR_MS).await;
    assert_eq!(swept, Swept { undelivered: UTTERANCES_READ_MAX + 1, ..Swept::default() });
    assert_eq!(house.app.taken().len(), UTTERANCES_READ_MAX + 1);
}

#[tokio::test]
async fn reapers_that_sweep_at_once_share_the_work_and_do_none_of_it_twice() {
    let house = House::open().await;
    leave_undelivered(&house, 50).await;
    let reaper = house.doors.reaper();
    let at_ms = wall_ms() + HOUR_MS;
    let sweeps = futures_util::future::join_all((0..4).map(|_| reaper.sweep_once(at_ms))).await;
    assert_eq!(house.app.taken().len(), sweeps.iter().map(|swept| swept.delivered).sum::<usize>());
    // Who lost a whole round leaves the rest to the others.
    while reaper.sweep_once(at_ms).await.delivered > 0 {}
    assert_eq!(house.app.taken().len(), 50);
}

#[tokio::test]
async fn audio_that_came_after_its_contact_was_finished_gets_into_its_recording_and_no_living_contact_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(folder.path().to_str().unwrap(), earpiece_recorder::Settings::default()).unwrap();
    let house = House::with_recorder(open_to_all(), Some(recorder.clone())).await;
    let reaper = house.doors.reaper();
    let began_ms = wall_ms();
    house.call(CONTACT, began_ms).await;
    let mut at_ms = began_ms + HOUR_MS;
    assert_eq!(reaper.sweep_once(at_ms).await, Swept { finished: 1, ..Swept::default() });

    let unheard_of = ContactKey { contact_id: CONTACT.contact_id + 1, ..CONTACT };
    let living = ContactKey { contact_id: CONTACT.contact_id + 2, ..CONTACT };
    house.claim(living, at_ms + 2 * ADOPTION_PERIOD_MS).await;
    for contact in [CONTACT, unheard_of, living] {
        recorder.write_piece(&facts(contact), 0, &[0x7f; 160]).await.unwrap();
    }
    at_ms += ADOPTION_PERIOD_MS;
    assert_eq!(reaper.sweep_once(at_ms).await.adopted, 0, "more of it may come at this moment");

    let live = folder.path().join("live");
    age(&live);
    at_ms += ADOPTION_PERIOD_MS - 1;
    assert_eq!(reaper.sweep_once(at_ms).await.adopted, 0, "it looks no more often than that");
    at_ms += 1;
    assert_eq!(reaper.sweep_once(at_ms).await.adopted, 2);
    for contact in [CONTACT, unheard_of] {
        let ledger = folder.path().join(format!("contacts/{contact}/ledger.json"));
        let ledger: Value = serde_json::from_slice(&std::fs::read(ledger).unwrap()).unwrap();
        assert_eq!(ledger["samples"], 160, "{ledger}");
    }
    assert_eq!(files_under(&live).len(), 1, "the living contact's segment stays where it is");
    let record = house.store.contact(&CONTACT, at_ms).await.unwrap().unwrap();
    assert_eq!(record.state, ContactState::Ended);
    assert_eq!(reaper.sweep_once(at_ms + ADOPTION_PERIOD_MS).await.adopted, 0, "once is enough");
}

#[tokio::test]
async fn one_look_adopts_no_more_than_its_limit_and_the_next_one_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(folder.path().to_str().unwrap(), earpiece_recorder::Settings::default()).unwrap();
    let house = House::with_recorder(open_to_all(), Some(recorder.clone())).await;
    for contact_id in 1..=ADOPTED_MAX as u64 + 1 {
        let contact = ContactKey { contact_id, ..CONTACT };
        recorder.write_piece(&facts(contact), 0, &[0x7f; 160]).await.unwrap();
    }
    age(&folder.path().join("live"));
    let mut adopted = Vec::new();
    for look in 0..3 {
        adopted.push(house.doors.reaper().sweep_once(wall_ms() + look * (ADOPTION_PERIOD_MS + HOUR_MS)).await.adopted);
    }
    assert_eq!(adopted, [ADOPTED_MAX, 1, 0]);
}

/// What a stream knows of itself after 20 ms.
fn facts(contact: ContactKey) -> StreamFacts {
    let opened_us = wall_ms() * 1000;
    StreamFacts {
        contact,
        stream: StreamId::new(),
        perspective: Perspective::Tx,
        generation: Some(1),
        opened_us,
        degraded: false,
        task: "ws-message".into(),
        segment_ms: 0,
        frames: 1,
        samples: 160,
        frame_samples: None,
        runs: vec![Run { first_sample: 0, samples: 160, anchor_us: opened_us, drift_samples: 0 }],
        runs_joined: 0,
        lost: Vec::new(),
        closed: None,
        telemetry: None,
        unknown_fields: 0,
    }
}

/// As if what is in a folder had been written an hour ago.
fn age(folder: &Path) {
    let an_hour_ago = SystemTime::now() - Duration::from_hours(1);
    for path in files_under(folder) {
        File::options().write(true).open(path).unwrap().set_modified(an_hour_ago).unwrap();
    }
}
