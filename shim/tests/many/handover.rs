//! A holder goes: by a kill, and by SIGTERM.

use std::time::Duration;

use earpiece_simulator::platform::{Kind, Uplink};
use tokio::time::{Instant, timeout};

use crate::stage::{LEASES, PATIENCE, POPUPS, SUGGESTIONS, Shim, Stage, submit};

/// Two fifths of the default, so that of its 15 s two fifths are allowed.
const SHORT: &str = "4s";
const REPLACED_WITHIN: Duration = Duration::from_secs(6);
/// So long that nobody can wait for its end.
const LONG: &str = "60s";
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(30);

/// Two shims that have shared the leases out among them; the one that holds the suggestions first.
async fn two(stage: &Stage, lease: &str) -> [Shim; 2] {
    let (one, other) = (stage.start(lease), stage.start(lease));
    for lease in LEASES {
        stage.held(lease).await;
    }
    if one.holds(&stage.held(SUGGESTIONS).await) { [one, other] } else { [other, one] }
}

async fn suggestion_arrives(stage: &Stage, suggestion: &str) {
    submit(&stage.store, "7", suggestion).await.expect("a store that answers").expect("it is taken");
    let came = stage.platform.wait_for(PATIENCE, |received| {
        received.of(Kind::Suggest).find(|record| record.id.as_deref() == Some(suggestion)).map(|_| ())
    });
    came.await.expect("it arrives");
    // A kill before it is settled would let it come again, and rightly so.
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_holder_is_replaced_within_one_and_a_half_leases() {
    let stage = Stage::open().await;
    let [mut holder, heir] = two(&stage, SHORT).await;
    suggestion_arrives(&stage, "s0").await;
    holder.kill();
    let killed_at = Instant::now();
    for lease in LEASES {
        stage.held_by(lease, &heir).await;
    }
    assert!(killed_at.elapsed() < REPLACED_WITHIN, "{:?}", killed_at.elapsed());
    suggestion_arrives(&stage, "s1").await;
    assert_eq!(stage.platform.tally().suggestions_repeated, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sigterm_a_holder_hands_its_leases_over_without_waiting_for_their_end() {
    let stage = Stage::open().await;
    let [mut holder, heir] = two(&stage, LONG).await;
    suggestion_arrives(&stage, "s0").await;
    let before = stage.held(SUGGESTIONS).await;
    holder.terminate();
    let handed_over = async {
        for lease in LEASES {
            stage.held_by(lease, &heir).await;
        }
        assert!(holder.gone().await.success(), "it has gone in order");
        suggestion_arrives(&stage, "s1").await;
    };
    timeout(HANDED_OVER_WITHIN, handed_over).await.expect("in half of the time after which the lease is free anyway");
    let after = stage.held(SUGGESTIONS).await;
    assert_eq!(after.token, before.token + 1, "from hand to hand");
    assert!(stage.held(POPUPS).await.token <= 2);
    assert!(stage.platform.wait_for_socket(Uplink::Interactions, PATIENCE).await);
    assert_eq!(stage.platform.tally().suggestions_repeated, 0);
}
