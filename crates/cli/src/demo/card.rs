//! A card, as an agent would see it.

use crate::figure;
use crate::paint::Tone;
use crate::stage::Stage;

/// A card, drawn as a box.
pub(crate) struct Card {
    /// Of its edges.
    pub(crate) tone: Tone,
    /// Its first line; some have none.
    pub(crate) title: Option<String>,
    /// What stands at the end of the first line.
    pub(crate) figure: Option<String>,
    /// Its words.
    pub(crate) text: String,
    /// A last line that may be overlooked.
    pub(crate) note: Option<String>,
}

impl Card {
    /// Draws it, `indent` characters from the left and `width` wide.
    pub(crate) fn draw(&self, stage: &Stage, indent: usize, width: usize) {
        let paint = stage.paint;
        let side = paint.tone(self.tone, "│");
        let edge = |left: char, right: char| {
            let edge = format!("{left}{}{right}", "─".repeat(width.saturating_sub(2)));
            stage.line(format!("{:indent$}{}", "", paint.tone(self.tone, edge)));
        };
        edge('╭', '╮');
        for (text, tone) in self.rows(width.saturating_sub(4)) {
            let text = tone.map_or_else(|| text.clone(), |tone| paint.tone(tone, &text));
            stage.line(format!("{:indent$}{side} {text} {side}", ""));
        }
        edge('╰', '╯');
    }

    /// Its lines, each exactly so wide.
    fn rows(&self, width: usize) -> Vec<(String, Option<Tone>)> {
        let mut rows = Vec::new();
        let figure = self.figure.as_deref().unwrap_or_default();
        // The figure stands beside the title's first line, a blank apart.
        let title_width = if figure.is_empty() { width } else { width.saturating_sub(figure.chars().count() + 1) };
        for (index, line) in figure::wrap(self.title.as_deref().unwrap_or_default(), title_width).iter().enumerate() {
            let end = if index == 0 { figure } else { "" };
            rows.push((format!("{line:title_width$}{end:>rest$}", rest = width - title_width), Some(Tone::Bold)));
        }
        rows.extend(figure::wrap(&self.text, width).into_iter().map(|line| (format!("{line:width$}"), None)));
        let notes = self.note.iter().flat_map(|note| figure::wrap(note, width));
        rows.extend(notes.map(|line| (format!("{line:width$}"), Some(Tone::Faint))));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_card_is_equally_wide_and_nothing_is_lost() {
        let card = Card {
            tone: Tone::App,
            title: Some("Married givers: does the spouse have to agree?".into()),
            figure: Some("0.71".into()),
            text: "Married couples need both signatures – above a fifth of their means.".into(),
            note: Some("and 2 more".into()),
        };
        for width in [20, 30, 53] {
            let rows = card.rows(width);
            assert!(rows.iter().all(|(row, _)| row.chars().count() == width), "{width}: {rows:?}");
            assert!(rows[0].0.ends_with("0.71"));
            let words: Vec<&str> = rows.iter().flat_map(|(row, _)| row.split_whitespace()).collect();
            // The figure stands at the end of the first line, wherever that is.
            let mut all: Vec<&str> = [card.title.as_deref(), Some(&card.text), card.note.as_deref()]
                .into_iter()
                .flatten()
                .flat_map(str::split_whitespace)
                .collect();
            all.push("0.71");
            let sorted = |mut words: Vec<&str>| {
                words.sort_unstable();
                words.join(" ")
            };
            assert_eq!(sorted(words), sorted(all));
        }
    }

    #[test]
    fn a_card_without_a_title_begins_with_its_words() {
        let card = Card { tone: Tone::App, title: None, figure: None, text: "Ask first.".into(), note: None };
        assert_eq!(card.rows(12), [("Ask first.  ".to_owned(), None)]);
    }
}
