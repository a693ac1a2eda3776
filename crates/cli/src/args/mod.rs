//! Every command, flag and help text. Values are checked as far as text alone allows; what they mean together is
//! judged by the command.

mod assist;
mod bench;
mod call;
mod gateway;
mod token;

use std::convert::Infallible;
use std::path::PathBuf;

use clap::{Args as Flags, Parser, Subcommand};
use earpiece_core::secret::Secret;

pub(crate) use self::assist::{AuditArgs, Auditing, Handling, Letters, OutboxArgs, PlatformArgs};
pub(crate) use self::bench::{AssistanceArgs, Bench, BenchArgs, StreamsArgs};
pub(crate) use self::call::{CallArgs, CutBy, Hold, ParamsAs, TokenIn, name_of};
pub(crate) use self::gateway::GatewayArgs;
pub(crate) use self::token::{ClientArgs, New, TokenArgs};

/// Where `serve` keeps its data unless told otherwise.
pub(crate) const DATA_DEFAULT: &str = "earpiece-data";

/// Earpiece: the open proxy tunnel between NICE CXone and an agent assist app.
///
/// Without a command it runs the demo: a whole call, from CXone's side through the tunnel to an assist app and onto
/// disk, in this one process.
#[derive(Parser)]
#[command(name = "earpiece", version, max_term_width = 100, after_long_help = EXAMPLES, propagate_version = true)]
pub(crate) struct Args {
    /// Print one JSON document instead of text for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do; without it: demo.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  earpiece                                       watch a call go through
  earpiece serve --audio-token s3cret            a server on this machine
  earpiece call --url ws://127.0.0.1:8080/audio --token s3cret --hold close --drop
  earpiece contacts                              what that server knows
  earpiece bench streams --streams 200 --seconds 20

Exit codes: 0 it worked, 1 it was tried and failed, 2 wrong usage or configuration.";

/// What to do. Each variant's help is that of its arguments: a line here would replace all of it.
#[derive(Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),
    Serve(ServeArgs),
    Call(Box<CallArgs>),
    Gateway(Box<GatewayArgs>),
    Token(TokenArgs),
    Bench(BenchArgs),
    Contacts(ContactsArgs),
    Utterances(UtterancesArgs),
    Outbox(OutboxArgs),
    Audit(AuditArgs),
    Platform(PlatformArgs),
}

impl Default for Command {
    fn default() -> Self {
        Self::Demo(DemoArgs::default())
    }
}

/// Show a whole call: CXone, tunnel, assist app and recording in one process.
///
/// Starts an embedded DynamoDB in memory, the tunnel, CXone's platform and a small assist app on free ports of this
/// machine, and places one call with two human voices, one hold and one dropped connection. Two suggestions go back to the
/// agent, who takes one; what is said brings cards of knowledge, and an angry caller a popup. Everything you see is what
/// really happens on the sockets. At the end what was written down is compared with what was sent, to the sample.
#[derive(Flags)]
#[command(after_long_help = "\
Examples:
  earpiece demo
  earpiece demo --keep                  stay up, and call it yourself from another terminal
  earpiece demo --json | jq .checks     for machines")]
pub(crate) struct DemoArgs {
    /// Stay up after the call, until Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where the recording goes. Only the demo's own contact in it is ever replaced.
    #[arg(long, value_name = "DIR", default_value = DemoArgs::DATA_DEFAULT)]
    pub(crate) data: PathBuf,
}

impl DemoArgs {
    const DATA_DEFAULT: &str = "earpiece-demo";
}

impl Default for DemoArgs {
    fn default() -> Self {
        Self { keep: false, data: PathBuf::from(Self::DATA_DEFAULT) }
    }
}

/// Serve CXone's audio hook, the text hook and everything beside them on this machine, with the state in a folder.
///
/// One listener has it all: `/audio` (CXone's media server), the text hook `/agent_assist_text_webhooks/utterance`,
/// `/contacts/BUS/CONTACT/events`, `/oauth/token`, `/ws` (what API Gateway's WebSocket API serves in an account), and
/// `/openapi.json`, which describes them. `/healthz`, `/readyz` and `/metrics` are for operators.
///
/// The state is an embedded DynamoDB in DIR/state.db, recordings are in DIR/live and DIR/contacts. It survives kill -9:
/// start it again on the same folder. When it is ready it prints one line, `listening on ADDRESS`, to standard output;
/// logs go to standard error. SIGTERM or Ctrl-C drains it: no new calls, live ones are told to connect elsewhere.
///
/// Every setting of the README's table works as an environment variable; flags win over them.
#[derive(Flags)]
#[command(after_long_help = "\
Examples:
  earpiece serve                                        on 127.0.0.1:8080, for everybody
  earpiece serve --listen 0.0.0.0:8080 --audio-token old --audio-token new
  earpiece serve --assist-url ws://127.0.0.1:9000/ --quiet-period 30s
  earpiece serve --assist-text-url http://127.0.0.1:9000/text --tls-cert cert.pem --tls-key key.pem
  EARPIECE_AUDIO_TOKENS=s3cret EARPIECE_LOG=debug earpiece serve --listen 127.0.0.1:0")]
pub(crate) struct ServeArgs {
    /// Address to listen on; port 0 takes a free one [default: `EARPIECE_LISTEN`, or 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Folder for state and recordings; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT)]
    pub(crate) data: PathBuf,
    /// A token that callers may present; several for rotation. Others can see it in the list of processes:
    /// `EARPIECE_AUDIO_TOKENS` hides it.
    #[arg(long, value_name = "TOKEN", value_parser = secret)]
    pub(crate) audio_token: Vec<Secret>,
    /// The assist app's voice socket, ws:// or wss:// [default: `EARPIECE_ASSIST_URL`, or none]
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub(crate) assist_url: Option<Secret>,
    /// The assist app's address for text, https:// or http:// [default: `EARPIECE_ASSIST_TEXT_URL`, or none]
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub(crate) assist_text_url: Option<Secret>,
    /// A contact without an open socket for so long is over [default: `EARPIECE_QUIET_PERIOD`, or 15m]
    #[arg(long, value_name = "TIME")]
    pub(crate) quiet_period: Option<String>,
    /// Certificate chain (PEM) for TLS on the listener; read again when it changes [default: `EARPIECE_TLS_CERT`]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key (PEM) [default: `EARPIECE_TLS_KEY`]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// Show what the store and the recordings know.
///
/// Works beside a running `earpiece serve` (it asks that server's store) and without one (it opens the folder itself).
#[derive(Flags)]
#[command(
    args_conflicts_with_subcommands = false,
    after_long_help = "\
Examples:
  earpiece contacts                                live, unfinished and finished contacts
  earpiece contacts show 1 42                      one contact, with its ledger
  earpiece contacts show 1 42 --json | jq .ledger.gaps
  EARPIECE_RECORDINGS=s3://bucket/calls earpiece contacts --table earpiece     those of a deployment on AWS"
)]
pub(crate) struct ContactsArgs {
    /// The folder of `earpiece serve` or of the demo.
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT, global = true, conflicts_with = "table")]
    pub(crate) data: PathBuf,
    /// A DynamoDB table on AWS instead of a folder; recordings are then where `EARPIECE_RECORDINGS` says.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) table: Option<String>,
    /// Contacts listed at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) limit: u64,
    /// Look closer.
    #[command(subcommand)]
    pub(crate) look: Option<Look>,
}

/// Look closer.
#[derive(Subcommand)]
pub(crate) enum Look {
    /// One contact: the store's record, and the ledger as a timeline.
    Show {
        /// The business unit.
        #[arg(value_name = "BUS")]
        bus_no: u64,
        /// The contact.
        #[arg(value_name = "CONTACT")]
        contact_id: u64,
    },
}

/// Show utterances that could not be delivered, and have them tried again.
///
/// An utterance that the text hook has answered with 200 is delivered until the assist app takes it. After many tries, or
/// when the app refuses it for good, it becomes a dead letter: kept for 14 days, with its reason. Reviving one makes it
/// due at once, as if it had just come. What was said is never shown.
#[derive(Flags)]
#[command(
    args_conflicts_with_subcommands = false,
    after_long_help = "\
Examples:
  earpiece utterances                              dead letters, the oldest first
  earpiece utterances revive 4711 1 KEY            one of them, by the columns of the list
  earpiece utterances revive --all --table earpiece"
)]
pub(crate) struct UtterancesArgs {
    /// The folder of `earpiece serve`.
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT, global = true, conflicts_with = "table")]
    pub(crate) data: PathBuf,
    /// A DynamoDB table on AWS instead of a folder.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) table: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) act: Option<Act>,
}

/// What to do with dead letters.
#[derive(Subcommand)]
pub(crate) enum Act {
    /// Have one delivered after all, or every one.
    Revive {
        /// The business unit.
        #[arg(value_name = "BUS", required_unless_present = "all", requires = "contact_id")]
        bus_no: Option<u64>,
        /// The contact.
        #[arg(value_name = "CONTACT", requires = "key")]
        contact_id: Option<u64>,
        /// The utterance's key, as the list shows it.
        #[arg(value_name = "KEY")]
        key: Option<String>,
        /// Every one that the list shows.
        #[arg(long, conflicts_with = "bus_no")]
        all: bool,
    },
}

/// Takes any text and never repeats it.
#[expect(clippy::unnecessary_wraps, reason = "clap's form of a parser")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parsed(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_commands_are_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_command_is_the_demo() {
        let args = parsed("earpiece --json").expect("arguments");
        assert!(args.json);
        let Command::Demo(demo) = args.command.unwrap_or_default() else { panic!("another command") };
        assert_eq!((demo.keep, demo.data), (false, PathBuf::from("earpiece-demo")));
    }

    #[test]
    fn json_is_understood_behind_every_command() {
        for line in [
            "earpiece demo --json",
            "earpiece serve --json",
            "earpiece call --url ws://h/audio --json",
            "earpiece bench streams --json",
            "earpiece bench assistance --json",
            "earpiece gateway --json",
            "earpiece token new --json",
            "earpiece utterances --json",
            "earpiece utterances revive 1 2 abc --json",
            "earpiece utterances revive --all --json",
            "earpiece outbox --json",
            "earpiece outbox list --json",
            "earpiece outbox retry 77 4 --json",
            "earpiece outbox drop --all --json",
            "earpiece audit verify 77 --json",
            "earpiece audit export 77 --json",
            "earpiece platform --json",
            "earpiece contacts --json",
            "earpiece contacts show 1 2 --json",
        ] {
            assert!(parsed(line).is_ok_and(|args| args.json), "{line}");
        }
    }

    #[test]
    fn every_command_is_named_in_a_line_and_explained_at_length() {
        let mut command = Args::command();
        for command in command.get_subcommands_mut() {
            let (name, about) = (command.get_name().to_owned(), command.get_about().map(ToString::to_string));
            assert!(about.is_some_and(|about| !about.is_empty()), "{name}");
            let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(long.lines().count() > 1, "{name}: its help says no more than its line in the list");
        }
    }

    #[test]
    fn the_help_of_bench_says_how_to_raise_the_limit_on_open_files() {
        let mut command = Args::command();
        let bench = command.find_subcommand_mut("bench").expect("bench");
        assert!(bench.render_long_help().to_string().contains("ulimit -n"));
        let streams = bench.find_subcommand_mut("streams").expect("streams");
        assert!(streams.render_long_help().to_string().contains("ulimit -n"));
    }

    #[test]
    fn the_help_of_a_measurement_says_what_is_measured_and_how() {
        let mut command = Args::command();
        let bench = command.find_subcommand_mut("bench").expect("bench");
        for (name, says) in [("streams", "starts a server of its own"), ("assistance", "another process submits")] {
            let measurement = bench.find_subcommand_mut(name).expect("a measurement");
            assert!(measurement.render_long_help().to_string().contains(says), "{name}");
        }
    }

    #[test]
    fn one_dead_letter_is_named_whole_or_all_are_meant() {
        for line in ["", " 1", " 1 2", " 1 2 abc --all"] {
            assert!(parsed(&format!("earpiece utterances revive{line}")).is_err(), "{line}");
        }
        for line in ["", " 1", " 1 2 --all"] {
            assert!(parsed(&format!("earpiece outbox retry{line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn data_may_stand_before_or_behind_show() {
        for line in ["earpiece contacts --data d show 1 2", "earpiece contacts show 1 2 --data d"] {
            let Ok(Args { command: Some(Command::Contacts(contacts)), .. }) = parsed(line) else { panic!("{line}") };
            assert_eq!(contacts.data, PathBuf::from("d"), "{line}");
            assert!(matches!(contacts.look, Some(Look::Show { bus_no: 1, contact_id: 2 })));
        }
    }
}
