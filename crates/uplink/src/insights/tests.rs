//! Over real sockets: CXone is the simulator's platform, the store an embedded DynamoDB.

mod cards;
mod limits;
mod stage;
