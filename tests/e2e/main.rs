//! End to end: CXone's media server and a reference assist app on either side of the shim, over real sockets.
//!
//! | module | what users get |
//! | --- | --- |
//! | `calls` | a call is heard, recorded and accounted for to the sample |
//! | `refusals` | bad input is refused with a reason, and disturbs nobody |
//! | `tokens` | who may stream |
//! | `limits` | permits are exact |
//! | `tasks` | two tasks on one store: a call goes on where it can |
//! | `store_away` | a slow store loses no call |
//! | `assist` | the assist app hears everything, or is told what it missed |
//! | `drain` | a task that goes away says so and loses nothing |
//! | `doors` | races at the text hook and the WebSocket API, on two DynamoDBs |
//! | `common_errors` | each common error of the documents has a row in the troubleshooting table, and a test |
//! | `tools` | what `./tests/run` adds to these |
//! | `ministack` | the same store, spoken to by a second DynamoDB |

mod assist;
mod calls;
mod common_errors;
mod doors;
mod drain;
mod house;
mod limits;
mod ministack;
mod refusals;
mod store_away;
mod tasks;
mod tokens;
mod tools;
