//! The function behind `$connect` of the WebSocket API.

use std::process::ExitCode;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use earpiece_functions::start;
use earpiece_functions::ws::Rooms;

fn main() -> ExitCode {
    start::event("ws-connect", Rooms::for_connect, async |rooms, event: ApiGatewayWebsocketProxyRequest| {
        Ok(rooms.connect(event).await)
    })
}
