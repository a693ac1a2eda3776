//! The index over the articles of one language.

use std::sync::Arc;

use tantivy::collector::TopDocs;
use tantivy::indexer::NoMergePolicy;
use tantivy::query::{
    BooleanQuery, BoostQuery, ConstScoreQuery, DisjunctionMaxQuery, Occur, Query, TermQuery, TermSetQuery,
};
use tantivy::schema::{FAST, Field, IndexRecordOption, STRING, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, Searcher, TantivyDocument, TantivyError, Term};

use crate::article::Draft;
use crate::language::{self, Tag};
use crate::{FOUND_MAX, QUERY_WORDS_MAX, SCORE_MIN};

/// What the writer may use before it begins a new segment, in bytes; the least that it accepts.
const WRITER_BYTES: usize = 15_000_000;
/// Name under which the index knows the language's analyzer.
const ANALYZER: &str = "words";
/// How much more a word in the title says than one in the body.
const TITLE_WEIGHT: f32 = 2.0;
/// How much of the weaker place is added where a word is in both.
const TIE_SHARE: f32 = 0.2;
/// BM25's bound: no number of occurrences makes a word worth more than its rarity times this.
const OCCURRENCES_BOUND: f32 = 2.2;
/// Name of the field that says which article a document is.
const NUMBER: &str = "number";
/// Stands in the index for "no language". No tag looks like it.
const ANY: &str = "*";

/// The articles of one language, searchable.
pub(crate) struct Shelf {
    drafts: Vec<Arc<Draft>>,
    reader: IndexReader,
    analyzer: TextAnalyzer,
    title: Field,
    body: Field,
    language: Field,
}

/// An article that was found.
pub(crate) struct Found {
    pub(crate) draft: Arc<Draft>,
    /// 0 to 1.
    pub(crate) score: f64,
}

/// One word of a query.
struct Clause {
    query: Box<dyn Query>,
    /// The most that it can add to a score.
    bound: f32,
}

impl Shelf {
    /// Indexes articles by the rules of a language.
    pub(crate) fn new(primary: &str, drafts: Vec<Arc<Draft>>) -> Result<Self, TantivyError> {
        let analyzer = language::analyzer(primary)?;
        let mut schema = Schema::builder();
        let words = TextFieldIndexing::default().set_tokenizer(ANALYZER).set_index_option(IndexRecordOption::WithFreqs);
        let title = schema.add_text_field("title", TextOptions::default().set_indexing_options(words.clone()));
        let body = schema.add_text_field("body", TextOptions::default().set_indexing_options(words));
        let number = schema.add_u64_field(NUMBER, FAST);
        let language = schema.add_text_field("language", STRING);
        let index = Index::create_in_ram(schema.build());
        index.tokenizers().register(ANALYZER, analyzer.clone());

        let mut writer: IndexWriter = index.writer_with_num_threads(1, WRITER_BYTES)?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        for (position, draft) in (0_u64..).zip(&drafts) {
            let mut document = TantivyDocument::default();
            document.add_u64(number, position);
            document.add_text(title, &draft.title);
            document.add_text(body, &draft.body);
            document.add_text(language, draft.language.as_ref().map_or(ANY, Tag::as_str));
            writer.add_document(document)?;
        }
        writer.commit()?;
        writer.wait_merging_threads()?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { drafts, reader, analyzer, title, body, language })
    }

    /// The articles that have to do with the query, at most [`FOUND_MAX`], best first; equals by id.
    pub(crate) fn search(&self, query: &str, tag: Option<&Tag>) -> Result<Vec<Found>, TantivyError> {
        let searcher = self.reader.searcher();
        let mut best = 0.0;
        let mut clauses = Vec::new();
        for word in self.words(query) {
            if let Some(Clause { query, bound }) = self.clause(&searcher, &word)? {
                clauses.push((Occur::Should, query));
                best += bound;
            }
        }
        if clauses.is_empty() {
            return Ok(Vec::new());
        }
        let query = self.in_language(BooleanQuery::new(clauses), tag);
        let top = TopDocs::with_limit(FOUND_MAX).order_by_score();
        let mut found = Vec::new();
        for (score, address) in searcher.search(&query, &top)? {
            let numbers = searcher.segment_reader(address.segment_ord).fast_fields().u64(NUMBER)?;
            let position = numbers.first(address.doc_id).and_then(|number| usize::try_from(number).ok());
            let Some(draft) = position.and_then(|position| self.drafts.get(position)) else { continue };
            let score = f64::from(score / best).clamp(0.0, 1.0);
            if score >= SCORE_MIN {
                found.push(Found { draft: Arc::clone(draft), score });
            }
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.draft.id.cmp(&b.draft.id)));
        Ok(found)
    }

    /// The query over what somebody who asks in `tag` can be given: everything here if it names no region, or else what
    /// is in this very tag, in its language, or in none.
    fn in_language(&self, words: BooleanQuery, tag: Option<&Tag>) -> BooleanQuery {
        let Some(tag) = tag.filter(|tag| tag.as_str() != tag.primary()) else { return words };
        let tags = [tag.as_str(), tag.primary(), ANY].map(|tag| Term::from_field_text(self.language, tag));
        let tags = ConstScoreQuery::new(Box::new(TermSetQuery::new(tags)), 0.0);
        BooleanQuery::new(vec![(Occur::Must, Box::new(words)), (Occur::Must, Box::new(tags))])
    }

    /// The query's different words, each as it stands in the index.
    fn words(&self, query: &str) -> Vec<String> {
        let mut analyzer = self.analyzer.clone();
        let mut stream = analyzer.token_stream(query);
        let mut words = Vec::new();
        while words.len() < QUERY_WORDS_MAX && stream.advance() {
            let word = &stream.token().text;
            if !words.contains(word) {
                words.push(word.clone());
            }
        }
        words
    }

    /// One word of a query; `None` if no article has it.
    fn clause(&self, searcher: &Searcher, word: &str) -> Result<Option<Clause>, TantivyError> {
        let mut places: Vec<Box<dyn Query>> = Vec::with_capacity(2);
        let mut bounds = Vec::with_capacity(2);
        for (field, weight) in [(self.title, TITLE_WEIGHT), (self.body, 1.0)] {
            let term = Term::from_field_text(field, word);
            let articles = searcher.doc_freq(&term)?;
            if articles == 0 {
                continue;
            }
            let query = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
            places.push(Box::new(BoostQuery::new(query, weight)));
            bounds.push(weight * rarity(articles, searcher.num_docs()) * OCCURRENCES_BOUND);
        }
        let Some(strongest) = bounds.iter().copied().reduce(f32::max) else { return Ok(None) };
        let others = bounds.iter().sum::<f32>() - strongest;
        let query = Box::new(DisjunctionMaxQuery::with_tie_breaker(places, TIE_SHARE));
        Ok(Some(Clause { query, bound: strongest + TIE_SHARE * others }))
    }
}

/// BM25's weight of a word that `articles` of `all` have.
#[expect(clippy::cast_precision_loss, reason = "counts of articles are far below 2^24")]
fn rarity(articles: u64, all: u64) -> f32 {
    let others = all.saturating_sub(articles) as f32;
    ((others + 0.5) / (articles as f32 + 0.5)).ln_1p()
}

/// What kind of fault the index had, without its words.
pub(crate) fn kind(error: &TantivyError) -> &'static str {
    match error {
        TantivyError::IoError(_) | TantivyError::OpenReadError(_) => "io",
        TantivyError::DataCorruption(_) => "corruption",
        _ => "other",
    }
}
