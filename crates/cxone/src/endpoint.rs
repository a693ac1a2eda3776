//! What is asked of CXone, one name per kind of request: the label in metrics, and the scope that the documents name.

/// A REST endpoint of CXone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Where tenants are looked up.
    Discovery,
    /// Where tokens come from.
    Token,
    /// Search in the knowledge base.
    Search,
    /// Insight cards of an interaction.
    Insights,
    /// What became of them.
    Feedback,
    /// Popup cards of an interaction.
    Cards,
}

impl Endpoint {
    /// Every endpoint, in the order of `Endpoint::index`.
    pub const ALL: [Self; 6] =
        [Self::Discovery, Self::Token, Self::Search, Self::Insights, Self::Feedback, Self::Cards];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Token => "token",
            Self::Search => "search",
            Self::Insights => "insights",
            Self::Feedback => "feedback",
            Self::Cards => "cards",
        }
    }

    /// The scope that the documents name for it.
    #[must_use]
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Discovery => "(none is documented: is the tenant right?)",
            Self::Token => "that EARPIECE_CXONE_SCOPE asks for",
            Self::Search => "knowledge:read",
            Self::Insights | Self::Cards => "agentassist:write",
            Self::Feedback => "ai:training:write",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// A socket that CXone keeps open for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Uplink {
    /// A: suggestions out; acknowledgements and answers of agents in.
    Suggestions,
    /// B: transcript fragments and dialog states in.
    Insights,
    /// C: events of interactions in.
    Interactions,
}

impl Uplink {
    /// Every uplink.
    pub const ALL: [Self; 3] = [Self::Suggestions, Self::Insights, Self::Interactions];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Suggestions => "suggestions",
            Self::Insights => "insights",
            Self::Interactions => "interactions",
        }
    }

    /// The scope that the documents name for it.
    #[must_use]
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Suggestions => "agentassist:write",
            Self::Insights => "agentassist:read",
            Self::Interactions => "interactions:read",
        }
    }
}

/// What became of a request, as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A status of 2xx.
    Ok,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 429.
    Limited,
    /// 5xx, or an answer that cannot be understood.
    Failed,
    /// Any other status.
    Refused,
    /// No answer.
    Unreachable,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] =
        [Self::Ok, Self::Unauthorized, Self::Forbidden, Self::Limited, Self::Failed, Self::Refused, Self::Unreachable];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Limited => "limited",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
