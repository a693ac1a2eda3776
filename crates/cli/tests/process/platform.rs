//! `earpiece platform` as a process, and `earpiece serve` beside it: what the one prints is all that the other needs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::Instant;

use earpiece_simulator::platform::settings::{CLIENT_ID, CLIENT_SECRET};
use serde_json::{Value, json};

use crate::data;
use crate::serve::{PATIENCE, Serve, ended, program};

/// A running `earpiece platform`; killed when it is dropped.
pub(crate) struct Platform {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The line on standard output.
    pub(crate) line: String,
}

impl Platform {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = program();
        command.args(["platform", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let line = line.trim().to_owned();
        let address = match serde_json::from_str::<Value>(&line) {
            Ok(document) => document["listening"].as_str().expect("an address").to_owned(),
            Err(_) => line.strip_prefix("listening on ").expect("`listening on ADDR`").to_owned(),
        };
        Self { child, address: address.parse().expect("an address"), line }
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        ask(self.address, &format!("GET {path} HTTP/1.0\r\nhost: x\r\n\r\n"))
    }

    pub(crate) fn post(&self, path: &str, kind: &str, body: &str) -> Value {
        post(self.address, path, kind, body)
    }

    /// SIGTERM, and what it said on standard error until it was gone.
    async fn terminate(mut self) -> String {
        let status = ended(&mut self.child).await;
        assert!(status.success(), "{status}");
        let mut said = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        said
    }
}

/// One request, and the JSON of an answer that must be a good one.
fn ask(address: SocketAddr, request: &str) -> Value {
    let mut peer = TcpStream::connect(address).expect("it listens");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    peer.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).unwrap_or_default();
    assert!(status.starts_with('2'), "{request}: {head}");
    serde_json::from_str(body).expect("JSON")
}

/// One POST, and the JSON of its answer.
pub(crate) fn post(address: SocketAddr, path: &str, kind: &str, body: &str) -> Value {
    let length = body.len();
    ask(
        address,
        &format!("POST {path} HTTP/1.0\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"),
    )
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_tokens_keeps_what_it_got_and_ends_well() {
    let platform = Platform::start(&["--token-life", "5m"]);
    assert_eq!(platform.line, format!("listening on {}", platform.address));
    let form = format!("grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}");
    let token = platform.post("/oauth2/token", "application/x-www-form-urlencoded", &form);
    assert_eq!(token["expires_in"], 300, "its tokens live as long as it was told");
    assert!(token["access_token"].as_str().is_some_and(|token| !token.is_empty()));
    let received = platform.get("/_platform/received?kind=token");
    let records = received["records"].as_array().expect("records");
    assert_eq!(records.len(), 1, "{received}");
    assert_eq!((&records[0]["id"], &records[0]["status"]), (&json!(CLIENT_ID), &json!(200)));

    let address = platform.address;
    let said = platform.terminate().await;
    assert!(said.contains(&format!("  export EARPIECE_CXONE_API=http://{address}\n")), "{said}");
    assert!(said.contains(&format!("curl http://{address}/_platform/received")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_opens_all_three_sockets_with_nothing_but_what_it_prints() {
    let platform = Platform::start(&["--json"]);
    let document: Value = serde_json::from_str(&platform.line).expect("one JSON document on one line");
    let environment = document["environment"].as_object().expect("names and values");
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("text"))).collect();
    let data = data();
    let serve = Serve::start(data.path(), "127.0.0.1:0", &[], &environment);

    // Each wait ends with the record that it waits for; the limit is for a program that never opens them.
    let (begun, mut since, mut open) = (Instant::now(), 0, Vec::new());
    while open.len() < 3 {
        assert!(begun.elapsed() < PATIENCE, "only {open:?} were opened");
        let news = platform.get(&format!("/_platform/received?kind=opened&waitMs=5000&since={since}"));
        since = news["next"].as_u64().expect("a number");
        let records = news["records"].as_array().expect("records");
        open.extend(records.iter().filter(|record| record["status"] == 101).map(|record| record["id"].clone()));
    }
    open.sort_by_key(ToString::to_string);
    assert_eq!(open, [json!("insights"), json!("interactions"), json!("suggestions")]);

    let anger = json!({ "id": "77", "type": "sentiment", "sentiment": { "score": -0.9, "confidence": 0.8 } });
    let events = json!({ "socket": "interactions", "frames": [anger, anger] }).to_string();
    assert_eq!(platform.post("/_platform/events", "application/json", &events)["sent"], 2);
    let cards = platform.get("/_platform/received?kind=card&interaction=77&waitMs=30000");
    assert_eq!(cards["records"][0]["status"], 201, "{cards}");
    drop(serve);
    assert_eq!(platform.get("/_platform/interactions/77")["cards"][0]["times"], 1);
    assert_eq!(platform.get("/_platform/tally")["violations"], 0);
}

#[tokio::test]
async fn an_address_that_is_taken_is_said_so_with_another_way() {
    let platform = Platform::start(&[]);
    let listen = platform.address.to_string();
    let output = program().args(["platform", "--listen", &listen]).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&listen) && said.contains("--listen 127.0.0.1:0"), "{said}");
}
