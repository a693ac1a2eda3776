//! Contact events through the doors, and the sweep that finishes a contact with what the script told.

use earpiece_core::telemetry::{CONNECTIONS_PRUNED, CONTACT_EVENTS};
use earpiece_recorder::Recorder;
use earpiece_store::ContactState;

use super::*;
use crate::settings::{self, QUIET_PERIOD};
use crate::testing::{CONTACT, House, env, files_under, guarded, post, with_header};

const PATH: &str = "/contacts/4595000/466000000001/events";

#[tokio::test]
async fn an_event_is_noted_whether_or_not_audio_came_before_and_the_answer_says_which() {
    let house = House::open().await;
    let (status, answer) = house.ask(post(PATH, &json!({"event": "start", "agentId": 12}))).await;
    assert_eq!((status, &answer["status"], &answer["known"]), (200, &json!("accepted"), &json!(false)));
    house.call(CONTACT, wall_ms()).await;
    let (_, answer) = house.ask(post(PATH, &json!({"event": "hold"}))).await;
    assert_eq!(answer["known"], json!(true));
    let noted = house.store.contact_events(&CONTACT, wall_ms(), 10).await.unwrap();
    let kinds: Vec<&str> = noted.iter().map(|event| event.kind.label()).collect();
    assert_eq!(kinds, ["start", "hold"]);
    assert!(house.doors.metrics().contains(&format!("{CONTACT_EVENTS}{{kind=\"hold\"}} 1")));
}

#[tokio::test]
async fn pages_that_listen_are_told_and_one_that_is_gone_is_forgotten() {
    let house = House::open().await;
    house.store.listen(&CONTACT, "page-1", wall_ms(), 60_000).await.unwrap();
    house.ask(post(PATH, &json!({"event": "hold", "agentId": "a"}))).await;
    let told: Value = serde_json::from_slice(&house.pages.taken()[0].body).unwrap();
    assert_eq!((&told["type"], &told["event"], &told["agentId"]), (&json!("script"), &json!("hold"), &json!("a")));

    house.pages.set_status(410);
    house.ask(post(PATH, &json!({"event": "resume"}))).await;
    assert_eq!(house.store.listeners(&CONTACT, wall_ms(), 10).await.unwrap(), Vec::<String>::new());
    assert!(house.doors.metrics().contains(&format!("{CONNECTIONS_PRUNED} 1")));
}

#[tokio::test]
async fn a_token_for_another_contact_tells_nothing() {
    let house = House::with(guarded()).await;
    let key = crate::testing::published_key(&house.store).await;
    let mut claims = crate::testing::claims();
    (claims.bus_no, claims.contact_id) = (Some(CONTACT.bus_no), Some(1));
    let token = earpiece_access::issue::sign(&key, &claims).unwrap();
    let request = with_header(post(PATH, &json!({"event": "end"})), "authorization", token.reveal());
    assert_eq!(house.ask(request).await.0, 403);
    assert_eq!(house.ask(post(PATH, &json!({"event": "end"}))).await.0, 401);
    assert_eq!(house.store.contact_events(&CONTACT, wall_ms(), 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_token_for_one_use_is_still_good_after_a_request_that_has_to_be_corrected() {
    let house = House::with(guarded()).await;
    let key = crate::testing::published_key(&house.store).await;
    let claims = earpiece_access::issue::Claims { one_time: Some(true), ..crate::testing::claims() };
    let token = earpiece_access::issue::sign(&key, &claims).unwrap();
    let tell = |event: &str| with_header(post(PATH, &json!({"event": event})), "authorization", token.reveal());
    for (event, status) in [("pause", 400), ("hold", 200), ("hold", 401)] {
        assert_eq!(house.ask(tell(event)).await.0, status, "{event}");
    }
}

#[tokio::test]
async fn a_contact_that_a_script_ended_is_finished_by_the_sweep_with_what_the_script_told() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::open(folder.path().to_str().unwrap(), earpiece_recorder::Settings::default()).unwrap();
    let quiet = env().with(&settings::TEXT_TOKENS, "none").with(&QUIET_PERIOD, "1h");
    let house = House::with_recorder(quiet, Some(recorder)).await;
    house.call(CONTACT, wall_ms()).await;
    let reaper = house.doors.reaper();
    assert_eq!(reaper.sweep_once(wall_ms() + 5000).await.finished, 0, "its quiet period lasts");
    house.ask(post(PATH, &json!({"event": "end", "agentId": "a-1"}))).await;
    assert_eq!(reaper.sweep_once(wall_ms() + 5000).await.finished, 1);
    assert_eq!(reaper.sweep_once(wall_ms() + 5000).await.finished, 0);
    let record = house.store.contact(&CONTACT, wall_ms()).await.unwrap().unwrap();
    assert_eq!(record.state, ContactState::Ended);

    let written = files_under(folder.path());
    let events = written.iter().find(|path| path.ends_with("events.jsonl")).expect("events were written");
    let events = std::fs::read_to_string(events).unwrap();
    assert!(events.contains("\"script\"") && events.contains("\"a-1\""), "{events}");
    assert!(written.iter().any(|path| path.ends_with("ledger.json")), "{written:?}");
}
