//! `platform`: CXone's platform for those without a tenant.

use earpiece_core::config::{Env, ProcessEnv};
use earpiece_shim::service;
use earpiece_simulator::platform::settings::{CLIENT_ID, CLIENT_SECRET};
use earpiece_simulator::platform::{Platform, PlatformSettings, Uplink};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::args::PlatformArgs;
use crate::serve::from_service;
use crate::stage::{Stage, print};
use crate::trouble::Trouble;

/// Serves until a signal comes.
///
/// # Errors
///
/// When the address cannot be had.
pub(crate) async fn run(args: &PlatformArgs, stage: &Stage) -> Result<(), Trouble> {
    service::log_to_stderr(&ProcessEnv);
    let shutdown = service::shutdown_signal().map_err(|error| from_service(&error))?;
    let listener = TcpListener::bind(&args.listen).await.map_err(|error| {
        Trouble::failed(format!("cannot listen on {}: {error}", args.listen)).next("another port: --listen 127.0.0.1:0")
    })?;
    let settings = PlatformSettings { token_life: args.token_life, ..PlatformSettings::default() };
    let platform = Platform::start(listener, settings)
        .map_err(|error| Trouble::failed(format!("the listener has no address: {error}")))?;
    let environment = Environment::towards(&platform);
    // Whoever started us waits for exactly this line.
    print(&if stage.json {
        format!("{}\n", json!({ "listening": platform.address(), "environment": environment.to_json() }))
    } else {
        format!("listening on {}\n", platform.address())
    });
    eprintln!("earpiece: `earpiece serve` talks to this platform with");
    for (name, value) in &environment.0 {
        eprintln!("  export {name}={value}");
    }
    eprintln!("earpiece: what it receives: curl {}/_platform/received", platform.url());
    shutdown.await;
    platform.shutdown().await;
    Ok(())
}

/// An environment that sends uplinks to one platform, and in which nothing else is set.
pub(crate) struct Environment([(&'static str, String); 4]);

impl Environment {
    /// The environment for this platform. Everything but the event stream's address, whose default has the tenant in its
    /// host, follows from the API's.
    pub(crate) fn towards(platform: &Platform) -> Self {
        Self([
            ("EARPIECE_CXONE_API", platform.url()),
            ("EARPIECE_CXONE_INTERACTIONS_URL", platform.socket_url(Uplink::Interactions)),
            ("EARPIECE_CXONE_CLIENT_ID", CLIENT_ID.to_owned()),
            ("EARPIECE_CXONE_CLIENT_SECRET", CLIENT_SECRET.to_owned()),
        ])
    }

    fn to_json(&self) -> Value {
        Value::Object(self.0.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<Map<_, _>>())
    }
}

impl Env for Environment {
    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }
}
