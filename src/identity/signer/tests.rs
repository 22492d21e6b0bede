use std::time::UNIX_EPOCH;

use jsonwebtoken::{Validation, decode};
use serde_json::Map;

use super::*;
use crate::identity::{Subject, Way};

const ID: Uuid = Uuid::from_u128(0x019d_d08e_7c51_7b52_8a55_0c3b_1f6f_9b9e);
const MINUTE: Duration = Duration::from_mins(1);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_900_000_000 + seconds)
}

fn pem(algorithm: Algorithm) -> String {
    let kind: &'static rcgen::SignatureAlgorithm = match algorithm {
        Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        Algorithm::ES384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        Algorithm::EdDSA => &rcgen::PKCS_ED25519,
        _ => &rcgen::PKCS_RSA_SHA256,
    };
    rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem()
}

fn key(id: &str, algorithm: Algorithm) -> PairedKey {
    PairedKey::new(id.into(), algorithm, pem(algorithm).as_bytes()).unwrap()
}

fn signer(keys: Vec<PairedKey>) -> Signer {
    Signer::new(keys, "tidegate".into(), MINUTE).unwrap()
}

fn ada(expires: Option<SystemTime>) -> Identity {
    let claims = Map::from_iter([("tenant".to_owned(), json!("t1"))]);
    let subject = Subject::new("Ada \"Löv\"").unwrap();
    Identity { subject, claims, issued: None, expires, way: Way::Ticket, ticket: None, keys: Vec::new() }
}

/// What a backend does: finds the key by its name in the published set, and believes nothing else.
fn believed(token: &str, jwks: &str) -> Value {
    let jwks: JwkSet = serde_json::from_str(jwks).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    let key = jwks.find(header.kid.as_deref().unwrap()).unwrap();
    assert_eq!(key.common.key_algorithm.unwrap().to_string(), format!("{:?}", header.alg));
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.set_audience(&["app"]);
    validation.set_issuer(&["tidegate"]);
    decode(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims
}

#[test]
fn every_kind_of_key_signs_what_the_published_set_verifies() {
    for (name, algorithm) in ALGORITHMS {
        let signer = signer(vec![key("k1", algorithm)]);
        let said = signer.say(&ada(None), "app", ID).unwrap();
        let made = signer.sign(&said, at(0)).unwrap();
        let expected = json!({
            "iss": "tidegate", "aud": "app", "sub": "Ada \"Löv\"", "claims": {"tenant": "t1"},
            "tidegate_connection": ID.to_string(), "jti": format!("{ID}-1900000000"),
            "iat": 1_900_000_000, "nbf": 1_900_000_000, "exp": 1_900_000_060,
        });
        assert_eq!(believed(&made.token, signer.jwks()), expected, "{name}");
    }
}

#[test]
fn keys_are_rotated_by_their_order_and_all_are_published() {
    let (old, new) = (key("old", Algorithm::ES256), key("new", Algorithm::EdDSA));
    let before = signer(vec![old.clone()]);
    let ready = signer(vec![old.clone(), new.clone()]);
    let after = signer(vec![new, old]);
    let kid = |signer: &Signer| {
        let made = signer.sign(&signer.say(&ada(None), "app", ID).unwrap(), at(0)).unwrap();
        believed(&made.token, ready.jwks());
        believed(&made.token, after.jwks());
        jsonwebtoken::decode_header(&made.token).unwrap().kid.unwrap()
    };
    assert_eq!([kid(&before), kid(&ready), kid(&after)], ["old", "old", "new"]);
}

#[test]
fn the_published_set_holds_public_halves_alone() {
    for (name, algorithm) in ALGORITHMS {
        let signer = signer(vec![key("k1", algorithm)]);
        let set: Value = serde_json::from_str(signer.jwks()).unwrap();
        let mut members: Vec<_> = set["keys"][0].as_object().unwrap().keys().map(String::as_str).collect();
        members.retain(|member| !["alg", "kid", "kty", "use", "crv", "x", "y", "n", "e"].contains(member));
        assert_eq!(members, [""; 0], "{name}");
        assert_eq!((&set["keys"][0]["alg"], &set["keys"][0]["use"]), (&json!(name), &json!("sig")));
    }
}

#[test]
fn a_token_is_renewed_at_half_its_lifetime_and_never_outlives_the_identity() {
    let signer = signer(vec![key("k1", Algorithm::ES256)]);
    let of = |expires: Option<u64>, now| {
        let made = signer.sign(&signer.say(&ada(expires.map(at)), "app", ID).unwrap(), at(now)).unwrap();
        let exp = believed(&made.token, signer.jwks())["exp"].as_u64().unwrap() - 1_900_000_000;
        (made.term, exp)
    };
    let (term, exp) = of(None, 10);
    assert_eq!(exp, 70);
    assert!(term.will_do(at(10)) && term.will_do(at(39)) && !term.will_do(at(40)));
    assert!(!term.will_do(at(9)), "the clock was set back");
    let (term, exp) = of(Some(50), 10);
    assert_eq!(exp, 50);
    assert!(term.will_do(at(49)) && term.will_do(at(51)), "a new one would not hold any longer");
}

#[test]
fn a_key_that_does_not_fit_is_refused_and_none_is_shown() {
    let new = |algorithm, pem: &str| PairedKey::new("k1".into(), algorithm, pem.as_bytes());
    for (algorithm, other) in [
        (Algorithm::ES256, Algorithm::ES384),
        (Algorithm::ES256, Algorithm::EdDSA),
        (Algorithm::EdDSA, Algorithm::ES256),
        (Algorithm::RS256, Algorithm::ES256),
        (Algorithm::HS256, Algorithm::ES256),
    ] {
        let pem = pem(other);
        let told = format!("{:?}", new(algorithm, &pem).expect_err("another kind of key"));
        assert!(!told.contains(pem.lines().nth(1).unwrap()), "{told}");
    }
    let public = rcgen::KeyPair::generate().unwrap().public_key_pem();
    assert!(new(Algorithm::ES256, &public).is_err() && new(Algorithm::EdDSA, "").is_err());
    let shown = format!("{:?}", signer(vec![key("k1", Algorithm::ES256)]));
    assert!(shown.contains("k1") && shown.contains("ES256") && shown.len() < 1000, "{shown}");
    assert!(Signer::new(Vec::new(), "tidegate".into(), MINUTE).is_none());
}

#[test]
fn an_identity_that_says_too_much_gets_no_token() {
    let signer = signer(vec![key("k1", Algorithm::ES256)]);
    let mut identity = ada(None);
    identity.claims.insert("long".to_owned(), Value::from("x".repeat(MOST_SAID)));
    assert_eq!(signer.say(&identity, "app", ID).map(|_| ()), Err(TooLarge::Token));
}

#[test]
#[ignore = "a measurement: prints what one signature costs"]
fn what_one_signature_costs() {
    for (name, algorithm) in ALGORITHMS {
        let signer = signer(vec![key("k1", algorithm)]);
        let said = signer.say(&ada(None), "app", ID).unwrap();
        let began = std::time::Instant::now();
        let length = (0..500).map(|at_second| signer.sign(&said, at(at_second)).unwrap().token.len()).max();
        println!("{name}: {:?} each, {length:?} bytes", began.elapsed() / 500);
    }
}
