//! Which bearer tokens are believed, and what the others are told.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::json;

use super::*;
use crate::identity::public;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// The time of every test, in seconds.
const NOW: u64 = 1_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn keys() -> Vec<VerifyKey> {
    vec![VerifyKey::secret(Some(Arc::from("a")), Algorithm::HS256, SECRET)]
}

/// A token with this header, signed with a secret.
fn signed(header: &Header, claims: &Value, secret: &[u8]) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn header() -> Header {
    Header { kid: Some("a".to_owned()), ..Header::new(Algorithm::HS256) }
}

/// What becomes of a sound token with these claims in addition; `null` takes one out.
fn of(rules: &Rules, more: &Value) -> Result<Identity, BearerRefusal> {
    let mut claims = json!({"sub": "ada", "iat": NOW - 60, "exp": NOW + 60});
    for (name, value) in more.as_object().unwrap() {
        let claims = claims.as_object_mut().unwrap();
        if value.is_null() {
            claims.remove(name)
        } else {
            claims.insert(name.clone(), value.clone())
        };
    }
    judge(&signed(&header(), &claims, SECRET), &keys(), rules, now())
}

#[test]
fn a_sound_token_tells_who_it_is_and_what_was_asked_for() {
    let rules = Rules { claims: vec!["tenant".to_owned(), "absent".to_owned()], ..Rules::default() };
    let identity = of(&rules, &json!({"tenant": {"id": 7}, "email": "a@b"})).unwrap();
    let claims = json!({"tenant": {"id": 7}}).as_object().unwrap().clone();
    let expected = Identity {
        subject: Subject::new("ada").unwrap(),
        claims,
        issued: Some(now() - Duration::from_mins(1)),
        expires: Some(now() + Duration::from_mins(1)),
        way: Way::Bearer,
        ticket: None,
        keys: vec!["a".into()],
    };
    assert_eq!(identity, expected);
}

#[test]
fn times_issuer_audience_and_subject_are_checked() {
    let any = Rules::default();
    assert_eq!(of(&any, &json!({"exp": NOW - 5})), Err(BearerRefusal::Expired));
    assert!(of(&any, &json!({"exp": NOW - 4})).is_ok(), "clocks may be 5 s apart");
    assert_eq!(of(&any, &json!({"exp": null})), Err(BearerRefusal::Expired), "a token without an end is none");
    assert_eq!(of(&any, &json!({"exp": "soon"})), Err(BearerRefusal::Malformed));
    assert_eq!(of(&any, &json!({"nbf": NOW + 6})), Err(BearerRefusal::NotYetValid));
    let strict = Rules {
        issuer: Some("https://id.example".to_owned()),
        audience: vec!["chat".to_owned(), "app".to_owned()],
        subject: "uid".to_owned(),
        ..any.clone()
    };
    let good = json!({"iss": "https://id.example", "aud": "app", "uid": "eve"});
    let but = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        of(&strict, &claims).map(|identity| identity.subject.as_str().to_owned())
    };
    assert_eq!(but("aud", json!(["x", "chat"])), Ok("eve".to_owned()));
    assert_eq!(but("iss", json!("https://id.example/")), Err(BearerRefusal::WrongIssuer));
    assert_eq!(but("iss", Value::Null), Err(BearerRefusal::WrongIssuer));
    for aud in [json!("ap"), json!(["x"]), json!([]), json!([["app"]]), json!({"app": 1}), Value::Null] {
        assert_eq!(but("aud", aud.clone()), Err(BearerRefusal::WrongAudience), "{aud}");
    }
    for uid in [json!(7), json!(""), json!("a\nb"), json!("x".repeat(257)), Value::Null] {
        assert_eq!(but("uid", uid.clone()), Err(BearerRefusal::NoSubject), "{uid}");
    }
    let for_others = of(&any, &json!({"aud": "x"}));
    assert_eq!(for_others, Err(BearerRefusal::WrongAudience), "without a name of our own, no audience is us");
}

#[test]
fn all_that_concerns_keys_is_one_answer() {
    let claims = json!({"sub": "ada", "exp": NOW + 60});
    let judged = |token: &str| judge(token, &keys(), &Rules::default(), now()).unwrap_err();
    let by = |kid: Option<&str>, algorithm, secret: &[u8]| {
        judged(&signed(&Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) }, &claims, secret))
    };
    assert_eq!(by(Some("a"), Algorithm::HS256, &[7; 32]), BearerRefusal::Untrusted);
    assert_eq!(by(Some("a"), Algorithm::HS512, SECRET), BearerRefusal::Untrusted);
    assert_eq!(by(None, Algorithm::HS256, &[7; 32]), BearerRefusal::Untrusted);
    assert_eq!(by(Some("b"), Algorithm::HS256, SECRET), BearerRefusal::UnknownKey);
    for never in ["", "a\u{7}", "line\nbreak", &"k".repeat(257)] {
        assert_eq!(
            by(Some(never), Algorithm::HS256, SECRET),
            BearerRefusal::Untrusted,
            "no key can be called {never:?}"
        );
    }
    let told = |refusal: BearerRefusal| format!("{:?}", refusal.problem());
    assert_eq!(told(BearerRefusal::UnknownKey), told(BearerRefusal::Untrusted));
}

#[test]
fn a_key_without_a_name_does_not_make_others_known() {
    let nameless = vec![VerifyKey::secret(None, Algorithm::HS256, &[7; 32])];
    let token = signed(&header(), &json!({}), SECRET);
    assert_eq!(judge(&token, &nameless, &Rules::default(), now()), Err(BearerRefusal::UnknownKey));
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let pem = pair.public_key_pem();
    let keys = [public::verify_key(Some("a".into()), Algorithm::RS256, pem.as_bytes()).unwrap()];
    let claims = json!({"sub": "ada", "exp": NOW + 60});
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), pair.public_key_raw()] {
        let confused = judge(&signed(&header(), &claims, secret), &keys, &Rules::default(), now());
        assert_eq!(confused, Err(BearerRefusal::Untrusted));
    }
}

#[test]
fn unsigned_extended_and_own_tokens_are_not_believed() {
    let keys = keys();
    let judged = |token: &str| judge(token, &keys, &Rules::default(), now());
    let raw = |header: &str, claims: &Value| {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()))
    };
    let claims = json!({"sub": "ada", "exp": NOW + 60});
    for alg in ["none", "None", "nOnE", "", "HS1"] {
        let token = raw(&format!("{{\"alg\":\"{alg}\",\"kid\":\"a\"}}"), &claims);
        assert_eq!(judged(&token), Err(BearerRefusal::Untrusted), "{alg}");
        assert_eq!(judged(&format!("{token}AAAA")), Err(BearerRefusal::Untrusted), "{alg}");
    }
    let extended = Header { crit: Some(vec!["x".to_owned()]), ..header() };
    assert_eq!(judged(&signed(&extended, &claims, SECRET)), Err(BearerRefusal::Untrusted));
    for typ in ["tidegate-ticket+jwt", "TIDEGATE-TICKET+JWT", "application/tidegate-ticket+jwt", "tidegate-x"] {
        let ours = Header { typ: Some(typ.to_owned()), ..header() };
        assert_eq!(judged(&signed(&ours, &claims, SECRET)), Err(BearerRefusal::Untrusted), "{typ}");
    }
    for typ in [Some("JWT"), Some("at+jwt"), Some("application/at+jwt"), None] {
        let theirs = Header { typ: typ.map(str::to_owned), ..header() };
        assert!(judged(&signed(&theirs, &claims, SECRET)).is_ok(), "{typ:?}");
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    let huge = format!("{}.e30.AAAA", "A".repeat(1024 * 1024));
    let payload = URL_SAFE_NO_PAD.encode("[1]");
    let cases =
        ["..", "a.b.c", "e30.e30.AAAA", "eyJhbGciOjF9.e30.AAAA", "eyJhbGciOiJIUzI1NiIsImtpZCI6MX0.e30.AA", &huge];
    for token in cases {
        let shown = token.get(..40).unwrap_or(token);
        assert_eq!(judge(token, &keys(), &Rules::default(), now()), Err(BearerRefusal::Malformed), "{shown}");
    }
    let head = URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\",\"kid\":\"a\"}");
    let unsigned = judge(&format!("{head}.{payload}.AAAA"), &keys(), &Rules::default(), now());
    assert_eq!(unsigned, Err(BearerRefusal::Untrusted), "what it says is not looked at before its signature");
}

fn headers(values: &[&[u8]]) -> HeaderMap {
    values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())).collect()
}

#[test]
fn only_what_has_the_form_of_a_token_is_taken_for_one() {
    let of = |values: &[&[u8]]| token_in(&headers(values)).map(|token| token.map(str::to_owned));
    assert_eq!(of(&[b"Bearer a.b.c"]), Ok(Some("a.b.c".to_owned())));
    assert_eq!(of(&[b"bEARER   a.b.c "]), Ok(Some("a.b.c".to_owned())));
    let others: [&[u8]; 9] = [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer abc",
        b"Bearer a.b",
        b"Bearer a.b.c.d.e",
        b"Bearera.b.c",
        b"Basic a.b.c",
        b"\xff",
    ];
    for other in others {
        assert_eq!(of(&[other]), Ok(None), "{other:?}");
    }
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&[b"Bearer a.b.c", b"Bearer a.b.c"]), Err(BearerRefusal::Repeated));
    assert_eq!(of(&[b"Basic x", b"Bearer a.b.c"]), Err(BearerRefusal::Repeated));
    assert_eq!(of(&[b"Bearer a.b.\xff"]), Err(BearerRefusal::Malformed));
}

#[test]
fn a_refusal_says_what_the_standard_wants_and_no_more() {
    let told = |refusal: BearerRefusal| {
        let problem = refusal.problem();
        let challenge = problem.headers[WWW_AUTHENTICATE].to_str().unwrap().to_owned();
        (problem.status.as_u16(), problem.kind, challenge)
    };
    let invalid = || "Bearer error=\"invalid_token\"".to_owned();
    assert_eq!(told(BearerRefusal::Malformed), (401, "token-malformed", invalid()));
    assert_eq!(told(BearerRefusal::Untrusted), (401, "token-invalid", invalid()));
    assert_eq!(told(BearerRefusal::Expired), (401, "token-expired", invalid()));
    let repeated = "Bearer error=\"invalid_request\"".to_owned();
    assert_eq!(told(BearerRefusal::Repeated), (400, "authorization-repeated", repeated));
}

proptest! {
    #[test]
    fn nothing_in_a_token_is_too_much(
        text in "\\PC{0,80}", header in "\\{\"alg\":\"(HS256|none|x)\"(,\"(kid|typ|crit)\":(1|\"a\"|null|\\[\\]))?\\}", bytes: Vec<u8>,
    ) {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        for token in [text, format!("{}.{}.{}", part(header.as_bytes()), part(&bytes), part(&bytes))] {
            prop_assert!(judge(&token, &keys(), &Rules::default(), now()).is_err());
        }
        if let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", bytes.as_slice()].concat()) {
            let _ = token_in(&HeaderMap::from_iter([(AUTHORIZATION, value)]));
        }
    }
}
