//! What an agent is shown: insight cards made of knowledge articles (contract §5 B), and popup cards (§5 C).
//!
//! Ranking, cutting and bounds live here. Where articles come from does not, nor which cards an interaction has seen
//! (that is in [`super::interaction`]), nor how cards look on the wire ([`crate::protocol::platform`]).

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::InteractionId;
use crate::secret::{Private, Size};

/// The characters of an article's body that a card shows (contract §5 B).
pub const SNIPPET_CHARS_MAX: usize = 150;

/// The characters of an article's title that a card shows.
pub const TITLE_CHARS_MAX: usize = 200;

/// The longest id of an article, in bytes. An interaction remembers the ids of what it was shown, so they cannot be of
/// any length.
pub const ARTICLE_ID_BYTES_MAX: usize = 128;

/// The longest address of an article, in bytes. A longer one is left out, since a part of it leads nowhere.
pub const CITATION_BYTES_MAX: usize = 2048;

/// An article that a search found, in CXone's knowledge base or in one of our own. `Debug` prints no words of it.
#[derive(Clone, PartialEq)]
pub struct Article {
    /// Names it within its knowledge base.
    pub id: String,
    /// Its title.
    pub title: String,
    /// How well it answers the query; more is better. The scale is the knowledge base's.
    pub score: f64,
    /// Where to read it; empty if nobody said.
    pub url: String,
    /// Its text, or the beginning of it.
    pub body: Private<String>,
}

impl fmt::Debug for Article {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may carry a query string, and what an article is about tells what was talked about.
        f.debug_struct("Article").field("id", &self.id).field("score", &self.score).finish_non_exhaustive()
    }
}

/// One insight for one interaction. `Debug` prints no words of it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Card {
    /// The article's id, which is also the insight's.
    pub id: String,
    /// The article's title, at most [`TITLE_CHARS_MAX`] characters of it.
    pub title: Private<String>,
    /// Its rank among the cards it came with: 1 is the best.
    pub priority: u32,
    /// The article's score; always finite.
    pub score: f64,
    /// Where to read the article; empty if nobody said.
    pub citation: String,
    /// The beginning of the article, at most [`SNIPPET_CHARS_MAX`] characters.
    pub snippet: Private<String>,
    /// Whose agent is to see it.
    pub interaction_id: InteractionId,
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card")
            .field("id", &self.id)
            .field("priority", &self.priority)
            .field("score", &self.score)
            .field("snippet_bytes", &self.snippet.reveal().size())
            .field("interaction_id", &self.interaction_id)
            .finish_non_exhaustive()
    }
}

/// Makes at most `max` cards of what a search found: the best score first, equal ones in the order in which they came,
/// each article once, and none that `shown` knows (by the article's id).
///
/// A score that is no finite number counts as 0. An article whose id is empty or longer than [`ARTICLE_ID_BYTES_MAX`]
/// is left out: nobody could tell later whether it was shown.
#[must_use]
pub fn cards(
    mut articles: Vec<Article>,
    interaction: &InteractionId,
    shown: impl Fn(&str) -> bool,
    max: usize,
) -> Vec<Card> {
    // The sort is stable, and the first of several with one id is then the best of them.
    articles.sort_by(|left, right| finite(right.score).total_cmp(&finite(left.score)));
    let mut taken = HashSet::new();
    articles
        .into_iter()
        .filter(|article| (1..=ARTICLE_ID_BYTES_MAX).contains(&article.id.len()) && !shown(&article.id))
        .filter(|article| taken.insert(article.id.clone()))
        .take(max)
        .zip(1_u32..)
        .map(|(article, priority)| card(article, priority, interaction))
        .collect()
}

fn card(article: Article, priority: u32, interaction: &InteractionId) -> Card {
    Card {
        id: article.id,
        title: Private::new(beginning(&article.title, TITLE_CHARS_MAX).to_owned()),
        priority,
        score: finite(article.score),
        citation: if article.url.len() <= CITATION_BYTES_MAX { article.url } else { String::new() },
        snippet: Private::new(beginning(article.body.reveal(), SNIPPET_CHARS_MAX).to_owned()),
        interaction_id: interaction.clone(),
    }
}

/// A score that can be ranked and written as JSON. Zero has one sign, so that −0 does not rank below 0.
fn finite(score: f64) -> f64 {
    if score.is_finite() { score + 0.0 } else { 0.0 }
}

/// The first `chars_max` characters (Unicode scalar values) of a text. Where the cut would part a letter from its accent
/// or an emoji from what modifies it, the whole of that character is left off: half of it would be another one.
#[must_use]
pub fn beginning(text: &str, chars_max: usize) -> &str {
    let Some((end, first_left_out)) = text.char_indices().nth(chars_max) else { return text };
    let kept = &text[..end];
    let mut follows = first_left_out;
    for (start, char) in kept.char_indices().rev() {
        if !clings(follows) && char != ZERO_WIDTH_JOINER {
            return &kept[..start + char.len_utf8()];
        }
        follows = char;
    }
    // Nothing but marks: there is no whole character to keep.
    kept
}

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Whether a character belongs to the one before it.
fn clings(char: char) -> bool {
    let is_skin_tone = ('\u{1f3fb}'..='\u{1f3ff}').contains(&char);
    // The standard library escapes grapheme extenders (combining marks, variation selectors) as `\u{…}`, and what cannot
    // be printed as well: for that a cut one character earlier does no harm.
    is_skin_tone || char.escape_debug().nth(1) == Some('u')
}

/// What a popup looks like on the agent's desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardKind {
    /// Good to know.
    Info,
    /// Something needs attention.
    Warning,
    /// Something went well.
    Success,
    /// Something is wrong.
    Error,
}

impl CardKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warning, Self::Success, Self::Error];

    /// The word on the wire.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Success => "success",
            Self::Error => "error",
        }
    }

    /// Reads the word, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label().eq_ignore_ascii_case(word.trim()))
    }
}

/// A popup for the agent of one interaction: the body of CXone's `…/interactions/{id}/cards`. It is kept and sent again
/// as it was made, so that a repeat is the same card in every byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PopupCard {
    /// Derived from trigger and interaction: the same for every attempt, on every task.
    pub card_id: String,
    /// How it looks.
    #[serde(rename = "type")]
    pub kind: CardKind,
    /// The operator's words, from the configuration.
    pub title: String,
    /// The operator's words with figures of the interaction in them.
    pub content: Private<String>,
    /// Who made it, and when.
    pub metadata: CardMetadata,
}

/// Who made a popup, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardMetadata {
    /// Names us: [`CardMetadata::SOURCE`].
    pub source: String,
    /// When the trigger fired, as RFC 3339 in UTC with milliseconds.
    pub timestamp: String,
}

impl CardMetadata {
    /// What we write as the source.
    pub const SOURCE: &str = "earpiece";
}

/// What an agent did with an insight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FeedbackAction {
    /// It was of use.
    Accepted,
    /// It was not.
    Rejected,
}

impl FeedbackAction {
    /// Every action.
    pub const ALL: [Self; 2] = [Self::Accepted, Self::Rejected];

    /// The word on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::Rejected => "REJECTED",
        }
    }

    /// Reads the word, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.word().eq_ignore_ascii_case(word.trim()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn interaction() -> InteractionId {
        InteractionId::parse("466").unwrap()
    }

    fn article(id: &str, score: f64) -> Article {
        Article {
            id: id.to_owned(),
            title: format!("Title of {id}"),
            score,
            url: format!("https://kb.example.com/{id}?session=hunter2"),
            body: Private::new(format!("Body of {id} hunter2")),
        }
    }

    fn ids(cards: &[Card]) -> Vec<&str> {
        cards.iter().map(|card| card.id.as_str()).collect()
    }

    fn snippet(body: &str) -> String {
        let article = Article { body: Private::new(body.to_owned()), ..article("a", 1.0) };
        let mut cards = cards(vec![article], &interaction(), |_| false, 1);
        cards.remove(0).snippet.into_inner()
    }

    #[test]
    fn the_best_score_comes_first_and_ranks_begin_at_one() {
        let found = vec![article("low", 0.1), article("high", 7.5), article("middle", 0.5)];
        let cards = cards(found, &interaction(), |_| false, 10);
        assert_eq!(ids(&cards), ["high", "middle", "low"]);
        assert_eq!(cards.iter().map(|card| card.priority).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(cards[0].citation, "https://kb.example.com/high?session=hunter2");
        assert_eq!(cards[0].title.reveal(), "Title of high");
        assert_eq!(cards[0].interaction_id, interaction());
    }

    #[test]
    fn equal_scores_keep_the_order_in_which_they_came() {
        let found =
            vec![article("c", 0.5), article("a", 0.5), article("b", 0.5), article("z", -0.0), article("y", 0.0)];
        assert_eq!(ids(&cards(found, &interaction(), |_| false, 10)), ["c", "a", "b", "z", "y"]);
    }

    #[test]
    fn a_score_that_is_no_number_ranks_as_zero_and_is_written_as_zero() {
        let found =
            vec![article("nan", f64::NAN), article("inf", f64::INFINITY), article("bad", -1.0), article("good", 0.1)];
        let cards = cards(found, &interaction(), |_| false, 10);
        assert_eq!(ids(&cards), ["good", "nan", "inf", "bad"]);
        assert_eq!(serde_json::to_value(&cards[1]).unwrap()["score"], json!(0.0));
    }

    #[test]
    fn an_article_that_is_in_a_page_twice_becomes_one_card_with_its_best_score() {
        let found = vec![article("a", 0.2), article("b", 0.5), article("a", 0.9)];
        let cards = cards(found, &interaction(), |_| false, 10);
        assert_eq!(ids(&cards), ["a", "b"]);
        assert!((cards[0].score - 0.9).abs() < f64::EPSILON);
    }

    #[test]
    fn what_was_shown_before_neither_comes_again_nor_takes_a_rank_or_a_place() {
        let found = vec![article("seen", 0.9), article("new", 0.5), article("newer", 0.4), article("rest", 0.3)];
        let cards = cards(found, &interaction(), |id| id == "seen", 2);
        assert_eq!(ids(&cards), ["new", "newer"]);
        assert_eq!(cards[0].priority, 1);
    }

    #[test]
    fn an_article_without_a_usable_id_is_left_out() {
        let longest = "x".repeat(ARTICLE_ID_BYTES_MAX);
        let found = vec![article("", 0.9), article(&"x".repeat(ARTICLE_ID_BYTES_MAX + 1), 0.8), article(&longest, 0.1)];
        assert_eq!(ids(&cards(found, &interaction(), |_| false, 10)), [longest.as_str()]);
    }

    #[test]
    fn an_address_that_is_too_long_is_left_out_and_a_title_is_cut() {
        let found = Article { url: "u".repeat(CITATION_BYTES_MAX + 1), title: "é".repeat(999), ..article("a", 1.0) };
        let cards = cards(vec![found], &interaction(), |_| false, 1);
        assert_eq!(cards[0].citation, "");
        assert_eq!(cards[0].title.reveal().chars().count(), TITLE_CHARS_MAX);
    }

    #[test]
    fn a_snippet_is_exactly_the_first_150_characters_whatever_their_size() {
        for char in ["a", "é", "字", "😀"] {
            assert_eq!(snippet(&char.repeat(149)), char.repeat(149));
            assert_eq!(snippet(&char.repeat(150)), char.repeat(150));
            assert_eq!(snippet(&char.repeat(151)), char.repeat(150));
        }
        assert_eq!(snippet(""), "");
        assert_eq!(snippet("short"), "short");
    }

    #[test]
    fn a_snippet_never_parts_a_letter_from_its_accent_or_an_emoji_from_what_modifies_it() {
        let accented = format!("{}e\u{301}nd", "x".repeat(149));
        assert_eq!(snippet(&accented), "x".repeat(149));
        let twice = format!("{}e\u{323}\u{302}nd", "x".repeat(148));
        assert_eq!(snippet(&twice), "x".repeat(148));
        let fits = format!("{}e\u{301}nd", "x".repeat(148));
        assert_eq!(snippet(&fits), format!("{}e\u{301}", "x".repeat(148)));
        let family = format!("{}\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f466}", "x".repeat(147));
        assert_eq!(snippet(&family), "x".repeat(147));
        let thumb = format!("{}\u{1f44d}\u{1f3fd}", "x".repeat(149));
        assert_eq!(snippet(&thumb), "x".repeat(149));
    }

    #[test]
    fn a_body_of_nothing_but_marks_is_cut_all_the_same() {
        assert_eq!(snippet(&"\u{301}".repeat(400)).chars().count(), SNIPPET_CHARS_MAX);
    }

    #[test]
    fn debug_prints_no_title_no_body_and_no_address() {
        let found = Article { title: "hunter2".to_owned(), ..article("a", 1.0) };
        let printed = format!("{found:?} {:?}", cards(vec![found.clone()], &interaction(), |_| false, 1));
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn cards_come_out_of_the_store_as_they_went_in() {
        let card = cards(vec![article("a", 0.1)], &interaction(), |_| false, 1).remove(0);
        assert_eq!(serde_json::from_str::<Card>(&serde_json::to_string(&card).unwrap()).unwrap(), card);
        let popup = PopupCard {
            card_id: "earpiece-t-0".to_owned(),
            kind: CardKind::Success,
            title: "t".to_owned(),
            content: Private::new("hunter2".to_owned()),
            metadata: CardMetadata { source: CardMetadata::SOURCE.to_owned(), timestamp: "now".to_owned() },
        };
        assert_eq!(serde_json::from_str::<PopupCard>(&serde_json::to_string(&popup).unwrap()).unwrap(), popup);
        assert!(!format!("{popup:?}").contains("hunter2"));
    }

    #[test]
    fn every_word_is_read_in_any_case_and_stored_as_it_is_on_the_wire() {
        for kind in CardKind::ALL {
            assert_eq!(CardKind::parse(&format!(" {} ", kind.label().to_uppercase())), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.label()));
        }
        for action in FeedbackAction::ALL {
            assert_eq!(FeedbackAction::parse(&action.word().to_lowercase()), Some(action));
            assert_eq!(serde_json::to_value(action).unwrap(), json!(action.word()));
        }
        assert_eq!(CardKind::parse("warn"), None);
        assert_eq!(FeedbackAction::parse("CLICKED"), None);
    }

    proptest! {
        #[test]
        fn a_beginning_is_one_and_within_the_limit(text in any::<String>(), chars_max in 0_usize..40) {
            let kept = beginning(&text, chars_max);
            prop_assert!(text.starts_with(kept));
            prop_assert!(kept.chars().count() <= chars_max);
            prop_assert!(kept.len() == text.len() || text.chars().count() > chars_max);
        }

        #[test]
        fn cards_are_ranked_distinct_and_bounded(
            found in prop::collection::vec(("[a-e]?", prop_oneof![any::<f64>(), Just(f64::NAN), Just(0.5)]), 0..20),
            max in 0_usize..8,
        ) {
            let articles = found.iter().map(|(id, score)| article(id, *score)).collect();
            let cards = cards(articles, &interaction(), |id| id == "c", max);
            prop_assert!(cards.len() <= max);
            prop_assert!(cards.is_sorted_by(|left, right| left.score >= right.score));
            prop_assert!(cards.iter().zip(1..).all(|(card, rank)| card.priority == rank));
            prop_assert!(cards.iter().all(|card| card.score.is_finite() && card.id != "c" && !card.id.is_empty()));
            let distinct: HashSet<&str> = ids(&cards).into_iter().collect();
            prop_assert_eq!(distinct.len(), cards.len());
        }
    }
}
