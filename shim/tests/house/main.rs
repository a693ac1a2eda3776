//! What a task does beside streaming, over real sockets: audio handed over in pieces, tokens, TLS, doors of others, pages
//! that listen, and protection from being scaled in.

mod beside;
mod ingest;
mod stage;
mod tls;
mod tokens;
