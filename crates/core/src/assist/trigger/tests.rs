//! What fires, what does not, and what a configuration may not be.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::protocol::platform::interactions::{Routing, Sentiment};

fn event() -> InteractionEvent {
    InteractionEvent {
        id: InteractionId::parse("466").unwrap(),
        kind: "connect".to_owned(),
        sentiment: None,
        routing: None,
        direction: None,
    }
}

fn feeling(score: f64, confidence: Option<f64>) -> InteractionEvent {
    InteractionEvent { sentiment: Some(Sentiment { score, confidence }), ..event() }
}

fn waiting(wait_ms: Option<u64>, queue: Option<&str>) -> InteractionEvent {
    let routing = Routing { queue_wait_ms: wait_ms, queue_name: queue.map(str::to_owned) };
    InteractionEvent { routing: Some(routing), ..event() }
}

fn trigger(when: &Value) -> Value {
    json!({"name": "t", "when": when, "card": {"type": "info", "title": "Title", "content": "Content"}})
}

fn triggers(config: &Value) -> Triggers {
    Triggers::parse(&config.to_string()).unwrap()
}

fn one(when: &Value) -> Triggers {
    triggers(&json!([trigger(when)]))
}

fn fires(triggers: &Triggers, event: &InteractionEvent) -> bool {
    !triggers.judge(event).is_empty()
}

fn faults(config: &Value) -> Vec<String> {
    Triggers::parse(&config.to_string()).expect_err("faults")
}

/// The one fault of a configuration with one trigger whose condition is this.
fn fault_of(when: &Value) -> String {
    let mut faults = faults(&json!([trigger(when)]));
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

#[test]
fn the_documented_trigger_fires_below_minus_a_half_or_above_two_minutes() {
    let documented = Triggers::documented();
    assert!(fires(&documented, &feeling(-0.500_001, None)));
    assert!(!fires(&documented, &feeling(-0.5, None)));
    assert!(fires(&documented, &waiting(Some(120_001), None)));
    assert!(!fires(&documented, &waiting(Some(120_000), None)));
    assert!(!fires(&documented, &event()));
}

#[test]
fn the_documented_trigger_could_have_been_configured() {
    let config = json!([{
        "name": "attention",
        "when": {"any": [{"sentimentBelow": -0.5}, {"waitAboveMs": 120_000}]},
        "card": {
            "type": "warning",
            "title": "This customer needs care",
            "content": "Sentiment: {score}. Waited {waitMs} ms in queue {queue}."
        }
    }]);
    assert_eq!(triggers(&config), Triggers::documented());
}

#[test]
fn the_example_of_the_documentation_is_a_configuration() {
    let config = include_str!("../trigger.rs")
        .lines()
        .skip_while(|line| *line != "//! ```json")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| line.trim_start_matches("//!"))
        .collect::<String>();
    let triggers = Triggers::parse(&config).unwrap();
    assert_eq!(triggers.names().collect::<Vec<_>>(), ["angry-caller"]);
}

#[test]
fn the_example_for_users_is_a_configuration() {
    let page = include_str!("../../../../../docs/assistance.md");
    let config: String = page
        .lines()
        .skip_while(|line| !line.starts_with("## Popups"))
        .skip_while(|line| *line != "```json")
        .skip(1)
        .take_while(|line| *line != "```")
        .collect();
    let triggers = Triggers::parse(&config).unwrap();
    assert_eq!(triggers.names().collect::<Vec<_>>(), ["angry-caller", "long-wait"]);
}

#[test]
fn thresholds_are_strict() {
    let sentiment = one(&json!({"sentimentBelow": 0.25}));
    assert!(fires(&sentiment, &feeling(0.249, None)));
    assert!(!fires(&sentiment, &feeling(0.25, None)));
    let wait = one(&json!({"waitAboveMs": 0}));
    assert!(fires(&wait, &waiting(Some(1), None)));
    assert!(!fires(&wait, &waiting(Some(0), None)));
}

#[test]
fn what_an_event_does_not_say_never_fires() {
    for when in [
        json!({"sentimentBelow": 1}),
        json!({"waitAboveMs": 0}),
        json!({"queue": {"oneOf": ["a"]}}),
        json!({"queue": {"noneOf": ["a"]}}),
        json!({"directionIs": "inbound"}),
        json!({"typeIs": "connect"}),
    ] {
        let silent = InteractionEvent { kind: String::new(), ..event() };
        assert!(!fires(&one(&when), &silent), "{when}");
        let empty_routing = InteractionEvent { kind: String::new(), ..waiting(None, None) };
        assert!(!fires(&one(&when), &empty_routing), "{when}");
    }
}

#[test]
fn a_confidence_that_is_asked_for_must_be_there_and_be_high_enough() {
    let triggers = one(&json!({"sentimentBelow": {"score": -0.5, "confidenceAtLeast": 0.6}}));
    assert!(fires(&triggers, &feeling(-0.9, Some(0.6))));
    assert!(!fires(&triggers, &feeling(-0.9, Some(0.599))));
    assert!(!fires(&triggers, &feeling(-0.9, None)));
    assert!(!fires(&triggers, &feeling(-0.4, Some(1.0))));
}

#[test]
fn all_needs_every_condition_and_any_needs_one() {
    let both = one(&json!({"all": [{"sentimentBelow": -0.5}, {"waitAboveMs": 10}]}));
    let either = one(&json!({"any": [{"sentimentBelow": -0.5}, {"waitAboveMs": 10}]}));
    let angry = feeling(-0.9, None);
    let waited = waiting(Some(11), None);
    let angry_and_waited = InteractionEvent { sentiment: angry.sentiment, ..waited.clone() };
    assert_eq!([&angry, &waited, &angry_and_waited].map(|event| fires(&both, event)), [false, false, true]);
    assert_eq!([&angry, &waited, &angry_and_waited].map(|event| fires(&either, event)), [true, true, true]);
    assert!(!fires(&either, &event()));
}

#[test]
fn conditions_stand_within_one_another() {
    let triggers = one(&json!({"all": [
        {"queue": {"oneOf": ["Billing", "Returns"]}},
        {"any": [{"sentimentBelow": -0.5}, {"all": [{"waitAboveMs": 100}, {"typeIs": ["transfer", "connect"]}]}]}
    ]}));
    assert!(fires(&triggers, &waiting(Some(101), Some("Returns"))));
    assert!(!fires(&triggers, &InteractionEvent { kind: "hold".to_owned(), ..waiting(Some(101), Some("Returns")) }));
    assert!(!fires(&triggers, &waiting(Some(101), Some("Sales"))));
    assert!(!fires(&triggers, &waiting(Some(100), Some("Returns"))));
}

#[test]
fn names_and_words_are_compared_without_regard_to_case_and_blanks() {
    let queues = one(&json!({"queue": {"oneOf": [" RÜCKGABEN "]}}));
    assert!(fires(&queues, &waiting(None, Some("Rückgaben"))));
    let others = one(&json!({"queue": {"noneOf": "Test"}}));
    assert!(fires(&others, &waiting(None, Some("Billing"))));
    assert!(!fires(&others, &waiting(None, Some(" TEST"))));
    assert!(fires(&one(&json!({"typeIs": "CONNECT"})), &event()));
    let inbound = InteractionEvent { direction: Some("Inbound".to_owned()), ..event() };
    assert!(fires(&one(&json!({"directionIs": ["inbound"]})), &inbound));
    assert!(!fires(&one(&json!({"directionIs": "outbound"})), &inbound));
}

#[test]
fn a_queue_may_have_thresholds_of_its_own() {
    let mut config = trigger(&json!({"any": [
        {"sentimentBelow": {"score": -0.5, "confidenceAtLeast": 0.5}}, {"waitAboveMs": 120_000}
    ]}));
    config["queues"] = json!({
        "VIP": {"sentimentBelow": -0.2, "waitAboveMs": 30_000},
        "Bulk": {"sentimentBelow": {"score": -0.8, "confidenceAtLeast": 0.9}},
    });
    let triggers = triggers(&json!([config]));
    for (queue, score, confidence, wait_ms, expected) in [
        (Some("vip "), -0.3, Some(0.5), 0, true),
        (Some("VIP"), -0.3, Some(0.4), 0, false),
        (Some("VIP"), -0.2, Some(0.5), 30_001, true),
        (Some("VIP"), -0.2, Some(0.5), 30_000, false),
        (Some("Bulk"), -0.7, Some(1.0), 0, false),
        (Some("Bulk"), -0.9, Some(0.8), 0, false),
        (Some("Bulk"), -0.9, Some(0.9), 0, true),
        (Some("Bulk"), 0.0, None, 120_001, true),
        (Some("Other"), -0.3, Some(1.0), 120_000, false),
        (Some("Other"), -0.6, Some(1.0), 0, true),
        (None, -0.6, Some(1.0), 0, true),
        (None, -0.3, Some(1.0), 30_001, false),
    ] {
        let event =
            InteractionEvent { sentiment: Some(Sentiment { score, confidence }), ..waiting(Some(wait_ms), queue) };
        assert_eq!(fires(&triggers, &event), expected, "{event:?}");
    }
}

#[test]
fn every_trigger_fires_for_itself_in_the_order_of_the_configuration() {
    let named = |name: &str, when: &Value, on_failure: Option<&str>| {
        let mut config = trigger(when);
        config["name"] = json!(name);
        if let Some(policy) = on_failure {
            config["onFailure"] = json!(policy);
        }
        config
    };
    let triggers = triggers(&json!([
        named("second", &json!({"waitAboveMs": 5}), Some("free")),
        named("never", &json!({"waitAboveMs": 500}), None),
        named("first", &json!({"any": [{"waitAboveMs": 5}, {"waitAboveMs": 6}]}), None),
    ]));
    let event = waiting(Some(10), None);
    let fired = triggers.judge(&event);
    assert_eq!(fired.iter().map(Fired::name).collect::<Vec<_>>(), ["second", "first"]);
    assert_eq!(fired[0].on_failure(), OnFailure::Free);
    assert_eq!(fired[1].on_failure(), OnFailure::DeadLetter);
    assert_eq!(triggers.on_failure("second"), OnFailure::Free);
    assert_eq!(triggers.on_failure("removed"), OnFailure::DeadLetter);
    let ids: Vec<_> = fired.iter().map(|fired| fired.card(&event, 0).card_id).collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn the_card_id_depends_on_trigger_and_interaction_alone() {
    let triggers = Triggers::documented();
    let early = triggers.judge(&feeling(-0.9, None))[0].card(&feeling(-0.9, None), 0);
    let late =
        triggers.judge(&waiting(Some(999_999), Some("q")))[0].card(&waiting(Some(999_999), Some("q")), 1_000_000);
    assert_eq!(early.card_id, late.card_id);
    // printf 'attention\x00466' | sha256sum
    assert_eq!(early.card_id, "earpiece-attention-5af5c08054dcb292");
    let other = InteractionEvent { id: InteractionId::parse("467").unwrap(), ..feeling(-0.9, None) };
    assert_ne!(triggers.judge(&other)[0].card(&other, 0).card_id, early.card_id);
}

#[test]
fn trigger_and_interaction_cannot_be_shifted_into_one_another() {
    let id = |text: &str| InteractionId::parse(text).unwrap();
    let digest = |trigger: &str, interaction: &str| {
        let id = card_id(trigger, &id(interaction));
        id[id.len() - 16..].to_owned()
    };
    assert_ne!(digest("a1", "23"), digest("a", "123"));
}

fn content(template: &str, event: &InteractionEvent) -> String {
    Template::parse(template).unwrap().fill(event).into_inner()
}

#[test]
fn a_card_says_the_operators_words_with_the_events_figures() {
    let event =
        InteractionEvent { sentiment: feeling(-0.734, None).sentiment, ..waiting(Some(95_000), Some("Billing")) };
    assert_eq!(content("{score}|{waitMs}|{queue}", &event), "-0.73|95000|Billing");
    assert_eq!(content("{score}|{waitMs}|{queue}", &super::tests::event()), "n/a|n/a|n/a");
    assert_eq!(content("{{score}} }}{{{waitMs}", &event), "{score} }{95000");
    assert_eq!(content("plain", &event), "plain");
    let card = Triggers::documented().judge(&event)[0].card(&event, 1_700_000_000_123);
    assert_eq!(card.content.reveal(), "Sentiment: -0.73. Waited 95000 ms in queue Billing.");
    assert_eq!((card.kind, card.metadata.source.as_str()), (CardKind::Warning, "earpiece"));
    assert_eq!(card.metadata.timestamp, "2023-11-14T22:13:20.123Z");
}

#[test]
fn a_figure_is_never_read_as_a_template_or_as_json() {
    let queue = "{score}\",\"type\":\"error\"}\n\u{7}";
    let event = waiting(Some(1), Some(queue));
    let triggers = triggers(&json!([{
        "name": "t",
        "when": {"waitAboveMs": 0},
        "card": {"type": "info", "title": "a \"title\"", "content": "in {queue}"}
    }]));
    let card = triggers.judge(&event)[0].card(&event, 0);
    assert_eq!(card.content.reveal(), "in {score}\",\"type\":\"error\"}  ");
    let body: Value = serde_json::from_str(crate::protocol::platform::interactions::card_body(&card).reveal()).unwrap();
    assert_eq!(body["type"], "info");
    assert_eq!(body["title"], "a \"title\"");
    assert_eq!(body.as_object().unwrap().len(), 5);
}

#[test]
fn the_content_of_a_card_is_bounded() {
    let template = "{queue}".repeat(TEMPLATE_CHARS_MAX / 7);
    let event = waiting(None, Some(&"q".repeat(10_000)));
    assert_eq!(content(&template, &event).chars().count(), CONTENT_CHARS_MAX);
}

#[test]
fn every_fault_is_reported_at_once_with_its_path() {
    let config = json!([
        {
            "name": "Angry Caller",
            "when": {"any": [{"sentimentBelow": -2}, {"waitAboveMs": "long"}, {"sentiment": -0.5}]},
            "queues": {"VIP": {}, " vip": {"waitAboveMs": -1}, "": {"waitAboveMs": 1, "wait": 2}},
            "card": {"type": "alarm", "title": "two\nlines", "content": "{name} {"},
            "onFailure": "retry",
            "onSuccess": 1
        },
        7,
        {"name": "ok", "when": {"all": []}, "card": {"type": "INFO", "title": " ", "content": ""}},
        {"name": "ok", "when": {"queue": {"oneOf": ["a", 5], "noneOf": []}}},
        {"name": "dup", "when": {"typeIs": []}, "card": []},
    ]);
    assert_eq!(
        faults(&config),
        [
            "$[0].name must be 1 to 64 of a-z, 0-9 and `-`",
            "$[0].when.any[0].sentimentBelow must be a number above -1 and at most 1",
            "$[0].when.any[1].waitAboveMs must be a whole number of milliseconds from 0 to 604800000",
            "$[0].when.any[2] must be an object with exactly one of `all`, `any`, `sentimentBelow`, `waitAboveMs`, \
             `queue`, `typeIs`, `directionIs`",
            "$[0].queues[\"\"] must have a name of 1 to 128 characters",
            "$[0].queues[\"\"][\"wait\"] must be one of `sentimentBelow`, `waitAboveMs`",
            "$[0].queues[\" vip\"].waitAboveMs must be a whole number of milliseconds from 0 to 604800000",
            "$[0].queues[\"VIP\"] must have `sentimentBelow`, `waitAboveMs` or both",
            "$[0].queues[\"VIP\"] is the name of another queue, but for case and blanks",
            "$[0].card.type must be `info`, `warning`, `success` or `error`",
            "$[0].card.title must be one line",
            "$[0].card.content may have `{score}`, `{waitMs}` and `{queue}` in it; any other brace must be doubled",
            "$[0].onFailure must be `free` or `deadLetter`",
            "$[0][\"onSuccess\"] must be one of `name`, `when`, `queues`, `card`, `onFailure`",
            "$[1] must be an object",
            "$[2].when.all must be an array with 1 to 32 entries",
            "$[2].card.title must be text of 1 to 120 characters",
            "$[2].card.content must be text of 1 to 1000 characters",
            "$[3].when.queue must be an object with exactly one of `oneOf`, `noneOf`",
            "$[3].card is missing",
            "$[3].name is the name of another trigger",
            "$[4].when.typeIs must be an array with 1 to 256 entries",
            "$[4].card must be an object",
        ]
    );
}

#[test]
fn two_triggers_may_not_have_one_name() {
    let config = json!([trigger(&json!({"waitAboveMs": 1})), trigger(&json!({"waitAboveMs": 2}))]);
    assert_eq!(faults(&config), ["$[1].name is the name of another trigger"]);
}

#[test]
fn a_queues_threshold_must_replace_one() {
    let mut config = trigger(&json!({"all": [{"any": [{"waitAboveMs": 1}]}]}));
    config["queues"] = json!({"VIP": {"waitAboveMs": 2}});
    assert!(Triggers::parse(&json!([config]).to_string()).is_ok());
    config["queues"] = json!({"VIP": {"sentimentBelow": 0}});
    assert_eq!(
        faults(&json!([config])),
        ["$[0].queues[\"VIP\"].sentimentBelow replaces a threshold that `when` does not have"]
    );
}

#[test]
fn conditions_stand_within_one_another_only_so_deep() {
    let nested = |levels: usize| (1..levels).fold(json!({"waitAboveMs": 1}), |inner, _| json!({ "all": [inner] }));
    assert!(fires(&one(&nested(DEPTH_MAX)), &waiting(Some(2), None)));
    let fault = fault_of(&nested(DEPTH_MAX + 1));
    assert_eq!(fault, format!("$[0].when{} stands within more than 7 others", ".all[0]".repeat(DEPTH_MAX)));
}

#[test]
fn triggers_and_their_conditions_are_counted() {
    let wide = |conditions: usize| json!({"any": vec![json!({"waitAboveMs": 1}); conditions - 1]});
    assert!(fires(&one(&wide(CONDITIONS_MAX)), &waiting(Some(2), None)));
    assert_eq!(fault_of(&wide(CONDITIONS_MAX + 1)), "$[0].when has more than 32 conditions");
    let deep = json!({"any": [wide(20), wide(20)]});
    assert_eq!(fault_of(&deep), "$[0].when has more than 32 conditions");

    let many = |count: usize| {
        let named = |place| {
            let mut trigger = trigger(&json!({"waitAboveMs": 1}));
            trigger["name"] = json!(format!("t-{place}"));
            trigger
        };
        Value::Array((0..count).map(named).collect())
    };
    assert_eq!(triggers(&many(TRIGGERS_MAX)).judge(&waiting(Some(2), None)).len(), TRIGGERS_MAX);
    assert_eq!(faults(&many(TRIGGERS_MAX + 1)), ["$ must be an array with 0 to 64 entries"]);
    assert!(!fires(&triggers(&json!([])), &waiting(Some(2), None)));
}

#[test]
fn what_is_no_json_or_too_long_is_refused_without_a_word_of_it() {
    assert_eq!(Triggers::parse("[\n{\"hunter2"), Err(vec!["$ cannot be read as JSON (line 2, column 9)".to_owned()]));
    let long = " ".repeat(CONFIG_BYTES_MAX + 1);
    assert_eq!(Triggers::parse(&long), Err(vec!["$ must not be longer than 262144 bytes".to_owned()]));
    let values = json!([{
        "name": "hunter2!",
        "when": {"queue": {"oneOf": [["hunter2"]]}},
        "card": {"type": "hunter2", "title": ["hunter2"], "content": "{hunter2}"},
        "onFailure": "hunter2"
    }]);
    assert!(!faults(&values).join(" ").contains("hunter2"));
}

fn any_condition() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (-0.99_f64..=1.0).prop_map(|score| json!({"sentimentBelow": score})),
        (0_u64..1_000).prop_map(|wait_ms| json!({"waitAboveMs": wait_ms})),
        "[ab]".prop_map(|queue| json!({"queue": {"oneOf": [queue]}})),
        "[ab]".prop_map(|queue| json!({"queue": {"noneOf": [queue]}})),
        Just(json!({"typeIs": "connect"})),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let several = prop::collection::vec(inner, 1..4);
        (any::<bool>(), several)
            .prop_map(|(all, inner)| if all { json!({"all": inner}) } else { json!({"any": inner}) })
    })
}

/// JSON with the names of a configuration in places where they may not be.
fn almost_a_configuration() -> impl Strategy<Value = Value> {
    let names =
        ["name", "when", "queues", "card", "all", "any", "sentimentBelow", "waitAboveMs", "queue", "oneOf", "x"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(12, 64, 4, move |inner| {
        let fields = prop::collection::btree_map(prop::sample::select(names.to_vec()), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn any_event() -> impl Strategy<Value = InteractionEvent> {
    let sentiment = (-1.0_f64..=1.0, prop::option::of(0.0_f64..=1.0));
    let routing = (prop::option::of(0_u64..1_000), prop::option::of("[abc]"));
    (prop::option::of(sentiment), prop::option::of(routing)).prop_map(|(sentiment, routing)| InteractionEvent {
        sentiment: sentiment.map(|(score, confidence)| Sentiment { score, confidence }),
        routing: routing.map(|(queue_wait_ms, queue_name)| Routing { queue_wait_ms, queue_name }),
        ..event()
    })
}

/// The same judgement, made on the JSON itself.
fn expected(when: &Value, event: &InteractionEvent) -> bool {
    let (name, value) = when.as_object().unwrap().iter().next().unwrap();
    let mut inner = value.as_array().into_iter().flatten();
    let routing = event.routing.clone().unwrap_or_default();
    match name.as_str() {
        "all" => inner.all(|condition| expected(condition, event)),
        "any" => inner.any(|condition| expected(condition, event)),
        "sentimentBelow" => event.sentiment.is_some_and(|sentiment| sentiment.score < value.as_f64().unwrap()),
        "waitAboveMs" => routing.queue_wait_ms > value.as_u64(),
        "queue" if value.get("oneOf").is_some() => routing.queue_name.is_some_and(|queue| value["oneOf"][0] == queue),
        "queue" => routing.queue_name.is_some_and(|queue| value["noneOf"][0] != queue),
        _ => true,
    }
}

proptest! {
    #[test]
    fn a_condition_holds_exactly_when_its_parts_say_so(when in any_condition(), event in any_event()) {
        prop_assert_eq!(fires(&one(&when), &event), expected(&when, &event));
    }

    #[test]
    fn no_configuration_panics(value in almost_a_configuration(), text in any::<String>()) {
        let _ = Triggers::parse(&text);
        let _ = Triggers::parse(&json!([value]).to_string());
        let _ = Triggers::parse(&json!([trigger(&value)]).to_string());
    }

    #[test]
    fn no_template_panics_and_its_content_is_bounded(text in any::<String>(), event in any_event()) {
        if let Ok(template) = Template::parse(&text) {
            prop_assert!(template.fill(&event).reveal().chars().count() <= CONTENT_CHARS_MAX);
        }
    }

    #[test]
    fn doubled_braces_make_any_text_a_template_of_itself(text in any::<String>()) {
        let template = text.replace('{', "{{").replace('}', "}}");
        prop_assert_eq!(content(&template, &event()), text);
    }
}
