//! Whose certificates the client believes: Mozilla's roots, compiled in, and what an operator adds to them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use earpiece_core::config::{Env, Setting};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Adds roots to those that are compiled in.
pub const CA_FILE: Setting = Setting::new(
    "EARPIECE_CA_FILE",
    "",
    "PEM file with certificates to trust in HTTPS requests, beside the public ones.",
);

/// Every setting of this crate.
pub const SETTINGS: [Setting; 1] = [CA_FILE];

/// Roots that an HTTPS client believes.
#[derive(Debug, Clone)]
pub struct Trust {
    roots: RootCertStore,
}

/// Why certificates cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("{name} cannot be read: {source}", name = CA_FILE.name)]
    Unreadable {
        /// Why.
        source: io::Error,
    },
    /// It is no PEM, or a certificate in it cannot be used.
    #[error("the certificates to trust are malformed")]
    Malformed,
    /// There is no certificate in it.
    #[error("there is no certificate to trust in the given PEM")]
    Empty,
    /// The TLS provider cannot serve such a configuration.
    #[error("TLS cannot be set up")]
    Tls,
}

impl Trust {
    /// The roots of Mozilla's programme. They are part of the program: nothing is read, and nothing can be missing.
    #[must_use]
    pub fn public() -> Self {
        Self { roots: RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() } }
    }

    /// Trusts the certificates of a PEM text, too.
    ///
    /// # Errors
    ///
    /// When there is none, or one that cannot be used: a trust that is smaller than it was meant to be is found out at
    /// once and not at the first request.
    pub fn with_pem(mut self, pem: &[u8]) -> Result<Self, TrustError> {
        let mut is_empty = true;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| TrustError::Malformed)?;
            self.roots.add(certificate).map_err(|_| TrustError::Malformed)?;
            is_empty = false;
        }
        if is_empty { Err(TrustError::Empty) } else { Ok(self) }
    }

    /// The public roots, and those of [`CA_FILE`] when it is set.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has no usable certificate in it.
    pub fn read(env: &impl Env) -> Result<Self, TrustError> {
        let public = Self::public();
        let Some(path) = env.get(CA_FILE.name) else { return Ok(public) };
        let pem = std::fs::read(PathBuf::from(path.trim())).map_err(|source| TrustError::Unreadable { source })?;
        public.with_pem(&pem)
    }

    /// TLS for connections that are no HTTP requests, such as WebSockets: the same roots, and the same provider.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up.
    pub fn client_config(&self) -> Result<ClientConfig, TrustError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|_| TrustError::Tls)?;
        Ok(builder.with_root_certificates(self.roots.clone()).with_no_client_auth())
    }

    pub(crate) fn into_roots(self) -> RootCertStore {
        self.roots
    }
}
