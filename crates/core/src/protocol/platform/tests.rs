//! Frames and bodies as they are on the wire: byte for byte out, in every form in.

use serde_json::{Value, json};

use super::insights::{ARTICLES_MAX, BODY_BYTES_MAX, DialogState, SearchPage};
use super::interactions::{InteractionEvent, Routing, Sentiment};
use super::{FRAME_BYTES_MAX, ID_BYTES_MAX, KIND_BYTES_MAX, QUEUE_CHARS_MAX, SEARCH_BYTES_MAX};
use super::{insights, interactions, suggestions};
use crate::assist::card::{ARTICLE_ID_BYTES_MAX, CITATION_BYTES_MAX, TITLE_CHARS_MAX};
use crate::assist::card::{Article, Card, CardKind, CardMetadata, FeedbackAction, PopupCard};
use crate::assist::{InteractionId, Priority, Suggestion, Window};
use crate::secret::{Private, Secret};

mod properties;

/// 2023-11-14T22:13:20.123Z.
const AT_MS: i64 = 1_700_000_000_123;

fn interaction(text: &str) -> InteractionId {
    InteractionId::parse(text).unwrap()
}

// What we write.

#[test]
fn the_auth_frame_is_exactly_as_documented_and_its_token_is_escaped() {
    assert_eq!(suggestions::auth_frame(&Secret::new("abc.def")).reveal(), r#"{"type":"auth","token":"abc.def"}"#);
    assert_eq!(suggestions::auth_frame(&Secret::new("\"\\\n")).reveal(), r#"{"type":"auth","token":"\"\\\n"}"#);
    assert!(!format!("{:?}", suggestions::auth_frame(&Secret::new("hunter2"))).contains("hunter2"));
}

#[test]
fn the_suggest_frame_is_exactly_as_documented() {
    let suggestion = Suggestion {
        id: "sug-1".to_owned(),
        content: Private::new("Offer the \"loyal\" tariff".to_owned()),
        priority: Priority::High,
        relevance_score: 0.85,
        context_window: Window { start_ms: 1_700_000_000_000, end_ms: 1_700_000_300_000 },
    };
    let frame = suggestions::suggest_frame(&interaction("466"), &suggestion, AT_MS);
    assert_eq!(
        frame.reveal(),
        concat!(
            r#"{"type":"agentassist.suggest","interactionId":"466","suggestion":{"id":"sug-1","#,
            r#""content":"Offer the \"loyal\" tariff","priority":"HIGH","relevanceScore":0.85,"#,
            r#""contextWindow":{"start":"2023-11-14T22:13:20.000Z","end":"2023-11-14T22:18:20.000Z"},"#,
            r#""injectedAt":"2023-11-14T22:13:20.123Z"}}"#
        )
    );
    assert!(!format!("{frame:?}").contains("loyal"));
}

fn card(id: &str, priority: u32) -> Card {
    Card {
        id: id.to_owned(),
        title: Private::new("Returns".to_owned()),
        priority,
        score: 0.5,
        citation: "https://kb.example.com/1".to_owned(),
        snippet: Private::new("Line one\nline two".to_owned()),
        interaction_id: interaction("466"),
    }
}

#[test]
fn insights_are_posted_exactly_as_documented() {
    assert_eq!(
        insights::post_body(&[card("a", 1), card("b", 2)]).reveal(),
        concat!(
            r#"{"insights":[{"id":"a","title":"Returns","priority":1,"score":0.5,"#,
            r#""citation":"https://kb.example.com/1","snippet":"Line one\nline two","interactionId":"466"},"#,
            r#"{"id":"b","title":"Returns","priority":2,"score":0.5,"#,
            r#""citation":"https://kb.example.com/1","snippet":"Line one\nline two","interactionId":"466"}],"#,
            r#""displayType":"CARD","autoDismiss":true}"#
        )
    );
    assert_eq!(insights::post_body(&[]).reveal(), r#"{"insights":[],"displayType":"CARD","autoDismiss":true}"#);
}

#[test]
fn feedback_is_posted_exactly_as_documented() {
    assert_eq!(
        insights::feedback_body(&interaction("466"), "a", FeedbackAction::Accepted, AT_MS),
        r#"{"interactionId":"466","insightId":"a","action":"ACCEPTED","timestamp":"2023-11-14T22:13:20.123Z"}"#
    );
    assert_eq!(
        insights::feedback_body(&interaction("466"), "a", FeedbackAction::Rejected, 0),
        r#"{"interactionId":"466","insightId":"a","action":"REJECTED","timestamp":"1970-01-01T00:00:00.000Z"}"#
    );
}

#[test]
fn a_popup_card_is_posted_exactly_as_documented() {
    let card = PopupCard {
        card_id: "earpiece-t-0123456789abcdef".to_owned(),
        kind: CardKind::Warning,
        title: "Care".to_owned(),
        content: Private::new("Sentiment: -0.73.".to_owned()),
        metadata: CardMetadata {
            source: CardMetadata::SOURCE.to_owned(),
            timestamp: "2023-11-14T22:13:20.123Z".to_owned(),
        },
    };
    let body = interactions::card_body(&card);
    assert_eq!(
        body.reveal(),
        concat!(
            r#"{"cardId":"earpiece-t-0123456789abcdef","type":"warning","title":"Care","content":"Sentiment: -0.73.","#,
            r#""metadata":{"source":"earpiece","timestamp":"2023-11-14T22:13:20.123Z"}}"#
        )
    );
    // What is stored and read again makes the same body: a repeat is the same card.
    let stored: PopupCard = serde_json::from_str(&serde_json::to_string(&card).unwrap()).unwrap();
    assert_eq!(interactions::card_body(&stored), body);
}

// The suggestion socket.

fn heard(frame: &Value) -> suggestions::Incoming {
    suggestions::read(&frame.to_string()).unwrap()
}

fn refused(frame: &Value) -> String {
    suggestions::read(&frame.to_string()).unwrap_err().to_string()
}

#[test]
fn auth_answers_are_read_and_an_explanation_is_only_measured() {
    assert_eq!(heard(&json!({"type": "auth.success"})), suggestions::Incoming::AuthSuccess);
    assert_eq!(heard(&json!({"Type": " AUTH.Success ", "session": 5})), suggestions::Incoming::AuthSuccess);
    let failure = heard(&json!({"type": "auth.failure", "message": "bad token hunter2"}));
    assert_eq!(failure, suggestions::Incoming::AuthFailure { message_len: 17 });
    assert_eq!(heard(&json!({"type": "auth.failure"})), suggestions::Incoming::AuthFailure { message_len: 0 });
}

#[test]
fn an_acknowledgement_is_read_with_ids_and_instants_in_every_form() {
    for (interaction_id, suggestion_id, sent, sent_timestamp_ms) in [
        (json!("466"), json!("7"), json!(AT_MS), Some(AT_MS)),
        (json!(466), json!(7), json!(AT_MS.to_string()), Some(AT_MS)),
        (json!(" 466 "), json!(" 7 "), json!("2023-11-14T22:13:20.123Z"), Some(AT_MS)),
        (json!("466"), json!("7"), json!("2023-11-14T23:13:20.123+01:00"), Some(AT_MS)),
        (json!("466"), json!("7"), json!(1_700_000_000_123.4), Some(AT_MS)),
        (json!("466"), json!("7"), json!(null), None),
        (json!("466"), json!("7"), json!("yesterday"), None),
        (json!("466"), json!("7"), json!(1e300), None),
        (json!("466"), json!("7"), json!("NaN"), None),
    ] {
        let frame = json!({
            "type": "agentassist.ack", "interactionId": interaction_id, "suggestionId": suggestion_id,
            "sentTimestamp": sent,
        });
        let (interaction, suggestion_id) = (interaction("466"), "7".to_owned());
        assert_eq!(
            heard(&frame),
            suggestions::Incoming::Ack { interaction, suggestion_id, sent_timestamp_ms },
            "{frame}"
        );
    }
}

#[test]
fn answers_of_the_agent_are_read_in_any_case_and_with_unknown_fields() {
    let frame = json!({"type": "agentassist.accepted", "interactionId": u64::MAX, "suggestionId": "s", "agent": {}});
    let (interaction_id, suggestion_id) = (interaction("18446744073709551615"), "s".to_owned());
    assert_eq!(heard(&frame), suggestions::Incoming::Accepted { interaction: interaction_id, suggestion_id });
    let frame = json!({"TYPE": "AgentAssist.Dismissed", "InteractionID": "a-1", "suggestionid": "s"});
    let (interaction_id, suggestion_id) = (interaction("a-1"), "s".to_owned());
    assert_eq!(heard(&frame), suggestions::Incoming::Dismissed { interaction: interaction_id, suggestion_id });
}

#[test]
fn a_type_that_nobody_knows_is_told_apart_and_repeated_only_if_it_is_a_name() {
    for (kind, expected) in [
        (json!("agentassist.rendered"), "agentassist.rendered"),
        (json!("what I said"), "unknown"),
        (json!("x".repeat(KIND_BYTES_MAX)), "x".repeat(KIND_BYTES_MAX).as_str()),
        (json!("x".repeat(KIND_BYTES_MAX + 1)), "unknown"),
        (json!(""), "unknown"),
        (json!(7), "unknown"),
        (json!(null), "unknown"),
    ] {
        let unknown = suggestions::Incoming::Unknown { kind: expected.to_owned() };
        assert_eq!(heard(&json!({ "type": kind })), unknown);
    }
    assert_eq!(heard(&json!({})), suggestions::Incoming::Unknown { kind: "unknown".to_owned() });
}

#[test]
fn an_id_that_is_none_is_named_and_not_quoted() {
    let with = |interaction: Value, suggestion: Value| {
        refused(&json!({"type": "agentassist.ack", "interactionId": interaction, "suggestionId": suggestion}))
    };
    assert_eq!(with(json!(null), json!("s")), "`interactionId` is missing");
    assert_eq!(with(json!("1"), json!(null)), "`suggestionId` is missing");
    for none in [json!(""), json!("  "), json!(1.5), json!(-1), json!(true), json!(["hunter2"]), json!({})] {
        assert_eq!(with(none.clone(), json!("s")), "`interactionId` must be text or a whole number", "{none}");
        assert_eq!(with(json!("1"), none.clone()), "`suggestionId` must be text or a whole number", "{none}");
    }
    assert!(with(json!("hunter2/../"), json!("s")).starts_with("`interactionId` must be 1 to 128 of "));
    let long = json!("x".repeat(ID_BYTES_MAX + 1));
    assert_eq!(with(json!("1"), long), "`suggestionId` must not be longer than 512 bytes");
}

#[test]
fn a_frame_that_is_no_object_or_too_long_is_refused() {
    for read in [
        |text: &str| suggestions::read(text).map(drop),
        |text: &str| insights::read(text).map(drop),
        |text: &str| interactions::read(text).map(drop),
    ] {
        assert_eq!(read("[]").unwrap_err().to_string(), "the message must be a JSON object");
        let problem = "the message cannot be read as JSON (line 1, column 1)";
        assert_eq!(read("hunter2").unwrap_err().to_string(), problem);
        let long = format!("{{\"x\":\"{}\"}}", "x".repeat(FRAME_BYTES_MAX));
        assert_eq!(read(&long).unwrap_err().to_string(), "the message must not be longer than 262144 bytes");
        assert!(read(&"[".repeat(100_000)).is_err(), "and depth is no way to exhaust the stack");
    }
}

// The insight stream.

#[test]
fn a_transcript_fragment_is_read_with_and_without_its_time() {
    let fragment = |at_ms| insights::Incoming::Fragment {
        interaction: interaction("466"),
        text: Private::new("my bill".to_owned()),
        at_ms,
    };
    let frame = json!({"type": "TRANSCRIPT_FRAGMENT", "interactionId": 466, "text": "my bill", "speaker": "customer"});
    assert_eq!(insights::read(&frame.to_string()).unwrap(), fragment(None));
    let frame = json!({"type": "transcript_fragment", "interactionId": "466", "text": "my bill", "timestamp": AT_MS});
    let read = insights::read(&frame.to_string()).unwrap();
    assert!(!format!("{read:?}").contains("bill"));
    assert_eq!(read, fragment(Some(AT_MS)));

    let without = json!({"type": "TRANSCRIPT_FRAGMENT", "interactionId": 466});
    assert_eq!(insights::read(&without.to_string()).unwrap_err().to_string(), "`text` is missing");
    let not_text = json!({"type": "TRANSCRIPT_FRAGMENT", "interactionId": 466, "text": ["hunter2"]});
    assert_eq!(insights::read(&not_text.to_string()).unwrap_err().to_string(), "`text` must be text");
}

#[test]
fn every_dialog_state_is_read_and_only_the_named_ones_flush() {
    for (word, state, flushes) in [
        (json!("AGENT_SILENT"), DialogState::AgentSilent, true),
        (json!("customer_silent"), DialogState::CustomerSilent, true),
        (json!(" Turn_End "), DialogState::TurnEnd, true),
        (json!("AGENT_TALKING"), DialogState::Other, false),
        (json!(""), DialogState::Other, false),
        (json!(3), DialogState::Other, false),
        (json!(null), DialogState::Other, false),
    ] {
        let frame = json!({"type": "DIALOG_STATE", "interactionId": "466", "state": word});
        let read = insights::read(&frame.to_string()).unwrap();
        assert_eq!(read, insights::Incoming::DialogState { interaction: interaction("466"), state });
        assert_eq!(state.flushes(), flushes);
    }
}

#[test]
fn what_the_agent_did_is_read_from_the_type_and_doubted_only_if_the_action_says_the_contrary() {
    let read = |kind: &str, action: &Value| {
        let frame = json!({"type": kind, "interactionId": 466, "insightId": 12, "action": action});
        insights::read(&frame.to_string()).unwrap()
    };
    let answer =
        |action| insights::Incoming::Answer { interaction: interaction("466"), insight_id: "12".to_owned(), action };
    for action in [json!("ACCEPTED"), json!("accepted"), json!("clicked"), json!(1), json!(null)] {
        assert_eq!(read("INSIGHT_ACCEPTED", &action), answer(FeedbackAction::Accepted), "{action}");
    }
    for action in [json!("Rejected"), json!("closed"), json!(null)] {
        assert_eq!(read("insight_rejected", &action), answer(FeedbackAction::Rejected), "{action}");
    }
    for (kind, action) in [("INSIGHT_ACCEPTED", "REJECTED"), ("INSIGHT_REJECTED", "accepted")] {
        assert_eq!(read(kind, &json!(action)), insights::Incoming::Unknown { kind: kind.to_owned() });
    }
    let without = json!({"type": "INSIGHT_ACCEPTED", "interactionId": 466});
    assert_eq!(insights::read(&without.to_string()).unwrap_err().to_string(), "`insightId` is missing");
}

#[test]
fn a_type_of_the_insight_stream_that_nobody_knows_needs_no_id() {
    let read = insights::read(r#"{"type":"HEARTBEAT"}"#).unwrap();
    assert_eq!(read, insights::Incoming::Unknown { kind: "HEARTBEAT".to_owned() });
}

// Knowledge search.

fn found(answer: &Value) -> SearchPage {
    insights::read_search(answer.to_string().as_bytes()).unwrap()
}

#[test]
fn an_answer_to_a_search_is_read() {
    let page = found(&json!({
        "entities": [{"id": "a", "title": "Returns", "score": 0.9, "url": "https://kb/1", "body": "Take it back."}],
        "total": 12, "pageCount": 3,
    }));
    let article = Article {
        id: "a".to_owned(),
        title: "Returns".to_owned(),
        score: 0.9,
        url: "https://kb/1".to_owned(),
        body: Private::new("Take it back.".to_owned()),
    };
    assert_eq!(page, SearchPage { articles: vec![article], total: Some(12) });
}

#[test]
fn an_answer_without_entities_is_an_empty_page() {
    for answer in [json!({}), json!({"entities": []}), json!({"entities": null}), json!({"Entities": []})] {
        assert_eq!(found(&answer), SearchPage::default(), "{answer}");
    }
    let refused = insights::read_search(br#"{"entities":"hunter2"}"#).unwrap_err();
    assert_eq!(refused.to_string(), "`entities` must be an array");
}

#[test]
fn an_article_needs_an_id_and_nothing_else() {
    let page = found(&json!({"entities": [
        {"id": 7}, {"title": "no id"}, {"id": "", "title": "no id"}, null, "text", {"id": {"of": "hunter2"}},
        {"id": "x".repeat(ARTICLE_ID_BYTES_MAX + 1)},
        {"id": "b", "title": " ", "score": "0.25", "url": null, "body": 5},
        {"id": "c", "title": "C", "score": "NaN", "url": "u".repeat(CITATION_BYTES_MAX + 1)},
    ]}));
    let article = |id: &str, title: &str, score| Article {
        id: id.to_owned(),
        title: title.to_owned(),
        score,
        url: String::new(),
        body: Private::new(String::new()),
    };
    assert_eq!(page.articles, [article("7", "7", 0.0), article("b", "b", 0.25), article("c", "C", 0.0)]);
}

#[test]
fn what_is_kept_of_an_answer_is_bounded() {
    let page = found(&json!({"entities": vec![json!({"id": "a"}); ARTICLES_MAX + 1]}));
    assert_eq!(page.articles.len(), ARTICLES_MAX);
    let page = found(&json!({"entities": [{"id": "a", "title": "é".repeat(9_999), "body": "字".repeat(9_999)}]}));
    assert_eq!(page.articles[0].title.chars().count(), TITLE_CHARS_MAX);
    assert_eq!(page.articles[0].body.reveal().len(), BODY_BYTES_MAX / 3 * 3);
    let refused = insights::read_search(&vec![b' '; SEARCH_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(refused.to_string(), "the message must not be longer than 4194304 bytes");
}

// The interaction stream.

fn event(frame: &Value) -> InteractionEvent {
    interactions::read(&frame.to_string()).unwrap()
}

#[test]
fn an_interaction_event_is_read_whole() {
    let frame = json!({
        "id": 466, "type": "transfer",
        "sentiment": {"score": -0.7, "confidence": 0.9},
        "routing": {"queueWaitTimeMs": 130_000, "queueName": " Billing "},
        "participant": {"direction": "inbound"},
        "version": 2,
    });
    let expected = InteractionEvent {
        id: interaction("466"),
        kind: "transfer".to_owned(),
        sentiment: Some(Sentiment { score: -0.7, confidence: Some(0.9) }),
        routing: Some(Routing { queue_wait_ms: Some(130_000), queue_name: Some("Billing".to_owned()) }),
        direction: Some("inbound".to_owned()),
    };
    assert_eq!(event(&frame), expected);
}

#[test]
fn what_an_event_leaves_out_is_absent() {
    let bare =
        InteractionEvent { id: interaction("a"), kind: String::new(), sentiment: None, routing: None, direction: None };
    for frame in [
        json!({"id": "a"}),
        json!({"id": "a", "type": null, "sentiment": null, "routing": null, "participant": null}),
        json!({"id": "a", "type": 1, "sentiment": -0.9, "routing": [], "participant": "customer"}),
        json!({"id": "a", "sentiment": {}, "participant": {"direction": 5}}),
        json!({"id": "a", "sentiment": {"confidence": 1}}),
    ] {
        assert_eq!(event(&frame), bare, "{frame}");
    }
    let empty_routing = InteractionEvent { routing: Some(Routing::default()), ..bare };
    for routing in [json!({}), json!({"queueWaitTimeMs": "long", "queueName": "  "})] {
        assert_eq!(event(&json!({"id": "a", "routing": routing})), empty_routing);
    }
    assert_eq!(interactions::read("{}").unwrap_err().to_string(), "`id` is missing");
}

#[test]
fn figures_are_read_as_text_too_and_only_within_their_range() {
    for (score, expected) in [
        (json!("-0.5"), Some(-0.5)),
        (json!(-1), Some(-1.0)),
        (json!(1), Some(1.0)),
        (json!(-1.01), None),
        (json!(-60), None),
        (json!("NaN"), None),
        (json!("-inf"), None),
    ] {
        let read = event(&json!({"id": "a", "sentiment": {"score": score, "confidence": 2}})).sentiment;
        assert_eq!(read, expected.map(|score| Sentiment { score, confidence: None }), "{score}");
    }
    for (wait, expected) in [
        (json!(0), Some(0)),
        (json!("120001"), Some(120_001)),
        (json!(120_000.9), Some(120_000)),
        (json!(-1), None),
        (json!(1e300), None),
        (json!(true), None),
    ] {
        let read = event(&json!({"id": "a", "routing": {"queueWaitTimeMs": wait}})).routing;
        assert_eq!(read.and_then(|routing| routing.queue_wait_ms), expected, "{wait}");
    }
}

#[test]
fn names_of_an_event_are_bounded() {
    let long = "é".repeat(999);
    let read = event(&json!({
        "id": "a", "type": long, "routing": {"queueName": long}, "participant": {"direction": long}
    }));
    assert!(read.kind.len() <= KIND_BYTES_MAX && read.direction.unwrap().len() <= KIND_BYTES_MAX);
    assert_eq!(read.routing.unwrap().queue_name.unwrap().chars().count(), QUEUE_CHARS_MAX);
}
