//! The function behind `$default` of the WebSocket API.

use std::process::ExitCode;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use earpiece_functions::start;
use earpiece_functions::ws::Rooms;

fn main() -> ExitCode {
    start::event("ws-message", Rooms::for_messages, async |rooms, event: ApiGatewayWebsocketProxyRequest| {
        Ok(rooms.message(event).await)
    })
}
