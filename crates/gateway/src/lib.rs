//! The front of API Gateway WebSocket APIs, for local use.
