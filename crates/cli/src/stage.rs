//! Where output goes: lines and one moving part for a person at a terminal, plain lines for a pipe, one JSON document
//! for a machine.
//!
//! Standard output carries what was asked for, and nothing else. Nothing here fails: a reader that went away (`| head`)
//! is no error of the command.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::paint::{Paint, Tone};
use crate::trouble::Trouble;

/// How often moving parts are drawn, per second.
const DRAWS_PER_SECOND: u8 = 12;

/// Where output goes.
pub(crate) struct Stage {
    /// Colours of lines.
    pub(crate) paint: Paint,
    /// Whether one JSON document is all that is wanted.
    pub(crate) json: bool,
    moving: Option<MultiProgress>,
}

impl Stage {
    /// Looks at the streams of this process.
    pub(crate) fn open(json: bool) -> Self {
        // Moving parts share the stream of the lines they stand below, or else they would tear each other apart.
        let target = match json {
            true if stderr().is_terminal() => Some(ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND)),
            false if stdout().is_terminal() => Some(ProgressDrawTarget::stdout_with_hz(DRAWS_PER_SECOND)),
            _ => None,
        };
        let paint = if json { Paint::PLAIN } else { Paint::on(&stdout()) };
        Self { paint, json, moving: target.map(MultiProgress::with_draw_target) }
    }

    /// Whether moving parts are seen.
    pub(crate) const fn is_live(&self) -> bool {
        self.moving.is_some()
    }

    /// A line for a person, above what moves.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        match &self.moving {
            _ if self.json => {}
            // An empty line would be swallowed.
            Some(moving) if text.as_ref().is_empty() => drop(moving.println(" ")),
            Some(moving) => drop(moving.println(text)),
            None => print(&format!("{}\n", text.as_ref())),
        }
    }

    /// The document for a machine; with `--json` only.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<(), Trouble> {
        if self.json {
            let text = serde_json::to_string_pretty(document)
                .map_err(|error| Trouble::failed(format!("the result could not be written as JSON: {error}")))?;
            print(&format!("{text}\n"));
        }
        Ok(())
    }

    /// A moving line that shows its message.
    pub(crate) fn moving_line(&self) -> ProgressBar {
        self.moving(ProgressBar::new_spinner(), "{msg}")
    }

    /// A bar with a length, for work whose end is known.
    pub(crate) fn bar(&self, length: u64) -> ProgressBar {
        self.moving(ProgressBar::new(length), "  {bar:40} {msg}")
    }

    /// A sign of life for work whose end is not known.
    pub(crate) fn waiting(&self, for_what: &str) -> ProgressBar {
        let bar = self.moving(ProgressBar::new_spinner(), "  {spinner} {msg}");
        bar.set_message(for_what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    fn moving(&self, bar: ProgressBar, template: &str) -> ProgressBar {
        let Some(moving) = &self.moving else { return ProgressBar::hidden() };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        moving.add(bar.with_style(style.progress_chars("━╸ ")))
    }

    /// Says why the command ends without success, on standard error.
    pub(crate) fn trouble(&self, trouble: &Trouble) {
        let text = match trouble.json() {
            Some(json) if self.json => format!("{json}\n"),
            _ => trouble.text(),
        };
        let _ = stderr().write_all(Paint::on(&stderr()).first_line(Tone::Bad, &text).as_bytes());
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
