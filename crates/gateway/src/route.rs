//! Which route a message takes, and what is done to its body on the way.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::settings::Settings;

pub(crate) const CONNECT: &str = "$connect";
pub(crate) const DEFAULT: &str = "$default";
pub(crate) const DISCONNECT: &str = "$disconnect";

/// A route selection expression: `$request.body.` and the names that lead to the word, with dots between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    names: Vec<String>,
}

/// A route selection expression that this gateway cannot evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be $request.body. and the name of a field, such as $request.body.action")]
pub struct SelectionError;

impl Default for Selection {
    /// `$request.body.action`.
    fn default() -> Self {
        Self { names: vec!["action".into()] }
    }
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.trim().trim_start_matches("${").trim_end_matches('}');
        let path = path.strip_prefix("$request.body.").or_else(|| path.strip_prefix("request.body."));
        let names: Vec<_> = path.ok_or(SelectionError)?.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) { Err(SelectionError) } else { Ok(Self { names }) }
    }
}

impl Selection {
    /// The word that a message says, if it is JSON and has one.
    fn word(&self, body: &str) -> Option<String> {
        let body: Value = serde_json::from_str(body).ok()?;
        let found = self.names.iter().try_fold(&body, |value, name| value.get(name))?;
        match found {
            Value::String(word) => Some(word.clone()),
            Value::Number(_) | Value::Bool(_) => Some(found.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// Where a message goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) key: String,
    pub(crate) function: String,
}

/// The route that a message takes.
pub(crate) fn choose(settings: &Settings, body: &str) -> Chosen {
    let routes = &settings.routes;
    // Not even read where there is nothing to choose from.
    let word = if routes.by_action.is_empty() { None } else { settings.selection.word(body) };
    if let Some(word) = word
        && let Some(function) = routes.by_action.get(&word)
    {
        return Chosen { key: word, function: function.clone() };
    }
    Chosen { key: DEFAULT.into(), function: routes.default.clone() }
}

/// Whether a body can be converted from Base64 to binary. In an event it stays Base64, and is marked so.
pub(crate) fn is_convertible(body: &str) -> bool {
    STANDARD.decode(body.trim()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(routes: &[&str]) -> Settings {
        let mut settings = Settings::default();
        settings.routes.by_action = routes.iter().map(|word| ((*word).to_owned(), format!("fn-{word}"))).collect();
        settings
    }

    #[test]
    fn a_message_takes_the_route_that_it_names_and_the_default_otherwise() {
        let settings = settings(&["subscribe", "1"]);
        for (body, key, function) in [
            (r#"{"action":"subscribe"}"#, "subscribe", "fn-subscribe"),
            (r#"{"action":1}"#, "1", "fn-1"),
            (r#"{"action":"other"}"#, DEFAULT, "ws-message"),
            (r#"{"action":"$connect"}"#, DEFAULT, "ws-message"),
            (r#"{"action":["subscribe"]}"#, DEFAULT, "ws-message"),
            ("AAAA", DEFAULT, "ws-message"),
            ("", DEFAULT, "ws-message"),
        ] {
            let chosen = choose(&settings, body);
            assert_eq!((chosen.key.as_str(), chosen.function.as_str()), (key, function), "{body}");
        }
    }

    #[test]
    fn a_selection_may_look_deeper_and_cannot_look_elsewhere() {
        let selection: Selection = "$request.body.meta.kind".parse().unwrap();
        assert_eq!(selection.word(r#"{"meta":{"kind":"a"}}"#).as_deref(), Some("a"));
        assert_eq!(selection.word(r#"{"meta":"a"}"#), None);
        assert_eq!("${request.body.action}".parse(), Ok(Selection::default()));
        for wrong in ["", "action", "$request.header.action", "$request.body.", "$request.body.a..b"] {
            assert_eq!(wrong.parse::<Selection>(), Err(SelectionError), "{wrong}");
        }
    }

    #[test]
    fn only_base64_becomes_binary() {
        assert!(is_convertible("f39/fw==") && is_convertible(""));
        assert!(!is_convertible(r#"{"a":1}"#) && !is_convertible("f39"));
    }
}
