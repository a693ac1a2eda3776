//! `serve`: the shim and the serverless doors on embedded state, on one listener.

mod doors;

use std::collections::BTreeMap;
use std::time::Duration;

use earpiece_access::settings::JWKS;
use earpiece_core::config::{ConfigFaults, Env, Overlay, ProcessEnv, Setting};
use earpiece_core::secret::Secret;
use earpiece_functions::settings::{self as function_settings, Assist, Settings as FunctionSettings};
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
    let (settings, functions, env) = settings_of(args, ProcessEnv)?;
    service::log_to_stderr(&env);
    let shutdown = service::shutdown_signal().map_err(|error| from_service(&error))?;

    let mut folder = Folder::take(&args.data).await?;
    let embedded = Embedded::file(&folder.state_file()).map_err(|error| from_embedded(&error))?;
    let store = embedded.store(&settings.table).await.map_err(|error| from_store(&error))?;
    let mut parts = service::parts(&settings, store).map_err(|error| from_service(&error))?;
    service::add_uplink(&mut parts, &settings, &env).await.map_err(|error| from_service(&error))?;
    let doors = doors::open(doors::Wanted {
        env: &env,
        settings: &functions,
        store: &parts.store,
        recorder: &parts.recorder,
        task: &parts.name,
    });
    let doors = doors.await?;
    parts.doors = Some(doors.doors.clone());
    parts.extra_metrics = Some(doors.metrics.clone());
    parts.connections_url = Some(doors.connections_url.clone());
    let scheme = if parts.tls.is_some() { "wss" } else { "ws" };
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| {
        Trouble::failed(format!("cannot listen on {}: {error}", settings.listen))
            .next("another port: --listen 127.0.0.1:0")
    })?;
    let address =
        listener.local_addr().map_err(|error| Trouble::failed(format!("the listener has no address: {error}")))?;
    folder.announce(&Note {
        pid: std::process::id(),
        audio: format!("{scheme}://{address}/audio"),
        store: embedded.endpoint(),
        table: settings.table.clone(),
        recordings: settings.recordings.clone(),
    })?;

    if settings.tokens.guard.is_open() {
        eprintln!(
            "earpiece: warning: every caller is accepted; --audio-token or EARPIECE_AUDIO_TOKENS asks for a token"
        );
    }
    if functions.text_tokens.is_open() {
        eprintln!(
            "earpiece: warning: text and contact events are taken from everybody; EARPIECE_TEXT_TOKENS asks for a token"
        );
    }
    if matches!(functions.assist, Assist::Unset) {
        eprintln!("earpiece: no assist app for text: utterances are noted and go nowhere; --assist-text-url names one");
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
    doors.close().await;
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

/// The settings of shim and functions from flags over an environment, and that environment.
fn settings_of<E: Env>(args: &ServeArgs, env: E) -> Result<(Settings, FunctionSettings, Overlay<E>), Trouble> {
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
    // Whoever configures clients of the token endpoint wants its tokens to be accepted.
    let issues = env.get(function_settings::TOKEN_CLIENTS.name).is_some();
    let keys_default = (issues && unset(&JWKS)).then_some("table");
    let env = Overlay::over(env)
        .with_some(&settings::RECORDINGS, recordings_default)
        .with_some(&settings::LISTEN, args.listen.clone().or(listen_default))
        .with_some(&settings::AUDIO_TOKENS, tokens)
        .with_some(&settings::ASSIST_URL, args.assist_url.as_ref().map(Secret::reveal))
        .with_some(&settings::QUIET_PERIOD, args.quiet_period.as_ref())
        .with_some(&settings::TLS_CERT, args.tls_cert.as_ref().map(|file| file.display()))
        .with_some(&settings::TLS_KEY, args.tls_key.as_ref().map(|file| file.display()))
        .with_some(&function_settings::ASSIST_TEXT_URL, args.assist_text_url.as_ref().map(Secret::reveal))
        .with_some(&JWKS, keys_default);
    let shim = Settings::read(&env);
    let functions = FunctionSettings::read(&env_of_functions(&env));
    match (shim, functions) {
        (Ok(shim), Ok(functions)) => Ok((shim, functions, env)),
        (shim, functions) => {
            let mut faults: Vec<String> = Vec::new();
            for more in [shim.err(), functions.err()].into_iter().flatten() {
                // Both read some of the settings, and say the same of them.
                for line in named_by_flags(args, &more) {
                    if !faults.contains(&line) {
                        faults.push(line);
                    }
                }
            }
            Err(Trouble::configuration(faults).next("`earpiece serve --help`, and the tables of settings in README.md"))
        }
    }
}

/// In an account, doors without tokens let nobody in. Here everybody is let in where nothing was said at all, and the
/// tokens of calls hold for text as well, unless text has its own.
fn env_of_functions<E: Env>(env: &E) -> Overlay<&E> {
    let unset = |setting: &Setting| env.get(setting.name).is_none();
    let audio = env.get(settings::AUDIO_TOKENS.name);
    let has_keys = !unset(&JWKS) || !unset(&earpiece_access::settings::SECRET);
    let everybody = (audio.is_none() && !has_keys).then(|| function_settings::NONE.to_owned());
    let text = unset(&function_settings::TEXT_TOKENS).then(|| audio.clone().or_else(|| everybody.clone())).flatten();
    Overlay::over(env)
        .with_some(&function_settings::AUDIO_TOKENS, everybody)
        .with_some(&function_settings::TEXT_TOKENS, text)
}

/// The faults, those that come from a flag with its name beside that of the variable.
fn named_by_flags(args: &ServeArgs, faults: &ConfigFaults) -> Vec<String> {
    let flags = BTreeMap::from([
        (settings::LISTEN.name, args.listen.is_some().then_some("--listen")),
        (settings::AUDIO_TOKENS.name, (!args.audio_token.is_empty()).then_some("--audio-token")),
        (settings::ASSIST_URL.name, args.assist_url.is_some().then_some("--assist-url")),
        (settings::QUIET_PERIOD.name, args.quiet_period.is_some().then_some("--quiet-period")),
        (settings::TLS_CERT.name, args.tls_cert.is_some().then_some("--tls-cert")),
        (settings::TLS_KEY.name, args.tls_key.is_some().then_some("--tls-key")),
        (function_settings::ASSIST_TEXT_URL.name, args.assist_text_url.is_some().then_some("--assist-text-url")),
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
        ServiceError::Recordings(_) | ServiceError::Assist(_) | ServiceError::Trust(_) | ServiceError::Uplink(_) => {
            Trouble::usage(chain(error))
        }
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

    use earpiece_core::access::Verdict;
    use earpiece_core::config::EmptyEnv;

    use super::*;

    fn args() -> ServeArgs {
        ServeArgs {
            listen: None,
            data: PathBuf::from("calls"),
            audio_token: Vec::new(),
            assist_url: None,
            quiet_period: None,
            assist_text_url: None,
            tls_cert: None,
            tls_key: None,
        }
    }

    #[test]
    fn without_flags_it_serves_this_machine_only_and_records_into_its_folder() {
        let (settings, _, _) = settings_of(&args(), EmptyEnv).expect("settings");
        assert_eq!((settings.listen.to_string(), settings.recordings.as_str()), (LISTEN_DEFAULT.into(), "calls"));
        assert!(settings.tokens.guard.is_open());
    }

    #[test]
    fn what_holds_for_calls_holds_for_text_unless_text_has_tokens_of_its_own() {
        let read = |args: &ServeArgs, env| settings_of(args, env).expect("settings");
        let (_, open, _) = read(&args(), Overlay::over(EmptyEnv));
        assert!(open.text_tokens.is_open() && open.audio_tokens.is_open());

        let with_token = ServeArgs { audio_token: vec![Secret::new("calls")], ..args() };
        let (_, same, _) = read(&with_token, Overlay::over(EmptyEnv));
        for verifier in [&same.text_tokens, &same.audio_tokens] {
            assert_eq!(verifier.judge(["calls"]), Verdict::Accepted);
            assert_eq!(verifier.judge(["other"]), Verdict::Wrong);
        }
        let own = Overlay::over(EmptyEnv).with(&function_settings::TEXT_TOKENS, "texts");
        let (_, own, _) = read(&with_token, own);
        assert_eq!(own.text_tokens.judge(["calls"]), Verdict::Wrong);
        assert_eq!(own.audio_tokens.judge(["calls"]), Verdict::Accepted);

        // Keys for JWTs close every door to those without a token.
        let keys = Overlay::over(EmptyEnv).with(&JWKS, "table");
        let (shim, functions, _) = read(&args(), keys);
        assert!(!shim.tokens.guard.is_open() && !functions.text_tokens.is_open() && !functions.audio_tokens.is_open());
    }

    #[test]
    fn flags_win_over_the_environment_which_wins_over_the_defaults() {
        let env = || {
            Overlay::over(EmptyEnv)
                .with(&settings::LISTEN, "127.0.0.1:1")
                .with(&settings::QUIET_PERIOD, "9s")
                .with(&settings::RECORDINGS, "elsewhere")
        };
        let (from_env, _, _) = settings_of(&args(), env()).expect("settings");
        assert_eq!((from_env.listen.port(), from_env.recordings.as_str()), (1, "elsewhere"));
        let flags = ServeArgs {
            listen: Some("127.0.0.1:2".into()),
            audio_token: vec![Secret::new("old"), Secret::new("new")],
            ..args()
        };
        let (from_flags, _, _) = settings_of(&flags, env()).expect("settings");
        assert_eq!((from_flags.listen.port(), from_flags.limits.quiet.as_secs()), (2, 9));
        assert!(!from_flags.tokens.guard.is_open());
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
