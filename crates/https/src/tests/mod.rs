//! Against real servers on this machine, plain and with TLS.

#[cfg(feature = "aws")]
mod aws;
mod client;
mod server;
mod trust;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::client::{Client, Limits};
use crate::server::Tls;
use crate::trust::Trust;

const LIMITS: Limits = Limits { deadline: Duration::from_secs(10), answer_bytes_max: 1000 };

/// What a server of these tests does with a connection after its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Waits for the next request.
    Goes,
    /// Closes.
    Closes,
}

/// A server that answers every request with the same bytes, and counts its connections.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: impl Into<Vec<u8>>, then: Then) -> Self {
        Self::with(answer.into(), then, None).await
    }

    async fn with(answer: Vec<u8>, then: Then, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, answer) = (Arc::clone(&connections), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let (answer, tls) = (Arc::clone(&answer), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => converse(stream, &answer, then).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, &answer, then).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8], then: Then) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() || then == Then::Closes {
            return;
        }
    }
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

fn client() -> Client {
    Client::new(&Trust::public()).unwrap()
}

/// An authority of our own, that signs certificates for `localhost`.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key in PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn identity(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn client(&self) -> Client {
        Client::new(&Trust::public().with_pem(self.pem().as_bytes()).unwrap()).unwrap()
    }
}

/// A folder with the two files of a TLS server.
struct Files {
    folder: TempDir,
}

impl Files {
    fn with(identity: &Identity) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.write(identity);
        files
    }

    fn write(&self, identity: &Identity) {
        std::fs::write(self.certificates(), &identity.certificate).unwrap();
        std::fs::write(self.key(), &identity.key).unwrap();
    }

    fn certificates(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("tls.key")
    }

    fn open(&self) -> Tls {
        Tls::open(&self.certificates(), &self.key()).unwrap()
    }
}
