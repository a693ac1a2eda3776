//! The events that functions get: the shapes of API Gateway's proxy integration and of its Lambda authorizers.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use http::{HeaderMap, HeaderName, Request};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::route::{CONNECT, DISCONNECT};

/// Bytes of an id: 88 bits that nobody guesses.
const ID_BYTES: usize = 11;
/// What only the hop from the client to us needs to know.
const HOP_BY_HOP: [HeaderName; 3] = [CONNECTION, UPGRADE, TRANSFER_ENCODING];
/// Where local functions live, in ARNs.
const ARN_PLACE: &str = "us-east-1:000000000000";

/// A new id in the form of API Gateway's: `L0SM9cOFvHcCIhw=`.
pub(crate) fn new_id() -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut bytes = [0; ID_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(URL_SAFE.encode(bytes))
}

/// What a client said when it came. Has no `Debug`: headers and query may hold a token.
pub(crate) struct Asked {
    headers: HeaderMap,
    query: String,
    peer: SocketAddr,
}

impl Asked {
    pub(crate) fn of<B>(request: &Request<B>, peer: SocketAddr) -> Self {
        let mut headers = request.headers().clone();
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        Self { headers, query: request.uri().query().unwrap_or_default().to_owned(), peer }
    }

    fn header(&self, name: &HeaderName) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// Headers once with their last value and once with all, and what a front adds about the hop before it.
    fn headers(&self) -> Lists {
        let mut lists = Lists::default();
        for (name, value) in &self.headers {
            lists.add(name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        lists.add("X-Forwarded-For", self.peer.ip().to_string());
        let host = self.header(&HOST).unwrap_or_default();
        let port = host.rsplit_once(':').map_or("80", |(_, port)| port);
        lists.add("X-Forwarded-Port", port.to_owned());
        lists.add("X-Forwarded-Proto", String::from("http"));
        lists
    }

    fn query(&self) -> Lists {
        let mut lists = Lists::default();
        for (name, value) in url::form_urlencoded::parse(self.query.as_bytes()) {
            lists.add(&name, value.into_owned());
        }
        lists
    }
}

/// Names with their last value, and with all values.
#[derive(Default)]
struct Lists {
    last: Map<String, Value>,
    all: Map<String, Value>,
}

impl Lists {
    fn add(&mut self, name: &str, value: String) {
        if let Value::Array(values) = self.all.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
            values.push(Value::String(value.clone()));
        }
        self.last.insert(name.to_owned(), Value::String(value));
    }
}

/// What stays the same for all events of one connection.
pub(crate) struct Facts {
    pub(crate) connection_id: String,
    pub(crate) connected_at_ms: i64,
    pub(crate) source_ip: String,
    pub(crate) user_agent: Option<String>,
    /// What the authorizer said about the caller.
    pub(crate) authorizer: Option<Map<String, Value>>,
    api_id: String,
    stage: String,
    domain_name: String,
}

impl Facts {
    pub(crate) fn new(connection_id: String, (api_id, stage): (&str, &str), asked: &Asked) -> Self {
        Self {
            connection_id,
            connected_at_ms: clock::now_ms(),
            source_ip: asked.peer.ip().to_string(),
            user_agent: asked.header(&USER_AGENT),
            authorizer: None,
            api_id: api_id.to_owned(),
            stage: stage.to_owned(),
            domain_name: asked.header(&HOST).unwrap_or_default(),
        }
    }

    /// The ARN that a policy has to allow.
    pub(crate) fn method_arn(&self) -> String {
        format!("arn:aws:execute-api:{ARN_PLACE}:{}/{}/{CONNECT}", self.api_id, self.stage)
    }

    fn context(&self, route_key: &str, event_type: &str, request_id: &str) -> Map<String, Value> {
        let now_ms = clock::now_ms();
        let mut identity = json!({ "sourceIp": self.source_ip });
        if let Some(user_agent) = &self.user_agent {
            identity["userAgent"] = user_agent.as_str().into();
        }
        let mut context = Map::new();
        let mut put = |name: &str, value: Value| context.insert(name.to_owned(), value);
        put("routeKey", route_key.into());
        put("eventType", event_type.into());
        put("extendedRequestId", request_id.into());
        put("requestId", request_id.into());
        put("requestTime", clock::log_form(now_ms).into());
        put("requestTimeEpoch", now_ms.into());
        put("messageDirection", "IN".into());
        put("stage", self.stage.as_str().into());
        put("connectedAt", self.connected_at_ms.into());
        put("identity", identity);
        put("domainName", self.domain_name.as_str().into());
        put("connectionId", self.connection_id.as_str().into());
        put("apiId", self.api_id.as_str().into());
        if let Some(authorizer) = &self.authorizer {
            put("authorizer", Value::Object(authorizer.clone()));
        }
        context
    }

    /// `$connect`.
    pub(crate) fn connect(&self, asked: &Asked, request_id: &str) -> Value {
        let headers = asked.headers();
        let mut event = json!({
            "headers": headers.last,
            "multiValueHeaders": headers.all,
            "requestContext": self.context(CONNECT, "CONNECT", request_id),
            "isBase64Encoded": false,
        });
        let query = asked.query();
        if !query.last.is_empty() {
            event["queryStringParameters"] = Value::Object(query.last);
            event["multiValueQueryStringParameters"] = Value::Object(query.all);
        }
        event
    }

    /// What an authorizer of type `REQUEST` gets before `$connect`.
    pub(crate) fn authorize(&self, asked: &Asked, request_id: &str) -> Value {
        let (headers, query) = (asked.headers(), asked.query());
        json!({
            "type": "REQUEST",
            "methodArn": self.method_arn(),
            "headers": headers.last,
            "multiValueHeaders": headers.all,
            "queryStringParameters": query.last,
            "multiValueQueryStringParameters": query.all,
            "stageVariables": {},
            "requestContext": self.context(CONNECT, "CONNECT", request_id),
        })
    }

    /// A message.
    pub(crate) fn message(&self, route_key: &str, body: &str, is_binary: bool, request_id: &str) -> Value {
        let mut context = self.context(route_key, "MESSAGE", request_id);
        context.insert("messageId".into(), request_id.into());
        json!({ "requestContext": context, "body": body, "isBase64Encoded": is_binary })
    }

    /// `$disconnect`.
    pub(crate) fn disconnect(&self, (code, reason): (u16, &str), request_id: &str) -> Value {
        let mut context = self.context(DISCONNECT, "DISCONNECT", request_id);
        context.insert("disconnectStatusCode".into(), code.into());
        context.insert("disconnectReason".into(), reason.into());
        let headers = json!({ "Host": self.domain_name, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": "" });
        let all: Map<_, _> =
            headers.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), json!([value]))).collect();
        json!({
            "headers": headers,
            "multiValueHeaders": all,
            "requestContext": context,
            "isBase64Encoded": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_lambda_events::apigw::{ApiGatewayCustomAuthorizerRequestTypeRequest, ApiGatewayWebsocketProxyRequest};

    use super::*;

    fn asked() -> Asked {
        let request = Request::get("/local?token=a%2Fb&lang=de&lang=en")
            .header("host", "127.0.0.1:3001")
            .header("user-agent", "test/1")
            .header("upgrade", "websocket")
            .header("connection", "Upgrade")
            .header("x-two", "1")
            .header("x-two", "2")
            .body(())
            .unwrap();
        Asked::of(&request, "192.0.2.7:5000".parse().unwrap())
    }

    fn facts() -> Facts {
        Facts::new("AAAA1234=".into(), ("api", "local"), &asked())
    }

    fn read(event: Value) -> ApiGatewayWebsocketProxyRequest {
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn a_connect_event_is_read_by_what_functions_read_it_with() {
        let event = read(facts().connect(&asked(), "R="));
        let context = &event.request_context;
        assert_eq!(context.route_key.as_deref(), Some("$connect"));
        assert_eq!(context.event_type.as_deref(), Some("CONNECT"));
        assert_eq!(context.connection_id.as_deref(), Some("AAAA1234="));
        assert_eq!(context.domain_name.as_deref(), Some("127.0.0.1:3001"));
        assert_eq!(context.stage.as_deref(), Some("local"));
        assert_eq!(context.identity.source_ip.as_deref(), Some("192.0.2.7"));
        assert_eq!(context.identity.user_agent.as_deref(), Some("test/1"));
        assert!(context.connected_at > 0 && context.request_time_epoch >= context.connected_at);
        assert_eq!(event.query_string_parameters.first("token"), Some("a/b"));
        assert_eq!(event.query_string_parameters.first("lang"), Some("en"));
        let languages: Vec<_> = event.multi_value_query_string_parameters.all("lang").unwrap();
        assert_eq!(languages, ["de", "en"]);
        assert_eq!(event.headers["x-two"], "2");
        assert_eq!(event.multi_value_headers.get_all("x-two").iter().count(), 2);
        assert_eq!(event.headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(event.headers["x-forwarded-port"], "3001");
        assert!(!event.headers.contains_key("upgrade") && !event.headers.contains_key("connection"));
        assert!(event.body.is_none() && !event.is_base64_encoded);
    }

    #[test]
    fn a_message_event_has_its_body_and_what_the_authorizer_said() {
        let mut facts = facts();
        facts.authorizer = Some(Map::from_iter([("busNo".to_owned(), json!("4595000"))]));
        let event = read(facts.message("subscribe", "{}", false, "M="));
        assert_eq!(event.request_context.route_key.as_deref(), Some("subscribe"));
        assert_eq!(event.request_context.event_type.as_deref(), Some("MESSAGE"));
        assert_eq!(event.request_context.message_id.as_deref(), Some("M="));
        assert_eq!(event.request_context.authorizer.fields["busNo"], "4595000");
        assert_eq!(event.body.as_deref(), Some("{}"));
        assert!(read(facts.message("$default", "AAAA", true, "M=")).is_base64_encoded);
    }

    #[test]
    fn a_disconnect_event_says_how_it_ended() {
        let event = read(facts().disconnect((1005, "no status"), "R="));
        assert_eq!(event.request_context.route_key.as_deref(), Some("$disconnect"));
        assert_eq!(event.request_context.event_type.as_deref(), Some("DISCONNECT"));
        assert_eq!(event.request_context.disconnect_status_code, Some(1005));
        assert_eq!(event.request_context.disconnect_reason.as_deref(), Some("no status"));
    }

    #[test]
    fn an_authorizer_event_names_the_method_and_has_the_whole_request() {
        let event = facts().authorize(&asked(), "R=");
        let event: ApiGatewayCustomAuthorizerRequestTypeRequest = serde_json::from_value(event).unwrap();
        assert_eq!(event.type_.as_deref(), Some("REQUEST"));
        assert_eq!(event.method_arn.as_deref(), Some("arn:aws:execute-api:us-east-1:000000000000:api/local/$connect"));
        assert_eq!(event.query_string_parameters.first("token"), Some("a/b"));
        assert_eq!(event.headers["x-two"], "2");
    }

    #[test]
    fn ids_look_like_api_gateways_and_no_two_are_alike() {
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| new_id().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 16 && id.ends_with('=')));
    }
}
