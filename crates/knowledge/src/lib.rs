//! Knowledge of the user's own: a folder of articles, indexed and searched in this process, for those who have none at
//! CXone. Its answers have the shape of CXone's, so the cards that come of them are the same.
//!
//! A folder holds **Markdown** (`.md`, `.markdown`) and **JSON** (`.json`), in folders of their own if one likes. Other
//! files, and everything whose name begins with a dot, are left alone.
//!
//! * Markdown: an optional front matter (`---`, lines of `key: value`, `---`) of which `id`, `title`, `url` and
//!   `language` are read; the title is else the first heading. Without an `id` the file's path without its ending is it.
//! * JSON: one article or an array of them: `id` (text or whole number), `title`, `body` (plain text), and optionally
//!   `url` and `language`.
//!
//! An article without a `url` is cited by its path in the folder.
//!
//! The index lives in memory, one per language, because words are cut to their stems by the rules of one language. An
//! article without a language is found in all of them.
//!
//! No network, no runtime and no clock is here. A search of 12 words in 500 articles took 2.3 ms in an unoptimised build
//! (the test `a_search_is_quick_enough_to_be_asked_often` prints it), so it belongs on a blocking thread as much as
//! [`Knowledge::open`] and [`Knowledge::reload`], which read files and take longer.

mod article;
mod error;
mod folder;
mod json;
mod language;
mod markdown;
mod shelf;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use earpiece_core::protocol::platform::insights::SearchPage;

use crate::article::Draft;
pub use crate::error::OpenError;
use crate::folder::Stamp;
use crate::language::Tag;
use crate::shelf::Shelf;

/// Size of one file at most, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Articles in all files of a folder at most.
pub const ARTICLES_MAX: usize = 50_000;
/// Files in a folder at most.
pub const FILES_MAX: usize = 20_000;
/// Size of all files together at most, in bytes: they and their index are kept in memory.
pub const FOLDER_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How deep folders may lie in one another.
pub const FOLDERS_DEEP_MAX: usize = 8;
/// Languages at most: each has an index of its own.
pub const LANGUAGES_MAX: usize = 32;
/// Different words of a query that are looked up, at most; the first of them count.
pub const QUERY_WORDS_MAX: usize = 64;
/// Bytes of a query that are read at most.
pub const QUERY_BYTES_MAX: usize = 8192;
/// Articles that are found by one query at most, over all its pages.
pub const FOUND_MAX: usize = 100;
/// What is below this share of the best score that a query can reach has hardly anything to do with it.
pub const SCORE_MIN: f64 = 0.05;

/// A folder of articles, ready to be searched from any thread.
pub struct Knowledge {
    folder: PathBuf,
    /// What is searched. Replaced as a whole, so a search sees one state of the folder.
    library: RwLock<Arc<Library>>,
    /// The files it was made of. Held while a reload runs, so that two never do.
    stamps: Mutex<Vec<Stamp>>,
}

/// One state of the folder.
struct Library {
    /// By primary language (`en`); each also has what has no language.
    shelves: BTreeMap<String, Shelf>,
    /// What has no language, for whoever asks in one that no article has.
    any: Shelf,
    articles: usize,
}

impl Knowledge {
    /// Reads and indexes a folder.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read, holds no article, or holds a file that is none; the error names the file.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let stamps = folder::scan(folder)?;
        let library = Library::read(folder, &stamps)?;
        tracing::info!(articles = library.articles, languages = library.shelves.len(), "knowledge is indexed");
        Ok(Self { folder: folder.to_owned(), library: RwLock::new(Arc::new(library)), stamps: Mutex::new(stamps) })
    }

    /// Looks whether a file came, went or changed (by size and time of change), and if so reads the folder again.
    /// Searches go on meanwhile, on the state before. Says whether there is a new state.
    ///
    /// # Errors
    ///
    /// As [`Knowledge::open`]; then the state before stays.
    pub fn reload(&self) -> Result<bool, OpenError> {
        let mut known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = folder::scan(&self.folder)?;
        if *known == stamps {
            return Ok(false);
        }
        let library = Library::read(&self.folder, &stamps)?;
        tracing::info!(articles = library.articles, languages = library.shelves.len(), "knowledge is indexed again");
        *self.library.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(library);
        *known = stamps;
        Ok(true)
    }

    /// Articles that have to do with the query, best first. Every word counts and none has to occur; no character has a
    /// meaning, so whatever people say or type can be asked.
    ///
    /// `language` is a tag such as `en-US` or `de`. `en-US` finds articles in `en-US`, in `en` and without a language;
    /// `en` finds those of its regions, too.
    ///
    /// `page` counts from 1. `score` is 0 to 1: the share of the best that any article could reach for the words of the
    /// query that occur at all. A word in the title counts twice as much as one in the body.
    #[must_use]
    pub fn search(&self, query: &str, language: &str, page: u32, page_size: u32) -> SearchPage {
        let library = Arc::clone(&self.library.read().unwrap_or_else(PoisonError::into_inner));
        let asked_in = Tag::parse(language);
        let searched = asked_in.as_ref().and_then(|tag| library.shelves.get(tag.primary())).unwrap_or(&library.any);
        let query = &query[..query.floor_char_boundary(QUERY_BYTES_MAX)];
        let found = searched.search(query, asked_in.as_ref()).unwrap_or_else(|error| {
            // Memory does not fail to be read: this would be a defect. Its text may quote the query.
            tracing::error!(kind = shelf::kind(&error), "the index of the knowledge could not be searched");
            Vec::new()
        });
        let total = u64::try_from(found.len()).ok();
        let skipped = usize::try_from(u64::from(page.saturating_sub(1)) * u64::from(page_size)).unwrap_or(usize::MAX);
        let size = usize::try_from(page_size).unwrap_or(usize::MAX);
        let articles = found.iter().skip(skipped).take(size).map(|found| found.draft.scored(found.score)).collect();
        SearchPage { articles, total }
    }

    /// How many articles there are.
    #[must_use]
    pub fn articles(&self) -> usize {
        self.library.read().unwrap_or_else(PoisonError::into_inner).articles
    }
}

impl fmt::Debug for Knowledge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Knowledge").field("articles", &self.articles()).finish_non_exhaustive()
    }
}

impl Library {
    fn read(folder: &Path, stamps: &[Stamp]) -> Result<Self, OpenError> {
        let drafts = folder::read(folder, stamps)?;
        if drafts.is_empty() {
            return Err(OpenError::Empty { folder: folder.to_owned() });
        }
        let articles = drafts.len();
        let (spoken, any): (Vec<_>, Vec<_>) = drafts.into_iter().partition(|draft| draft.language.is_some());
        let mut by_language = BTreeMap::<String, Vec<Arc<Draft>>>::new();
        for draft in spoken {
            let primary = draft.language.as_ref().map_or("", Tag::primary).to_owned();
            by_language.entry(primary).or_default().push(draft);
        }
        if by_language.len() > LANGUAGES_MAX {
            return Err(OpenError::TooManyLanguages { found: by_language.len() });
        }
        let shelves = by_language
            .into_iter()
            .map(|(primary, mut drafts)| {
                drafts.extend(any.iter().cloned());
                Shelf::new(&primary, drafts).map(|shelf| (primary, shelf))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { shelves, any: Shelf::new("", any)?, articles })
    }
}
