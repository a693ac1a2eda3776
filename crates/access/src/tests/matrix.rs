//! Every way in which a token can be right or wrong.

use super::*;

async fn refusal_of(signer: Signer, changes: Value) -> Option<Refusal> {
    judged(&signer.guard(), &signer.token(&changes)).await.err()
}

#[tokio::test]
async fn a_right_token_of_each_algorithm_opens() {
    for signer in Signer::ALL {
        let grant = judged(&signer.guard(), &format!("Bearer {}", signer.token(&json!({})))).await.unwrap();
        assert_eq!(grant, Grant { subject: Some("studio".into()), ..Grant::everybody() }, "{signer:?}");
    }
}

#[tokio::test]
async fn each_fault_of_the_claims_has_its_own_refusal() {
    let past = NOW_S - LEEWAY_S;
    let future = NOW_S + LEEWAY_S + 1;
    for (changes, expected) in [
        (json!({"exp": past}), Refusal::Expired),
        (json!({"exp": 0}), Refusal::Expired),
        (json!({"exp": -1}), Refusal::Expired),
        (json!({"nbf": future}), Refusal::NotYetValid),
        (json!({"iat": future}), Refusal::NotYetValid),
        (json!({"iss": "https://other"}), Refusal::Issuer),
        (json!({"iss": null}), Refusal::Issuer),
        (json!({"aud": "other"}), Refusal::Audience),
        (json!({"aud": ["other", "earpiec"]}), Refusal::Audience),
        (json!({"aud": []}), Refusal::Audience),
        (json!({"aud": null}), Refusal::Audience),
        (json!({"exp": null}), Refusal::Malformed),
        (json!({"exp": "1900000000"}), Refusal::Malformed),
        (json!({"exp": 1e300}), Refusal::Malformed),
        (json!({"nbf": "soon"}), Refusal::Malformed),
        (json!({"iss": ["https://issuer"]}), Refusal::Malformed),
        (json!({"aud": {"earpiece": true}}), Refusal::Malformed),
        (json!({"scope": ["audio"]}), Refusal::Malformed),
        (json!({"scope": "listen events"}), Refusal::Scope),
        (json!({"scope": ""}), Refusal::Scope),
        (json!({"busNo": 1}), Refusal::ForeignContact),
        (json!({"busNo": 4_595_000, "contactId": 8}), Refusal::ForeignContact),
        (json!({"busNo": 1, "contactId": 7}), Refusal::ForeignContact),
        (json!({"busNo": "x"}), Refusal::Malformed),
        (json!({"busNo": -4_595_000}), Refusal::Malformed),
        (json!({"busNo": 4_595_000.5}), Refusal::Malformed),
        (json!({"busNo": [4_595_000]}), Refusal::Malformed),
        (json!({"contactId": 7}), Refusal::Malformed),
        (json!({"oneTime": true, "jti": null}), Refusal::Malformed),
        (json!({"oneTime": "yes"}), Refusal::Malformed),
    ] {
        for signer in Signer::ALL {
            assert_eq!(refusal_of(signer, changes.clone()).await, Some(expected), "{signer:?} {changes}");
        }
    }
}

#[tokio::test]
async fn what_is_right_to_the_second_or_in_another_form_opens() {
    for changes in [
        json!({"exp": NOW_S - LEEWAY_S + 1}),
        json!({"exp": 1_800_000_600.75}),
        json!({"exp": i64::MAX}),
        json!({"nbf": NOW_S + LEEWAY_S, "iat": NOW_S + LEEWAY_S}),
        json!({"nbf": null, "iat": null, "sub": null, "jti": null}),
        json!({"aud": ["other", "earpiece"]}),
        json!({"busNo": 4_595_000}),
        json!({"busNo": "4595000", "contactId": " 7 "}),
        json!({"scope": "openid audio"}),
        json!({"something": {"else": [1, 2, 3]}}),
        json!({"oneTime": false}),
    ] {
        assert_eq!(refusal_of(Signer::Es, changes.clone()).await, None, "{changes}");
    }
}

#[tokio::test]
async fn a_token_cannot_choose_its_algorithm() {
    for signer in Signer::ALL {
        let guard = signer.guard();
        for other in Signer::ALL.into_iter().filter(|other| *other != signer) {
            assert_eq!(judged(&guard, &other.token(&json!({}))).await, Err(Refusal::Algorithm), "{other:?}");
        }
        for name in ["none", "None", "NONE", "", "HS512", "RS384", "ES384", "EdDSA", "es256", "ES256 "] {
            let head = json!({"alg": name, "kid": ES.kid});
            let unsigned = format!("{}.", message(&head, &claims(&json!({}))));
            for token in [unsigned, signer.sign(&head, &claims(&json!({})))] {
                assert_eq!(judged(&guard, &token).await, Err(Refusal::Algorithm), "{signer:?} {name}");
            }
        }
    }
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret_and_no_key_of_another_family() {
    // Signed with what everybody knows, in every form that somebody might take for a secret.
    let forms = [
        public_keys().into_bytes(),
        RS.jwk.to_string().into_bytes(),
        RS.jwk["n"].as_str().unwrap().as_bytes().to_vec(),
        BASE64_URL_SAFE_NO_PAD.decode(RS.jwk["n"].as_str().unwrap()).unwrap(),
        ES.jwk["x"].as_str().unwrap().as_bytes().to_vec(),
    ];
    for (signer, kid) in [(Signer::Rs, "rsa"), (Signer::Es, ES.kid.as_str())] {
        for form in &forms {
            for (name, expected) in
                [("HS256", Refusal::Algorithm), (signer.head()["alg"].as_str().unwrap(), Refusal::Signature)]
            {
                let message = message(&json!({"alg": name, "kid": kid}), &claims(&json!({})));
                let key = EncodingKey::from_secret(form);
                let mac = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
                assert_eq!(judged(&signer.guard(), &format!("{message}.{mac}")).await, Err(expected));
            }
        }
    }
    // The right signature of an RSA key under the name of the other algorithm, with either key's id.
    for kid in ["rsa", ES.kid.as_str()] {
        let token = Signer::Rs.sign(&json!({"alg": "ES256", "kid": kid}), &claims(&json!({})));
        let expected = if kid == "rsa" { Refusal::UnknownKey } else { Refusal::Signature };
        assert_eq!(judged(&Signer::Es.guard(), &token).await, Err(expected));
    }
}

#[tokio::test]
async fn a_shared_secret_in_a_key_set_is_never_used() {
    let oct = json!({"kty": "oct", "kid": "oct", "k": BASE64_URL_SAFE_NO_PAD.encode(SECRET)});
    let keys = key_set([oct, ES.jwk.clone()]).to_string();
    let guard = Issuer::answering(keys).guard();
    for name in ["ES256", "HS256"] {
        let token = Signer::Hs.sign(&json!({"alg": name, "kid": "oct"}), &claims(&json!({})));
        let expected = if name == "ES256" { Refusal::UnknownKey } else { Refusal::Algorithm };
        assert_eq!(judged(&guard, &token).await, Err(expected));
    }
}

#[tokio::test]
async fn a_foreign_signature_an_unknown_key_and_a_key_in_the_token_itself_are_refused() {
    let stranger = SigningKey::generate(NOW_S).unwrap();
    let sign = |head: Value| {
        let message = message(&head, &claims(&json!({})));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &es_key(&stranger), Algorithm::ES256).unwrap();
        format!("{message}.{signature}")
    };
    let guard = Signer::Es.guard();
    let alike = sign(json!({"alg": "ES256", "kid": ES.kid}));
    assert_eq!(judged(&guard, &alike).await, Err(Refusal::Signature));
    let unknown = sign(json!({"alg": "ES256", "kid": stranger.kid}));
    assert_eq!(judged(&guard, &unknown).await, Err(Refusal::UnknownKey));
    let own = sign(json!({"alg": "ES256", "jwk": stranger.jwk, "jku": "https://stranger/keys"}));
    assert_eq!(judged(&guard, &own).await, Err(Refusal::Signature));
    let critical = Signer::Es.sign(&json!({"alg": "ES256", "kid": ES.kid, "crit": ["exp"]}), &claims(&json!({})));
    assert_eq!(judged(&guard, &critical).await, Err(Refusal::Malformed));
}

#[tokio::test]
async fn a_token_without_a_key_id_is_judged_where_there_is_one_key_only() {
    let token = Signer::Es.sign(&json!({"alg": "ES256"}), &claims(&json!({})));
    assert!(judged(&Signer::Es.guard(), &token).await.is_ok(), "the RSA key is of no use for ES256");
    let two = key_set([ES.jwk.clone(), SigningKey::generate(NOW_S).unwrap().jwk]).to_string();
    let issuer = Issuer::answering(two);
    assert_eq!(judged(&issuer.guard(), &token).await, Err(Refusal::UnknownKey));
    assert_eq!(issuer.asked(), 1, "no other key would help");
}

#[tokio::test]
async fn what_is_no_jwt_is_wrong_and_what_looks_like_one_is_malformed() {
    let guard = Signer::Es.guard();
    let right = Signer::Es.token(&json!({}));
    let too_long = Signer::Es.token(&json!({"padding": "x".repeat(8 * 1024)}));
    for token in ["x", "a.b", "a.b.c.d", &format!("{right}.x"), &too_long] {
        assert_eq!(judged(&guard, token).await, Err(Refusal::Wrong));
    }
    for token in
        ["..", "a.b.c", "e30.e30.e30", "é.é.é", &right[1..], &format!("{}=.x.y", part(&json!({"alg": "ES256"})))]
    {
        assert_eq!(judged(&guard, token).await, Err(Refusal::Malformed), "{token}");
    }
    for nothing in ["", "  ", "Bearer "] {
        assert_eq!(judged(&guard, nothing).await, Err(Refusal::Missing));
    }
    assert_eq!(guard.judge([], &WANTED).await, Err(Refusal::Missing));
}

#[tokio::test]
async fn a_name_that_stands_twice_makes_a_token_malformed() {
    let body = r#"{"exp":1900000000,"exp":1900000000,"iss":"https://issuer","aud":"earpiece"}"#;
    let message = format!("{}.{}", part(&Signer::Hs.head()), BASE64_URL_SAFE_NO_PAD.encode(body));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    assert_eq!(judged(&Signer::Hs.guard(), &format!("{message}.{signature}")).await, Err(Refusal::Malformed));
}

#[tokio::test]
async fn the_contact_is_judged_where_it_is_known_and_otherwise_by_whoever_learns_it() {
    let guard = Signer::Es.guard();
    let token = Signer::Es.token(&json!({"busNo": 1, "contactId": 2, "scope": "audio"}));
    let grant = guard.judge([token.as_str()], &Wanted { contact: None, ..WANTED }).await.unwrap();
    assert_eq!(
        (grant.bus_no, grant.contact_id, grant.scopes.as_deref()),
        (Some(1), Some(2), Some(&[Scope::Audio][..]))
    );
    assert_eq!(grant.check(Scope::Audio, Some(&CONTACT)), Err(Refusal::ForeignContact));
}

#[tokio::test]
async fn a_one_time_token_carries_what_it_is_remembered_by() {
    let once = Signer::Es.token(&json!({"oneTime": true}));
    let guard = Signer::Es.guard();
    let first = judged(&guard, &once).await.unwrap().one_time.unwrap();
    assert_eq!(first.expires_at_s, NOW_S + 600 + LEEWAY_S, "for as long as it would be accepted");
    assert!(first.id.len() == 64 && !first.id.contains("j1"));
    assert_eq!(judged(&guard, &once).await.unwrap().one_time.unwrap(), first, "the same token is told by the same id");
    let another = judged(&guard, &Signer::Es.token(&json!({"oneTime": true, "jti": "j2"}))).await.unwrap();
    assert_ne!(another.one_time.unwrap().id, first.id);

    let with = |one_time| Signer::Es.guard_with(Rules { one_time, ..rules() });
    assert_eq!(judged(&with(OneTimePolicy::Off), &once).await.unwrap().one_time, None);
    let plain = Signer::Es.token(&json!({}));
    assert_eq!(judged(&guard, &plain).await.unwrap().one_time, None);
    assert_eq!(judged(&with(OneTimePolicy::Required), &plain).await.unwrap().one_time, Some(first));
    let nameless = Signer::Es.token(&json!({"jti": ""}));
    assert_eq!(judged(&with(OneTimePolicy::Required), &nameless).await, Err(Refusal::Malformed));
}

#[tokio::test]
async fn without_a_configured_issuer_and_audience_any_is_accepted() {
    let guard = Signer::Es.guard_with(Rules { issuer: None, audience: None, ..rules() });
    for changes in [json!({}), json!({"iss": null, "aud": null}), json!({"iss": "x", "aud": "y"})] {
        assert!(judged(&guard, &Signer::Es.token(&changes)).await.is_ok());
    }
}

#[tokio::test]
async fn static_tokens_and_jwts_open_the_same_door() {
    let jwt = Jwt::new(Keys::Hs256(Secret::new(SECRET)), rules()).unwrap();
    let guard = Guard::new(Verifier::new([Secret::new("static")]), Some(jwt));
    let right = Signer::Hs.token(&json!({"scope": "audio"}));
    let expired = Signer::Hs.token(&json!({"exp": 1}));
    assert_eq!(judged(&guard, "Bearer static").await, Ok(Grant::everybody()));
    assert_eq!(judged(&guard, &right).await.unwrap().scopes, Some(vec![Scope::Audio]));
    assert_eq!(guard.judge([expired.as_str(), "static"], &WANTED).await, Ok(Grant::everybody()));
    assert!(guard.judge(["x", expired.as_str(), &right], &WANTED).await.is_ok());
    assert_eq!(judged(&guard, SECRET).await, Err(Refusal::Wrong), "the secret itself is no token");
}

#[tokio::test]
async fn of_several_refusals_the_most_telling_one_is_told() {
    let guard = Signer::Hs.guard();
    let expired = Signer::Hs.token(&json!({"exp": 1}));
    let foreign = Signer::Hs.token(&json!({"busNo": 1}));
    for (presented, expected) in [
        (vec!["x", ""], Refusal::Wrong),
        (vec!["x", "a.b.c"], Refusal::Malformed),
        (vec![&expired, "x"], Refusal::Expired),
        (vec!["a.b.c", &foreign, &expired], Refusal::ForeignContact),
    ] {
        assert_eq!(guard.judge(presented, &WANTED).await, Err(expected));
    }
    let right = Signer::Hs.token(&json!({}));
    let beyond = ["x", "x", "x", "x", right.as_str()];
    assert_eq!(guard.judge(beyond, &WANTED).await, Err(Refusal::Wrong), "no more than four are looked at");
}

#[tokio::test]
async fn only_a_guard_that_is_called_open_is() {
    assert!(Guard::open().is_open() && !Guard::open().needs_keys());
    assert_eq!(Guard::open().judge([], &WANTED).await, Ok(Grant::everybody()));
    for verifier in [Verifier::open(), Verifier::new([])] {
        let nobody = Guard::new(verifier.clone(), None);
        assert!(!nobody.is_open());
        assert_eq!(nobody.judge(["x"], &WANTED).await, Err(Refusal::Wrong));
        assert_eq!(nobody.judge([Signer::Es.token(&json!({})).as_str()], &WANTED).await, Err(Refusal::Wrong));
        let jwt = Jwt::new(Keys::Hs256(Secret::new(SECRET)), rules()).unwrap();
        let jwts_only = Guard::new(verifier, Some(jwt));
        assert!(!jwts_only.is_open() && !jwts_only.needs_keys());
        assert_eq!(jwts_only.judge(["x"], &WANTED).await, Err(Refusal::Wrong));
    }
    assert!(Signer::Es.guard().needs_keys());
}

#[test]
fn a_short_secret_is_refused_and_nothing_prints_a_secret() {
    assert!(Jwt::new(Keys::Hs256(Secret::new("x".repeat(31))), rules()).is_err());
    let keys = Keys::Hs256(Secret::new(SECRET));
    let printed = format!("{keys:?} {:?} {:?} {:?}", Signer::Hs.guard(), Guard::open(), *ES);
    assert!(!printed.contains(SECRET) && !printed.contains(ES.pkcs8.reveal()), "{printed}");
}

#[test]
fn a_judgement_may_move_between_threads() {
    fn is_send(_: &impl Send) {}
    let guard = Signer::Es.guard();
    is_send(&guard.judge(["x"], &WANTED));
    is_send(&guard.warm());
}
