//! What an init message may look like, and what is refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::protocol::generators;

fn parse(value: &Value) -> Result<InitMessage, ParseError> {
    InitMessage::parse(value.to_string().as_bytes())
}

/// A good message with one field of `executionInfo` set to a value.
fn with_execution_field(name: &str, value: Value) -> Value {
    let mut message = json!({"executionInfo": {"contactId": 1, "busNo": 2}});
    message["executionInfo"][name] = value;
    message
}

/// A good message with one field set to a value.
fn with_field(name: &str, value: Value) -> Value {
    let mut message = json!({"executionInfo": {"contactId": 1, "busNo": 2}});
    message[name] = value;
    message
}

#[test]
fn a_message_with_every_documented_field_is_read_and_written() {
    let message = json!({
        "authenticationToken": "abc",
        "executionInfo": {
            "contactId": 466_000_000_001_u64,
            "busNo": 4_595_000,
            "requestId": 3,
            "actionType": "AGENTASSIST",
            "actionId": 12,
            "scriptName": "Sales\\Inbound",
        },
        "systemTelemetryData": {
            "consumerProcessHost": "media-07",
            "consumerProcessName": "MediaServer.exe",
            "consumerProcessVersion": "24.1.0",
            "inContactClusterAlias": "C7",
            "inContactScriptEngineHost": "lax-01",
            "consumerMetaData": {"build": [1, 2]},
        },
        "streamPerspective": "TX",
        "streamsConfiguration": "none",
        "appParams": {"language": "en"},
        "appConfig": {"app": {"id": 7}},
    });
    let read = parse(&message).unwrap();
    assert_eq!(read.authentication_token, Some(Secret::new("abc")));
    assert_eq!(read.execution_info.contact, ContactKey { bus_no: 4_595_000, contact_id: 466_000_000_001 });
    assert_eq!(read.execution_info.request_id, Some(3));
    assert_eq!(read.execution_info.action_type.as_deref(), Some("AGENTASSIST"));
    assert_eq!(read.execution_info.action_id, Some(12));
    assert_eq!(read.execution_info.script_name.as_deref(), Some("Sales\\Inbound"));
    assert_eq!(read.perspective, Perspective::Tx);
    assert_eq!(read.telemetry_value().as_ref(), Some(&message["systemTelemetryData"]));
    assert_eq!(read.unknown_fields(), 0);
    assert_eq!(read.to_value(), message);
}

#[test]
fn the_least_that_is_a_call_is_enough() {
    let contact = ContactKey { bus_no: 2, contact_id: 1 };
    let read = parse(&json!({"executionInfo": {"contactId": 1, "busNo": 2}})).unwrap();
    assert_eq!(read, InitMessage::new(contact, Perspective::Unknown("null".to_owned())));
    assert_eq!(read.telemetry_value(), None);
}

#[test]
fn tokens_are_read_in_every_form() {
    for (value, expected) in [
        (json!("abc"), Some("abc")),
        (json!("Bearer abc"), Some("abc")),
        (json!("bearer abc"), Some("abc")),
        (json!("BEARER\tabc "), Some("abc")),
        (json!("  abc  "), Some("abc")),
        (json!("Bearer Bearer abc"), Some("abc")),
        (json!("Basic dXNlcg=="), Some("Basic dXNlcg==")),
        (json!("bearerabc"), Some("bearerabc")),
        (json!(null), None),
        (json!(""), None),
        (json!("   "), None),
        (json!("Bearer "), None),
    ] {
        let read = parse(&with_field("authenticationToken", value.clone())).unwrap();
        assert_eq!(read.authentication_token.as_ref().map(Secret::reveal), expected, "{value}");
        assert_eq!(read.unknown_fields(), 0, "{value}");
    }
}

#[test]
fn perspectives_are_read_in_every_form() {
    for (value, expected) in [
        (json!("TX"), Perspective::Tx),
        (json!("rx"), Perspective::Rx),
        (json!("Mix"), Perspective::Mix),
        (json!("MX"), Perspective::Mix),
        (json!(0), Perspective::Tx),
        (json!(1), Perspective::Rx),
        (json!(2), Perspective::Mix),
        (json!("1"), Perspective::Rx),
        (json!(["TX"]), Perspective::Tx),
        (json!([2]), Perspective::Mix),
        (json!(["0"]), Perspective::Tx),
        (json!("both"), Perspective::Unknown("\"both\"".to_owned())),
        (json!(["TX", "RX"]), Perspective::Unknown("[\"TX\",\"RX\"]".to_owned())),
        (json!(3), Perspective::Unknown("3".to_owned())),
    ] {
        let read = parse(&with_field("streamPerspective", value.clone())).unwrap();
        assert_eq!(read.perspective, expected, "{value}");
        assert_eq!(parse(&read.to_value()).unwrap(), read, "{value}");
    }
}

#[test]
fn both_kinds_of_parameters_are_read_in_every_form() {
    for name in ["appParams", "appConfig"] {
        for (form, expected) in [
            (json!({"a": "b"}), json!({"a": "b"})),
            (json!("{\"a\":\"b\"}"), json!({"a": "b"})),
            (json!("{\r\n\"a\":\"b\r\nc\"}"), json!({"a": "b\r\nc"})),
            (json!("\"{\\\"a\\\":\\\"b\\\"}\""), json!({"a": "b"})),
            (json!("plain"), json!("plain")),
            (json!(null), json!(null)),
        ] {
            let read = parse(&with_field(name, form.clone())).unwrap();
            let params = if name == "appParams" { &read.app_params } else { &read.app_config };
            assert_eq!(params.to_value(), expected, "{name}: {form}");
            assert_eq!(read.unknown_fields(), 0);
        }
        assert_eq!(parse(&with_field("other", json!(1))).unwrap().app_params, Params::Absent);
    }
}

#[test]
fn ids_are_read_as_numbers_and_as_text_up_to_64_bits() {
    for (value, expected) in [
        (json!(0), 0),
        (json!("0"), 0),
        (json!("007"), 7),
        (json!(" 12 "), 12),
        (json!(u64::MAX), u64::MAX),
        (json!(u64::MAX.to_string()), u64::MAX),
    ] {
        let contact = parse(&with_execution_field("contactId", value.clone())).unwrap().execution_info.contact;
        assert_eq!(contact, ContactKey { bus_no: 2, contact_id: expected }, "{value}");
        let contact = parse(&with_execution_field("busNo", value.clone())).unwrap().execution_info.contact;
        assert_eq!(contact, ContactKey { bus_no: expected, contact_id: 1 }, "{value}");
    }
}

#[test]
fn ids_that_name_no_contact_are_refused_by_name() {
    for name in ["contactId", "busNo"] {
        for text in
            ["18446744073709551616", "\"18446744073709551616\"", "-1", "1.5", "1e3", "true", "[1]", "{}", "\"\""]
        {
            let value = serde_json::from_str(text).unwrap();
            let error = parse(&with_execution_field(name, value)).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`executionInfo.{name}` must be a whole number of at most 64 bits"),
                "{text}"
            );
        }
        let error = parse(&with_execution_field(name, json!(null))).unwrap_err();
        assert_eq!(error.to_string(), format!("`executionInfo.{name}` is missing"));
    }
    let error = parse(&json!({"executionInfo": {"busNo": 2}})).unwrap_err();
    assert_eq!(error.to_string(), "`executionInfo.contactId` is missing");
}

#[test]
fn what_is_no_init_message_is_refused_with_its_reason_and_none_of_its_content() {
    for (frame, expected) in [
        (&b""[..], "the message cannot be read as JSON (line 1, column 0)"),
        (b"hunter2", "the message cannot be read as JSON (line 1, column 1)"),
        (b"{\"authenticationToken\":\"hunter2", "the message cannot be read as JSON (line 1, column 31)"),
        (b"{\"a\":\"\xFF\"}", "the message cannot be read as JSON (line 1, column 7)"),
        (b"{} hunter2", "the message cannot be read as JSON (line 1, column 4)"),
        (b"[]", "the message must be a JSON object"),
        (b"\"hunter2\"", "the message must be a JSON object"),
        (b"null", "the message must be a JSON object"),
        (b"{}", "`executionInfo` is missing"),
        (b"{\"executionInfo\":null}", "`executionInfo` is missing"),
        (b"{\"executionInfo\":\"hunter2\"}", "`executionInfo` must be a JSON object"),
        (
            b"{\"executionInfo\":{\"contactId\":\"hunter2\"}}",
            "`executionInfo.contactId` must be a whole number of at most 64 bits",
        ),
    ] {
        assert_eq!(InitMessage::parse(frame).unwrap_err().to_string(), expected);
    }
}

#[test]
fn unknown_fields_are_kept_and_counted_on_all_levels() {
    let message = json!({
        "executionInfo": {"contactId": 1, "busNo": 2, "region": "na1"},
        "systemTelemetryData": {"consumerProcessHost": "h", "rack": 7, "row": 8},
        "streamPerspective": "RX",
        "somethingNew": {"a": [1]},
    });
    let read = parse(&message).unwrap();
    assert_eq!(read.unknown_fields(), 4);
    assert_eq!(read.to_value(), message);
}

#[test]
fn a_known_field_of_an_unexpected_type_is_kept_as_unknown_and_costs_no_call() {
    let message = json!({
        "authenticationToken": 5,
        "executionInfo": {
            "contactId": 1, "busNo": 2, "requestId": -1, "actionType": {}, "actionId": "x", "scriptName": [],
        },
        "systemTelemetryData": {"consumerProcessHost": 5},
        "streamPerspective": "RX",
    });
    let read = parse(&message).unwrap();
    assert_eq!(read.authentication_token, None);
    assert_eq!(read.execution_info.request_id, None);
    assert_eq!(read.unknown_fields(), 6);
    assert_eq!(read.to_value(), message);

    let read = parse(&with_field("systemTelemetryData", json!("C7"))).unwrap();
    assert_eq!((read.telemetry.is_none(), read.unknown_fields()), (true, 1));
}

#[test]
fn names_are_matched_in_any_case() {
    let read = parse(&json!({
        "AuthenticationToken": "abc",
        "ExecutionInfo": {"ContactId": 1, "BusNo": "2", "REQUESTID": 3},
        "SystemTelemetryData": {"InContactClusterAlias": "C7"},
        "StreamPerspective": "TX",
        "AppParams": "{}",
    }))
    .unwrap();
    assert_eq!(read.unknown_fields(), 0);
    assert_eq!(
        read.to_value(),
        json!({
            "authenticationToken": "abc",
            "executionInfo": {"contactId": 1, "busNo": 2, "requestId": 3},
            "systemTelemetryData": {"inContactClusterAlias": "C7"},
            "streamPerspective": "TX",
            "appParams": {},
        })
    );
}

#[test]
fn a_second_spelling_of_a_name_never_takes_the_place_of_the_first() {
    let message = json!({
        "authenticationToken": null,
        "AuthenticationToken": "other",
        "executionInfo": {"contactId": 1, "busNo": 2},
    });
    let read = parse(&message).unwrap();
    assert_eq!((read.authentication_token.as_ref(), read.unknown_fields()), (None, 1));
    assert_eq!(InitMessage::parse(read.to_json().as_bytes()).unwrap(), read);
}

#[test]
fn a_byte_order_mark_is_no_reason_to_refuse() {
    let frame = "\u{feff}{\"executionInfo\":{\"contactId\":1,\"busNo\":2}}";
    assert_eq!(InitMessage::parse(frame.as_bytes()).unwrap().execution_info.contact.contact_id, 1);
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let frame = format!("{{\"appParams\":{}", "[".repeat(60_000));
    let error = InitMessage::parse(frame.as_bytes()).unwrap_err();
    assert!(error.problem.starts_with("cannot be read as JSON"), "{error}");

    let text = Value::String("{\"a\":".repeat(10_000));
    assert!(matches!(parse(&with_field("appParams", text)).unwrap().app_params, Params::Text(_)));
}

#[test]
fn the_deepest_message_that_is_read_can_be_read_again_once_its_text_is_unwrapped() {
    for levels in [1, 63, 64, 65, 125, 126, 127] {
        let nested = "[".repeat(levels) + &"]".repeat(levels);
        let read = parse(&with_field("appParams", json!(nested))).unwrap();
        assert_eq!(InitMessage::parse(read.to_json().as_bytes()).unwrap(), read, "{levels}");
    }
}

#[test]
fn debug_prints_no_token_and_no_parameter() {
    let mut message = with_field("authenticationToken", json!("hunter2"));
    message["appParams"] = json!({"said": "hunter2"});
    message["appConfig"] = json!("hunter2");
    message["streamsConfiguration"] = json!("hunter2");
    message["token"] = json!("hunter2");
    message["systemTelemetryData"] = json!({"consumerMetaData": "hunter2", "x": "hunter2"});
    let printed = format!("{:?}", parse(&message).unwrap());
    assert!(!printed.contains("hunter2"), "{printed}");
}

proptest! {
    #[test]
    fn no_bytes_panic(frame in any::<Vec<u8>>()) {
        let _ = InitMessage::parse(&frame);
    }

    #[test]
    fn no_damage_to_a_good_frame_panics(
        message in generators::init_form(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut frame = message.to_string().into_bytes();
        let at = at.index(frame.len());
        frame[at] = byte;
        let _ = InitMessage::parse(&frame);
        let _ = InitMessage::parse(&frame[..at]);
    }

    #[test]
    fn no_json_panics(value in generators::json()) {
        let _ = InitMessage::from_value(value);
    }

    #[test]
    fn whatever_was_read_is_read_again_from_what_is_written(message in generators::init_form()) {
        let read = InitMessage::from_value(message).unwrap();
        prop_assert_eq!(InitMessage::parse(read.to_json().as_bytes()).unwrap(), read);
    }

    #[test]
    fn whatever_is_made_here_is_read_as_it_was_made(message in generators::init_message()) {
        prop_assert_eq!(InitMessage::parse(message.to_json().as_bytes()).unwrap(), message);
    }
}

#[test]
fn unknown_fields_of_all_levels_are_forwarded_but_never_a_token() {
    let frame = json!({
        "executionInfo": {"contactId": 1, "busNo": 2, "tier": "gold"},
        "systemTelemetryData": {"region": "na1"},
        "authenticationToken": {"odd": "hunter2"},
        "skill": 7,
    });
    let init = InitMessage::from_value(frame).expect("an init message");
    let expected = json!({"skill": 7, "executionInfo": {"tier": "gold"}, "systemTelemetryData": {"region": "na1"}});
    assert_eq!(init.unknown_value(), Some(expected));
    let plain = InitMessage::from_value(json!({"executionInfo": {"contactId": 1, "busNo": 2}})).expect("one");
    assert_eq!(plain.unknown_value(), None);
}
