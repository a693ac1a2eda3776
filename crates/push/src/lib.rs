//! Frames to the connections of an API Gateway WebSocket.
