//! Nothing that is secret or said is in what the server prints or counts at its most talkative, and no token in what it
//! keeps, whichever door it came through and however that ended.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use earpiece_core::protocol::message::CONNECTED;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::PATIENT;
use super::app::App;
use super::caller::{Caller, HOOK, Socket, events_of, init, recorded, said, subscribe, utterance};
use super::keys::{AUDIENCE, ISSUER};
use crate::serve::{PATIENCE, program};
use crate::{CONTACT, data};

/// Stands in everything that must not be seen.
const MARKER: &str = "marker-";
/// And in everything that must not be kept, either.
const TOKEN_MARKER: &str = "marker-token";

const TOKEN: &str = "marker-token-right";
const WRONG: &str = "marker-token-wrong";
const CLIENT_SECRET: &str = "marker-token-secret-of-a-client";

const PAUSE: Duration = Duration::from_millis(20);

/// A server whose every word, to either stream, can be read when it is over.
struct Listened {
    child: Child,
    address: SocketAddr,
}

impl Listened {
    fn start(data: &Path, words: &Path, assist_text_url: &str) -> Self {
        let digest = Sha256::digest(CLIENT_SECRET).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let clients = json!([{"id": "studio", "secretSha256": [digest], "scope": "utterances events audio listen"}]);
        let write = |name: &str| Stdio::from(File::create(words.join(name)).expect("a file"));
        let mut command = program();
        command.args(["serve", "--listen", "127.0.0.1:0", "--quiet-period", "1s", "--data"]).arg(data);
        command.envs(PATIENT).env("EARPIECE_LOG", "trace");
        command.env("EARPIECE_AUDIO_TOKENS", TOKEN).env("EARPIECE_INGEST_TOKENS", TOKEN);
        command.env("EARPIECE_ASSIST_TEXT_URL", assist_text_url);
        command.env("EARPIECE_ASSIST_TEXT_AUTHORIZATION", "Bearer marker-token-of-the-app");
        command.env("EARPIECE_TOKEN_CLIENTS", clients.to_string());
        command.env("EARPIECE_JWT_ISSUER", ISSUER).env("EARPIECE_JWT_AUDIENCE", AUDIENCE);
        let mut child = command.stdout(write("stdout")).stderr(write("stderr")).spawn().expect("the program starts");
        let begun = Instant::now();
        loop {
            let said = std::fs::read_to_string(words.join("stdout")).expect("text");
            if let Some(line) = said.strip_suffix('\n') {
                let address = line.strip_prefix("listening on ").expect("its address").parse().expect("an address");
                return Self { child, address };
            }
            let is_gone = child.try_wait().expect("a child").is_some();
            assert!(!is_gone && begun.elapsed() < PATIENCE, "it never listened");
            std::thread::sleep(PAUSE);
        }
    }

    async fn terminate(&mut self) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill");
        assert!(killed.success());
        let begun = Instant::now();
        while self.child.try_wait().expect("a child").is_none() {
            assert!(begun.elapsed() < PATIENCE, "it never ended");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Listened {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every HTTP door, with tokens in header, body and query, right and wrong.
async fn over_http(caller: &Caller, app: &App) {
    let query = |path: &str| format!("{path}?token={WRONG}&q=marker-query");
    let in_body = |token: &str, words: &str| {
        let mut body = utterance(CONTACT, words);
        body["authorizationHeader"] = json!(format!("Bearer {token}"));
        body["messageData"] = json!({"marker-data": "marker-data"});
        body["agentAssistAppConfig"] = json!({"marker-config": 1});
        body
    };
    app.answers(200, json!({"events": [{"type": "suggestion", "text": "marker-answer"}], "marker-answer": 1}));
    assert_eq!(caller.post(&query(HOOK), Some(TOKEN), &utterance(CONTACT, "marker-words")).await.0, 200);
    assert_eq!(caller.post(&query(HOOK), None, &in_body(TOKEN, "marker-words-2")).await.0, 200);
    assert_eq!(caller.post(&query(HOOK), Some(WRONG), &utterance(CONTACT, "marker-words")).await.0, 401);
    assert_eq!(caller.post(&query(HOOK), None, &in_body(WRONG, "marker-words")).await.0, 401);
    let mut unreadable = in_body(TOKEN, "marker-words");
    unreadable["participantId"] = json!("marker-participant");
    assert_eq!(caller.post(HOOK, Some(TOKEN), &unreadable).await.0, 400);
    for status in [500, 400, 302] {
        app.answers(status, json!({"error": "marker-answer"}));
        assert_eq!(caller.post(HOOK, Some(TOKEN), &utterance(CONTACT, &format!("marker-{status}"))).await.0, 200);
    }
    app.answers(200, json!("marker-answer"));

    let events = query(&events_of(CONTACT));
    assert_eq!(caller.post(&events, Some(TOKEN), &json!({"event": "start", "x": "marker-extra"})).await.0, 200);
    assert_eq!(caller.post(&events, Some(TOKEN), &json!({"event": "marker-event"})).await.0, 400);
    assert_eq!(caller.post(&events, Some(WRONG), &json!({"event": "start"})).await.0, 401);

    let example = "/agent_assist_audio_websocket_hooks/custom-assist-endpoint/initialize-audio-message-example";
    assert_eq!(caller.post(&query(example), None, &init(CONTACT, Some(WRONG))).await.0, 200);
    for path in ["/ingest", "/ingest/end", "/marker-path", "/oauth/token"] {
        for token in [TOKEN, WRONG] {
            caller.post(&query(path), Some(token), &json!({"marker-body": 1})).await;
        }
    }
}

/// The token endpoint: a token, and refusals. What it issues is no secret that a marker could be put in.
async fn issued(caller: &Caller) -> String {
    let form = "application/x-www-form-urlencoded";
    let ask = async |secret: &str, in_header: bool| {
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("studio:{secret}")));
        let mut headers = vec![("content-type", form)];
        let mut body = "grant_type=client_credentials".to_owned();
        if in_header {
            headers.push(("authorization", &basic));
        } else {
            body = format!("{body}&client_id=studio&client_secret={secret}");
        }
        let answer = caller.send(Method::POST, "/oauth/token?q=marker-query", &headers, body).await;
        let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
        (answer.status().as_u16(), body["access_token"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ask(WRONG, true).await.0, 401);
    assert_eq!(ask(WRONG, false).await.0, 401);
    assert_eq!(ask(CLIENT_SECRET, false).await.0, 200);
    let (status, token) = ask(CLIENT_SECRET, true).await;
    assert_eq!(status, 200);
    token
}

/// Both kinds of sockets.
async fn over_sockets(address: SocketAddr, issued: &str) {
    for path in ["/ws", "/audio"] {
        let query = |token: &str| format!("{path}?access_token={token}&q=marker-query");
        let mut call = Socket::open(address, &query(TOKEN)).await;
        let mut message = init(CONTACT, Some(issued));
        message["appParams"] = json!({"marker-params": "marker-params"});
        message["marker-unknown"] = json!("marker-unknown");
        call.say(&message).await;
        assert_eq!(call.hear().await, CONNECTED, "{path}");
        if path == "/ws" {
            call.speak(&said(0, 800)).await;
            assert_eq!(call.hear_json().await["message"], "AUDIO ACCEPTED");
        } else {
            call.binary(said(0, 800)).await;
        }
        call.close().await;
    }
    assert_eq!(Socket::try_open(address, "/ws", Some(WRONG)).await.err(), Some(401));
    for path in ["/ws", "/audio"] {
        for message in
            [init(CONTACT, Some(WRONG)), json!({"executionInfo": "marker-broken", "authenticationToken": WRONG})]
        {
            let mut socket = Socket::open(address, &format!("{path}?q=marker-query")).await;
            socket.say(&message).await;
            assert_eq!(socket.hear_json().await["command"], "ERROR", "{path}");
            socket.close_code().await;
        }
    }
    let mut page = Socket::open(address, "/ws").await;
    for (token, command) in [(WRONG, "ERROR"), (issued, "")] {
        page.say(&subscribe(CONTACT, Some(token))).await;
        let answer = page.until(|answer| answer["command"] == "ERROR" || answer["type"] == "subscribed").await;
        assert_eq!(answer["command"].as_str().unwrap_or_default(), command);
    }
    page.say(&json!({"action": "marker-action", "text": "marker-text"})).await;
    assert_eq!(page.hear_json().await["command"], "ERROR");
}

/// A text as it stands in a file: as it is, and within base64, which is how the state keeps bytes. Where in a group of
/// three bytes the text begins decides on the digits; those that depend on its neighbours are left out.
fn forms_of(text: &str) -> Vec<Vec<u8>> {
    let within = |before: usize| {
        let digits = BASE64_STANDARD_NO_PAD.encode([" ".repeat(before).as_str(), text].concat());
        let (begin, end) = ((before * 8).div_ceil(6), (before + text.len()) * 8 / 6);
        digits.as_bytes()[begin..end].to_vec()
    };
    [vec![text.as_bytes().to_vec()], (0..3).map(within).collect()].concat()
}

/// Where in a folder something stands, in whatever form.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let forms = forms_of(text);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file");
        let has = |form: &Vec<u8>| bytes.windows(form.len()).any(|window| window == form);
        if forms.iter().any(has) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_door_tells_or_counts_what_is_secret_or_said_nor_keeps_a_token() {
    let (data, words, app) = (data(), data(), App::start());
    let assist_text_url = format!("{}text?key=marker-token-in-the-url", app.url);
    let mut server = Listened::start(data.path(), words.path(), &assist_text_url);
    let caller = Caller::of(server.address);
    let token = issued(&caller).await;
    let mut page = Socket::try_open(server.address, "/ws", Some(&token)).await.expect("a page");
    page.say(&subscribe(CONTACT, None)).await;
    assert_eq!(page.hear_json().await["type"], "subscribed");
    over_http(&caller, &app).await;
    let told = page.until(|event| event["type"] == "app").await;
    assert_eq!(told["body"]["text"], "marker-answer", "what must not be seen did go through");
    over_sockets(server.address, &token).await;
    let (_, audio) = recorded(data.path(), CONTACT).await;
    assert_eq!(audio, [said(0, 800), said(0, 800)]);

    let metrics = caller.metrics().await;
    server.terminate().await;
    let said = ["stdout", "stderr"].map(|name| std::fs::read_to_string(words.path().join(name)).expect("text"));
    for line in ["utterance accepted", "contact event", "stream opened", "token issued", "refused"] {
        assert!(said[1].contains(line), "it was listened to: {line} in\n{}", said[1]);
    }
    // The second part of a JWT is what it says, the third is what makes it good.
    let basic = BASE64_STANDARD.encode(format!("studio:{CLIENT_SECRET}"));
    let tokens: Vec<&str> = token.split('.').skip(1).chain([basic.as_str()]).collect();
    for text in said.iter().chain([&metrics]) {
        for secret in tokens.iter().copied().chain([MARKER]) {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret}");
        }
    }
    for secret in tokens.into_iter().chain([TOKEN_MARKER]) {
        assert_eq!(files_with(data.path(), secret), [""; 0], "{secret}");
    }
    assert!(
        !files_with(data.path(), "marker-").is_empty(),
        "what was said is kept, so it is looked for in the right place"
    );
}
