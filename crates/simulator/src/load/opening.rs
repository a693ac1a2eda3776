//! Opening one stream: connect, upgrade, init message, answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use earpiece_core::contact::ContactKey;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{LoadPlan, Tally, pacer, source};
use crate::dial::{Endpoint, connect_from, is_connected, micros};
use crate::init::InitShape;
use crate::wire::{Frames, UpgradeError, opcode, push_frame, read_frame, upgrade};

const MASK: [u8; 4] = [0x5A, 0x17, 0xE3, 0x88];

/// What opens streams.
pub(super) struct Opener {
    pub(super) endpoint: Endpoint,
    pub(super) address: SocketAddr,
    pub(super) plan: LoadPlan,
    pub(super) tally: Arc<Tally>,
}

/// How opening a stream went: time from dialling to the open WebSocket and from init message to answer, or why not.
pub(super) type Opened = Result<Times, String>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) connect_us: u64,
    pub(super) ack_us: u64,
}

impl Opener {
    pub(super) async fn open(&self, index: u32) -> (Opened, Option<pacer::Stream>) {
        let limit = self.plan.connect_timeout;
        let opened = timeout(limit, self.shake_hands(index)).await.unwrap_or_else(|_| Err("timeout".to_owned()));
        match opened {
            Ok((times, tcp, frames)) => {
                self.tally.opened.fetch_add(1, Ordering::Relaxed);
                self.tally.live.fetch_add(1, Ordering::Relaxed);
                (Ok(times), Some(pacer::Stream::new(index, tcp, frames)))
            }
            Err(reason) => {
                self.tally.refused.fetch_add(1, Ordering::Relaxed);
                (Err(reason), None)
            }
        }
    }

    async fn shake_hands(&self, index: u32) -> Result<(Times, TcpStream, Frames), String> {
        let begun = Instant::now();
        let local = source(&self.plan, self.address, index);
        let broken = |error: std::io::Error| format!("io {}", error.kind());
        let mut tcp = connect_from(local, self.address).await.map_err(broken)?;
        let mut frames = upgrade(&mut tcp, &self.endpoint).await.map_err(|error| match error {
            UpgradeError::Status(status) => format!("http {status}"),
            UpgradeError::Nonsense => "no websocket".to_owned(),
            UpgradeError::Io(error) => broken(error),
        })?;
        let connect_us = micros(begun.elapsed());
        let init = self.init(index);
        // Before the write: an answer must never look quicker than it was.
        let sent = Instant::now();
        tcp.write_all(&init).await.map_err(broken)?;
        let mut refused = false;
        while let Some(frame) = read_frame(&mut tcp, &mut frames).await.map_err(broken)? {
            match frame.close_code() {
                Some(code) => return Err(format!("close {code}")),
                None if frame.opcode == opcode::TEXT && is_connected(&frame.payload) => {
                    return Ok((Times { connect_us, ack_us: micros(sent.elapsed()) }, tcp, frames));
                }
                // An `ERROR`: the close frame behind it says why.
                None => refused |= frame.opcode == opcode::TEXT,
            }
        }
        Err(if refused { "refused" } else { "eof" }.to_owned())
    }

    /// The init frame of a stream: two streams, TX and RX, make a contact.
    fn init(&self, index: u32) -> Vec<u8> {
        let first = self.plan.first_contact;
        let contact = ContactKey { contact_id: first.contact_id.saturating_add(u64::from(index / 2)), ..first };
        let perspective = json!(if index.is_multiple_of(2) { "TX" } else { "RX" });
        let message = InitShape::default().message(contact, self.plan.token.as_ref(), &perspective);
        let mut frame = Vec::with_capacity(message.len() + 8);
        push_frame(&mut frame, opcode::TEXT, MASK, &message);
        frame
    }
}
