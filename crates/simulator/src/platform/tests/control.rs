use super::*;

#[tokio::test]
async fn everything_received_is_asked_for_by_kind_interaction_and_number() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    for id in ["a", "b"] {
        post(&platform, CARDS, &token, &card(id)).await;
    }
    post(&platform, "/api/v2/agentassist/interactions/i2/cards", &token, &card("c")).await;

    let all = control(&platform, "GET", "received", &Value::Null).await.json();
    let kinds: Vec<_> = all["records"].as_array().unwrap().iter().map(|record| record["kind"].clone()).collect();
    assert_eq!(kinds, ["token", "card", "card", "card"]);
    assert_eq!(all["next"], 4);
    let of = control(&platform, "GET", "received?kind=card,feedback&interaction=i1&since=2", &Value::Null).await.json();
    let [record] = &of["records"].as_array().unwrap()[..] else { panic!("{of}") };
    assert_eq!((&record["id"], &record["status"], &record["body"]["cardId"]), (&json!("b"), &json!(201), &json!("b")));
    assert!(record["atMs"].as_i64().unwrap() > 1_700_000_000_000 && record["connection"].as_u64().unwrap() > 1);
    let limited = control(&platform, "GET", "received?kind=card&limit=1", &Value::Null).await.json();
    assert_eq!((limited["records"].as_array().unwrap().len(), &limited["next"]), (1, &json!(2)));
    for bad in ["received?kind=cards", "received?since=x", "received?limit=-1"] {
        assert_eq!(control(&platform, "GET", bad, &Value::Null).await.status, 400, "{bad}");
    }

    let tally = control(&platform, "GET", "tally", &Value::Null).await.json();
    assert_eq!((&tally["cards"], &tally["tokens"]), (&json!(3), &json!(1)));
    let seen = control(&platform, "GET", "interactions/i1", &Value::Null).await.json();
    assert_eq!(seen["cards"][1], json!({ "id": "b", "times": 1 }));
    assert_eq!(control(&platform, "GET", "interactions/none", &Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_question_can_wait_for_its_record() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    let body = card("a");
    let asking = control(&platform, "GET", "received?kind=card&waitMs=10000", &Value::Null);
    let (answer, posted) = tokio::join!(asking, post(&platform, CARDS, &token, &body));
    assert_eq!(posted.unwrap().status, 201);
    assert_eq!(answer.json()["records"][0]["id"], "a");
    let nothing = control(&platform, "GET", "received?kind=feedback&waitMs=10", &Value::Null).await.json();
    assert_eq!(nothing["records"], json!([]));
}

#[tokio::test]
async fn events_answers_and_policies_are_sent_from_outside() {
    let platform = platform(PlatformSettings::default()).await;
    let mut insights = Client::stream(&platform, Uplink::Insights).await;
    let mut suggestions = Client::suggestions(&platform).await;
    platform.wait_for_socket(Uplink::Suggestions, SOON).await;
    let sockets = control(&platform, "GET", "sockets", &Value::Null).await.json();
    let open: Vec<_> = sockets["sockets"].as_array().unwrap().iter().map(|socket| socket["uplink"].clone()).collect();
    assert_eq!(open, ["insights", "suggestions"]);

    let frames = json!({ "socket": "insights", "frames": [{ "nth": 1 }, { "nth": 2 }], "to": "newest" });
    assert_eq!(control(&platform, "POST", "events", &frames).await.json()["sent"], 2);
    let raw = json!({ "socket": "insights", "frame": "{no json" });
    assert_eq!(control(&platform, "POST", "events", &raw).await.json()["sent"], 1);
    assert_eq!((insights.next().await, insights.next().await), (json!({ "nth": 1 }), json!({ "nth": 2 })));
    let raw = timeout(SOON, insights.0.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(raw.as_text(), Some("{no json"));

    suggestions.say(&suggest("i1", "s1")).await;
    suggestions.next().await;
    let answer = json!({ "interactionId": "i1", "suggestionId": "s1", "answer": "accepted" });
    assert_eq!(control(&platform, "POST", "answers", &answer).await.json()["answered"], true);
    assert_eq!(suggestions.next().await["type"], "agentassist.accepted");
    assert_eq!(control(&platform, "POST", "policy", &json!({ "dismissEvery": 1 })).await.status, 204);
    suggestions.say(&suggest("i1", "s2")).await;
    suggestions.next().await;
    assert_eq!(suggestions.next().await["type"], "agentassist.dismissed");
    assert_eq!(control(&platform, "POST", "revoke", &Value::Null).await.json()["revoked"], 2);
    assert_eq!(suggestions.next().await["type"], "auth.failure");
    for (path, body) in [("events", json!({ "socket": "B" })), ("answers", json!({})), ("policy", json!({ "x": 1 }))] {
        assert_eq!(control(&platform, "POST", path, &body).await.status, 400, "{path}");
    }
}

#[tokio::test]
async fn faults_are_set_listed_and_cleared_from_outside() {
    let platform = platform(PlatformSettings::default()).await;
    let token = token(&platform, "").await;
    let faults = json!([
        { "on": "cards", "kind": "429", "times": 1, "retryAfterS": 2 },
        { "on": "search", "kind": "503", "forMs": 60_000 },
    ]);
    assert_eq!(control(&platform, "POST", "faults", &faults).await.status, 204);
    let got = post(&platform, CARDS, &token, &card("a")).await.unwrap();
    assert_eq!((got.status, got.header("retry-after")), (429, Some("2")));
    assert_eq!(post(&platform, CARDS, &token, &card("a")).await.unwrap().status, 201);
    let waiting = control(&platform, "GET", "faults", &Value::Null).await.json();
    assert_eq!(waiting["faults"], json!([{ "on": "search", "kind": "503", "forMs": 60_000 }]));
    assert_eq!(get(&platform, &format!("{SEARCH}?q=bill"), &token).await.status, 503);
    assert_eq!(control(&platform, "DELETE", "faults", &Value::Null).await.status, 204);
    assert_eq!(get(&platform, &format!("{SEARCH}?q=bill"), &token).await.status, 200);
    for bad in [json!({ "on": "cards", "kind": "duplicate" }), json!({ "on": "moon", "kind": "429" }), json!("429")] {
        assert_eq!(control(&platform, "POST", "faults", &bad).await.status, 400, "{bad}");
    }
    assert_eq!(control(&platform, "GET", "nothing", &Value::Null).await.status, 404);
}
