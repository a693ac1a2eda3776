//! The JWT part of the configuration.

use earpiece_core::config::{EmptyEnv, Overlay, Reader, Setting};
use earpiece_https::{Client, Trust};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::settings::{ALGORITHM, ALL, AUDIENCE, ISSUER, JWKS, LEEWAY, ONE_TIME, SECRET as SECRET_SETTING, jwt};

fn client() -> Client {
    Client::new(&Trust::public()).unwrap()
}

fn read(values: &[(&Setting, &str)], is_bare: bool) -> (Option<Jwt>, Vec<String>) {
    let overlay = |env: Overlay<EmptyEnv>, (setting, value): &(&Setting, &str)| env.with(setting, *value);
    let env = values.iter().fold(Overlay::over(EmptyEnv), overlay);
    let mut reader = Reader::new(&env);
    let client = (!is_bare).then(client);
    let table = (!is_bare).then(|| constant(public_keys()));
    let jwt = jwt(&mut reader, client.as_ref(), table);
    (jwt, reader.finish().map_or_else(|faults| faults.lines().to_vec(), |()| Vec::new()))
}

#[test]
fn without_keys_there_are_no_jwts_and_no_faults() {
    for values in [&[][..], &[(&ISSUER, "https://issuer"), (&AUDIENCE, "earpiece")]] {
        let (jwt, faults) = read(values, true);
        assert!(jwt.is_none() && faults.is_empty(), "{faults:?}");
    }
}

#[tokio::test]
async fn each_source_of_keys_can_be_configured() {
    let parties = [(&ISSUER, "https://issuer"), (&AUDIENCE, "earpiece")];
    for (signer, values) in
        [(Signer::Hs, vec![(&ALGORITHM, "HS256"), (&SECRET_SETTING, SECRET)]), (Signer::Es, vec![(&JWKS, "table")])]
    {
        let (jwt, faults) = read(&[&parties[..], &values].concat(), false);
        assert_eq!(faults, Vec::<String>::new());
        let guard = Guard::new(Verifier::new([]), jwt);
        assert!(judged(&guard, &signer.token(&json!({}))).await.is_ok());
        assert_eq!(judged(&guard, &signer.token(&json!({"exp": NOW_S - 30}))).await, Err(Refusal::Expired));
        assert_eq!(judged(&guard, &signer.token(&json!({"aud": "x"}))).await, Err(Refusal::Audience));
        assert_eq!(judged(&guard, &signer.token(&json!({"iss": "x"}))).await, Err(Refusal::Issuer));
    }
}

#[tokio::test]
async fn keys_are_fetched_from_an_address_and_a_redirect_is_no_key_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/keys?tenant=x", listener.local_addr().unwrap());
    let values = [(&JWKS, address.as_str()), (&ISSUER, "https://issuer"), (&AUDIENCE, "earpiece")];
    let keys = public_keys();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{keys}", keys.len());
    let redirect =
        format!("HTTP/1.1 302 Found\r\nlocation: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    for (answer, is_accepted) in [(answer, true), (redirect, false)] {
        let (jwt, faults) = read(&values, false);
        assert_eq!(faults, Vec::<String>::new());
        let guard = Guard::new(Verifier::new([]), jwt);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let ((), head) = tokio::join!(guard.warm(), serve);
        assert!(head.starts_with("GET /keys?tenant=x HTTP/1.1\r\n"), "{head}");
        let outcome = judged(&guard, &Signer::Es.token(&json!({}))).await;
        assert_eq!(outcome.err(), (!is_accepted).then_some(Refusal::KeysUnavailable));
    }
}

#[test]
fn every_combination_that_cannot_work_is_a_fault_that_names_its_setting() {
    let parties = [(&ISSUER, "https://issuer"), (&AUDIENCE, "earpiece")];
    for (values, expected) in [
        (vec![(&ALGORITHM, "none")], "EARPIECE_JWT_ALGORITHM must be"),
        (vec![(&ALGORITHM, "HS256")], "EARPIECE_JWT_SECRET must be set"),
        (vec![(&ALGORITHM, "HS256"), (&SECRET_SETTING, "hunter2")], "EARPIECE_JWT_SECRET must have at least 32"),
        (vec![(&ALGORITHM, "HS256"), (&SECRET_SETTING, SECRET), (&JWKS, "table")], "EARPIECE_JWKS has no meaning"),
        (vec![(&SECRET_SETTING, SECRET)], "EARPIECE_JWT_SECRET has no meaning"),
        (vec![(&ALGORITHM, "RS256")], "EARPIECE_JWKS must be set"),
        (vec![(&ALGORITHM, "RS256"), (&JWKS, "table")], "EARPIECE_JWKS must be an address"),
        (vec![(&JWKS, "http://issuer/keys")], "EARPIECE_JWKS must be table or an address"),
        (vec![(&JWKS, "http://127.0.0.1.issuer/keys")], "EARPIECE_JWKS must be table or an address"),
        (vec![(&JWKS, "/keys")], "EARPIECE_JWKS must be table or an address"),
        (vec![(&JWKS, "table"), (&LEEWAY, "6m")], "EARPIECE_JWT_LEEWAY must be"),
        (vec![(&JWKS, "table"), (&ONE_TIME, "yes")], "EARPIECE_JWT_ONE_TIME must be"),
    ] {
        let (_, faults) = read(&[&parties[..], &values].concat(), false);
        assert_eq!(faults.len(), 1, "{expected}: {faults:?}");
        assert!(faults[0].starts_with(expected), "{expected}: {faults:?}");
        assert!(!faults[0].contains(SECRET) && !faults[0].contains("hunter2"), "{faults:?}");
    }
}

#[test]
fn keys_of_a_public_issuer_need_an_issuer_and_an_audience() {
    let (_, faults) = read(&[(&JWKS, "https://issuer/keys")], false);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("EARPIECE_JWT_ISSUER") && faults[1].starts_with("EARPIECE_JWT_AUDIENCE"));
}

#[test]
fn a_door_without_a_table_or_a_client_cannot_be_configured_to_use_it() {
    let parties = [(&ISSUER, "https://issuer"), (&AUDIENCE, "earpiece")];
    for place in ["table", "https://issuer/keys"] {
        let (jwt, faults) = read(&[&parties[..], &[(&JWKS, place)]].concat(), true);
        assert!(jwt.is_none() && faults.len() == 1, "{faults:?}");
    }
}

#[test]
fn only_the_shared_secret_is_a_secret() {
    for setting in ALL {
        assert_eq!(setting.secret, setting == SECRET_SETTING, "{}", setting.name);
    }
}
