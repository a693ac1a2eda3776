//! What can be wrong with a folder of articles. Each error names the file, and none quotes it.

use std::path::PathBuf;

use crate::{ARTICLES_MAX, FILE_BYTES_MAX, FILES_MAX, FOLDER_BYTES_MAX, FOLDERS_DEEP_MAX, LANGUAGES_MAX};

/// A folder could not be made into knowledge.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder could not be read.
    #[error("{path} could not be read: {source}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No file in it is an article.
    #[error("{folder} holds no article (.md, .markdown or .json)", folder = .folder.display())]
    Empty {
        /// The folder.
        folder: PathBuf,
    },
    /// More files than are read.
    #[error("{folder} holds more than {FILES_MAX} files", folder = .folder.display())]
    TooManyFiles {
        /// The folder.
        folder: PathBuf,
    },
    /// More articles than are kept.
    #[error("{folder} holds more than {ARTICLES_MAX} articles", folder = .folder.display())]
    TooManyArticles {
        /// The folder.
        folder: PathBuf,
    },
    /// More languages than have an index.
    #[error("the articles are in {found} languages: {LANGUAGES_MAX} is the most")]
    TooManyLanguages {
        /// How many.
        found: usize,
    },
    /// More bytes than are kept.
    #[error("the articles in {folder} have more than {FOLDER_BYTES_MAX} bytes", folder = .folder.display())]
    TooMuch {
        /// The folder.
        folder: PathBuf,
    },
    /// Folders in folders in folders.
    #[error("{path} lies more than {FOLDERS_DEEP_MAX} folders deep", path = .path.display())]
    TooDeep {
        /// The one that is too deep.
        path: PathBuf,
    },
    /// A file that is too large for an article.
    #[error("{path} has {bytes} bytes: {FILE_BYTES_MAX} is the most", path = .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A file that is not text.
    #[error("{path} is not UTF-8 text", path = .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not JSON.
    #[error("{path} is not JSON: line {line}, column {column}", path = .path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// Something is wrong with an article.
    #[error("{path}{place}: {problem}", path = .path.display(), place = .index.map(|index| format!("[{index}]")).unwrap_or_default())]
    Article {
        /// The file.
        path: PathBuf,
        /// Which of its articles, from 0, where it is an array.
        index: Option<usize>,
        /// What is wrong.
        problem: &'static str,
    },
    /// Two articles have one id.
    #[error("{path} and {other} both hold the article \"{id}\"", path = .path.display(), other = .other.display())]
    Duplicate {
        /// The id.
        id: String,
        /// The file that came later.
        path: PathBuf,
        /// The file that had it first.
        other: PathBuf,
    },
    /// The index could not be made.
    #[error("the articles could not be indexed: {0}")]
    Index(#[from] tantivy::TantivyError),
}
