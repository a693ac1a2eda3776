//! Who may stream: tokens from the message, the header or the query.

use earpiece_core::protocol::message::CONNECTED;
use earpiece_core::secret::Secret;
use earpiece_shim::settings;
use earpiece_simulator::{CallPlan, SocketReport, Step, TokenPlace};

use crate::house::{House, PATIENCE, contact, dial, speech};

async fn knock(house: &House, token: Option<&str>, at: TokenPlace) -> SocketReport {
    let plan = CallPlan::new(house.url(), contact(1))
        .leg("TX", speech(160, 1))
        .reconnects_max(0)
        .connect_timeout(PATIENCE)
        .step(Step::Speak { ms: 20 });
    let plan = match token {
        Some(token) => plan.token(Secret::new(token), at),
        None => plan,
    };
    dial(plan).await.legs.remove(0).sockets.remove(0)
}

const PLACES: [TokenPlace; 3] = [TokenPlace::Init, TokenPlace::Header, TokenPlace::Query];

#[tokio::test(flavor = "multi_thread")]
async fn either_of_two_tokens_opens_from_any_of_three_places() {
    let house = House::open(&[(settings::AUDIO_TOKENS, "old-token,new-token")]).await;
    for at in PLACES {
        for token in ["old-token", "new-token"] {
            assert_eq!(knock(&house, Some(token), at).await.answer_text(), Some(CONNECTED), "{token} in {at:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_switched_off_carries_no_token() {
    let house = House::open(&[(settings::AUDIO_TOKENS, "token"), (settings::TOKEN_SOURCES, "header")]).await;
    assert!(knock(&house, Some("token"), TokenPlace::Header).await.connected);
    for at in [TokenPlace::Init, TokenPlace::Query] {
        let refused = knock(&house, Some("token"), at).await;
        assert!(refused.answer_text().expect("an answer").contains("a token is required"), "{at:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_refused_late_and_never_stand_in_the_way_of_a_right_one() {
    let house = House::open(&[(settings::AUDIO_TOKENS, "right-token")]).await;
    let before = std::time::Instant::now();
    let knocks = (0..6).map(|_| knock(&house, Some("wrong-token"), TokenPlace::Init));
    let wrong = futures_util::future::join_all(knocks);
    let right = async {
        // While six failures from the same address and business unit are being held back.
        loop {
            let refused = house.metric("earpiece_stream_refusals_total{reason=\"unauthorized\"}").await;
            if refused == 6 {
                break;
            }
        }
        let socket = knock(&house, Some("right-token"), TokenPlace::Init).await;
        (socket, before.elapsed())
    };
    let (wrong, (right, right_after)) = tokio::join!(wrong, right);
    let wrong_after = before.elapsed();
    assert!(right.connected);
    for socket in &wrong {
        let answer = socket.answer_text().expect("an answer");
        assert!(answer.contains("the token is not accepted") && !answer.contains("wrong-token"), "{answer}");
        assert_eq!(socket.close.as_ref().expect("closed").code, 1008);
    }
    // Six failures of one visitor: 1, 2, 4, 8, 16 and 16 seconds. The order of events, not a speed, is asserted.
    assert!(right_after < wrong_after, "the right token did not wait for the wrong ones");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_needed_where_none_is_configured() {
    let house = House::open(&[]).await;
    assert!(knock(&house, None, TokenPlace::Init).await.connected);
    assert!(knock(&house, Some("anything"), TokenPlace::Header).await.connected);
}
