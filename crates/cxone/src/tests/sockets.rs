//! The three sockets against a server that does exactly one thing wrong.

use std::sync::Arc;
use std::time::Duration;

use earpiece_core::secret::Private;
use earpiece_https::Trust;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_websockets::{CloseCode, Message, ServerBuilder, WebSocketStream};

use super::fake::{Fake, token};
use super::{TestEnv, connect, try_connect_trusting, with_client, within_patience};
use crate::settings;
use crate::{Closed, Cxone, CxoneError, Socket, Uplink};

type Peer = WebSocketStream<TcpStream>;

/// CXone's side: tokens over HTTP, sockets by hand.
struct Platform {
    tokens: Fake,
    sockets: TcpListener,
}

impl Platform {
    async fn start() -> Self {
        let tokens = Fake::answering(|asked| token(&format!("t{}", asked.turn))).await;
        Self { tokens, sockets: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn environment(&self) -> TestEnv {
        let sockets = self.sockets.local_addr().unwrap();
        with_client(&self.tokens.address)
            .with(&settings::SUGGESTIONS_URL, format!("ws://{sockets}/ws/v1"))
            .with(&settings::INSIGHTS_URL, format!("ws://{sockets}/stream?tenant=7"))
            .with(&settings::INTERACTIONS_URL, format!("ws://{sockets}/interactions"))
    }

    async fn cxone(&self) -> Cxone {
        connect(&self.environment()).await
    }

    /// The next socket, and the address that it was opened with.
    async fn accept(&self) -> (String, Peer) {
        let (stream, _) = within_patience(self.sockets.accept()).await.unwrap();
        let (request, peer) = ServerBuilder::new().accept(stream).await.unwrap();
        (request.uri().to_string(), peer)
    }

    /// Answers the next upgrade with a status, and returns the head of its request.
    async fn refuse(&self, status: u16) -> String {
        let (mut stream, _) = within_patience(self.sockets.accept()).await.unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|window| window == b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    }

    /// An open insight stream, both ends of it.
    async fn stream(&self, env: &TestEnv) -> (Socket, Peer) {
        let cxone = connect(env).await;
        let (socket, (_, peer)) = tokio::join!(cxone.open(Uplink::Insights), self.accept());
        (socket.unwrap(), peer)
    }
}

async fn text_of(peer: &mut Peer) -> String {
    let message = within_patience(peer.next()).await.unwrap().unwrap();
    message.as_text().expect("text").to_owned()
}

fn private(text: &str) -> Private<String> {
    Private::new(text.to_owned())
}

#[tokio::test]
async fn nothing_is_sent_before_auth_success() {
    let platform = Platform::start().await;
    // Not even a ping, however short its pause.
    let cxone = connect(&platform.environment().with(&settings::PING, "10ms")).await;
    let opening = tokio::spawn(async move { cxone.open(Uplink::Suggestions).await });
    let (address, mut peer) = platform.accept().await;
    assert_eq!(address, "/ws/v1");
    assert_eq!(text_of(&mut peer).await, r#"{"type":"auth","token":"t0"}"#);
    let early = tokio::time::timeout(Duration::from_millis(100), peer.next()).await;
    assert!(early.is_err() && !opening.is_finished(), "{early:?}");
    peer.send(Message::text(r#"{"type":"welcome"}"#)).await.unwrap();
    peer.send(Message::text(r#"{"type":"auth.success"}"#)).await.unwrap();
    let mut socket = within_patience(opening).await.unwrap().unwrap();
    socket.send(&private(r#"{"type":"agentassist.suggest"}"#)).await.unwrap();
    assert_eq!(text_of(&mut peer).await, r#"{"type":"agentassist.suggest"}"#);
}

#[tokio::test]
async fn auth_failure_is_unauthorized_and_not_tried_again() {
    let platform = Platform::start().await;
    let cxone = platform.cxone().await;
    let peer = async {
        let (_, mut peer) = platform.accept().await;
        text_of(&mut peer).await;
        peer.send(Message::text(r#"{"type":"auth.failure","message":"t0 is bad"}"#)).await.unwrap();
        peer
    };
    let (opened, _peer) = tokio::join!(cxone.open(Uplink::Suggestions), peer);
    assert_eq!(opened.err(), Some(CxoneError::Unauthorized));
    assert_eq!(platform.tokens.asked("/oauth2/token").len(), 1);
}

#[tokio::test]
async fn a_socket_that_closes_instead_of_judging_the_token_is_unavailable() {
    let platform = Platform::start().await;
    let cxone = platform.cxone().await;
    let (opened, ()) = tokio::join!(cxone.open(Uplink::Suggestions), async { drop(platform.accept().await) });
    assert_eq!(opened.err(), Some(CxoneError::Unavailable { retry_after: None }));
}

#[tokio::test]
async fn the_streams_carry_a_new_token_in_their_query_for_each_connection() {
    let platform = Platform::start().await;
    let cxone = platform.cxone().await;
    for (uplink, expected) in [
        (Uplink::Insights, "/stream?tenant=7&access_token=t0"),
        (Uplink::Interactions, "/interactions?access_token=t1"),
        (Uplink::Insights, "/stream?tenant=7&access_token=t2"),
    ] {
        let (opened, (address, _peer)) = tokio::join!(cxone.open(uplink), platform.accept());
        opened.unwrap();
        assert_eq!(address, expected);
    }
}

#[tokio::test]
async fn a_401_to_the_upgrade_is_tried_once_more_with_another_token() {
    let platform = Platform::start().await;
    let cxone = platform.cxone().await;
    let peer = async {
        assert!(platform.refuse(401).await.contains("access_token=t0"));
        platform.accept().await
    };
    let (opened, (address, _peer)) = tokio::join!(cxone.open(Uplink::Interactions), peer);
    opened.unwrap();
    assert_eq!(address, "/interactions?access_token=t1");

    let peer = async { (platform.refuse(401).await, platform.refuse(401).await) };
    let (opened, _) = tokio::join!(cxone.open(Uplink::Interactions), peer);
    assert_eq!(opened.err(), Some(CxoneError::Unauthorized));
}

#[tokio::test]
async fn other_answers_to_the_upgrade_say_what_they_say_over_http() {
    let platform = Platform::start().await;
    let cxone = platform.cxone().await;
    for (status, uplink, expected) in [
        (403, Uplink::Insights, CxoneError::Forbidden { scope: "agentassist:read" }),
        (403, Uplink::Interactions, CxoneError::Forbidden { scope: "interactions:read" }),
        (429, Uplink::Insights, CxoneError::RateLimited { retry_after: Duration::from_secs(5) }),
        (503, Uplink::Insights, CxoneError::Unavailable { retry_after: None }),
        (404, Uplink::Suggestions, CxoneError::Refused { status: 404 }),
    ] {
        let (opened, _) = tokio::join!(cxone.open(uplink), platform.refuse(status));
        assert_eq!(opened.err(), Some(expected), "{status}");
    }
}

/// A TLS server for `localhost`, with a certificate that only `trusted` believes.
fn tls() -> (TlsAcceptor, Trust) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let trusted = Trust::public().with_pem(cert.pem().as_bytes()).unwrap();
    (TlsAcceptor::from(Arc::new(config)), trusted)
}

#[tokio::test]
async fn wss_believes_whom_requests_believe_and_nobody_else() {
    let platform = Platform::start().await;
    let port = platform.sockets.local_addr().unwrap().port();
    let env = platform.environment().with(&settings::INSIGHTS_URL, format!("wss://localhost:{port}/stream"));
    let (acceptor, trusted) = tls();
    let accept = async || {
        let (stream, _) = within_patience(platform.sockets.accept()).await.unwrap();
        let stream = acceptor.accept(stream).await.ok()?;
        ServerBuilder::new().accept(stream).await.ok().map(|(_, mut peer)| async move {
            peer.send(Message::text("hello")).await.unwrap();
            peer
        })
    };

    let stranger = connect(&env).await;
    let (opened, accepted) = tokio::join!(stranger.open(Uplink::Insights), accept());
    assert_eq!(opened.err(), Some(CxoneError::Unavailable { retry_after: None }));
    assert!(accepted.is_none());

    let cxone = try_connect_trusting(&env, trusted).await.unwrap();
    let (opened, accepted) = tokio::join!(cxone.open(Uplink::Insights), accept());
    let _peer = accepted.unwrap().await;
    assert_eq!(within_patience(opened.unwrap().next()).await.unwrap().reveal(), "hello");
}

#[tokio::test]
async fn an_upgrade_that_never_ends_is_given_up() {
    let platform = Platform::start().await;
    let cxone = connect(&platform.environment().with(&settings::TIMEOUT, "100ms")).await;
    let opened = within_patience(cxone.open(Uplink::Insights)).await;
    assert_eq!(opened.err(), Some(CxoneError::Unavailable { retry_after: None }));
}

#[tokio::test]
async fn a_missing_tenant_name_is_told_by_its_setting() {
    let fake = Fake::answering(|_| token("t")).await;
    let env = with_client(&fake.address).with(&settings::INTERACTIONS_URL, settings::INTERACTIONS_URL.default);
    let Err(CxoneError::NotConfigured { problem }) = connect(&env).await.open(Uplink::Interactions).await else {
        panic!("it must not open")
    };
    assert!(problem.contains("EARPIECE_CXONE_ORG"), "{problem}");
}

#[tokio::test]
async fn pings_go_out_and_their_answers_keep_the_socket() {
    let platform = Platform::start().await;
    let env = platform.environment().with(&settings::PING, "20ms").with(&settings::PONG, "5s");
    let (mut socket, mut peer) = platform.stream(&env).await;
    let peer = async {
        for _ in 0..5 {
            assert!(within_patience(peer.next()).await.unwrap().unwrap().is_ping());
        }
        peer.send(Message::text("after five pings")).await.unwrap();
        peer
    };
    let (frame, _peer) = tokio::join!(within_patience(socket.next()), peer);
    assert_eq!(frame.unwrap().reveal(), "after five pings");
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_given_up_however_much_it_says() {
    let platform = Platform::start().await;
    let env = platform.environment().with(&settings::PING, "50ms").with(&settings::PONG, "100ms");
    let (mut socket, mut peer) = platform.stream(&env).await;
    let talking = tokio::spawn(async move { while peer.send(Message::text("still here")).await.is_ok() {} });
    let ended = async {
        loop {
            if let Err(ended) = socket.next().await {
                return ended;
            }
        }
    };
    assert_eq!(within_patience(ended).await, Closed { code: None });
    assert_eq!(socket.next().await.err(), Some(Closed { code: None }));
    assert_eq!(socket.send(&private("x")).await, Err(Closed { code: None }));
    drop(socket);
    within_patience(talking).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_stops_reading_ends_a_send_in_time() {
    let platform = Platform::start().await;
    let env = platform.environment().with(&settings::PONG, "200ms");
    let (mut socket, _peer) = platform.stream(&env).await;
    let large = private(&"x".repeat(1_000_000));
    let ended = async {
        loop {
            if let Err(ended) = socket.send(&large).await {
                return ended;
            }
        }
    };
    assert_eq!(within_patience(ended).await, Closed { code: None });
}

#[tokio::test]
async fn close_codes_are_told_and_an_end_without_one_is_1006() {
    let platform = Platform::start().await;
    for (code, expected) in [(Some(1011), 1011), (Some(1000), 1000), (Some(4401), 4401), (None, 1006)] {
        let (mut socket, mut peer) = platform.stream(&platform.environment()).await;
        peer.send(Message::text("last words")).await.unwrap();
        match code {
            Some(code) => {
                peer.send(Message::close(Some(CloseCode::try_from(code).unwrap()), "bye")).await.unwrap();
            }
            None => drop(peer),
        }
        assert_eq!(within_patience(socket.next()).await.unwrap().reveal(), "last words");
        let ended = Closed { code: Some(expected) };
        assert_eq!(within_patience(socket.next()).await.err(), Some(ended));
        assert_eq!(socket.send(&private("x")).await, Err(ended));
    }
}

#[tokio::test]
async fn a_socket_that_is_half_closed_is_closed() {
    let platform = Platform::start().await;
    let cxone = platform.cxone().await;
    let peer = async {
        let (_, mut peer) = platform.accept().await;
        peer.get_mut().shutdown().await.unwrap();
        peer
    };
    let (socket, _peer) = tokio::join!(cxone.open(Uplink::Insights), peer);
    assert_eq!(within_patience(socket.unwrap().next()).await.err(), Some(Closed { code: Some(1006) }));
}

#[tokio::test]
async fn frames_that_arrive_while_one_is_sent_are_read_afterwards_in_their_order() {
    let platform = Platform::start().await;
    let (mut socket, peer) = platform.stream(&platform.environment()).await;
    let (mut out, mut inward) = peer.split();
    let writing = tokio::spawn(async move {
        for number in 0..500 {
            out.send(Message::text(number.to_string())).await.unwrap();
        }
        out
    });
    let reading = tokio::spawn(async move {
        for _ in 0..20 {
            assert!(within_patience(inward.next()).await.unwrap().unwrap().is_text());
        }
    });
    for _ in 0..20 {
        within_patience(socket.send(&private(&"x".repeat(200_000)))).await.unwrap();
    }
    for number in 0..500 {
        assert_eq!(within_patience(socket.next()).await.unwrap().reveal(), &number.to_string());
    }
    reading.await.unwrap();
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn a_read_that_is_dropped_in_the_middle_of_a_frame_loses_nothing() {
    let platform = Platform::start().await;
    let (mut socket, mut peer) = platform.stream(&platform.environment()).await;
    // "hello" as a frame without a mask, byte by byte.
    for byte in [0x81_u8, 5, b'h', b'e', b'l', b'l'] {
        peer.get_mut().write_all(&[byte]).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(5), socket.next()).await.is_err());
    }
    peer.get_mut().write_all(b"o").await.unwrap();
    assert_eq!(within_patience(socket.next()).await.unwrap().reveal(), "hello");
}

#[tokio::test]
async fn an_orderly_end_says_goodbye() {
    let platform = Platform::start().await;
    let (socket, mut peer) = platform.stream(&platform.environment()).await;
    let peer = async {
        let message = within_patience(peer.next()).await.unwrap().unwrap();
        assert_eq!(message.as_close().map(|(code, _)| u16::from(code)), Some(1000));
        // Reading on sends the answer.
        assert!(within_patience(peer.next()).await.is_none());
    };
    let (is_answered, ()) = tokio::join!(within_patience(socket.close()), peer);
    assert!(is_answered);
}

#[tokio::test]
async fn an_end_that_nobody_answers_is_told_apart() {
    let platform = Platform::start().await;
    let (socket, peer) = platform.stream(&platform.environment()).await;
    drop(peer);
    assert!(!within_patience(socket.close()).await);
}
