//! What a call met, exactly.

use earpiece_core::protocol::message::CONNECTED;
use earpiece_simulator::{CallReport, GapCause, LegReport, Side, SocketReport};
use serde_json::{Value, json};

use super::word;
use crate::figure;
use crate::paint::Tone;
use crate::stage::Stage;

/// Longest part of an answer that is shown to people; the JSON has all of it.
const ANSWER_CHARS_MAX: usize = 400;

/// Whether an answer is byte for byte the one of CXone's hook.
fn is_exact(socket: &SocketReport) -> bool {
    socket.answer.as_deref() == Some(CONNECTED.as_bytes())
}

/// What went wrong: legs that were refused, broke, or stayed away.
pub(super) fn faults(call: &CallReport) -> Vec<String> {
    call.legs.iter().flat_map(leg_faults).collect()
}

fn leg_faults(leg: &LegReport) -> Vec<String> {
    let name = word(&leg.perspective);
    let mut faults = Vec::new();
    let refused = leg.sockets.iter().filter(|socket| !socket.connected).count() as u64;
    if refused > 0 {
        faults.push(format!("{name} was refused {}", times(refused)));
    }
    let broken = leg.sockets.iter().filter(|socket| is_broken(socket)).count() as u64;
    if broken > 0 {
        faults.push(format!("{name} broke {}", times(broken)));
    }
    if leg.gave_up {
        faults.push(format!("{name} stayed away"));
    }
    faults
}

/// Connected once, and then ended by somebody else than us.
fn is_broken(socket: &SocketReport) -> bool {
    let closed_by_server = socket.close.as_ref().is_some_and(|close| close.by == Side::Server);
    socket.connected && !socket.cut && (closed_by_server || socket.error.is_some())
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{} times", figure::count(count)) }
}

/// The report as JSON, with the judgement of each answer beside it.
pub(super) fn document(call: &CallReport) -> Value {
    let mut document = json!(call);
    for (leg, report) in call.legs.iter().enumerate() {
        for (socket, report) in report.sockets.iter().enumerate() {
            document["legs"][leg]["sockets"][socket]["answerIsExact"] = json!(is_exact(report));
        }
    }
    document
}

/// The report for people.
pub(super) fn print(stage: &Stage, call: &CallReport) {
    let paint = stage.paint;
    for leg in &call.legs {
        stage.line("");
        let title = paint.tone(Tone::Bold, word(&leg.perspective));
        let sent_as = paint.tone(Tone::Faint, format!("sent as {}", leg.perspective));
        stage.line(format!("  {title}  {sent_as}"));
        let mut number = 1;
        for alike in leg.sockets.chunk_by(|one, other| !was_opened(one) && one == other) {
            print_sockets(stage, number, alike);
            number += alike.len();
        }
        let late = figure::millis(leg.late_us_max);
        stage.line(format!("    sent {}", sent(leg.frames, leg.samples)));
        if leg.frames > 0 {
            let text = format!("the least punctual frame left {late} late");
            stage.line(format!("    {}", paint.tone(Tone::Faint, text)));
        }
        for gap in leg.gaps.iter().chain(&leg.missing_tail) {
            let cause = match gap.cause {
                GapCause::HoldClose => "hold, sockets closed",
                GapCause::HoldSilence => "hold, sockets silent",
                GapCause::Drop => "we cut the connection",
                GapCause::Server => "the server ended the connection",
            };
            let samples = figure::count(gap.samples);
            let (at, length) = (figure::seconds(gap.at_sample), figure::seconds(gap.samples));
            stage.line(format!("    gap at {at}: {length}, {samples} samples ({cause})"));
        }
    }
    stage.line("");
    let faults = faults(call);
    let verdict = if faults.is_empty() { "every leg was accepted and stayed".to_owned() } else { faults.join("; ") };
    stage.line(format!("  {} contact {}: {verdict}", paint.mark(faults.is_empty()), call.contact));
}

/// Whether the endpoint was there at all.
pub(super) fn was_reached(call: &CallReport) -> bool {
    call.legs.iter().flat_map(|leg| &leg.sockets).any(was_opened)
}

const fn was_opened(socket: &SocketReport) -> bool {
    socket.connect_us.is_some()
}

/// Sockets that fared alike, which only those can that never opened; or one.
fn print_sockets(stage: &Stage, number: usize, sockets: &[SocketReport]) {
    let Some(socket) = sockets.first() else { return };
    if !was_opened(socket) {
        let numbers = match sockets.len() {
            1 => format!("socket {number}"),
            count => format!("sockets {number} to {}", number + count - 1),
        };
        let error = socket.error.as_deref().unwrap_or("did not open");
        stage.line(format!("    {numbers}: {}", stage.paint.tone(Tone::Bad, error)));
        return;
    }
    print_socket(stage, number, socket);
}

fn print_socket(stage: &Stage, number: usize, socket: &SocketReport) {
    let paint = stage.paint;
    let time = |time: Option<u64>| time.map_or_else(|| "–".to_owned(), figure::millis);
    stage.line(format!(
        "    socket {number}: open after {}, answered after {}, sent {}",
        time(socket.connect_us),
        time(socket.ack_us),
        sent(socket.frames, socket.samples)
    ));
    if let Some(answer) = &socket.answer {
        let is_exact = is_exact(socket);
        let remark = if is_exact { "exactly the contract's bytes" } else { "not the contract's bytes" };
        stage.line(format!("      {} {}", paint.mark(is_exact), shown(answer)));
        stage.line(format!(
            "        {}",
            paint.tone(Tone::Faint, format!("{remark}: {}", figure::plural(answer.len() as u64, "byte")))
        ));
    }
    if socket.unexpected_frames > 0 {
        let frames = figure::plural(socket.unexpected_frames, "frame");
        stage.line(format!("      {}", paint.tone(Tone::Odd, format!("{frames} came that nobody expects"))));
    }
    if let Some(close) = &socket.close {
        let by = match close.by {
            Side::Us => "us",
            Side::Server => "the server",
        };
        let reason =
            if close.reason.is_empty() { String::new() } else { format!(", “{}”", shown(close.reason.as_bytes())) };
        stage.line(format!("      closed by {by} with {}{reason}", close.code));
    } else if socket.cut {
        stage.line("      cut by us without a close frame");
    }
    if let Some(error) = &socket.error {
        stage.line(format!("      {}", paint.tone(Tone::Bad, error)));
    }
}

fn sent(frames: u64, samples: u64) -> String {
    format!("{}, {} bytes ({})", figure::plural(frames, "frame"), figure::count(samples), figure::seconds(samples))
}

/// What a stranger sent, without the control characters that could play with a terminal.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let escape = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    let start: String = text.chars().take(ANSWER_CHARS_MAX).map(escape).collect();
    if text.chars().nth(ANSWER_CHARS_MAX).is_some() { format!("{start}…") } else { start }
}

#[cfg(test)]
mod tests {
    use earpiece_core::contact::ContactKey;
    use earpiece_simulator::Close;

    use super::*;

    fn socket(answer: &str) -> SocketReport {
        SocketReport {
            answer: Some(answer.as_bytes().to_vec()),
            connected: true,
            close: Some(Close { code: 1000, reason: String::new(), by: Side::Us }),
            ..SocketReport::default()
        }
    }

    fn call(sockets: Vec<SocketReport>) -> CallReport {
        let leg = LegReport {
            perspective: json!(["TX"]),
            sockets,
            sent: Vec::new(),
            gaps: Vec::new(),
            missing_tail: None,
            frames: 0,
            samples: 0,
            late_us_max: 0,
            gave_up: false,
            audio_sent: None,
        };
        CallReport { contact: ContactKey { bus_no: 1, contact_id: 2 }, legs: vec![leg], samples: 0, stopped: false }
    }

    #[test]
    fn an_answer_is_judged_by_its_bytes() {
        let near = CONNECTED.replace(':', ": ");
        let document = document(&call(vec![socket(CONNECTED), socket(&near)]));
        let exact: Vec<&Value> =
            [0, 1].iter().map(|&index| &document["legs"][0]["sockets"][index]["answerIsExact"]).collect();
        assert_eq!(exact, [&json!(true), &json!(false)]);
    }

    #[test]
    fn a_call_that_we_end_is_good_and_one_that_the_server_ends_is_not() {
        assert_eq!(faults(&call(vec![socket(CONNECTED)])), Vec::<String>::new());
        let mut ended = socket(CONNECTED);
        ended.close = Some(Close { code: 1012, reason: "draining".into(), by: Side::Server });
        let refused = SocketReport::default();
        assert_eq!(faults(&call(vec![ended, refused])), ["TX was refused once", "TX broke once"]);
        let cut = SocketReport { cut: true, error: Some("eof".into()), close: None, ..socket(CONNECTED) };
        assert_eq!(faults(&call(vec![cut])), Vec::<String>::new());
    }

    #[test]
    fn a_strangers_answer_cannot_play_with_the_terminal() {
        assert_eq!(shown(b"\x1b[2Jhi"), "\u{fffd}[2Jhi");
        assert_eq!(shown(&[b'a'; 500]).chars().count(), ANSWER_CHARS_MAX + 1);
    }
}
