//! A listener of its own: the socket on `/` and `/{stage}`, `@connections` below either.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::answer::{Answer, Refusal};
use crate::connections::connection_id;
use crate::gateway::Gateway;

/// Connections that are not WebSockets (yet), at once; more wait in the kernel.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// How long a request's head may take to arrive.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long open connections may take to be closed, and their `$disconnect` to be heard, after the shutdown.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// A pause after the kernel had no connection to give, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Gateway {
    /// Serves a listener until `shutdown` resolves; then closes every connection with 1001 and waits until that is done,
    /// at most [`STOP_TIMEOUT`].
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        let permits = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
        tokio::select! {
            () = self.clone().accept(&listener, &permits) => {}
            () = shutdown => {}
        }
        drop(listener);
        self.closing.send_replace(true);
        let everybody = self.places.acquire_many(self.settings.connections_max);
        if timeout(STOP_TIMEOUT, everybody).await.is_err() {
            warn!("connections were dropped before their end was heard");
        }
    }

    async fn accept(self: Arc<Self>, listener: &TcpListener, permits: &Arc<Semaphore>) {
        // Nobody closes the semaphore, so this ends only with the task.
        while let Ok(permit) = permits.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    tokio::spawn(self.clone().converse(stream, peer, permit));
                }
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, _permit: OwnedSemaphorePermit) {
        // Frames are small and wanted now.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| {
            let gateway = self.clone();
            async move { Ok::<_, Infallible>(gateway.answer(request, peer).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            debug!(%error, "a connection broke");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let path = request.uri().path();
        if connection_id(path).is_some() {
            return self.connections(request).await;
        }
        let place = path.trim_matches('/');
        if place.is_empty() || place == self.settings.stage {
            return self.upgrade(request, peer).await;
        }
        Refusal::new(StatusCode::FORBIDDEN, "Forbidden").answer()
    }
}
