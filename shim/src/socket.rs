//! The WebSocket layer: the upgrade on hyper, the socket on `tokio-websockets`, and the last words on a closing one.
//!
//! Nothing here knows what a contact is. The echo server that the Autobahn cases run against uses exactly these
//! functions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use bytes::{Buf, Bytes};
use earpiece_core::error::{Fault, Kind};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_websockets::{ServerBuilder, WebSocketStream};

use crate::tls::Wire;

/// How much a closing peer may still send before the connection is cut.
const FAREWELL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Answers a request for an upgrade: the 101 response, and the socket that follows it.
///
/// # Errors
///
/// [`Kind::BadInput`] naming what makes the request no WebSocket handshake (RFC 6455, 4.2.1).
pub fn upgrade(request: &mut Request<Incoming>) -> Result<(Response<Empty<Bytes>>, OnUpgrade), Fault> {
    let accept = accept_key(request.method(), request.headers())?;
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok((response, hyper::upgrade::on(request)))
}

fn accept_key(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, Fault> {
    let says = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    let refuse = |text: &'static str| Err(Fault::new(Kind::BadInput, text));
    if *method != Method::GET {
        return refuse("a WebSocket handshake is a GET request");
    }
    if !says(header::UPGRADE, "websocket") || !says(header::CONNECTION, "upgrade") {
        return refuse("this is a WebSocket endpoint: send `Connection: Upgrade` and `Upgrade: websocket`");
    }
    if !says(header::SEC_WEBSOCKET_VERSION, "13") {
        return refuse("`Sec-WebSocket-Version` must be 13");
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return refuse("`Sec-WebSocket-Key` is missing");
    };
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(digest.finish());
    HeaderValue::from_str(&accept).map_err(|_| Fault::new(Kind::Internal, "internal error"))
}

/// A connection, with TLS or without, after its upgrade, with the bytes that came too early first.
#[derive(Debug)]
pub struct Upgrade {
    early: Bytes,
    wire: Wire,
}

impl Upgrade {
    /// Waits for the 101 response to be sent and takes the connection out of hyper, whose buffers go.
    ///
    /// # Errors
    ///
    /// When the connection breaks before.
    pub async fn take(upgrade: OnUpgrade) -> io::Result<Self> {
        let upgraded: Upgraded = upgrade.await.map_err(io::Error::other)?;
        let (wire, early) = match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => (Wire::Plain(parts.io.into_inner()), parts.read_buf),
            Err(upgraded) => {
                let parts = upgraded
                    .downcast::<TokioIo<Box<TlsStream<TcpStream>>>>()
                    .map_err(|_| io::Error::other("the connection is neither TCP nor TLS"))?;
                (Wire::Tls(parts.io.into_inner()), parts.read_buf)
            }
        };
        // Answers are small and must not wait for more.
        wire.set_nodelay()?;
        // A copy, and of the few bytes only: they are a view into hyper's read buffer, which would stay with them.
        Ok(Self { early: Bytes::copy_from_slice(&early), wire })
    }
}

impl AsyncRead for Upgrade {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.wire).poll_read(cx, buf);
        }
        let taken = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..taken]);
        self.early.advance(taken);
        if self.early.is_empty() {
            self.early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Upgrade {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

/// A server's WebSocket whose messages have at most `message_bytes_max` bytes.
pub fn server<S: AsyncRead + AsyncWrite + Unpin>(io: S, message_bytes_max: usize) -> WebSocketStream<S> {
    let limits = tokio_websockets::Limits::default().max_payload_len(Some(message_bytes_max));
    ServerBuilder::new().limits(limits).serve(io)
}

/// Says the last words on a connection and waits, for a bounded time, until the peer has heard them.
///
/// Frames are written to the connection itself: after a fault of the peer the WebSocket layer takes no more messages,
/// and what it has queued would come before ours. The connection is then read until the peer is done: closing with
/// unread bytes would reset it, and the reset would overtake our words.
pub(crate) async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(
    mut io: S,
    text: Option<&str>,
    (code, reason): (u16, &str),
    within: Duration,
) {
    let mut words = Vec::with_capacity(text.map_or(0, str::len) + reason.len() + 16);
    if let Some(text) = text {
        frame(&mut words, 0x1, text.as_bytes());
    }
    let mut close = code.to_be_bytes().to_vec();
    close.extend_from_slice(clip(reason, 123).as_bytes());
    frame(&mut words, 0x8, &close);
    let last_words = async {
        io.write_all(&words).await?;
        io.shutdown().await?;
        let mut heard = 0;
        let mut scratch = [0; 1024];
        while heard < FAREWELL_BYTES_MAX {
            match io.read(&mut scratch).await? {
                0 => break,
                bytes => heard += bytes,
            }
        }
        io::Result::Ok(())
    };
    // Whether the peer listened or not, the connection ends here.
    let _ = tokio::time::timeout(within, last_words).await;
}

/// One unmasked, final frame (RFC 6455, 5.2).
fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < 126 => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

fn clip(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::UPGRADE, "WebSocket"),
            (header::CONNECTION, "keep-alive, Upgrade"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(accept_key(&Method::GET, &headers).expect("a handshake"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        headers.remove(header::SEC_WEBSOCKET_KEY);
        assert_eq!(accept_key(&Method::GET, &headers).expect_err("no key").public, "`Sec-WebSocket-Key` is missing");
    }

    #[tokio::test]
    async fn last_words_are_an_error_then_a_close() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let words = tokio::spawn(farewell(ours, Some("{}"), (1008, "no"), Duration::from_secs(1)));
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.expect("an end");
        assert_eq!(heard, [0x81, 2, b'{', b'}', 0x88, 4, 3, 240, b'n', b'o']);
        drop(theirs);
        words.await.expect("no panic");
    }
}
