//! What a token is good for.

use serde::{Deserialize, Serialize};

/// One kind of thing that a caller may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send the audio of a contact.
    Audio,
    /// Send what is typed in a contact.
    Utterances,
    /// Tell what happens to a contact.
    Events,
    /// Hear what happens to a contact.
    Listen,
    /// Send suggestions to the agent of a contact.
    Suggestions,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 5] = [Self::Audio, Self::Utterances, Self::Events, Self::Listen, Self::Suggestions];

    /// The word in a token's `scope` claim, in a token request and in a client's configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Utterances => "utterances",
            Self::Events => "events",
            Self::Listen => "listen",
            Self::Suggestions => "suggestions",
        }
    }

    /// Reads one word. Scopes are case-sensitive (RFC 6749, section 3.3).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.word() == word)
    }

    /// Reads a list of words between blanks. Words that are not ours are left out: a token may be good for other
    /// services, too.
    #[must_use]
    pub fn parse_list(words: &str) -> Vec<Self> {
        let named = |scope: &Self| words.split_ascii_whitespace().any(|word| word == scope.word());
        Self::ALL.into_iter().filter(named).collect()
    }

    /// Writes a list of words, as a `scope` claim has it.
    #[must_use]
    pub fn list(scopes: &[Self]) -> String {
        scopes.iter().map(|scope| scope.word()).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_foreign_words_are_left_out() {
        assert_eq!(Scope::parse_list(&Scope::list(&Scope::ALL)), Scope::ALL);
        assert_eq!(Scope::parse_list("openid  listen\tagentassist:write audio audio"), [Scope::Audio, Scope::Listen]);
        assert_eq!(Scope::parse_list("Audio AUDIO audios suggestion"), []);
        assert_eq!(Scope::parse_list(""), []);
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.word()), Some(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.word());
        }
    }
}
