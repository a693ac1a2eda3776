//! TLS on the listener.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use earpiece_shim::settings::{TLS_CERT, TLS_KEY};
use futures_util::SinkExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_websockets::Message;

use crate::stage::{House, contact, init, request_on, shake_on};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/house/tls").join(name)
}

async fn open() -> House {
    let (cert, key) = (file("server.pem"), file("server.key"));
    House::open(&[(TLS_CERT, cert.to_str().expect("Unicode")), (TLS_KEY, key.to_str().expect("Unicode"))]).await
}

async fn dial(house: &House) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let issuer = CertificateDer::from_pem_file(file("ca.pem")).expect("a certificate");
    roots.add(issuer).expect("an issuer");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(house.address).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a TLS handshake")
}

#[tokio::test]
async fn everything_on_the_listener_is_served_over_tls() {
    let house = open().await;
    let health = request_on(dial(&house).await, "GET", "/healthz", &[], b"").await;
    assert_eq!((health.status, health.body.as_str()), (200, "alive\n"));
    let (answer, mut socket) = shake_on(dial(&house).await, &init(contact(1), None)).await;
    assert_eq!(answer["command"], "CONNECTED", "{answer}");
    for _ in 0..50 {
        socket.send(Message::binary(vec![0x55; 160])).await.expect("a frame");
    }
    socket.close().await.expect("a close");
    let closed = |text: &str| text.contains(r#"earpiece_stream_closes_total{reason="peer_closed"} 1"#);
    let metrics = loop {
        let metrics = request_on(dial(&house).await, "GET", "/metrics", &[], b"").await.body;
        if closed(&metrics) {
            break metrics;
        }
    };
    assert!(metrics.contains("earpiece_audio_bytes_total 8000"), "{metrics}");
    house.close().await;
}

#[tokio::test]
async fn who_does_not_speak_tls_is_not_heard() {
    let house = open().await;
    let mut stream = TcpStream::connect(house.address).await.expect("a connection");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("a request");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let health = request_on(dial(&house).await, "GET", "/healthz", &[], b"").await;
    assert_eq!(health.status, 200, "others are served meanwhile");
}
