//! The insight stream, knowledge search, insights and feedback (contract §5 B).
//!
//! In on the stream: `TRANSCRIPT_FRAGMENT`, `DIALOG_STATE`, `INSIGHT_ACCEPTED`, `INSIGHT_REJECTED`; nothing goes out on
//! it. The bodies of the three REST calls are here, too.

use serde_json::Value;

use super::super::ParseError;
use super::super::fields::Fields;
use super::super::instant::format_rfc3339_ms;
use super::object::Object;
use super::{SEARCH_BYTES_MAX, Unreadable, value};
use crate::assist::InteractionId;
use crate::assist::card::{
    ARTICLE_ID_BYTES_MAX, Article, CITATION_BYTES_MAX, Card, FeedbackAction, TITLE_CHARS_MAX, beginning,
};
use crate::secret::Private;

/// The most articles of one page that are read.
pub const ARTICLES_MAX: usize = 100;

/// How much of an article's body is kept, in bytes: several times what a card shows.
pub const BODY_BYTES_MAX: usize = 4096;

/// What CXone says on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Somebody said something.
    Fragment {
        /// On which interaction.
        interaction: InteractionId,
        /// The words; may be empty.
        text: Private<String>,
        /// When, in milliseconds since the Unix epoch, if CXone says so.
        at_ms: Option<i64>,
    },
    /// The dialog changed.
    DialogState {
        /// On which interaction.
        interaction: InteractionId,
        /// How.
        state: DialogState,
    },
    /// The agent did something with an insight.
    Answer {
        /// On which interaction.
        interaction: InteractionId,
        /// With which insight.
        insight_id: String,
        /// What.
        action: FeedbackAction,
    },
    /// A frame of a type that no document names, or an answer that says one thing by its type and another by its action.
    Unknown {
        /// Its type, or `unknown` if that is no name of at most [`super::KIND_BYTES_MAX`] bytes.
        kind: String,
    },
}

/// How a dialog stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialogState {
    /// The agent stopped talking.
    AgentSilent,
    /// The customer stopped talking.
    CustomerSilent,
    /// The turn is over.
    TurnEnd,
    /// Anything else: no reason to look up what was said so far.
    Other,
}

impl DialogState {
    /// The states that the documents name.
    pub const NAMED: [Self; 3] = [Self::AgentSilent, Self::CustomerSilent, Self::TurnEnd];

    /// The word on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::AgentSilent => "AGENT_SILENT",
            Self::CustomerSilent => "CUSTOMER_SILENT",
            Self::TurnEnd => "TURN_END",
            Self::Other => "OTHER",
        }
    }

    /// Whether what was said so far is to be looked up now.
    #[must_use]
    pub const fn flushes(self) -> bool {
        !matches!(self, Self::Other)
    }

    fn read(value: &Value) -> Self {
        let word = value.as_str().unwrap_or_default().trim();
        Self::NAMED.into_iter().find(|state| state.word().eq_ignore_ascii_case(word)).unwrap_or(Self::Other)
    }
}

/// Reads a frame.
///
/// # Errors
/// When it is not a JSON object of at most [`super::FRAME_BYTES_MAX`] bytes, or an id or a text that its type needs is
/// missing or none. The error names the field and holds nothing of the frame.
pub fn read(text: &str) -> Result<Incoming, Unreadable> {
    let mut fields = value::frame(text)?;
    let kind = value::kind(&mut fields);
    match kind.to_ascii_uppercase().as_str() {
        "TRANSCRIPT_FRAGMENT" => read_fragment(fields),
        "DIALOG_STATE" => {
            let interaction = value::interaction_id(&mut fields, "interactionId")?;
            let state = fields.any("state").as_ref().map_or(DialogState::Other, DialogState::read);
            Ok(Incoming::DialogState { interaction, state })
        }
        "INSIGHT_ACCEPTED" => read_answer(fields, FeedbackAction::Accepted, kind),
        "INSIGHT_REJECTED" => read_answer(fields, FeedbackAction::Rejected, kind),
        _ => Ok(Incoming::Unknown { kind: value::unknown_kind(kind) }),
    }
}

fn read_fragment(mut fields: Fields) -> Result<Incoming, ParseError> {
    let interaction = value::interaction_id(&mut fields, "interactionId")?;
    let text = match fields.any("text") {
        Some(Value::String(text)) => Private::new(text),
        Some(_) => return Err(fields.error("text", "must be text")),
        None => return Err(fields.error("text", "is missing")),
    };
    let at_ms = fields.any("timestamp").as_ref().and_then(value::instant_ms);
    Ok(Incoming::Fragment { interaction, text, at_ms })
}

/// The type says what the agent did. `action` says it again, in words that no document lists: only where it names the
/// other action is there anything to doubt, and then nothing is guessed.
fn read_answer(mut fields: Fields, by_type: FeedbackAction, kind: String) -> Result<Incoming, ParseError> {
    let interaction = value::interaction_id(&mut fields, "interactionId")?;
    let insight_id = value::id(&mut fields, "insightId")?;
    let by_action = fields.text("action").as_deref().and_then(FeedbackAction::parse);
    if by_action.is_some_and(|action| action != by_type) {
        return Ok(Incoming::Unknown { kind });
    }
    Ok(Incoming::Answer { interaction, insight_id, action: by_type })
}

/// The body of `POST …/agentassist/insights`: **articles' words are in it**.
#[must_use]
pub fn post_body(cards: &[Card]) -> Private<String> {
    let insights = cards.iter().map(|card| {
        Object::new()
            .put("id", card.id.as_str())
            .put("title", card.title.reveal().as_str())
            .put("priority", card.priority)
            .put("score", card.score)
            .put("citation", card.citation.as_str())
            .put("snippet", card.snippet.reveal().as_str())
            .put("interactionId", card.interaction_id.as_str())
    });
    let body = Object::new().put_objects("insights", insights).put("displayType", "CARD").put("autoDismiss", true);
    Private::new(body.finish())
}

/// The body of `POST …/ai/training/feedback`. `at_ms` is when the agent did it, in milliseconds since the Unix epoch; it
/// is written as RFC 3339 in UTC.
#[must_use]
pub fn feedback_body(interaction: &InteractionId, insight_id: &str, action: FeedbackAction, at_ms: i64) -> String {
    Object::new()
        .put("interactionId", interaction.as_str())
        .put("insightId", insight_id)
        .put("action", action.word())
        .put("timestamp", format_rfc3339_ms(at_ms))
        .finish()
}

/// One page of what a search found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchPage {
    /// The articles, as the knowledge base ranks them.
    pub articles: Vec<Article>,
    /// How many there are on all pages, if the knowledge base says so.
    pub total: Option<u64>,
}

/// Reads the answer to a knowledge search: UTF-8 JSON, with or without a byte order mark. Without `entities` it is an
/// empty page. An entity without an id is passed over, since nobody could tell later whether it was shown; one without a
/// title bears its id; a missing score is 0. At most [`ARTICLES_MAX`] are read, and of a body [`BODY_BYTES_MAX`] bytes.
///
/// # Errors
/// When it is not a JSON object of at most [`SEARCH_BYTES_MAX`] bytes, or `entities` is no array. The error holds
/// nothing of the answer.
pub fn read_search(bytes: &[u8]) -> Result<SearchPage, Unreadable> {
    if bytes.len() > SEARCH_BYTES_MAX {
        return Err(ParseError::of_message(format!("must not be longer than {SEARCH_BYTES_MAX} bytes")));
    }
    let mut fields = Fields::read(bytes)?;
    let entities = match fields.any("entities") {
        None => Vec::new(),
        Some(Value::Array(entities)) => entities,
        Some(_) => return Err(fields.error("entities", "must be an array")),
    };
    let articles = entities.into_iter().filter_map(read_article).take(ARTICLES_MAX).collect();
    Ok(SearchPage { articles, total: fields.id("total") })
}

fn read_article(entity: Value) -> Option<Article> {
    let mut fields = Fields::of(entity).ok()?;
    let id = fields.any("id").as_ref().and_then(value::id_text)?;
    if id.len() > ARTICLE_ID_BYTES_MAX {
        return None;
    }
    let title = fields.text("title").filter(|title| !title.trim().is_empty());
    let body = fields.text("body").unwrap_or_default();
    Some(Article {
        title: title.map_or_else(|| id.clone(), |title| beginning(&title, TITLE_CHARS_MAX).to_owned()),
        score: fields.any("score").as_ref().and_then(value::number).unwrap_or_default(),
        url: fields.text("url").filter(|url| url.len() <= CITATION_BYTES_MAX).unwrap_or_default(),
        body: Private::new(body[..body.floor_char_boundary(BODY_BYTES_MAX)].to_owned()),
        id,
    })
}
