//! What we issue, we accept.

use proptest::prelude::*;

use super::*;
use crate::issue::{Claims, SigningError, sign};

fn claims_for(scopes: &[Scope]) -> Claims {
    Claims {
        iss: Some("https://issuer".into()),
        aud: Some("earpiece".into()),
        sub: "studio".into(),
        iat: NOW_S,
        nbf: NOW_S,
        exp: NOW_S + 300,
        jti: "0192".into(),
        scope: Scope::list(scopes),
        bus_no: None,
        contact_id: None,
        one_time: None,
    }
}

#[tokio::test]
async fn a_key_is_published_without_its_private_half_and_read_again_with_it() {
    let key = SigningKey::generate(NOW_S).unwrap();
    let read: SigningKey = serde_json::from_str(&serde_json::to_string(&key).unwrap()).unwrap();
    assert_eq!(read, key);
    assert_eq!((key.jwk["kid"].as_str(), key.kid.len()), (Some(key.kid.as_str()), 43));
    let mut names: Vec<_> = key.jwk.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    let guard = Issuer::answering(key_set([key.jwk.clone()]).to_string()).guard();
    let token = sign(&read, &claims_for(&[Scope::Audio])).unwrap();
    assert!(judged(&guard, token.reveal()).await.is_ok());
    assert_ne!(SigningKey::generate(NOW_S).unwrap().kid, key.kid);
}

#[test]
fn a_key_id_is_the_thumbprint_that_others_compute() {
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(ES.jwk.clone()).unwrap();
    assert_eq!(jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap(), ES.kid);
}

#[test]
fn a_damaged_key_signs_nothing() {
    for pkcs8 in ["", "!", "AAAA"] {
        let key = SigningKey { pkcs8: Secret::new(pkcs8), ..ES.clone() };
        assert_eq!(sign(&key, &claims_for(&[])), Err(SigningError::BadKey));
    }
}

proptest! {
    #[test]
    fn what_is_issued_is_accepted_by_a_guard_with_its_key_set(
        subject in any::<String>(),
        jti in ".{1,40}",
        scopes in prop::sample::subsequence(Scope::ALL.to_vec(), 0..=Scope::ALL.len()),
        bus_no in prop::option::of(any::<u64>()),
        contact_id in any::<u64>(),
        is_bound in any::<bool>(),
        one_time in prop::option::of(any::<bool>()),
        life_s in 1_i64..100_000,
    ) {
        let claims = Claims {
            sub: subject.clone(),
            jti,
            bus_no,
            contact_id: (bus_no.is_some() && is_bound).then_some(contact_id),
            one_time,
            exp: NOW_S + life_s,
            ..claims_for(&scopes)
        };
        let token = sign(&ES, &claims).unwrap();
        let guard = Signer::Es.guard();
        let contact = ContactKey { bus_no: bus_no.unwrap_or(1), contact_id };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for scope in Scope::ALL {
            let wanted = Wanted { scope, contact: Some(contact), now_s: NOW_S };
            let outcome = runtime.block_on(guard.judge([token.reveal()], &wanted));
            prop_assert_eq!(outcome.is_ok(), scopes.contains(&scope));
            let Ok(grant) = outcome else { continue };
            prop_assert_eq!(grant.subject.as_deref(), Some(subject.as_str()));
            prop_assert_eq!((grant.bus_no, grant.contact_id), (bus_no, claims.contact_id));
            prop_assert_eq!(grant.one_time.is_some(), one_time == Some(true));
            let later = Wanted { now_s: NOW_S + life_s + LEEWAY_S, ..wanted };
            prop_assert_eq!(runtime.block_on(guard.judge([token.reveal()], &later)), Err(Refusal::Expired));
        }
    }
}
