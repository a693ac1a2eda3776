//! What the demo says at the end.

use std::path::Path;

use earpiece_core::audio::wav;
use earpiece_core::contact::ledger::Ledger;
use earpiece_core::protocol::perspective::Perspective;
use earpiece_simulator::{CallReport, GapCause, LegReport};

use super::check::Check;
use crate::figure;
use crate::meter;
use crate::paint::Tone;
use crate::stage::Stage;

/// Characters of a voice's strip.
const STRIP_CELLS: usize = 54;

/// Prints everything.
pub(crate) fn print(
    stage: &Stage,
    call: &CallReport,
    ledger: &Ledger,
    recording: &[u8],
    checks: &[Check],
    files: &Files<'_>,
) {
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
    heading("Does what Earpiece wrote down match what CXone did?");
    for check in checks {
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
