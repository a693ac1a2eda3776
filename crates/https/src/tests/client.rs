use std::time::Duration;

use http::header::LOCATION;
use http::{Method, StatusCode};

use super::*;
use crate::client::Failure;

#[tokio::test]
async fn an_answer_comes_whole_whatever_its_status() {
    let server = Server::start("HTTP/1.1 404 Not Found\r\nx-a: b\r\ncontent-length: 5\r\n\r\nhello", Then::Goes).await;
    let answer = client().send(get(&server.url("/")), LIMITS).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(answer.headers()["x-a"], "b");
    assert_eq!(answer.body(), "hello");
}

#[tokio::test]
async fn a_request_arrives_as_it_was_given_and_says_who_we_are() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a?b=c", listener.local_addr().unwrap());
    let request = Request::builder().method(Method::POST).uri(url).header("x-a", "b").body("hello".into()).unwrap();
    let received = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"hello") {
            received.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8(received).unwrap().to_lowercase()
    };
    let client = client();
    let (answer, received) = tokio::join!(client.send(request, LIMITS), received);
    assert_eq!(answer.unwrap().status(), StatusCode::NO_CONTENT);
    assert!(received.starts_with("post /a?b=c http/1.1\r\n"), "{received}");
    for line in ["x-a: b", "content-length: 5", "user-agent: earpiece/"] {
        assert!(received.contains(line), "{received}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Server::start("HTTP/1.1 204 No Content\r\n\r\n", Then::Goes).await;
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url("/"));
    let server = Server::start(answer, Then::Goes).await;
    let answer = client().send(get(&server.url("/")), LIMITS).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert!(answer.headers().contains_key(LOCATION));
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn clones_use_one_connection_again() {
    let server = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Then::Goes).await;
    let client = client();
    for _ in 0..3 {
        client.clone().send(get(&server.url("/")), LIMITS).await.unwrap();
        // The connection goes back to the pool in tasks of its own: each has its turns here.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn one_deadline_holds_for_the_head_and_for_the_body() {
    let limits = Limits { deadline: Duration::from_millis(50), ..LIMITS };
    for begun in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell"] {
        let server = Server::start(begun, Then::Goes).await;
        assert_eq!(client().send(get(&server.url("/")), limits).await.err(), Some(Failure::TimedOut), "{begun}");
    }
}

#[tokio::test]
async fn a_larger_answer_than_allowed_is_refused_whether_its_size_is_announced_or_not() {
    let limits = Limits { answer_bytes_max: 4, ..LIMITS };
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour", None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n", None),
        // Only announced: what is refused is not waited for.
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", Some(Failure::TooLarge)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfives\r\n", Some(Failure::TooLarge)),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the connection closes", Some(Failure::TooLarge)),
    ] {
        let server = Server::start(answer, Then::Goes).await;
        assert_eq!(client().send(get(&server.url("/")), limits).await.err(), expected, "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_whole_http_answer_is_broken() {
    let endless_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    for answer in [
        "",
        "SSH-2.0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
        &endless_head,
    ] {
        let server = Server::start(answer, Then::Closes).await;
        let outcome = client().send(get(&server.url("/")), LIMITS).await;
        assert_eq!(outcome.err(), Some(Failure::Broken), "{}", &answer[..answer.len().min(50)]);
    }
}

#[tokio::test]
async fn where_nobody_listens_and_where_no_address_is_nothing_is_reached() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for url in [
        &format!("http://{free}/"),
        "http://name.invalid/",
        "ftp://127.0.0.1/",
        "/relative",
        "http://user:hunter2@127.0.0.1/",
    ] {
        let failure = client().send(get(url), LIMITS).await.unwrap_err();
        assert_eq!(failure, Failure::Unreachable, "{url}");
    }
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_was_added_is_believed_and_any_other_is_not() {
    let authority = Authority::new();
    let tls = Files::with(&authority.identity()).open();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let server = Server::with(answer, Then::Goes, Some(tls)).await;
    let port = server.address.port();
    let by_name = format!("https://localhost:{port}/");
    assert_eq!(authority.client().send(get(&by_name), LIMITS).await.unwrap().body(), "ok");
    for (client, url) in [
        (client(), by_name.clone()),
        (Authority::new().client(), by_name),
        // The certificate is for another name.
        (authority.client(), format!("https://127.0.0.1:{port}/")),
    ] {
        assert_eq!(client.send(get(&url), LIMITS).await.err(), Some(Failure::Unreachable));
    }
}

#[test]
fn nothing_that_is_printed_says_where_a_request_went() {
    assert_eq!(format!("{:?}", client()), "Client");
    for failure in [Failure::Unreachable, Failure::TimedOut, Failure::TooLarge, Failure::Broken] {
        let printed = format!("{failure:?} {failure}");
        assert!(!printed.contains("://") && !printed.contains("127.0.0.1"), "{printed}");
    }
}
