//! Bad input is refused with a reason and the right close code, and disturbs nobody.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::protocol::message::CONNECTED;
use earpiece_core::secret::Secret;
use earpiece_shim::settings;
use earpiece_simulator::hostile::{Misbehaviour, Outcome, misbehave};
use earpiece_simulator::{CallPlan, Step, TokenPlace, place};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_websockets::Message;

use crate::house::{House, PATIENCE, contact, speech};

const TOKEN: &str = "the-right-token";

/// What each misbehaviour is told: a part of the `ERROR` text, and the close code.
fn expected(kind: Misbehaviour) -> Option<(&'static str, u16)> {
    match kind {
        Misbehaviour::BadJson | Misbehaviour::EmptyFrame => Some(("JSON", 1008)),
        Misbehaviour::BinaryFirst => Some(("the first frame must be text", 1003)),
        Misbehaviour::InitTooLarge => Some(("larger than 65536 bytes", 1009)),
        Misbehaviour::SlowInit | Misbehaviour::NoInit | Misbehaviour::HalfOpen => {
            Some(("no complete init message came within", 1008))
        }
        Misbehaviour::WrongToken => Some(("the token is not accepted", 1008)),
        Misbehaviour::MissingContactId | Misbehaviour::NegativeContactId => Some(("`executionInfo.contactId`", 1008)),
        Misbehaviour::TextAfterInit => Some((CONNECTED, 1003)),
        Misbehaviour::HugeFrame => Some((CONNECTED, 1009)),
        Misbehaviour::Deaf => Some((CONNECTED, 1001)),
        // Nothing can be said to these, or there is nothing to say; the legal ones are checked by themselves.
        Misbehaviour::HalfRequest
        | Misbehaviour::FragmentedInit
        | Misbehaviour::CloseAtOnce
        | Misbehaviour::RstAtOnce
        | Misbehaviour::SlowReader => None,
    }
}

fn check(kind: Misbehaviour, outcome: &Outcome) {
    if kind.is_legal() {
        assert!(outcome.was_connected(), "{kind:?}: {outcome:?}");
    }
    let Some((text, close)) = expected(kind) else { return };
    let answer = outcome.answer.as_deref().unwrap_or_else(|| panic!("{kind:?} got no answer: {outcome:?}"));
    assert!(answer.contains(text), "{kind:?}: {answer}");
    assert!(!answer.contains(TOKEN), "{kind:?}: a secret was said");
    assert_eq!(outcome.close, Some(close), "{kind:?}: {outcome:?}");
}

async fn guarded() -> House {
    House::open(&[
        (settings::AUDIO_TOKENS, TOKEN),
        (settings::INIT_DEADLINE, "4s"),
        (settings::PING, "2s"),
        (settings::DEAD, "8s"),
        (settings::QUIET_PERIOD, "10m"),
    ])
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_misbehaviour_gets_its_reason_and_its_close_code() {
    let house = guarded().await;
    let outcomes = Misbehaviour::ALL.into_iter().enumerate().map(|(index, kind)| {
        let (url, key) = (house.url(), contact(500 + index as u64));
        async move { (kind, misbehave(&url, kind, Some(&Secret::new(TOKEN)), key, Duration::from_secs(20)).await) }
    });
    for (kind, outcome) in futures_util::future::join_all(outcomes).await {
        check(kind, &outcome.expect("a URL that can be dialled"));
    }
    for (reason, at_least) in
        [("bad_input", 4), ("unsupported", 1), ("too_large", 1), ("too_late", 2), ("unauthorized", 1)]
    {
        let name = format!("earpiece_stream_refusals_total{{reason=\"{reason}\"}}");
        let counted = house.metric(&name).await;
        assert!(counted >= at_least, "{reason}: {counted}");
    }
    for (reason, times) in [("peer_violation", 1), ("too_large", 1), ("peer_dead", 1)] {
        let name = format!("earpiece_stream_closes_total{{reason=\"{reason}\"}}");
        assert_eq!(house.metric(&name).await, times, "{reason}");
    }
    assert_eq!(house.metric("earpiece_streams_live").await, 0, "nobody is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_hostile_opens_among_two_hundred_good_calls_cost_the_good_ones_nothing() {
    let house = Arc::new(guarded().await);
    let voice = speech(16_000, 9);
    let good: Vec<_> = (0..200)
        .map(|contact_id| {
            let plan = CallPlan::new(house.url(), contact(contact_id))
                .leg("TX", voice.clone())
                .token(Secret::new(TOKEN), TokenPlace::Init)
                .reconnects_max(0)
                .connect_timeout(PATIENCE)
                .step(Step::Speak { ms: 4_000 });
            tokio::spawn(place(plan))
        })
        .collect();
    let hostile: Vec<_> = (0..200)
        .map(|index| {
            let kind = Misbehaviour::ALL[index % Misbehaviour::ALL.len()];
            let url = house.url();
            tokio::spawn(async move {
                let key = contact(10_000 + index as u64);
                (kind, misbehave(&url, kind, Some(&Secret::new(TOKEN)), key, Duration::from_secs(30)).await)
            })
        })
        .collect();
    for call in good {
        let report = call.await.expect("no panic").expect("a call");
        let leg = &report.legs[0];
        assert_eq!(leg.sockets.len(), 1, "one socket was enough: {:?}", leg.sockets);
        assert_eq!(leg.sockets[0].answer_text(), Some(CONNECTED));
        assert_eq!((leg.samples, leg.gaps.len()), (32_000, 0));
    }
    let mut hostile_samples = 0;
    for peer in hostile {
        let (kind, outcome) = peer.await.expect("no panic");
        check(kind, &outcome.expect("a URL that can be dialled"));
        hostile_samples += 1;
    }
    assert_eq!(hostile_samples, 200);
    // Every good call's audio is on disk, to the byte.
    let recorder = earpiece_recorder::Recorder::open(
        house.data.path().to_str().expect("a Unicode path"),
        earpiece_recorder::Settings::default(),
    )
    .expect("a recorder");
    for contact_id in 0..200 {
        let settled = async {
            loop {
                let ledger = recorder.ledger(contact(contact_id)).await.expect("readable");
                if let Some(ledger) = ledger.filter(|ledger| ledger.streams.iter().all(|facts| facts.closed.is_some()))
                {
                    break ledger;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ledger = tokio::time::timeout(PATIENCE, settled).await.expect("finished in time");
        let received: u64 = ledger.streams.iter().map(|facts| facts.samples).sum();
        let placed: u64 = ledger.pieces.iter().map(|piece| piece.samples).sum();
        assert_eq!((received, placed, ledger.lost.len()), (32_000, 32_000, 0), "contact {contact_id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pings_is_ended_and_a_few_are_answered() {
    let house = House::open(&[]).await;
    for (pings, is_flood) in [(20, false), (500, true)] {
        let (mut client, _) = tokio_websockets::ClientBuilder::new()
            .uri(&house.url())
            .expect("a URL")
            .connect()
            .await
            .expect("an upgrade");
        let init = r#"{"executionInfo":{"contactId":7,"busNo":4711},"streamPerspective":"MIX"}"#;
        client.send(Message::text(init)).await.expect("sent");
        for _ in 0..pings {
            // The far end may have hung up before the last one.
            let _ = client.feed(Message::ping("?")).await;
        }
        let _ = client.flush().await;
        let (mut pongs, mut close) = (0, None);
        while let Ok(Some(Ok(message))) = tokio::time::timeout(Duration::from_secs(2), client.next()).await {
            pongs += usize::from(message.is_pong());
            close = close.or(message.as_close().map(|(code, _)| u16::from(code)));
        }
        if is_flood {
            assert_eq!(close, Some(1002));
        } else {
            assert_eq!((pongs, close), (pings, None));
        }
    }
}
