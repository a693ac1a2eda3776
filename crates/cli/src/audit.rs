//! `audit`: whether the record of an interaction is whole, and the record itself.

use std::path::Path;

use earpiece_core::assist::InteractionId;
use earpiece_core::assist::audit::{self, Broken, Head, Record, Verified};
use earpiece_store::Store;
use serde_json::json;

use crate::args::{AuditArgs, Auditing};
use crate::clock::now_ms;
use crate::serve::from_store;
use crate::source::Source;
use crate::stage::{Stage, print};
use crate::trouble::Trouble;

/// Verifies or exports.
///
/// # Errors
///
/// When it cannot be read, or the chain is broken.
pub(crate) async fn run(args: &AuditArgs, stage: &Stage) -> Result<(), Trouble> {
    if let Auditing::Verify { file: Some(file), head, .. } = &args.act {
        return verify_file(file, head.as_ref(), stage);
    }
    let opening = Source::open(&args.data, args.table.as_deref());
    let source = stage.meanwhile("opening the state", opening).await?;
    let done = match (&source.store, &args.act) {
        (None, _) => Err(Trouble::failed(format!("there is no state in {}, only recordings", source.name))),
        (Some(store), Auditing::Verify { interaction: Some(id), .. }) => verify(store, id, stage).await,
        (Some(store), Auditing::Export { interaction }) => export(store, interaction, stage).await,
        (Some(_), Auditing::Verify { interaction: None, .. }) => {
            Err(Trouble::usage("verify what? an interaction, or --file"))
        }
    };
    stage.meanwhile("closing the state", source.close()).await;
    done
}

async fn records(store: &Store, id: &InteractionId, stage: &Stage) -> Result<Vec<Record>, Trouble> {
    let records = stage.meanwhile("reading the audit", store.audit(id)).await.map_err(|error| from_store(&error))?;
    if records.is_empty() {
        return Err(Trouble::failed(format!("nothing is known of interaction {id}"))
            .next("its id is the contact's id, unless it was submitted under another"));
    }
    Ok(records)
}

async fn verify(store: &Store, id: &InteractionId, stage: &Stage) -> Result<(), Trouble> {
    // The head first: what is appended meanwhile is then more than it names, and never less.
    let head = store.interaction(id, now_ms()).await.map_err(|error| from_store(&error))?.interaction.audit;
    let mut records = records(store, id, stage).await?;
    records.truncate(usize::try_from(head.count).unwrap_or(usize::MAX).max(1));
    tell(audit::verify(records.into_iter(), Some(&head)), &format!("interaction {id}"), stage)
}

fn verify_file(file: &Path, head: Option<&Head>, stage: &Stage) -> Result<(), Trouble> {
    let cannot = |why: String| Trouble::failed(format!("{} cannot be verified: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| cannot(error.to_string()))?;
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str::<Record>(line).map_err(|_| cannot(format!("line {} is no audit record", number + 1)))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let records = lines.map(read).collect::<Result<Vec<_>, _>>()?;
    tell(audit::verify(records.into_iter(), head), &file.display().to_string(), stage)
}

fn tell(verdict: Result<Verified, Broken>, of: &str, stage: &Stage) -> Result<(), Trouble> {
    match verdict {
        Ok(verified) => {
            stage.line(format!("the audit of {of} is whole: {} records", verified.count));
            stage.document(&json!({ "whole": true, "records": verified.count }))
        }
        Err(broken) => {
            stage.document(&json!({ "whole": false, "record": broken.number, "what": broken.what.label() }))?;
            if stage.json {
                return Err(Trouble::told());
            }
            Err(Trouble::failed(format!("the audit of {of} is broken at record {}: {broken}", broken.number))
                .next("an earlier export shows what was there: earpiece audit verify --file"))
        }
    }
}

async fn export(store: &Store, id: &InteractionId, stage: &Stage) -> Result<(), Trouble> {
    let records = records(store, id, stage).await?;
    let mut lines = String::new();
    for record in &records {
        let line = serde_json::to_string(record)
            .map_err(|error| Trouble::failed(format!("a record cannot be written: {error}")))?;
        lines.push_str(&line);
        lines.push('\n');
    }
    // JSON lines with or without --json: that is what it is for.
    print(&lines);
    if let Some(last) = records.last() {
        eprintln!(
            "earpiece: to find a missing end later: audit verify --file FILE --head {}:{}",
            last.number, last.hash
        );
    }
    Ok(())
}
