//! Markdown files: front matter, title, and the words without their marks.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use crate::article::{Draft, Parts, Place};
use crate::error::OpenError;

/// Lines of front matter at most: a `---` that none of them closes is a line in the text.
const FRONT_MATTER_LINES_MAX: usize = 64;

/// Reads a file's article.
pub(crate) fn read(text: &str, place: Place<'_>) -> Result<Draft, OpenError> {
    let (mut parts, text) = front_matter(text);
    let plain = Plain::of(text);
    let heading = plain.heading;
    parts.title = parts.title.or(heading).or_else(|| place.stem().rsplit('/').next().map(str::to_owned));
    parts.body = plain.body;
    Draft::new(parts, place)
}

/// What the front matter says, and the text after it. Keys that mean nothing here are other programs'.
fn front_matter(text: &str) -> (Parts, &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts = Parts::default();
    let mut lines = text.split_inclusive('\n');
    let Some(first) = lines.next().filter(|line| line.trim_end() == "---") else { return (parts, text) };
    let mut read_bytes = first.len();
    for line in lines.take(FRONT_MATTER_LINES_MAX) {
        read_bytes += line.len();
        if line.trim_end() == "---" {
            return (parts, &text[read_bytes..]);
        }
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = unquoted(value.trim());
        let field = match key {
            "id" => &mut parts.id,
            "title" => &mut parts.title,
            "url" => &mut parts.url,
            "language" => &mut parts.language,
            _ => continue,
        };
        *field = (!value.is_empty()).then(|| value.to_owned());
    }
    (Parts::default(), text)
}

/// A value without the quotation marks around it.
fn unquoted(value: &str) -> &str {
    let inner = |mark| value.strip_prefix(mark).and_then(|value: &str| value.strip_suffix(mark));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

/// What is left of Markdown when its marks are taken away.
#[derive(Default)]
struct Plain {
    /// The first heading of the first level, or else the first heading of all. It is no part of the body.
    heading: Option<String>,
    body: String,
}

impl Plain {
    fn of(text: &str) -> Self {
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
        let title_level = title_level(text, options);
        let mut plain = Self::default();
        let mut in_title = false;
        for event in Parser::new_ext(text, options) {
            match event {
                Event::Start(Tag::Heading { level, .. }) if plain.heading.is_none() && Some(level) == title_level => {
                    plain.heading = Some(String::new());
                    in_title = true;
                }
                Event::End(TagEnd::Heading(_)) if in_title => in_title = false,
                Event::Text(words) | Event::Code(words) => plain.current(in_title).push_str(&words),
                Event::SoftBreak | Event::HardBreak | Event::Rule => plain.current(in_title).push(' '),
                // What ends a block or a cell ends a word, too; what ends an emphasis does not.
                Event::End(end) if !is_inline(end) => plain.current(in_title).push(' '),
                // HTML is markup of another kind, and nothing that an agent would read.
                _ => {}
            }
        }
        plain
    }

    fn current(&mut self, in_title: bool) -> &mut String {
        match &mut self.heading {
            Some(heading) if in_title => heading,
            _ => &mut self.body,
        }
    }
}

/// The level of the heading that is the title.
fn title_level(text: &str, options: Options) -> Option<HeadingLevel> {
    let mut levels = Parser::new_ext(text, options).filter_map(|event| match event {
        Event::Start(Tag::Heading { level, .. }) => Some(level),
        _ => None,
    });
    let first = levels.next()?;
    if first == HeadingLevel::H1 || levels.any(|level| level == HeadingLevel::H1) {
        return Some(HeadingLevel::H1);
    }
    Some(first)
}

const fn is_inline(end: TagEnd) -> bool {
    matches!(end, TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link | TagEnd::Image)
}
