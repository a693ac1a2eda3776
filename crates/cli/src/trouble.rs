//! What is said when something does not work: what happened, what to do next, and the exit code.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

/// Why a command ends without success.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    kind: Kind,
    what: Vec<String>,
    next: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It was tried and did not work.
    Failed,
    /// It cannot be tried: wrong usage or configuration.
    Usage,
    /// It did not work, and what there is to say has been said.
    Told,
}

impl Trouble {
    /// It was tried and did not work: exit code 1.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, what: vec![what.into()], next: None }
    }

    /// It cannot be tried: exit code 2.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, what: vec![what.into()], next: None }
    }

    /// Several things are wrong with the configuration: exit code 2.
    pub(crate) fn configuration(faults: Vec<String>) -> Self {
        Self { kind: Kind::Usage, what: faults, next: None }
    }

    /// The command's own output said what is wrong: exit code 1.
    pub(crate) const fn told() -> Self {
        Self { kind: Kind::Told, what: Vec::new(), next: None }
    }

    /// What to do next.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// The exit code: 1 failed, 2 usage or configuration.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Failed | Kind::Told => 1,
            Kind::Usage => 2,
        })
    }

    /// What a person reads; empty when it was told already.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for what in &self.what {
            let _ = writeln!(text, "earpiece: {what}");
        }
        if let Some(next) = &self.next {
            let _ = writeln!(text, "  try: {next}");
        }
        text
    }

    /// What a machine reads; none when it was told already.
    pub(crate) fn json(&self) -> Option<Value> {
        (self.kind != Kind::Told).then(|| json!({ "errors": self.what, "next": self.next }))
    }
}

/// An error with all that is behind it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        // Some errors print their source themselves.
        if !text.ends_with(&inner_text) {
            let _ = write!(text, ": {inner_text}");
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_shown_and_what_to_do_comes_last() {
        let trouble = Trouble::configuration(vec!["A is wrong".into(), "B is wrong".into()]).next("earpiece --help");
        assert_eq!(trouble.text(), "earpiece: A is wrong\nearpiece: B is wrong\n  try: earpiece --help\n");
        assert_eq!(trouble.exit_code(), ExitCode::from(2));
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        assert_eq!((Trouble::told().text(), Trouble::told().json()), (String::new(), None));
        assert_eq!(Trouble::told().exit_code(), ExitCode::from(1));
    }
}
