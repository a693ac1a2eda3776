//! TLS on the listener: all doors behind one certificate, which is replaced while calls go on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use earpiece_core::contact::facts::CloseReason;
use earpiece_core::protocol::message::CONNECTED;
use earpiece_core::telemetry::TLS_RELOADS;
use earpiece_https::Trust;
use http::Method;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::app::App;
use super::caller::{Caller, HOOK, Socket, init, recorded, said, subscribe, utterance};
use super::patient;
use crate::serve::{PATIENCE, Serve};
use crate::{CONTACT, data};

/// How often it is looked at whether a certificate was taken.
const PAUSE: Duration = Duration::from_millis(50);

/// An authority of our own, that signs certificates for this machine.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    /// A certificate and its key in PEM.
    fn identity(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// Somebody who believes this authority, and no other, on a connection of its own.
    fn caller(&self, address: SocketAddr) -> Caller {
        let trust = Trust::public().with_pem(self.0.pem().as_bytes()).expect("a certificate");
        Caller::with(&trust, format!("https://{address}"))
    }

    async fn dial(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.0.pem().as_bytes()).expect("PEM")).expect("an authority");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(address).await.expect("it listens");
        let name = ServerName::from(address.ip());
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a TLS handshake")
    }
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn write(folder: &Path, (certificate, key): &(String, String)) -> Self {
        let files = Self { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
        std::fs::write(&files.certificate, certificate).expect("written");
        std::fs::write(&files.key, key).expect("written");
        files
    }
}

/// Waits until a handshake is answered with a certificate of this authority.
async fn serves(authority: &Authority, address: SocketAddr) {
    let served = async {
        while authority.caller(address).try_send(Method::GET, "/healthz", &[], "").await.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, served).await.expect("the new certificate in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_is_behind_tls_and_a_new_certificate_serves_without_disturbing_a_call() {
    let (old, new) = (Authority::new(), Authority::new());
    let (data, folder, app) = (data(), data(), App::start());
    let files = Files::write(folder.path(), &old.identity());
    let (certificate, key) = (files.certificate.to_str().expect("Unicode"), files.key.to_str().expect("Unicode"));
    let arguments =
        ["--tls-cert", certificate, "--tls-key", key, "--assist-text-url", &app.url, "--quiet-period", "1s"];
    // The caller of this test answers no ping while it waits.
    let serve = Serve::start(data.path(), "127.0.0.1:0", &arguments, &patient(&[("EARPIECE_DEAD", "5m")]));
    let address = serve.address;

    assert_eq!(old.caller(address).post(HOOK, None, &utterance(CONTACT, "hello")).await.0, 200);
    assert_eq!(app.taken().len(), 1);
    let url = format!("wss://{address}");
    let mut page = Socket::open_on(old.dial(address).await, &format!("{url}/ws"), None).await.expect("a socket");
    page.say(&subscribe(CONTACT, None)).await;
    assert_eq!(page.hear_json().await["type"], "subscribed");
    let mut call = Socket::open_on(old.dial(address).await, &format!("{url}/audio"), None).await.expect("a socket");
    call.say(&init(CONTACT, None)).await;
    assert_eq!(call.hear().await, CONNECTED);
    call.binary(said(0, 800)).await;

    // A new certificate, and not yet its key: the old pair goes on.
    let (certificate, key) = new.identity();
    std::fs::write(&files.certificate, certificate).expect("written");
    let kept_old = format!("{TLS_RELOADS}{{outcome=\"kept_old\"}} ");
    let noticed = async {
        let counts = |line: &str| line.strip_prefix(&kept_old).is_some_and(|times| times != "0");
        while !old.caller(address).metrics().await.lines().any(counts) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, noticed).await.expect("the broken pair is noticed in time");
    assert!(new.caller(address).try_send(Method::GET, "/healthz", &[], "").await.is_none());

    std::fs::write(&files.key, key).expect("written");
    serves(&new, address).await;
    assert!(old.caller(address).try_send(Method::GET, "/healthz", &[], "").await.is_none(), "the old one is gone");
    assert_eq!(new.caller(address).post(HOOK, None, &utterance(CONTACT, "hello again")).await.0, 200);

    // Whoever came under the old one goes on talking, and listening.
    call.binary(said(1, 800)).await;
    call.close().await;
    let closed = page.until(|event| event["type"] == "streamClosed").await;
    assert_eq!(closed["samples"], json!(1_600));
    let (ledger, audio) = recorded(data.path(), CONTACT).await;
    assert_eq!(audio, [[said(0, 800), said(1, 800)].concat()]);
    assert_eq!(ledger.streams[0].closed.map(|closed| closed.reason), Some(CloseReason::PeerClosed));
}
