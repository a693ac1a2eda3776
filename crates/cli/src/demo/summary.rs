//! What the demo says at the end.

use std::path::Path;

use earpiece_core::audio::wav;
use earpiece_core::contact::ledger::Ledger;
use earpiece_core::protocol::perspective::Perspective;
use earpiece_simulator::platform::Answer;
use earpiece_simulator::{CallReport, GapCause, LegReport};

use super::check::Check;
use super::desk::{Figures, Suggested};
use super::script::ANGER_SAID;
use crate::figure;
use crate::meter;
use crate::paint::Tone;
use crate::stage::Stage;

/// Characters of a voice's strip.
const STRIP_CELLS: usize = 54;

/// Everything there is to say.
pub(crate) struct Story<'a> {
    /// What CXone did.
    pub(crate) call: &'a CallReport,
    /// What Earpiece wrote down of it.
    pub(crate) ledger: &'a Ledger,
    /// The recording, as a WAV file.
    pub(crate) recording: &'a [u8],
    /// What came back to the agent.
    pub(crate) figures: &'a Figures,
    /// Records of the audit.
    pub(crate) audit_records: usize,
    /// Every comparison.
    pub(crate) checks: &'a [Check],
    /// Where everything is.
    pub(crate) files: Files<'a>,
}

/// Prints everything.
pub(crate) fn print(stage: &Stage, story: &Story<'_>) {
    let Story { call, ledger, recording, figures, audit_records, checks, files } = story;
    let paint = stage.paint;
    let heading = |text: &str| {
        stage.line("");
        stage.line(format!("  {}", paint.tone(Tone::Bold, text)));
    };
    heading("The recording");
    voices(stage, ledger, recording);
    heading("The call");
    for leg in &call.legs {
        for line in leg_lines(leg) {
            stage.line(format!("    {line}"));
        }
    }
    heading("What came back to the agent");
    for line in help_lines(figures, *audit_records) {
        stage.line(format!("    {line}"));
    }
    heading("Does what Earpiece did and wrote down match what CXone saw?");
    for check in *checks {
        stage.line(format!("    {} {}", paint.mark(check.ok), check.what));
        for differs in &check.differs {
            stage.line(format!("        {}", paint.tone(Tone::Bad, differs)));
        }
    }
    heading("On disk");
    let recording = files.recording.display();
    stage.line(format!("    {recording}"));
    stage.line(format!("    {}", files.ledger.display()));
    stage.line(format!("    {}", files.events.display()));
    stage.line("");
    stage.line(format!("    ffplay -nodisp {recording}"));
    let other = "or SoX's play, afplay, VLC; the contact is left, the agent right";
    stage.line(format!("    {}", paint.tone(Tone::Faint, other)));
}

/// Where the demo's files are.
pub(crate) struct Files<'a> {
    /// The audio.
    pub(crate) recording: &'a Path,
    /// The ledger.
    pub(crate) ledger: &'a Path,
    /// What the assist app said.
    pub(crate) events: &'a Path,
}

/// Both channels of the recording, as strips.
fn voices(stage: &Stage, ledger: &Ledger, recording: &[u8]) {
    let Ok(wav) = wav::parse(recording) else { return };
    let channels = usize::from(wav.channels.count());
    let cell_samples = wav.frames().div_ceil(STRIP_CELLS).max(1);
    for (channel, perspective, name) in
        [(0, Perspective::Tx, "left   TX contact"), (1, Perspective::Rx, "right  RX agent  ")]
    {
        let track: Vec<u8> = wav.data.iter().skip(channel).step_by(channels).copied().collect();
        let has_audio = |from: usize, until: usize| {
            let inside = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
            ledger.pieces.iter().any(|piece| {
                piece.perspective == perspective && inside(piece.position) < until && from < inside(piece.end())
            })
        };
        let strip = stage.paint.tone(Tone::App, meter::strip(&track, cell_samples, has_audio));
        stage.line(format!("    {name} {strip}"));
    }
    let length = figure::seconds(ledger.samples);
    stage.line(format!("    {}", stage.paint.tone(Tone::Faint, format!("{length}; ┄ is where no audio was sent"))));
}

fn leg_lines(leg: &LegReport) -> Vec<String> {
    let perspective = Perspective::read(&leg.perspective);
    let sockets = leg.sockets.len() as u64;
    let acks: Vec<String> = leg.sockets.iter().filter_map(|socket| socket.ack_us).map(figure::millis).collect();
    let mut lines = vec![
        format!(
            "{perspective}  {} on {}: {} of audio, {} bytes",
            figure::plural(leg.frames, "frame"),
            figure::plural(sockets, "socket"),
            figure::seconds(leg.samples),
            figure::count(leg.samples)
        ),
        format!("    answered CONNECTED after {}", acks.join(", ")),
    ];
    for gap in &leg.gaps {
        let cause = match gap.cause {
            GapCause::HoldClose | GapCause::HoldSilence => "hold",
            GapCause::Drop => "lost connection",
            GapCause::Server => "the server's doing",
        };
        lines.push(format!(
            "    silent at {} for {} ({} samples): {cause}",
            figure::seconds(gap.at_sample),
            figure::seconds(gap.samples),
            figure::count(gap.samples)
        ));
    }
    lines
}

/// What came back, and how long it took: from the app's frame, the words or the event until CXone had it.
fn help_lines(figures: &Figures, audit_records: usize) -> Vec<String> {
    let mut lines: Vec<String> = figures.suggestions.iter().map(suggestion_line).collect();
    let cards = figure::plural(figures.knowledge.len() as u64, "card");
    lines.push(format!(
        "{:11} {:8} {} the words",
        "knowledge",
        cards,
        afters(figures.knowledge.iter().map(|card| card.after_ms))
    ));
    let popups = figure::plural(figures.popups.len() as u64, "card");
    let after = afters(figures.popups.iter().map(|popup| popup.after_ms));
    lines.push(format!("{:11} {popups:8} {after} the event, which came {ANGER_SAID} times", "popup"));
    let records = figure::plural(audit_records as u64, "record");
    lines.push(format!("{:11} {records}, each sealed with the hash of the one before", "audit"));
    lines
}

fn suggestion_line(suggested: &Suggested) -> String {
    let end = match suggested.answer {
        Some(Answer::Accepted) => "accepted",
        Some(Answer::Dismissed) => "dismissed",
        None => "not answered",
    };
    let closed = suggested
        .closed_after_ms
        .map_or_else(String::new, |closed_after_ms| format!(", noted in {}", whole_millis(closed_after_ms)));
    let after = afters([suggested.after_ms]);
    format!("{:11} {:8} {after} its frame; {end}{closed}", "suggestion", suggested.id)
}

/// Whole milliseconds, which is what both sides' books have.
pub(super) fn whole_millis(ms: u64) -> String {
    if ms == 0 { "under 1 ms".to_owned() } else { format!("{ms} ms") }
}

/// How long several things took, from the quickest to the slowest: `4 to 9 ms after`.
fn afters(after_ms: impl IntoIterator<Item = Option<u64>>) -> String {
    let mut after_ms: Vec<u64> = after_ms.into_iter().flatten().collect();
    after_ms.sort_unstable();
    match after_ms.as_slice() {
        [] => "after".to_owned(),
        [first, .., last] if first != last => format!("{first} to {last} ms after"),
        [only, ..] => format!("{} after", whole_millis(*only)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::desk::{Known, Popped};
    use super::*;

    #[test]
    fn what_came_back_fits_a_terminal_and_names_every_figure() {
        let suggested = |id: &str, answer| Suggested {
            id: id.into(),
            after_ms: Some(1_234),
            answer,
            answered_at_ms: None,
            closed_after_ms: Some(567),
        };
        let known = |after_ms| Known { id: "kb-1".into(), after_ms };
        let figures = Figures {
            suggestions: vec![suggested("tip-1", Some(Answer::Accepted)), suggested("tip-2", Some(Answer::Dismissed))],
            knowledge: vec![known(Some(12)), known(Some(9)), known(None)],
            popups: vec![Popped { id: "popup".into(), after_ms: Some(0) }],
            events_heard: ANGER_SAID,
        };
        let lines = help_lines(&figures, 14);
        assert!(lines.iter().all(|line| line.chars().count() + 4 <= 79), "{lines:#?}");
        assert!(lines[0].contains("1234 ms after") && lines[0].ends_with("accepted, noted in 567 ms"), "{}", lines[0]);
        assert!(lines[2].contains("3 cards  9 to 12 ms after"), "{}", lines[2]);
        assert!(lines[3].contains("under 1 ms after") && lines[4].contains("14 records"), "{lines:#?}");
    }
}
