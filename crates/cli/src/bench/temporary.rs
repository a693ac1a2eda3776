//! A folder for one measurement.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::trouble::Trouble;

/// A folder that is taken away when this is dropped.
pub(crate) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Makes one where the system wants such folders.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(crate) fn make() -> Result<Self, Trouble> {
        let name = format!("earpiece-bench-{}-{:x}", std::process::id(), nanoseconds());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| {
            Trouble::failed(format!("{} cannot be made: {error}", path.display())).next("set TMPDIR")
        })?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The time, as a name that nobody had before.
pub(crate) fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}
