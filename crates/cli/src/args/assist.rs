//! `earpiece outbox`, `earpiece audit` and `earpiece platform`: flags and help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Flags, Subcommand};
use earpiece_core::assist::InteractionId;
use earpiece_core::assist::audit::Head;

use super::DATA_DEFAULT;

/// Show what could not be sent back to CXone or to a webhook, and have it tried again.
///
/// Suggestions, insights, feedback, popups and webhooks leave through the outbox. What is refused for good, or fails too
/// often, becomes a dead letter with its reason. What it says is never shown.
#[derive(Flags)]
#[command(
    args_conflicts_with_subcommands = false,
    after_long_help = "\
Examples:
  earpiece outbox list                     dead letters, the oldest first
  earpiece outbox retry 123456789 4        one of them, by the columns of the list
  earpiece outbox retry --all --table earpiece
  earpiece outbox drop 123456789 4         it is not wanted any more; the audit says so"
)]
pub(crate) struct OutboxArgs {
    /// The folder of `earpiece serve`.
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT, global = true, conflicts_with = "table")]
    pub(crate) data: PathBuf,
    /// A DynamoDB table on AWS instead of a folder.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) table: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) act: Option<Handling>,
}

/// What to do with dead letters.
#[derive(Subcommand)]
pub(crate) enum Handling {
    /// List them.
    List,
    /// Have one sent after all, or every one.
    Retry(Letters),
    /// Give one up, or every one.
    Drop(Letters),
}

/// Which of them.
#[derive(Flags)]
pub(crate) struct Letters {
    /// The interaction.
    #[arg(value_name = "INTERACTION", required_unless_present = "all", requires = "seq", value_parser = interaction)]
    pub(crate) interaction: Option<InteractionId>,
    /// The entry's number, as the list shows it.
    #[arg(value_name = "SEQ")]
    pub(crate) seq: Option<u64>,
    /// Every one that the list shows.
    #[arg(long, conflicts_with = "interaction")]
    pub(crate) all: bool,
}

/// Check or export the audit of an interaction: what was suggested, shown, answered and refused, and when.
///
/// Each record carries the hash of the one before it and of its own content, so that an edit, a removal or another order
/// is found. It holds figures and digests, no words.
#[derive(Flags)]
#[command(after_long_help = "\
Examples:
  earpiece audit verify 123456789
  earpiece audit export 123456789 > 123456789.jsonl
  earpiece audit verify --file 123456789.jsonl     an export, without any store")]
pub(crate) struct AuditArgs {
    /// The folder of `earpiece serve`.
    #[arg(long, value_name = "DIR", default_value = DATA_DEFAULT, global = true, conflicts_with = "table")]
    pub(crate) data: PathBuf,
    /// A DynamoDB table on AWS instead of a folder.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) table: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) act: Auditing,
}

/// What to do with an audit.
#[derive(Subcommand)]
pub(crate) enum Auditing {
    /// Say whether the chain is whole; exit code 1 when it is not.
    Verify {
        /// The interaction.
        #[arg(value_name = "INTERACTION", required_unless_present = "file", value_parser = interaction)]
        interaction: Option<InteractionId>,
        /// An export instead: JSON lines, without any store.
        #[arg(long, value_name = "FILE", conflicts_with = "interaction")]
        file: Option<PathBuf>,
        /// How the export must end, as `audit export` said: with it, a missing end is found, too.
        #[arg(long, value_name = "COUNT:HASH", requires = "file", value_parser = head)]
        head: Option<Head>,
    },
    /// Print the records as JSON lines, the oldest first.
    Export {
        /// The interaction.
        #[arg(value_name = "INTERACTION", value_parser = interaction)]
        interaction: InteractionId,
    },
}

/// Stand in for CXone's platform: OAuth, knowledge, insights, cards, and the three sockets that assistance uses.
///
/// For everybody without a tenant. It judges what it gets as strictly as the documents allow, keeps all of it to be asked
/// for, and makes faults on demand. When it is ready it prints one line, `listening on ADDRESS`, and what to set so that
/// `earpiece serve` uses it.
#[derive(Flags)]
#[command(after_long_help = "\
Examples:
  earpiece platform --listen 127.0.0.1:9200
  curl '127.0.0.1:9200/_platform/received?kind=suggest'        what has come
  curl 127.0.0.1:9200/_platform/answers -d '{\"interactionId\":\"77\",\"suggestionId\":\"s-1\",\"answer\":\"accepted\"}'
  curl 127.0.0.1:9200/_platform/policy -d '{\"acceptEvery\":2,\"dismissEvery\":3,\"afterMs\":800}'
  curl 127.0.0.1:9200/_platform/events -d '{\"socket\":\"interactions\",\"frame\":
    {\"id\":\"77\",\"type\":\"sentiment\",\"sentiment\":{\"score\":-0.9,\"confidence\":0.8}}}'
  curl 127.0.0.1:9200/_platform/faults -d '[{\"on\":\"search\",\"kind\":\"429\",\"forMs\":60000,\"retryAfterS\":5}]'")]
pub(crate) struct PlatformArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9200")]
    pub(crate) listen: String,
    /// How long its tokens live.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) token_life: Duration,
}

fn head(text: &str) -> Result<Head, String> {
    let parts = text.split_once(':').and_then(|(count, hash)| Some((count.parse().ok()?, hash)));
    let (count, hash) = parts.ok_or_else(|| "must be COUNT:HASH, as `earpiece audit export` prints it".to_owned())?;
    Ok(Head { count, hash: hash.to_owned() })
}

fn interaction(text: &str) -> Result<InteractionId, String> {
    InteractionId::parse(text).map_err(|fault| fault.public.into_owned())
}
