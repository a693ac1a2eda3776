//! Who may do what: every way in which a token can be wrong, at every door, with the answer that it gets there and the
//! count of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use earpiece_core::contact::ContactKey;
use earpiece_core::protocol::message::CONNECTED;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::app::App;
use super::caller::{Caller, HOOK, Socket, events_of, init, subscribe, utterance};
use super::keys::{AUDIENCE, ISSUER, Signer, claims, claims_in, hmac_token, now_s, unsigned};
use super::patient;
use crate::data;
use crate::serve::Serve;

/// Where a token is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// With an utterance.
    Text,
    /// With an event of a Studio script.
    Events,
    /// In the request for a WebSocket.
    Connect,
    /// In the init message through the WebSocket API.
    Init,
    /// With a page's wish to listen.
    Subscribe,
    /// In the init message on the shim's own socket.
    Audio,
}

impl Door {
    const ALL: [Self; 6] = [Self::Text, Self::Events, Self::Connect, Self::Init, Self::Subscribe, Self::Audio];

    /// The label under which refusals are counted.
    const fn label(self) -> &'static str {
        match self {
            Self::Text | Self::Events => "http",
            Self::Connect | Self::Init | Self::Subscribe => "websocket",
            Self::Audio => "shim",
        }
    }
}

/// What a caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    /// It may.
    Welcome,
    /// An HTTP status.
    Status(u16),
    /// An `ERROR`, and the code with which the socket was closed, if it was.
    Error(String, Option<u16>),
}

/// A token at the doors.
struct Case {
    /// The label of its refusal, or nothing when it is good.
    reason: Option<&'static str>,
    token: Option<String>,
    contact: ContactKey,
}

impl Case {
    fn refused(reason: &'static str, token: impl Into<String>) -> Self {
        Self { reason: Some(reason), token: Some(token.into()), contact: CONTACT }
    }

    fn good(token: impl Into<String>) -> Self {
        Self { reason: None, token: Some(token.into()), contact: CONTACT }
    }
}

const CONTACT: ContactKey = ContactKey { bus_no: 4_595_000, contact_id: 7 };

/// A server, and what has been refused at its doors.
struct House {
    serve: Serve,
    caller: Caller,
    refused: BTreeMap<(&'static str, &'static str), u64>,
    _data: tempfile::TempDir,
}

impl House {
    fn open(app: &App, environment: &[(&str, &str)]) -> Self {
        let data = data();
        let serve = Serve::start(data.path(), "127.0.0.1:0", &["--assist-text-url", &app.url], &patient(environment));
        let caller = Caller::of(serve.address);
        Self { serve, caller, refused: BTreeMap::new(), _data: data }
    }

    /// Presents every token at every door, all at once, and checks what each was told.
    async fn judge(&mut self, cases: &[Case]) {
        let knocks = cases.iter().flat_map(|case| Door::ALL.map(|door| (case, door)));
        let told = join_all(knocks.map(async |(case, door)| (case, door, self.knock(door, case).await))).await;
        for (case, door, told) in told {
            assert_eq!(told, wanted(door, case), "{:?} at {door:?}", case.reason);
            if let Some(reason) = case.reason {
                *self.refused.entry((door.label(), reason)).or_default() += 1;
            }
        }
    }

    async fn knock(&self, door: Door, case: &Case) -> Told {
        let (contact, token, address) = (case.contact, case.token.as_deref(), self.serve.address);
        let status = |(status, _)| if status == 200 { Told::Welcome } else { Told::Status(status) };
        match door {
            Door::Text => status(self.caller.post(HOOK, token, &utterance(contact, "hello")).await),
            Door::Events => {
                let event = json!({"event": "start"});
                status(self.caller.post(&events_of(contact), token, &event).await)
            }
            Door::Connect => match Socket::try_open(address, "/ws", token).await {
                Ok(socket) => shake(socket, &speaking(init(contact, None), "TX")).await,
                Err(status) => Told::Status(status),
            },
            Door::Init => {
                let init = speaking(init(contact, token), "RX");
                shake(Socket::open(address, "/ws").await, &init).await
            }
            Door::Subscribe => {
                let mut socket = Socket::open(address, "/ws").await;
                socket.say(&subscribe(contact, token)).await;
                // It may hear of the contact before it hears that it will.
                let answer =
                    socket.until(|answer| answer["type"] == "subscribed" || answer["command"] == "ERROR").await;
                if answer["type"] == "subscribed" { Told::Welcome } else { Told::Error(text_of(&answer), None) }
            }
            Door::Audio => {
                let init = speaking(init(contact, token), "MIX");
                shake(Socket::open(address, "/audio").await, &init).await
            }
        }
    }

    /// What was refused is what is counted, and nothing else is.
    async fn assert_all_is_counted(&self) {
        let metrics = self.caller.metrics().await;
        for ((door, reason), times) in &self.refused {
            let line = format!("earpiece_auth_refusals_total{{door=\"{door}\",reason=\"{reason}\"}} {times}");
            assert!(metrics.lines().any(|counted| counted == line), "{line} in\n{metrics}");
        }
        let counts = metrics.lines().filter(|line| line.starts_with("earpiece_auth_refusals_total{"));
        let counted: u64 = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        assert_eq!(counted, self.refused.values().sum::<u64>(), "{metrics}");
    }
}

/// The same init message for another perspective: a perspective has one stream, and all doors are tried at once.
fn speaking(mut init: Value, perspective: &str) -> Value {
    init["streamPerspective"] = json!(perspective);
    init
}

/// Says the init message, and hears what becomes of it.
async fn shake(mut socket: Socket, init: &Value) -> Told {
    socket.say(init).await;
    let answer = socket.hear().await;
    if answer == CONNECTED {
        return Told::Welcome;
    }
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    Told::Error(text_of(&answer), Some(socket.close_code().await))
}

fn text_of(answer: &Value) -> String {
    assert_eq!(answer["command"], "ERROR", "{answer}");
    answer["message"].as_str().expect("text").to_owned()
}

/// What a door answers: statuses and close codes by whose fault it is, texts that say how near a token came only to
/// those whose signature is good.
fn wanted(door: Door, case: &Case) -> Told {
    let Some(reason) = case.reason else { return Told::Welcome };
    let (status, text) = match reason {
        "missing" => (401, "a token is required"),
        "expired" => (401, "the token has expired"),
        "not_yet_valid" => (401, "the token is not valid yet"),
        "replayed" => (401, "the token has been used"),
        "scope" => (403, "the token is not good for this"),
        "foreign_contact" => (403, "the token is for another contact"),
        _ => (401, "the token is not accepted"),
    };
    // API Gateway closes with 1000 what is deleted; only the shim can say more.
    let error = |code| Told::Error(text.to_owned(), code);
    match (door, reason) {
        // Nobody knows at the door for which contact somebody comes, or whether a token comes later.
        (Door::Connect, "missing" | "foreign_contact") | (Door::Init, _) => error(Some(1000)),
        (Door::Text | Door::Events | Door::Connect, _) => Told::Status(status),
        (Door::Subscribe, _) => error(None),
        (Door::Audio, _) => error(Some(1008)),
    }
}

/// A business unit of its own for each: the shim answers those of one unit with growing pauses.
fn in_units_of_their_own(mut cases: Vec<Case>) -> Vec<Case> {
    for (case, bus_no) in cases.iter_mut().zip(CONTACT.bus_no..) {
        case.contact.bus_no = bus_no;
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_issuer_opens_every_door_or_is_refused_at_each_for_what_is_wrong_with_it() {
    let (signer, stranger) = (Signer::new("key-1"), Signer::new("key-1"));
    let unknown = Signer::new("key-2");
    let (app, publisher) = (App::start(), App::start());
    let keys = json!({"keys": [signer.jwk]});
    publisher.answers(200, keys.clone());
    let mut house = House::open(
        &app,
        &[
            ("EARPIECE_JWKS", &publisher.url),
            ("EARPIECE_JWT_ALGORITHM", "RS256"),
            ("EARPIECE_JWT_ISSUER", ISSUER),
            ("EARPIECE_JWT_AUDIENCE", AUDIENCE),
        ],
    );
    let (past, future) = (now_s() - 600, now_s() + 600);
    let good = json!({});
    let none = unsigned(&json!({"alg": "none", "kid": signer.kid}), &claims(&good));
    let public_modulus = signer.jwk["n"].as_str().expect("text");
    let cases = in_units_of_their_own(vec![
        Case::good(signer.token(&good)),
        Case { token: None, ..Case::refused("missing", "") },
        Case::refused("wrong", "a-guess"),
        Case::refused("malformed", "a.b.c"),
        Case::refused("expired", signer.token(&json!({"exp": past}))),
        Case::refused("not_yet_valid", signer.token(&json!({"nbf": future}))),
        Case::refused("audience", signer.token(&json!({"aud": "others"}))),
        Case::refused("issuer", signer.token(&json!({"iss": "https://other.example.com"}))),
        Case::refused("algorithm", format!("{none}.")),
        Case::refused("algorithm", hmac_token(&signer.kid, &keys.to_string(), &claims(&good))),
        Case::refused("algorithm", hmac_token(&signer.kid, public_modulus, &claims(&good))),
        Case::refused("signature", stranger.token(&good)),
        Case::refused("unknown_key", unknown.token(&good)),
        Case::refused("scope", signer.token(&json!({"scope": "openid"}))),
        Case::refused("foreign_contact", signer.token(&json!({"busNo": 1}))),
        Case::refused("foreign_contact", signer.token(&json!({"busNo": 1, "contactId": CONTACT.contact_id}))),
    ]);
    house.judge(&cases).await;

    // The right business unit, and another contact of it; and the right one.
    let contact = ContactKey { bus_no: 77, contact_id: 1 };
    let bound = |contact_id: u64| signer.token(&json!({"busNo": contact.bus_no, "contactId": contact_id}));
    let bound =
        [Case { contact, ..Case::refused("foreign_contact", bound(2)) }, Case { contact, ..Case::good(bound(1)) }];
    house.judge(&bound).await;

    // Used once at one door, it is used up at all of them.
    let contact = ContactKey { bus_no: 78, contact_id: 1 };
    let once = signer.token(&json!({"oneTime": true, "jti": "once"}));
    let case = Case { contact, ..Case::good(once.clone()) };
    assert_eq!(house.knock(Door::Audio, &case).await, Told::Welcome);
    house.judge(&[Case { contact, ..Case::refused("replayed", once) }]).await;
    house.assert_all_is_counted().await;
}

const CLIENT: (&str, &str) = ("studio", "a secret of a client that nobody guesses");

/// A token of our own token endpoint.
async fn issued(caller: &Caller, wishes: &str) -> String {
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", CLIENT.0, CLIENT.1)));
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("authorization", &basic)];
    let form = format!("grant_type=client_credentials{wishes}");
    let answer = caller.send(Method::POST, "/oauth/token", &headers, form).await;
    assert_eq!(answer.status(), 200, "{:?}", answer.body());
    let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
    body["access_token"].as_str().expect("a token").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_our_own_endpoint_opens_every_door_for_what_was_asked_and_no_other() {
    let digest = Sha256::digest(CLIENT.1).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let scope = "utterances events audio listen";
    let clients = json!([{"id": CLIENT.0, "secretSha256": [digest], "scope": scope}]).to_string();
    let app = App::start();
    let environment = [
        ("EARPIECE_TOKEN_CLIENTS", clients.as_str()),
        ("EARPIECE_JWKS", "table"),
        ("EARPIECE_JWT_ISSUER", ISSUER),
        ("EARPIECE_JWT_AUDIENCE", AUDIENCE),
    ];
    let mut house = House::open(&app, &environment);
    let caller = house.caller.clone();
    let good = issued(&caller, "").await;
    let keys = caller.send(Method::GET, "/.well-known/jwks.json", &[], "").await;
    let keys: Value = serde_json::from_slice(keys.body()).expect("JSON");
    let (kid, x) = (keys["keys"][0]["kid"].as_str().expect("an id"), keys["keys"][0]["x"].as_str().expect("a point"));

    // What somebody makes of a good token who has no key.
    let (head, signed) = good.split_once('.').expect("a JWT");
    let signature = signed.split_once('.').expect("a JWT").1;
    let mut more = claims_in(&good);
    more["exp"] = json!(now_s() + 86_400);
    let longer = unsigned(&json!({}), &more);
    let longer = longer.split_once('.').expect("claims").1;
    let none = unsigned(&json!({"alg": "none", "kid": kid}), &more);
    let foreign = Signer::new(kid);
    let foreign_contact = issued(&caller, &format!("&bus_no={}&contact_id=8", CONTACT.bus_no)).await;
    let foreign_unit = issued(&caller, "&bus_no=1&contact_id=7").await;
    let cases = vec![
        Case::refused("foreign_contact", foreign_contact),
        Case::good(good.clone()),
        Case::refused("foreign_contact", foreign_unit),
        Case::refused("signature", format!("{head}.{longer}.{signature}")),
        Case::refused("algorithm", format!("{none}.")),
        Case::refused("algorithm", hmac_token(kid, x, &more)),
        Case::refused("algorithm", foreign.token(&json!({}))),
        Case::refused("wrong", CLIENT.1),
        Case { token: None, ..Case::refused("missing", "") },
    ];
    house.judge(&in_units_of_their_own(cases)).await;

    let contact = ContactKey { bus_no: 77, contact_id: 1 };
    let once = issued(&caller, "&bus_no=77&contact_id=1&one_time=true").await;
    assert_eq!(house.knock(Door::Text, &Case { contact, ..Case::good(once.clone()) }).await, Told::Welcome);
    house.judge(&[Case { contact, ..Case::refused("replayed", once) }]).await;

    // A client that does not know its secret gets nothing, and is counted with the others.
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let form = format!("grant_type=client_credentials&client_id={}&client_secret=a-guess", CLIENT.0);
    let answer = caller.send(Method::POST, "/oauth/token", &headers, form).await;
    let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
    assert_eq!((answer.status().as_u16(), &body["error"]), (401, &json!("invalid_client")));
    *house.refused.entry(("http", "wrong")).or_default() += 1;
    house.assert_all_is_counted().await;
}
