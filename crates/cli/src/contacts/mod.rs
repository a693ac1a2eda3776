//! `contacts`: what the store and the recordings know, beside a running server or without one.

mod show;

use std::time::{SystemTime, UNIX_EPOCH};

use earpiece_core::contact::ContactKey;
use earpiece_store::{ContactRecord, ContactState, EndReason};
use serde::Serialize;

use crate::args::{ContactsArgs, Look};
use crate::figure;
use crate::paint::{Paint, Tone};
use crate::serve::from_store;
use crate::source::Source;
use crate::stage::Stage;
use crate::trouble::Trouble;

/// Shows contacts.
///
/// # Errors
///
/// When neither store nor recordings can be read, or the contact that was asked for is in neither.
pub(crate) async fn run(args: &ContactsArgs, stage: &Stage) -> Result<(), Trouble> {
    let source = stage.meanwhile("opening the state", Source::open(&args.data, args.table.as_deref())).await?;
    let shown = match args.look {
        None => list(&source, args, stage).await,
        Some(Look::Show { bus_no, contact_id }) => show::show(&source, ContactKey { bus_no, contact_id }, stage).await,
    };
    stage.meanwhile("closing the state", source.close()).await;
    shown
}

/// One line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    contact: ContactKey,
    /// What the store knows; none when it has forgotten it, or never knew it.
    record: Option<ContactRecord>,
    /// Whether a finished recording is there.
    recorded: bool,
}

/// Every contact that store or recordings know, in the order of their names.
async fn gather(source: &Source, args: &ContactsArgs) -> Result<Vec<Entry>, Trouble> {
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut entries: Vec<Entry> = Vec::new();
    if let Some(store) = &source.store {
        let unfinished = store.live(limit).await.map_err(|error| from_store(&error))?;
        entries.extend(unfinished.into_iter().map(|record| Entry {
            contact: record.contact,
            record: Some(record),
            recorded: false,
        }));
    }
    for contact in source.recorded(limit) {
        if let Some(entry) = entries.iter_mut().find(|entry| entry.contact == contact) {
            entry.recorded = true;
        } else if entries.len() < limit {
            let record = source.record(contact, now_ms()).await?;
            entries.push(Entry { contact, record, recorded: true });
        }
    }
    entries.sort_by_key(|entry| entry.contact);
    Ok(entries)
}

async fn list(source: &Source, args: &ContactsArgs, stage: &Stage) -> Result<(), Trouble> {
    let entries = stage.meanwhile("asking the store, and looking for recordings", gather(source, args)).await?;
    if entries.is_empty() {
        stage.line(format!("no contacts yet in {}", source.name));
        stage.line(stage.paint.tone(Tone::Faint, format!("  place one: earpiece call --url {}", source.audio_hint())));
    } else {
        for line in table(&entries, stage.paint) {
            stage.line(line);
        }
        stage.line("");
        let closer = format!("  look closer: earpiece contacts show BUS CONTACT{}", source.flag());
        stage.line(stage.paint.tone(Tone::Faint, closer));
    }
    if let Some(remark) = &source.remark {
        stage.line(stage.paint.tone(Tone::Faint, format!("  {remark}")));
    }
    stage.document(&entries)
}

fn table(entries: &[Entry], paint: Paint) -> Vec<String> {
    let rows: Vec<[String; 5]> = entries.iter().map(row).collect();
    let head = ["CONTACT", "STATE", "STREAMS", "SINCE", "RECORDING"].map(str::to_owned);
    let mut widths = head.clone().map(|text| text.chars().count());
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    let laid_out = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(text, width)| format!("{text:width$}")).collect();
        format!("  {}", cells.join("  ").trim_end())
    };
    let tone = |entry: &Entry| match entry.record.as_ref().map(|record| record.state) {
        Some(ContactState::Live) => Tone::Good,
        Some(ContactState::Ending) => Tone::Odd,
        Some(ContactState::Ended) | None => Tone::Faint,
    };
    let mut lines = vec![paint.tone(Tone::Bold, laid_out(&head))];
    lines.extend(rows.iter().zip(entries).map(|(row, entry)| {
        let state = &row[1];
        laid_out(row).replacen(state.as_str(), &paint.tone(tone(entry), state), 1)
    }));
    lines
}

fn row(entry: &Entry) -> [String; 5] {
    let recording = if entry.recorded { "yes" } else { "–" }.to_owned();
    let Some(record) = &entry.record else {
        return [entry.contact.to_string(), "finished".into(), "–".into(), "–".into(), recording];
    };
    let streams = record.streams.iter().map(|(perspective, stream)| {
        let state = if stream.open { "open" } else { "closed" };
        format!("{perspective} #{} {state}", stream.generation)
    });
    [
        entry.contact.to_string(),
        state_word(record).to_owned(),
        streams.collect::<Vec<_>>().join(", "),
        since(record.opened_at_us / 1000, now_ms()),
        recording,
    ]
}

/// The state in a word that tells a call from a hold.
fn state_word(record: &ContactRecord) -> &'static str {
    match record.state {
        ContactState::Live if record.streams.values().any(|stream| stream.open) => "live",
        ContactState::Live => "on hold",
        ContactState::Ending => "ending",
        ContactState::Ended => "finished",
    }
}

/// Why it ended.
fn end_word(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Event => "a contact event said so",
        EndReason::Quiet => "it was quiet for the quiet period",
    }
}

/// How long ago, in its largest unit.
fn since(at_ms: i64, now_ms: i64) -> String {
    let seconds = u64::try_from(now_ms.saturating_sub(at_ms) / 1000).unwrap_or(0);
    let (value, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "min"),
        3_600..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{} {unit} ago", figure::count(value))
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        let ago = |seconds: i64| since(0, seconds * 1000);
        assert_eq!(
            [ago(-5), ago(59), ago(61), ago(7_200), ago(864_000)],
            ["0 s ago", "59 s ago", "1 min ago", "2 h ago", "10 days ago"]
        );
    }

    #[test]
    fn a_contact_that_the_store_has_forgotten_is_still_listed() {
        let entry = Entry { contact: ContactKey { bus_no: 1, contact_id: 2 }, record: None, recorded: true };
        let lines = table(&[entry], Paint::PLAIN);
        assert_eq!(
            lines,
            ["  CONTACT  STATE     STREAMS  SINCE  RECORDING", "  1/2      finished  –        –      yes"]
        );
    }
}
