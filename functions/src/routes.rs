//! Every HTTP route in one place, and all of them behind one door for `earpiece serve`.
//!
//! In Lambda each function answers its own routes; the table is what `/openapi.json` is checked against.

use std::net::IpAddr;
use std::sync::Arc;

use earpiece_access::Guard;
use earpiece_core::telemetry::HTTP_ANSWERS;
use earpiece_https::client::Client;
use earpiece_push::Push;
use earpiece_recorder::Recorder;
use earpiece_relay::text::TextRelay;
use earpiece_store::Store;

use crate::answer::{self, Answer, Peer, Request};
use crate::auth::Gate;
use crate::contact_events::{self, ContactEvents};
use crate::counters::{Counters, status_word};
use crate::delivery::Delivery;
use crate::path;
use crate::publish::Publisher;
use crate::reaper::Reaper;
use crate::reference::Reference;
use crate::settings::{Assist, Settings};
use crate::start::StartError;
use crate::suggestions::{self, Desk, Suggestions};
use crate::text_hook::TextHook;
use crate::token::TokenServer;

/// A route: a path, and the one method that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// An utterance comes in.
    TextHook,
    /// The Studio script says what happens to a contact.
    ContactEvents,
    /// Help for the agent who has a contact.
    ContactSuggestions,
    /// Help for the agent of an interaction, which is CXone's word for the same.
    InteractionSuggestions,
    /// A token is asked for.
    Token,
    /// Our public keys.
    Jwks,
    /// What the token endpoint can do.
    Metadata,
    /// Where an audio socket could be.
    ExampleServer,
    /// What an init message looks like.
    ExampleInit,
    /// What an init message would be answered.
    TryInit,
    /// The HTTP routes, as a document.
    OpenApi,
    /// The WebSockets, as a document.
    AsyncApi,
}

impl Route {
    /// Every route.
    pub const ALL: [Self; 12] = [
        Self::TextHook,
        Self::ContactEvents,
        Self::ContactSuggestions,
        Self::InteractionSuggestions,
        Self::Token,
        Self::Jwks,
        Self::Metadata,
        Self::ExampleServer,
        Self::ExampleInit,
        Self::TryInit,
        Self::OpenApi,
        Self::AsyncApi,
    ];

    /// The path as `/openapi.json` writes it.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::TextHook => "/agent_assist_text_webhooks/utterance",
            Self::ContactEvents => "/contacts/{busNo}/{contactId}/events",
            Self::ContactSuggestions => "/contacts/{busNo}/{contactId}/suggestions",
            Self::InteractionSuggestions => "/interactions/{interactionId}/suggestions",
            Self::Token => "/oauth/token",
            Self::Jwks => "/.well-known/jwks.json",
            Self::Metadata => "/.well-known/oauth-authorization-server",
            Self::ExampleServer => "/agent_assist_audio_websocket_hooks/example-websocket-server",
            Self::ExampleInit => "/agent_assist_audio_websocket_hooks/initializemessage-example",
            Self::TryInit => {
                "/agent_assist_audio_websocket_hooks/custom-assist-endpoint/initialize-audio-message-example"
            }
            Self::OpenApi => "/openapi.json",
            Self::AsyncApi => "/asyncapi.json",
        }
    }

    /// The method.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::TextHook
            | Self::ContactEvents
            | Self::ContactSuggestions
            | Self::InteractionSuggestions
            | Self::Token
            | Self::TryInit => "POST",
            _ => "GET",
        }
    }

    /// Every status that it can answer with, beside the 405 of every path.
    #[must_use]
    pub const fn statuses(self) -> &'static [u16] {
        match self {
            Self::TextHook => &[200, 400, 401, 403, 413, 415, 429, 500, 503],
            Self::ContactEvents => &[200, 400, 401, 403, 404, 413, 415, 500, 503],
            Self::ContactSuggestions | Self::InteractionSuggestions => {
                &[202, 400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503]
            }
            Self::Token => &[200, 400, 401, 404, 413, 500, 503],
            Self::Jwks => &[200, 404, 500, 503],
            Self::Metadata => &[200, 404],
            Self::TryInit => &[200, 400, 413, 415],
            Self::ExampleServer | Self::ExampleInit | Self::OpenApi | Self::AsyncApi => &[200],
        }
    }

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::TextHook => "text_hook",
            Self::ContactEvents => "contact_events",
            Self::ContactSuggestions => "contact_suggestions",
            Self::InteractionSuggestions => "interaction_suggestions",
            Self::Token => "token",
            Self::Jwks => "jwks",
            Self::Metadata => "metadata",
            Self::ExampleServer => "example_server",
            Self::ExampleInit => "example_init",
            Self::TryInit => "try_init",
            Self::OpenApi => "openapi",
            Self::AsyncApi => "asyncapi",
        }
    }

    /// Whether this is the path's route.
    #[must_use]
    pub fn is_path(self, path: &str) -> bool {
        match self {
            Self::ContactEvents => path::contact_ids(path, contact_events::PATH_END).is_some(),
            Self::ContactSuggestions | Self::InteractionSuggestions => {
                suggestions::route_of(path).is_some_and(|route| route == self)
            }
            fixed => fixed.path() == path,
        }
    }

    /// The route of a path.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|route| route.is_path(path))
    }
}

/// Counts an answer on its way out.
pub(crate) fn counted(counters: &Counters, route: Option<Route>, answer: Answer) -> Answer {
    let route = route.map_or("unknown", Route::label);
    counters.count(HTTP_ANSWERS, &[("route", route), ("status", status_word(answer.status().as_u16()))]);
    answer
}

/// What [`Doors`] are made of.
pub struct Parts<'a> {
    /// The configuration.
    pub settings: &'a Settings,
    /// The table.
    pub store: Store,
    /// Who may bring utterances and contact events.
    pub guard: Guard,
    /// How the assist app is reached; only asked for where there is one.
    pub client: Client,
    /// How listening pages are reached.
    pub push: Option<Push>,
    /// The recordings, where no shim beside it finishes contacts.
    pub recorder: Option<Recorder>,
    /// A name that no other process has.
    pub task: Arc<str>,
}

/// Every HTTP route in one process.
pub struct Doors {
    counters: Arc<Counters>,
    text: TextHook,
    events: ContactEvents,
    suggestions: Suggestions,
    token: TokenServer,
    reference: Reference,
    reaper: Reaper,
}

impl Doors {
    /// All routes on these parts. Without a word on the assist app nobody takes utterances: that is for one machine, and
    /// the functions in Lambda do not start so.
    ///
    /// # Errors
    /// When the assist app's address or its credential cannot be used.
    pub fn new(parts: Parts<'_>) -> Result<Self, StartError> {
        let Parts { settings, store, guard, client, push, recorder, task } = parts;
        let counters = Arc::new(Counters::new("serve"));
        let relay = match &settings.assist {
            Assist::At(at) => Some(TextRelay::new(client, at.clone()).map_err(StartError::new)?),
            Assist::Nobody | Assist::Unset => None,
        };
        let gate = Gate::http(guard, Some(store.clone()), Arc::clone(&counters));
        let publisher = Publisher::new(store.clone(), push, Arc::clone(&counters));
        let desk = Desk::new(store.clone(), Arc::clone(&counters), settings.suggestions);
        let delivery =
            Delivery::new(store.clone(), relay, publisher.clone(), desk.clone(), Arc::clone(&counters), settings.text);
        Ok(Self {
            suggestions: Suggestions::new(store.clone(), gate.clone(), desk, Arc::clone(&counters)),
            text: TextHook::new(store.clone(), gate.clone(), delivery.clone(), Arc::clone(&counters), settings.text),
            events: ContactEvents::new(store.clone(), gate, publisher, Arc::clone(&counters), settings.hold_max),
            token: TokenServer::new(store.clone(), settings, Arc::clone(&counters)),
            reference: Reference::new(&settings.audio_url, Arc::clone(&counters)),
            reaper: Reaper::new(store, delivery, recorder, settings, task, Arc::clone(&counters)),
            counters,
        })
    }

    /// Answers a request, whatever its path. `peer` is who sent it, as the listener knows.
    pub async fn answer(&self, mut request: Request, peer: Option<IpAddr>) -> Answer {
        if let Some(peer) = peer {
            request.extensions_mut().insert(Peer(peer));
        }
        match Route::of(answer::path_of(&request)) {
            Some(Route::TextHook) => self.text.answer(&request).await,
            Some(Route::ContactEvents) => self.events.answer(&request).await,
            Some(Route::ContactSuggestions | Route::InteractionSuggestions) => self.suggestions.answer(&request).await,
            Some(Route::Token | Route::Jwks | Route::Metadata) => self.token.answer(&request).await,
            Some(_) => self.reference.answer(&request),
            None => counted(&self.counters, None, answer::not_found()),
        }
    }

    /// Delivers what could not be delivered; to be run every few seconds.
    #[must_use]
    pub const fn reaper(&self) -> &Reaper {
        &self.reaper
    }

    /// What was counted, as `/metrics` shows it.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.counters.prometheus()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The listener of `earpiece serve` moves requests between threads.
    #[expect(dead_code, reason = "it is there to be compiled")]
    fn an_answer_can_be_awaited_on_any_thread(doors: &Doors, request: Request) -> impl Future<Output = Answer> + Send {
        doors.answer(request, None)
    }

    #[expect(dead_code, reason = "it is there to be compiled")]
    fn a_sweep_can_be_awaited_on_any_thread(reaper: &Reaper) -> impl Future<Output = crate::reaper::Swept> + Send {
        reaper.sweep_once(0)
    }

    #[test]
    fn every_path_has_one_route_and_labels_are_distinct() {
        for route in Route::ALL {
            let path = route.path().replace("{busNo}", "1").replace("{contactId}", "2").replace("{interactionId}", "2");
            let found: Vec<Route> = Route::ALL.into_iter().filter(|other| other.is_path(&path)).collect();
            assert_eq!(found, [route]);
        }
        let labels: std::collections::BTreeSet<_> = Route::ALL.into_iter().map(Route::label).collect();
        assert_eq!(labels.len(), Route::ALL.len());
    }

    #[test]
    fn a_path_that_only_resembles_one_has_none() {
        for path in [
            "",
            "/",
            "/oauth/token/",
            "/OAUTH/token",
            "/contacts/1/events",
            "/contacts/1/2/events/3",
            "/interactions//suggestions",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
