//! The function behind `$disconnect` of the WebSocket API.

use std::process::ExitCode;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use earpiece_functions::start;
use earpiece_functions::ws::Rooms;

fn main() -> ExitCode {
    start::event("ws-disconnect", Rooms::for_disconnect, async |rooms, event: ApiGatewayWebsocketProxyRequest| {
        Ok(rooms.disconnect(event).await)
    })
}
