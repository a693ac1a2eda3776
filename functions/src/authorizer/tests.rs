use earpiece_access::Guard;
use earpiece_access::issue::sign;
use earpiece_core::access::Verifier;
use earpiece_core::config::Reader;
use earpiece_core::secret::Secret;
use earpiece_core::telemetry::AUTH_REFUSALS;

use super::*;
use crate::auth::grant_of;
use crate::counters::Counters;
use crate::testing::{House, claims, guarded, published_key};

const ARN: &str = "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3/prod/$connect";

fn authorizer(house: &House, counters: &Arc<Counters>) -> Authorizer {
    let guard = |token: &str| {
        let env = guarded();
        let mut reader = Reader::new(&env);
        let keys = crate::start::keys_in(house.store.clone());
        let jwt = earpiece_access::settings::jwt(&mut reader, None, Some(keys));
        Guard::new(Verifier::new([Secret::new(token)]), jwt)
    };
    let store = Some(house.store.clone());
    Authorizer::new(
        Gate::http(guard("text"), store.clone(), Arc::clone(counters)),
        Gate::websocket(guard("audio"), store, Arc::clone(counters)),
    )
}

fn http(path: &str, headers: &Value) -> Value {
    json!({
        "version": "2.0", "type": "REQUEST", "rawPath": path, "headers": headers,
        "requestContext": {"stage": "prod", "http": {"method": "POST", "path": path}},
    })
}

fn connect(headers: &Value, query: &Value) -> Value {
    json!({
        "type": "REQUEST", "methodArn": ARN, "headers": headers, "queryStringParameters": query,
        "requestContext": {"routeKey": "$connect", "stage": "prod", "connectionId": "abc="},
    })
}

#[tokio::test]
async fn an_http_request_is_allowed_with_what_its_token_is_good_for() {
    let house = House::with(guarded()).await;
    let counters = Arc::new(Counters::new("authorizer"));
    let authorizer = authorizer(&house, &counters);
    let key = published_key(&house.store).await;
    let mut bound = claims();
    (bound.bus_no, bound.scope) = (Some(7), "utterances".into());
    let token = sign(&key, &bound).unwrap();
    let hook = "/prod/agent_assist_text_webhooks/utterance";

    let answer = authorizer.judge(&http(hook, &json!({"authorization": token.reveal()}))).await.unwrap();
    assert_eq!(answer["isAuthorized"], json!(true));
    let context = answer["context"].as_object().unwrap();
    assert!(context.values().all(Value::is_string), "{context:?}");
    let fields: std::collections::HashMap<String, Value> = context.clone().into_iter().collect();
    let grant = grant_of(&fields).unwrap();
    assert_eq!((grant.bus_no, grant.scopes), (Some(7), Some(vec![Scope::Utterances])));

    for (path, headers, reason) in [
        (hook, json!({}), "missing"),
        (hook, json!({"authorization": "audio"}), "wrong"),
        ("/prod/contacts/7/1/events", json!({"authorization": token.reveal()}), "scope"),
        ("/prod/contacts/7/1/suggestions", json!({"authorization": token.reveal()}), "scope"),
        ("/prod/interactions/1/suggestions", json!({"authorization": token.reveal()}), "scope"),
        ("/prod/openapi.json", json!({"authorization": "text"}), "scope"),
    ] {
        let answer = authorizer.judge(&http(path, &headers)).await.unwrap();
        assert_eq!(answer, json!({"isAuthorized": false, "context": {"reason": reason}}), "{path}");
    }
    assert_eq!(counters.total(AUTH_REFUSALS, &[("door", "http"), ("reason", "wrong")]), 1);
}

#[tokio::test]
async fn a_socket_is_allowed_by_a_policy_and_refused_by_the_word_that_becomes_401() {
    let house = House::with(guarded()).await;
    let counters = Arc::new(Counters::new("authorizer"));
    let authorizer = authorizer(&house, &counters);
    let key = published_key(&house.store).await;
    let with_scope = |scope: &str| {
        let mut claims = claims();
        claims.scope = scope.into();
        sign(&key, &claims).unwrap().reveal().to_owned()
    };
    for (headers, query) in [
        (json!({"Authorization": "Bearer audio"}), Value::Null),
        (Value::Null, json!({"token": "audio"})),
        (json!({}), json!({"access_token": with_scope("audio")})),
        (json!({}), json!({"authenticationToken": with_scope("listen")})),
    ] {
        let answer = authorizer.judge(&connect(&headers, &query)).await.unwrap();
        let statement = &answer["policyDocument"]["Statement"][0];
        assert_eq!((&statement["Effect"], &statement["Resource"]), (&json!("Allow"), &json!(ARN)), "{query}");
        assert!(answer["principalId"].is_string());
    }
    let denied = authorizer.judge(&connect(&json!({}), &json!({"token": with_scope("events")}))).await.unwrap();
    assert_eq!(denied["policyDocument"]["Statement"][0]["Effect"], json!("Deny"));
    for (headers, query) in [(json!({}), json!({})), (json!({"authorization": "text"}), json!({"token": "wrong"}))] {
        let refused = authorizer.judge(&connect(&headers, &query)).await.unwrap_err();
        assert_eq!(refused.to_string(), "Unauthorized");
    }
    for (reason, count) in [("missing", 1), ("wrong", 1), ("scope", 1)] {
        assert_eq!(counters.total(AUTH_REFUSALS, &[("door", "websocket"), ("reason", reason)]), count, "{reason}");
    }
}

#[tokio::test]
async fn a_one_time_token_is_spent_here_and_does_not_pass_twice() {
    let house = House::with(guarded()).await;
    let authorizer = authorizer(&house, &Arc::new(Counters::new("authorizer")));
    let key = published_key(&house.store).await;
    let mut once = claims();
    (once.one_time, once.scope) = (Some(true), "listen".into());
    let event = connect(&json!({}), &json!({"token": sign(&key, &once).unwrap().reveal()}));
    assert!(authorizer.judge(&event).await.is_ok());
    assert_eq!(authorizer.judge(&event).await.unwrap_err().to_string(), "Unauthorized");
}
