//! The first frame of an audio socket: `WebSocketHookInitializeMessage` (contract §1.2, §1.3).
//!
//! A call is refused only for what it cannot go on without: a JSON object that says which contact this is. Everything
//! else is taken if it has the documented form and kept as unknown if not.

use serde_json::{Map, Value};

use super::fields::{Fields, ObjectWriter};
use super::{Params, ParseError, Perspective};
use crate::contact::ContactKey;
use crate::secret::{Private, Secret};

/// What CXone says before the audio.
#[derive(Debug, Clone, PartialEq)]
pub struct InitMessage {
    /// The header configured in the Agent Assist Hub, without blanks and without a leading `Bearer`; absent when there
    /// was none or it was blank.
    pub authentication_token: Option<Secret>,
    /// Which contact, and which script action asks.
    pub execution_info: ExecutionInfo,
    /// Which of CXone's programs asks.
    pub telemetry: Option<SystemTelemetryData>,
    /// Whose voice the socket carries. An absent one is [`Perspective::Unknown`] of `null`.
    pub perspective: Perspective,
    /// Not in use by CXone; kept as it came.
    pub streams_configuration: Option<Private<Value>>,
    /// Parameters of this contact, from the Studio script.
    pub app_params: Params,
    /// Parameters of this configuration, from the Agent Assist Hub.
    pub app_config: Params,
    /// Fields that no document names, and known ones of an unexpected type, under the names they came with.
    pub unknown: Private<Map<String, Value>>,
}

/// Which contact, and which script action asks: `ActionExecutionInfo`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionInfo {
    /// `busNo` and `contactId`.
    pub contact: ContactKey,
    /// Counts the requests of one contact.
    pub request_id: Option<u64>,
    /// The type of the Studio action that asks.
    pub action_type: Option<String>,
    /// The number of that action within the script.
    pub action_id: Option<u64>,
    /// Path and name of the script.
    pub script_name: Option<String>,
    /// Fields that no document names, and known ones of an unexpected type.
    pub unknown: Private<Map<String, Value>>,
}

/// Which of CXone's programs asks: `SystemTelemetryData`.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemTelemetryData {
    /// Host of the program.
    pub consumer_process_host: Option<String>,
    /// Name of the program.
    pub consumer_process_name: Option<String>,
    /// Version of the program.
    pub consumer_process_version: Option<String>,
    /// Alias of the CXone cluster on which the script runs.
    pub in_contact_cluster_alias: Option<String>,
    /// Host of the script engine.
    pub in_contact_script_engine_host: Option<String>,
    /// Anything else that the program wants to say.
    pub consumer_meta_data: Option<Private<Value>>,
    /// Fields that no document names, and known ones of an unexpected type.
    pub unknown: Private<Map<String, Value>>,
}

impl InitMessage {
    /// A message that says no more than it must.
    #[must_use]
    pub fn new(contact: ContactKey, perspective: Perspective) -> Self {
        Self {
            authentication_token: None,
            execution_info: ExecutionInfo::new(contact),
            telemetry: None,
            perspective,
            streams_configuration: None,
            app_params: Params::Absent,
            app_config: Params::Absent,
            unknown: Private::new(Map::new()),
        }
    }

    /// Reads the frame: UTF-8 JSON, with or without a byte order mark.
    ///
    /// # Errors
    /// When it is not a JSON object, or `executionInfo` with its `contactId` and `busNo` is missing or not what it must
    /// be. The error names the field and holds nothing of the frame.
    pub fn parse(frame: &[u8]) -> Result<Self, ParseError> {
        Self::from_fields(Fields::read(frame)?)
    }

    /// Reads a frame that was read as JSON already.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_value(frame: Value) -> Result<Self, ParseError> {
        Self::from_fields(Fields::of(frame)?)
    }

    fn from_fields(mut fields: Fields) -> Result<Self, ParseError> {
        Ok(Self {
            authentication_token: fields.token("authenticationToken"),
            execution_info: ExecutionInfo::from_fields(fields.required_object("executionInfo")?)?,
            telemetry: fields.object("systemTelemetryData").map(SystemTelemetryData::from_fields),
            perspective: Perspective::read(&fields.raw("streamPerspective").unwrap_or(Value::Null)),
            streams_configuration: fields.any("streamsConfiguration").map(Private::new),
            app_params: fields.params("appParams"),
            app_config: fields.params("appConfig"),
            unknown: fields.into_unknown(),
        })
    }

    /// How many fields were kept as unknown, on all levels.
    #[must_use]
    pub fn unknown_fields(&self) -> u64 {
        let in_telemetry = self.telemetry.as_ref().map_or(0, |telemetry| telemetry.unknown.reveal().len());
        let unknown = self.unknown.reveal().len() + self.execution_info.unknown.reveal().len() + in_telemetry;
        u64::try_from(unknown).unwrap_or(u64::MAX)
    }

    /// The unknown fields of all levels, to forward: those of the two inner objects under their names. `None` where there
    /// are none. A token of a type that could not be read is not among them.
    #[must_use]
    pub fn unknown_value(&self) -> Option<Value> {
        let mut unknown = self.unknown.reveal().clone();
        unknown.retain(|name, _| !name.eq_ignore_ascii_case("authenticationToken"));
        let telemetry = self.telemetry.as_ref().map(|telemetry| telemetry.unknown.reveal());
        let inner = [("executionInfo", Some(self.execution_info.unknown.reveal())), ("systemTelemetryData", telemetry)];
        for (name, fields) in inner {
            if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
                unknown.insert(name.to_owned(), Value::Object(fields.clone()));
            }
        }
        (!unknown.is_empty()).then_some(Value::Object(unknown))
    }

    /// `systemTelemetryData` for the ledger.
    #[must_use]
    pub fn telemetry_value(&self) -> Option<Value> {
        self.telemetry.as_ref().map(SystemTelemetryData::to_value)
    }

    /// The message under its documented names, to send: **the token is in it**.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut message = ObjectWriter::new(&self.unknown);
        message.put("authenticationToken", self.authentication_token.as_ref().map(Secret::reveal));
        message.put("executionInfo", Some(self.execution_info.to_value()));
        message.put("systemTelemetryData", self.telemetry_value());
        message.put("streamPerspective", Some(self.perspective.to_value()));
        message.put("streamsConfiguration", self.streams_configuration.as_ref().map(|any| any.reveal().clone()));
        message.put("appParams", self.app_params.to_field());
        message.put("appConfig", self.app_config.to_field());
        message.finish()
    }

    /// The frame to send: **the token is in it**. What [`Self::parse`] makes of it equals this message.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }
}

impl ExecutionInfo {
    /// Names the contact and nothing else.
    #[must_use]
    pub fn new(contact: ContactKey) -> Self {
        Self {
            contact,
            request_id: None,
            action_type: None,
            action_id: None,
            script_name: None,
            unknown: Private::new(Map::new()),
        }
    }

    fn from_fields(mut fields: Fields) -> Result<Self, ParseError> {
        let contact_id = fields.required_id("contactId")?;
        let bus_no = fields.required_id("busNo")?;
        Ok(Self {
            contact: ContactKey { bus_no, contact_id },
            request_id: fields.id("requestId"),
            action_type: fields.text("actionType"),
            action_id: fields.id("actionId"),
            script_name: fields.text("scriptName"),
            unknown: fields.into_unknown(),
        })
    }

    fn to_value(&self) -> Value {
        let mut info = ObjectWriter::new(&self.unknown);
        info.put("contactId", Some(self.contact.contact_id));
        info.put("busNo", Some(self.contact.bus_no));
        info.put("requestId", self.request_id);
        info.put("actionType", self.action_type.as_deref());
        info.put("actionId", self.action_id);
        info.put("scriptName", self.script_name.as_deref());
        info.finish()
    }
}

impl SystemTelemetryData {
    fn from_fields(mut fields: Fields) -> Self {
        Self {
            consumer_process_host: fields.text("consumerProcessHost"),
            consumer_process_name: fields.text("consumerProcessName"),
            consumer_process_version: fields.text("consumerProcessVersion"),
            in_contact_cluster_alias: fields.text("inContactClusterAlias"),
            in_contact_script_engine_host: fields.text("inContactScriptEngineHost"),
            consumer_meta_data: fields.any("consumerMetaData").map(Private::new),
            unknown: fields.into_unknown(),
        }
    }

    fn to_value(&self) -> Value {
        let mut telemetry = ObjectWriter::new(&self.unknown);
        telemetry.put("consumerProcessHost", self.consumer_process_host.as_deref());
        telemetry.put("consumerProcessName", self.consumer_process_name.as_deref());
        telemetry.put("consumerProcessVersion", self.consumer_process_version.as_deref());
        telemetry.put("inContactClusterAlias", self.in_contact_cluster_alias.as_deref());
        telemetry.put("inContactScriptEngineHost", self.in_contact_script_engine_host.as_deref());
        telemetry.put("consumerMetaData", self.consumer_meta_data.as_ref().map(|any| any.reveal().clone()));
        telemetry.finish()
    }
}

#[cfg(test)]
mod tests;
