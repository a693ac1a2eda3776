//! The files of a folder: which there are, and the articles in them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::article::{Draft, Place};
use crate::error::OpenError;
use crate::{ARTICLES_MAX, FILE_BYTES_MAX, FILES_MAX, FOLDER_BYTES_MAX, FOLDERS_DEEP_MAX, json, markdown};

/// A file as it was when it was seen.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// Path in the folder, with `/` between names.
    name: String,
    format: Format,
    bytes: u64,
    /// `None` where the file system keeps no times: then only its size tells of a change.
    changed: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    Markdown,
    Json,
}

impl Format {
    fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "md" | "markdown" => Some(Self::Markdown),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Every file with articles, by name. Files may be links (a mounted configuration is made of them); folders that are
/// links are not entered, so there is no way in a circle.
pub(crate) fn scan(folder: &Path) -> Result<Vec<Stamp>, OpenError> {
    let mut stamps = Vec::new();
    let mut bytes = 0_u64;
    let mut folders = vec![(folder.to_owned(), String::new(), 1)];
    while let Some((path, prefix, depth)) = folders.pop() {
        if depth > FOLDERS_DEEP_MAX {
            return Err(OpenError::TooDeep { path });
        }
        for entry in fs::read_dir(&path).map_err(io_error(&path))? {
            let entry = entry.map_err(io_error(&path))?;
            let file_name = entry.file_name();
            // A name that is not Unicode is no name that an article could be cited by.
            let Some(file_name) = file_name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let name = format!("{prefix}{file_name}");
            if entry.file_type().map_err(io_error(&entry.path()))?.is_dir() {
                folders.push((entry.path(), format!("{name}/"), depth + 1));
                continue;
            }
            let Some(format) = Format::of(file_name) else { continue };
            let stamp = stamp(&entry.path(), name, format)?;
            bytes += stamp.bytes;
            stamps.push(stamp);
            if stamps.len() > FILES_MAX {
                return Err(OpenError::TooManyFiles { folder: folder.to_owned() });
            }
            if bytes > FOLDER_BYTES_MAX {
                return Err(OpenError::TooMuch { folder: folder.to_owned() });
            }
        }
    }
    stamps.sort();
    Ok(stamps)
}

fn stamp(path: &Path, name: String, format: Format) -> Result<Stamp, OpenError> {
    let metadata = fs::metadata(path).map_err(io_error(path))?;
    if !metadata.is_file() {
        return Err(io_error(path)(io::ErrorKind::IsADirectory.into()));
    }
    let bytes = metadata.len();
    if bytes > FILE_BYTES_MAX {
        return Err(OpenError::TooLarge { path: path.to_owned(), bytes });
    }
    Ok(Stamp { name, format, bytes, changed: metadata.modified().ok() })
}

/// The articles of all files, by id.
pub(crate) fn read(folder: &Path, stamps: &[Stamp]) -> Result<Vec<Arc<Draft>>, OpenError> {
    let mut known = BTreeMap::<String, (Arc<Draft>, PathBuf)>::new();
    for stamp in stamps {
        let path = folder.join(&stamp.name);
        let text = text(&path)?;
        let place = Place { path: &path, name: &stamp.name, index: None };
        let drafts = match stamp.format {
            Format::Markdown => vec![markdown::read(&text, place)?],
            Format::Json => json::read(&text, place)?,
        };
        for draft in drafts {
            if let Some((_, other)) = known.get(&draft.id) {
                return Err(OpenError::Duplicate { id: draft.id, path, other: other.clone() });
            }
            known.insert(draft.id.clone(), (Arc::new(draft), path.clone()));
            if known.len() > ARTICLES_MAX {
                return Err(OpenError::TooManyArticles { folder: folder.to_owned() });
            }
        }
    }
    Ok(known.into_values().map(|(draft, _)| draft).collect())
}

/// A file's text. It may have grown since it was seen, so what is read is bounded, too.
fn text(path: &Path) -> Result<String, OpenError> {
    let file = fs::File::open(path).map_err(io_error(path))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io_error(path))?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > FILE_BYTES_MAX {
        return Err(OpenError::TooLarge { path: path.to_owned(), bytes: size });
    }
    String::from_utf8(bytes).map_err(|_| OpenError::NotText { path: path.to_owned() })
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}
