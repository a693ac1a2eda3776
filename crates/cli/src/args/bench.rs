//! The flags of `bench`.

use clap::{Args as Flags, Subcommand};
use earpiece_core::secret::Secret;

use super::secret;

/// Measure what this machine carries: live streams, or help to agents.
///
/// Everything runs in real time over real sockets, and every figure comes with what was lost, which must be nothing. What
/// was measured for the documents is in docs/benchmarks.md, each table with its command.
#[derive(Flags)]
#[command(after_long_help = "\
Examples:
  earpiece bench streams --streams 200 --seconds 20
  earpiece bench assistance --storm-seconds 20

For streams both sides need an open file per stream: raise the limit first, as in `ulimit -n 4096` for 2000 streams.")]
pub(crate) struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) what: Bench,
}

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    // What is said here would take the place of all that their own help says.
    Streams(StreamsArgs),
    Assistance(AssistanceArgs),
}

/// Many live streams in real time: is every byte accounted for, and what does a stream cost?
///
/// Without --url it starts a server of its own (`earpiece serve`, another process) on a temporary folder, and measures
/// that process: CPU per frame, memory per stream. Sixty seconds of 2000 streams write about 1 GB of recordings there;
/// TMPDIR says where. The server and the generator share this machine, so its cores are shared as well.
#[derive(Flags)]
#[command(after_long_help = "\
Examples:
  earpiece bench streams                                               200 streams for 20 seconds
  ulimit -n 4096; earpiece bench streams --streams 2000 --seconds 60   the table of docs/benchmarks.md
  earpiece bench streams --streams 50 --seconds 10 --url ws://127.0.0.1:8080/audio --token s3cret

Exit code 1 when a byte is not accounted for, or a stream was refused or lost.
Needs an open file per stream: raise the limit with `ulimit -n`.")]
pub(crate) struct StreamsArgs {
    /// How many streams.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) streams: u32,
    /// For how long each of them streams once all are open.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// Streams opened per second.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) opens_per_second: u32,
    /// Samples, which is bytes, in a frame: 160 is 20 ms.
    #[arg(long, value_name = "N", default_value_t = 160, value_parser = clap::value_parser!(u32).range(8..=8000))]
    pub(crate) frame_samples: u32,
    /// A server that runs already. It is measured from outside only; the counts need its /metrics.
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub(crate) url: Option<Secret>,
    /// The token to present.
    #[arg(long, value_name = "TOKEN", value_parser = secret, env = "EARPIECE_CALL_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Secret>,
}

/// The way back to the agent: how fast is a suggestion, and does a storm of 429s hold it up?
///
/// Everything runs in this one process and shares its cores: CXone's platform (simulated, real
/// sockets on the loopback), an embedded DynamoDB on a temporary folder as `earpiece serve` has it,
/// and one task with its uplinks. The time of a suggestion is that from its submission, through the
/// rules and the store, until its frame has come to the platform.
///
/// In this order it measures
///   1. the memory of an interaction that is listened to,
///   2. suggestions at --rate per second, while questions are looked up,
///   3. the same while CXone answers every search with 429, and what becomes of the questions,
///   4. suggestions that another process submits, so that they have to be found in the store,
///   5. suggestions as fast as they go,
///   6. transcripts as fast as they go: fragments, search, cards.
#[derive(Flags)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  earpiece bench assistance                                    the table of docs/benchmarks.md
  earpiece bench assistance --seconds 5 --storm-seconds 10     a minute, less exact
  earpiece bench assistance --json | jq .measured.storm.suggestions.latency

Exit code 1 when a suggestion or a question is lost, or CXone would have objected to something. To
be slow is no failure: compare figures within one run. A debug build measures the compiler."
)]
pub(crate) struct AssistanceArgs {
    /// Suggestions submitted per second where it is not as fast as they go.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rate: u32,
    /// How long, in seconds, each measurement but those of memory and of the storm takes.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) seconds: u32,
    /// How long, in seconds, every search is answered with 429. After two minutes a question is too old to be answered.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) storm_seconds: u32,
    /// Questions per second that come up in conversations meanwhile, each in another interaction.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) questions_per_second: u32,
    /// Who submits, or speaks, at the same time where it is as fast as they go: each waits for its own to arrive.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) at_once: u32,
    /// Interactions that are listened to when memory is measured; then five times as many.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    pub(crate) tracked: u32,
}
