//! How the functions that are deployed are linked: nothing else belongs here.
//!
//! A panic aborts them, so nobody reads their tables for unwinding (a tenth of their size), which the precompiled
//! standard library brings all the same. And they lie at a fixed address: relocations are another tenth, and each is
//! work at every cold start. What that gives up is that the address of the program itself is random; stack, heap and
//! libraries stay so. Both halves together are what keeps them below the size in docs/benchmarks.md.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=unwind-nothing.ld");
    // Cargo tells a build script nothing reliable about panics. Only the profile of functions/.cargo/config.toml, which
    // aborts, optimises for size.
    let deployed = env::var("OPT_LEVEL").is_ok_and(|level| level == "z");
    let linux = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    if let (true, true, Ok(folder)) = (deployed, linux, env::var("CARGO_MANIFEST_DIR")) {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/unwind-nothing.ld");
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
