//! The listener: sockets on `/audio`, pieces on `/ingest`, what load balancers and Prometheus ask for, and the doors that
//! whoever wired the task has put beside them.
//!
//! The listener stays up while the task drains, so that `/readyz` can say so; only `/audio` is closed then.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use ::http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use earpiece_core::error::{Fault, Kind};
use earpiece_core::secret::Secret;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use crate::session::{self, Visitor};
use crate::settings::TokenSource;
use crate::socket::{self, Upgrade};
use crate::{Task, ingest, wire};

/// Where CXone's media servers connect.
pub(crate) const AUDIO_PATH: &str = "/audio";

/// Names under which a query may carry the token.
const TOKEN_PARAMETERS: [&str; 3] = ["token", "access_token", "authenticationToken"];

/// hyper's read buffer: enough for a request with a long query and a long token.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// The same where audio is handed over: the facts of a stream travel in a header of up to 48 KiB.
const INGEST_REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Places for connections that send their request at once, when all others are taken.
const HURRIED_MAX: usize = 256;

/// How soon such a connection must have sent its request.
const HURRIED_DEADLINE: Duration = Duration::from_millis(250);

/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Accepts connections for as long as the process lives.
pub(crate) async fn serve(task: Arc<Task>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(task.limits.connections_max));
    let hurried = Arc::new(Semaphore::new(HURRIED_MAX));
    loop {
        // The place first: a connection that nobody can serve stays in the kernel's queue. When all are taken, by peers
        // that send no request, there are a few more for whoever sends one at once, as a health check does.
        let (place, deadline) = match places.clone().try_acquire_owned() {
            Ok(place) => (place, task.limits.init_deadline),
            Err(_) => match hurried.clone().acquire_owned().await {
                Ok(place) => (place, HURRIED_DEADLINE),
                Err(_) => return,
            },
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(connection(task.clone(), stream, peer, place, deadline));
            }
            Err(error) => {
                // Out of file descriptors, or a connection that was gone before it was taken.
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, in its place until its last request is answered or it has become a socket.
async fn connection(
    task: Arc<Task>,
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    header_deadline: Duration,
) {
    let Some(tls) = task.tls.clone() else {
        return speak(task, stream, peer, place, header_deadline).await;
    };
    // Whoever does not begin with TLS, or not in time, holds the place no longer than one that sends no request.
    match tokio::time::timeout(header_deadline, tls.accept(stream)).await {
        // Behind a pointer: hyper and the socket after it would each keep room for it.
        Ok(Ok(stream)) => speak(task, Box::new(stream), peer, place, header_deadline).await,
        Ok(Err(error)) => debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => debug!(%peer, "a TLS handshake was not done in time"),
    }
}

async fn speak<S>(task: Arc<Task>, stream: S, peer: SocketAddr, place: OwnedSemaphorePermit, header_deadline: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request_bytes_max = if task.ingest.is_some() { INGEST_REQUEST_BYTES_MAX } else { REQUEST_BYTES_MAX };
    let service = service_fn(move |request| {
        let task = task.clone();
        async move { Ok::<_, Infallible>(route(&task, request, peer).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_deadline)
        .max_buf_size(request_bytes_max)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    drop(place);
    if let Err(error) = served {
        debug!(%peer, %error, "a connection ended badly");
    }
}

async fn route(task: &Arc<Task>, mut request: Request<Incoming>, peer: SocketAddr) -> Answer {
    match (request.method(), request.uri().path()) {
        (_, AUDIO_PATH) => audio(task, &mut request, peer).unwrap_or_else(|fault| {
            task.metrics.refused(fault.kind);
            debug!(%peer, kind = fault.kind.label(), reason = %fault.public, "refused before the upgrade");
            refusal(&fault)
        }),
        (&Method::GET, "/healthz") => text(StatusCode::OK, "alive\n"),
        (&Method::GET, "/readyz") => ready(task),
        (&Method::GET, "/metrics") => metrics(task),
        // Boxed: connections that become sockets must not pay for it.
        (&Method::POST, "/ingest") => accepted(Box::pin(ingest::piece(task, request, peer.ip())).await, peer),
        (&Method::POST, "/ingest/end") => accepted(Box::pin(ingest::end(task, request, peer.ip())).await, peer),
        (_, "/ingest" | "/ingest/end") if task.ingest.is_some() => {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "pieces are sent with POST\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            answer
        }
        _ => match &task.doors {
            Some(doors) => {
                let busy = task.busy();
                let answer = doors(request, peer).await;
                drop(busy);
                answer
            }
            None => refusal(&Fault::new(Kind::NotFound, "there is nothing here: the audio socket is at /audio")),
        },
    }
}

fn metrics(task: &Task) -> Answer {
    match task.metrics.text(task) {
        Ok(metrics) => with_type(StatusCode::OK, metrics, "text/plain; version=0.0.4; charset=utf-8"),
        Err(error) => {
            warn!(%error, "the metrics could not be written");
            refusal(&Fault::new(Kind::Internal, "internal error"))
        }
    }
}

/// The answer to a piece that was handed over.
fn accepted(taken: Result<(), Fault>, peer: SocketAddr) -> Answer {
    match taken {
        Ok(()) => with_type(StatusCode::OK, "{\"accepted\":true}", "application/json"),
        Err(fault) => {
            debug!(%peer, kind = fault.kind.label(), reason = %fault.public, "a piece was refused");
            refusal(&fault)
        }
    }
}

fn audio(task: &Arc<Task>, request: &mut Request<Incoming>, peer: SocketAddr) -> Result<Answer, Fault> {
    if *task.draining.borrow() {
        return Err(Fault::new(Kind::Draining, "this task is going away; connect again"));
    }
    let permit = task.admission.enter()?;
    let (response, upgrade) = socket::upgrade(request)?;
    let visitor = Visitor { address: peer.ip(), presented: presented(task, request) };
    let task = task.clone();
    tokio::spawn(async move {
        match Upgrade::take(upgrade).await {
            Ok(io) => session::serve(task, io, visitor, permit).await,
            Err(error) => debug!(%peer, %error, "a connection broke during its upgrade"),
        }
    });
    Ok(response.map(http_body_util::BodyExt::boxed))
}

/// Tokens that the request itself carries. Neither the header nor the query is ever logged.
fn presented(task: &Task, request: &Request<Incoming>) -> Vec<Secret> {
    let header = task.takes_tokens_from(TokenSource::Header).then(|| request.headers().get(AUTHORIZATION)).flatten();
    let header = header.and_then(|value| value.to_str().ok()).map(Secret::new);
    let query = task.takes_tokens_from(TokenSource::Query).then(|| tokens_of(request.uri())).into_iter().flatten();
    header.into_iter().chain(query).collect()
}

fn tokens_of(uri: &Uri) -> Vec<Secret> {
    let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let tokens = pairs.filter(|(name, _)| TOKEN_PARAMETERS.contains(&name.as_ref()));
    tokens.take(TOKEN_PARAMETERS.len()).map(|(_, value)| Secret::new(value)).collect()
}

fn ready(task: &Task) -> Answer {
    if *task.draining.borrow() {
        text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if task.admission.is_full() {
        text(StatusCode::SERVICE_UNAVAILABLE, "full\n")
    } else {
        text(StatusCode::OK, "ready\n")
    }
}

fn refusal(fault: &Fault) -> Answer {
    let mut answer = with_type(wire::status(fault.kind), format!("{}\n", fault.public), PLAIN_TEXT);
    if let Some(pause_s) = wire::retry_after_s(fault.kind) {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(pause_s));
    }
    if fault.kind == Kind::Unauthorized {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    with_type(status, body, PLAIN_TEXT)
}

fn with_type(status: StatusCode, body: impl Into<Bytes>, kind: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_the_query_and_decoded() {
        let uri: Uri = "/audio?x=1&access_token=a%2Bb%20c&token=".parse().expect("a uri");
        let tokens = tokens_of(&uri);
        assert_eq!(tokens.iter().map(Secret::reveal).collect::<Vec<_>>(), ["a+b c", ""]);
        let none: Uri = "/audio?tokens=1".parse().expect("a uri");
        assert!(tokens_of(&none).is_empty());
    }
}
