//! `utterances`: dead letters, and another try for them.

use earpiece_core::contact::ContactKey;
use earpiece_store::{DueUtterance, Store};
use serde_json::{Value, json};

use crate::args::{Act, UtterancesArgs};
use crate::clock::now_ms;
use crate::paint::Tone;
use crate::serve::from_store;
use crate::source::Source;
use crate::stage::Stage;
use crate::trouble::Trouble;

/// Dead letters that are shown, or revived by `--all`, in one go; the store gives so many at once.
const LETTERS_MAX: usize = 32;

/// Shows dead letters, or revives them.
///
/// # Errors
///
/// When the store cannot be read or written, or a letter that was asked for is not there.
pub(crate) async fn run(args: &UtterancesArgs, stage: &Stage) -> Result<(), Trouble> {
    let opening = Source::open(&args.data, args.table.as_deref());
    let source = stage.meanwhile("opening the state", opening).await?;
    let done = match &source.store {
        None => Err(Trouble::failed(format!("there is no state in {}, only recordings", source.name))),
        Some(store) => match &args.act {
            None => list(store, stage).await,
            Some(Act::Revive { bus_no: Some(bus_no), contact_id: Some(contact_id), key: Some(key), .. }) => {
                let contact = ContactKey { bus_no: *bus_no, contact_id: *contact_id };
                revive(store, &contact, key, stage).await
            }
            Some(Act::Revive { .. }) => revive_all(store, stage).await,
        },
    };
    stage.meanwhile("closing the state", source.close()).await;
    done
}

async fn letters(store: &Store, stage: &Stage) -> Result<Vec<DueUtterance>, Trouble> {
    let asking = store.dead_utterances(now_ms(), LETTERS_MAX);
    stage.meanwhile("asking the store", asking).await.map_err(|error| from_store(&error))
}

async fn list(store: &Store, stage: &Stage) -> Result<(), Trouble> {
    let letters = letters(store, stage).await?;
    if letters.is_empty() {
        stage.line("no dead letters: every utterance was delivered, or is still being tried");
    } else {
        stage.line(stage.paint.tone(Tone::Bold, "BUS CONTACT KEY, tries, bytes, why"));
    }
    for letter in &letters {
        stage.line(format!(
            "{} {} {}  {} tries, {} bytes, {}",
            letter.contact.bus_no,
            letter.contact.contact_id,
            letter.key,
            letter.attempts,
            letter.payload.len(),
            letter.dead_reason.as_deref().unwrap_or("unknown"),
        ));
    }
    if letters.len() == LETTERS_MAX {
        stage.line(format!("the oldest {LETTERS_MAX}; there may be more"));
    }
    if !letters.is_empty() {
        stage
            .line(stage.paint.tone(Tone::Faint, "  another try: earpiece utterances revive BUS CONTACT KEY, or --all"));
    }
    stage.document(&letters.iter().map(described).collect::<Vec<_>>())
}

fn described(letter: &DueUtterance) -> Value {
    json!({
        "contact": letter.contact,
        "key": letter.key,
        "requestId": letter.request_id,
        "attempts": letter.attempts,
        "bytes": letter.payload.len(),
        "acceptedAtMs": letter.accepted_at_ms,
        "buriedAtMs": letter.due_at_ms,
        "reason": letter.dead_reason,
    })
}

async fn revive(store: &Store, contact: &ContactKey, key: &str, stage: &Stage) -> Result<(), Trouble> {
    let reviving = store.revive_utterance(contact, key, now_ms());
    if !stage.meanwhile("asking the store", reviving).await.map_err(|error| from_store(&error))? {
        return Err(Trouble::failed(format!("contact {contact} has no dead letter with this key"))
            .next("the list of them: earpiece utterances"));
    }
    told(stage, 1)
}

async fn revive_all(store: &Store, stage: &Stage) -> Result<(), Trouble> {
    let mut revived = 0_usize;
    loop {
        let letters = letters(store, stage).await?;
        let mut now = 0;
        for letter in &letters {
            let reviving = store.revive_utterance(&letter.contact, &letter.key, now_ms());
            now += usize::from(reviving.await.map_err(|error| from_store(&error))?);
        }
        revived += now;
        // The index may lag behind, and show some of them once more.
        if now == 0 {
            return told(stage, revived);
        }
    }
}

fn told(stage: &Stage, revived: usize) -> Result<(), Trouble> {
    stage.line(format!("{revived} revived; the next sweep delivers them"));
    stage.document(&json!({ "revived": revived }))
}
