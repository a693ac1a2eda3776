//! What is never printed: tokens, secrets, words, addresses and queries.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::filter::LevelFilter;

use super::fake::{Fake, status, token};
use super::{connect, feedback, search, with_client};
use crate::Uplink;
use crate::settings;

/// Where log lines go.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_secret_is_in_any_log_line_error_or_debug() {
    let page = Page::default();
    let writer = page.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let fake = Fake::answering(|asked| match (asked.path.as_str(), asked.turn) {
        ("/oauth2/token", _) => token("SECRET-token"),
        (_, 0) => status(401),
        (_, 1) => status(429),
        _ => status(503),
    })
    .await;
    let env = with_client(&fake.address)
        .with(&settings::CLIENT_SECRET, "SECRET-of-the-client")
        .with(&settings::SEARCH_URL, "{api}/api/v2/knowledge/articles/search?key=SECRET-in-an-address");
    let cxone = connect(&env).await;
    let mut said = String::new();
    for _ in 0..3 {
        let errors = [search(&cxone).await.err(), feedback(&cxone).await.err()];
        let sockets = [cxone.open(Uplink::Insights).await.err(), cxone.open(Uplink::Suggestions).await.err()];
        for error in errors.into_iter().chain(sockets).flatten() {
            writeln!(said, "{error} {error:?} {}", error.fault()).unwrap();
        }
    }
    writeln!(said, "{cxone:?} {:?} {:?}", super::read(&env), cxone.snapshot()).unwrap();
    let logged = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("CXone limits our requests"), "the log is not captured: {logged}");
    for text in [&said, &logged] {
        for secret in ["SECRET", "router", "hisses", "access_token", "insight-1"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}
