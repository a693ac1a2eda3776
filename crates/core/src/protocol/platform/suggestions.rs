//! The suggestion socket (contract §5 A).
//!
//! Out: `auth` first, and `agentassist.suggest` once `auth.success` has come. In: `auth.success`, `auth.failure`,
//! `agentassist.ack`, `agentassist.accepted`, `agentassist.dismissed`.

use super::super::ParseError;
use super::super::fields::Fields;
use super::super::instant::format_rfc3339_ms;
use super::object::Object;
use super::{Unreadable, value};
use crate::assist::{InteractionId, Suggestion};
use crate::secret::{Private, Secret};

/// The first frame: `{"type":"auth","token":…}`. **The token is in it.**
#[must_use]
pub fn auth_frame(token: &Secret) -> Private<String> {
    Private::new(Object::new().put("type", "auth").put("token", token.reveal()).finish())
}

/// A suggestion for the agent of an interaction: `agentassist.suggest`. Instants are RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn suggest_frame(interaction: &InteractionId, suggestion: &Suggestion, injected_at_ms: i64) -> Private<String> {
    let window = Object::new()
        .put("start", format_rfc3339_ms(suggestion.context_window.start_ms))
        .put("end", format_rfc3339_ms(suggestion.context_window.end_ms));
    let body = Object::new()
        .put("id", suggestion.id.as_str())
        .put("content", suggestion.content.reveal().as_str())
        .put("priority", suggestion.priority.label())
        .put("relevanceScore", suggestion.relevance_score)
        .put_object("contextWindow", window)
        .put("injectedAt", format_rfc3339_ms(injected_at_ms));
    let frame = Object::new()
        .put("type", "agentassist.suggest")
        .put("interactionId", interaction.as_str())
        .put_object("suggestion", body);
    Private::new(frame.finish())
}

/// What CXone says on this socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// The token is good: now suggestions may be sent.
    AuthSuccess,
    /// The token is not good.
    AuthFailure {
        /// How long CXone's explanation is, in bytes. It may quote the token, so it goes no further.
        message_len: usize,
    },
    /// A suggestion arrived.
    Ack {
        /// Whose.
        interaction: InteractionId,
        /// Which.
        suggestion_id: String,
        /// When it was sent, as CXone has it, in milliseconds since the Unix epoch.
        sent_timestamp_ms: Option<i64>,
    },
    /// The agent took a suggestion up.
    Accepted {
        /// Whose.
        interaction: InteractionId,
        /// Which.
        suggestion_id: String,
    },
    /// The agent put a suggestion away.
    Dismissed {
        /// Whose.
        interaction: InteractionId,
        /// Which.
        suggestion_id: String,
    },
    /// A frame of a type that no document names.
    Unknown {
        /// Its type, or `unknown` if that is no name of at most [`super::KIND_BYTES_MAX`] bytes.
        kind: String,
    },
}

/// Reads a frame.
///
/// # Errors
/// When it is not a JSON object of at most [`super::FRAME_BYTES_MAX`] bytes, or an id that its type needs is missing or
/// none. The error names the field and holds nothing of the frame.
pub fn read(text: &str) -> Result<Incoming, Unreadable> {
    let mut fields = value::frame(text)?;
    let kind = value::kind(&mut fields);
    let incoming = match kind.to_ascii_lowercase().as_str() {
        "auth.success" => Incoming::AuthSuccess,
        "auth.failure" => {
            Incoming::AuthFailure { message_len: fields.text("message").map_or(0, |message| message.len()) }
        }
        "agentassist.ack" => {
            let (interaction, suggestion_id) = subject(&mut fields)?;
            let sent_timestamp_ms = fields.any("sentTimestamp").as_ref().and_then(value::instant_ms);
            Incoming::Ack { interaction, suggestion_id, sent_timestamp_ms }
        }
        "agentassist.accepted" => {
            let (interaction, suggestion_id) = subject(&mut fields)?;
            Incoming::Accepted { interaction, suggestion_id }
        }
        "agentassist.dismissed" => {
            let (interaction, suggestion_id) = subject(&mut fields)?;
            Incoming::Dismissed { interaction, suggestion_id }
        }
        _ => Incoming::Unknown { kind: value::unknown_kind(kind) },
    };
    Ok(incoming)
}

fn subject(fields: &mut Fields) -> Result<(InteractionId, String), ParseError> {
    Ok((value::interaction_id(fields, "interactionId")?, value::id(fields, "suggestionId")?))
}
