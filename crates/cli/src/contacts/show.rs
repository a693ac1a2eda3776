//! One contact: the store's record, and the ledger as a timeline.

use std::collections::{BTreeMap, BTreeSet};

use earpiece_core::contact::facts::StreamFacts;
use earpiece_core::contact::ledger::{Channels, Gap, GapReason, Ledger};
use earpiece_core::contact::{ContactKey, StreamId};
use earpiece_core::protocol::perspective::Perspective;
use earpiece_store::ContactRecord;
use serde_json::json;

use super::{end_word, now_ms, since, state_word};
use crate::figure;
use crate::paint::{Paint, Tone};
use crate::source::Source;
use crate::stage::Stage;
use crate::trouble::Trouble;

/// Characters of a perspective's strip.
const STRIP_CELLS: u64 = 60;

/// Shows a contact.
///
/// # Errors
///
/// When it can be found nowhere, or what is there cannot be read.
pub(super) async fn show(source: &Source, contact: ContactKey, stage: &Stage) -> Result<(), Trouble> {
    let known = async { Ok((source.record(contact, now_ms()).await?, source.ledger(contact).await?)) };
    let (record, ledger) = stage.meanwhile("asking the store, and laying out the ledger", known).await?;
    if record.is_none() && ledger.is_none() {
        return Err(Trouble::failed(format!("there is no contact {contact} in {}", source.name))
            .next(format!("earpiece contacts{}", source.flag())));
    }
    let paint = stage.paint;
    stage.line(format!("{}  {}", paint.tone(Tone::Bold, format!("contact {contact}")), headline(record.as_ref())));
    if let Some(record) = &record {
        for line in record_lines(record, paint) {
            stage.line(format!("  {line}"));
        }
    }
    let recording = source.recording(contact);
    match &ledger {
        Some(ledger) => {
            stage.line("");
            for line in ledger_lines(ledger, &open_streams(source, record.as_ref()), paint) {
                stage.line(format!("  {line}").trim_end());
            }
        }
        None => stage.line("  no segment is written yet: the ledger begins with the first one"),
    }
    if let Some(recording) = &recording {
        stage.line("");
        stage.line(format!("  {}", recording.display()));
    }
    stage.document(&json!({ "contact": contact, "record": record, "ledger": ledger, "recording": recording }))
}

/// Streams that live. In a ledger that is laid out meanwhile they look as if their task had died.
fn open_streams(source: &Source, record: Option<&ContactRecord>) -> BTreeSet<StreamId> {
    let streams = record.filter(|_| source.is_served).into_iter().flat_map(|record| record.streams.values());
    streams.filter(|stream| stream.open).map(|stream| stream.stream).collect()
}

fn headline(record: Option<&ContactRecord>) -> String {
    let Some(record) = record else { return "finished; the store has forgotten it".to_owned() };
    let now_ms = now_ms();
    let opened = since(record.opened_at_us / 1000, now_ms);
    let over = record.ended_at_ms.map_or_else(String::new, |at_ms| format!(", over {}", since(at_ms, now_ms)));
    let why = record.end_reason.map_or_else(String::new, |reason| format!(": {}", end_word(reason)));
    format!("{}, opened {opened}{over}{why}", state_word(record))
}

fn record_lines(record: &ContactRecord, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    for (perspective, stream) in &record.streams {
        let state = match stream.close_reason {
            _ if stream.open => paint.tone(Tone::Good, "open"),
            Some(reason) => reason.label().to_owned(),
            None => "closed".to_owned(),
        };
        let seen = since(stream.seen_at_ms, now_ms());
        let audio = figure::seconds(stream.samples);
        let task = paint.tone(Tone::Faint, &stream.task);
        lines.push(format!("{perspective:7} generation {}, {state}, {audio} as of {seen}  {task}", stream.generation));
    }
    if let Some(finisher) = &record.finisher {
        lines.push(format!("its recording is being written by {}", finisher.task));
    }
    lines
}

/// The ledger, perspective by perspective.
fn ledger_lines(ledger: &Ledger, open: &BTreeSet<StreamId>, paint: Paint) -> Vec<String> {
    let channels = match ledger.channels {
        Channels::Mono => "mono",
        Channels::Stereo => "stereo, left TX, right RX",
    };
    let mut lines = vec![format!("{} of call, {channels}", figure::seconds(ledger.samples))];
    let mut perspectives: BTreeMap<&Perspective, Vec<&StreamFacts>> = BTreeMap::new();
    for stream in &ledger.streams {
        perspectives.entry(&stream.perspective).or_default().push(stream);
    }
    for (perspective, streams) in perspectives {
        lines.push(String::new());
        let strip = paint.tone(Tone::App, strip(ledger, perspective));
        lines.push(format!("{}  {strip}", paint.tone(Tone::Bold, format!("{:7}", perspective.label()))));
        lines.extend(events(ledger, perspective, (&streams, open), paint));
    }
    lines
}

/// Where a perspective has audio.
fn strip(ledger: &Ledger, perspective: &Perspective) -> String {
    let cell = |index: u64| {
        let (from, until) = (ledger.samples * index / STRIP_CELLS, ledger.samples * (index + 1) / STRIP_CELLS);
        let mut pieces = ledger.pieces.iter().filter(|piece| piece.perspective == *perspective);
        if pieces.any(|piece| piece.position < until && from < piece.end()) { '━' } else { '┄' }
    };
    (0..STRIP_CELLS).map(cell).collect()
}

/// What happened to a perspective, in the order of the call's clock.
fn events(
    ledger: &Ledger,
    perspective: &Perspective,
    (streams, open): (&[&StreamFacts], &BTreeSet<StreamId>),
    paint: Paint,
) -> Vec<String> {
    let mut events: Vec<(u64, String)> = Vec::new();
    for stream in streams {
        events.push((begin_of(ledger, stream), stream_text(stream, open.contains(&stream.stream), paint)));
    }
    for gap in ledger.gaps.iter().filter(|gap| gap.perspective == *perspective) {
        events.push((gap.position, paint.tone(Tone::Odd, gap_text(gap))));
    }
    for overlap in ledger.overlaps.iter().filter(|overlap| overlap.perspective == *perspective) {
        let text = format!("{} claimed by two streams", length(overlap.samples));
        events.push((overlap.position, paint.tone(Tone::Odd, text)));
    }
    for lost in ledger.lost.iter().filter(|lost| lost.perspective == *perspective) {
        let text = format!("lost {}: {}", length(lost.samples), lost.reason.label());
        events.push((lost.position, paint.tone(Tone::Bad, text)));
    }
    let is_dead = |stream: &StreamId| !open.contains(stream);
    for unwritten in ledger.unwritten.iter().filter(|one| one.perspective == *perspective && is_dead(&one.stream)) {
        let text = format!("at most {} not written: its task died", length(unwritten.samples_max));
        events.push((unwritten.position, paint.tone(Tone::Bad, text)));
    }
    events.sort_by_key(|(position, _)| *position);
    let line = |(position, text): (u64, String)| {
        format!("{}  {text}", paint.tone(Tone::Faint, format!("{:>9}", figure::clock(position))))
    };
    events.into_iter().map(line).collect()
}

/// Where a stream's first sample lies; a stream without audio lies where the call ends.
fn begin_of(ledger: &Ledger, stream: &StreamFacts) -> u64 {
    let pieces = ledger.pieces.iter().filter(|piece| piece.stream == stream.stream);
    pieces.map(|piece| piece.position).min().unwrap_or(ledger.samples)
}

fn stream_text(stream: &StreamFacts, is_open: bool, paint: Paint) -> String {
    let generation = stream.generation.map_or_else(|| "?".to_owned(), |generation| generation.to_string());
    let frames = match stream.frame_samples {
        Some(samples) => format!("{} of {samples}", figure::plural(stream.frames, "frame")),
        None => figure::plural(stream.frames, "frame"),
    };
    let end = match stream.closed {
        _ if is_open => paint.tone(Tone::Good, "open, as far as it is written"),
        Some(closed) => closed.reason.label().to_owned(),
        None => "without an end".to_owned(),
    };
    let degraded = if stream.degraded { ", accepted before the store had answered" } else { "" };
    format!("generation {generation}: {}, {frames}, {end}{degraded}", figure::seconds(stream.samples))
}

fn gap_text(gap: &Gap) -> String {
    let reason = match gap.reason {
        GapReason::NotYetConnected => "not yet connected",
        GapReason::Silence => "silence on an open socket",
        GapReason::Closed => "closed by the peer: hold",
        GapReason::Dropped => "the connection was lost",
        GapReason::Drained => "the task was going away",
        GapReason::TaskLost => "the task had died",
    };
    let next = gap.next_generation.map_or_else(String::new, |generation| format!(", until generation {generation}"));
    format!("gap of {}: {reason}{next}", length(gap.samples))
}

fn length(samples: u64) -> String {
    format!("{} ({} samples)", figure::seconds(samples), figure::count(samples))
}

#[cfg(test)]
mod tests {
    use earpiece_core::contact::StreamId;
    use earpiece_core::contact::facts::{CloseReason, Closed, Lost, LostReason, Run};

    use super::*;

    const CONTACT: ContactKey = ContactKey { bus_no: 1, contact_id: 2 };

    fn facts(generation: u64, anchor_us: i64, closed: Option<CloseReason>) -> StreamFacts {
        StreamFacts {
            contact: CONTACT,
            stream: StreamId::new(),
            perspective: Perspective::Tx,
            generation: Some(generation),
            opened_us: anchor_us,
            degraded: false,
            task: "test".into(),
            segment_ms: 5000,
            frames: 50,
            samples: 8000,
            frame_samples: Some(160),
            runs: vec![Run { first_sample: 0, samples: 8000, anchor_us, drift_samples: 0 }],
            runs_joined: 0,
            lost: Vec::new(),
            closed: closed.map(|reason| Closed { at_us: anchor_us + 1_000_000, reason }),
            telemetry: None,
            unknown_fields: 0,
        }
    }

    #[test]
    fn a_ledger_reads_as_what_happened_in_order() {
        let mut first = facts(1, 0, Some(CloseReason::PeerVanished));
        first.lost.push(Lost { first_sample: 160, samples: 320, reason: LostReason::RelayRingFull });
        let second = facts(2, 2_000_000, None);
        let open = BTreeSet::from([second.stream]);
        let ledger = Ledger::lay_out(CONTACT, None, vec![first, second]);
        let while_open = ledger_lines(&ledger, &open, Paint::PLAIN);
        assert!(
            while_open.last().is_some_and(|line| line.ends_with("open, as far as it is written")),
            "{while_open:?}"
        );
        let lines = ledger_lines(&ledger, &BTreeSet::new(), Paint::PLAIN);
        let text: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
        assert_eq!(text[0], "3.00 s of call, stereo, left TX, right RX");
        assert!(text[2].starts_with("TX") && text[2].contains("━┄") && text[2].contains("┄━"), "{}", text[2]);
        assert_eq!(
            text[3..],
            [
                "0.000  generation 1: 1.00 s, 50 frames of 160, peer_vanished",
                "0.020  lost 0.04 s (320 samples): relay_ring_full",
                "1.000  gap of 1.00 s (8,000 samples): the connection was lost, until generation 2",
                "2.000  generation 2: 1.00 s, 50 frames of 160, task_lost",
                "3.000  at most 5.00 s (40,000 samples) not written: its task died",
            ]
        );
    }
}
