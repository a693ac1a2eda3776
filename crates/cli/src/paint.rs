//! Colours, where a person looks at a terminal and has not said no to them.

use std::fmt::Display;
use std::io::IsTerminal;

/// How a piece of text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Headings.
    Bold,
    /// What may be overlooked.
    Faint,
    /// It is as it should be.
    Good,
    /// It is not.
    Bad,
    /// Worth a look.
    Odd,
    /// CXone's side.
    Peer,
    /// Earpiece itself.
    Ours,
    /// The assist app.
    App,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Odd => "33",
            Self::Peer => "36",
            Self::Ours => "34",
            Self::App => "35",
        }
    }
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    is_on: bool,
}

impl Paint {
    /// No colours.
    pub(crate) const PLAIN: Self = Self { is_on: false };

    /// Colours if the stream is a terminal that has them, and `NO_COLOR` is not set.
    pub(crate) fn on(stream: &impl IsTerminal) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { is_on: stream.is_terminal() && !is_dumb && !is_unwanted }
    }

    /// The text in a tone.
    pub(crate) fn tone(self, tone: Tone, text: impl Display) -> String {
        if self.is_on { format!("\u{1b}[{}m{text}\u{1b}[0m", tone.code()) } else { text.to_string() }
    }

    /// Text whose first line is in a tone.
    pub(crate) fn first_line(self, tone: Tone, text: &str) -> String {
        match text.split_once('\n') {
            Some((first, rest)) => format!("{}\n{rest}", self.tone(tone, first)),
            None => text.to_owned(),
        }
    }

    /// A tick or a cross.
    pub(crate) fn mark(self, is_good: bool) -> String {
        if is_good { self.tone(Tone::Good, "✓") } else { self.tone(Tone::Bad, "✗") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(Paint::PLAIN.tone(Tone::Bad, "text"), "text");
        assert_eq!(Paint { is_on: true }.tone(Tone::Bad, "text"), "\u{1b}[31mtext\u{1b}[0m");
    }
}
