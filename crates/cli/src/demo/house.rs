//! Everything in one process: an embedded DynamoDB in memory, the shim, the reference assist app and CXone's platform, on
//! free loopback ports.

use std::path::Path;

use earpiece_core::config::{Env as _, Overlay, ProcessEnv};
use earpiece_core::contact::event::ContactEvent;
use earpiece_shim::{RunError, Settings, service, settings};
use earpiece_simulator::{AssistApp, AssistSettings, Line, Platform, PlatformSettings};
use earpiece_store::{Embedded, Store};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinHandle;

use super::knowledge;
use super::script::{CONTACT, QUIET_MS};
use crate::folder::{Folder, Note};
use crate::platform::Environment;
use crate::serve::{from_embedded, from_service, from_store};
use crate::trouble::{Trouble, chain};

/// What runs.
pub(crate) struct House {
    /// The audio socket.
    pub(crate) url: String,
    /// The assist app.
    pub(crate) app: AssistApp,
    /// CXone's platform, and through it the agent's desk.
    pub(crate) platform: Platform,
    /// What Earpiece knows.
    pub(crate) store: Store,
    /// What happens to contacts.
    pub(crate) events: broadcast::Receiver<ContactEvent>,
    embedded: Embedded,
    stop: oneshot::Sender<()>,
    shim: JoinHandle<Result<(), RunError>>,
    _folder: Folder,
}

impl House {
    /// Starts everything. What an earlier demo left of its contact in the folder is taken away.
    ///
    /// # Errors
    ///
    /// When the folder is somebody else's, or something cannot be started.
    pub(crate) async fn open(data: &Path, lines: Vec<Line>) -> Result<Self, Trouble> {
        let mut folder = Folder::take(data).await?;
        if folder.state_file().exists() {
            return Err(Trouble::usage(format!("{} is a folder of `earpiece serve`", data.display()))
                .next("another folder for the demo: --data DIR"));
        }
        forget_earlier_demo(data)?;
        let recordings = data.to_str().ok_or_else(|| Trouble::usage("the name of the folder is not Unicode"))?;
        let no_port = |error: std::io::Error| Trouble::failed(format!("no port could be had on 127.0.0.1: {error}"));

        let embedded = Embedded::memory().map_err(|error| from_embedded(&error))?;
        let store = embedded.store(settings::TABLE.default).await.map_err(|error| from_store(&error))?;
        let app_listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_port)?;
        let app_settings = AssistSettings { keep_audio: true, script: lines, ..AssistSettings::default() };
        let app = AssistApp::start(app_listener, app_settings).map_err(no_port)?;

        let platform_settings = PlatformSettings { articles: knowledge::articles(), ..PlatformSettings::default() };
        let platform = Platform::bind("127.0.0.1:0", platform_settings).await.map_err(no_port)?;

        // The demo is the same everywhere: the environment chooses the log level, and nothing else.
        let env = Overlay::over(Environment::towards(&platform))
            .with(&settings::LISTEN, "127.0.0.1:0")
            .with(&settings::RECORDINGS, recordings)
            .with(&settings::ASSIST_URL, app.url())
            .with(&settings::QUIET_PERIOD, format!("{QUIET_MS}ms"))
            .with(&settings::LOG, ProcessEnv.get(settings::LOG.name).unwrap_or_else(|| "error".into()));
        service::log_to_stderr(&env);
        let settings = Settings::read(&env).map_err(|faults| Trouble::configuration(faults.lines().to_vec()))?;
        let mut parts = service::parts(&settings, store).map_err(|error| from_service(&error))?;
        service::add_uplink(&mut parts, &settings, &env).await.map_err(|error| from_service(&error))?;
        let store = parts.store.clone();
        let events = parts.watchers.subscribe();
        let listener = TcpListener::bind(settings.listen).await.map_err(no_port)?;
        let url = format!("ws://{}/audio", listener.local_addr().map_err(no_port)?);
        folder.announce(&Note {
            pid: std::process::id(),
            audio: url.clone(),
            store: embedded.endpoint(),
            table: settings.table.clone(),
            recordings: settings.recordings.clone(),
        })?;
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            // Dropped or told: both mean that the demo is over.
            let _ = stopped.await;
        };
        let shim = tokio::spawn(earpiece_shim::run(listener, shutdown, parts));
        Ok(Self { url, app, platform, store, events, embedded, stop, shim, _folder: folder })
    }

    /// Stops everything, in the order of the call.
    ///
    /// # Errors
    ///
    /// When the shim ended badly.
    pub(crate) async fn close(self) -> Result<(), Trouble> {
        let _ = self.stop.send(());
        let ended = self.shim.await.map_err(|error| Trouble::failed(format!("the shim ended badly: {error}")))?;
        ended.map_err(|error| Trouble::failed(chain(&error)))?;
        self.app.shutdown().await;
        self.platform.shutdown().await;
        self.embedded.stop().await;
        Ok(())
    }
}

fn forget_earlier_demo(data: &Path) -> Result<(), Trouble> {
    for kind in ["contacts", "live"] {
        let left = data.join(kind).join(CONTACT.bus_no.to_string()).join(CONTACT.contact_id.to_string());
        match std::fs::remove_dir_all(&left) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Trouble::failed(format!("{} cannot be replaced: {error}", left.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_demos_own_contact_is_taken_away() {
        let data = tempfile::tempdir().expect("a folder");
        let own = data.path().join(format!("contacts/{CONTACT}"));
        let other = data.path().join(format!("contacts/{}/1", CONTACT.bus_no));
        for folder in [&own, &other] {
            std::fs::create_dir_all(folder).expect("a folder");
            std::fs::write(folder.join("ledger.json"), "{}").expect("a file");
        }
        forget_earlier_demo(data.path()).expect("taken away");
        assert!(!own.exists() && other.join("ledger.json").exists());
        forget_earlier_demo(data.path()).expect("nothing to take away is no error");
    }
}
