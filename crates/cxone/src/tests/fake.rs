//! A server whose answers are scripted, and which remembers what it was asked.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    /// How many came to this path before it.
    pub(crate) turn: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: http::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn bearer(&self) -> &str {
        self.header(AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default()
    }

    pub(crate) fn is_form(&self) -> bool {
        self.header(CONTENT_TYPE) == "application/x-www-form-urlencoded"
    }

    /// A field of a form.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.body.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    body: String,
    retry_after: Option<&'static str>,
}

pub(crate) fn status(status: u16) -> Answer {
    Answer { status, body: String::new(), retry_after: None }
}

pub(crate) fn body(value: &Value) -> Answer {
    Answer { status: 200, body: value.to_string(), retry_after: None }
}

/// A token that lives for an hour.
pub(crate) fn token(value: &str) -> Answer {
    body(&json!({ "access_token": value, "token_type": "Bearer", "expires_in": 3600 }))
}

/// A page without articles.
pub(crate) fn nothing_found() -> Answer {
    body(&json!({ "entities": [] }))
}

impl Answer {
    pub(crate) fn retry_after(mut self, text: &'static str) -> Self {
        self.retry_after = Some(text);
        self
    }
}

type Script = Arc<dyn Fn(Asked) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// The server. It ends with the test's runtime.
pub(crate) struct Fake {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    count: watch::Receiver<usize>,
}

impl Fake {
    /// A server that answers by `script`.
    pub(crate) async fn answering(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let script = Arc::new(script);
        Self::waiting(move |asked| {
            let script = Arc::clone(&script);
            async move { script(&asked) }
        })
        .await
    }

    /// A server whose answers may wait for something.
    pub(crate) async fn waiting<F>(script: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let script: Script = Arc::new(move |asked| Box::pin(script(asked)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (counter, count) = watch::channel(0);
        tokio::spawn(serve(listener, script, Arc::clone(&asked), Arc::new(counter)));
        Self { address, asked, count }
    }

    /// What came to a path so far.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().expect("the list");
        asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// Waits until so many requests have come to a path.
    pub(crate) async fn wait_for(&self, path: &str, count: usize) {
        let mut changes = self.count.clone();
        super::within_patience(changes.wait_for(|_| self.asked(path).len() >= count)).await.expect("the server");
    }
}

async fn serve(
    listener: TcpListener,
    script: Script,
    asked: Arc<Mutex<Vec<Asked>>>,
    counter: Arc<watch::Sender<usize>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (script, asked, counter) = (Arc::clone(&script), Arc::clone(&asked), Arc::clone(&counter));
        let service = service_fn(move |request| {
            let (script, asked, counter) = (Arc::clone(&script), Arc::clone(&asked), Arc::clone(&counter));
            async move { Ok::<_, Infallible>(answer(request, script, &asked, &counter).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Script,
    asked: &Mutex<Vec<Asked>>,
    counter: &watch::Sender<usize>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let now = {
        let mut asked = asked.lock().expect("the list");
        let path = head.uri.path().to_owned();
        let now = Asked {
            method: head.method.to_string(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).expect("text"),
            turn: asked.iter().filter(|asked| asked.path == path).count(),
            path,
        };
        asked.push(now.clone());
        now
    };
    counter.send_modify(|count| *count += 1);
    let answer = script(now).await;
    let mut response = Response::builder().status(answer.status);
    if let Some(pause) = answer.retry_after {
        response = response.header("retry-after", pause);
    }
    response.body(Full::from(answer.body)).expect("an answer")
}
