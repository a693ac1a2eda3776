use std::io;

use tokio::net::TcpStream;

use super::*;
use crate::server::{Reloads, TlsError};

async fn served_by(tls: &Tls) -> (Server, String) {
    let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_vec();
    let server = Server::with(answer, Then::Closes, Some(tls.clone())).await;
    let url = format!("https://localhost:{}/", server.address.port());
    (server, url)
}

#[tokio::test]
async fn a_new_pair_is_taken_when_it_is_whole() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::with(&old.identity());
    let tls = files.open();
    let (_server, url) = served_by(&tls).await;
    assert!(old.client().send(get(&url), LIMITS).await.is_ok());
    assert!(!tls.reload().unwrap(), "nothing changed");

    files.write(&new.identity());
    assert!(tls.reload().unwrap());
    assert!(!tls.reload().unwrap(), "nothing changed since");
    assert!(new.client().send(get(&url), LIMITS).await.is_ok());
    assert!(old.client().send(get(&url), LIMITS).await.is_err());
    assert_eq!(tls.reloads(), Reloads { taken: 1, kept_old: 0 });
}

#[tokio::test]
async fn a_pair_that_cannot_serve_leaves_the_old_one_in_place_until_it_is_mended() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::with(&old.identity());
    let tls = files.open();
    let (_server, url) = served_by(&tls).await;
    let (mine, another) = (new.identity(), new.identity());

    std::fs::write(files.certificates(), &mine.certificate).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Mismatch)), "half of it is written");
    for (certificate, key) in [("", mine.key.as_str()), (&mine.certificate, ""), (&mine.key, &mine.certificate)] {
        files.write(&Identity { certificate: certificate.to_owned(), key: key.to_owned() });
        assert!(matches!(tls.reload(), Err(TlsError::Malformed { .. })));
    }
    files.write(&Identity { certificate: mine.certificate.clone(), key: another.key });
    assert!(matches!(tls.reload(), Err(TlsError::Mismatch)));
    std::fs::remove_file(files.key()).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Unreadable { what: "key", .. })));
    assert!(old.client().send(get(&url), LIMITS).await.is_ok(), "the old one still serves");

    files.write(&mine);
    assert!(tls.reload().unwrap());
    assert!(new.client().send(get(&url), LIMITS).await.is_ok());
    assert_eq!(tls.reloads(), Reloads { taken: 1, kept_old: 6 });
}

#[tokio::test]
async fn changed_files_are_found_by_looking_again_and_again() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::with(&old.identity());
    let tls = files.open();
    let (_server, url) = served_by(&tls).await;
    let keeper = tokio::spawn(tls.clone().keep_fresh(Duration::from_millis(1)));
    files.write(&new.identity());
    let client = new.client();
    let until_served = async { while client.send(get(&url), LIMITS).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), until_served).await.unwrap();
    assert_eq!(tls.reloads().taken, 1);
    keeper.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_shake_hands_is_let_go() {
    let tls = Files::with(&Authority::new().identity()).open();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(tls.accept(stream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[test]
fn files_that_cannot_serve_are_refused_at_the_start() {
    let identity = Authority::new().identity();
    let files = Files::with(&identity);
    let missing = files.certificates().join("missing");
    assert!(matches!(Tls::open(&missing, &files.key()), Err(TlsError::Unreadable { what: "certificate", .. })));
    files.write(&Identity { key: Authority::new().identity().key, ..identity });
    assert!(matches!(Tls::open(&files.certificates(), &files.key()), Err(TlsError::Mismatch)));
}
