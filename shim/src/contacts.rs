//! The contacts that have streams on this task: who is current, whom to fence, what to tell those who watch.
//!
//! Touched when streams open, close, fall silent or speak again; never per frame.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use earpiece_core::contact::event::{ContactEvent, What};
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::state::{Contact, Effect, Event};
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::Perspective;
use tokio::sync::{broadcast, oneshot};

/// Tells a stream's task to end the stream, once.
pub(crate) type EndSignal = oneshot::Sender<CloseReason>;

/// What this task knows of its contacts.
pub(crate) struct Contacts {
    quiet_us: i64,
    watchers: broadcast::Sender<ContactEvent>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    contacts: HashMap<ContactKey, Contact>,
    streams: HashMap<StreamId, EndSignal>,
}

impl Contacts {
    pub(crate) fn new(quiet_us: i64, watchers: broadcast::Sender<ContactEvent>) -> Self {
        Self { quiet_us, watchers, known: Mutex::default() }
    }

    /// Enters a stream that was acknowledged, and fences the one before it.
    ///
    /// # Errors
    ///
    /// [`CloseReason::Superseded`] when a newer stream holds the perspective on this task.
    pub(crate) fn open(
        &self,
        contact: ContactKey,
        perspective: &Perspective,
        stream: StreamId,
        generation: Option<u64>,
        now_us: i64,
    ) -> Result<oneshot::Receiver<CloseReason>, CloseReason> {
        let (signal, signalled) = oneshot::channel();
        let effect = self.with(|known| {
            let machine = known.contacts.entry(contact).or_insert_with(|| Contact::new(self.quiet_us));
            let opened = Event::Opened { perspective: perspective.clone(), stream, generation };
            let effect = machine.step(now_us, opened);
            if effect == Effect::RefuseStale {
                return effect;
            }
            known.streams.insert(stream, signal);
            effect
        });
        match effect {
            Effect::RefuseStale => return Err(CloseReason::Superseded),
            Effect::Fence(old) => self.end(old, CloseReason::Superseded),
            Effect::Resumed => self.tell(contact, now_us, What::Resumed),
            _ => {}
        }
        self.tell(contact, now_us, What::StreamOpened { stream, perspective: perspective.clone(), generation });
        Ok(signalled)
    }

    /// Notes something that happened to a stream and tells what follows for the contact.
    pub(crate) fn note(&self, contact: ContactKey, now_us: i64, event: Event) {
        let effect = self
            .with(|known| known.contacts.get_mut(&contact).map_or(Effect::None, |machine| machine.step(now_us, event)));
        match effect {
            Effect::Resumed => self.tell(contact, now_us, What::Resumed),
            Effect::OnHold | Effect::SilentHold => self.tell(contact, now_us, What::OnHold),
            _ => {}
        }
    }

    /// Notes that a stream ended, and forgets it.
    pub(crate) fn close(&self, contact: ContactKey, stream: StreamId, now_us: i64) {
        self.with(|known| known.streams.remove(&stream));
        self.note(contact, now_us, Event::Closed(stream));
    }

    /// Forgets a contact that was finished, unless it came back in the meantime.
    pub(crate) fn forget(&self, contact: ContactKey) {
        self.with(|known| {
            if known.contacts.get(&contact).is_some_and(|machine| machine.open() == 0) {
                known.contacts.remove(&contact);
            }
        });
    }

    /// Forgets contacts that have been quiet for so long that another task must have finished them.
    pub(crate) fn forget_quiet(&self, now_us: i64) {
        self.with(|known| {
            known.contacts.retain(|_, machine| {
                machine.step(now_us, Event::Tick);
                !machine.is_over()
            });
        });
    }

    /// Ends a stream of this task, if it lives.
    pub(crate) fn end(&self, stream: StreamId, reason: CloseReason) {
        if let Some(signal) = self.with(|known| known.streams.remove(&stream)) {
            // A stream that ended by itself in this instant needs no telling.
            let _ = signal.send(reason);
        }
    }

    /// The live streams of this task.
    pub(crate) fn streams(&self) -> Vec<StreamId> {
        self.with(|known| known.streams.keys().copied().collect())
    }

    /// Tells those who watch, if anybody does.
    pub(crate) fn tell(&self, contact: ContactKey, at_us: i64, what: What) {
        if self.watchers.receiver_count() > 0 {
            let _ = self.watchers.send(ContactEvent { contact, at_us, what });
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: ContactKey = ContactKey { bus_no: 1, contact_id: 2 };

    #[tokio::test]
    async fn a_newer_socket_ends_the_older_one_of_its_perspective_only() {
        let contacts = Contacts::new(1, broadcast::channel(4).0);
        let (first, second, other) = (StreamId::new(), StreamId::new(), StreamId::new());
        let first_end = contacts.open(CONTACT, &Perspective::Tx, first, Some(1), 0).expect("current");
        let mut other_end = contacts.open(CONTACT, &Perspective::Rx, other, Some(1), 0).expect("current");
        let _second_end = contacts.open(CONTACT, &Perspective::Tx, second, Some(2), 1).expect("current");
        assert_eq!(first_end.await, Ok(CloseReason::Superseded));
        assert!(other_end.try_recv().is_err());
        assert!(contacts.open(CONTACT, &Perspective::Tx, first, Some(1), 2).is_err());
    }

    #[test]
    fn a_finished_contact_is_forgotten() {
        let contacts = Contacts::new(10, broadcast::channel(4).0);
        let stream = StreamId::new();
        let _end = contacts.open(CONTACT, &Perspective::Mix, stream, Some(1), 0);
        contacts.forget(CONTACT);
        contacts.forget_quiet(1_000);
        assert_eq!(contacts.with(|known| known.contacts.len()), 1, "an open contact stays");
        contacts.close(CONTACT, stream, 5);
        contacts.forget_quiet(1_000);
        assert_eq!(contacts.with(|known| known.contacts.len()), 0);
        assert!(contacts.streams().is_empty());
    }
}
