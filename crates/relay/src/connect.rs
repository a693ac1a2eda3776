//! From an address to an open WebSocket: names, TCP, TLS, upgrade. No retry and no time-out here: the stream's task has
//! both.

use std::io;
use std::net::SocketAddr;

use http::{HeaderValue, Uri, header};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_websockets::{ClientBuilder, Connector, Limits, MaybeTlsStream, WebSocketStream};

/// What the kernel may hold of one stream's audio (it doubles this for its own needs). Left to itself it would take
/// megabytes: minutes of audio that an app which stopped reading would get long after the call, times every stream.
const SEND_BUFFER_BYTES: u32 = 16 * 1024;

/// A WebSocket to the assist app.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Where the assist app is. Has no `Debug`: the query may hold a token.
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) connector: Connector,
    pub(crate) authorization: Option<HeaderValue>,
}

/// Why an attempt failed, in words that hold nothing of the address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the host name has no address")]
    NoAddress,
    #[error("TCP: {0}")]
    Tcp(io::ErrorKind),
    #[error("TLS failed")]
    Tls,
    #[error("the upgrade was answered with status {0}")]
    Status(u16),
    #[error("the upgrade failed")]
    Upgrade,
    #[error("it took too long")]
    TooLate,
}

/// Connects once. `turn` picks the address to begin with when the name has several, so that one that swallows packets
/// costs every other attempt and not all of them.
pub(crate) async fn connect(target: &Target, turn: usize, text_bytes_max: usize) -> Result<Socket, ConnectError> {
    let tcp = dial(&target.host, target.port, turn).await?;
    let stream = target.connector.wrap(&target.host, tcp).await.map_err(|_| ConnectError::Tls)?;
    let mut builder =
        ClientBuilder::from_uri(target.uri.clone()).limits(Limits::default().max_payload_len(Some(text_bytes_max)));
    if let Some(authorization) = &target.authorization {
        builder =
            builder.add_header(header::AUTHORIZATION, authorization.clone()).map_err(|_| ConnectError::Upgrade)?;
    }
    let (socket, _) = builder.connect_on(stream).await.map_err(|error| match error {
        tokio_websockets::Error::Upgrade(tokio_websockets::upgrade::Error::DidNotSwitchProtocols(status)) => {
            ConnectError::Status(status)
        }
        tokio_websockets::Error::Io(error) => ConnectError::Tcp(error.kind()),
        _ => ConnectError::Upgrade,
    })?;
    Ok(socket)
}

async fn dial(host: &str, port: u16, turn: usize) -> Result<TcpStream, ConnectError> {
    let mut addresses: Vec<_> = lookup_host((host, port)).await.map_err(|_| ConnectError::NoAddress)?.collect();
    if !addresses.is_empty() {
        let first = turn % addresses.len();
        addresses.rotate_left(first);
    }
    let mut failure = ConnectError::NoAddress;
    for address in addresses {
        match dial_address(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = ConnectError::Tcp(error.kind()),
        }
    }
    Err(failure)
}

async fn dial_address(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    let stream = socket.connect(address).await?;
    // A chunk is small and wanted now: never wait for more to fill a segment.
    stream.set_nodelay(true)?;
    Ok(stream)
}
