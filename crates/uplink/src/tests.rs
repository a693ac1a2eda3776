//! Over real sockets: the store is an embedded DynamoDB, CXone is the simulator's platform.

mod acks;
mod leases;
mod measures;
mod popups;
mod receiver;
mod road;
mod stage;
mod suggestions;
mod uplinks;
mod webhooks;
