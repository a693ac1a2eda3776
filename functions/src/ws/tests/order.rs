//! Events of one connection in every order, and at once.

use std::future::Future;
use std::pin::Pin;

use super::house::{CONNECTION, Event, House};
use super::{init, now_ms, said};

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// `$connect`, the init message, `$disconnect`.
fn step<'a>(house: &'a House, which: usize, connection: &'a str) -> Pin<Box<dyn Future<Output = i64> + 'a>> {
    match which {
        0 => Box::pin(house.connect(Event::of(connection))),
        1 => Box::pin(house.message(Event::of(connection).json("init", &init("TX")))),
        _ => Box::pin(house.disconnect(Event::of(connection).closed(1001))),
    }
}

async fn assert_it_is_over(house: &House, connection: &str) {
    let record = house.store.connection(connection, now_ms()).await.expect("read");
    assert!(record.gone, "{connection}");
    assert!(!house.is_any_stream_open().await, "{connection} left a stream behind");
}

#[tokio::test]
async fn in_whatever_order_a_connection_comes_and_goes_nothing_of_it_is_left() {
    for order in ORDERS {
        let house = House::open().await;
        for which in order {
            assert_eq!(step(&house, which, CONNECTION).await, 200, "{order:?}");
        }
        assert_it_is_over(&house, CONNECTION).await;
        // And once more, as a retry would have it.
        for which in order {
            assert_eq!(step(&house, which, CONNECTION).await, 200, "{order:?}");
        }
        assert_it_is_over(&house, CONNECTION).await;
        let is_in_order = order.iter().position(|which| *which == 1) < order.iter().position(|which| *which == 2);
        assert_eq!(house.gateway.heard(CONNECTION).is_empty(), !is_in_order, "{order:?}");
    }
}

#[tokio::test]
async fn a_connection_that_comes_and_goes_at_the_same_instant_leaves_nothing_either() {
    let house = House::open().await;
    for round in 0..30 {
        let connection = format!("round{round}=");
        let order = ORDERS[round % ORDERS.len()];
        let steps = order.map(|which| step(&house, which, &connection));
        let statuses = futures_util::future::join_all(steps).await;
        assert_eq!(statuses, [200; 3], "{round}");
        assert_it_is_over(&house, &connection).await;
    }
}

#[tokio::test]
async fn audio_and_the_end_at_the_same_instant_lose_no_piece() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    let pieces: Vec<Vec<u8>> = (0..10).map(|n| said(n, 200 + n)).collect();
    let events = pieces.iter().enumerate().map(|(n, samples)| Event::of(CONNECTION).audio(&n.to_string(), samples));
    let audio = futures_util::future::join_all(events.map(|event| house.message(event)));
    let (statuses, left) = tokio::join!(audio, house.disconnect(Event::of(CONNECTION)));
    assert!(left == 200 && statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_it_is_over(&house, CONNECTION).await;
    let (ledger, recorded) = house.finish().await;
    assert_eq!((recorded.len(), ledger.lost.len()), (pieces.iter().map(Vec::len).sum(), 0));
    assert!(ledger.streams[0].closed.is_some());
}
