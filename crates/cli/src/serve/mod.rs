//! `serve`: the shim on embedded state.

use std::collections::BTreeMap;
use std::time::Duration;

use earpiece_core::config::{ConfigFaults, Env, Overlay, ProcessEnv, Setting};
use earpiece_core::secret::Secret;
use earpiece_shim::service::{self, ServiceError};
use earpiece_shim::{Settings, settings};
use earpiece_store::{Embedded, EmbeddedError, StoreError};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::args::ServeArgs;
use crate::folder::{Folder, Note};
use crate::stage::{Stage, print};
use crate::trouble::{Trouble, chain};

/// Where it listens unless told otherwise: nowhere that another machine reaches.
const LISTEN_DEFAULT: &str = "127.0.0.1:8080";

/// How long the state may take to be closed: what it has answered is on disk without that.
const CLOSE: Duration = Duration::from_secs(3);

/// Serves until a signal comes.
///
/// # Errors
///
/// Every fault of the configuration at once; or what could not be had: the folder, the state, the address.
pub(crate) async fn run(args: &ServeArgs, stage: &Stage) -> Result<(), Trouble> {
    let (settings, env) = settings_of(args, ProcessEnv)?;
    service::log_to_stderr(&env);
    let shutdown = service::shutdown_signal().map_err(|error| from_service(&error))?;

    let mut folder = Folder::take(&args.data).await?;
    let embedded = Embedded::file(&folder.state_file()).map_err(|error| from_embedded(&error))?;
    let store = embedded.store(&settings.table).await.map_err(|error| from_store(&error))?;
    let parts = service::parts(&settings, store).map_err(|error| from_service(&error))?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        Trouble::failed(format!("cannot listen on {}: {error}", settings.listen))
            .next("another port: --listen 127.0.0.1:0")
    })?;
    let address =
        listener.local_addr().map_err(|error| Trouble::failed(format!("the listener has no address: {error}")))?;
    folder.announce(&Note {
        pid: std::process::id(),
        audio: format!("ws://{address}/audio"),
        store: embedded.endpoint(),
        table: settings.table.clone(),
        recordings: settings.recordings.clone(),
    })?;

    if settings.tokens.verifier.is_open() {
        eprintln!(
            "earpiece: warning: every caller is accepted; --audio-token or EARPIECE_AUDIO_TOKENS asks for a token"
        );
    }
    // Whoever started us waits for exactly this line.
    print(&if stage.json {
        format!("{}\n", json!({ "listening": address }))
    } else {
        format!("listening on {address}\n")
    });
    let drain_s = settings.limits.drain_deadline.as_secs();
    let shutdown = async move {
        shutdown.await;
        eprintln!("earpiece: draining: no new calls, live ones are told to connect elsewhere; {drain_s} s at most");
    };
    let served = earpiece_shim::run(listener, shutdown, parts).await;
    eprintln!("earpiece: drained; closing the state");
    // The folder stays ours for as long as the state in it is open.
    let closed = close(async move {
        embedded.stop().await;
        drop(folder);
    });
    if !closed.await {
        eprintln!("earpiece: warning: the state did not close within {} s", CLOSE.as_secs());
    }
    served.map_err(|error| Trouble::failed(chain(&error)))
}

/// Waits for something to be closed, but not for ever. On a task of its own: given up here, it must not be dropped here
/// either, since dropping waits as well.
async fn close(closing: impl Future<Output = ()> + Send + 'static) -> bool {
    matches!(timeout(CLOSE, tokio::spawn(closing)).await, Ok(Ok(())))
}

/// The settings from flags over an environment, and that environment.
fn settings_of<E: Env>(args: &ServeArgs, env: E) -> Result<(Settings, Overlay<E>), Trouble> {
    if args.audio_token.iter().any(|token| token.reveal().trim().is_empty() || token.reveal().contains(',')) {
        return Err(Trouble::usage("a token can neither be blank nor have a comma in it")
            .next("leave --audio-token away to accept everybody"));
    }
    let data = args.data.to_str().ok_or_else(|| Trouble::usage("the name of the folder is not Unicode"))?;
    let tokens: Vec<&str> = args.audio_token.iter().map(Secret::reveal).collect();
    let tokens = (!tokens.is_empty()).then(|| tokens.join(","));
    let unset = |setting: &Setting| env.get(setting.name).is_none();
    let listen_default = unset(&settings::LISTEN).then(|| LISTEN_DEFAULT.to_owned());
    let recordings_default = unset(&settings::RECORDINGS).then_some(data);
    let env = Overlay::over(env)
        .with_some(&settings::RECORDINGS, recordings_default)
        .with_some(&settings::LISTEN, args.listen.clone().or(listen_default))
        .with_some(&settings::AUDIO_TOKENS, tokens)
        .with_some(&settings::ASSIST_URL, args.assist_url.as_ref().map(Secret::reveal))
        .with_some(&settings::QUIET_PERIOD, args.quiet_period.as_ref());
    match Settings::read(&env) {
        Ok(settings) => Ok((settings, env)),
        Err(faults) => Err(Trouble::configuration(named_by_flags(args, &faults))
            .next("`earpiece serve --help`, and the table of settings in README.md")),
    }
}

/// The faults, those that come from a flag with its name beside that of the variable.
fn named_by_flags(args: &ServeArgs, faults: &ConfigFaults) -> Vec<String> {
    let flags = BTreeMap::from([
        (settings::LISTEN.name, args.listen.is_some().then_some("--listen")),
        (settings::AUDIO_TOKENS.name, (!args.audio_token.is_empty()).then_some("--audio-token")),
        (settings::ASSIST_URL.name, args.assist_url.is_some().then_some("--assist-url")),
        (settings::QUIET_PERIOD.name, args.quiet_period.is_some().then_some("--quiet-period")),
    ]);
    let named = |line: &String| {
        let variable = line.split(' ').next().unwrap_or_default();
        match flags.get(variable).copied().flatten() {
            Some(flag) => format!("{flag} ({variable}){}", &line[variable.len()..]),
            None => line.clone(),
        }
    };
    faults.lines().iter().map(named).collect()
}

/// What the service said.
pub(crate) fn from_service(error: &ServiceError) -> Trouble {
    match error {
        ServiceError::Recordings(_) | ServiceError::Assist(_) => Trouble::usage(chain(error)),
        ServiceError::System { .. } | ServiceError::Run(_) => Trouble::failed(chain(error)),
    }
}

/// What the embedded DynamoDB said.
pub(crate) fn from_embedded(error: &EmbeddedError) -> Trouble {
    Trouble::failed(chain(error)).next("a folder on a local disk, or an empty one, with --data")
}

/// What the store said.
pub(crate) fn from_store(error: &StoreError) -> Trouble {
    Trouble::failed(format!("the store cannot be used: {}", chain(error)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use earpiece_core::config::EmptyEnv;

    use super::*;

    fn args() -> ServeArgs {
        ServeArgs {
            listen: None,
            data: PathBuf::from("calls"),
            audio_token: Vec::new(),
            assist_url: None,
            quiet_period: None,
        }
    }

    #[test]
    fn without_flags_it_serves_this_machine_only_and_records_into_its_folder() {
        let (settings, _) = settings_of(&args(), EmptyEnv).expect("settings");
        assert_eq!((settings.listen.to_string(), settings.recordings.as_str()), (LISTEN_DEFAULT.into(), "calls"));
        assert!(settings.tokens.verifier.is_open());
    }

    #[test]
    fn flags_win_over_the_environment_which_wins_over_the_defaults() {
        let env = || {
            Overlay::over(EmptyEnv)
                .with(&settings::LISTEN, "127.0.0.1:1")
                .with(&settings::QUIET_PERIOD, "9s")
                .with(&settings::RECORDINGS, "elsewhere")
        };
        let (from_env, _) = settings_of(&args(), env()).expect("settings");
        assert_eq!((from_env.listen.port(), from_env.recordings.as_str()), (1, "elsewhere"));
        let flags = ServeArgs {
            listen: Some("127.0.0.1:2".into()),
            audio_token: vec![Secret::new("old"), Secret::new("new")],
            ..args()
        };
        let (from_flags, _) = settings_of(&flags, env()).expect("settings");
        assert_eq!((from_flags.listen.port(), from_flags.limits.quiet.as_secs()), (2, 9));
        assert!(!from_flags.tokens.verifier.is_open());
    }

    #[test]
    fn every_fault_is_told_and_named_by_its_flag_and_no_token_is_repeated() {
        let flags = ServeArgs {
            listen: Some("here".into()),
            quiet_period: Some("soon".into()),
            assist_url: Some(Secret::new("http://app/?token=hunter2")),
            ..args()
        };
        let env = Overlay::over(EmptyEnv).with(&settings::PING, "no");
        let trouble = settings_of(&flags, env).err().expect("faults");
        let text = trouble.text();
        for expected in [
            "--listen (EARPIECE_LISTEN) must",
            "--quiet-period (EARPIECE_QUIET_PERIOD)",
            "--assist-url",
            "EARPIECE_PING",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains("hunter2"));
        assert_eq!(trouble.exit_code(), std::process::ExitCode::from(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_does_not_close_is_not_waited_for_and_not_dropped_here() {
        struct Hangs(std::sync::mpsc::Receiver<()>);
        impl Drop for Hangs {
            fn drop(&mut self) {
                // Bounded, so that a defect fails this test and does not hang it.
                let _ = self.0.recv_timeout(Duration::from_secs(5));
            }
        }
        let (release, hangs) = std::sync::mpsc::channel();
        let hangs = Hangs(hangs);
        let began = std::time::Instant::now();
        let is_closed = close(async move {
            std::future::pending::<()>().await;
            drop(hangs);
        });
        assert!(!is_closed.await);
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        drop(release);
        assert!(close(async {}).await);
    }

    #[test]
    fn a_token_that_would_be_read_as_two_is_refused() {
        let flags = ServeArgs { audio_token: vec![Secret::new("a,b")], ..args() };
        assert!(settings_of(&flags, EmptyEnv).is_err());
    }
}
