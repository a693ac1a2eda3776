//! The knowledge search: BM25 over titles and bodies, as a search that ranks for real ranks.
//!
//! Words are lower case letters and digits with their commonest English endings cut off; no other grammar is known.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::articles::Article;

/// BM25's saturation of a word that is there again and again, and its weight of an article's length.
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// A word of the title counts as this many of the body.
const TITLE_WEIGHT: u32 = 3;

/// Words of a query that are looked at.
const QUERY_WORDS_MAX: usize = 64;

/// Words that say nothing about what an article is about.
const STOP_WORDS: [&str; 62] = [
    "a", "about", "after", "am", "an", "and", "any", "are", "as", "at", "be", "but", "by", "can", "could", "did", "do",
    "does", "for", "from", "had", "has", "have", "how", "i", "if", "in", "is", "it", "its", "just", "me", "my", "no",
    "not", "of", "on", "or", "our", "please", "so", "that", "the", "their", "there", "they", "this", "to", "was", "we",
    "what", "when", "where", "which", "why", "will", "with", "would", "yes", "you", "your", "yours",
];

/// What is searched.
#[derive(Debug)]
pub(crate) struct Index {
    articles: Vec<Article>,
    /// Where each word is: the article and its weighted count there.
    postings: HashMap<String, Vec<(usize, u32)>>,
    /// Weighted length of each article, in words.
    lengths: Vec<u32>,
    length_mean: f64,
}

/// A page of what was found.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) total: usize,
    pub(crate) entities: Vec<Value>,
}

impl Index {
    pub(crate) fn new(articles: Vec<Article>) -> Self {
        let (mut postings, mut lengths) = (HashMap::<String, Vec<_>>::new(), Vec::new());
        for (place, article) in articles.iter().enumerate() {
            let mut counts = BTreeMap::<String, u32>::new();
            for (text, weight) in [(&article.title, TITLE_WEIGHT), (&article.body, 1)] {
                for word in words(text) {
                    *counts.entry(word).or_default() += weight;
                }
            }
            lengths.push(counts.values().sum());
            for (word, count) in counts {
                postings.entry(word).or_default().push((place, count));
            }
        }
        let length_mean = lengths.iter().copied().map(f64::from).sum::<f64>() / float(lengths.len().max(1));
        Self { articles, postings, lengths, length_mean }
    }

    /// The articles in this language (any when none is named) with a word of the query in them, the best first. Pages
    /// count from 1.
    pub(crate) fn search(&self, query: &str, language: Option<&str>, page: usize, page_size: usize) -> Page {
        let mut asked: Vec<_> = words(query).take(QUERY_WORDS_MAX).collect();
        asked.sort_unstable();
        asked.dedup();
        let mut scores = BTreeMap::<usize, f64>::new();
        for postings in asked.iter().filter_map(|word| self.postings.get(word)) {
            for &(place, count) in postings {
                *scores.entry(place).or_default() += self.weight(place, count, postings.len());
            }
        }
        let is_in_language = |article: &Article| language.is_none_or(|asked| speaks(&article.language, asked));
        let mut found: Vec<_> =
            scores.into_iter().filter(|&(place, _)| is_in_language(&self.articles[place])).collect();
        // Equal scores keep the articles' own order, so that pages never overlap.
        found.sort_by(|one, other| other.1.total_cmp(&one.1));
        let start = page.saturating_sub(1).saturating_mul(page_size);
        let entities = found.iter().skip(start).take(page_size);
        let entities = entities.map(|&(place, score)| entity(&self.articles[place], score)).collect();
        Page { total: found.len(), entities }
    }

    fn weight(&self, place: usize, count: u32, articles_with_it: usize) -> f64 {
        let (all, with_it) = (float(self.articles.len()), float(articles_with_it));
        let rarity = (1.0 + (all - with_it + 0.5) / (with_it + 0.5)).ln();
        let length = f64::from(self.lengths[place]) / self.length_mean;
        let count = f64::from(count);
        rarity * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length))
    }
}

fn entity(article: &Article, score: f64) -> Value {
    // Between 0 and 1 as CXone's, in the order of the raw score.
    let score = (score / (score + 4.0) * 10_000.0).round() / 10_000.0;
    json!({
        "id": article.id, "title": article.title, "score": score, "url": article.url, "body": article.body,
        "language": article.language,
    })
}

/// `en` is spoken by `en-US` and `en-GB`, `en-US` only by itself.
fn speaks(language: &str, asked: &str) -> bool {
    let primary = language.split('-').next().unwrap_or(language);
    language.eq_ignore_ascii_case(asked) || primary.eq_ignore_ascii_case(asked)
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).filter(|word| !STOP_WORDS.contains(&word.as_str())).map(stem)
}

fn stem(word: String) -> String {
    const STEM_BYTES_MIN: usize = 3;
    let without = |ending: &str| word.strip_suffix(ending).filter(|stem| stem.len() >= STEM_BYTES_MIN);
    if let Some(stem) = without("ies") {
        return format!("{stem}y");
    }
    if word.ends_with("ss") {
        return word;
    }
    let stem = ["ing", "ed", "es", "s", "e"].into_iter().find_map(without);
    stem.map_or(word.clone(), str::to_owned)
}

fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::super::articles;
    use super::*;

    fn ids(page: &Page) -> Vec<&str> {
        page.entities.iter().map(|entity| entity["id"].as_str().unwrap()).collect()
    }

    #[test]
    fn the_article_that_is_about_it_comes_first() {
        let index = Index::new(articles::samples());
        for (query, expected) in [
            ("I was charged twice for the same bill", "billing-double-charge"),
            ("how do I set up roaming before traveling to Spain?", "roaming-activate"),
            ("my router's lights are blinking red", "router-lights"),
            ("she forgot the voicemail PIN", "voicemail-pin"),
        ] {
            let page = index.search(query, Some("en-US"), 1, 5);
            assert_eq!(ids(&page)[0], expected, "{query}");
            let scores: Vec<_> = page.entities.iter().map(|entity| entity["score"].as_f64().unwrap()).collect();
            assert!(scores.is_sorted_by(|one, other| one >= other), "{scores:?}");
            assert!(scores.iter().all(|score| (0.0..1.0).contains(score)));
        }
    }

    #[test]
    fn only_articles_of_the_language_are_found() {
        let index = Index::new(articles::samples());
        let german = index.search("Roaming", Some("de-DE"), 1, 50);
        assert!(german.total > 0 && german.entities.iter().all(|entity| entity["language"] == "de-DE"));
        let every = index.search("Roaming", None, 1, 50);
        assert!(every.total > german.total);
        assert_eq!(index.search("Roaming", Some("de"), 1, 50).total, german.total);
        assert_eq!(index.search("Roaming", Some("fi-FI"), 1, 50).total, 0);
    }

    #[test]
    fn pages_together_are_everything_once() {
        let index = Index::new(articles::samples());
        let whole = index.search("bill phone plan internet", Some("en-US"), 1, 100);
        assert!(whole.total > 6, "{}", whole.total);
        let mut paged = Vec::new();
        for page in 1..=whole.total.div_ceil(3) {
            let page = index.search("bill phone plan internet", Some("en-US"), page, 3);
            paged.extend(ids(&page).into_iter().map(str::to_owned));
        }
        assert_eq!(paged, ids(&whole));
        assert!(index.search("bill", Some("en-US"), usize::MAX, usize::MAX).entities.is_empty());
    }

    #[test]
    fn a_query_without_a_telling_word_finds_nothing() {
        let index = Index::new(articles::samples());
        for query in ["", "the and of", "???", "xylophone"] {
            assert_eq!(index.search(query, None, 1, 5).total, 0, "{query}");
        }
        assert_eq!(Index::new(Vec::new()).search("bill", None, 1, 5).total, 0);
    }
}
