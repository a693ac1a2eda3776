//! What is said becomes cards, each once, for whom it was said.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use earpiece_core::assist::{Lane, Payload};
use earpiece_knowledge::Knowledge;
use earpiece_simulator::platform::{Fault, FaultKind, Kind, On};
use serde_json::{Value, json};

use super::stage::{Stage, articles, cards_in, id, ids};
use crate::Which;
use crate::clock::now_ms;

#[tokio::test(flavor = "multi_thread")]
async fn fragments_of_two_interleaved_interactions_become_cards_of_their_own() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    for (interaction, text) in [("1", "Where is"), ("2", "How do I restart"), ("1", "my parcel?"), ("2", "the modem?")]
    {
        stage.says(interaction, text).await;
    }
    stage.turns("1", "CUSTOMER_SILENT").await;
    stage.turns("2", "CUSTOMER_SILENT").await;
    let (first, second) = tokio::join!(stage.cards_of("1"), stage.cards_of("2"));
    assert_eq!(ids(&first), ["parcel"]);
    assert_eq!(ids(&second), ["modem"]);
    let card = &second[0];
    assert_eq!((card["interactionId"].as_str(), card["priority"].as_u64()), (Some("2"), Some(1)));
    assert_eq!(card["citation"], "https://help.example.com/modem");
    assert_eq!(card["snippet"].as_str().map(|snippet| snippet.chars().count()), Some(150));
    let searches: BTreeSet<_> = stage.searches().into_iter().map(|(query, _)| query).collect();
    assert_eq!(searches.len(), 2, "{searches:?}");
    stage.no_violations();
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_dialog_state_has_what_was_said_looked_up_at_once() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    for (interaction, state) in [("1", "AGENT_SILENT"), ("2", "CUSTOMER_SILENT"), ("3", "TURN_END")] {
        let said_at = Instant::now();
        stage.says(interaction, "the modem").await;
        stage.turns(interaction, state).await;
        assert_eq!(ids(&stage.cards_of(interaction).await), ["modem"]);
        assert!(said_at.elapsed() < Duration::from_secs(3), "{state}: a pause would have done it, too");
    }
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_has_what_was_said_looked_up_and_an_unknown_state_does_not() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    let said_at = Instant::now();
    stage.says("1", "the modem").await;
    stage.turns("1", "LAUGHING").await;
    assert_eq!(ids(&stage.cards_of("1").await), ["modem"]);
    assert!(said_at.elapsed() >= Duration::from_secs(3), "{:?}", said_at.elapsed());
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_article_is_shown_to_an_interaction_twice() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    stage.asks("1", "a refund").await;
    stage.taken(Kind::Insight, 1).await;
    stage.asks("1", "I said a refund").await;
    let posts = stage.taken(Kind::Insight, 2).await;
    assert_eq!(posts.iter().map(|post| cards_in(post).len()).collect::<Vec<_>>(), [5, 2], "the second page is read");
    stage.asks("1", "what about that refund").await;
    stage.asks("1", "or the refund of my parcel").await;
    let posts = stage.taken(Kind::Insight, 3).await;
    let mut shown: Vec<_> = posts.iter().flat_map(|post| ids(&cards_in(post))).collect();
    assert_eq!(shown.len(), 8);
    shown.sort();
    shown.dedup();
    assert_eq!(shown.len(), 8);
    // Somebody else has seen none of it.
    stage.asks("2", "a refund").await;
    assert_eq!(stage.cards_of("2").await.len(), 5);
    stage.no_violations();
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judgement_is_forwarded_once_and_again_after_a_503() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    stage.platform.fault(Fault::once(On::Feedback, FaultKind::Unavailable)).unwrap();
    let judgement = |kind: &str, insight: &str, action: &str| json!({ "type": kind, "interactionId": "1", "insightId": insight, "action": action });
    for _ in 0..3 {
        stage.event(&judgement("INSIGHT_ACCEPTED", "modem", "ACCEPTED")).await;
    }
    stage.event(&judgement("INSIGHT_REJECTED", "parcel", "REJECTED")).await;
    let taken = stage.taken(Kind::Feedback, 2).await;
    let said: Vec<Value> = taken.iter().filter_map(earpiece_simulator::platform::Record::json).collect();
    let mut pairs: Vec<_> = said.iter().map(|body| (body["insightId"].as_str(), body["action"].as_str())).collect();
    pairs.sort();
    assert_eq!(pairs, [(Some("modem"), Some("ACCEPTED")), (Some("parcel"), Some("REJECTED"))]);
    assert!(said.iter().all(|body| body["timestamp"].is_string()));
    let all = stage.platform.received_of(Kind::Feedback);
    assert_eq!(all.len(), 3, "one was refused, and nothing was sent twice: {all:?}");
    stage.no_violations();
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_that_could_not_be_posted_are_posted_again_and_are_the_same() {
    let stage = Stage::new().await;
    let task = stage.task().await;
    stage.platform.fault(Fault::once(On::Insights, FaultKind::Unavailable)).unwrap();
    stage.asks("1", "the modem").await;
    assert_eq!(ids(&stage.cards_of("1").await), ["modem"]);
    let posts = stage.platform.received_of(Kind::Insight);
    let bodies: BTreeSet<_> = posts.iter().map(|post| post.body().map(str::to_owned)).collect();
    assert_eq!((posts.len(), bodies.len()), (2, 1));
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_articles_makes_the_same_cards_without_a_search_at_cxone() {
    let folder = tempfile::tempdir().unwrap();
    for article in articles() {
        let (id, title, language, url, body) = (article.id, article.title, article.language, article.url, article.body);
        let text = json!({ "id": id, "title": title, "language": language, "url": url, "body": body }).to_string();
        std::fs::write(folder.path().join(format!("{id}.json")), text).unwrap();
    }
    let mut cards = Vec::new();
    for knowledge in [None, Some(Knowledge::open(folder.path()).unwrap())] {
        let has_folder = knowledge.is_some();
        let stage = Stage::new().await;
        let task = stage.start([Which::Insights].into(), knowledge).await;
        task.hears("1", "How do I restart the modem?");
        task.hears_turn("1");
        let mut card = stage.cards_of("1").await.remove(0);
        // Each knowledge base has its own scale.
        let score = card.as_object_mut().and_then(|card| card.remove("score")).and_then(|score| score.as_f64());
        assert!(score.is_some_and(|score| score > 0.0));
        cards.push(card);
        assert_eq!(stage.searches().is_empty(), has_folder);
        task.stop().await;
    }
    assert_eq!(cards[0], cards[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tasks_own_transcripts_need_no_lease() {
    let stage = Stage::new().await;
    let holder = stage.task().await;
    let other = stage.start(BTreeSet::new(), None).await;
    other.hears("1", "restart");
    holder.hears("2", "the parcel");
    other.hears("1", "the modem");
    other.hears_turn("1");
    holder.hears_turn("2");
    assert_eq!(ids(&stage.cards_of("1").await), ["modem"]);
    assert_eq!(ids(&stage.cards_of("2").await), ["parcel"]);
    assert_eq!(other.counted("earpiece_transcript_fragments_total{source=\"app\"}"), Some(2));
    other.stop().await;
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_a_drain_is_looked_up_before_it_ends() {
    let stage = Stage::new().await;
    let task = stage.start(BTreeSet::new(), None).await;
    task.hears("1", "the modem");
    task.stop().await;
    let entries = stage.store.outbox(&id("1"), Lane::Insights, now_ms()).await.unwrap();
    let [entry] = entries.as_slice() else { panic!("{} entries", entries.len()) };
    assert!(matches!(&entry.payload, Payload::Insights { cards } if cards[0].id == "modem"));
}
