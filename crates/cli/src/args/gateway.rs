//! `earpiece gateway`: flags and help.

use std::time::Duration;

use clap::Args as Flags;

/// Stand in for API Gateway's WebSocket front: real sockets in front of Lambda functions on this machine.
///
/// API Gateway's WebSocket APIs have no local emulator, and the functions behind them never see a socket. This is that
/// front: it selects routes, makes connection ids, serves `@connections` (POST, GET, DELETE; 410 when the peer is gone),
/// and keeps API Gateway's limits: binary frames are closed with 1003, frames above 32 KB and messages above 128 KB with
/// 1009, ten idle minutes and two hours of life. The authorizer runs on `$connect` only.
///
/// Functions are invoked through Lambda's invoke API, as `cargo lambda watch` serves it. When it is ready it prints one
/// line, `listening on ADDRESS`.
#[derive(Flags)]
#[command(after_long_help = "\
Examples:
  cd functions; cargo lambda watch --invoke-address 127.0.0.1 --ignore-changes &
  earpiece gateway --lambda http://127.0.0.1:9000
  EARPIECE_CONNECTIONS_URL=http://127.0.0.1:3001 is what the functions need to answer
  python -m websockets ws://127.0.0.1:3001/?token=s3cret")]
pub(crate) struct GatewayArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3001")]
    pub(crate) listen: String,
    /// Where functions are invoked: Lambda's invoke API.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9000")]
    pub(crate) lambda: String,
    /// The function of the route `$connect`; `none` lets everybody in.
    #[arg(long, value_name = "FUNCTION", default_value = "ws-connect")]
    pub(crate) connect: String,
    /// The function of the route `$default`.
    #[arg(long, value_name = "FUNCTION", default_value = "ws-message")]
    pub(crate) default: String,
    /// The function of the route `$disconnect`; `none` for nobody.
    #[arg(long, value_name = "FUNCTION", default_value = "ws-disconnect")]
    pub(crate) disconnect: String,
    /// A route of its own for messages with this `action`, several times.
    #[arg(long = "action", value_name = "ACTION=FUNCTION", value_parser = action)]
    pub(crate) actions: Vec<(String, String)>,
    /// The function that judges `$connect` before it is invoked; `none` for no authorizer.
    #[arg(long, value_name = "FUNCTION", default_value = "authorizer")]
    pub(crate) authorizer: String,
    /// The stage in events and in the path of `@connections`.
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub(crate) stage: String,
    /// A connection without a message for so long is closed.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) idle: Duration,
    /// No connection lives longer.
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = humantime::parse_duration)]
    pub(crate) life: Duration,
}

impl GatewayArgs {
    /// A function's name, or none.
    pub(crate) fn function(name: &str) -> Option<String> {
        (name != "none").then(|| name.to_owned())
    }
}

fn action(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((action, function)) if !action.is_empty() && !function.is_empty() => {
            Ok((action.to_owned(), function.to_owned()))
        }
        _ => Err("must be ACTION=FUNCTION".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_names_its_function() {
        assert_eq!(action("subscribe=ws-listen"), Ok(("subscribe".into(), "ws-listen".into())));
        for wrong in ["subscribe", "=x", "x=", ""] {
            assert!(action(wrong).is_err(), "{wrong}");
        }
    }
}
