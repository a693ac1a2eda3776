//! `earpiece token`: flags and help.

use clap::{Args as Flags, Subcommand};
use earpiece_access::Scope;

/// Make a token, or a client of the token server, and say what to configure.
///
/// Nothing is sent anywhere and nothing is kept: the secret is printed once, and what goes into a configuration is only
/// its SHA-256 digest.
#[derive(Flags)]
#[command(after_long_help = "\
Examples:
  earpiece token new                                    a token for a header, and its digest for EARPIECE_AUDIO_TOKENS
  earpiece token client studio --scope utterances --scope events --bus-no 4595000
  earpiece token client studio --json | jq -r .configuration")]
pub(crate) struct TokenArgs {
    /// What to make.
    #[command(subcommand)]
    pub(crate) new: New,
}

/// What to make.
#[derive(Subcommand)]
pub(crate) enum New {
    /// A token to send as it is, in a header or in the init message.
    New,
    /// A client of the token server (`POST /oauth/token`), such as a Studio script.
    Client(ClientArgs),
}

/// A client of the token server (`POST /oauth/token`), such as a Studio script.
#[derive(Flags)]
pub(crate) struct ClientArgs {
    /// Its name: `client_id`. Letters, digits, `.`, `_` and `-`.
    #[arg(value_name = "ID", value_parser = id)]
    pub(crate) id: String,
    /// What its tokens may do, several times [default: utterances events]
    #[arg(long, value_name = "SCOPE", value_parser = Scope::ALL.map(Scope::word))]
    pub(crate) scope: Vec<String>,
    /// Its tokens are good for this business unit only.
    #[arg(long, value_name = "N")]
    pub(crate) bus_no: Option<u64>,
}

/// How long a name may be.
const ID_CHARACTERS_MAX: usize = 64;

fn id(text: &str) -> Result<String, String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match text {
        "" => Err("must not be empty".into()),
        text if text.len() > ID_CHARACTERS_MAX => Err(format!("is longer than {ID_CHARACTERS_MAX} characters")),
        text if text.chars().all(is_legal) => Ok(text.to_owned()),
        _ => Err("may have letters, digits, `.`, `_` and `-`".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn every_scope_of_the_token_server_can_be_asked_for() {
        for scope in Scope::ALL {
            let line = ["earpiece", "token", "client", "app", "--scope", scope.word()];
            assert!(super::super::Args::try_parse_from(line).is_ok(), "{}", scope.word());
        }
    }

    #[test]
    fn a_name_fits_into_a_header_and_a_form_as_it_is() {
        assert_eq!(id("studio-1.eu_west"), Ok("studio-1.eu_west".into()));
        for wrong in ["", "a b", "a:b", "ä", &"x".repeat(65)] {
            assert!(id(wrong).is_err(), "{wrong}");
        }
    }
}
