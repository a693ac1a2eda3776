//! Every field of every body and frame: taken away, of another type, and one too many.

use super::super::check;
use super::*;

/// Every variation of a value that leaves out, changes the type of, or adds one field somewhere.
fn spoiled(value: &Value) -> Vec<Value> {
    let mut variations = Vec::new();
    if let Some(object) = value.as_object() {
        for (name, inner) in object {
            let mut without = object.clone();
            without.remove(name);
            variations.push(Value::Object(without));
            for other in std::iter::once(Value::Null).chain(spoiled(inner)) {
                let mut changed = object.clone();
                changed.insert(name.clone(), other);
                variations.push(Value::Object(changed));
            }
        }
        let mut more = object.clone();
        more.insert("extra".to_owned(), json!(1));
        variations.push(Value::Object(more));
    } else if let Some(items) = value.as_array() {
        for (index, item) in items.iter().enumerate() {
            for other in spoiled(item) {
                let mut changed = items.clone();
                changed[index] = other;
                variations.push(Value::Array(changed));
            }
        }
        variations.push(json!([]));
    } else {
        variations.push(json!({ "an": "object" }));
        if value.is_string() {
            variations.push(json!(7));
        }
    }
    variations
}

#[test]
fn only_the_documented_shape_passes() {
    type Check = fn(&Value) -> Result<(), String>;
    let checks: [(Value, Check); 5] = [
        (json!({ "type": "auth", "token": "t" }), |value| check::auth(value).map(drop)),
        (suggest("i", "s"), |value| check::suggest(value).map(drop)),
        (insights(&["a", "b"]), |value| check::insights(value).map(drop)),
        (feedback(), check::feedback),
        (card("c"), |value| check::card(value).map(drop)),
    ];
    for (right, check) in checks {
        assert_eq!(check(&right), Ok(()));
        let spoiled = spoiled(&right);
        assert!(spoiled.len() >= 7);
        for wrong in spoiled {
            assert!(check(&wrong).is_err(), "{wrong}");
        }
        assert!(check(&Value::Null).is_err());
    }
}

#[test]
fn values_outside_of_their_limits_do_not_pass() {
    let with = |pointer: &str, mut whole: Value, value: Value| {
        *whole.pointer_mut(pointer).unwrap() = value;
        whole
    };
    let early = time(now_ms() - 3_600_000);
    for (pointer, value) in [
        ("/interactionId", json!("")),
        ("/interactionId", json!("x".repeat(129))),
        ("/suggestion/content", json!("")),
        ("/suggestion/priority", json!("URGENT")),
        ("/suggestion/relevanceScore", json!(0.69)),
        ("/suggestion/relevanceScore", json!(1.01)),
        ("/suggestion/injectedAt", json!("yesterday")),
        ("/suggestion/injectedAt", json!(early)),
        ("/suggestion/contextWindow/end", json!(early)),
    ] {
        assert!(check::suggest(&with(pointer, suggest("i", "s"), value)).is_err(), "{pointer}");
    }
    for (pointer, value) in [
        ("/insights/0/priority", json!(0)),
        ("/insights/0/priority", json!(2)),
        ("/insights/0/id", json!("b")),
        ("/insights/0/snippet", json!("é".repeat(151))),
        ("/displayType", json!("TOAST")),
        ("/autoDismiss", json!(false)),
    ] {
        assert!(check::insights(&with(pointer, insights(&["a", "b"]), value)).is_err(), "{pointer}");
    }
    let longest = with("/insights/0/snippet", insights(&["a", "b"]), json!("é".repeat(150)));
    assert_eq!(check::insights(&longest), Ok(2));
    assert!(check::card(&with("/type", card("c"), json!("alarm"))).is_err());
    assert!(check::feedback(&with("/action", feedback(), json!("IGNORED"))).is_err());
    assert!(check::feedback(&with("/timestamp", feedback(), json!("2025-01-31T09:30:00"))).is_err(), "no offset");
}

#[test]
fn a_reason_names_the_place_and_not_what_stands_there() {
    let mut wrong = suggest("i", "s");
    wrong["suggestion"]["priority"] = json!("my card is 4111");
    let reason = check::suggest(&wrong).unwrap_err();
    assert_eq!(reason, "suggestion.priority must be one of LOW, MEDIUM, HIGH");
}

/// Two readings of CXone's documents, one that writes and one that judges, must not drift apart.
mod agreement {
    use earpiece_core::assist::card::{Article, CardKind, CardMetadata, FeedbackAction, PopupCard, cards};
    use earpiece_core::assist::{InteractionId, Suggestion};
    use earpiece_core::protocol::platform::{self, insights, interactions, suggestions};
    use earpiece_core::secret::{Private, Secret};

    use super::*;

    fn interaction() -> InteractionId {
        InteractionId::parse("466:i.d_1").unwrap()
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_earpiece_writes_is_allowed() {
        let auth = parsed(suggestions::auth_frame(&Secret::new("t")).reveal());
        assert_eq!(check::auth(&auth), Ok("t"));

        let asked = json!({ "id": "s1", "content": "Offer a refund.", "priority": "low", "relevanceScore": 0.7 });
        let suggestion = Suggestion::read(&asked, now_ms()).unwrap();
        let frame = parsed(suggestions::suggest_frame(&interaction(), &suggestion, now_ms()).reveal());
        assert_eq!(check::suggest(&frame).unwrap().id, "s1");

        let article = |id: &str, score| Article {
            id: id.to_owned(),
            title: "Refunds".to_owned(),
            score,
            url: "https://help.example.com".to_owned(),
            body: Private::new("é".repeat(1_000)),
        };
        let cards = cards(vec![article("a", 0.2), article("b", 0.9)], &interaction(), |_| false, 5);
        assert_eq!(check::insights(&parsed(insights::post_body(&cards).reveal())), Ok(2));
        for action in FeedbackAction::ALL {
            let body = insights::feedback_body(&interaction(), "a", action, now_ms());
            assert_eq!(check::feedback(&parsed(&body)), Ok(()));
        }
        let card = PopupCard {
            card_id: "earpiece-angry-0123456789abcdef".to_owned(),
            kind: CardKind::Warning,
            title: "Unhappy caller".to_owned(),
            content: Private::new("Be kind.".to_owned()),
            metadata: CardMetadata { source: CardMetadata::SOURCE.to_owned(), timestamp: time(now_ms()) },
        };
        assert!(check::card(&parsed(interactions::card_body(&card).reveal())).is_ok());
        assert!(check::path_id(interaction().as_str()).is_ok());
    }

    #[tokio::test]
    async fn what_the_platform_says_is_read() {
        let platform = platform(PlatformSettings::default()).await;
        let token = token(&platform, "").await;
        let found = get(&platform, &format!("{SEARCH}?q=bill&pageSize=5"), &token).await;
        let page: platform::insights::SearchPage = insights::read_search(&found.body).unwrap();
        assert_eq!(page.articles.len(), 5);
        assert!(page.total.unwrap() >= 5);

        let mut client = Client::authenticate(&platform, &token).await;
        let hear = async |client: &mut Client| suggestions::read(&client.next().await.to_string()).unwrap();
        assert!(matches!(hear(&mut client).await, suggestions::Incoming::AuthSuccess));
        client.say(&suggest("466", "s1")).await;
        let suggestions::Incoming::Ack { interaction, suggestion_id, sent_timestamp_ms } = hear(&mut client).await
        else {
            panic!("no ack");
        };
        assert_eq!((interaction.as_str(), suggestion_id.as_str()), ("466", "s1"));
        assert!(now_ms() - sent_timestamp_ms.unwrap() < 60_000);
        platform.accept("466", "s1").await;
        assert!(matches!(hear(&mut client).await, suggestions::Incoming::Accepted { .. }));
        let mut refused = Client::authenticate(&platform, "made-up").await;
        assert!(matches!(hear(&mut refused).await, suggestions::Incoming::AuthFailure { .. }));
    }
}
