//! Where to look: the store of a running server, the state in its folder when none runs, or a table on AWS; and the
//! recordings beside it.

use std::path::{Path, PathBuf};

use earpiece_core::config::{Env as _, ProcessEnv};
use earpiece_core::contact::ContactKey;
use earpiece_core::contact::ledger::Ledger;
use earpiece_recorder::{Recorder, Settings};
use earpiece_shim::settings;
use earpiece_store::{ContactRecord, Embedded, Store};

use crate::args::DATA_DEFAULT;
use crate::folder::{Folder, Found};
use crate::serve::{from_embedded, from_store};
use crate::trouble::{Trouble, chain};

/// Where to look.
pub(crate) struct Source {
    /// What it is called.
    pub(crate) name: String,
    /// What is worth knowing about it.
    pub(crate) remark: Option<String>,
    /// Whether somebody serves it: without, a stream that was left open is a lost one.
    pub(crate) is_served: bool,
    /// The state; none in a folder in which nothing but recordings was left.
    pub(crate) store: Option<Store>,
    recorder: Option<Recorder>,
    recordings: Option<PathBuf>,
    audio: Option<String>,
    /// Runs for as long as we look, when no server does.
    embedded: Option<Embedded>,
    /// Keeps a server from taking the folder meanwhile.
    folder: Option<Folder>,
}

impl Source {
    /// Finds out where to look.
    ///
    /// # Errors
    ///
    /// When there is nothing to look into.
    pub(crate) async fn open(data: &Path, table: Option<&str>) -> Result<Self, Trouble> {
        match table {
            Some(table) => Self::on_aws(table).await,
            None => match Folder::look(data).await? {
                Found::Busy(note) => {
                    let recordings = note.recordings;
                    let mut source = Self::of_folder(data, Some(&recordings))?;
                    source.store = Some(Store::connect_local(&note.store, &note.table));
                    source.remark =
                        Some(format!("from the server that runs there: process {}, {}", note.pid, note.audio));
                    source.audio = Some(note.audio);
                    source.is_served = true;
                    Ok(source)
                }
                Found::Idle(folder) => Self::idle(data, folder).await,
            },
        }
    }

    async fn on_aws(table: &str) -> Result<Self, Trouble> {
        let recordings = ProcessEnv.get(settings::RECORDINGS.name);
        let remark = match &recordings {
            Some(_) => "finished contacts are found with `contacts show` only",
            None => "without recordings: EARPIECE_RECORDINGS says where they are",
        };
        let recorder = recordings.as_deref().map(open_recorder).transpose()?;
        Ok(Self {
            name: format!("table {table}"),
            remark: Some(remark.to_owned()),
            is_served: true,
            store: Some(Store::connect(table, None).await),
            recorder,
            recordings: None,
            audio: None,
            embedded: None,
            folder: None,
        })
    }

    async fn idle(data: &Path, folder: Folder) -> Result<Self, Trouble> {
        let state = folder.state_file();
        let recordings = ProcessEnv.get(settings::RECORDINGS.name);
        let mut source = Self::of_folder(data, recordings.as_deref())?;
        if state.exists() {
            let embedded = Embedded::file(&state).map_err(|error| from_embedded(&error))?;
            let table = ProcessEnv.get(settings::TABLE.name).unwrap_or_else(|| settings::TABLE.default.to_owned());
            source.store = Some(embedded.store(&table).await.map_err(|error| from_store(&error))?);
            source.embedded = Some(embedded);
            source.remark = Some("no server runs there; this is how the last one left it".into());
        } else if source.recorder.is_some() {
            source.remark = Some("no server keeps its state there; these are its recordings".into());
        } else {
            return Err(Trouble::failed(format!("there is neither state nor a recording in {}", data.display()))
                .next("name the folder of `earpiece serve` with --data, or start one: earpiece serve"));
        }
        source.folder = Some(folder);
        Ok(source)
    }

    /// The recordings of a folder, without a store yet.
    fn of_folder(data: &Path, recordings: Option<&str>) -> Result<Self, Trouble> {
        let is_elsewhere = recordings.is_some_and(|recordings| recordings.contains("://"));
        let folder = recordings.filter(|_| !is_elsewhere).map_or_else(|| data.to_owned(), PathBuf::from);
        let has_recordings = ["contacts", "live"].iter().any(|kind| folder.join(kind).is_dir());
        let recorder = match recordings.filter(|_| is_elsewhere) {
            Some(location) => Some(open_recorder(location)?),
            // Looking makes no folders.
            None if has_recordings => Some(open_recorder(&folder.to_string_lossy())?),
            None => None,
        };
        Ok(Self {
            name: data.display().to_string(),
            remark: None,
            is_served: false,
            store: None,
            recorder,
            recordings: (!is_elsewhere).then_some(folder),
            audio: None,
            embedded: None,
            folder: None,
        })
    }

    /// Contacts with a finished recording in a folder, newest contact ids first, `limit` at most.
    pub(crate) fn recorded(&self, limit: usize) -> Vec<ContactKey> {
        let Some(recordings) = &self.recordings else { return Vec::new() };
        let mut contacts = Vec::new();
        for (bus_no, folder) in numbered(&recordings.join("contacts")) {
            for (contact_id, folder) in numbered(&folder) {
                if folder.join("ledger.json").is_file() {
                    contacts.push(ContactKey { bus_no, contact_id });
                }
            }
        }
        contacts.sort_by(|one, other| other.cmp(one));
        contacts.truncate(limit);
        contacts
    }

    /// What the store knows of a contact.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub(crate) async fn record(&self, contact: ContactKey, now_ms: i64) -> Result<Option<ContactRecord>, Trouble> {
        match &self.store {
            Some(store) => store.contact(&contact, now_ms).await.map_err(|error| from_store(&error)),
            None => Ok(None),
        }
    }

    /// The ledger of a contact, laid out from its segments while it lives.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(crate) async fn ledger(&self, contact: ContactKey) -> Result<Option<Ledger>, Trouble> {
        match &self.recorder {
            Some(recorder) => recorder
                .ledger(contact)
                .await
                .map_err(|error| Trouble::failed(format!("the ledger cannot be read: {}", chain(&error)))),
            None => Ok(None),
        }
    }

    /// Where the recording of a contact is, if it is in a folder and finished.
    pub(crate) fn recording(&self, contact: ContactKey) -> Option<PathBuf> {
        let folder = self.recordings.as_ref()?.join("contacts").join(contact.to_string());
        let file = folder.join("recording.wav");
        file.is_file().then_some(file)
    }

    /// An audio socket to try.
    pub(crate) fn audio_hint(&self) -> &str {
        self.audio.as_deref().unwrap_or("ws://127.0.0.1:8080/audio")
    }

    /// How to name this place again on the command line.
    pub(crate) fn flag(&self) -> String {
        if self.name == DATA_DEFAULT { String::new() } else { format!(" --data {}", self.name) }
    }

    /// Lets go of everything.
    pub(crate) async fn close(mut self) {
        if let Some(embedded) = self.embedded.take() {
            embedded.stop().await;
        }
        drop(self.folder);
    }
}

fn open_recorder(location: &str) -> Result<Recorder, Trouble> {
    Recorder::open(location, Settings::default())
        .map_err(|error| Trouble::usage(format!("the recordings cannot be opened: {}", chain(&error))))
}

/// Folders whose name is a number.
fn numbered(folder: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let number = |entry: std::fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
    entries.filter_map(Result::ok).filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_with_nothing_but_recordings_is_enough() {
        let data = tempfile::tempdir().expect("a folder");
        for contact in ["7/1", "7/12", "x/1"] {
            let folder = data.path().join("contacts").join(contact);
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join("ledger.json"), "{}").expect("a file");
        }
        std::fs::create_dir_all(data.path().join("contacts/7/2")).expect("a folder without a ledger");
        let source = Source::open(data.path(), None).await.expect("a source");
        assert!(source.store.is_none());
        let found: Vec<String> = source.recorded(10).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["7/12", "7/1"]);
        assert_eq!(source.recorded(1).len(), 1);
    }

    #[tokio::test]
    async fn an_empty_folder_is_an_error_and_stays_empty_but_for_the_lock() {
        let data = tempfile::tempdir().expect("a folder");
        assert!(Source::open(data.path(), None).await.is_err());
        assert!(!data.path().join("state.db").exists() && !data.path().join("live").exists());
    }

    #[tokio::test]
    async fn a_servers_state_is_read_without_it_and_beside_it() {
        let data = tempfile::tempdir().expect("a folder");
        let contact = ContactKey { bus_no: 1, contact_id: 2 };
        let mut folder = Folder::take(data.path()).await.expect("ours");
        let embedded = Embedded::file(&folder.state_file()).expect("a store");
        embedded.store(settings::TABLE.default).await.expect("a table");
        folder
            .announce(&crate::folder::Note {
                pid: 1,
                audio: "ws://127.0.0.1:9/audio".into(),
                store: embedded.endpoint(),
                table: settings::TABLE.default.to_owned(),
                recordings: data.path().to_string_lossy().into_owned(),
            })
            .expect("a note");
        let beside = Source::open(data.path(), None).await.expect("a source");
        assert_eq!(beside.record(contact, 0).await, Ok(None));
        assert_eq!(beside.audio_hint(), "ws://127.0.0.1:9/audio");
        beside.close().await;
        embedded.stop().await;
        drop(folder);
        let without = Source::open(data.path(), None).await.expect("a source");
        assert_eq!(without.record(contact, 0).await, Ok(None));
        without.close().await;
    }
}
