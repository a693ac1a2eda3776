//! A contact ends: by a contact event or by the quiet period (contract §1.10), and exactly one task finishes it.
//!
//! Whoever finds a contact due bids for it with [`Store::begin_ending`]. What is right to do is decided by [`decide`],
//! a pure function of the record; the decision is written only if nothing changed since the record was read.

use aws_sdk_dynamodb::types::AttributeValue;
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::facts::CloseReason;
use earpiece_core::contact::state::EndReason;

use crate::attribute::{VERSION, expiry_s, n, s};
use crate::client::Store;
use crate::contact::{ContactRecord, ContactState, StreamRecord};
use crate::error::StoreError;
use crate::item::{self, Slot, Stored, all_closed, any_open};
use crate::stream::FORMS_TRIED_MAX;
use crate::table;
use crate::write::{Change, Outcome};

/// A task's bid to finish a contact.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// Which contact.
    pub contact: ContactKey,
    /// Which task bids.
    pub task: &'a str,
    /// The time, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// How long nobody else may take over, in milliseconds.
    pub lease_ms: u64,
    /// How long a contact waits for another handshake, in milliseconds.
    pub quiet_ms: u64,
    /// How long a stream of which the record does not say it may go without a sign of life before its task counts as
    /// dead, in milliseconds.
    pub stale_after_ms: u64,
}

/// What is to be done about a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is over: finish it.
    End {
        /// Why it is over.
        reason: EndReason,
        /// The perspectives (labels) whose streams are open in the record, but whose task is dead.
        lost: Vec<String>,
    },
    /// It is over, and whoever was finishing it did not do so within its lease: finish it.
    TakeOver,
    /// Not now.
    Wait {
        /// When to look again, in milliseconds since the Unix epoch.
        until_ms: i64,
    },
    /// Nothing is left to do.
    Finished,
}

/// Decides what is to be done about a contact at `now_ms`.
///
/// A stream counts as closed when it ended or when its task was not heard of for as long as it said itself
/// ([`StreamRecord::stale_after_ms`](crate::StreamRecord::stale_after_ms)), or for `stale_after_ms` where it did not. A
/// contact without a stream is over at once when its end was requested, and otherwise `quiet_ms` after anything was last heard of it:
/// CXone shakes hands again after a task died as it does after a hold. What the Studio script says is a sign of life,
/// too, and while it has the contact on hold, the quiet period does not end it.
#[must_use]
pub fn decide(record: &ContactRecord, now_ms: i64, quiet_ms: u64, stale_after_ms: u64) -> Decision {
    match record.state {
        ContactState::Ended => return Decision::Finished,
        ContactState::Ending => {
            let lease_until_ms = record.finisher.as_ref().map_or(i64::MIN, |finisher| finisher.lease_until_ms);
            let is_held = now_ms < lease_until_ms;
            return if is_held { Decision::Wait { until_ms: lease_until_ms } } else { Decision::TakeOver };
        }
        ContactState::Live => {}
    }
    let open = || record.streams.iter().filter(|(_, stream)| stream.open);
    let is_stale_ms = |stream: &StreamRecord| {
        stream.seen_at_ms.saturating_add_unsigned(stream.stale_after_ms.unwrap_or(stale_after_ms))
    };
    let last_is_stale_ms = open().map(|(_, stream)| is_stale_ms(stream)).max();
    if let Some(until_ms) = last_is_stale_ms.filter(|until_ms| now_ms < *until_ms) {
        return Decision::Wait { until_ms };
    }
    let lost = open().map(|(label, _)| label.clone()).collect();
    if record.end_requested {
        return Decision::End { reason: EndReason::Event, lost };
    }
    let last_heard_ms = record.streams.values().map(|stream| stream.seen_at_ms).chain(record.script_at_ms).max();
    let last_heard_ms = last_heard_ms.unwrap_or(record.opened_at_us / 1000);
    let quiet_until_ms = last_heard_ms.saturating_add_unsigned(quiet_ms);
    let quiet_until_ms = record.hold.map_or(quiet_until_ms, |hold| quiet_until_ms.max(hold.until_ms));
    if now_ms < quiet_until_ms {
        return Decision::Wait { until_ms: quiet_until_ms };
    }
    Decision::End { reason: EndReason::Quiet, lost }
}

impl Store {
    /// Notes that a contact event said "over". A contact without an open stream is due at once; one that streams is
    /// due when its last stream ends. A handshake that comes later takes it back.
    ///
    /// Returns whether the contact is known; for one that is over already nothing changes.
    ///
    /// # Errors
    /// When the table did not do it.
    pub async fn request_end(&self, contact: &ContactKey, now_ms: i64) -> Result<bool, StoreError> {
        for form in 0..FORMS_TRIED_MAX {
            let change = if form % 2 == 0 { end_while_streaming(now_ms) } else { end_while_quiet(now_ms) };
            let Outcome::Refused(stored) = self.change(contact, change).await? else { return Ok(true) };
            let Some(stored) = stored.filter(|stored| !stored.is_expired(now_ms)) else { return Ok(false) };
            if stored.record.state != ContactState::Live {
                return Ok(true);
            }
        }
        Err(StoreError::Contended)
    }

    /// Bids to finish a contact. Of all tasks that bid, exactly one gets the contact, and has it until its lease runs
    /// out; all others get `None`. In the record that is returned every stream is closed, those of dead tasks as
    /// [`CloseReason::TaskLost`].
    ///
    /// A contact that is due but not over yet is given its right due time on the way.
    ///
    /// # Errors
    /// When the table did not do it.
    pub async fn begin_ending(&self, ending: &Ending<'_>) -> Result<Option<ContactRecord>, StoreError> {
        let &Ending { contact, now_ms, quiet_ms, stale_after_ms, .. } = ending;
        let Some(read) = self.stored(&contact, now_ms).await? else { return Ok(None) };
        let change = match decide(&read.record, now_ms, quiet_ms, stale_after_ms) {
            Decision::End { reason, lost } => lost
                .iter()
                .filter_map(|label| Slot::ALL.into_iter().find(|slot| slot.label == label.as_str()))
                .fold(ending_change(ending), lose)
                .set(item::ENDED_AT_MS, ":now")
                .set(item::END_REASON, ":reason")
                .value(":now", n(now_ms))
                .value(":reason", s(reason.label())),
            Decision::TakeOver => ending_change(ending),
            Decision::Wait { until_ms } => {
                self.put_off(&read, now_ms, until_ms).await?;
                return Ok(None);
            }
            Decision::Finished => return Ok(None),
        };
        match self.change(&contact, unchanged_since(&read, change)).await? {
            Outcome::Applied(stored) => Ok(Some(stored.record)),
            // The request was sent twice and the first one arrived: the lease is ours.
            Outcome::Refused(Some(stored)) if is_won(&stored, &read, ending) => Ok(Some(stored.record)),
            Outcome::Refused(_) => Ok(None),
        }
    }

    /// Notes that a contact's recording and ledger are written, and lets its record expire after `retain_ms`.
    ///
    /// Returns false when the contact is not this task's to finish any more: it was opened again, or another task took
    /// over. A task works at one ending of a contact at a time; two of its own cannot be told apart here.
    ///
    /// # Errors
    /// When the table did not do it.
    pub async fn finish(
        &self,
        contact: &ContactKey,
        task: &str,
        now_ms: i64,
        retain_ms: u64,
    ) -> Result<bool, StoreError> {
        let change = Change::new()
            .only_if(format!("{} = :ending", item::STATE))
            .only_if(format!("{} = :task", item::FINISHER_TASK))
            .set(item::STATE, ":ended")
            .set(item::FINISHED_BY, ":task")
            .set(table::EXPIRES_AT_S, ":expires")
            .remove(item::FINISHER_TASK)
            .remove(item::FINISHER_LEASE_UNTIL_MS)
            .remove(table::DUE_SHARD)
            .remove(table::DUE_AT_MS)
            .value(":ending", s(ContactState::Ending.label()))
            .value(":ended", s(ContactState::Ended.label()))
            .value(":task", s(task))
            .value(":expires", n(expiry_s(now_ms, retain_ms)));
        Ok(match self.change(contact, change).await? {
            Outcome::Applied(_) => true,
            Outcome::Refused(stored) => stored.is_some_and(|stored| stored.finished_by.as_deref() == Some(task)),
        })
    }

    /// Gives a contact that is due too early its right due time. That somebody else changed it meanwhile is as good.
    async fn put_off(&self, read: &Stored, now_ms: i64, until_ms: i64) -> Result<(), StoreError> {
        let is_due = read.record.due_at_ms.is_some_and(|due_at_ms| due_at_ms <= now_ms);
        if is_due {
            let change = Change::new().set(table::DUE_AT_MS, ":until").value(":until", n(until_ms));
            self.change(&read.record.contact, unchanged_since(read, change)).await?;
        }
        Ok(())
    }
}

fn unchanged_since(read: &Stored, change: Change) -> Change {
    change.only_if(format!("{VERSION} = :read")).value(":read", n(read.version))
}

fn end_while_streaming(now_ms: i64) -> Change {
    end_requested(now_ms).only_if(any_open(Slot::ALL)).value(":true", AttributeValue::Bool(true))
}

fn end_while_quiet(now_ms: i64) -> Change {
    end_requested(now_ms)
        .only_if(all_closed(Slot::ALL))
        .set(table::DUE_AT_MS, ":now")
        .value(":false", AttributeValue::Bool(false))
}

fn end_requested(now_ms: i64) -> Change {
    Change::new()
        .only_if(format!("{} = :live", item::STATE))
        .set(item::END_REQUESTED_AT_MS, &format!("if_not_exists({}, :now)", item::END_REQUESTED_AT_MS))
        .value(":live", s(ContactState::Live.label()))
        .value(":now", n(now_ms))
}

fn ending_change(ending: &Ending<'_>) -> Change {
    Change::new()
        .set(item::STATE, ":ending")
        .set(item::FINISHER_TASK, ":task")
        .set(item::FINISHER_LEASE_UNTIL_MS, ":lease_until")
        .set(table::DUE_AT_MS, ":lease_until")
        .value(":ending", s(ContactState::Ending.label()))
        .value(":task", s(ending.task))
        .value(":lease_until", n(lease_until_ms(ending)))
}

/// Closes a stream whose task is dead. `:false` and `:task_lost` are the same for all.
fn lose(change: Change, slot: Slot) -> Change {
    change
        .set(slot.attribute("open"), ":false")
        .set(slot.attribute("close_reason"), ":task_lost")
        .value(":false", AttributeValue::Bool(false))
        .value(":task_lost", s(CloseReason::TaskLost.label()))
}

fn lease_until_ms(ending: &Ending<'_>) -> i64 {
    ending.now_ms.saturating_add_unsigned(ending.lease_ms)
}

fn is_won(stored: &Stored, read: &Stored, ending: &Ending<'_>) -> bool {
    let is_next = stored.version == read.version.saturating_add(1);
    let holds = |finisher: &crate::contact::Finisher| {
        finisher.task == ending.task && finisher.lease_until_ms == lease_until_ms(ending)
    };
    is_next && stored.record.finisher.as_ref().is_some_and(holds)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use earpiece_core::contact::StreamId;

    use super::*;
    use crate::contact::{Finisher, Hold};

    const QUIET_MS: u64 = 900_000;
    const STALE_MS: u64 = 180_000;

    fn stream(open: bool, seen_at_ms: i64) -> StreamRecord {
        StreamRecord {
            stream: StreamId::new(),
            generation: 1,
            opened_at_us: 0,
            task: String::from("task"),
            open,
            samples: 0,
            seen_at_ms,
            stale_after_ms: None,
            close_reason: (!open).then_some(CloseReason::PeerClosed),
        }
    }

    fn live(streams: &[(&str, bool, i64)]) -> ContactRecord {
        ContactRecord {
            contact: ContactKey { bus_no: 1, contact_id: 2 },
            state: ContactState::Live,
            opened_at_us: 0,
            streams: streams.iter().map(|(label, open, seen)| ((*label).to_owned(), stream(*open, *seen))).collect(),
            end_requested: false,
            finisher: None,
            due_at_ms: None,
            ended_at_ms: None,
            end_reason: None,
            hold: None,
            script_at_ms: None,
        }
    }

    fn decided(record: &ContactRecord, now_ms: i64) -> Decision {
        decide(record, now_ms, QUIET_MS, STALE_MS)
    }

    #[test]
    fn a_contact_that_streams_waits_until_its_last_task_would_count_as_dead() {
        let record = live(&[("TX", true, 1000), ("RX", true, 5000)]);
        assert_eq!(decided(&record, 181_000), Decision::Wait { until_ms: 185_000 });
        let requested = ContactRecord { end_requested: true, ..record };
        assert_eq!(decided(&requested, 181_000), Decision::Wait { until_ms: 185_000 });
    }

    #[test]
    fn a_stream_is_lost_by_its_own_measure_and_not_by_that_of_who_looks() {
        let mut record = live(&[("TX", true, 1000), ("RX", true, 1000)]);
        let mut says = |label: &str, stale_after_ms| {
            record.streams.entry(label.to_owned()).and_modify(|stream| stream.stale_after_ms = stale_after_ms);
            record.clone()
        };
        let patient = says("TX", Some(2_000_000));
        assert_eq!(decided(&patient, 2_000_999), Decision::Wait { until_ms: 2_001_000 });
        let both = vec![String::from("RX"), String::from("TX")];
        assert_eq!(decided(&patient, 2_001_000), Decision::End { reason: EndReason::Quiet, lost: both.clone() });
        let one_is_impatient = says("TX", Some(1));
        assert_eq!(decided(&one_is_impatient, 180_999), Decision::Wait { until_ms: 181_000 }, "the other is not");
        let all_are = ContactRecord { end_requested: true, ..says("RX", Some(1)) };
        assert_eq!(decided(&all_are, 1001), Decision::End { reason: EndReason::Event, lost: both });
    }

    #[test]
    fn a_closed_contact_is_over_when_quiet_and_not_a_millisecond_before() {
        let record = live(&[("TX", false, 1000), ("RX", false, 5000)]);
        assert_eq!(decided(&record, 904_999), Decision::Wait { until_ms: 905_000 });
        assert_eq!(decided(&record, 905_000), Decision::End { reason: EndReason::Quiet, lost: vec![] });
    }

    #[test]
    fn a_known_hold_postpones_the_quiet_period_and_not_for_ever() {
        let hold = Some(Hold { since_ms: 6000, until_ms: 3_606_000 });
        let record = ContactRecord { hold, script_at_ms: Some(6000), ..live(&[("TX", false, 5000)]) };
        assert_eq!(decided(&record, 906_000), Decision::Wait { until_ms: 3_606_000 });
        assert_eq!(decided(&record, 3_606_000), Decision::End { reason: EndReason::Quiet, lost: vec![] });
        let resumed = ContactRecord { hold: None, script_at_ms: Some(2_000_000), ..record };
        assert_eq!(decided(&resumed, 2_000_001), Decision::Wait { until_ms: 2_900_000 }, "a resume is a sign of life");
    }

    #[test]
    fn a_hold_shortens_nothing_and_does_not_outlast_a_requested_end() {
        let hold = Some(Hold { since_ms: 5000, until_ms: 6000 });
        let record = ContactRecord { hold, ..live(&[("TX", false, 5000)]) };
        assert_eq!(decided(&record, 6000), Decision::Wait { until_ms: 905_000 });
        let requested = ContactRecord { end_requested: true, ..record };
        assert_eq!(decided(&requested, 5500), Decision::End { reason: EndReason::Event, lost: vec![] });
    }

    #[test]
    fn a_requested_end_does_not_wait_for_quiet() {
        let record = ContactRecord { end_requested: true, ..live(&[("TX", false, 1000), ("RX", true, 0)]) };
        assert_eq!(decided(&record, 179_999), Decision::Wait { until_ms: 180_000 });
        let lost = vec![String::from("RX")];
        assert_eq!(decided(&record, 180_000), Decision::End { reason: EndReason::Event, lost });
    }

    #[test]
    fn a_dead_task_leaves_a_contact_that_still_waits_for_the_next_handshake() {
        let record = live(&[("TX", true, 1000), ("RX", false, 500)]);
        assert_eq!(decided(&record, 181_000), Decision::Wait { until_ms: 901_000 });
        let lost = vec![String::from("TX")];
        assert_eq!(decided(&record, 901_000), Decision::End { reason: EndReason::Quiet, lost });
    }

    #[test]
    fn a_finisher_keeps_its_contact_until_its_lease_runs_out() {
        let finisher = Some(Finisher { task: String::from("task"), lease_until_ms: 50 });
        let record = ContactRecord { state: ContactState::Ending, finisher, ..live(&[("TX", false, 0)]) };
        assert_eq!(decided(&record, 49), Decision::Wait { until_ms: 50 });
        assert_eq!(decided(&record, 50), Decision::TakeOver);
        let orphaned = ContactRecord { finisher: None, ..record };
        assert_eq!(decided(&orphaned, 49), Decision::TakeOver);
    }

    #[test]
    fn nothing_is_left_to_do_about_an_ended_contact() {
        let record = ContactRecord { state: ContactState::Ended, ..live(&[("TX", false, 0)]) };
        assert_eq!(decided(&record, i64::MAX), Decision::Finished);
    }

    #[test]
    fn a_contact_that_never_streamed_is_quiet_from_its_opening() {
        let record = ContactRecord { opened_at_us: 7_000_000, streams: BTreeMap::new(), ..live(&[]) };
        assert_eq!(decided(&record, 0), Decision::Wait { until_ms: 907_000 });
        assert_eq!(decided(&record, 907_000), Decision::End { reason: EndReason::Quiet, lost: vec![] });
    }
}
