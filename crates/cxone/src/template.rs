//! Addresses as templates.
//!
//! The documents name different hosts for the same endpoint, and tenants differ, so every address is a setting with the
//! documented one as its default. A template is checked at start with sample values: one that could not become an
//! address never gets as far as a request. Nothing here prints one, because an operator may have put a token into it.

use http::Uri;

use crate::error::CxoneError;

/// Longest template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 2048;

/// What a template may leave open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// `{api}`: base address of the API, without a slash at its end.
    Api,
    /// `{api_ws}`: the same, for WebSockets (`wss://…`).
    ApiSocket,
    /// `{api_host}`: its host and port.
    ApiHost,
    /// `{org}`: the tenant's name in host names.
    Org,
    /// `{interactionId}`.
    Interaction,
}

impl Slot {
    const ALL: [Self; 5] = [Self::Api, Self::ApiSocket, Self::ApiHost, Self::Org, Self::Interaction];

    const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::ApiSocket => "api_ws",
            Self::ApiHost => "api_host",
            Self::Org => "org",
            Self::Interaction => "interactionId",
        }
    }
}

/// What addresses are for, and so how they have to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// `https://`.
    Http,
    /// `wss://`.
    Socket,
}

impl Wire {
    /// Said of an address that does not fit.
    pub(crate) const fn form(self) -> &'static str {
        match self {
            Self::Http => {
                "must be an address that begins with https:// (http:// only to this machine), with known placeholders"
            }
            Self::Socket => {
                "must be an address that begins with wss:// (ws:// only to this machine), with known placeholders"
            }
        }
    }

    const fn schemes(self) -> (&'static str, &'static str) {
        match self {
            Self::Http => ("https", "http"),
            Self::Socket => ("wss", "ws"),
        }
    }

    /// Tokens travel to this address: only with TLS, except on the way to this machine itself.
    pub(crate) fn fits(self, uri: &Uri) -> bool {
        let (safe, plain) = self.schemes();
        let host = uri.host().unwrap_or_default();
        let is_local = matches!(host, "127.0.0.1" | "[::1]" | "localhost");
        let has_scheme = uri.scheme_str().is_some_and(|scheme| scheme == safe || (is_local && scheme == plain));
        has_scheme && !host.is_empty() && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    }
}

/// An address. Has no `Debug` and no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    text: String,
    wire: Wire,
}

impl Address {
    /// Reads an address that did not come from a template.
    pub(crate) fn parse(text: &str, wire: Wire) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        (wire.fits(&uri) && !text.contains('#')).then(|| Self { text: text.to_owned(), wire })
    }

    /// The address without a slash at its end, and with `path` behind it.
    pub(crate) fn below(&self, path: &str) -> Option<Self> {
        Self::parse(&format!("{}{path}", self.text.trim_end_matches('/')), self.wire)
    }

    /// The address for a request.
    pub(crate) fn uri(&self) -> Result<Uri, CxoneError> {
        self.text.parse().map_err(|_| UNUSABLE)
    }

    /// With further fields in its query, each of them encoded.
    pub(crate) fn with_query(&self, fields: &[(&str, &str)]) -> Result<Uri, CxoneError> {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let joint = if self.text.contains('?') { '&' } else { '?' };
        format!("{}{joint}{query}", self.text).parse().map_err(|_| UNUSABLE)
    }

    /// Whether paths can be put behind it.
    pub(crate) fn is_base(&self) -> bool {
        !self.text.contains('?')
    }
}

const UNUSABLE: CxoneError = CxoneError::NotConfigured { problem: "an address does not fit its placeholders' values" };

/// What the placeholders stand for. Has no `Debug`.
#[derive(Clone)]
pub(crate) struct Values<'a> {
    pub(crate) api: &'a Address,
    pub(crate) org: Option<&'a str>,
    pub(crate) interaction: Option<&'a str>,
}

enum Part {
    Text(String),
    Open(Slot),
}

/// A template that was checked. Has no `Debug`.
pub(crate) struct Template {
    parts: Vec<Part>,
    wire: Wire,
}

impl Template {
    /// Reads a template in which only `allowed` may be open. `None` when it has others, or could not be an address.
    pub(crate) fn parse(text: &str, wire: Wire, allowed: &[Slot]) -> Option<Self> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return None;
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, from)) = rest.split_once('{') {
            let (name, after) = from.split_once('}')?;
            let slot = Slot::ALL.into_iter().find(|slot| slot.name() == name)?;
            if !allowed.contains(&slot) {
                return None;
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Open(slot));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self { parts, wire };
        template.is_sound().then_some(template)
    }

    /// Whether it leaves a slot open.
    pub(crate) fn needs(&self, slot: Slot) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Open(open) if *open == slot))
    }

    fn is_sound(&self) -> bool {
        let Some(api) = Address::parse("https://sample.example", Wire::Http) else { return false };
        self.fill(&Values { api: &api, org: Some("sample"), interaction: Some("1") }).is_ok()
    }

    /// The address for these values.
    pub(crate) fn fill(&self, values: &Values<'_>) -> Result<Address, CxoneError> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Open(slot) => push_value(&mut text, *slot, values)?,
            }
        }
        Address::parse(&text, self.wire).ok_or(UNUSABLE)
    }
}

fn push_value(text: &mut String, slot: Slot, values: &Values<'_>) -> Result<(), CxoneError> {
    let api = values.api.text.trim_end_matches('/');
    match slot {
        Slot::Api => text.push_str(api),
        // `https` becomes `wss`, and `http` becomes `ws`.
        Slot::ApiSocket => text.push_str(&api.replacen("http", "ws", 1)),
        Slot::ApiHost => {
            let uri = values.api.uri()?;
            text.push_str(uri.authority().map_or("", http::uri::Authority::as_str));
        }
        Slot::Org => text.push_str(values.org.ok_or(CxoneError::NotConfigured {
            problem: "EARPIECE_CXONE_ORG must be set, because an address has {org} in it",
        })?),
        Slot::Interaction => {
            let id = values.interaction.ok_or(UNUSABLE)?;
            // An id can stand in a path as it is. But one of dots would lead to another endpoint, and none is called so.
            if id.bytes().all(|byte| byte == b'.') {
                return Err(CxoneError::Refused { status: 404 });
            }
            text.push_str(id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: &[Slot] = &Slot::ALL;

    fn filled(template: &str, wire: Wire, api: &str) -> String {
        let api = Address::parse(api, Wire::Http).expect("an API");
        let values = Values { api: &api, org: Some("acme"), interaction: Some("a:1") };
        let template = Template::parse(template, wire, ALL).expect("a template");
        template.fill(&values).map_or_else(|error| error.to_string(), |address| address.text)
    }

    #[test]
    fn placeholders_are_filled() {
        let api = "https://api.example:8443/";
        assert_eq!(filled("{api}/oauth2/token", Wire::Http, api), "https://api.example:8443/oauth2/token");
        assert_eq!(filled("wss://{api_host}/ws/v1", Wire::Socket, api), "wss://api.example:8443/ws/v1");
        assert_eq!(filled("{api_ws}/ws/v1", Wire::Socket, api), "wss://api.example:8443/ws/v1");
        assert_eq!(filled("{api_ws}/ws/v1", Wire::Socket, "http://127.0.0.1:9"), "ws://127.0.0.1:9/ws/v1");
        assert_eq!(filled("wss://{org}.cxone.com/s", Wire::Socket, api), "wss://acme.cxone.com/s");
        assert_eq!(filled("{api}/{interactionId}/cards", Wire::Http, api), "https://api.example:8443/a:1/cards");
    }

    #[test]
    fn a_template_that_cannot_become_an_address_is_found_at_start() {
        for unusable in [
            "{api}/{what}",
            "{api",
            "api.example/oauth2/token",
            "http://api.example/oauth2/token",
            "https://me:hunter2@api.example/",
            "{api}/a b",
            "{api}/#fragment",
            "wss://{api_host}/ws",
        ] {
            assert!(Template::parse(unusable, Wire::Http, ALL).is_none(), "{unusable}");
        }
        assert!(Template::parse("{api}/{interactionId}", Wire::Http, &[Slot::Api]).is_none());
        assert!(Template::parse("http://localhost:1/token", Wire::Http, ALL).is_some());
    }

    #[test]
    fn an_interaction_of_dots_leads_nowhere() {
        let api = Address::parse("https://api.example", Wire::Http).unwrap();
        let template = Template::parse("{api}/{interactionId}/cards", Wire::Http, ALL).unwrap();
        let values = Values { api: &api, org: None, interaction: Some("..") };
        assert_eq!(template.fill(&values).err(), Some(CxoneError::Refused { status: 404 }));
    }

    #[test]
    fn a_query_is_added_to_one_that_is_there() {
        let address = Address::parse("https://api.example/s?tenant=1", Wire::Http).unwrap();
        let uri = address.with_query(&[("q", "a b&c=ü")]).unwrap();
        assert_eq!(uri.query(), Some("tenant=1&q=a+b%26c%3D%C3%BC"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_no_query_leaves_its_field(text in ".*", word in ".*") {
            let _ = Template::parse(&text, Wire::Http, ALL);
            let address = Address::parse("https://api.example/s", Wire::Http).unwrap();
            let uri = address.with_query(&[("q", &word), ("page", "1")]).unwrap();
            let pairs: Vec<_> = url::form_urlencoded::parse(uri.query().unwrap().as_bytes()).collect();
            prop_assert_eq!(pairs.len(), 2);
            prop_assert_eq!(&*pairs[0].1, word.as_str());
        }
    }
}
