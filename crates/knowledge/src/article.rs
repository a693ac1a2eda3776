//! One article as it was read from a file.

use std::path::PathBuf;

use earpiece_core::assist::card::{ARTICLE_ID_BYTES_MAX, Article, CITATION_BYTES_MAX};
use earpiece_core::secret::Private;

use crate::error::OpenError;
use crate::language::Tag;

/// Length of a title at most, in bytes.
pub(crate) const TITLE_BYTES_MAX: usize = 512;

/// An article without a score.
#[derive(Debug, PartialEq)]
pub(crate) struct Draft {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) url: String,
    pub(crate) language: Option<Tag>,
    /// Plain text in one line.
    pub(crate) body: String,
}

/// What a file says of an article; everything else follows from where it lies.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) id: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) language: Option<String>,
    pub(crate) body: String,
}

/// Where an article comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The file, for errors.
    pub(crate) path: &'a std::path::Path,
    /// The file in its folder, with `/` between names.
    pub(crate) name: &'a str,
    /// Which of the file's articles.
    pub(crate) index: Option<usize>,
}

impl Place<'_> {
    /// An error here.
    pub(crate) fn fault(&self, problem: &'static str) -> OpenError {
        OpenError::Article { path: PathBuf::from(self.path), index: self.index, problem }
    }

    /// The path in the folder without the file's ending.
    pub(crate) fn stem(&self) -> &str {
        self.name.rsplit_once('.').map_or(self.name, |(stem, _)| stem)
    }
}

impl Draft {
    /// Checks what a file says, and fills in what it leaves out.
    pub(crate) fn new(parts: Parts, place: Place<'_>) -> Result<Self, OpenError> {
        // Without an id of its own the path is it, which can be too long as well.
        let id = parts.id.unwrap_or_else(|| place.stem().to_owned());
        let id = within(Some(id), ARTICLE_ID_BYTES_MAX, || place.fault("`id` is longer than 128 bytes"))?;
        let title = within(parts.title, TITLE_BYTES_MAX, || place.fault("`title` is longer than 512 bytes"))?;
        let url = within(parts.url, CITATION_BYTES_MAX, || place.fault("`url` is longer than 2048 bytes"))?;
        // A card's citation is something that an agent clicks.
        if url.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
            return Err(place.fault("`url` must begin with https:// or http://"));
        }
        let language = parts.language.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let language = language
            .map(|text| Tag::parse(&text).ok_or_else(|| place.fault("`language` must be a tag such as en-US")))
            .transpose()?;
        Ok(Self {
            id: id.ok_or_else(|| place.fault("it has no id"))?,
            title: title.ok_or_else(|| place.fault("it has no title"))?,
            url: url.unwrap_or_else(|| place.name.to_owned()),
            language,
            body: in_one_line(&parts.body),
        })
    }

    /// The article as a search answers it.
    pub(crate) fn scored(&self, score: f64) -> Article {
        Article {
            id: self.id.clone(),
            title: self.title.clone(),
            score,
            url: self.url.clone(),
            body: Private::new(self.body.clone()),
        }
    }
}

/// A value in one line, unless it is blank or too long.
fn within(
    value: Option<String>,
    bytes_max: usize,
    fault: impl FnOnce() -> OpenError,
) -> Result<Option<String>, OpenError> {
    let value = value.map(|value| in_one_line(&value)).filter(|value| !value.is_empty());
    if value.as_ref().is_some_and(|value| value.len() > bytes_max) { Err(fault()) } else { Ok(value) }
}

/// The text with every run of blanks and line ends as one space: a card shows a snippet, not a page.
pub(crate) fn in_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}
