//! An echo server on the shim's WebSocket layer, for the Autobahn cases: built for tests only.
//!
//! `echo --listen 127.0.0.1:0` prints `listening on ADDR` and echoes every message of up to 16 MiB.

use std::convert::Infallible;

use earpiece_shim::socket::{self, Upgrade};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Autobahn's largest message.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().skip_while(|argument| argument != "--listen").nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream));
    }
}

async fn serve(stream: TcpStream) {
    let service = service_fn(|mut request| async move {
        Ok::<_, Infallible>(match socket::upgrade(&mut request) {
            Ok((response, upgrade)) => {
                tokio::spawn(async move {
                    if let Ok(io) = Upgrade::take(upgrade).await {
                        echo(io).await;
                    }
                });
                response.map(http_body_util::BodyExt::boxed)
            }
            Err(fault) => http::Response::new(Full::new(Bytes::from(fault.public.into_owned())).boxed()),
        })
    });
    // A client that breaks the connection off is the cases' business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

async fn echo(io: Upgrade) {
    let mut socket = socket::server(io, MESSAGE_BYTES_MAX);
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            break;
        }
    }
    let _ = socket.close().await;
}
