use super::super::{Answer, AnswerPolicy, To};
use super::*;

#[tokio::test]
async fn a_suggestion_is_acknowledged_with_the_time_it_was_sent() {
    let platform = platform(PlatformSettings::default()).await;
    let mut client = Client::suggestions(&platform).await;
    let mut frame = suggest("i1", "s1");
    frame["suggestion"]["injectedAt"] = json!("2025-01-31T09:30:00.250Z");
    frame["suggestion"]["contextWindow"] = json!({ "start": "2025-01-31T09:00:00Z", "end": "2999-01-31T10:00:00Z" });
    client.say(&frame).await;
    let ack = json!({
        "type": "agentassist.ack", "interactionId": "i1", "suggestionId": "s1", "sentTimestamp": 1_738_315_800_250_i64,
    });
    assert_eq!(client.next().await, ack);
    let records = platform.received_of(Kind::Suggest);
    assert!(records[0].is_taken() && records[0].is_of("i1"));
    assert_eq!(records[0].json().unwrap(), frame);
}

#[tokio::test]
async fn a_wrong_token_gets_auth_failure_and_1008() {
    let platform = platform(PlatformSettings::default()).await;
    for token in ["made-up".to_owned(), token(&platform, "knowledge:read").await] {
        let mut client = Client::authenticate(&platform, &token).await;
        assert_eq!(client.next().await["type"], "auth.failure");
        assert_eq!(client.closed().await, Some(1008));
    }
    let statuses: Vec<_> = platform.received_of(Kind::Auth).iter().map(|record| record.status).collect();
    assert_eq!(statuses, [401, 403]);
    assert_eq!(platform.tally().violations, 0);
}

#[tokio::test]
async fn whoever_does_not_wait_for_auth_success_is_dropped_without_a_close_frame() {
    let platform = platform(PlatformSettings::default()).await;
    let mut client = Client::dial(&platform, Uplink::Suggestions, "").await.unwrap();
    client.say(&suggest("i1", "s1")).await;
    assert_eq!(client.closed().await, None);
    assert_eq!(violation(&platform).await, "the first frame must be an auth frame");

    let mut client = Client::dial(&platform, Uplink::Suggestions, "").await.unwrap();
    let auth = json!({ "type": "auth", "token": token(&platform, "").await });
    for frame in [auth, suggest("i1", "s1")] {
        client.0.feed(Message::text(frame.to_string())).await.unwrap();
    }
    client.0.flush().await.unwrap();
    assert_eq!(client.closed().await, None);
    assert_eq!(violation(&platform).await, "a frame was sent before auth.success");
    assert_eq!(platform.tally().suggestions, 0);
    let codes: Vec<_> = platform.received_of(Kind::Closed).iter().map(|record| record.status).collect();
    assert_eq!(codes, [1006, 1006]);
}

#[tokio::test]
async fn a_suggestion_of_another_shape_gets_no_answer_and_the_socket_lives_on() {
    let platform = platform(PlatformSettings::default()).await;
    let mut client = Client::suggestions(&platform).await;
    let mut wrong = suggest("i1", "s1");
    wrong["suggestion"]["relevanceScore"] = json!(0.5);
    client.say(&wrong).await;
    client.0.send(Message::binary(vec![1, 2])).await.unwrap();
    client.say(&suggest("i1", "s2")).await;
    assert_eq!(client.next().await["suggestionId"], "s2");
    assert_eq!((platform.tally().violations, platform.tally().suggestions), (2, 1));
    assert_eq!(platform.received_of(Kind::Suggest)[0].status, 400);
}

#[tokio::test]
async fn a_sixth_active_suggestion_is_a_violation_until_one_is_answered() {
    let platform = platform(PlatformSettings::default()).await;
    let mut client = Client::suggestions(&platform).await;
    for nth in 1..=6 {
        client.say(&suggest("i1", &format!("s{nth}"))).await;
    }
    client.say(&suggest("i2", "other")).await;
    for expected in ["s1", "s2", "s3", "s4", "s5", "other"] {
        assert_eq!(client.next().await["suggestionId"], expected);
    }
    assert_eq!(violation(&platform).await, "more than 5 suggestions are active");
    assert_eq!(platform.tally().active_max, 6);

    assert!(platform.accept("i1", "s6").await);
    assert!(platform.dismiss("i1", "s1").await);
    assert!(!platform.dismiss("i1", "s1").await, "it is dismissed once, and told again");
    assert!(!platform.accept("i1", "s1").await, "the first answer stands");
    assert!(!platform.accept("i1", "unheard").await);
    let accepted = json!({ "type": "agentassist.accepted", "interactionId": "i1", "suggestionId": "s6" });
    let dismissed = json!({ "type": "agentassist.dismissed", "interactionId": "i1", "suggestionId": "s1" });
    for expected in [accepted, dismissed.clone(), dismissed] {
        assert_eq!(client.next().await, expected);
    }
    client.say(&suggest("i1", "s7")).await;
    assert_eq!(client.next().await["suggestionId"], "s7");
    assert_eq!(platform.tally().violations, 1);
}

#[tokio::test]
async fn agents_answer_by_policy_and_a_repeated_id_gets_the_same_answer() {
    let policy = AnswerPolicy::every(3, 2);
    let platform = platform(PlatformSettings { policy, ..PlatformSettings::default() }).await;
    let mut client = Client::suggestions(&platform).await;
    for (id, answer) in [("s1", None), ("s2", Some("dismissed")), ("s3", Some("accepted")), ("s3", Some("accepted"))] {
        client.say(&suggest("i1", id)).await;
        assert_eq!(client.next().await["type"], "agentassist.ack");
        if let Some(answer) = answer {
            let frame = client.next().await;
            assert_eq!((&frame["type"], &frame["suggestionId"]), (&json!(format!("agentassist.{answer}")), &json!(id)));
        }
    }
    let tally = platform.tally();
    assert_eq!((tally.suggestions, tally.suggestions_repeated, tally.accepted, tally.dismissed), (3, 1, 1, 1));

    platform.set_policy(AnswerPolicy { never_ack: true, after_ms: 20, ..AnswerPolicy::every(1, 0) });
    client.say(&suggest("i1", "s4")).await;
    assert_eq!(client.next().await["type"], "agentassist.accepted");
}

#[tokio::test]
async fn an_answer_that_finds_no_socket_waits_for_the_next_one() {
    let policy = AnswerPolicy { after_ms: 3_600_000, ..AnswerPolicy::every(1, 0) };
    let platform = platform(PlatformSettings { policy, ..PlatformSettings::default() }).await;
    let mut client = Client::suggestions(&platform).await;
    for id in ["s1", "s2"] {
        client.say(&suggest("i1", id)).await;
        client.next().await;
    }
    drop(client);
    platform.wait_for(SOON, |received| received.sockets().is_empty().then_some(())).await.unwrap();
    assert_eq!(platform.tally().accepted, 0, "both are still thought about");
    assert!(platform.dismiss("i1", "s1").await);
    let mut next = Client::suggestions(&platform).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let frame = next.next().await;
        answers.push((frame["suggestionId"].as_str().unwrap().to_owned(), frame["type"].as_str().unwrap().to_owned()));
    }
    answers.sort();
    let [accepted, dismissed] = ["agentassist.accepted", "agentassist.dismissed"].map(str::to_owned);
    let s1 = "s1".to_owned();
    assert_eq!(answers, [(s1.clone(), dismissed.clone()), (s1, dismissed), ("s2".to_owned(), accepted)]);
    let answer = platform.look(|received| received.interaction("i1").unwrap().suggestions[0].answer);
    assert_eq!(answer, Some(Answer::Dismissed), "the first answer stands");
}

#[tokio::test]
async fn streams_judge_their_token_at_the_upgrade() {
    let platform = platform(PlatformSettings::default()).await;
    let cases = [
        (Uplink::Insights, "agentassist:read", "interactions:read"),
        (Uplink::Interactions, "interactions:read", "agentassist:write"),
        (Uplink::Interactions, "interaction:read", "agentassist:write"),
    ];
    for (uplink, right, wrong) in cases {
        let (right, wrong) = (token(&platform, right).await, token(&platform, wrong).await);
        for (query, expected) in [
            (String::new(), Some(401)),
            ("?access_token=made-up".to_owned(), Some(401)),
            (format!("?access_token={wrong}"), Some(403)),
            (format!("?access_token={right}"), None),
        ] {
            assert_eq!(Client::dial(&platform, uplink, &query).await.err(), expected, "{uplink:?} {query}");
        }
    }
    let statuses: Vec<_> = platform.received_of(Kind::Opened).iter().map(|record| record.status).collect();
    assert_eq!(statuses, [[401, 401, 403, 101]; 3].concat());
}

#[tokio::test]
async fn events_reach_every_socket_of_their_sort_or_the_newest() {
    let platform = platform(PlatformSettings::default()).await;
    let mut older = Client::stream(&platform, Uplink::Interactions).await;
    let mut newer = Client::stream(&platform, Uplink::Interactions).await;
    let mut other = Client::stream(&platform, Uplink::Insights).await;
    let event = |nth: u32| json!({ "id": "i1", "type": "UPDATED", "nth": nth });
    assert_eq!(platform.send_event(Uplink::Interactions, &event(1), To::All).await, 2);
    assert_eq!(platform.send_event(Uplink::Interactions, &event(2), To::Newest).await, 1);
    assert_eq!(platform.send_event(Uplink::Interactions, &event(3), To::All).await, 2);
    assert_eq!(platform.send_event(Uplink::Insights, &event(4), To::All).await, 1);
    assert_eq!(platform.send_event(Uplink::Suggestions, &event(5), To::All).await, 0);
    assert_eq!([older.next().await["nth"].clone(), older.next().await["nth"].clone()], [json!(1), json!(3)]);
    for nth in 1..=3 {
        assert_eq!(newer.next().await["nth"], nth);
    }
    assert_eq!(other.next().await["nth"], 4);
    other.say(&json!({ "type": "hello" })).await;
    assert_eq!(violation(&platform).await, "nothing is to be sent on this stream");
}

#[tokio::test]
async fn a_revoked_token_closes_its_sockets() {
    let platform = platform(PlatformSettings::default()).await;
    let mut suggestions = Client::suggestions(&platform).await;
    let mut insights = Client::stream(&platform, Uplink::Insights).await;
    assert!(platform.revoke() >= 2);
    assert_eq!(suggestions.next().await["type"], "auth.failure");
    assert_eq!(suggestions.closed().await, Some(1008));
    assert_eq!(insights.closed().await, Some(1008));
}

#[tokio::test]
async fn pings_are_answered() {
    let platform = platform(PlatformSettings::default()).await;
    let mut client = Client::stream(&platform, Uplink::Insights).await;
    client.0.send(Message::ping("are you there")).await.unwrap();
    let pong = timeout(SOON, client.0.next()).await.unwrap().unwrap().unwrap();
    assert!(pong.is_pong());
}

#[tokio::test]
async fn shutdown_closes_every_socket_with_1001() {
    let platform = platform(PlatformSettings::default()).await;
    let mut clients = [Client::suggestions(&platform).await, Client::stream(&platform, Uplink::Interactions).await];
    assert!(platform.wait_for_socket(Uplink::Suggestions, SOON).await);
    let (address, stopping) = (platform.address(), tokio::spawn(platform.shutdown()));
    for client in &mut clients {
        assert_eq!(client.closed().await, Some(1001));
        // One more read answers the close frame.
        assert!(client.0.next().await.is_none());
    }
    stopping.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_suggestions_over_a_thousand_interactions_are_counted_exactly() {
    const INTERACTIONS: u64 = 1_000;
    let policy = AnswerPolicy::every(1, 0);
    let platform = platform(PlatformSettings { policy, ..PlatformSettings::default() }).await;
    let (mut sink, mut stream) = Client::suggestions(&platform).await.0.split();
    let answers = tokio::spawn(async move {
        let mut answers = 0;
        while answers < 2 * 3 * INTERACTIONS {
            stream.next().await.unwrap().unwrap();
            answers += 1;
        }
    });
    for round in 0..3 {
        for interaction in 0..INTERACTIONS {
            let frame = suggest(&interaction.to_string(), &format!("s{round}"));
            sink.feed(Message::text(frame.to_string())).await.unwrap();
        }
    }
    sink.flush().await.unwrap();
    timeout(SOON * 3, answers).await.unwrap().unwrap();
    let tally = platform.tally();
    assert_eq!((tally.suggestions, tally.accepted, tally.violations), (3_000, 3_000, 0));
    assert_eq!(platform.look(|received| received.interactions().count()), 1_000);
}
