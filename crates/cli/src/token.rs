//! `token`: secrets that people configure.

use std::fmt::Write as _;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::args::{ClientArgs, New, TokenArgs};
use crate::paint::Tone;
use crate::stage::Stage;
use crate::trouble::Trouble;

/// Random bytes in a secret.
const SECRET_BYTES: usize = 32;

/// What a client's tokens may do unless told otherwise: what a Studio script needs.
const SCOPES_DEFAULT: &str = "utterances events";

/// Makes a secret and says what to configure.
///
/// # Errors
///
/// When the system gives no random numbers.
pub(crate) fn run(args: &TokenArgs, stage: &Stage) -> Result<(), Trouble> {
    let secret = secret()?;
    let digest = hex(&Sha256::digest(secret.as_bytes()));
    match &args.new {
        New::New => plain(&secret, &digest, stage),
        New::Client(client) => of_client(client, &secret, &digest, stage),
    }
}

fn plain(secret: &str, digest: &str, stage: &Stage) -> Result<(), Trouble> {
    let bold = |text: &str| stage.paint.tone(Tone::Bold, text);
    stage.line(format!("token          {}", bold(secret)));
    stage.line(format!("configuration  {}", bold(&format!("sha256:{digest}"))));
    stage.line("");
    stage.line("The token goes to whoever calls, and is not shown again. The configuration goes into");
    stage.line("EARPIECE_AUDIO_TOKENS (calls) or EARPIECE_TEXT_TOKENS (text and contact events); with a comma and");
    stage.line("the old one beside it while you rotate.");
    stage.document(&json!({ "token": secret, "configuration": format!("sha256:{digest}") }))
}

fn of_client(client: &ClientArgs, secret: &str, digest: &str, stage: &Stage) -> Result<(), Trouble> {
    let scope = if client.scope.is_empty() { SCOPES_DEFAULT.to_owned() } else { client.scope.join(" ") };
    let mut configuration = json!({ "id": client.id, "secretSha256": [digest], "scope": scope });
    if let Some(bus_no) = client.bus_no {
        configuration["busNo"] = bus_no.into();
    }
    let bold = |text: &str| stage.paint.tone(Tone::Bold, text);
    stage.line(format!("client_id      {}", bold(&client.id)));
    stage.line(format!("client_secret  {}", bold(secret)));
    stage.line(format!("configuration  {}", bold(&configuration.to_string())));
    stage.line("");
    stage.line("Id and secret go into the Studio script, and the secret is not shown again. The configuration is one");
    stage.line("entry of the list EARPIECE_TOKEN_CLIENTS=[…]. A second digest in secretSha256 rotates the secret.");
    stage.line(format!("Try: curl -u {}:SECRET -d grant_type=client_credentials https://…/oauth/token", client.id));
    stage.document(&json!({ "clientId": client.id, "clientSecret": secret, "configuration": configuration }))
}

/// Letters and digits only: they go through headers, forms and shells as they are.
fn secret() -> Result<String, Trouble> {
    let mut bytes = [0; SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Trouble::failed("the system gives no random numbers"))?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_plain_and_never_the_same() {
        let (one, other) = (secret().expect("random"), secret().expect("random"));
        assert_ne!(one, other);
        assert_eq!(one.len(), SECRET_BYTES * 2);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
