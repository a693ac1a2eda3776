//! The reference app against a client driven by hand.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};

use super::*;

const CONTACT: ContactKey = ContactKey { bus_no: 1, contact_id: 2 };
const SOON: Duration = Duration::from_secs(5);

async fn app(settings: AssistSettings) -> AssistApp {
    AssistApp::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), settings).unwrap()
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn dial(app: &AssistApp) -> Self {
        let uri = app.url().parse().unwrap();
        Self(ClientBuilder::from_uri(uri).connect().await.unwrap().0)
    }

    /// Says `start` and hears from where the app wants the stream.
    async fn start(app: &AssistApp, stream: &str, position: u64) -> Self {
        let mut client = Self::begin(app, stream, position).await;
        assert_eq!(client.next().await["type"], "ack");
        client
    }

    async fn begin(app: &AssistApp, stream: &str, position: u64) -> Self {
        let mut client = Self::dial(app).await;
        let contact = json!({ "busNo": 1, "contactId": 2 });
        client
            .text(json!({
                "type": "start", "version": 1, "contact": contact, "streamId": stream, "perspective": "TX",
                "generation": 1, "encoding": "audio/x-mulaw", "rate": 8000, "channels": 1, "position": position,
                "appParams": null, "appConfig": null,
            }))
            .await;
        client
    }

    async fn text(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn audio(&mut self, audio: &[u8]) {
        for chunk in audio.chunks(CHUNK_BYTES_MAX) {
            self.0.send(Message::binary(chunk.to_vec())).await.unwrap();
        }
    }

    async fn next(&mut self) -> Value {
        let message = self.0.next().await.unwrap().unwrap();
        serde_json::from_str(message.as_text().unwrap()).unwrap()
    }

    /// The close code, or none when the connection ended without a close frame.
    async fn closed(&mut self) -> Option<u16> {
        while let Some(Ok(message)) = self.0.next().await {
            if let Some((code, _)) = message.as_close() {
                return Some(code.into());
            }
        }
        None
    }
}

async fn tx_samples(app: &AssistApp, samples: u64) -> Heard {
    app.wait_for(SOON, |hearing| hearing.heard(CONTACT, &Perspective::Tx).filter(|heard| heard.samples >= samples))
        .await
        .unwrap()
}

#[tokio::test]
async fn it_hears_exactly_what_was_said_and_acknowledges_each_second() {
    let app = app(AssistSettings { keep_audio: true, ..AssistSettings::default() }).await;
    let audio: Vec<u8> = (0..20_000_u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let mut client = Client::start(&app, "s1", 0).await;
    client.audio(&audio).await;
    assert_eq!(client.next().await, json!({ "type": "ack", "position": 8000 }));
    assert_eq!(client.next().await, json!({ "type": "ack", "position": 16_000 }));
    client.text(json!({ "type": "stop", "position": 20_000, "reason": "peer_closed" })).await;
    assert_eq!(client.next().await, json!({ "type": "ack", "position": 20_000 }));
    assert_eq!(client.closed().await, Some(1000), "it has nothing more to say");

    let heard = tx_samples(&app, 20_000).await;
    assert_eq!(heard.audio.as_deref(), Some(&audio[..]));
    assert_eq!((heard.samples, heard.connections, heard.streams), (20_000, 1, 1));
    assert_eq!((heard.lost, heard.skipped, heard.replayed), (0, 0, 0));
    assert_eq!(heard.stops, ["peer_closed"]);
    assert_eq!(app.look(|hearing| hearing.violations), 0);
}

#[tokio::test]
async fn a_replay_after_a_reconnect_adds_nothing_twice_and_gaps_are_noted() {
    let app = app(AssistSettings { keep_audio: true, ..AssistSettings::default() }).await;
    let mut first = Client::start(&app, "s1", 0).await;
    first.audio(&[1; 800]).await;
    tx_samples(&app, 800).await;
    drop(first);
    let mut second = Client::begin(&app, "s1", 400).await;
    assert_eq!(second.next().await, json!({ "type": "ack", "position": 800 }), "it says what it has");
    second.audio(&[1; 400]).await;
    second.text(json!({ "type": "gap", "position": 800, "samples": 100, "reason": "lost" })).await;
    second.audio(&[2; 100]).await;
    second.text(json!({ "type": "gap", "position": 1000, "samples": 8000, "reason": "silence" })).await;
    second.audio(&[3; 10]).await;

    let heard = tx_samples(&app, 910).await;
    assert_eq!(heard.audio, Some([&[1; 800][..], &[2; 100], &[3; 10]].concat()));
    assert_eq!((heard.lost, heard.silent, heard.replayed, heard.skipped), (100, 8000, 400, 0));
    assert_eq!(
        heard.gaps,
        [
            HeardGap { position: 800, samples: 100, reason: HeardGapReason::Lost },
            HeardGap { position: 1000, samples: 8000, reason: HeardGapReason::Silence },
        ]
    );
    assert_eq!((heard.connections, heard.streams), (2, 1));
    assert_eq!(app.look(|hearing| hearing.violations), 0);
}

#[tokio::test]
async fn each_line_of_the_script_is_said_once_per_contact() {
    let line = |at_sample, text: &str| Line {
        perspective: Perspective::Tx,
        at_sample,
        say: json!({ "type": "transcript", "text": text }),
    };
    let script = vec![line(1500, "later"), line(800, "first")];
    let app = app(AssistSettings { script, ..AssistSettings::default() }).await;
    let mut client = Client::start(&app, "s1", 0).await;
    client.audio(&[0; 800]).await;
    assert_eq!(client.next().await["text"], "first");
    // A second socket of the same voice goes on where the first one was.
    let mut next = Client::start(&app, "s2", 0).await;
    next.audio(&[0; 800]).await;
    assert_eq!(next.next().await["text"], "later");
}

#[tokio::test]
async fn faults_are_played_as_often_as_told() {
    let close_after =
        |code| Faults { close_after: Some(CloseAfter { samples: 800, code, times: 1 }), ..Faults::default() };
    let app = app(AssistSettings { faults: close_after(Some(1011)), ..AssistSettings::default() }).await;
    let mut client = Client::start(&app, "s1", 0).await;
    client.audio(&[0; 800]).await;
    assert_eq!(client.closed().await, Some(1011));

    app.set_faults(close_after(None));
    let mut client = Client::start(&app, "s1", 800).await;
    client.audio(&[0; 800]).await;
    assert_eq!(client.closed().await, None);

    let mut client = Client::start(&app, "s1", 1600).await;
    client.audio(&[0; 8000]).await;
    assert_eq!(client.next().await["position"], 9600);

    app.set_faults(Faults { never_ack: true, ..Faults::default() });
    client.audio(&[0; 16_000]).await;
    tx_samples(&app, 25_600).await;
    app.set_faults(Faults::default());
    client.audio(&[0; 800]).await;
    assert_eq!(client.next().await["position"], 26_400, "what was heard meanwhile was not acknowledged");

    app.set_faults(Faults { refuse: true, ..Faults::default() });
    let refused = ClientBuilder::from_uri(app.url().parse().unwrap()).connect().await;
    assert!(refused.is_err());
    assert_eq!(app.look(|hearing| hearing.refused), 1);
}

#[tokio::test]
async fn a_paused_app_reads_nothing_and_then_everything() {
    let pause = Duration::from_millis(300);
    let faults = Faults { pause_after: Some(PauseAfter { samples: 800, pause, times: 1 }), ..Faults::default() };
    let app = app(AssistSettings { faults, ..AssistSettings::default() }).await;
    let mut client = Client::start(&app, "s1", 0).await;
    let begun = tokio::time::Instant::now();
    client.audio(&[0; 1600]).await;
    tx_samples(&app, 1600).await;
    assert!(begun.elapsed() >= pause, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_seen() {
    let app = app(AssistSettings::default()).await;
    let mut client = Client::dial(&app).await;
    client.text(json!({ "type": "hello" })).await;
    assert_eq!(client.closed().await, Some(1008));
    let mut client = Client::start(&app, "s1", 0).await;
    client.text(json!({ "type": "gap", "position": 7, "samples": 1, "reason": "silence" })).await;
    client.0.send(Message::binary(vec![0; 801])).await.unwrap();
    client.text(json!({ "type": "tune" })).await;
    let violations = app.wait_for(SOON, |hearing| (hearing.violations >= 4).then_some(hearing.violations)).await;
    assert_eq!(violations, Some(4));
}

#[tokio::test]
async fn a_wrong_authorization_is_closed_with_1008() {
    let authorization = Some(earpiece_core::secret::Secret::new("Bearer right"));
    let app = app(AssistSettings { authorization, ..AssistSettings::default() }).await;
    for (value, expected) in [("Bearer wrong", Some(1008)), ("Bearer right", Some(1001))] {
        let builder = ClientBuilder::from_uri(app.url().parse().unwrap())
            .add_header(http::header::AUTHORIZATION, value.parse().unwrap())
            .unwrap();
        let mut client = Client(builder.connect().await.unwrap().0);
        if expected == Some(1008) {
            assert_eq!(client.closed().await, expected);
        } else {
            let contact = json!({ "busNo": 1, "contactId": 2 });
            let start = json!({ "type": "start", "version": 1, "contact": contact, "streamId": "s", "perspective": "TX", "position": 0 });
            client.text(start).await;
            app.wait_for(SOON, |hearing| (hearing.connections_live == 1).then_some(())).await.unwrap();
        }
    }
}

#[tokio::test]
async fn shutdown_closes_every_connection() {
    let app = app(AssistSettings::default()).await;
    let mut clients = [Client::start(&app, "s1", 0).await, Client::start(&app, "s2", 0).await];
    app.wait_for(SOON, |hearing| (hearing.connections_live == 2).then_some(())).await.unwrap();
    let (url, stopping) = (app.url(), tokio::spawn(app.shutdown()));
    for client in &mut clients {
        assert_eq!(client.closed().await, Some(1001));
        // One more read answers the close frame.
        assert!(client.0.next().await.is_none());
    }
    stopping.await.unwrap();
    assert!(ClientBuilder::from_uri(url.parse().unwrap()).connect().await.is_err());
}
