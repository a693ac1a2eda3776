//! TLS for our own listeners: a certificate and a key from two files, which are looked at again while they serve.
//!
//! Whatever renews certificates writes the files when it likes, one after the other, and may write nonsense. A pair is
//! taken only when both can be read and belong together; until then the old one goes on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// A handshake takes no longer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Neither file is larger.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The one protocol that is spoken behind it. Whoever offers none gets the same.
const PROTOCOL: &[u8] = b"http/1.1";

/// The server's side of TLS. Clones serve the same certificate.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    certificates: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
    /// Held by whoever looks at the files.
    seen: Mutex<Seen>,
    taken: AtomicU64,
    kept_old: AtomicU64,
}

/// What was last found in the files.
struct Seen {
    /// The pair that serves.
    serving: Pair,
    /// A problem that was reported; the same one is not reported again.
    reported: Option<String>,
}

/// The bytes of both files.
#[derive(PartialEq, Eq)]
struct Pair {
    certificates: Vec<u8>,
    key: Vec<u8>,
}

/// What became of changed files so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reloads {
    /// A new pair serves.
    pub taken: u64,
    /// The files could not be used, and the old pair went on.
    pub kept_old: u64,
}

/// Why a pair of files cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("the {what} cannot be read: {source}")]
    Unreadable {
        /// Which of the two.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file is no PEM, or there is nothing of the kind in it.
    #[error("there is no usable {what} in its file")]
    Malformed {
        /// Which of the two.
        what: &'static str,
    },
    /// The key is not that of the first certificate, or of a kind that cannot serve.
    #[error("certificate and key do not fit together")]
    Mismatch,
}

impl Tls {
    /// Reads a PEM file with the certificate chain (our own certificate first) and one with its private key.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or do not fit together.
    pub fn open(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        let serving = Pair::read(certificates, key)?;
        let inner = Inner {
            certificates: certificates.to_owned(),
            key: key.to_owned(),
            config: RwLock::new(serving.config()?),
            seen: Mutex::new(Seen { serving, reported: None }),
            taken: AtomicU64::new(0),
            kept_old: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Shakes hands on a new connection, with the certificate that serves now.
    ///
    /// # Errors
    ///
    /// When the peer goes away, breaks the protocol, or takes longer than ten seconds.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = Arc::clone(&self.inner.config.read().unwrap_or_else(PoisonError::into_inner));
        let handshake = TlsAcceptor::from(config).accept(stream);
        tokio::time::timeout(HANDSHAKE_MAX, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Looks at the files, and takes the pair if it is a new one. `true` when it was. Connections that are open stay as
    /// they are. It reads files: not to be called where nothing may block.
    ///
    /// # Errors
    ///
    /// When the files changed and cannot serve; the old pair goes on.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let mut seen = self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.inner.look(&mut seen);
        match &outcome {
            Ok(true) => self.inner.taken.fetch_add(1, Ordering::Relaxed),
            Ok(false) => 0,
            Err(_) => self.inner.kept_old.fetch_add(1, Ordering::Relaxed),
        };
        seen.report(&outcome);
        outcome
    }

    /// Looks at the files every `period`, for ever. What is found is logged: a new pair each time, a problem once.
    pub async fn keep_fresh(self, period: Duration) -> ! {
        loop {
            tokio::time::sleep(period).await;
            let tls = self.clone();
            // The outcome is logged and counted there. Nobody cancels it, and a panic in it leaves the old pair.
            let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
        }
    }

    /// What became of changed files so far.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        Reloads {
            taken: self.inner.taken.load(Ordering::Relaxed),
            kept_old: self.inner.kept_old.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Inner {
    fn look(&self, seen: &mut Seen) -> Result<bool, TlsError> {
        let found = Pair::read(&self.certificates, &self.key)?;
        if found == seen.serving {
            return Ok(false);
        }
        let config = found.config()?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        seen.serving = found;
        Ok(true)
    }
}

impl Seen {
    fn report(&mut self, outcome: &Result<bool, TlsError>) {
        match outcome {
            Ok(is_new) => {
                self.reported = None;
                if *is_new {
                    tracing::info!("a new certificate serves from now on");
                }
            }
            Err(problem) => {
                let problem = problem.to_string();
                if self.reported.as_ref() != Some(&problem) {
                    tracing::warn!(%problem, "the certificate cannot be renewed, and the old one goes on");
                    self.reported = Some(problem);
                }
            }
        }
    }
}

impl Pair {
    fn read(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self { certificates: bounded(certificates, "certificate")?, key: bounded(key, "key")? })
    }

    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = CertificateDer::pem_slice_iter(&self.certificates).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or(TlsError::Malformed { what: "certificate" })?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::Malformed { what: "key" })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsError::Mismatch)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|_| TlsError::Mismatch)?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Arc::new(config))
    }
}

fn bounded(path: &Path, what: &'static str) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    let unreadable = |source| TlsError::Unreadable { what, source };
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}
