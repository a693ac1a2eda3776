//! `gateway`: the front of API Gateway's WebSocket APIs, before Lambda functions on this machine.

use std::collections::BTreeMap;

use earpiece_gateway::{Gateway, Invoke, Routes, Settings};
use earpiece_https::Trust;
use earpiece_https::client::Client;
use earpiece_shim::service;
use serde_json::json;
use tokio::net::TcpListener;

use crate::args::GatewayArgs;
use crate::serve::from_service;
use crate::stage::{Stage, print};
use crate::trouble::{Trouble, chain};

/// Serves until a signal comes.
///
/// # Errors
///
/// When the address cannot be had, or the functions' address is none.
pub(crate) async fn run(args: &GatewayArgs, stage: &Stage) -> Result<(), Trouble> {
    service::log_to_stderr(&earpiece_core::config::ProcessEnv);
    let shutdown = service::shutdown_signal().map_err(|error| from_service(&error))?;
    let client = Client::new(&Trust::public()).map_err(|error| Trouble::failed(chain(&error)))?;
    let invoke = Invoke::Http { client: Box::new(client), endpoint: args.lambda.clone() };
    let gateway = Gateway::new(settings(args), invoke);
    let listener = TcpListener::bind(&args.listen).await.map_err(|error| {
        Trouble::failed(format!("cannot listen on {}: {error}", args.listen)).next("another port: --listen 127.0.0.1:0")
    })?;
    let address =
        listener.local_addr().map_err(|error| Trouble::failed(format!("the listener has no address: {error}")))?;
    print(&if stage.json {
        format!("{}\n", json!({ "listening": address }))
    } else {
        format!("listening on {address}\n")
    });
    eprintln!("earpiece: functions answer through EARPIECE_CONNECTIONS_URL=http://{address}");
    gateway.serve(listener, shutdown).await;
    Ok(())
}

fn settings(args: &GatewayArgs) -> Settings {
    Settings {
        routes: Routes {
            connect: GatewayArgs::function(&args.connect),
            default: args.default.clone(),
            disconnect: GatewayArgs::function(&args.disconnect),
            by_action: args.actions.iter().cloned().collect::<BTreeMap<_, _>>(),
        },
        authorizer: GatewayArgs::function(&args.authorizer),
        stage: args.stage.clone(),
        idle: args.idle,
        life: args.life,
        ..Settings::default()
    }
}
