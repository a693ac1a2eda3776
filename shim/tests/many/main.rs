//! Several processes of the real program on one table, before one platform: what must hold whoever of them is killed.
//!
//! A binary of its own, whose tests take turns: leases run out while a process starves, and the tests of `house` run
//! side by side on every core there is.

mod books;
mod crowd;
mod exactly_once;
mod handover;
mod stage;
mod storm;
