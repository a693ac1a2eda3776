//! A task that goes away says so, at its rate, and loses nothing.

use std::time::Duration;

use earpiece_core::contact::event::What;
use earpiece_core::contact::facts::CloseReason;
use earpiece_shim::settings;
use earpiece_simulator::{CallPlan, Step};

use crate::house::{House, contact, dial, get, speech, wait};
use crate::store_away::Gate;

#[tokio::test(flavor = "multi_thread")]
async fn every_live_socket_hears_1012_and_what_was_said_is_on_disk_when_the_task_has_gone() {
    let mut house = House::open(&[(settings::QUIET_PERIOD, "10m"), (settings::DRAIN_PER_SECOND, "20")]).await;
    let mut watch = house.watch();
    let calls: Vec<_> = (0..10)
        .map(|contact_id| {
            let plan = CallPlan::new(house.url(), contact(contact_id))
                .leg("TX", speech(1_600, 1))
                .reconnects_max(0)
                .keep_audio()
                .step(Step::Speak { ms: 6_000 });
            tokio::spawn(dial(plan))
        })
        .collect();
    for _ in 0..10 {
        wait(&mut watch, |event| matches!(event.what, What::StreamOpened { .. }).then_some(())).await;
    }
    // Some audio is on its way before the task has to go.
    while house.metric("earpiece_audio_bytes_total").await < 10 * 1_600 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    house.signal();
    wait(&mut watch, |event| matches!(event.what, What::StreamClosed { .. }).then_some(())).await;
    assert_eq!(get(house.address, "/readyz").await, (503, "draining\n".into()));
    let late = dial(
        CallPlan::new(house.url(), contact(99))
            .leg("TX", speech(160, 1))
            .reconnects_max(0)
            .step(Step::Speak { ms: 20 }),
    );
    assert!(!late.await.legs[0].sockets.iter().any(|socket| socket.connected), "no new stream");
    house.gone().await;
    let recorder = earpiece_recorder::Recorder::open(
        house.data.path().to_str().expect("a Unicode path"),
        earpiece_recorder::Settings::default(),
    )
    .expect("a recorder");
    for (contact_id, call) in calls.into_iter().enumerate() {
        let key = contact(contact_id as u64);
        let report = call.await.expect("no panic");
        let socket = &report.legs[0].sockets[0];
        assert_eq!(socket.close.as_ref().expect("closed by the server").code, 1012);
        let ledger = recorder.ledger(key).await.expect("readable").expect("a ledger");
        let facts = &ledger.streams[0];
        assert_eq!(facts.closed.expect("an end").reason, CloseReason::Drained);
        assert_eq!(facts.samples, report.legs[0].samples, "what was on its way was taken");
        assert!(ledger.lost.is_empty() && ledger.unwritten.is_empty());
        let record = house.store.contact(&key, 0).await.expect("a store").expect("a contact");
        assert!(record.streams.values().all(|stream| !stream.open), "the store heard of the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_at_its_deadline_whatever_happens() {
    // The store never hears of the stream's end, which would be tried for a quarter of an hour.
    let mut gate = None;
    let mut house =
        House::open_with(&[(settings::DRAIN_DEADLINE, "2s")], |endpoint| Gate::before(&endpoint, &mut gate)).await;
    let gate = gate.expect("made");
    let mut watch = house.watch();
    let plan = CallPlan::new(house.url(), contact(1)).leg("TX", speech(160, 1)).reconnects_max(0);
    let call = tokio::spawn(dial(plan.step(Step::Speak { ms: 1_000 })));
    wait(&mut watch, |event| matches!(event.what, What::StreamOpened { .. }).then_some(())).await;
    gate.shut();
    house.signal();
    house.gone().await;
    call.await.expect("no panic");
    let record = house.store.contact(&contact(1), 0).await.expect("a store").expect("a contact");
    assert!(record.streams.values().all(|stream| stream.open), "the end was still being told when it was cut off");
}
