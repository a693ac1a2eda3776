//! Generated messages for the property tests of this module.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::init::{ExecutionInfo, SystemTelemetryData};
use super::{InitMessage, Params, Perspective};
use crate::contact::ContactKey;
use crate::secret::{Private, Secret};

/// Any text, rich in what JSON has to escape.
pub(super) fn text() -> impl Strategy<Value = String> + Clone {
    let awkward = prop::sample::select(vec!['"', '\\', '\n', '\r', '\t', '\0', '\u{1f}', ' ', '{', '[', 'u', '0']);
    prop::collection::vec(prop_oneof![any::<char>(), awkward], 0..12).prop_map(String::from_iter)
}

/// Any JSON value of a few levels.
pub(super) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Parameters in any form: a value, or up to five layers of JSON text around one, perhaps with raw line ends.
pub(super) fn params_form() -> impl Strategy<Value = Value> {
    (json(), 0_usize..6, any::<bool>()).prop_map(|(value, layers, is_raw)| {
        (0..layers).fold(value, |inner, _| {
            let text = inner.to_string();
            Value::String(if is_raw { text.replace("\\n", "\n").replace("\\r", "\r") } else { text })
        })
    })
}

/// A name as it is documented, or in another case.
fn spelling(name: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(name.to_owned()),
        1 => Just(name.to_ascii_uppercase()),
        1 => Just(name[..1].to_ascii_uppercase() + &name[1..]),
    ]
}

/// Up to two fields of one name in some spelling, with a value of the expected form or of any other.
fn field(name: &'static str, expected: BoxedStrategy<Value>) -> BoxedStrategy<Vec<(String, Value)>> {
    let value = prop_oneof![3 => expected, 1 => json()];
    prop::collection::vec((spelling(name), value), 0..3).boxed()
}

fn text_value() -> BoxedStrategy<Value> {
    prop_oneof![text(), Just("Bearer abc".to_owned()), Just("  ".to_owned())].prop_map(Value::from).boxed()
}

fn id() -> BoxedStrategy<Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<u64>().prop_map(|id| Value::from(id.to_string())),
        any::<u32>().prop_map(|id| Value::from(format!(" 00{id} "))),
    ]
    .boxed()
}

/// An object of the given fields and a few that nobody knows.
fn object(fields: Vec<BoxedStrategy<Vec<(String, Value)>>>) -> impl Strategy<Value = Map<String, Value>> {
    let strange = prop::collection::vec(("[a-z]{1,8}", json()), 0..3);
    (fields, strange).prop_map(|(known, strange)| known.into_iter().flatten().chain(strange).collect())
}

fn object_with_ids(fields: Vec<BoxedStrategy<Vec<(String, Value)>>>) -> impl Strategy<Value = Value> {
    (object(fields), id(), id()).prop_map(|(mut object, contact_id, bus_no)| {
        object.insert("contactId".to_owned(), contact_id);
        object.insert("busNo".to_owned(), bus_no);
        Value::Object(object)
    })
}

/// An init message that can be read, in any of its many forms.
pub(super) fn init_form() -> impl Strategy<Value = Value> {
    let execution = object_with_ids(vec![
        field("requestId", id()),
        field("actionType", text_value()),
        field("actionId", id()),
        field("scriptName", text_value()),
    ]);
    let telemetry = object(vec![
        field("consumerProcessHost", text_value()),
        field("inContactClusterAlias", text_value()),
        field("consumerMetaData", json().boxed()),
    ])
    .prop_map(Value::Object)
    .boxed();
    let rest = object(vec![
        field("authenticationToken", text_value()),
        field("systemTelemetryData", telemetry),
        field("streamPerspective", prop::sample::select(vec![json!("TX"), json!(1), json!(["mx"])]).boxed()),
        field("streamsConfiguration", json().boxed()),
        field("appParams", params_form().boxed()),
        field("appConfig", params_form().boxed()),
    ]);
    (execution, rest).prop_map(|(execution, mut rest)| {
        rest.insert("executionInfo".to_owned(), execution);
        Value::Object(rest)
    })
}

/// An utterance that can be read, in any of its many forms.
pub(super) fn utterance_form() -> impl Strategy<Value = Value> {
    let rest = object_with_ids(vec![
        field("authorizationHeader", text_value()),
        field("tenantId", text_value()),
        field("messageData", json().boxed()),
        field("messageMetaData", json().boxed()),
        field("agentAssistAppConfig", params_form().boxed()),
    ]);
    (rest, prop::sample::select(vec!["patron", "Agent", " SYSTEM "]), ".{1,20}").prop_map(|(mut rest, who, body)| {
        rest["participantId"] = json!(who);
        rest["messageBody"] = json!(body);
        rest
    })
}

/// A token that is no scheme.
pub(super) fn token() -> impl Strategy<Value = Option<Secret>> {
    prop::option::of("[0-9A-Za-z._~+/=-]{8,40}".prop_map(Secret::new))
}

/// Fields that nobody knows.
pub(super) fn unknown() -> impl Strategy<Value = Private<Map<String, Value>>> {
    let fields = prop::collection::btree_map("x-[a-z]{1,8}", json(), 0..3);
    fields.prop_map(|fields| Private::new(fields.into_iter().collect()))
}

/// A contact.
pub(super) fn contact() -> impl Strategy<Value = ContactKey> {
    (any::<u64>(), any::<u64>()).prop_map(|(bus_no, contact_id)| ContactKey { bus_no, contact_id })
}

/// Parameters as they are after reading.
pub(super) fn params() -> impl Strategy<Value = Params> {
    prop_oneof![1 => Just(Params::Absent), 4 => params_form().prop_map(Params::read)]
}

/// Any value but null.
pub(super) fn some_json() -> impl Strategy<Value = Private<Value>> {
    json().prop_filter("null is absent", |value| !value.is_null()).prop_map(Private::new)
}

fn execution_info() -> impl Strategy<Value = ExecutionInfo> {
    let text = prop::option::of(text());
    let number = prop::option::of(any::<u64>());
    (contact(), number.clone(), text.clone(), number, text, unknown()).prop_map(
        |(contact, request_id, action_type, action_id, script_name, unknown)| ExecutionInfo {
            contact,
            request_id,
            action_type,
            action_id,
            script_name,
            unknown,
        },
    )
}

fn telemetry() -> impl Strategy<Value = SystemTelemetryData> {
    (prop::array::uniform5(prop::option::of(text())), prop::option::of(some_json()), unknown()).prop_map(
        |([host, name, version, cluster, engine], consumer_meta_data, unknown)| SystemTelemetryData {
            consumer_process_host: host,
            consumer_process_name: name,
            consumer_process_version: version,
            in_contact_cluster_alias: cluster,
            in_contact_script_engine_host: engine,
            consumer_meta_data,
            unknown,
        },
    )
}

/// An init message.
pub(super) fn init_message() -> impl Strategy<Value = InitMessage> {
    let perspective = prop_oneof![
        Just(Perspective::Tx),
        Just(Perspective::Rx),
        Just(Perspective::Mix),
        json().prop_map(|value| Perspective::read(&value)),
    ];
    (
        token(),
        execution_info(),
        prop::option::of(telemetry()),
        perspective,
        prop::option::of(some_json()),
        params(),
        params(),
        unknown(),
    )
        .prop_map(|(token, execution_info, telemetry, perspective, streams, app_params, app_config, unknown)| {
            InitMessage {
                authentication_token: token,
                execution_info,
                telemetry,
                perspective,
                streams_configuration: streams,
                app_params,
                app_config,
                unknown,
            }
        })
}
