//! Which samples nobody has, and what to tell the ledger. Pure: what was found goes in, facts come out.
//!
//! What an earlier finish laid out is settled. Segments that it used may still be there, all or some of them, if it was
//! interrupted while it deleted them: they must change nothing. A stream that went on after an earlier finish is judged
//! from where that finish had left it.

use std::collections::BTreeMap;
use std::ops::Range;

use earpiece_core::contact::facts::{CloseReason, Lost, LostReason, StreamFacts};
use earpiece_core::contact::ledger::{Ledger, LostAt};
use earpiece_core::contact::{ContactKey, StreamId};

use crate::span;
use crate::survey::Found;

/// Lays out a contact from what was found in its segments, on top of what an earlier finish wrote.
pub(crate) fn lay_out(contact: ContactKey, previous: Option<&Ledger>, found: &BTreeMap<StreamId, Found>) -> Ledger {
    let previous = previous.map(|ledger| with_what_was_found(ledger, found));
    let previous = previous.as_ref();
    let fresh: Vec<StreamFacts> = found.values().filter_map(|found| settle(previous, found)).collect();
    // The ledger of a contact of which nothing was known then has no clock that anything could be laid out on.
    let mut previous = previous.filter(|ledger| !ledger.streams.is_empty()).cloned();
    if let Some(previous) = &mut previous {
        // A stream that was thought dead and is heard of again has other samples unwritten now, or none.
        previous.unwritten.retain(|unwritten| fresh.iter().all(|facts| facts.stream != unwritten.stream));
    }
    Ledger::lay_out(contact, previous, fresh)
}

/// The same for a contact that still lives: a stream without an end has not ended.
pub(crate) fn lay_out_so_far(
    contact: ContactKey,
    previous: Option<&Ledger>,
    found: &BTreeMap<StreamId, Found>,
) -> Ledger {
    let mut ledger = lay_out(contact, previous, found);
    for facts in ledger.streams.iter_mut().filter(|facts| was_given_its_end(facts)) {
        if found.get(&facts.stream).is_some_and(|found| found.facts.closed.is_none()) {
            facts.closed = None;
            ledger.unwritten.retain(|unwritten| unwritten.stream != facts.stream);
        }
    }
    ledger
}

/// An earlier ledger without what it calls lost and is there now: a handler that acknowledges nothing before it is
/// written may write long after others had given the contact up. Positions do not move.
fn with_what_was_found(ledger: &Ledger, found: &BTreeMap<StreamId, Found>) -> Ledger {
    let mut ledger = ledger.clone();
    for (stream, found) in found {
        let recorded = recorded(found);
        for facts in ledger.streams.iter_mut().filter(|facts| facts.stream == *stream) {
            facts.lost = facts.lost.iter().flat_map(|lost| still_lost(lost, &recorded)).collect();
        }
        let pieces: Vec<_> = ledger.pieces.iter().filter(|piece| piece.stream == *stream).collect();
        let still_lost_at = |lost: LostAt| {
            let piece = pieces.iter().find(|piece| (piece.position..piece.end()).contains(&lost.position));
            let Some(piece) = piece.filter(|_| lost.stream == *stream) else { return vec![lost] };
            let first_sample = piece.first_sample + (lost.position - piece.position);
            let named = Lost { first_sample, samples: lost.samples, reason: lost.reason };
            let at = |left: Lost| piece.position + (left.first_sample - piece.first_sample);
            let left = still_lost(&named, &recorded).into_iter();
            left.map(|left| LostAt { position: at(left), samples: left.samples, ..lost.clone() }).collect()
        };
        ledger.lost = std::mem::take(&mut ledger.lost).into_iter().flat_map(still_lost_at).collect();
    }
    ledger
}

/// What of a loss is not recorded nevertheless.
fn still_lost(lost: &Lost, recorded: &[Range<u64>]) -> Vec<Lost> {
    if is_missing(lost) { pieces(lost, span::without(span_of(lost), recorded)) } else { vec![*lost] }
}

/// Which samples of a stream its segments have.
fn recorded(found: &Found) -> Vec<Range<u64>> {
    span::joined(found.stretches.iter().map(|stretch| stretch.samples.clone()).collect())
}

/// The facts of a stream with everything named that is missing; `None` when an earlier finish knew them already.
fn settle(previous: Option<&Ledger>, found: &Found) -> Option<StreamFacts> {
    let before = previous.and_then(|ledger| ledger.streams.iter().find(|facts| facts.stream == found.facts.stream));
    if before.is_some_and(|before| !tells_news(&found.facts, before)) {
        return None;
    }
    let settled = before.map_or(0, |before| before.samples);
    let beyond = settled..found.facts.samples.max(settled);
    let recorded = recorded(found);

    // A segment that was given up may have been written after all: it is there, so nothing is lost.
    let named = found.facts.lost.iter().flat_map(|lost| {
        if is_missing(lost) {
            pieces(lost, span::without(span::shared(&span_of(lost), &beyond), &recorded))
        } else {
            vec![*lost]
        }
    });
    let mut lost: Vec<Lost> = before.into_iter().flat_map(|before| before.lost.clone()).filter(is_missing).collect();
    lost.extend(named);

    let accounted = lost.iter().filter(|lost| is_missing(lost)).map(span_of).chain(recorded).collect();
    let holes = span::without(beyond, &span::joined(accounted));
    lost.extend(holes.into_iter().map(|hole| lost_of(hole, LostReason::SegmentNotWritten)));
    lost.sort_by_key(|lost| (lost.first_sample, lost.reason));
    Some(StreamFacts { lost, ..found.facts.clone() })
}

/// Whether facts in a segment go beyond what a ledger has. There, a stream without an end was given one.
fn tells_news(facts: &StreamFacts, ledger: &StreamFacts) -> bool {
    let is_end_known = ledger.closed.is_some() && !was_given_its_end(ledger);
    let is_behind = facts.samples < ledger.samples;
    let knowledge = (facts.closed.is_some(), facts.samples, facts.frames);
    !is_behind && knowledge > (is_end_known, ledger.samples, ledger.frames)
}

fn was_given_its_end(facts: &StreamFacts) -> bool {
    facts.closed.is_some_and(|closed| closed.reason == CloseReason::TaskLost)
}

fn is_missing(lost: &Lost) -> bool {
    lost.reason.is_missing_from_recording()
}

fn span_of(lost: &Lost) -> Range<u64> {
    lost.first_sample..lost.first_sample.saturating_add(lost.samples)
}

fn pieces(lost: &Lost, spans: Vec<Range<u64>>) -> Vec<Lost> {
    spans.into_iter().map(|span| lost_of(span, lost.reason)).collect()
}

const fn lost_of(span: Range<u64>, reason: LostReason) -> Lost {
    Lost { first_sample: span.start, samples: span.end - span.start, reason }
}
