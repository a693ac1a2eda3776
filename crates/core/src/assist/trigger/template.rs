//! The words of a popup, with places for figures.
//!
//! Filling happens in one pass: a figure is never read as a template, so a queue that is named `{score}` shows just that.

use std::fmt::Write as _;

use crate::assist::card::beginning;
use crate::protocol::platform::QUEUE_CHARS_MAX;
use crate::protocol::platform::interactions::InteractionEvent;
use crate::secret::Private;

/// The longest template, in characters.
pub const TEMPLATE_CHARS_MAX: usize = 1000;

/// The longest content of a card, in characters; the rest of a longer one is dropped.
pub const CONTENT_CHARS_MAX: usize = 2000;

/// What stands for a figure that the event does not have.
const ABSENT: &str = "n/a";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Score,
    WaitMs,
    Queue,
}

impl Template {
    /// What the documented trigger says.
    pub(super) fn documented() -> Self {
        let text = |text: &str| Piece::Text(text.to_owned());
        Self(vec![
            text("Sentiment: "),
            Piece::Score,
            text(". Waited "),
            Piece::WaitMs,
            text(" ms in queue "),
            Piece::Queue,
            text("."),
        ])
    }

    /// Reads a template; an error is the end of a sentence that begins with its path.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut pieces = Vec::new();
        let mut words = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            words.push_str(&rest[..at]);
            let brace = &rest[at..];
            rest = if let Some(after) = brace.strip_prefix("{{") {
                words.push('{');
                after
            } else if let Some(after) = brace.strip_prefix("}}") {
                words.push('}');
                after
            } else {
                let (piece, after) = place(brace)?;
                pieces.push(Piece::Text(std::mem::take(&mut words)));
                pieces.push(piece);
                after
            };
        }
        words.push_str(rest);
        pieces.push(Piece::Text(words));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Ok(Self(pieces))
    }

    /// The words with an event's figures in their places.
    pub(super) fn fill(&self, event: &InteractionEvent) -> Private<String> {
        let routing = event.routing.as_ref();
        let mut content = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => content.push_str(text),
                Piece::Score => put(&mut content, event.sentiment.map(|sentiment| format!("{:.2}", sentiment.score))),
                Piece::WaitMs => put(&mut content, routing.and_then(|routing| routing.queue_wait_ms)),
                Piece::Queue => {
                    put(&mut content, routing.and_then(|routing| routing.queue_name.as_deref()).map(one_line));
                }
            }
        }
        Private::new(beginning(&content, CONTENT_CHARS_MAX).to_owned())
    }
}

/// The place with which a text begins, and what comes behind it.
fn place(text: &str) -> Result<(Piece, &str), &'static str> {
    let places = [("{score}", Piece::Score), ("{waitMs}", Piece::WaitMs), ("{queue}", Piece::Queue)];
    let found = places.into_iter().find_map(|(name, piece)| Some((piece, text.strip_prefix(name)?)));
    found.ok_or("may have `{score}`, `{waitMs}` and `{queue}` in it; any other brace must be doubled")
}

fn put(content: &mut String, figure: Option<impl std::fmt::Display>) {
    // Writing to a text cannot fail.
    let _ = match figure {
        Some(figure) => write!(content, "{figure}"),
        None => write!(content, "{ABSENT}"),
    };
}

/// A name without line ends and other characters that are none.
fn one_line(name: &str) -> String {
    beginning(name, QUEUE_CHARS_MAX).replace(char::is_control, " ")
}
