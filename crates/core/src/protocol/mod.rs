//! CXone's wire types: lenient in, strict out.
//!
//! | module | holds |
//! | --- | --- |
//! | [`init`] | the first frame of an audio socket |
//! | [`message`] | our answers on that socket |
//! | [`utterance`] | the body of a text hook call |
//! | [`params`] | `appParams` and `appConfig`, in all the forms in which they come |
//! | [`perspective`] | whose voice a socket carries |
//! | [`instant`] | points in time, as text |
//! | [`platform`] | CXone's own sockets and REST bodies, where it is the server |
//!
//! Only reading and writing lives here: no sockets, no judgement of tokens, no decision about a contact. What a call
//! can go on without is never a reason to refuse it: it is kept as it came and counted.

use crate::error::{Fault, Kind};

mod fields;
pub mod init;
pub mod instant;
pub mod message;
pub mod params;
pub mod perspective;
pub mod platform;
pub mod utterance;

#[cfg(test)]
mod generators;

pub use init::InitMessage;
pub use message::Message;
pub use params::Params;
pub use perspective::Perspective;
pub use utterance::Utterance;

/// What could not be read, and why. It holds names that we know and never anything that was sent, so it may be shown
/// to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The path of the field, such as `executionInfo.contactId`; empty when it is the message as a whole.
    pub field: String,
    /// What is wrong with it, as the end of a sentence that begins with the field.
    pub problem: String,
}

impl ParseError {
    fn of_field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    fn of_message(problem: impl Into<String>) -> Self {
        Self::of_field("", problem)
    }
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() {
            write!(f, "the message {}", self.problem)
        } else {
            write!(f, "`{}` {}", self.field, self.problem)
        }
    }
}

impl std::error::Error for ParseError {}

impl From<ParseError> for Fault {
    fn from(error: ParseError) -> Self {
        Self::new(Kind::BadInput, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parse_error_becomes_a_fault_that_tells_the_peer_what_to_mend() {
        let error = ParseError::of_field("executionInfo.contactId", "must be a whole number of at most 64 bits");
        let fault = Fault::from(error);
        assert_eq!(fault.kind, Kind::BadInput);
        assert_eq!(fault.public, "`executionInfo.contactId` must be a whole number of at most 64 bits");
    }

    #[test]
    fn a_fault_of_the_whole_message_names_no_field() {
        assert_eq!(ParseError::of_message("must be a JSON object").to_string(), "the message must be a JSON object");
    }
}
