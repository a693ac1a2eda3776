//! Language tags, and how a language's words are cut out and brought to their stems.

use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, NgramTokenizer, RemoveLongFilter, SimpleTokenizer, Stemmer,
    StopWordFilter, TextAnalyzer,
};

/// Length of a word at most, in bytes: what is longer is no word.
const WORD_BYTES_MAX: usize = 64;

/// A language tag such as `en-us`, in small letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag(String);

impl Tag {
    /// Length of a tag at most, in bytes.
    const BYTES_MAX: usize = 35;

    /// Reads a tag in any case, with `-` or `_` between its parts; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let tag = text.trim().to_ascii_lowercase().replace('_', "-");
        let mut parts = tag.split('-');
        let primary = parts.next()?;
        let is_primary = (2..=3).contains(&primary.len()) && primary.bytes().all(|byte| byte.is_ascii_lowercase());
        let is_part =
            |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_primary && parts.all(is_part) && tag.len() <= Self::BYTES_MAX).then_some(Self(tag))
    }

    /// The whole tag.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The language without region or script: `en`.
    pub(crate) fn primary(&self) -> &str {
        self.0.split('-').next().unwrap_or_default()
    }
}

/// How texts of a language become words that are looked up.
pub(crate) fn analyzer(primary: &str) -> Result<TextAnalyzer, tantivy::TantivyError> {
    // Nothing separates words there, so pairs of characters stand for them.
    if matches!(primary, "zh" | "ja" | "th" | "lo" | "km" | "my") {
        return Ok(TextAnalyzer::builder(NgramTokenizer::new(2, 2, false)?).filter(LowerCaser).build());
    }
    let words = TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(WORD_BYTES_MAX))
        .filter(LowerCaser)
        .dynamic();
    let Some(language) = stemmed(primary) else { return Ok(words.filter_dynamic(AsciiFoldingFilter).build()) };
    let words = match StopWordFilter::new(language) {
        Some(stop_words) => words.filter_dynamic(stop_words),
        None => words,
    };
    // Accents go last: the rules of a language know them.
    Ok(words.filter_dynamic(Stemmer::new(language)).filter_dynamic(AsciiFoldingFilter).build())
}

/// The languages whose stems are known.
fn stemmed(primary: &str) -> Option<Language> {
    Some(match primary {
        "ar" => Language::Arabic,
        "da" => Language::Danish,
        "nl" => Language::Dutch,
        "en" => Language::English,
        "fi" => Language::Finnish,
        "fr" => Language::French,
        "de" => Language::German,
        "el" => Language::Greek,
        "hu" => Language::Hungarian,
        "it" => Language::Italian,
        "no" | "nb" | "nn" => Language::Norwegian,
        "pt" => Language::Portuguese,
        "ro" => Language::Romanian,
        "ru" => Language::Russian,
        "es" => Language::Spanish,
        "sv" => Language::Swedish,
        "ta" => Language::Tamil,
        "tr" => Language::Turkish,
        _ => return None,
    })
}
