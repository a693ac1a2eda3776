//! The least that a function in Rust can be: what cold starts and sizes of the others are compared with.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(async |_event: LambdaEvent<Value>| Ok::<_, Error>(json!({ "hello": "world" }))))
        .await
}
