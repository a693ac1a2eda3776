//! Two tasks on one store and one place for recordings: a call goes on where it can, and either task ends it.

use earpiece_core::contact::event::What;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::ledger::GapReason;
use earpiece_core::protocol::Perspective;
use earpiece_shim::settings;
use earpiece_simulator::{CallPlan, Step, place};

use crate::house::{House, contact, recording, speech, wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_one_task_sends_away_goes_on_at_another_as_the_next_generation() {
    let quiet = [(settings::QUIET_PERIOD, "4s")];
    let mut leaving = House::open(&quiet).await;
    let mut staying = leaving.beside(&quiet).await;
    let key = contact(1);
    let mut opened = leaving.watch();
    let first = CallPlan::new(leaving.url(), key)
        .leg("TX", speech(8_000, 1))
        .keep_audio()
        .reconnects_max(0)
        .step(Step::Speak { ms: 3_500 });
    let first = tokio::spawn(crate::house::dial(first));
    wait(&mut opened, |event| matches!(event.what, What::StreamOpened { .. }).then_some(())).await;
    // Some audio is taken before the task has to go.
    while leaving.metric("earpiece_audio_bytes_total").await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    leaving.signal();
    let first = first.await.expect("no panic");
    assert_eq!(first.legs[0].sockets[0].close.as_ref().expect("sent away").code, 1012);
    let second =
        CallPlan::new(staying.url(), key).leg("TX", speech(8_000, 2)).keep_audio().step(Step::Speak { ms: 800 });
    let second = place(second).await.expect("the same contact elsewhere");
    let ledger = staying.finished(key).await;
    leaving.gone().await;
    assert_eq!(ledger.streams.iter().map(|facts| facts.generation).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert_ne!(ledger.streams[0].task, ledger.streams[1].task);
    assert_eq!(ledger.streams[0].closed.expect("an end").reason, CloseReason::Drained);
    assert_eq!(ledger.gaps[0].reason, GapReason::Drained);
    assert_eq!(ledger.streams[0].samples, first.legs[0].samples, "what was on its way was taken");
    assert_eq!(ledger.streams[1].samples, second.legs[0].samples);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_perspectives_on_two_tasks_become_one_recording() {
    let mut one = House::open(&[]).await;
    let mut other = one.beside(&[]).await;
    let key = contact(2);
    let call = |url: String, perspective: &str, seed| {
        CallPlan::new(url, key).leg(perspective, speech(8_000, seed)).keep_audio().step(Step::Speak { ms: 1_000 })
    };
    let (tx, rx) = tokio::join!(place(call(one.url(), "TX", 3)), place(call(other.url(), "RX", 4)));
    let (tx, rx) = (tx.expect("a call"), rx.expect("a call"));
    let ledger = tokio::select! {
        ledger = one.finished(key) => ledger,
        ledger = other.finished(key) => ledger,
    };
    let tasks: Vec<_> = ledger.streams.iter().map(|facts| facts.task.clone()).collect();
    assert_eq!(tasks.len(), 2);
    assert_ne!(tasks[0], tasks[1]);
    let bytes = recording(one.data.path(), key);
    let wav = earpiece_core::audio::wav::parse(&bytes).expect("a WAV file");
    for (index, (report, perspective)) in [(tx, Perspective::Tx), (rx, Perspective::Rx)].into_iter().enumerate() {
        let piece = ledger.pieces.iter().find(|piece| piece.perspective == perspective).expect("a piece");
        let at = usize::try_from(piece.position).expect("fits");
        let channel: Vec<u8> = wav.data.iter().skip(index).step_by(2).copied().collect();
        let sent = report.legs[0].audio_sent.as_deref().expect("kept");
        assert_eq!(&channel[at..at + sent.len()], sent, "{perspective}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_lingers_on_one_task_is_fenced_by_a_newer_one_on_another() {
    let mut old_task = House::open(&[(settings::STALE, "3s")]).await;
    let mut new_task = old_task.beside(&[]).await;
    let key = contact(3);
    let mut opened = old_task.watch();
    let lingering = CallPlan::new(old_task.url(), key)
        .leg("TX", speech(8_000, 5))
        .reconnects_max(0)
        .step(Step::Speak { ms: 6_000 });
    let lingering = tokio::spawn(crate::house::dial(lingering));
    wait(&mut opened, |event| matches!(event.what, What::StreamOpened { .. }).then_some(())).await;
    let newer = CallPlan::new(new_task.url(), key).leg("TX", speech(8_000, 6)).step(Step::Speak { ms: 3_000 });
    place(newer).await.expect("a call");
    let lingering = lingering.await.expect("no panic");
    let close = lingering.legs[0].sockets[0].close.clone().expect("closed by the server");
    assert_eq!(close.code, 1000, "its own next checkpoint told it");
    let ledger = tokio::select! {
        ledger = old_task.finished(key) => ledger,
        ledger = new_task.finished(key) => ledger,
    };
    let reasons: Vec<_> = ledger.streams.iter().filter_map(|facts| facts.closed).map(|closed| closed.reason).collect();
    assert_eq!(reasons, [CloseReason::Superseded, CloseReason::PeerClosed]);
}
