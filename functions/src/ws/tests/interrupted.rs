//! Handlers that break off: at every point at which they wait, and then the same event comes again.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use serde_json::json;

use super::house::{CONNECTION, Event, House};
use super::{CONTACT, init, now_ms, said};

/// A handler that is killed when it has waited so many times.
struct Killed<F> {
    handler: F,
    waits_left: usize,
}

impl<F: Future + Unpin> Future for Killed<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = Pin::new(&mut self.handler).poll(context) {
            return Poll::Ready(Some(output));
        }
        match self.waits_left.checked_sub(1) {
            Some(left) => {
                self.waits_left = left;
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

/// Runs a handler to its `waits`-th wait; whether it got to its end.
async fn run(handler: impl Future<Output = i64>, waits: usize) -> bool {
    Killed { handler: pin!(handler), waits_left: waits }.await.is_some()
}

/// More than any handler waits here.
const WAITS_MAX: usize = 400;

#[tokio::test]
async fn a_piece_is_kept_once_wherever_its_handler_died_before() {
    let house = House::open().await;
    house.streaming(CONNECTION, "TX").await;
    let mut call = Vec::new();
    for waits in 0..WAITS_MAX {
        let samples = said(waits, 40 + waits % 7);
        let event = || Event::of(CONNECTION).audio(&waits.to_string(), &samples);
        let got_through = Box::pin(run(house.message(event()), waits)).await;
        assert_eq!(house.message(event()).await, 200);
        call.extend(samples);
        if got_through {
            house.disconnect(Event::of(CONNECTION)).await;
            let (ledger, recorded) = house.finish().await;
            assert_eq!((recorded == call, ledger.lost.len()), (true, 0));
            assert!(waits > 2, "it was killed {waits} times");
            return;
        }
    }
    panic!("it never got through");
}

#[tokio::test]
async fn a_handshake_is_one_stream_wherever_its_handler_died_before() {
    let house = House::open().await;
    for waits in 0..WAITS_MAX {
        let connection = format!("c{waits}=");
        let event = || Event::of(&connection).json("init", &init("TX"));
        let got_through = Box::pin(run(house.message(event()), waits)).await;
        assert_eq!(house.message(event()).await, 200);
        assert_eq!(house.gateway.last(&connection)["command"], "CONNECTED");
        assert_eq!(house.disconnect(Event::of(&connection)).await, 200);
        let contact = house.store.contact(&CONTACT, now_ms()).await.expect("read").expect("known");
        assert_eq!(contact.streams["TX"].generation, waits as u64 + 1, "one generation per handshake");
        assert!(!contact.streams["TX"].open);
        if got_through {
            return;
        }
    }
    panic!("it never got through");
}

#[tokio::test]
async fn an_end_is_an_end_wherever_its_handler_died_before() {
    let house = House::open().await;
    for waits in 0..WAITS_MAX {
        let connection = format!("c{waits}=");
        house.streaming(&connection, "TX").await;
        let wish = json!({"action": "subscribe", "busNo": CONTACT.bus_no, "contactId": CONTACT.contact_id});
        house.message(Event::of(&connection).json("listen", &wish)).await;
        assert_eq!(house.listeners().await, [connection.as_str()]);
        let got_through = Box::pin(run(house.disconnect(Event::of(&connection)), waits)).await;
        assert_eq!(house.disconnect(Event::of(&connection)).await, 200);
        assert!(!house.is_any_stream_open().await && house.listeners().await.is_empty());
        if got_through {
            let ledger = house.finish().await.0;
            assert!(ledger.streams.iter().all(|facts| facts.closed.is_some()));
            assert!(ledger.unwritten.is_empty());
            return;
        }
    }
    panic!("it never got through");
}
