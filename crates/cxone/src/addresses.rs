//! Where everything is: the templates of the configuration, and what they become once the API is known.

use earpiece_core::assist::InteractionId;
use http::Uri;

use crate::endpoint::Uplink;
use crate::error::CxoneError;
use crate::template::{Address, Template, Values};

/// Every address as it was configured. Has no `Debug`.
pub(crate) struct Templates {
    pub(crate) api: Address,
    pub(crate) org: Option<String>,
    pub(crate) issuer: Option<Address>,
    pub(crate) tenant: Option<String>,
    /// Whether the operator named a token endpoint, which then wins over one that is discovered.
    pub(crate) has_own_token: bool,
    pub(crate) token: Template,
    pub(crate) access_key: Template,
    pub(crate) search: Template,
    pub(crate) insights: Template,
    pub(crate) feedback: Template,
    pub(crate) cards: Template,
    pub(crate) sockets: [Template; 3],
}

impl Templates {
    pub(crate) const fn socket(&self, uplink: Uplink) -> &Template {
        match uplink {
            Uplink::Suggestions => &self.sockets[0],
            Uplink::Insights => &self.sockets[1],
            Uplink::Interactions => &self.sockets[2],
        }
    }
}

/// What discovery found.
#[derive(Clone)]
pub(crate) struct Found {
    /// Base of the API.
    pub(crate) api: Address,
    /// The issuer's token endpoint, unless the operator named one.
    pub(crate) token: Option<Address>,
}

/// Addresses that can be asked. Has no `Debug`.
#[derive(Clone)]
pub(crate) struct Addresses<'a> {
    pub(crate) templates: &'a Templates,
    pub(crate) found: Found,
}

impl Addresses<'_> {
    pub(crate) fn token(&self) -> Result<Uri, CxoneError> {
        match &self.found.token {
            Some(token) => token.uri(),
            None => self.fill(&self.templates.token)?.uri(),
        }
    }

    pub(crate) fn access_key(&self) -> Result<Uri, CxoneError> {
        self.fill(&self.templates.access_key)?.uri()
    }

    pub(crate) fn search(&self, fields: &[(&str, &str)]) -> Result<Uri, CxoneError> {
        self.fill(&self.templates.search)?.with_query(fields)
    }

    pub(crate) fn insights(&self) -> Result<Uri, CxoneError> {
        self.fill(&self.templates.insights)?.uri()
    }

    pub(crate) fn feedback(&self) -> Result<Uri, CxoneError> {
        self.fill(&self.templates.feedback)?.uri()
    }

    pub(crate) fn cards(&self, interaction: &InteractionId) -> Result<Uri, CxoneError> {
        let values = Values { interaction: Some(interaction.as_str()), ..self.values() };
        self.templates.cards.fill(&values)?.uri()
    }

    pub(crate) fn socket(&self, uplink: Uplink) -> Result<Address, CxoneError> {
        self.fill(self.templates.socket(uplink))
    }

    fn fill(&self, template: &Template) -> Result<Address, CxoneError> {
        template.fill(&self.values())
    }

    fn values(&self) -> Values<'_> {
        Values { api: &self.found.api, org: self.templates.org.as_deref(), interaction: None }
    }
}
