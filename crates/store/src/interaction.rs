//! The document of an interaction, and the one way in which it changes: read, step, write.
//!
//! The rules are a pure machine (`earpiece_core::assist`). What a step of it did is written in one transaction: the
//! document if nobody wrote it since it was read, the outbox entries that it put, closed or buried, and its audit
//! records. Whoever loses that race reads and steps again, so that however many submit at once, every one of them is
//! judged on what all before it did.
//!
//! A document has no time to live while entries of it wait to leave. Without any it is kept for as long as the caller
//! says after its last step, and no audit record or dead letter of it expires later than it does. So where a document
//! has expired, deleted or not, everything of the interaction has: the next step begins anew, its first record is
//! number 1 again, and may take the place of an expired one. What has not expired is never written over.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use earpiece_core::assist::{Effects, Entry, Interaction, InteractionId};
use tokio::sync::{Mutex, MutexGuard};

use crate::attribute::{
    Item, VERSION, WRITER, expiry_s, is_absent, is_expired, is_text, n, new_writer, number, required, s, seconds, text,
};
use crate::audit::recorded;
use crate::client::Store;
use crate::error::{StoreError, fits};
use crate::key::Key;
use crate::outbox::{burying, closing, put};
use crate::table::{EXPIRES_AT_S, PARTITION_KEY};
use crate::transaction::{Condition, Together, WRITES_MAX, unbuilt};
use crate::write::{Change, Outcome};

/// How large the document of an interaction may be as JSON, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// How much all entries and records of one step may be as JSON, in bytes: DynamoDB takes 4 MB at once.
pub const STEP_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How many entries and records one step may put, close, bury and append together: what DynamoDB writes at once, less
/// the document.
pub const STEP_EFFECTS_MAX: usize = WRITES_MAX - 1;
/// How often a step is tried that others get ahead of.
pub const STEP_ROUNDS_MAX: u32 = 64;
/// The longest pause before the second try; it is jittered, and doubles.
pub const STEP_PAUSE_INITIAL: Duration = Duration::from_millis(5);
/// The longest pause before any try.
pub const STEP_PAUSE_MAX: Duration = Duration::from_millis(200);
/// For how long a step waits at most while this process makes another of the same interaction.
pub const STEP_TURN_WAIT_MAX: Duration = Duration::from_secs(2);

/// Over how many turns the interactions are spread. Two that share one merely wait for each other.
const STEP_TURNS: u64 = 256;

const DOCUMENT: &str = "document";
/// When everything that was ever written of the interaction has expired, but for what waits to leave.
const KEPT_UNTIL_S: &str = "kept_until_s";
/// For how long the last step is kept: an operator's step is kept for as long.
const KEEP_MS: &str = "keep_ms";

/// An interaction as it stands in the table.
#[derive(Debug, Clone, PartialEq)]
pub struct InteractionRecord {
    /// Which.
    pub id: InteractionId,
    /// Counts the writes; 0 when it is not in the table.
    pub version: u64,
    /// Its document; empty when it is not in the table.
    pub interaction: Interaction,
}

/// Lets the steps that this process makes of one interaction follow one another. The table decides all the same: this
/// only spares the tries that a race would cost, and who waits for too long goes ahead without a turn.
#[derive(Clone)]
pub(crate) struct StepTurns(Arc<[Mutex<()>]>);

impl Default for StepTurns {
    fn default() -> Self {
        Self((0..STEP_TURNS).map(|_| Mutex::default()).collect())
    }
}

impl StepTurns {
    async fn take(&self, id: &InteractionId) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let turn = self.0.get(usize::try_from(hasher.finish() % STEP_TURNS).ok()?)?;
        tokio::time::timeout(STEP_TURN_WAIT_MAX, turn.lock()).await.ok()
    }
}

impl Store {
    /// An interaction as it stands, including every write that was answered before. One that is not in the table, or
    /// has expired, is empty and has version 0.
    ///
    /// # Errors
    /// When the table did not answer.
    pub async fn interaction(&self, id: &InteractionId, now_ms: i64) -> Result<InteractionRecord, StoreError> {
        let standing = self.standing(id, now_ms).await?;
        Ok(InteractionRecord { id: id.clone(), version: standing.version, interaction: standing.interaction })
    }

    /// Reads an interaction, steps it, and writes what the step did: the document, the entries and the audit records,
    /// all or nothing, and kept for `keep_ms`. When others wrote the document meanwhile, the `step` is called again on
    /// what stands then, at most [`STEP_ROUNDS_MAX`] times in all. A step that changes nothing writes nothing.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when a part of it does not fit; [`StoreError::Contended`] when others were ahead every
    /// time; otherwise when the table did not do it. After [`StoreError::Timeout`] the step may have been made: the
    /// same step again finds what the first one did.
    pub async fn step_interaction<T>(
        &self,
        id: &InteractionId,
        now_ms: i64,
        keep_ms: u64,
        step: impl FnMut(&mut Interaction) -> (T, Effects) + Send,
    ) -> Result<T, StoreError> {
        // Only a dead letter can lack, and there is none.
        self.step_with(id, now_ms, Some(keep_ms), None, step).await?.ok_or(StoreError::Contended)
    }

    /// A step that is kept for `keep_ms`, or without that for as long as the last one. If it closes the dead letter
    /// that it is about, that has to be what it was when it was read; otherwise nothing is written, and there is no
    /// answer.
    pub(crate) async fn step_with<T>(
        &self,
        id: &InteractionId,
        now_ms: i64,
        keep_ms: Option<u64>,
        letter: Option<&Entry>,
        mut step: impl FnMut(&mut Interaction) -> (T, Effects) + Send,
    ) -> Result<Option<T>, StoreError> {
        let _turn = self.step_turns.take(id).await;
        let mut lacks = Lacks::default();
        for round in 0..STEP_ROUNDS_MAX {
            let read = self.standing(id, now_ms).await?;
            let keep_ms = keep_ms.unwrap_or(read.keep_ms);
            let mut interaction = read.interaction.clone();
            let (answer, effects) = step(&mut interaction);
            let step = Step { id, now_ms, keep_ms, letter, read, interaction, effects: lacks.left_out_of(effects) };
            match self.write_step(&step).await? {
                Written::Done => return Ok(Some(answer)),
                Written::Behind => tokio::time::sleep(pause(round)).await,
                Written::Lacking(lacking) => {
                    if lacks.note(step.read.version, lacking)? == Way::Nowhere {
                        return Ok(None);
                    }
                }
            }
        }
        Err(StoreError::Contended)
    }

    async fn standing(&self, id: &InteractionId, now_ms: i64) -> Result<Standing, StoreError> {
        let item = self.item(&Key::interaction(id)).await?;
        match item.filter(|item| !is_expired(item, seconds(now_ms))) {
            Some(item) => Standing::read(&item),
            None => Ok(Standing::default()),
        }
    }

    async fn write_step(&self, step: &Step<'_>) -> Result<Written, StoreError> {
        if step.effects.is_empty() && step.interaction == step.read.interaction {
            return Ok(Written::Done);
        }
        let writer = new_writer();
        let document = step.document(&writer)?;
        if step.effects.is_empty() {
            return self.write_document(step.id, document, &writer).await;
        }
        let written = self.write_together_with(step, document, &writer).await?;
        if matches!(written, Written::Done) && step.brings_work() {
            self.outbox_changed.notify_waiters();
        }
        Ok(written)
    }

    /// Half the price of a transaction.
    async fn write_document(&self, id: &InteractionId, document: Change, writer: &str) -> Result<Written, StoreError> {
        match self.change_item(&Key::interaction(id), document.quietly()).await {
            Ok(Outcome::Applied(_)) => Ok(Written::Done),
            // The request was sent twice, and the first one arrived.
            Ok(Outcome::Refused(Some(item))) if is_text(&item, WRITER, writer) => Ok(Written::Done),
            Ok(Outcome::Refused(_)) | Err(StoreError::Contended) => Ok(Written::Behind),
            Err(error) => Err(error),
        }
    }

    async fn write_together_with(
        &self,
        step: &Step<'_>,
        document: Change,
        writer: &str,
    ) -> Result<Written, StoreError> {
        let mut together = vec![document.together(&self.table, &Key::interaction(step.id))?];
        let (parts, beside): (Vec<_>, Vec<_>) = step.parts(&self.table)?.into_iter().unzip();
        together.extend(beside);
        let conditions = match self.write_together(together, writer).await? {
            Together::Applied => return Ok(Written::Done),
            Together::Conflict => return Ok(Written::Behind),
            Together::Refused(conditions) => conditions,
        };
        match conditions.first() {
            // The request was sent twice, and the first one arrived.
            Some(Condition::Failed(Some(item))) if is_text(item, WRITER, writer) => Ok(Written::Done),
            Some(Condition::Failed(_)) => Ok(Written::Behind),
            _ => {
                let parts = parts.into_iter().zip(conditions.into_iter().skip(1));
                let failed = parts.filter(|(_, condition)| *condition != Condition::Held);
                Ok(Written::Lacking(failed.map(|(part, _)| part).collect()))
            }
        }
    }
}

/// How many audit records the document knows of that is this item.
pub(crate) fn recorded_count(item: &Item) -> Result<u64, StoreError> {
    Ok(Standing::read(item)?.interaction.audit.count)
}

/// What became of the writing of a step.
enum Written {
    Done,
    /// Others wrote the document since it was read.
    Behind,
    /// The document is as it was read, and the conditions of these other parts failed.
    Lacking(Vec<Part>),
}

/// What a step writes beside the document.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// An entry or a record where none is: its sort key.
    New(String),
    /// An entry that is over, whether it is there or not.
    Closed,
    /// An entry that is there: its number.
    Buried(u64),
    /// The dead letter that the step is about, which is over.
    Letter,
}

/// Where a step goes from what lacked.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// It is tried again.
    On,
    /// What it is about is not there.
    Nowhere,
}

/// What steps of one call wanted to write and could not.
#[derive(Debug, Default)]
struct Lacks {
    /// The version of the document on which something lacked first. Only what lacks on the same document again is not
    /// the trace of somebody else's step, of which the table told the parts before the document.
    version: Option<u64>,
    /// Entries that the document knows and the table does not: somebody has deleted them.
    gone: BTreeSet<u64>,
}

impl Lacks {
    /// The rest of a step is made: a slot must not stay taken because of an entry that will never leave.
    fn left_out_of(&self, mut effects: Effects) -> Effects {
        effects.bury.retain(|(seq, _)| !self.gone.contains(seq));
        effects
    }

    fn note(&mut self, version: u64, lacking: Vec<Part>) -> Result<Way, StoreError> {
        if self.version.replace(version) != Some(version) {
            return Ok(Way::On);
        }
        for part in lacking {
            match part {
                // Somebody has written there who does not know the document, or the document was lost.
                Part::New(sort) => return Err(StoreError::Damaged { attribute: sort }),
                Part::Buried(seq) => _ = self.gone.insert(seq),
                Part::Closed => {}
                Part::Letter => return Ok(Way::Nowhere),
            }
        }
        Ok(Way::On)
    }
}

/// A document as it was read. By default there is none.
#[derive(Debug, Default)]
struct Standing {
    version: u64,
    interaction: Interaction,
    kept_until_s: i64,
    keep_ms: u64,
}

impl Standing {
    fn read(item: &Item) -> Result<Self, StoreError> {
        let document = required(item, DOCUMENT, text)?;
        Ok(Self {
            version: required(item, VERSION, number)?,
            interaction: serde_json::from_str(&document)
                .map_err(|_| StoreError::Damaged { attribute: DOCUMENT.to_owned() })?,
            kept_until_s: required(item, KEPT_UNTIL_S, number)?,
            keep_ms: required(item, KEEP_MS, number)?,
        })
    }
}

/// One try of a step.
struct Step<'a> {
    id: &'a InteractionId,
    now_ms: i64,
    keep_ms: u64,
    letter: Option<&'a Entry>,
    read: Standing,
    interaction: Interaction,
    effects: Effects,
}

impl Step<'_> {
    /// Whether something is due that was not before.
    fn brings_work(&self) -> bool {
        self.effects.put.iter().any(|entry| entry.dead.is_none())
    }

    /// A caller that keeps for a shorter time than those before must not let the document go before their records.
    fn kept_until_s(&self) -> i64 {
        expiry_s(self.now_ms, self.keep_ms).max(self.read.kept_until_s)
    }

    fn document(&self, writer: &str) -> Result<Change, StoreError> {
        let document = json("the document of an interaction", &self.interaction, DOCUMENT_BYTES_MAX)?;
        let change = match self.read.version {
            0 => Change::new().only_if(is_absent(VERSION)).value(":now_s", n(seconds(self.now_ms))),
            version => Change::new().only_if(format!("{VERSION} = :read")).value(":read", n(version)),
        };
        let change = change
            .set(DOCUMENT, ":document")
            .set(KEPT_UNTIL_S, ":kept_until")
            .set(KEEP_MS, ":keep")
            .set(WRITER, ":writer")
            .value(":document", s(document))
            .value(":kept_until", n(self.kept_until_s()))
            .value(":keep", n(self.keep_ms))
            .value(":writer", s(writer));
        Ok(if self.interaction.open.is_empty() {
            change.set(EXPIRES_AT_S, ":kept_until")
        } else {
            change.remove(EXPIRES_AT_S)
        })
    }

    /// Everything but the document, each with what it is.
    fn parts(&self, table: &str) -> Result<Vec<(Part, TransactWriteItem)>, StoreError> {
        let Effects { put: entries, close, bury, audit } = &self.effects;
        let count = entries.len() + close.len() + bury.len() + audit.len();
        if count > STEP_EFFECTS_MAX {
            let message = format!("{count} effects of one step, of at most {STEP_EFFECTS_MAX}");
            return Err(StoreError::Refused { code: String::from("TooManyEffects"), message });
        }
        let (now_s, kept_until_s) = (seconds(self.now_ms), self.kept_until_s());
        let mut parts = Vec::with_capacity(count);
        let mut bytes = 0;
        for entry in entries {
            let (item, item_bytes) = put(entry, kept_until_s)?;
            bytes += item_bytes;
            parts.push(new(&Key::entry(self.id, entry.seq), item, table, now_s)?);
        }
        for record in audit {
            let (item, item_bytes) = recorded(record, kept_until_s)?;
            bytes += item_bytes;
            parts.push(new(&Key::audit(self.id, record.number), item, table, now_s)?);
        }
        fits("a step of an interaction", bytes, STEP_BYTES_MAX)?;
        for seq in close {
            let letter = self.letter.filter(|letter| letter.seq == *seq);
            let part = if letter.is_some() { Part::Letter } else { Part::Closed };
            parts.push((part, closing(self.id, *seq, letter, table)?));
        }
        for (seq, reason) in bury {
            let change = burying(self.id, reason, self.now_ms, kept_until_s);
            parts.push((Part::Buried(*seq), change.together(table, &Key::entry(self.id, *seq))?));
        }
        Ok(parts)
    }
}

/// An item that is written where none is, or an expired one.
fn new(key: &Key, item: Item, table: &str, now_s: i64) -> Result<(Part, TransactWriteItem), StoreError> {
    let mut whole = key.to_item();
    whole.extend(item);
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(whole))
        .condition_expression(is_absent(PARTITION_KEY))
        .expression_attribute_values(":now_s", n(now_s))
        .build()
        .map_err(|error| unbuilt(&error))?;
    Ok((Part::New(key.sort.clone()), TransactWriteItem::builder().put(put).build()))
}

/// Writes what is kept as JSON text, if it fits.
pub(crate) fn json(what: &'static str, value: &impl serde::Serialize, bytes_max: usize) -> Result<String, StoreError> {
    let text = serde_json::to_string(value)
        .map_err(|_| StoreError::Refused { code: String::from("Unwritable"), message: what.to_owned() })?;
    fits(what, text.len(), bytes_max)?;
    Ok(text)
}

/// Full jitter over a bound that doubles.
fn pause(round: u32) -> Duration {
    let bound = STEP_PAUSE_INITIAL.saturating_mul(1 << round.min(16)).min(STEP_PAUSE_MAX);
    bound.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_no_further() {
        for round in 0..STEP_ROUNDS_MAX {
            let bound = STEP_PAUSE_INITIAL * 2_u32.pow(round.min(6));
            assert!((0..100).all(|_| pause(round) <= bound.min(STEP_PAUSE_MAX)), "{round}");
        }
        assert!((0..100).any(|_| pause(STEP_ROUNDS_MAX) > STEP_PAUSE_MAX / 2));
    }

    #[test]
    fn what_lacks_is_believed_when_it_lacks_on_the_same_document_twice() {
        let missing = || vec![Part::Buried(7)];
        let effects = || Effects { bury: vec![(7, "refused")], ..Effects::default() };
        let mut lacks = Lacks::default();
        assert_eq!(lacks.note(1, missing()), Ok(Way::On));
        assert_eq!(lacks.note(2, missing()), Ok(Way::On));
        assert_eq!(lacks.left_out_of(effects()), effects(), "others stepped in between");
        assert_eq!(lacks.note(2, missing()), Ok(Way::On));
        assert_eq!(lacks.left_out_of(effects()), Effects::default());
        assert_eq!(lacks.note(2, vec![Part::Letter]), Ok(Way::Nowhere));
        let occupied = lacks.note(2, vec![Part::New(String::from("AUDIT#000000000001"))]);
        assert_eq!(occupied, Err(StoreError::Damaged { attribute: String::from("AUDIT#000000000001") }));
    }
}
