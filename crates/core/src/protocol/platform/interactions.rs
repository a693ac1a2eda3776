//! The interaction stream and popup cards (contract §5 C).
//!
//! Every frame on the stream is an event of one interaction; nothing goes out on it. What an event leaves out is absent
//! and never zero: a trigger must not fire on what nobody said.

use super::super::fields::Fields;
use super::object::Object;
use super::{KIND_BYTES_MAX, QUEUE_CHARS_MAX, Unreadable, value};
use crate::assist::InteractionId;
use crate::assist::card::{PopupCard, beginning};
use crate::secret::Private;

/// How an interaction stands, as CXone sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct InteractionEvent {
    /// Which interaction.
    pub id: InteractionId,
    /// The event's type, such as `connect`; empty if CXone named none. At most [`KIND_BYTES_MAX`] bytes.
    pub kind: String,
    /// How the customer feels.
    pub sentiment: Option<Sentiment>,
    /// Where the interaction waits or waited.
    pub routing: Option<Routing>,
    /// Who began it, such as `inbound`. At most [`KIND_BYTES_MAX`] bytes.
    pub direction: Option<String>,
}

/// How the customer feels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sentiment {
    /// From −1 (bad) to 1 (good).
    pub score: f64,
    /// How sure CXone is, from 0 to 1.
    pub confidence: Option<f64>,
}

/// Where the interaction waits or waited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// How long, in milliseconds.
    pub queue_wait_ms: Option<u64>,
    /// In which queue. At most [`QUEUE_CHARS_MAX`] characters, without blanks around them.
    pub queue_name: Option<String>,
}

/// Reads an event. A figure outside its documented range (a sentiment of 7, a negative wait) is on a scale that nobody
/// knows, and counts as absent.
///
/// # Errors
/// When it is not a JSON object of at most [`super::FRAME_BYTES_MAX`] bytes, or its `id` is missing or none. The error
/// names the field and holds nothing of the frame.
pub fn read(text: &str) -> Result<InteractionEvent, Unreadable> {
    let mut fields = value::frame(text)?;
    Ok(InteractionEvent {
        id: value::interaction_id(&mut fields, "id")?,
        kind: word(&value::kind(&mut fields)),
        sentiment: fields.object("sentiment").and_then(read_sentiment),
        routing: fields.object("routing").map(read_routing),
        direction: fields
            .object("participant")
            .and_then(|mut participant| participant.text("direction"))
            .as_deref()
            .map(word),
    })
}

fn read_sentiment(mut fields: Fields) -> Option<Sentiment> {
    let score = number_in(&mut fields, "score", -1.0..=1.0)?;
    Some(Sentiment { score, confidence: number_in(&mut fields, "confidence", 0.0..=1.0) })
}

fn read_routing(mut fields: Fields) -> Routing {
    let wait_ms = fields.any("queueWaitTimeMs").as_ref().and_then(value::duration_ms);
    let name = fields.text("queueName").map(|name| beginning(name.trim(), QUEUE_CHARS_MAX).trim_end().to_owned());
    Routing { queue_wait_ms: wait_ms, queue_name: name.filter(|name| !name.is_empty()) }
}

fn number_in(fields: &mut Fields, name: &'static str, range: std::ops::RangeInclusive<f64>) -> Option<f64> {
    fields.any(name).as_ref().and_then(value::number).filter(|number| range.contains(number))
}

/// A word that nobody keeps at any length.
fn word(text: &str) -> String {
    let text = text.trim();
    text[..text.floor_char_boundary(KIND_BYTES_MAX)].to_owned()
}

/// The body of `POST …/agentassist/interactions/{id}/cards`.
#[must_use]
pub fn card_body(card: &PopupCard) -> Private<String> {
    let metadata =
        Object::new().put("source", card.metadata.source.as_str()).put("timestamp", card.metadata.timestamp.as_str());
    let body = Object::new()
        .put("cardId", card.card_id.as_str())
        .put("type", card.kind.label())
        .put("title", card.title.as_str())
        .put("content", card.content.reveal().as_str())
        .put_object("metadata", metadata);
    Private::new(body.finish())
}
