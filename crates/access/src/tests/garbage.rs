//! What nobody would send on purpose.

use proptest::prelude::*;

use super::*;

fn judged_now(guard: &Guard, tokens: &[String]) -> Result<Grant, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(guard.judge(tokens.iter().map(String::as_str), &WANTED))
}

/// One judge and one right token of each kind for all cases.
static GUARDS: LazyLock<Vec<(Guard, String)>> =
    LazyLock::new(|| Signer::ALL.iter().map(|signer| (signer.guard(), signer.token(&json!({})))).collect());

fn signer() -> impl Strategy<Value = usize> {
    0..Signer::ALL.len()
}

proptest! {
    #[test]
    fn no_text_is_accepted_and_none_leads_to_a_panic(tokens in prop::collection::vec(any::<String>(), 0..6)) {
        for (guard, _) in GUARDS.iter() {
            prop_assert!(judged_now(guard, &tokens).is_err());
        }
    }

    #[test]
    fn nothing_in_the_shape_of_a_token_is_accepted_without_a_key(
        which in signer(),
        body in "[A-Za-z0-9_-]{0,80}",
        signature in "[A-Za-z0-9_-]{0,120}",
    ) {
        let (guard, _) = &GUARDS[which];
        let head = part(&Signer::ALL[which].head());
        let token = format!("{head}.{body}.{signature}");
        prop_assert!(judged_now(guard, &[token]).is_err());
    }

    #[test]
    fn a_right_token_with_one_character_changed_is_refused(
        which in signer(),
        place in any::<prop::sample::Index>(),
        character in any::<char>(),
    ) {
        let (guard, right) = &GUARDS[which];
        let place = place.index(right.len());
        let changed = format!("{}{character}{}", &right[..place], &right[place + 1..]);
        // Blanks around a token do not belong to it; but here they also took a character away.
        prop_assume!(changed != *right);
        prop_assert!(judged_now(guard, &[changed]).is_err());
    }

    #[test]
    fn a_right_token_that_is_cut_or_longer_is_refused(
        which in signer(),
        cut in any::<prop::sample::Index>(),
        more in "[A-Za-z0-9_.=-]{1,8}",
    ) {
        let (guard, right) = &GUARDS[which];
        let cut = right[..cut.index(right.len())].to_owned();
        for changed in [cut, format!("{right}{more}"), format!("{more}{right}")] {
            prop_assert!(judged_now(guard, &[changed]).is_err());
        }
    }

    #[test]
    fn signed_nonsense_does_not_lead_to_a_panic(
        name in "(iss|aud|exp|nbf|iat|jti|scope|busNo|contactId|oneTime)",
        value in prop_oneof![
            any::<f64>().prop_map(|number| json!(number)),
            any::<i64>().prop_map(|number| json!(number)),
            any::<String>().prop_map(|text| json!(text)),
            any::<bool>().prop_map(|flag| json!(flag)),
            Just(json!([])),
            Just(json!({})),
        ],
    ) {
        let (guard, _) = &GUARDS[0];
        let token = Signer::Hs.token(&json!({ name.as_str(): value }));
        let outcome = judged_now(guard, &[token]);
        // A binding is never lost: with anything but our own business unit it does not open.
        if name == "busNo" && !matches!(value, Value::Null) {
            prop_assert_eq!(outcome.is_ok(), value == json!(CONTACT.bus_no));
        }
    }

    #[test]
    fn no_key_set_leads_to_a_panic(text in any::<String>(), member in any::<String>()) {
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": ES.kid, "x": member, "y": member});
        let token = Signer::Es.token(&json!({}));
        for set in [text, key_set([jwk]).to_string()] {
            let guard = Issuer::answering(set).guard();
            prop_assert!(judged_now(&guard, std::slice::from_ref(&token)).is_err());
        }
    }
}
