//! Leases: of many tasks exactly one does what only one may do.
//!
//! No clocks are compared. A holder counts its `beat` up; whoever waits watches that beat with a clock of its own, and
//! takes the lease exactly as it last saw it. Every taking counts the `token` up, for ever: what is written under a
//! token can be refused once a later one was seen. A lease has no time to live, as its tokens must not begin again.

use crate::attribute::{Item, WRITER, flag, flag_of, is_text, n, new_writer, number, required, s, text};
use crate::client::Store;
use crate::error::{StoreError, fits};
use crate::key::Key;
use crate::utterance::ID_BYTES_MAX;
use crate::write::{Change, Outcome};

const HOLDER: &str = "lease_holder";
const TOKEN: &str = "lease_token";
const BEAT: &str = "lease_beat";
const IS_RELEASED: &str = "lease_released";

/// A lease as it stood when it was read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// What it is for.
    pub name: String,
    /// The task that has it, or that had it last.
    pub holder: String,
    /// Counts the takings, from 1: the fencing token.
    pub token: u64,
    /// Counts the renewals since it was taken.
    pub beat: u64,
    /// Whether its holder gave it back: then it may be taken at once.
    pub released: bool,
}

impl Store {
    /// A lease as it stands, including every write that was answered before; none when nobody ever took it.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn lease(&self, name: &str) -> Result<Option<LeaseRecord>, StoreError> {
        let item = self.for_leases().item(&Key::lease(name)).await?;
        item.as_ref().map(|item| read(item, name)).transpose()
    }

    /// Takes a lease that stands exactly as it was `seen` (nobody took or renewed it since), or that nobody ever took.
    /// Of all that saw the same, exactly one gets it. When it may be taken is the caller's to know: after it was
    /// released, or after its beat stood still for longer than its holder works without a renewal.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when a name does not fit; otherwise when the table did not do it. It may be taken then:
    /// it is free again when its beat has stood still for as long as any other's.
    pub async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        seen: Option<&LeaseRecord>,
    ) -> Result<Option<LeaseRecord>, StoreError> {
        fits("the name of a lease", name.len(), ID_BYTES_MAX)?;
        fits("the holder of a lease", holder.len(), ID_BYTES_MAX)?;
        let taker = new_writer();
        let change = match seen {
            None => Change::new().only_if(format!("attribute_not_exists({TOKEN})")),
            Some(seen) => Change::new()
                .only_if(format!("{TOKEN} = :seen_token AND {BEAT} = :seen_beat"))
                .value(":seen_token", n(seen.token))
                .value(":seen_beat", n(seen.beat)),
        };
        let token = seen.map_or(0, |seen| seen.token).saturating_add(1);
        let change = change
            .set(HOLDER, ":holder")
            .set(TOKEN, ":token")
            .set(BEAT, ":zero")
            .set(IS_RELEASED, ":false")
            .set(WRITER, ":taker")
            .value(":holder", s(holder))
            .value(":token", n(token))
            .value(":zero", n(0))
            .value(":false", flag_of(false))
            .value(":taker", s(taker.clone()));
        match self.for_leases().change_item(&Key::lease(name), change).await? {
            Outcome::Applied(item) => read(&item, name).map(Some),
            // The request was sent twice, and the first one arrived.
            Outcome::Refused(Some(item)) if is_text(&item, WRITER, &taker) => read(&item, name).map(Some),
            Outcome::Refused(_) => Ok(None),
        }
    }

    /// Says that the holder lives. None when the lease is lost: another took it, or it was given back.
    ///
    /// # Errors
    /// When the table did not do it. The beat may have moved or not: renew again, and stop before others may take it.
    pub async fn renew_lease(&self, mine: &LeaseRecord) -> Result<Option<LeaseRecord>, StoreError> {
        // Not tied to the beat: a renewal whose answer got lost, and which the SDK sent again, only beats twice.
        let change = held(mine)
            .only_if(format!("{IS_RELEASED} = :false"))
            .set(BEAT, &format!("{BEAT} + :one"))
            .value(":false", flag_of(false));
        match self.for_leases().change_item(&Key::lease(&mine.name), change).await? {
            Outcome::Applied(item) => read(&item, &mine.name).map(Some),
            Outcome::Refused(_) => Ok(None),
        }
    }

    /// Gives a lease back, so that others need not wait for its beat to stand still. That it is lost is no error.
    ///
    /// # Errors
    /// When the table did not do it. Others then wait as if the holder had died.
    pub async fn release_lease(&self, mine: &LeaseRecord) -> Result<(), StoreError> {
        let change = held(mine).set(IS_RELEASED, ":true").value(":true", flag_of(true)).quietly();
        self.for_leases().change_item(&Key::lease(&mine.name), change).await?;
        Ok(())
    }
}

/// A change by whoever holds the lease still.
fn held(mine: &LeaseRecord) -> Change {
    Change::new().only_if(format!("{TOKEN} = :mine")).value(":mine", n(mine.token))
}

fn read(item: &Item, name: &str) -> Result<LeaseRecord, StoreError> {
    Ok(LeaseRecord {
        name: name.to_owned(),
        holder: required(item, HOLDER, text)?,
        token: required(item, TOKEN, number)?,
        beat: required(item, BEAT, number)?,
        released: required(item, IS_RELEASED, flag)?,
    })
}
