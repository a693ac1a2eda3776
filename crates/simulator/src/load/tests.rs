//! Loads against a tiny endpoint, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::testing::{Endpoint as Server, Manner};

fn plan(server: &Server, streams: u32) -> LoadPlan {
    LoadPlan { streams, opens_per_second: 200, plateau: Duration::from_secs(2), ..LoadPlan::new(&server.url) }
}

fn one(reason: &str, count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(reason.to_owned(), count)])
}

#[tokio::test(start_paused = true)]
async fn every_byte_is_accounted_for_and_every_stream_keeps_its_beat() {
    let server = Server::start(&[Manner::Listen]).await;
    let audio: Bytes = (0..1600_u32).map(|index| u8::try_from(index % 253).unwrap()).collect();
    let report = Load::new(LoadPlan { audio: audio.clone(), ..plan(&server, 40) }).run().await.unwrap();
    let heard = server.over(40).await;

    assert_eq!((report.opened, report.closed, report.streams), (40, 40, 40));
    assert!(report.refused.is_empty() && report.lost.is_empty(), "{report:?}");
    let bytes: usize = heard.iter().map(|heard| heard.audio().len()).sum();
    assert_eq!(report.bytes_sent, bytes as u64);
    assert_eq!(report.frames_sent * 160, report.bytes_sent);
    assert_eq!((report.ack.count, report.plateau_ms), (40, 2000));

    let mut phases = BTreeSet::new();
    for heard in &heard {
        assert_eq!(heard.close, Some(1000));
        // 2 s of plateau and 200 ms between the opening and the closing of the first and of the last.
        assert!((100..=112).contains(&heard.frames.len()), "{}", heard.frames.len());
        let first = &heard.frames[0];
        let frame = audio.chunks(160).position(|chunk| chunk == first.1).unwrap();
        for (turn, (at, payload)) in heard.frames.iter().enumerate() {
            assert_eq!(payload[..], audio[(frame + turn) % 10 * 160..][..160]);
            let beat = (*at - first.0).as_millis().abs_diff(turn as u128 * 20);
            assert!(beat <= 1, "frame {turn} is {beat} ms off");
        }
        phases.insert((first.0 - heard.acked.min(first.0)).as_millis());
    }
    assert!(phases.len() > 1, "streams are spread over the frame time: {phases:?}");
}

#[tokio::test(start_paused = true)]
async fn two_streams_make_a_contact() {
    let server = Server::start(&[Manner::Listen]).await;
    let first_contact = ContactKey { bus_no: 3, contact_id: 500 };
    let plan = LoadPlan { first_contact, plateau: Duration::from_millis(100), ..plan(&server, 4) };
    Load::new(plan).run().await.unwrap();
    let named: BTreeSet<(u64, String)> = server
        .over(4)
        .await
        .iter()
        .map(|heard| {
            let init: Value = serde_json::from_str(&heard.init).unwrap();
            assert_eq!(init["executionInfo"]["busNo"], json!(3));
            (init["executionInfo"]["contactId"].as_u64().unwrap(), heard.perspective.as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [(500, "RX"), (500, "TX"), (501, "RX"), (501, "TX")];
    assert_eq!(named, expected.map(|(id, perspective)| (id, perspective.to_owned())).into());
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_between_frames() {
    let server = Server::start(&[Manner::Ping]).await;
    let report = Load::new(plan(&server, 3)).run().await.unwrap();
    assert_eq!(report.closed, 3);
    for heard in server.over(3).await {
        assert!(heard.pongs.len() > 50, "{} pongs", heard.pongs.len());
        assert_eq!(heard.pongs[..2], [b"1".to_vec(), b"2".to_vec()]);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_refused_or_lost_are_counted_by_reason() {
    let server = Server::start(&[Manner::Refuse(1008)]).await;
    let report = Load::new(plan(&server, 5)).run().await.unwrap();
    assert_eq!((report.opened, report.refused), (0, one("close 1008", 5)));

    let server = Server::start(&[Manner::CloseAfter(10, 1012), Manner::Listen]).await;
    let report = Load::new(plan(&server, 5)).run().await.unwrap();
    assert_eq!((report.opened, report.closed, report.lost), (5, 4, one("close 1012", 1)));

    let server = Server::start(&[Manner::VanishAfter(10)]).await;
    let report = Load::new(plan(&server, 2)).run().await.unwrap();
    assert_eq!((report.closed, report.lost.values().sum::<u64>()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_load_tells_how_it_goes_and_can_be_stopped() {
    let server = Server::start(&[Manner::Listen]).await;
    let (watcher, mut progress) = mpsc::channel(16);
    let (stop, stopped) = watch::channel(false);
    let plan = LoadPlan { plateau: Duration::from_hours(1), ..plan(&server, 10) };
    let load = tokio::spawn(Load::new(plan).watched_by(watcher).stop_when(stopped).run());
    let news = progress.recv().await.unwrap();
    assert_eq!((news.elapsed_ms, news.opened, news.live, news.lost), (1000, 10, 10, 0));
    assert!((470..=500).contains(&news.frames), "{news:?}");
    stop.send(true).unwrap();
    let report = load.await.unwrap().unwrap();
    assert_eq!(report.closed, 10);
    assert!(report.plateau_ms < 2000, "{report:?}");
}

#[tokio::test]
async fn a_load_that_cannot_be_put_on_is_refused_before_anything_is_dialled() {
    let refused = async |plan: LoadPlan| Load::new(plan).run().await.unwrap_err();
    let good = LoadPlan::new("ws://127.0.0.1:9/");
    assert_eq!(refused(LoadPlan::new("wss://127.0.0.1:9/")).await, PlanError::Tls);
    assert_eq!(refused(LoadPlan { frame_samples: 161, ..good.clone() }).await, PlanError::FrameSize);
    assert_eq!(refused(LoadPlan { streams: 0, ..good.clone() }).await, PlanError::Streams);
    assert_eq!(refused(LoadPlan { pacers: 0, ..good }).await, PlanError::Streams);
}

#[test]
fn many_streams_share_out_the_loopback_addresses() {
    let loopback = "127.0.0.1:80".parse().unwrap();
    let plan = LoadPlan { streams: 25_000, ..LoadPlan::new("ws://127.0.0.1/") };
    let sources: Vec<_> = (0..4).map(|index| source(&plan, loopback, index).unwrap().to_string()).collect();
    assert_eq!(sources, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]);
    assert_eq!(source(&plan, "10.0.0.1:80".parse().unwrap(), 0), None);
    assert_eq!(source(&LoadPlan { streams: 2000, ..plan }, loopback, 0), None);
}
