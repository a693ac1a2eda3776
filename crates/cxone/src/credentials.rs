//! Who we are at CXone, where that is written, and what happens when it changes.
//!
//! Credentials are rotated while the program runs: a file or a secret is read again every minute, and whenever CXone
//! refuses what we have. A place that cannot be read, or holds nonsense because somebody is just writing it, changes
//! nothing: the credentials that were read before go on being used.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use earpiece_core::secret::Secret;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use crate::error::CxoneError;
use crate::secrets_manager::Manager;
use crate::settings::Source;

/// Between two readings of the place.
pub(crate) const RELOAD_EVERY: Duration = Duration::from_mins(1);
/// Largest file or secret, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 64 * 1024;

/// How access keys become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyForm {
    /// The token endpoint, with the grant `password` and a client's credentials.
    Password,
    /// An endpoint of its own, in JSON.
    Json,
}

/// An id and its secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) id: String,
    pub(crate) secret: Secret,
}

/// What a token is asked for with. Has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// OAuth client credentials.
    Client(Pair),
    /// Access keys at the token endpoint.
    Password { keys: Pair, client: Pair },
    /// Access keys at their own endpoint.
    Keys(Pair),
}

impl Credentials {
    /// What these are, in the form that was asked for. `None` when a part is missing.
    pub(crate) fn choose(client: Option<Pair>, keys: Option<Pair>, form: Option<KeyForm>) -> Option<Self> {
        match (client, keys, form) {
            (Some(client), None, _) => Some(Self::Client(client)),
            (Some(client), Some(keys), None | Some(KeyForm::Password)) => Some(Self::Password { keys, client }),
            (_, Some(keys), None | Some(KeyForm::Json)) => Some(Self::Keys(keys)),
            (None, Some(_), Some(KeyForm::Password)) | (None, None, _) => None,
        }
    }

    /// Reads what stands in a file or a secret.
    fn parse(json: &[u8], form: Option<KeyForm>) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Document {
            client_id: Option<String>,
            client_secret: Option<Secret>,
            access_key_id: Option<String>,
            access_key_secret: Option<Secret>,
        }
        let pair = |id: Option<String>, secret: Option<Secret>| {
            let (id, secret) = (id?, secret?);
            (!id.trim().is_empty() && !secret.reveal().trim().is_empty()).then_some(Pair { id, secret })
        };
        let document: Document = serde_json::from_slice(json).ok()?;
        let client = pair(document.client_id, document.client_secret);
        let keys = pair(document.access_key_id, document.access_key_secret);
        Self::choose(client, keys, form)
    }
}

/// What is thought of a place that was read.
const NO_FILE: CxoneError =
    CxoneError::NotConfigured { problem: "the file of EARPIECE_CXONE_CREDENTIALS cannot be read" };
const NONSENSE: CxoneError = CxoneError::NotConfigured {
    problem: "what EARPIECE_CXONE_CREDENTIALS names does not hold credentials of a known form",
};

/// The place, and what stood there last.
pub(crate) struct Keeper {
    place: Place,
    form: Option<KeyForm>,
    known: Mutex<Option<Arc<Credentials>>>,
    changes: watch::Sender<u64>,
}

/// Where credentials are read.
pub(crate) enum Place {
    /// They stand in the environment, which does not change.
    Nowhere,
    File(std::path::PathBuf),
    Manager(Manager),
}

impl Keeper {
    pub(crate) fn new(source: &Source, form: Option<KeyForm>, manager: Option<Manager>) -> Result<Self, CxoneError> {
        let (place, known) = match (source, manager) {
            (Source::Env(credentials), _) => (Place::Nowhere, Some(Arc::new(credentials.clone()))),
            (Source::File(path), _) => (Place::File(path.clone()), None),
            (Source::Manager(_), Some(manager)) => (Place::Manager(manager), None),
            (Source::Manager(_), None) => {
                return Err(CxoneError::NotConfigured {
                    problem: "Secrets Manager needs a region and credentials of AWS",
                });
            }
        };
        Ok(Self { place, form, known: Mutex::new(known), changes: watch::Sender::new(0) })
    }

    /// Counts up with every change of the credentials.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether they can change at all.
    pub(crate) const fn can_change(&self) -> bool {
        !matches!(self.place, Place::Nowhere)
    }

    /// Whether they stand on this machine, so that a fault of theirs is known at start.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(self.place, Place::Nowhere | Place::File(_))
    }

    /// What is known; read only if nothing is.
    pub(crate) async fn current(&self) -> Result<Arc<Credentials>, CxoneError> {
        if let Some(known) = self.known().clone() {
            return Ok(known);
        }
        self.reload().await?;
        self.known().clone().ok_or(NONSENSE)
    }

    /// Reads the place again. True when something else stands there now.
    ///
    /// # Errors
    ///
    /// When it cannot be read; what was known stays.
    pub(crate) async fn reload(&self) -> Result<bool, CxoneError> {
        let json = match &self.place {
            Place::Nowhere => return Ok(false),
            Place::File(path) => read_file(path).await?,
            Place::Manager(manager) => manager.read().await?,
        };
        let read = Credentials::parse(&json, self.form).ok_or(NONSENSE)?;
        let mut known = self.known();
        let is_first = known.is_none();
        if known.as_deref() == Some(&read) {
            return Ok(false);
        }
        *known = Some(Arc::new(read));
        drop(known);
        if !is_first {
            self.changes.send_modify(|count| *count += 1);
            tracing::info!("CXone's credentials have changed, and are used from now on");
        }
        Ok(!is_first)
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<Credentials>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, CxoneError> {
    let file = tokio::fs::File::open(path).await.map_err(|_| NO_FILE)?;
    let mut json = Vec::new();
    file.take(DOCUMENT_BYTES_MAX).read_to_end(&mut json).await.map_err(|_| NO_FILE)?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(json: &str, form: Option<KeyForm>) -> &'static str {
        match Credentials::parse(json.as_bytes(), form) {
            Some(Credentials::Client(_)) => "client",
            Some(Credentials::Password { .. }) => "password",
            Some(Credentials::Keys(_)) => "keys",
            None => "none",
        }
    }

    #[test]
    fn a_document_says_by_its_fields_what_it_is() {
        let client = r#"{"clientId":"a","clientSecret":"b","note":1}"#;
        let keys = r#"{"accessKeyId":"a","accessKeySecret":"b"}"#;
        let both = r#"{"accessKeyId":"a","accessKeySecret":"b","clientId":"c","clientSecret":"d"}"#;
        assert_eq!(kind(client, None), "client");
        assert_eq!(kind(keys, None), "keys");
        assert_eq!(kind(both, None), "password");
        assert_eq!(kind(both, Some(KeyForm::Json)), "keys");
        assert_eq!(kind(keys, Some(KeyForm::Password)), "none");
        for nonsense in ["", "{}", "[]", r#"{"clientId":"a"}"#, r#"{"clientId":" ","clientSecret":"b"}"#] {
            assert_eq!(kind(nonsense, None), "none", "{nonsense}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_again_and_one_that_is_being_written_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cxone.json");
        let keeper = Keeper::new(&Source::File(path.clone()), None, None).unwrap();
        let mut changes = keeper.changes();
        assert_eq!(keeper.current().await.err(), Some(NO_FILE));

        std::fs::write(&path, r#"{"clientId":"a","clientSecret":"1"}"#).unwrap();
        let first = keeper.current().await.unwrap();
        assert_eq!(keeper.reload().await, Ok(false));
        std::fs::write(&path, r#"{"clientId":"a","clie"#).unwrap();
        assert_eq!(keeper.reload().await, Err(NONSENSE));
        assert!(*keeper.current().await.unwrap() == *first);
        assert!(!changes.has_changed().unwrap());

        std::fs::write(&path, r#"{"clientId":"a","clientSecret":"2"}"#).unwrap();
        assert_eq!(keeper.reload().await, Ok(true));
        changes.changed().await.unwrap();
        assert!(*keeper.current().await.unwrap() != *first);
    }
}
