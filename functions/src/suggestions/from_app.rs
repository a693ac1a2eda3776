//! Suggestions among the events with which the assist app answers an utterance.
//!
//! The pages that listen get the event whatever becomes of it here. What cannot be used is counted and changes nothing:
//! the app was asked about an utterance, and that has arrived.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::assist::{InteractionId, Suggestion};
use earpiece_core::telemetry::{STORE_ERRORS, SUGGESTIONS};
use earpiece_relay::text::UtteranceNote;
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::Desk;
use crate::clock::wall_ms;

/// Suggestions that are taken from one answer: more than an agent can have before them at once.
pub const SUGGESTIONS_PER_ANSWER_MAX: usize = 16;

/// Answers whose suggestions are still on their way to the store after CXone was answered.
pub const UNDER_WAY_MAX: usize = 64;

/// The type of such an event.
const KIND: &str = "suggestion";

impl Desk {
    /// Takes the suggestions among the app's events, in their order, and waits for the store no longer than `patience`:
    /// what is not done then goes on beside whatever comes next.
    ///
    /// An answer that comes again, to the same utterance, brings suggestions of the same ids.
    pub(crate) async fn take_from_app(&self, note: &UtteranceNote, events: &[Value], patience: Duration) {
        let suggestions = self.readable(note, events, wall_ms());
        if suggestions.is_empty() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else {
            warn!(contact = %note.contact, count = suggestions.len(), "too many suggestions wait for the store");
            self.count_several("dropped", suggestions.len());
            return;
        };
        let (desk, interaction) = (self.clone(), InteractionId::from(&note.contact));
        let submitting = tokio::spawn(async move {
            let _permit = permit;
            for suggestion in &suggestions {
                desk.submit_of_app(&interaction, suggestion).await;
            }
        });
        if tokio::time::timeout(patience, submitting).await.is_err() {
            debug!(contact = %note.contact, "suggestions of the app are still on their way to the store");
        }
    }

    async fn submit_of_app(&self, interaction: &InteractionId, suggestion: &Suggestion) {
        if let Err(error) = self.submit(interaction, suggestion, wall_ms()).await {
            self.counters().count(STORE_ERRORS, &[("operation", "step_interaction")]);
            self.count("lost");
            warn!(%interaction, %error, "a suggestion of the app could not be kept");
        }
    }

    fn readable(&self, note: &UtteranceNote, events: &[Value], now_ms: i64) -> Vec<Suggestion> {
        let is_suggestion = |event: &&Value| event.get("type").and_then(Value::as_str) == Some(KIND);
        let came: Vec<&Value> = events.iter().filter(is_suggestion).collect();
        if self.bus_no().is_some_and(|ours| ours != note.contact.bus_no) {
            self.count_several("foreign", came.len());
            return Vec::new();
        }
        self.count_several("dropped", came.len().saturating_sub(SUGGESTIONS_PER_ANSWER_MAX));
        let mut suggestions = Vec::new();
        for (index, event) in came.into_iter().take(SUGGESTIONS_PER_ANSWER_MAX).enumerate() {
            match read(event, &note.request_id, index, now_ms) {
                Some(suggestion) => suggestions.push(suggestion),
                None => self.count("unreadable"),
            }
        }
        suggestions
    }

    fn count_several(&self, outcome: &'static str, count: usize) {
        if count > 0 {
            self.counters().add(SUGGESTIONS, &[("outcome", outcome)], count as u64);
        }
    }
}

/// One without an id gets that of the utterance that it answers, and its place in the answer.
fn read(event: &Value, request_id: &str, index: usize, now_ms: i64) -> Option<Suggestion> {
    let mut event = event.clone();
    let fields = event.as_object_mut()?;
    if fields.get("id").is_none_or(Value::is_null) {
        fields.insert("id".to_owned(), json!(format!("{request_id}-{index}")));
    }
    match Suggestion::read(&event, now_ms) {
        Ok(suggestion) => Some(suggestion),
        Err(fault) => {
            debug!(why = %fault.public, "a suggestion of the app cannot be read");
            None
        }
    }
}
