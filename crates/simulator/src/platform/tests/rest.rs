use super::*;

#[tokio::test]
async fn every_endpoint_asks_for_a_token_with_its_own_scope() {
    let platform = platform(PlatformSettings::default()).await;
    let search = format!("{SEARCH}?q=bill");
    for (method, target, scope, other, body) in [
        ("GET", search.as_str(), "knowledge:read", "agentassist:write", Value::Null),
        ("POST", INSIGHTS, "agentassist:write", "agentassist:read", insights(&["a"])),
        ("POST", FEEDBACK, "ai:training:write", "agentassist:write", feedback()),
        ("POST", CARDS, "agentassist:write", "knowledge:read", card("c")),
    ] {
        for (scope_had, status) in [(Some(scope), 2), (Some(other), 403), (None, 401)] {
            let token = match scope_had {
                Some(scope) => token(&platform, scope).await,
                None => "made-up".to_owned(),
            };
            let got = if method == "GET" {
                Some(get(&platform, target, &token).await)
            } else {
                post(&platform, target, &token, &body).await
            };
            let got = got.unwrap();
            assert!(got.status == status || got.status / 100 == status, "{target} {scope_had:?} {got:?}");
            let names_the_scope = got.header("www-authenticate").is_some_and(|value| value.contains(scope));
            assert_eq!(names_the_scope, status == 403, "{target}");
        }
        let without = ask(&platform, method, target, &[], &body.to_string()).await.unwrap();
        assert_eq!(without.status, 401, "{target}");
    }
    assert_eq!(platform.tally().violations, 0, "a refused token is no violation");
}

#[tokio::test]
async fn a_search_answers_with_articles_in_their_rank() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    let target = format!("{SEARCH}?q=I+was+charged+twice&language=en-US&page=1&pageSize=5");
    let found = get(&platform, &target, &token).await.json();
    let entities = found["entities"].as_array().unwrap();
    assert_eq!(entities[0]["id"], "billing-double-charge");
    assert!(entities.len() <= 5);
    for field in ["id", "title", "url", "body"] {
        assert!(entities[0][field].is_string(), "{field}");
    }
    assert!(entities[0]["score"].is_f64());
    for query in ["", "?q=", "?q=x&page=0", "?q=x&pageSize=many", "?q=x&pageSize=101"] {
        assert_eq!(get(&platform, &format!("{SEARCH}{query}"), &token).await.status, 400, "{query}");
    }
    assert_eq!(platform.tally().searches, 1);
    assert_eq!(platform.tally().violations, 5);
    let query = platform.received_of(Kind::Search)[0].body().unwrap().to_owned();
    assert_eq!(query, "q=I+was+charged+twice&language=en-US&page=1&pageSize=5");
}

#[tokio::test]
async fn what_is_posted_is_written_down_with_its_ids() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    for (target, body, status) in [
        (INSIGHTS, insights(&["a", "b"]), 200),
        (FEEDBACK, feedback(), 204),
        (CARDS, card("c"), 201),
        (CARDS, card("c"), 201),
    ] {
        assert_eq!(post(&platform, target, &token, &body).await.unwrap().status, status, "{target}");
    }
    let records = platform.received();
    let named: Vec<_> =
        records.iter().map(|record| (record.kind, record.interaction.as_deref(), record.id.as_deref())).collect();
    assert_eq!(
        named[1..],
        [
            (Kind::Insight, Some("i1"), Some("a")),
            (Kind::Feedback, Some("i1"), Some("a")),
            (Kind::Card, Some("i1"), Some("c")),
            (Kind::Card, Some("i1"), Some("c")),
        ]
    );
    assert!(records.is_sorted_by_key(|record| (record.number, record.at_ms)));
    assert_eq!(records[3].json().unwrap()["title"], "Unhappy caller");
    let tally = platform.tally();
    assert_eq!((tally.insight_cards, tally.feedback, tally.cards, tally.cards_repeated), (2, 1, 1, 1));
    let times = platform.look(|received| received.interaction("i1").unwrap().cards[0].times);
    assert_eq!(times, 2);
}

#[tokio::test]
async fn a_body_of_another_shape_is_answered_400_and_written_down_as_a_violation() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    let mut bad = card("c");
    bad["colour"] = json!("red");
    for (target, body) in [(CARDS, &bad), (INSIGHTS, &json!({})), (FEEDBACK, &json!([]))] {
        assert_eq!(post(&platform, target, &token, body).await.unwrap().status, 400, "{target}");
    }
    let authorization = format!("Bearer {token}");
    let as_text = [("Authorization", authorization.as_str()), ("Content-Type", "text/plain")];
    assert_eq!(ask(&platform, "POST", CARDS, &as_text, &card("c").to_string()).await.unwrap().status, 400);
    let odd = post(&platform, "/api/v2/agentassist/interactions/a%20b/cards", &token, &card("c")).await.unwrap();
    assert_eq!(odd.status, 400);
    let places: Vec<_> =
        platform.received_of(Kind::Violation).iter().map(|record| record.id.clone().unwrap()).collect();
    assert_eq!(
        places.iter().map(|place| &**place).collect::<Vec<_>>(),
        ["card", "insight", "feedback", "card", "card"]
    );
    assert_eq!(platform.tally().cards, 0, "what is refused never reached the desktop");
}

#[tokio::test]
async fn unknown_paths_wrong_methods_and_huge_bodies_are_refused() {
    let platform = platform(PlatformSettings::default()).await;
    assert_eq!(ask(&platform, "GET", "/api/v2/nothing", &[], "").await.unwrap().status, 404);
    let wrong = ask(&platform, "GET", CARDS, &[], "").await.unwrap();
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    assert_eq!(ask(&platform, "GET", "/ws/v1", &[], "").await.unwrap().status, 400);
    let huge = " ".repeat(1024 * 1024 + 1);
    // The connection may be closed before all of it was sent.
    let status = ask(&platform, "POST", CARDS, &[], &huge).await.map(|got| got.status);
    assert!(matches!(status, None | Some(413)), "{status:?}");
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let platform = platform(PlatformSettings::default()).await;
    let mut stream = TcpStream::connect(platform.address()).await.unwrap();
    for _ in 0..3 {
        let request = "GET /.well-known/openid-configuration HTTP/1.1\r\nHost: cxone.example\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let count = timeout(SOON, stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&answer[..count]).contains("http://cxone.example/oauth2/token"));
    }
    let connections: Vec<_> = platform.received().iter().map(|record| record.connection).collect();
    assert_eq!(connections, [1, 1, 1]);
}

#[tokio::test]
async fn an_interaction_in_a_path_may_be_encoded() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    let target = "/api/v2/agentassist/interactions/a%3Ab/cards";
    assert_eq!(post(&platform, target, &token, &card("c")).await.unwrap().status, 201);
    assert!(platform.received_of(Kind::Card)[0].is_of("a:b"));
}
