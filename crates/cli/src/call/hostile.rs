//! `call --misbehave`: one peer breaks one rule. Does the endpoint take it as the contract wants?

use std::time::Duration;

use earpiece_core::protocol::message::{CONNECTED, Command, Message};
use earpiece_simulator::{End, Misbehaviour, Outcome, misbehave};
use serde_json::json;

use super::report::shown;
use super::{NOT_REACHED, plan};
use crate::args::{CallArgs, name_of};
use crate::figure;
use crate::paint::Tone;
use crate::stage::Stage;
use crate::trouble::{Trouble, chain};

/// How long an endpoint may take: three times the usual deadline for the init message.
const WITHIN: Duration = Duration::from_secs(15);

/// How long a peer that answers no ping may go unnoticed, and some time beyond.
const WITHIN_OF_DEAF: Duration = Duration::from_secs(75);

/// What the contract wants of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// CONNECTED, and nothing against it until the peer closes.
    Accepted,
    /// ERROR, and a close.
    Refused,
    /// CONNECTED, and a close by the endpoint for what came after it.
    AcceptedThenClosed,
    /// CONNECTED, and an end of whatever kind.
    AcceptedThenEnded,
    /// An end of whatever kind, and no CONNECTED before it.
    Ended,
}

impl Wanted {
    const fn of(kind: Misbehaviour) -> Self {
        match kind {
            Misbehaviour::FragmentedInit | Misbehaviour::SlowReader => Self::Accepted,
            Misbehaviour::BadJson
            | Misbehaviour::BinaryFirst
            | Misbehaviour::EmptyFrame
            | Misbehaviour::InitTooLarge
            | Misbehaviour::SlowInit
            | Misbehaviour::NoInit
            | Misbehaviour::WrongToken
            | Misbehaviour::MissingContactId
            | Misbehaviour::NegativeContactId
            | Misbehaviour::HalfOpen => Self::Refused,
            Misbehaviour::TextAfterInit | Misbehaviour::HugeFrame => Self::AcceptedThenClosed,
            Misbehaviour::Deaf => Self::AcceptedThenEnded,
            Misbehaviour::HalfRequest | Misbehaviour::CloseAtOnce | Misbehaviour::RstAtOnce => Self::Ended,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Accepted => "CONNECTED: it is odd but legal",
            Self::Refused => "ERROR and a close",
            Self::AcceptedThenClosed => "CONNECTED, and then a close",
            Self::AcceptedThenEnded => "CONNECTED, and then an end",
            Self::Ended => "an end, without CONNECTED",
        }
    }
}

/// Misbehaves, and judges what came of it.
///
/// # Errors
///
/// When the URL cannot be dialled, or the endpoint did not take it as the contract wants.
pub(super) async fn run(args: &CallArgs, kind: Misbehaviour, stage: &Stage) -> Result<(), Trouble> {
    let usual = if kind == Misbehaviour::Deaf { WITHIN_OF_DEAF } else { WITHIN };
    let within = args.within_seconds.map_or(usual, Duration::from_secs);
    let peer = misbehave(args.url.reveal(), kind, args.token.as_ref(), plan::contact(args), within);
    let outcome = stage.meanwhile(&format!("{}, for {} s at most", name_of(kind), within.as_secs()), peer).await;
    let outcome = outcome.map_err(|error| Trouble::usage(chain(&error)).next("earpiece call --help"))?;
    let wanted = Wanted::of(kind);
    let faults = faults(wanted, &outcome);
    tell(stage, kind, &outcome, &faults);
    stage.document(&json!({
        "ok": faults.is_empty(),
        "faults": faults,
        "misbehaviour": kind,
        "wanted": wanted.text(),
        "outcome": outcome,
    }))?;
    match faults.is_empty() {
        true => Ok(()),
        false if stage.json => Err(Trouble::told()),
        false => Err(Trouble::failed(faults.join("; ")).next(advice(kind, &outcome))),
    }
}

/// What the endpoint did otherwise than the contract wants.
fn faults(wanted: Wanted, outcome: &Outcome) -> Vec<String> {
    match outcome.end {
        End::Unreachable => return vec!["nobody listens there".into()],
        // The half request never got as far as an upgrade: a status is a good way to end that.
        End::NotUpgraded(status) if wanted != Wanted::Ended => {
            return vec![format!("the upgrade was answered with HTTP {status}")];
        }
        _ => {}
    }
    let mut faults: Vec<String> = answer_fault(wanted, outcome.answer.as_deref()).into_iter().collect();
    let was_closed = outcome.end == End::Closed;
    let end_fault = match wanted {
        // The peer closes with 1000, and that is what comes back.
        Wanted::Accepted => {
            (!was_closed || !matches!(outcome.close, Some(1000 | 1005))).then_some("it ended what it had to accept")
        }
        Wanted::Refused | Wanted::AcceptedThenClosed => (!was_closed).then_some("it did not close with a close frame"),
        Wanted::AcceptedThenEnded | Wanted::Ended => {
            (outcome.end == End::StillOpen).then_some("it did not end the connection")
        }
    };
    faults.extend(end_fault.map(str::to_owned));
    faults
}

fn answer_fault(wanted: Wanted, answer: Option<&str>) -> Option<String> {
    let command = answer.and_then(|answer| Message::parse(answer.as_bytes()).ok()).map(|message| message.command);
    match wanted {
        Wanted::Accepted | Wanted::AcceptedThenClosed | Wanted::AcceptedThenEnded => match answer {
            Some(CONNECTED) => None,
            Some(_) if command == Some(Command::Connected) => Some("its CONNECTED is not the contract's bytes".into()),
            Some(_) => Some("it answered, but not with CONNECTED".into()),
            None => Some("it did not answer with CONNECTED".into()),
        },
        Wanted::Refused => match command {
            Some(Command::Error) => None,
            Some(other) => Some(format!("it answered {} where ERROR belongs", other.word())),
            None if answer.is_some() => Some("its answer is not one of the hook's messages".into()),
            None => Some("it did not say ERROR".into()),
        },
        Wanted::Ended => (command == Some(Command::Connected)).then(|| "it said CONNECTED to nobody".into()),
    }
}

fn tell(stage: &Stage, kind: Misbehaviour, outcome: &Outcome, faults: &[String]) {
    let paint = stage.paint;
    stage.line(format!("  {}  wanted: {}", paint.tone(Tone::Bold, name_of(kind)), Wanted::of(kind).text()));
    match &outcome.answer {
        Some(answer) => stage.line(format!("    answered {}", shown(answer.as_bytes()))),
        None => stage.line("    no answer"),
    }
    stage.line(format!("    {} after {}", end_text(outcome), figure::millis(outcome.after_us)));
    let verdict = if faults.is_empty() { "as the contract wants".to_owned() } else { faults.join("; ") };
    stage.line(format!("  {} {verdict}", paint.mark(faults.is_empty())));
}

fn end_text(outcome: &Outcome) -> String {
    match (outcome.end, outcome.close) {
        (End::Closed, Some(code)) => format!("closed with {code}"),
        (End::Closed, None) => "closed".into(),
        (End::Eof, _) => "ended without a close frame".into(),
        (End::Broken, _) => "broken".into(),
        (End::Reset, _) => "reset by us".into(),
        (End::StillOpen, _) => "still open".into(),
        (End::NotUpgraded(status), _) => format!("HTTP {status} instead of an upgrade"),
        (End::Unreachable, _) => "nobody there".into(),
    }
}

fn advice(kind: Misbehaviour, outcome: &Outcome) -> &'static str {
    match (kind, outcome.end) {
        (_, End::Unreachable | End::NotUpgraded(_)) => NOT_REACHED,
        (Misbehaviour::WrongToken, _) if outcome.was_connected() => {
            "does the endpoint ask for a token at all? `earpiece serve --audio-token TOKEN` does"
        }
        (_, End::StillOpen) => "more time, if the endpoint's own deadline is longer: --within-seconds N",
        _ if !outcome.was_connected() && Wanted::of(kind) != Wanted::Refused => "does it ask for a --token?",
        _ => "earpiece call --help says what each kind of misbehaviour is",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: &str = r#"{"command":"ERROR","messageType":"COMMAND","message":"no"}"#;

    fn outcome(answer: Option<&str>, close: Option<u16>, end: End) -> Outcome {
        Outcome { answer: answer.map(str::to_owned), close, end, after_us: 1 }
    }

    #[test]
    fn what_is_legal_is_wanted_to_be_accepted_and_nothing_else_is() {
        for kind in Misbehaviour::ALL {
            assert_eq!(kind.is_legal(), Wanted::of(kind) == Wanted::Accepted, "{kind:?}");
        }
    }

    #[test]
    fn a_refusal_has_an_error_and_a_close_frame() {
        let judged = |answer, close, end| faults(Wanted::Refused, &outcome(answer, close, end)).len();
        assert_eq!(judged(Some(ERROR), Some(1008), End::Closed), 0);
        assert_eq!(judged(Some(ERROR), None, End::Eof), 1);
        assert_eq!(judged(None, Some(1008), End::Closed), 1);
        assert_eq!(judged(Some("no"), Some(1008), End::Closed), 1);
        assert_eq!(judged(Some(CONNECTED), None, End::StillOpen), 2);
    }

    #[test]
    fn a_legal_oddity_is_answered_with_the_exact_bytes_and_left_alone() {
        let near = CONNECTED.replace(':', ": ");
        let judged = |answer, close, end| faults(Wanted::Accepted, &outcome(answer, close, end)).len();
        assert_eq!(judged(Some(CONNECTED), Some(1000), End::Closed), 0);
        assert_eq!(judged(Some(&near), Some(1000), End::Closed), 1);
        assert_eq!(judged(Some(CONNECTED), Some(1008), End::Closed), 1);
        assert_eq!(judged(Some(ERROR), Some(1008), End::Closed), 2);
    }

    #[test]
    fn what_comes_after_connected_is_judged_by_how_it_ends() {
        let ended = |wanted, end| faults(wanted, &outcome(Some(CONNECTED), None, end)).len();
        assert_eq!(ended(Wanted::AcceptedThenClosed, End::Closed), 0);
        assert_eq!(ended(Wanted::AcceptedThenClosed, End::Eof), 1);
        assert_eq!(ended(Wanted::AcceptedThenEnded, End::Eof), 0);
        assert_eq!(ended(Wanted::AcceptedThenEnded, End::StillOpen), 1);
        assert_eq!(ended(Wanted::Ended, End::Eof), 1, "nobody was there to be connected");
        assert_eq!(faults(Wanted::Ended, &outcome(None, None, End::NotUpgraded(408))).len(), 0);
    }

    #[test]
    fn an_endpoint_that_is_not_there_is_one_fault_whatever_was_wanted() {
        for kind in Misbehaviour::ALL {
            assert_eq!(faults(Wanted::of(kind), &outcome(None, None, End::Unreachable)).len(), 1, "{kind:?}");
        }
        for kind in Misbehaviour::ALL.into_iter().filter(|kind| Wanted::of(*kind) != Wanted::Ended) {
            assert_eq!(faults(Wanted::of(kind), &outcome(None, None, End::NotUpgraded(404))).len(), 1, "{kind:?}");
        }
    }
}
