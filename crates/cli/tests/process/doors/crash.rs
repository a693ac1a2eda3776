//! `kill -9` while audio comes in through the WebSocket API: an acknowledgement is a promise.

use std::collections::BTreeMap;

use earpiece_core::protocol::message::CONNECTED;

use super::PATIENT;
use super::caller::{Socket, init, recorded, said};
use crate::serve::Serve;
use crate::{CONTACT, data};

const SAMPLES: usize = 400;

/// Messages that are waited for one by one, and then messages that are under way at the moment of the kill.
const ACKNOWLEDGED: usize = 20;
const UNDER_WAY: usize = 30;

/// Of those, as many are heard of before the kill.
const HEARD_OF: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_kill_9_is_in_the_recording() {
    let data = data();
    let arguments = ["--quiet-period", "1s"];
    let mut serve = Serve::start(data.path(), "127.0.0.1:0", &arguments, &PATIENT);
    let mut socket = Socket::open(serve.address, "/ws").await;
    socket.say(&init(CONTACT, None)).await;
    assert_eq!(socket.hear().await, CONNECTED);
    let mut promised = BTreeMap::new();
    for message in 0..ACKNOWLEDGED {
        socket.speak(&said(message, SAMPLES)).await;
        let place = place_in(&mut socket).await;
        promised.insert(place, said(message, SAMPLES));
    }
    for message in 0..UNDER_WAY {
        socket.speak(&said(ACKNOWLEDGED + message, SAMPLES)).await;
    }
    let mut places = Vec::new();
    for _ in 0..HEARD_OF {
        places.push(place_in(&mut socket).await);
    }
    serve.kill_9();

    // The caller comes back, as the next generation, and says one thing more.
    let serve = Serve::start(data.path(), "127.0.0.1:0", &arguments, &PATIENT);
    let mut socket = Socket::open(serve.address, "/ws").await;
    socket.say(&init(CONTACT, None)).await;
    assert_eq!(socket.hear().await, CONNECTED);
    socket.speak(&said(100, SAMPLES)).await;
    assert_eq!(place_in(&mut socket).await, 0);
    socket.close().await;

    let (ledger, audio) = recorded(data.path(), CONTACT).await;
    drop(serve);
    assert_eq!(ledger.streams.iter().map(|stream| stream.generation).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert_eq!(audio[1], said(100, SAMPLES));
    // Which of the messages under way took which place is not known: API Gateway gives no order. All differ.
    let under_way: Vec<Vec<u8>> = (0..UNDER_WAY).map(|message| said(ACKNOWLEDGED + message, SAMPLES)).collect();
    let heard = |place: u64| {
        let piece = ledger.pieces.iter().find(|piece| {
            piece.stream == ledger.streams[0].stream
                && (piece.first_sample..piece.first_sample + piece.samples).contains(&place)
        });
        assert!(piece.is_some(), "{place} has no piece in {:?}", ledger.pieces);
        // What is before it may have been lost: the recording holds pieces, one behind the other.
        let before: u64 = ledger
            .pieces
            .iter()
            .filter(|piece| piece.stream == ledger.streams[0].stream && piece.first_sample <= place)
            .map(|piece| piece.samples.min(place - piece.first_sample))
            .sum();
        let begin = usize::try_from(before).expect("fits");
        audio[0][begin..begin + SAMPLES].to_vec()
    };
    for (place, samples) in promised {
        assert!(heard(place) == samples, "what was promised a place at {place} is there");
    }
    let kept: Vec<Vec<u8>> = places.iter().map(|place| heard(*place)).collect();
    assert!(kept.iter().all(|samples| under_way.contains(samples)), "so is what was heard of just before");
}

/// Where the next acknowledged message has its place.
async fn place_in(socket: &mut Socket) -> u64 {
    let answer = socket.hear_json().await;
    assert_eq!(answer["message"], "AUDIO ACCEPTED", "{answer}");
    answer["parameters"]["firstSample"].as_u64().expect("a place")
}
