//! The cases that need tools run in `./tests/run`, not here; this says so, and that the runner still knows them.

use std::io::Write as _;

#[test]
fn the_runner_knows_every_case_that_needs_a_tool() {
    let runner = include_str!("../run");
    for (step, what) in [
        ("step_clients", "Python's websockets and Node's ws against earpiece serve"),
        ("step_autobahn", "Autobahn's cases against the shim's WebSocket layer"),
        ("step_demo", "the demo's recording, read by sox"),
    ] {
        assert!(runner.contains(&format!("{step}()")), "tests/run has no {step}");
        if std::env::var("EARPIECE_TOOLS").is_err() {
            // Past the test harness's capture.
            let _ = writeln!(std::io::stderr(), "SKIPPED {what}: run ./tests/run");
        }
    }
}
