//! What holds for any text and any JSON.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{insights, interactions, suggestions};
use super::card;
use crate::assist::card::Card;
use crate::protocol::generators;
use crate::secret::Private;

/// A text that nobody else would say, to find it where it may not be.
const MARK: &str = "hunter2";

/// Frames of every type, with fields that are absent, right, or anything.
fn almost_a_frame() -> impl Strategy<Value = Value> {
    let kinds = [
        "auth.success",
        "auth.failure",
        "agentassist.ack",
        "agentassist.accepted",
        "agentassist.dismissed",
        "TRANSCRIPT_FRAGMENT",
        "DIALOG_STATE",
        "INSIGHT_ACCEPTED",
        "INSIGHT_REJECTED",
        MARK,
    ];
    let names = [
        "id",
        "interactionId",
        "suggestionId",
        "insightId",
        "sentTimestamp",
        "timestamp",
        "text",
        "state",
        "action",
        "message",
        "sentiment",
        "routing",
        "participant",
        "entities",
        "score",
        "queueName",
        MARK,
    ];
    let value = prop_oneof![
        2 => generators::json(),
        2 => Just(json!(MARK)),
        1 => Just(json!(format!("{MARK} /"))),
        1 => Just(json!([MARK])),
        1 => Just(json!({"score": MARK, "id": MARK, "queueName": MARK})),
    ];
    let fields = prop::collection::btree_map(prop::sample::select(names.to_vec()), value, 0..8);
    (prop::sample::select(kinds.to_vec()), fields).prop_map(|(kind, fields)| {
        let mut frame: Value = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        frame["type"] = json!(kind);
        frame
    })
}

/// What all four readers say against a text.
fn errors(text: &str) -> String {
    let errors = [
        suggestions::read(text).err(),
        insights::read(text).err(),
        interactions::read(text).err(),
        insights::read_search(text.as_bytes()).err(),
    ];
    format!("{errors:?} {}", errors.iter().flatten().map(ToString::to_string).collect::<String>())
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        errors(&text);
    }

    #[test]
    fn no_json_panics(value in generators::json()) {
        errors(&value.to_string());
    }

    #[test]
    fn no_error_repeats_what_was_sent(frame in almost_a_frame(), cut in any::<prop::sample::Index>()) {
        let text = frame.to_string();
        prop_assert!(!errors(&text).contains(MARK), "{}", errors(&text));
        let torn = &text[..text.floor_char_boundary(cut.index(text.len()))];
        prop_assert!(!errors(torn).contains(MARK), "{}", errors(torn));
    }

    #[test]
    fn whatever_is_written_is_json_that_says_the_same(
        title in generators::text(), snippet in generators::text(), id in generators::text(), score in -1e9_f64..1e9,
    ) {
        let card = Card {
            id, title: Private::new(title), score, snippet: Private::new(snippet), ..card("", 1)
        };
        let body: Value = serde_json::from_str(insights::post_body(std::slice::from_ref(&card)).reveal()).unwrap();
        prop_assert_eq!(&body["insights"][0], &serde_json::to_value(&card).unwrap());
    }
}
