//! Where output goes: lines and one moving part for a person at a terminal, plain lines for a pipe, one JSON document
//! for a machine.
//!
//! Standard output carries what was asked for, and nothing else. Nothing here fails: a reader that went away (`| head`)
//! is no error of the command.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::time::timeout;

use crate::paint::{Paint, Tone};
use crate::trouble::Trouble;

/// Work that is done sooner needs no sign of life.
const LONG: Duration = Duration::from_millis(500);

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

    /// A sign of life for work whose end is not known: also on standard error, where nothing but that is a terminal. It
    /// must be gone before the next line, then.
    pub(crate) fn waiting(&self, for_what: &str) -> ProgressBar {
        let template = "  {spinner} {msg}";
        let bar = if self.is_live() {
            self.moving(ProgressBar::new_spinner(), template)
        } else {
            let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
            styled(ProgressBar::with_draw_target(None, target), template)
        };
        bar.set_message(for_what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    fn moving(&self, bar: ProgressBar, template: &str) -> ProgressBar {
        let Some(moving) = &self.moving else { return ProgressBar::hidden() };
        moving.add(styled(bar, template))
    }

    /// Does work that may take long, and shows a sign of life if it does. The work shows nothing itself.
    pub(crate) fn meanwhile<T>(&self, for_what: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
        // Such work is often large, and would be so twice in here.
        let mut work = Box::pin(work);
        async move {
            if let Ok(done) = timeout(LONG, &mut work).await {
                return done;
            }
            let waiting = self.waiting(for_what);
            let done = work.await;
            waiting.finish_and_clear();
            done
        }
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

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("━╸ "))
}

/// Writes to standard output.
pub(crate) fn print(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use indicatif::TermLike;
    use tokio::time::sleep;

    use super::*;

    /// A terminal that keeps what is written to it.
    #[derive(Debug, Clone, Default)]
    struct Terminal(Arc<Mutex<String>>);

    impl Terminal {
        fn shows(&self, text: &str) -> bool {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(text)
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_long_shows_a_sign_of_life_and_quick_work_does_not() {
        let terminal = Terminal::default();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let stage = Stage { paint: Paint::PLAIN, json: false, moving: Some(MultiProgress::with_draw_target(target)) };
        assert_eq!(stage.meanwhile("quick work", sleep(LONG / 2)).await, ());
        let seen_meanwhile = stage.meanwhile("long work", async {
            sleep(LONG * 2).await;
            terminal.shows("long work")
        });
        assert!(seen_meanwhile.await);
        assert!(!terminal.shows("quick work"));
    }
}
