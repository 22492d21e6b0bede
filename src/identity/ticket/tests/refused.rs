//! Tickets that let nobody in, and what is told of them.

use rcgen::PublicKeyData as _;

use super::*;
use crate::protocol::problem::Problem;

#[test]
fn each_bad_ticket_has_its_own_answer() {
    let ring = of(hmac("k1", SECRET));
    let good = ticket(&ring);
    let (message, _) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let other_kid = ticket(&of(hmac("k2", SECRET)));
    let bearer = encode(&Header::default(), &body(), &EncodingKey::from_secret(SECRET)).unwrap();
    let unsigned = json!({"typ": "tidegate-ticket+jwt", "alg": "none", "kid": "k1"});
    let unsigned = signed(&unsigned, &body());
    let (bare, _) = unsigned.rsplit_once('.').unwrap();
    let mut critical = head();
    critical["crit"] = json!(["x"]);
    let mut nameless = head();
    nameless.as_object_mut().unwrap().remove("kid");
    for (name, token, expected) in [
        ("good", good.as_str(), "let in"),
        ("empty", "", "ticket-malformed"),
        ("no token", "a.b.c", "ticket-malformed"),
        ("truncated in the header", &good[..10], "ticket-malformed"),
        ("truncated after the header", header, "ticket-malformed"),
        ("truncated after the claims", message, "ticket-malformed"),
        ("truncated in the signature", &good[..good.len() - 1], "ticket-malformed"),
        ("followed by a part", &format!("{good}.e30"), "ticket-malformed"),
        ("padded", &format!("{good}="), "ticket-malformed"),
        ("1 MiB long", &good.repeat((1 << 20) / good.len()), "ticket-malformed"),
        ("4 KiB of a good one", &format!("{good}{}", "A".repeat(MAX_TICKET)), "ticket-malformed"),
        ("another kind of token of the same key", &bearer, "ticket-malformed"),
        ("with a header that asks for more", &signed(&critical, &body()), "ticket-malformed"),
        ("alg none", &format!("{bare}."), "ticket-invalid"),
        ("alg none with a signature", &unsigned, "ticket-invalid"),
        ("other key", &ticket(&of(hmac("k1", &[7; 32]))), "ticket-invalid"),
        ("other kid", &other_kid, "ticket-invalid"),
        ("no kid", &signed(&nameless, &body()), "ticket-invalid"),
    ] {
        assert_eq!(refused(&ring, token), expected, "{name}");
    }
}

#[test]
fn the_public_half_of_a_key_is_no_secret_for_tickets() {
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let ed = sign_key("k1".into(), Algorithm::EdDSA, pair.serialize_pem().as_bytes()).unwrap();
    let rings = [of(ed.clone()), KeyRing::new(ed, vec![hmac("k2", SECRET)])];
    for secret in [pair.public_key_raw(), pair.public_key_pem().as_bytes(), &pair.subject_public_key_info()] {
        let forged = ticket(&of(hmac("k1", secret)));
        for ring in &rings {
            assert_eq!(refused(ring, &forged), "ticket-invalid");
        }
    }
}

#[test]
fn nothing_outside_tells_one_problem_with_keys_from_another() {
    let ring = of(hmac("k1", SECRET));
    let outside = |distrust| {
        let response = Problem::from(Refusal::Invalid(distrust)).into_response();
        format!("{:?} {:?} {:?}", response.status(), response.headers(), response.body())
    };
    assert_eq!(outside(Distrust::Key), outside(Distrust::Signature));
    assert_eq!(outside(Distrust::Algorithm), outside(Distrust::Signature));
    // A signature is looked at either way: a name that nobody has is told after that.
    for kid in [Some("k1"), Some("k2"), None] {
        assert!(ring.candidate(kid, Algorithm::HS256).is_some(), "{kid:?}");
    }
    let refusal = |token: &str| redeem(&ring, &RULES, token, &here(), at(NOW)).unwrap_err();
    assert_eq!(refusal(&ticket(&of(hmac("k2", SECRET)))), Refusal::Invalid(Distrust::Key));
    assert_eq!(refusal(&ticket(&of(hmac("k1", &[7; 32])))), Refusal::Invalid(Distrust::Signature));
}

#[test]
fn claims_that_are_no_claims_of_ours_are_malformed() {
    assert_eq!(with("sub", json!("ada")), "let in");
    assert_eq!(with("nbf", json!(NOW)), "let in");
    assert_eq!(with("via", json!("cookie")), "let in");
    let bad = [
        ("iss", json!("https://idp.example")),
        ("aud", json!(["chat"])),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("jti", json!("short")),
        ("jti", json!("x".repeat(1000))),
        ("iat", json!("now")),
        ("nbf", json!(null)),
        ("exp", json!(-1)),
        ("exp", json!(NOW + 3600)),
        ("origin", json!(null)),
        ("net", json!("everywhere")),
        ("until", json!("never")),
        ("auth_time", json!(null)),
        ("via", json!("magic")),
        ("claims", json!([])),
        ("device", json!("unknown to this version")),
    ];
    for (claim, value) in bad {
        assert_eq!(with(claim, value.clone()), "ticket-malformed", "{claim} = {value}");
    }
    let (header, claims, _) = form::parts(&signed(&head(), &body())).unwrap();
    let twice = String::from_utf8(claims).unwrap().replacen('{', "{\"aud\":\"chat\",", 1);
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(twice));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    assert_eq!(refused(&of(hmac("k1", SECRET)), &format!("{message}.{signature}")), "ticket-malformed");
}

#[test]
fn refusals_have_their_status_and_say_how_one_is_let_in() {
    let shown = |refusal: Refusal| {
        let problem = Problem::from(refusal);
        let field = |name| problem.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (problem.status.as_u16(), field("www-authenticate"), field("retry-after"))
    };
    let challenge = |kind: &str| Some(format!("Tidegate-Ticket error=\"{kind}\""));
    assert_eq!(shown(Refusal::Missing), (401, challenge("ticket-missing"), None));
    assert_eq!(shown(Refusal::Spent), (401, challenge("ticket-spent"), None));
    assert_eq!(shown(Refusal::Malformed), (400, None, None));
    assert_eq!(shown(Refusal::WrongOrigin), (403, None, None));
    assert_eq!(shown(Refusal::StoreUnavailable), (503, None, Some("1".to_owned())));
}
