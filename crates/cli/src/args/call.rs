//! The flags of `call`, and the forms of their values.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args as Flags, ValueEnum};
use earpiece_core::secret::Secret;
use earpiece_simulator::{FrameSize, Misbehaviour};
use serde_json::Value;

use super::secret;

/// Largest frame: 64 KiB.
const FRAME_SAMPLES_MAX: u32 = 65_536;

/// Place one call, as CXone's media server does, to any endpoint that claims to speak the hook.
///
/// Two voices on two sockets in real time: TX, what the agent hears, and RX, the agent. Audio files are raw µ-law, or WAV
/// with µ-law or 16-bit PCM; 8000 Hz, mono. Without files two human voices that come with this program speak. The report
/// says for each socket the exact bytes of the answer, how long it took, what was sent and what was not.
///
/// With --misbehave there is no call: one peer breaks one rule, and the report says whether the endpoint took it as the
/// contract wants.
#[derive(Flags)]
#[command(group = ArgGroup::new("two_voices").args(["tx", "rx"]).multiple(true).conflicts_with("mix"))]
#[command(after_long_help = "\
Examples:
  earpiece call --url ws://127.0.0.1:8080/audio
  earpiece call --url ws://127.0.0.1:8080/audio --token s3cret --token-in header --hold close --drop
  earpiece call --url wss://relay.example.com/audio --tx tx.wav --rx rx.wav --bus-no 7 --contact-id 42
  earpiece call --url ws://127.0.0.1:8080/audio --mix call.wav --perspective-as '[\"MIX\"]' --jitter-ms 15
  earpiece call --url ws://127.0.0.1:8080/audio --conference expert.wav --conference-ms 5000
  earpiece call --url ws://127.0.0.1:8080/audio --frame-samples 80-400 --drop --cut reset
  earpiece call --url ws://127.0.0.1:8080/audio --params-as json-in-json
  earpiece call --url ws://127.0.0.1:8080/audio --token s3cret --misbehave binary-first

Ctrl-C hangs up, and the report still comes. Exit code 1 when a leg was refused or broke; with
--misbehave, when the endpoint did not take it as the contract wants: ERROR and a close, or
CONNECTED where the oddity is a legal one.")]
pub(crate) struct CallArgs {
    /// The audio endpoint, ws:// or wss://.
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub(crate) url: Secret,
    /// The token to present. Others can see it in the list of processes: the variable hides it.
    #[arg(long, value_name = "TOKEN", value_parser = secret, env = "EARPIECE_CALL_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Secret>,
    /// Where the token goes.
    #[arg(long, value_enum, default_value_t = TokenIn::Init)]
    pub(crate) token_in: TokenIn,
    /// What the agent hears: the contact's voice.
    #[arg(long, value_name = "FILE")]
    pub(crate) tx: Option<PathBuf>,
    /// The agent's voice.
    #[arg(long, value_name = "FILE")]
    pub(crate) rx: Option<PathBuf>,
    /// Both voices in one stream.
    #[arg(long, value_name = "FILE")]
    pub(crate) mix: Option<PathBuf>,
    /// The business unit.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) bus_no: u64,
    /// The contact; another one for every call, unless you want to add to one [default: from the clock]
    #[arg(long, value_name = "N")]
    pub(crate) contact_id: Option<u64>,
    /// How long the voices speak; files that are shorter begin again [default: the longest file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: Option<u64>,
    /// A hold in the middle: the sockets are closed, or stay open and silent.
    #[arg(long, value_enum)]
    pub(crate) hold: Option<Hold>,
    /// How long the hold lasts.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub(crate) hold_ms: u64,
    /// The first leg's connection is lost after three quarters, and dialled again at once.
    #[arg(long)]
    pub(crate) drop: bool,
    /// How it is lost [default: eof]
    #[arg(long, value_enum, requires = "drop")]
    pub(crate) cut: Option<CutBy>,
    /// A further person, who joins after one quarter: mixed into what the agent hears.
    #[arg(long, value_name = "FILE")]
    pub(crate) conference: Option<PathBuf>,
    /// How long that person stays, in time of speech [default: a quarter of it]
    #[arg(long, value_name = "N", requires = "conference", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub(crate) conference_ms: Option<u64>,
    /// Length of a frame [default: 20]
    #[arg(long, value_name = "N", conflicts_with = "frame_samples", value_parser = clap::value_parser!(u32).range(1..=8000))]
    pub(crate) frame_ms: Option<u32>,
    /// Length of a frame in samples, which is bytes; or the bounds of random lengths [default: 160]
    #[arg(long, value_name = "N|MIN-MAX", value_parser = frame_size)]
    pub(crate) frame_samples: Option<FrameSize>,
    /// Frames leave up to this much late.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub(crate) jitter_ms: u32,
    /// Now and then a frame is this late, and those behind it leave with it in one burst.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub(crate) stall_ms: u32,
    /// The streamPerspective to send instead, as JSON; once per leg, in the order TX, RX.
    #[arg(long, value_name = "JSON", value_parser = perspective)]
    pub(crate) perspective_as: Vec<Value>,
    /// The form of appParams and appConfig.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = ParamsAs::Object)]
    pub(crate) params_as: ParamsAs,
    /// A folder for exactly the bytes that were sent, one file per leg.
    #[arg(long, value_name = "DIR")]
    pub(crate) save_sent: Option<PathBuf>,
    /// Break one rule instead of placing a call. The token goes into the init message.
    #[arg(long, value_name = "KIND", value_parser = misbehaviour(), conflicts_with_all = [
        "two_voices", "mix", "seconds", "hold", "hold_ms", "drop", "conference", "frame_ms", "frame_samples",
        "jitter_ms", "stall_ms", "perspective_as", "params_as", "save_sent", "token_in",
    ])]
    pub(crate) misbehave: Option<Misbehaviour>,
    /// How long the endpoint may take to end it [default: 15, and 75 for deaf]
    #[arg(long, value_name = "N", requires = "misbehave", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) within_seconds: Option<u64>,
}

/// Where a token goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenIn {
    /// In the init message, as CXone does.
    Init,
    /// In the Authorization header.
    Header,
    /// In the URL's query.
    Query,
}

/// How a hold looks on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Hold {
    /// The sockets are closed, and opened again with the same handshake.
    Close,
    /// The sockets stay open, and nothing is sent.
    Silence,
}

/// How a connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CutBy {
    /// The TCP stream ends without a close frame; what was sent before still arrives.
    Eof,
    /// The TCP connection is reset; what was on its way is lost too.
    Reset,
}

/// A form in which `appParams` and `appConfig` are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ParamsAs {
    /// An object.
    Object,
    /// The object as JSON text.
    JsonText,
    /// The object as JSON text inside JSON text.
    JsonInJson,
    /// The object as JSON text with CR LF in and between its strings.
    Crlf,
    /// Text that is no JSON.
    Plain,
    /// null.
    Null,
    /// No such field.
    Absent,
}

/// The word for a way to misbehave.
pub(crate) const fn name_of(kind: Misbehaviour) -> &'static str {
    described(kind).0
}

const fn described(kind: Misbehaviour) -> (&'static str, &'static str) {
    match kind {
        Misbehaviour::BadJson => ("bad-json", "The init message is cut off in the middle"),
        Misbehaviour::BinaryFirst => ("binary-first", "The first frame is audio"),
        Misbehaviour::EmptyFrame => ("empty-frame", "The first frame is an empty text frame"),
        Misbehaviour::InitTooLarge => ("init-too-large", "An init message of 1 MiB"),
        Misbehaviour::SlowInit => ("slow-init", "The init message comes one byte at a time"),
        Misbehaviour::NoInit => ("no-init", "No init message, and a ping every second"),
        Misbehaviour::WrongToken => ("wrong-token", "A token that nobody accepts"),
        Misbehaviour::MissingContactId => ("missing-contact-id", "No contactId"),
        Misbehaviour::NegativeContactId => ("negative-contact-id", "A contactId of -1"),
        Misbehaviour::HalfRequest => ("half-request", "The HTTP request never ends"),
        Misbehaviour::HalfOpen => ("half-open", "Upgrades, and says nothing more"),
        Misbehaviour::Deaf => ("deaf", "Streams for a second, and then answers no ping"),
        Misbehaviour::TextAfterInit => ("text-after-init", "A text frame where audio belongs"),
        Misbehaviour::HugeFrame => ("huge-frame", "An audio frame of 1 MiB"),
        Misbehaviour::FragmentedInit => ("fragmented-init", "The init message in fragments: legal"),
        Misbehaviour::CloseAtOnce => ("close-at-once", "Closes instead of an init message"),
        Misbehaviour::RstAtOnce => ("rst-at-once", "Resets the connection instead of an init message"),
        Misbehaviour::SlowReader => ("slow-reader", "Streams, and reads nothing for a while: legal"),
    }
}

fn misbehaviour() -> impl TypedValueParser<Value = Misbehaviour> {
    let names = Misbehaviour::ALL.map(described).map(|(name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(names).try_map(|name| {
        // The name is one of those above.
        Misbehaviour::ALL.into_iter().find(|kind| name_of(*kind) == name).ok_or("is no way to misbehave")
    })
}

/// One length, or the bounds of random ones.
fn frame_size(text: &str) -> Result<FrameSize, String> {
    let wrong = || format!("must be a number from 1 to {FRAME_SAMPLES_MAX}, or two such as 80-400, the smaller first");
    let samples =
        |text: &str| text.parse().ok().filter(|samples| (1..=FRAME_SAMPLES_MAX).contains(samples)).ok_or_else(wrong);
    let Some((min, max)) = text.split_once('-') else {
        return Ok(FrameSize::Fixed { samples: samples(text)? });
    };
    let (samples_min, samples_max) = (samples(min)?, samples(max)?);
    if samples_min > samples_max { Err(wrong()) } else { Ok(FrameSize::Random { samples_min, samples_max }) }
}

fn perspective(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|_| format!("must be JSON; a word needs its quotes: '\"{text}\"'"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::error::ErrorKind;
    use clap::{CommandFactory as _, Parser as _};
    use serde_json::json;

    use super::super::{Args, Command};
    use super::*;

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split(' '))
    }

    fn call(flags: &str) -> Result<CallArgs, ErrorKind> {
        match parsed(&format!("earpiece call --url ws://h/audio {flags}")) {
            Ok(Args { command: Some(Command::Call(call)), .. }) => Ok(*call),
            Ok(_) => panic!("another command"),
            Err(error) => Err(error.kind()),
        }
    }

    #[test]
    fn a_call_takes_one_mixed_stream_or_two_voices() {
        assert_eq!(call("--mix a.wav --tx b.wav").err(), Some(ErrorKind::ArgumentConflict));
        assert!(call("--tx a.wav --rx b.wav").is_ok());
        assert!(call("--frame-ms 20 --frame-samples 160").is_err());
        assert!(parsed("earpiece call").is_err(), "the URL is needed");
    }

    #[test]
    fn a_perspective_is_json_and_the_error_says_how() {
        let line = ["earpiece", "call", "--url", "ws://h", "--perspective-as", r#"["TX"]"#, "--perspective-as", "1"];
        let Ok(Args { command: Some(Command::Call(call)), .. }) = Args::try_parse_from(line) else {
            panic!("not understood")
        };
        assert_eq!(call.perspective_as, [json!(["TX"]), json!(1)]);
        let error = parsed("earpiece call --url ws://h --perspective-as TX").err().expect("no JSON").to_string();
        assert!(error.contains(r#"'"TX"'"#), "{error}");
    }

    #[test]
    fn a_frame_has_one_length_or_two_bounds_in_order() {
        let size = |text: &str| call(&format!("--frame-samples {text}")).map(|call| call.frame_samples);
        assert_eq!(size("240"), Ok(Some(FrameSize::Fixed { samples: 240 })));
        assert_eq!(size("80-400"), Ok(Some(FrameSize::Random { samples_min: 80, samples_max: 400 })));
        for wrong in ["0", "65537", "400-80", "80-", "-80", "x", "1-2-3"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_way_to_misbehave_has_a_name_of_its_own_that_the_help_lists() {
        let mut command = Args::command();
        let help = command.find_subcommand_mut("call").expect("call").render_long_help().to_string();
        for kind in Misbehaviour::ALL {
            let (name, what) = described(kind);
            assert_eq!(call(&format!("--misbehave {name}")).map(|call| call.misbehave), Ok(Some(kind)));
            assert!(help.contains(&format!("{name}:")) && help.contains(what), "{name}");
        }
        let names: BTreeSet<_> = Misbehaviour::ALL.into_iter().map(name_of).collect();
        assert_eq!(names.len(), Misbehaviour::ALL.len());
        assert_eq!(call("--misbehave politely").err(), Some(ErrorKind::InvalidValue));
    }

    #[test]
    fn a_flag_without_the_flag_it_belongs_to_is_refused() {
        for orphan in ["--cut reset", "--conference-ms 5", "--within-seconds 5"] {
            assert_eq!(call(orphan).err(), Some(ErrorKind::MissingRequiredArgument), "{orphan}");
        }
        for senseless in ["--drop", "--tx a.wav", "--hold close", "--params-as null", "--token-in query"] {
            let flags = format!("--misbehave bad-json {senseless}");
            assert_eq!(call(&flags).err(), Some(ErrorKind::ArgumentConflict), "{senseless}");
        }
    }
}
