//! Knowledge, asked for once by everybody who asks the same.
//!
//! The words of a flush become a query; equal queries share one request and, for a while, its answer. When CXone says
//! that it is asked too often, nobody waits here: whoever asks meanwhile is told how long to stay away, and answers that
//! are known go on. Which interaction asks, and when it asks again, is not decided here but in `insights`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use earpiece_core::assist::card::{Article, SNIPPET_CHARS_MAX, beginning};
use earpiece_core::protocol::platform::insights::SearchPage;
use earpiece_core::secret::Private;
use earpiece_cxone::{Cxone, CxoneError};
use earpiece_knowledge::Knowledge;
use moka::future::Cache;
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use crate::metrics::Metrics;

/// Articles on one page of a search (contract §5 B).
pub(crate) const PAGE_SIZE: u32 = 5;
/// Cards that one search is for.
pub(crate) const CARDS_MAX: usize = 5;
/// Pages that are read for one search, where the first hold what the interaction has had already.
pub(crate) const PAGES_MAX: u32 = 3;
/// Length of a query, in bytes: the end of what was said. In an address it may become three times as long.
pub(crate) const QUERY_BYTES_MAX: usize = 1000;
/// Memory for answers, in bytes; what was not asked for the longest goes first.
const CACHE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What an answer takes beside its texts, in bytes.
const PAGE_BYTES: usize = 256;
/// How long one request may take with all its retries.
const REQUEST_MAX: Duration = Duration::from_secs(15);
/// Pause after a failure for which nobody named one.
const PAUSE: Duration = Duration::from_secs(5);
/// No pause that CXone asks for is longer.
const ASKED_PAUSE_MAX: Duration = Duration::from_hours(1);
/// How long nobody asks after CXone refused our credentials.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);

/// Where knowledge is.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// CXone's knowledge base.
    Cxone(Cxone),
    /// A folder of the user's.
    Folder(Arc<Knowledge>),
}

/// How knowledge is searched.
#[derive(Debug, Clone)]
pub(crate) struct SearchSettings {
    /// Language tag of every search.
    pub(crate) language: String,
    /// How long an answer is good for the same question.
    pub(crate) cache: Duration,
}

/// Searches, and what was found lately.
pub(crate) struct Search {
    source: Source,
    settings: SearchSettings,
    metrics: Metrics,
    /// By digest: what people said is not kept here.
    answers: Cache<Key, Arc<SearchPage>>,
    /// Until when nobody asks.
    held_until: Mutex<Option<Instant>>,
}

/// SHA-256 of query, language and page.
type Key = [u8; 32];

/// What a search found for one interaction.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Articles that the interaction has not had, best first.
    pub(crate) articles: Vec<Article>,
    /// How many were passed over because it has had them.
    pub(crate) known: usize,
}

/// A search found nothing out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchError {
    /// Not now: to be asked again then.
    Limited {
        /// When.
        until: Instant,
    },
    /// The same question would fail again.
    Failed,
}

impl Search {
    pub(crate) fn new(source: Source, settings: SearchSettings, metrics: Metrics) -> Self {
        let answers = Cache::builder()
            .weigher(|_, page: &Arc<SearchPage>| weight(page))
            .max_capacity(CACHE_BYTES_MAX)
            .time_to_live(settings.cache)
            .build();
        Self { source, settings, metrics, answers, held_until: Mutex::new(None) }
    }

    /// Articles that answer the words, until there are [`CARDS_MAX`] that are not known, the last page was read, or
    /// [`PAGES_MAX`] were. Fails only where nothing at all was found out.
    pub(crate) async fn fresh(
        &self,
        words: &Private<String>,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<Found, SearchError> {
        let mut found = Found::default();
        let Some(query) = query(words.reveal()) else { return Ok(found) };
        for number in 1..=PAGES_MAX {
            let page = match self.page(&query, number).await {
                Ok(page) => page,
                // What is there already need not wait for more of it.
                Err(_) if !found.articles.is_empty() => break,
                Err(problem) => return Err(problem),
            };
            for article in &page.articles {
                if is_known(&article.id) {
                    found.known += 1;
                } else if found.articles.iter().all(|other| other.id != article.id) {
                    found.articles.push(article.clone());
                }
            }
            if found.articles.len() >= CARDS_MAX || is_last(&page, number) {
                break;
            }
        }
        Ok(found)
    }

    /// Reads the folder again if it has changed. Where knowledge is CXone's there is nothing to do.
    pub(crate) async fn refresh(&self) {
        let Source::Folder(knowledge) = &self.source else { return };
        let knowledge = Arc::clone(knowledge);
        match tokio::task::spawn_blocking(move || knowledge.reload()).await {
            Ok(Ok(true)) => self.answers.invalidate_all(),
            Ok(Ok(false)) => {}
            Ok(Err(problem)) => {
                warn!(%problem, "the folder of knowledge changed and cannot be used; the former state stays");
            }
            Err(_) => error!("reading the folder of knowledge broke off"),
        }
    }

    /// One page, from memory, from a request that is under way, or from a request of its own.
    async fn page(&self, query: &Private<String>, number: u32) -> Result<Arc<SearchPage>, SearchError> {
        let key = key(query, &self.settings.language, number);
        // Only one of all who ask the same runs this; if it is dropped meanwhile, another of them does.
        let asking = async { self.ask(query, number).await.map(Arc::new) };
        match self.answers.entry_by_ref(&key).or_try_insert_with(asking).await {
            Ok(entry) => {
                let is_empty = entry.value().articles.is_empty();
                self.metrics.search(match entry.is_fresh() {
                    false => "cached",
                    true if is_empty => "nothing",
                    true => "found",
                });
                Ok(entry.into_value())
            }
            Err(problem) => {
                self.metrics.search(match *problem {
                    SearchError::Limited { .. } => "limited",
                    SearchError::Failed => "failed",
                });
                Err(*problem)
            }
        }
    }

    async fn ask(&self, query: &Private<String>, number: u32) -> Result<SearchPage, SearchError> {
        let language = &self.settings.language;
        let page = match &self.source {
            Source::Cxone(cxone) => {
                if let Some(until) = self.held_until() {
                    return Err(SearchError::Limited { until });
                }
                match timeout(REQUEST_MAX, cxone.search(query, language, number, PAGE_SIZE)).await {
                    Ok(Ok(page)) => page,
                    Ok(Err(problem)) => return Err(self.judge(&problem)),
                    Err(_) => return Err(SearchError::Limited { until: Instant::now() + PAUSE }),
                }
            }
            Source::Folder(knowledge) => {
                let (knowledge, query, language) = (Arc::clone(knowledge), query.clone(), language.clone());
                // In a large folder a long query takes milliseconds, and the reactor has sockets to read.
                let searching = move || knowledge.search(query.reveal(), &language, number, PAGE_SIZE);
                tokio::task::spawn_blocking(searching).await.map_err(|_| SearchError::Failed)?
            }
        };
        Ok(trimmed(page))
    }

    /// What a failure means for this question, and for everybody else's.
    fn judge(&self, problem: &CxoneError) -> SearchError {
        match problem {
            CxoneError::RateLimited { retry_after } | CxoneError::CircuitOpen { retry_after } => {
                let until = self.hold_for((*retry_after).min(ASKED_PAUSE_MAX));
                info!(%problem, "knowledge is not searched for now");
                SearchError::Limited { until }
            }
            CxoneError::Unavailable { retry_after } => {
                let pause = retry_after.unwrap_or(PAUSE).min(ASKED_PAUSE_MAX);
                SearchError::Limited { until: Instant::now() + pause }
            }
            CxoneError::Unauthorized | CxoneError::Forbidden { .. } | CxoneError::NotConfigured { .. } => {
                self.hold_for(REFUSED_PAUSE);
                error!(%problem, "knowledge cannot be searched");
                SearchError::Failed
            }
            CxoneError::Refused { .. } | CxoneError::Unreadable => {
                warn!(%problem, "a search failed");
                SearchError::Failed
            }
        }
    }

    fn held_until(&self) -> Option<Instant> {
        let held_until = *self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        held_until.filter(|until| *until > Instant::now())
    }

    /// Has nobody ask for a while; says until when that is. A hold is never shortened.
    fn hold_for(&self, pause: Duration) -> Instant {
        let until = Instant::now() + pause;
        let mut held_until = self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = held_until.map_or(until, |other| other.max(until));
        *held_until.insert(longest)
    }
}

/// The end of what was said as a query: small letters, single blanks, no punctuation around words. Equal questions come
/// out equal, and nothing in it is an operator of a search language. `None` if nothing is left.
fn query(words: &str) -> Option<Private<String>> {
    let is_mark = |char: char| char.is_ascii_punctuation() || "¿¡…“”„«»‘’。、！？，·".contains(char);
    let mut kept = Vec::new();
    let mut bytes = 0;
    for word in words.split_whitespace().rev() {
        let word = word.trim_matches(is_mark).to_lowercase();
        if word.is_empty() {
            continue;
        }
        bytes += word.len() + 1;
        if bytes > QUERY_BYTES_MAX + 1 {
            if kept.is_empty() {
                // One endless word, or a script without blanks: the beginning of it has to do.
                kept.push(word[..word.floor_char_boundary(QUERY_BYTES_MAX)].to_owned());
            }
            break;
        }
        kept.push(word);
    }
    kept.reverse();
    (!kept.is_empty()).then(|| Private::new(kept.join(" ")))
}

fn key(query: &Private<String>, language: &str, number: u32) -> Key {
    // Neither a query nor a tag holds a line end, so no two questions run together.
    let question = format!("{number}\n{language}\n{}", query.reveal());
    let mut key = Key::default();
    key.copy_from_slice(digest(&SHA256, question.as_bytes()).as_ref());
    key
}

/// What a card shows of each article: the rest of a body would only fill the memory.
fn trimmed(mut page: SearchPage) -> SearchPage {
    for article in &mut page.articles {
        let snippet = beginning(article.body.reveal(), SNIPPET_CHARS_MAX).to_owned();
        article.body = Private::new(snippet);
    }
    page
}

/// Whether there are no more pages after this one.
fn is_last(page: &SearchPage, number: u32) -> bool {
    let read = u64::from(number) * u64::from(PAGE_SIZE);
    page.articles.len() < PAGE_SIZE as usize || page.total.is_some_and(|total| total <= read)
}

/// About how much memory an answer takes, in bytes.
fn weight(page: &SearchPage) -> u32 {
    let bytes = |article: &Article| {
        PAGE_BYTES + article.id.len() + article.title.len() + article.url.len() + article.body.reveal().len()
    };
    u32::try_from(PAGE_BYTES + page.articles.iter().map(bytes).sum::<usize>()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &str) -> Option<String> {
        query(words).map(Private::into_inner)
    }

    #[test]
    fn equal_questions_come_out_equal_and_nothing_is_an_operator() {
        let expected = Some("how do i cancel my plan".to_owned());
        assert_eq!(said("How do I cancel my plan?"), expected);
        assert_eq!(said("  how do I… \n«cancel» my (plan) -- "), expected);
        assert_eq!(said("a AND b OR \"c\" NOT -d"), Some("a and b or c not d".to_owned()));
        assert_eq!(said("don't e-mail a.b@c.example"), Some("don't e-mail a.b@c.example".to_owned()));
        assert_eq!(said(" ?! … "), None);
    }

    #[test]
    fn of_a_long_speech_the_end_is_asked_for() {
        let speech = format!("{} the end", "word ".repeat(500));
        let query = said(&speech).unwrap();
        assert!(query.len() <= QUERY_BYTES_MAX && query.len() > QUERY_BYTES_MAX - 10, "{}", query.len());
        assert!(query.starts_with("word ") && query.ends_with(" the end"));
        let query = said(&"é".repeat(QUERY_BYTES_MAX)).unwrap();
        assert_eq!(query.len(), QUERY_BYTES_MAX);
    }

    #[test]
    fn pages_languages_and_queries_are_told_apart() {
        let query = Private::new("a b".to_owned());
        let keys =
            [key(&query, "en", 1), key(&query, "en", 2), key(&query, "de", 1), key(&Private::new("a".into()), "en", 1)];
        for (place, one) in keys.iter().enumerate() {
            assert!(!keys[place + 1..].contains(one));
        }
    }

    fn in_folder(folder: &std::path::Path, cache: Duration) -> Search {
        let knowledge = Knowledge::open(folder).unwrap();
        let settings = SearchSettings { language: "en-US".to_owned(), cache };
        Search::new(Source::Folder(Arc::new(knowledge)), settings, Metrics::new().unwrap())
    }

    async fn ids(search: &Search, words: &str) -> Vec<String> {
        let found = search.fresh(&Private::new(words.to_owned()), |_| false).await.unwrap();
        found.articles.into_iter().map(|article| article.id).collect()
    }

    fn counted(search: &Search, outcome: &str) -> bool {
        search.metrics.text().contains(&format!("earpiece_knowledge_searches_total{{outcome=\"{outcome}\"}} 1\n"))
    }

    #[tokio::test]
    async fn an_answer_is_good_for_a_while_and_not_when_the_folder_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.md"), "# Refund").unwrap();
        let search = in_folder(folder.path(), Duration::from_mins(1));
        assert_eq!(ids(&search, "A refund").await, ["a"]);
        assert_eq!(ids(&search, "a refund!").await, ["a"]);
        assert!(counted(&search, "found") && counted(&search, "cached"));

        std::fs::write(folder.path().join("b.md"), "# Refund by post").unwrap();
        assert_eq!(ids(&search, "a refund").await, ["a"], "nobody has looked yet");
        search.refresh().await;
        assert_eq!(ids(&search, "a refund").await.len(), 2);
    }

    #[tokio::test]
    async fn without_a_time_to_live_every_question_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.md"), "# Refund").unwrap();
        let search = in_folder(folder.path(), Duration::ZERO);
        assert_eq!(ids(&search, "a refund").await, ["a"]);
        assert_eq!(ids(&search, "a refund").await, ["a"]);
        assert!(!counted(&search, "cached"), "{}", search.metrics.text());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_is_as_long_as_the_longest_that_was_asked_for_and_then_over() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.md"), "# Refund").unwrap();
        let search = in_folder(folder.path(), Duration::ZERO);
        let begun = Instant::now();
        let limited = |seconds| CxoneError::RateLimited { retry_after: Duration::from_secs(seconds) };
        assert_eq!(search.held_until(), None);
        let until = begun + Duration::from_mins(1);
        assert_eq!(search.judge(&limited(60)), SearchError::Limited { until });
        assert_eq!(search.judge(&limited(5)), SearchError::Limited { until });
        tokio::time::advance(Duration::from_millis(59_999)).await;
        assert_eq!(search.held_until(), Some(until));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(search.held_until(), None);

        let unavailable = CxoneError::Unavailable { retry_after: None };
        assert!(matches!(search.judge(&unavailable), SearchError::Limited { .. }));
        assert_eq!(search.held_until(), None, "one failure says nothing about the others");
        assert_eq!(search.judge(&CxoneError::Forbidden { scope: "knowledge:read" }), SearchError::Failed);
        assert_eq!(search.held_until(), Some(until + REFUSED_PAUSE));
    }
}
