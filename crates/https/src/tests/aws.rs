use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use earpiece_core::config::Env;
use earpiece_core::secret::Secret;

use super::*;
use crate::aws::{Environment, exchange, limits};

struct Variables<'a>(&'a [(&'a str, &'a str)]);

impl Env for Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(named, _)| *named == name).map(|(_, value)| (*value).to_owned())
    }
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", " key\n")];

async fn ask(url: &str, limits: Limits) -> Result<HttpResponse, ConnectorError> {
    let mut request = HttpRequest::new(SdkBody::from("{}"));
    request.set_method("POST").unwrap();
    request.set_uri(url).unwrap();
    exchange(&client(), request, limits).await
}

#[tokio::test]
async fn the_sdk_gets_an_answer_whole_whatever_its_status() {
    let server =
        Server::start("HTTP/1.1 400 Bad Request\r\nx-a: b\r\ncontent-length: 5\r\n\r\nhello", Then::Goes).await;
    let answer = ask(&server.url("/"), LIMITS).await.unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    assert_eq!(answer.headers().get("x-a"), Some("b"));
    assert_eq!(answer.body().bytes(), Some(b"hello".as_slice()));
}

#[tokio::test]
async fn the_sdk_is_told_what_may_be_tried_again() {
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(ask(&format!("http://{refused}/"), LIMITS).await.unwrap_err().is_io());
    let broken = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", Then::Closes).await;
    assert!(ask(&broken.url("/"), LIMITS).await.unwrap_err().is_io());
    let large = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", Then::Goes).await;
    assert!(ask(&large.url("/"), LIMITS).await.unwrap_err().is_other());
    let silent = Server::start("", Then::Goes).await;
    let soon = Limits { deadline: Duration::from_millis(20), ..LIMITS };
    assert!(ask(&silent.url("/"), soon).await.unwrap_err().is_timeout());
}

#[test]
fn a_wait_that_the_sdk_limits_is_no_longer_than_that() {
    let (connect, read) = (Duration::from_secs(1), Duration::from_secs(2));
    let patient = HttpConnectorSettings::builder().connect_timeout(connect).build();
    assert_eq!(limits(&patient).deadline, Duration::from_secs(30));
    let hasty = HttpConnectorSettings::builder().connect_timeout(connect).read_timeout(read).build();
    assert_eq!(limits(&hasty).deadline, connect + read);
}

#[test]
fn amazons_roots_are_among_the_public_ones() {
    let roots = Trust::public().into_roots().roots;
    for number in 1..=4 {
        let name = format!("Amazon Root CA {number}");
        let is_it = |subject: &[u8]| subject.windows(name.len()).any(|window| window == name.as_bytes());
        assert!(roots.iter().any(|root| is_it(root.subject.as_ref())), "{name}");
    }
}

#[test]
fn a_functions_environment_says_who_it_is() {
    let role = [("AWS_REGION", "eu-west-1"), ("AWS_SESSION_TOKEN", "token")];
    let found = Environment::read(&Variables(&[KEYS, role].concat())).unwrap();
    assert_eq!(found.region.as_deref(), Some("eu-west-1"));
    assert_eq!((found.access_key_id.as_str(), found.secret_access_key.reveal()), ("id", "key"));
    assert_eq!(found.session_token.as_ref().map(Secret::reveal), Some("token"));
    let printed = format!("{found:?}");
    assert!(!printed.contains("\"key\"") && !printed.contains("\"token\""), "{printed}");
}

#[test]
fn half_of_a_credential_is_none_and_a_profile_may_say_otherwise() {
    for half in KEYS {
        assert_eq!(Environment::read(&Variables(&[half])), None);
    }
    let other = [KEYS[0], KEYS[1], ("AWS_PROFILE", "other")];
    assert_eq!(Environment::read(&Variables(&other)), None);
    let whole = [KEYS[0], KEYS[1], ("AWS_DEFAULT_REGION", "eu-west-2")];
    assert_eq!(Environment::read(&Variables(&whole)).unwrap().region.as_deref(), Some("eu-west-2"));
}
