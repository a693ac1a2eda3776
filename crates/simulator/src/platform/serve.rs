//! The listener: HTTP by path, and the upgrade of the three sockets.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use earpiece_core::secret::Secret;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::faults::{Fault, FaultKind, On};
use super::received::{Kind, Note};
use super::reply::{Answered, Call, Reply, parameter};
use super::rest::Endpoint;
use super::shared::Shared;
use super::{Uplink, control, oauth, rest, socket};
use crate::stop::told_to_stop;

/// Largest body of a request.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a request's head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A pause after the kernel had no connection to give, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connection ends without an answer, on purpose.
#[derive(Debug)]
struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dropped on purpose")
    }
}

impl std::error::Error for Dropped {}

/// A socket whose upgrade was answered with 101.
pub(crate) struct Admitted {
    pub(crate) connection: u64,
    pub(crate) uplink: Uplink,
    /// What it was opened with; a suggestion socket brings its token later.
    pub(crate) token: Option<Secret>,
    pub(crate) upgrade: OnUpgrade,
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = told_to_stop(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < shared.settings.connections_max => {
                    connections.spawn(converse(stream, peer, Arc::clone(&shared)));
                }
                Ok(_) => {}
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn converse(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    // Frames and answers are small and wanted now.
    let _ = stream.set_nodelay(true);
    let connection = shared.next_connection();
    let admitted = Arc::new(Mutex::new(None));
    let service = service_fn(|request| answer(request, connection, peer, Arc::clone(&shared), Arc::clone(&admitted)));
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let mut stop = shared.stop.subscribe();
    // A connection that breaks is its client's affair; what came before is written down.
    tokio::select! {
        _ = &mut serving => {}
        () = told_to_stop(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
    let admitted = admitted.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(admitted) = admitted {
        socket::converse(shared, admitted).await;
    }
}

async fn answer(
    request: Request<Incoming>,
    connection: u64,
    peer: SocketAddr,
    shared: Arc<Shared>,
    admitted: Arc<Mutex<Option<Admitted>>>,
) -> Result<Response<Answered>, Dropped> {
    let uplink = Uplink::ALL.into_iter().find(|uplink| uplink.path() == request.uri().path());
    if let Some(uplink) = uplink {
        return Ok(match upgrade(request, connection, uplink, &shared) {
            Ok((response, socket)) => {
                *admitted.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
                response
            }
            Err(reply) => reply.whole(),
        });
    }
    let call = match read(request, connection, peer).await {
        Ok(call) => call,
        Err(reply) => return Ok(reply.whole()),
    };
    route(&shared, &call).await
}

async fn read(request: Request<Incoming>, connection: u64, peer: SocketAddr) -> Result<Call, Reply> {
    let (head, body) = request.into_parts();
    let collecting = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect());
    let body = collecting.await.ok().and_then(Result::ok).ok_or_else(|| {
        Reply::error(StatusCode::PAYLOAD_TOO_LARGE, "body", "the body is too large, or did not arrive whole")
    })?;
    Ok(Call {
        connection,
        peer,
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
    })
}

async fn route(shared: &Shared, call: &Call) -> Result<Response<Answered>, Dropped> {
    let (method, path) = (&call.method, call.path.as_str());
    if let Some(path) = path.strip_prefix("/_platform/") {
        return Ok(control::answer(shared, call, path).await.whole());
    }
    if let Some(expected) = method_of(path).filter(|expected| expected != method) {
        let reply = Reply::error(StatusCode::METHOD_NOT_ALLOWED, "method", "another method belongs to this path");
        return Ok(reply.with(header::ALLOW, expected.as_str()).whole());
    }
    match path {
        "/oauth2/token" | "/oauth/token" => faulty(shared, On::Token, |fault| oauth::token(shared, call, fault)).await,
        "/authentication/v1/token/access-key" => {
            faulty(shared, On::Token, |fault| oauth::access_key(shared, call, fault)).await
        }
        "/.well-known/openid-configuration" => Ok(oauth::openid_configuration(shared, call).whole()),
        "/.well-known/cxone-configuration" => Ok(oauth::cxone_configuration(shared, call).whole()),
        _ => match Endpoint::of(path) {
            Some(endpoint) => faulty(shared, endpoint.on(), |fault| rest::answer(shared, endpoint, call, fault)).await,
            None => Ok(Reply::error(StatusCode::NOT_FOUND, "path", "there is nothing at this path").whole()),
        },
    }
}

fn method_of(path: &str) -> Option<Method> {
    match path {
        "/oauth2/token" | "/oauth/token" | "/authentication/v1/token/access-key" => Some(Method::POST),
        "/.well-known/openid-configuration" | "/.well-known/cxone-configuration" => Some(Method::GET),
        _ => Endpoint::of(path).map(Endpoint::method),
    }
}

/// Answers a request with the fault that waits for it. Those that only spoil the answer let the work be done first.
async fn faulty(
    shared: &Shared,
    on: On,
    work: impl FnOnce(Option<&Fault>) -> Reply,
) -> Result<Response<Answered>, Dropped> {
    let fault = shared.take_fault(on, |_| true);
    let reply = work(fault.as_ref());
    match fault.map(|fault| (fault.kind, fault.slowness())) {
        Some((FaultKind::Abort, _)) => Err(Dropped),
        Some((FaultKind::HalfClose, _)) => Ok(reply.half()),
        Some((FaultKind::Slow, delay)) => {
            sleep(delay).await;
            Ok(reply.whole())
        }
        _ => Ok(reply.whole()),
    }
}

fn upgrade(
    mut request: Request<Incoming>,
    connection: u64,
    uplink: Uplink,
    shared: &Shared,
) -> Result<(Response<Answered>, Admitted), Reply> {
    let token = parameter(request.uri().query().unwrap_or_default(), "access_token").map(Secret::new);
    let verdict = accept_key(request.method(), request.headers())
        .map_err(|reason| Reply::error(StatusCode::BAD_REQUEST, "handshake", reason))
        .and_then(|key| judge_upgrade(shared, uplink, token.as_ref()).map(|()| key));
    let status = verdict.as_ref().map_or_else(Reply::status, |_| StatusCode::SWITCHING_PROTOCOLS.as_u16());
    shared.record(Kind::Opened, connection, &Note { id: Some(uplink.label()), status, ..Note::default() });
    let key = verdict?;

    let mut response = Response::new(Answered::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    let upgrade = hyper::upgrade::on(&mut request);
    Ok((response, Admitted { connection, uplink, token, upgrade }))
}

/// The streams' tokens come with the upgrade; the suggestion socket's comes in its first frame.
fn judge_upgrade(shared: &Shared, uplink: Uplink, token: Option<&Secret>) -> Result<(), Reply> {
    if let Some(fault) = shared.take_fault(uplink.into(), FaultKind::refuses_an_upgrade) {
        return Err(
            rest::refusal(shared, &fault, None).unwrap_or_else(|| Reply::empty(StatusCode::SERVICE_UNAVAILABLE))
        );
    }
    if uplink == Uplink::Suggestions {
        return Ok(());
    }
    if let Some(fault) = shared.take_fault(uplink.into(), |kind| kind == FaultKind::AuthFailure) {
        return rest::refusal(shared, &fault, None).map_or(Ok(()), Err);
    }
    shared.judge(token.map(Secret::reveal), uplink.scopes()).map_err(rest::unauthorized)
}

/// The answer to a handshake's key, or what makes the request none (RFC 6455 §4.2.1).
fn accept_key(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, &'static str> {
    let says = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    if *method != Method::GET || !says(header::UPGRADE, "websocket") || !says(header::CONNECTION, "upgrade") {
        return Err("this is a WebSocket endpoint");
    }
    if !says(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err("the WebSocket version must be 13");
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or("the WebSocket key is missing")?;
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    HeaderValue::from_str(&BASE64_STANDARD.encode(context.finish())).map_err(|_| "the WebSocket key cannot be answered")
}
