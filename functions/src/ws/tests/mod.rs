//! The handlers with real events, on the embedded store, a folder for recordings, and stand-ins for `@connections` and
//! for the shim.

mod calls;
mod documents;
mod gateway;
mod house;
mod interrupted;
mod order;
mod pages;
mod tokens;

use earpiece_core::contact::ContactKey;
use serde_json::{Value, json};

const CONTACT: ContactKey = ContactKey { bus_no: 4_595_000, contact_id: 118_000_123 };

/// The instant of every event that does not say otherwise, in milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    crate::clock::wall_ms()
}

fn init(perspective: &str) -> Value {
    json!({
        "executionInfo": {"contactId": CONTACT.contact_id, "busNo": CONTACT.bus_no, "requestId": 1},
        "systemTelemetryData": {"consumerProcessName": "media"},
        "streamPerspective": perspective,
    })
}

/// What is said in a message: never silence, and different in each.
fn said(message: usize, samples: usize) -> Vec<u8> {
    (0..samples).map(|n| u8::try_from((n * 31 + message * 7 + message * n % 13) % 251).expect("below 251")).collect()
}
