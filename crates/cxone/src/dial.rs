//! From an address to an open WebSocket: names, TCP, TLS, upgrade. No retry and no time-out here: the caller has both.

use std::io;
use std::sync::Arc;

use earpiece_core::protocol::platform::FRAME_BYTES_MAX;
use earpiece_https::{Trust, TrustError};
use http::Uri;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_websockets::upgrade::Error as UpgradeError;
use tokio_websockets::{ClientBuilder, Connector, Error, Limits, MaybeTlsStream, WebSocketStream};

use crate::error::CxoneError;
use crate::retry_after::RETRY_AFTER_DEFAULT;

/// A WebSocket to CXone.
pub(crate) type Wire = WebSocketStream<MaybeTlsStream<TcpStream>>;

const UNREACHABLE: CxoneError = CxoneError::Unavailable { retry_after: None };

/// Opens sockets. Has no `Debug`, and gives nothing of an address away: tokens are in them.
pub(crate) struct Dialler {
    tls: TlsConnector,
}

impl Dialler {
    pub(crate) fn new(trust: &Trust) -> Result<Self, TrustError> {
        Ok(Self { tls: TlsConnector::from(Arc::new(trust.client_config()?)) })
    }

    /// Connects once. `scope` is what a 403 is told to need.
    pub(crate) async fn open(&self, uri: Uri, scope: &'static str) -> Result<Wire, CxoneError> {
        let is_tls = uri.scheme_str() == Some("wss");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tcp = reach(&host, port).await.map_err(|_| UNREACHABLE)?;
        let connector = if is_tls { Connector::Rustls(self.tls.clone()) } else { Connector::Plain };
        let stream = connector.wrap(&host, tcp).await.map_err(|_| UNREACHABLE)?;
        let limits = Limits::default().max_payload_len(Some(FRAME_BYTES_MAX));
        let upgraded = ClientBuilder::from_uri(uri).limits(limits).connect_on(stream).await;
        upgraded.map(|(wire, _)| wire).map_err(|error| refusal(&error, scope))
    }
}

/// Each address of a name in its turn: one that is dead does not take the others with it.
async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failure = io::ErrorKind::NotFound.into();
    for address in lookup_host((host, port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A suggestion is small and wanted now: never wait for more to fill a segment.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn refusal(error: &Error, scope: &'static str) -> CxoneError {
    let Error::Upgrade(UpgradeError::DidNotSwitchProtocols(status)) = error else { return UNREACHABLE };
    match *status {
        401 => CxoneError::Unauthorized,
        403 => CxoneError::Forbidden { scope },
        // The header is out of reach here.
        429 => CxoneError::RateLimited { retry_after: RETRY_AFTER_DEFAULT },
        500.. => UNREACHABLE,
        status => CxoneError::Refused { status },
    }
}
