//! A data folder: one process works on it, and others find that process.
//!
//! The embedded DynamoDB is one process's own: a second one on the same file would compete with calls for its locks.
//! So whoever works on a folder holds the lock on `earpiece.lock`, and writes into that file where its store listens.
//! The kernel gives the lock back however the process ends, so nothing is left to be cleaned up after a kill.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::trouble::Trouble;

/// The lock, and the note in it.
const LOCK_FILE: &str = "earpiece.lock";

/// The embedded DynamoDB.
const STATE_FILE: &str = "state.db";

/// How long to wait for somebody who only looks, or who has just begun.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often to look meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the process that works on a folder can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Note {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its audio socket.
    pub(crate) audio: String,
    /// Its store.
    pub(crate) store: String,
    /// The table in it.
    pub(crate) table: String,
    /// Where its recordings go.
    pub(crate) recordings: String,
}

/// A folder that is ours for as long as this lives.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    lock: File,
}

/// What is found in a folder.
#[derive(Debug)]
pub(crate) enum Found {
    /// A process works on it.
    Busy(Note),
    /// Nobody does; it is ours.
    Idle(Folder),
}

impl Folder {
    /// Makes the folder if it is not there, and takes it.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or another process works on it.
    pub(crate) async fn take(path: &Path) -> Result<Self, Trouble> {
        std::fs::create_dir_all(path)
            .map_err(|error| Trouble::failed(format!("the folder {} cannot be made: {error}", path.display())))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(folder) = Self::try_take(path)? {
                return Ok(folder);
            }
            if Instant::now() >= deadline {
                return Err(busy(path));
            }
            sleep(PAUSE).await;
        }
    }

    /// Looks who works on a folder that is there.
    ///
    /// # Errors
    ///
    /// When there is no such folder, or the process that works on it does not say where it is.
    pub(crate) async fn look(path: &Path) -> Result<Found, Trouble> {
        if !path.is_dir() {
            return Err(Trouble::failed(format!("there is no folder {}", path.display()))
                .next("name the folder of `earpiece serve` with --data, or start one: earpiece serve"));
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(folder) = Self::try_take(path)? {
                return Ok(Found::Idle(folder));
            }
            if let Some(note) = read_note(path) {
                return Ok(Found::Busy(note));
            }
            if Instant::now() >= deadline {
                return Err(busy(path));
            }
            sleep(PAUSE).await;
        }
    }

    fn try_take(path: &Path) -> Result<Option<Self>, Trouble> {
        let file = path.join(LOCK_FILE);
        let unusable = |error: std::io::Error| Trouble::failed(format!("{} cannot be used: {error}", file.display()));
        // What is in it is the owner's, so it is not truncated before it is ours.
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
        let lock = opened.map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {
                // A note of somebody who was killed says nothing any more.
                lock.set_len(0).map_err(unusable)?;
                Ok(Some(Self { path: path.to_owned(), lock }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// Tells others where this process can be reached.
    ///
    /// # Errors
    ///
    /// When the note cannot be written.
    pub(crate) fn announce(&mut self, note: &Note) -> Result<(), Trouble> {
        let written = serde_json::to_vec(note).map_err(std::io::Error::from).and_then(|text| {
            self.lock.set_len(0)?;
            self.lock.rewind()?;
            self.lock.write_all(&text)
        });
        written.map_err(|error| Trouble::failed(format!("{LOCK_FILE} cannot be written: {error}")))
    }

    /// The file of the embedded DynamoDB.
    pub(crate) fn state_file(&self) -> PathBuf {
        self.path.join(STATE_FILE)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The lock goes with the file. The note would be overlooked without it, and is taken away for tidiness only.
        let _ = self.lock.set_len(0);
    }
}

fn busy(path: &Path) -> Trouble {
    let who = read_note(path).map_or_else(String::new, |note| format!(" (process {}, {})", note.pid, note.audio));
    Trouble::failed(format!("another earpiece works on the folder {}{who}", path.display()))
        .next("stop it, or name another folder with --data")
}

/// The owner's note, if it is written by now.
fn read_note(path: &Path) -> Option<Note> {
    let text = std::fs::read(path.join(LOCK_FILE)).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note {
            pid: 7,
            audio: "ws://127.0.0.1:1/audio".into(),
            store: "http://127.0.0.1:2".into(),
            table: "earpiece".into(),
            recordings: "data".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_has_one_owner_and_others_read_its_note() {
        let place = tempfile::tempdir().expect("a folder");
        let data = place.path().join("data");
        let mut folder = Folder::take(&data).await.expect("ours");
        folder.announce(&note()).expect("a note");
        assert!(matches!(Folder::look(&data).await, Ok(Found::Busy(found)) if found == note()));
        let refused = Folder::take(&data).await.expect_err("taken").text();
        assert!(refused.contains("process 7"), "{refused}");
        drop(folder);
        assert!(matches!(Folder::look(&data).await, Ok(Found::Idle(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn the_note_of_a_process_that_was_killed_is_not_believed() {
        let place = tempfile::tempdir().expect("a folder");
        std::fs::write(place.path().join(LOCK_FILE), serde_json::to_vec(&note()).expect("json")).expect("a file");
        assert!(matches!(Folder::look(place.path()).await, Ok(Found::Idle(_))));
    }

    #[tokio::test]
    async fn looking_makes_no_folder() {
        let place = tempfile::tempdir().expect("a folder");
        let missing = place.path().join("missing");
        assert!(Folder::look(&missing).await.is_err());
        assert!(!missing.exists());
    }
}
