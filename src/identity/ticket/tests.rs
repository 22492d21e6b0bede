use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;
use crate::identity::key::{Algorithm, SignKey};
use crate::identity::{Identity, Subject, Way};
use crate::protocol::problem::Problem;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const RULES: Rules = Rules { leeway: Duration::from_secs(5) };
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn here() -> Presented<'static> {
    Presented { route: "chat", origin: Some("https://app.example"), net: address("192.0.2.7") }
}

fn hmac(id: &str, secret: &[u8]) -> SignKey {
    sign_key(id.into(), Algorithm::HS256, secret).unwrap()
}

/// A ring of this key alone.
fn of(key: SignKey) -> KeyRing {
    KeyRing::new(key, Vec::new())
}

fn ada() -> Identity {
    Identity {
        subject: Subject::new("ada").unwrap(),
        claims: json!({"tenant": "north", "roles": ["a", "b"]}).as_object().unwrap().clone(),
        issued: Some(at(NOW - 100)),
        expires: Some(at(NOW + 3600)),
        way: Way::Bearer,
        ticket: None,
        key: Some("idp".into()),
    }
}

fn minting(identity: &Identity) -> Minting<'_> {
    Minting {
        identity,
        route: "chat",
        origin: Some("https://app.example"),
        net: Some(address("192.0.2.7")),
        lifetime: Duration::from_secs(30),
    }
}

fn ticket(ring: &KeyRing) -> String {
    let minted = mint(ring, &minting(&ada()), at(NOW), &[7; ID_BYTES]).unwrap();
    minted.token.expose_secret().to_owned()
}

fn refused(ring: &KeyRing, token: &str) -> &'static str {
    redeem(ring, &RULES, token, &here(), at(NOW)).map_or_else(Refusal::kind, |_| "let in")
}

/// A token with this header and these claims, signed with the secret of the tests.
fn signed(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn head() -> Value {
    json!({"typ": "tidegate-ticket+jwt", "alg": "HS256", "kid": "k1"})
}

fn body() -> Value {
    let id = URL_SAFE_NO_PAD.encode([7; ID_BYTES]);
    json!({"iss": "tidegate", "aud": "chat", "sub": "ada", "jti": id, "iat": NOW, "exp": NOW + 30})
}

/// What becomes of a good ticket with one claim that is another.
fn with(claim: &str, value: Value) -> &'static str {
    let mut claims = body();
    claims[claim] = value;
    refused(&of(hmac("k1", SECRET)), &signed(&head(), &claims))
}

#[test]
fn a_ticket_is_redeemed_to_whom_it_was_issued_for() {
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
    for key in [hmac("k1", SECRET), sign_key("k1".into(), Algorithm::EdDSA, ed.as_bytes()).unwrap()] {
        let ring = of(key);
        let minted = mint(&ring, &minting(&ada()), at(NOW), &[7; ID_BYTES]).unwrap();
        assert_eq!(minted.expires, at(NOW + 30));
        let token = minted.token.expose_secret();
        assert!(token.len() < 512 && !format!("{minted:?}").contains(token), "{} bytes", token.len());
        let redeemed = redeem(&ring, &RULES, token, &here(), at(NOW + 1)).unwrap();
        let identity = Identity {
            issued: Some(at(NOW)),
            way: Way::Ticket,
            ticket: Some(minted.id.clone()),
            key: Some("k1".into()),
            ..ada()
        };
        let spent_until = at(NOW + 35);
        assert_eq!(redeemed, Redeemed { identity, id: minted.id, via: Some(Way::Bearer), spent_until });
    }
}

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
fn a_ticket_holds_in_its_time_and_no_longer_than_its_identity() {
    let ring = of(hmac("k1", SECRET));
    let token = ticket(&ring);
    let when = |now| redeem(&ring, &RULES, &token, &here(), at(now)).map_or_else(Refusal::kind, |_| "let in");
    assert_eq!(when(NOW - 6), "ticket-not-yet-valid");
    assert_eq!(when(NOW - 5), "let in");
    assert_eq!(when(NOW + 34), "let in");
    assert_eq!(when(NOW + 35), "ticket-expired");
    assert_eq!(with("nbf", json!(NOW + 6)), "ticket-not-yet-valid");
    assert_eq!(with("until", json!(NOW - 5)), "ticket-expired");
    let mint_at = |expires, millis| {
        let identity = Identity { expires, ..ada() };
        let now = at(NOW) + Duration::from_millis(millis);
        mint(&ring, &minting(&identity), now, &[7; ID_BYTES]).map(|minted| minted.expires)
    };
    assert_eq!(mint_at(None, 0), Ok(at(NOW + 30)));
    assert_eq!(mint_at(None, 1), Ok(at(NOW + 31)), "a client gets all of its time");
    assert_eq!(mint_at(Some(at(NOW + 10)), 500), Ok(at(NOW + 10)));
    assert_eq!(mint_at(Some(at(NOW) + Duration::from_millis(900)), 0), Err(MintError::Ended));
    assert_eq!(mint_at(Some(at(NOW - 1)), 0), Err(MintError::Ended));
}

#[test]
fn a_ticket_opens_what_it_is_bound_to() {
    let ring = of(hmac("k1", SECRET));
    let (bound, identity) = (ticket(&ring), ada());
    let bound = bound.as_str();
    let unbound = Minting { origin: None, net: None, ..minting(&identity) };
    let unbound = mint(&ring, &unbound, at(NOW), &[7; ID_BYTES]).unwrap();
    let unbound = unbound.token.expose_secret();
    let (origin, net) = (here().origin, here().net);
    let other = Some("https://evil.example");
    let elsewhere = address("192.0.2.8");
    for (token, presented, expected) in [
        (bound, Presented { route: "room", origin: other, net: elsewhere }, "ticket-wrong-route"),
        (bound, Presented { route: "chat", origin: other, net: elsewhere }, "ticket-wrong-origin"),
        (bound, Presented { route: "chat", origin: None, net }, "ticket-wrong-origin"),
        (bound, Presented { route: "chat", origin, net: elsewhere }, "ticket-wrong-address"),
        (bound, Presented { route: "chat", origin, net: address("::ffff:192.0.2.7") }, "let in"),
        (unbound, Presented { route: "chat", origin: other, net: elsewhere }, "let in"),
        (unbound, Presented { route: "chat", origin: None, net }, "let in"),
        (unbound, Presented { route: "Chat", origin: None, net }, "ticket-wrong-route"),
    ] {
        let outcome = redeem(&ring, &RULES, token, &presented, at(NOW)).map_or_else(Refusal::kind, |_| "let in");
        assert_eq!(outcome, expected, "{presented:?}");
    }
}

#[test]
fn a_key_may_be_replaced_without_a_ticket_being_lost() {
    let (old, new) = (hmac("old", SECRET), hmac("new", &[7; 32]));
    let both = KeyRing::new(new.clone(), vec![old.clone()]);
    assert_eq!(refused(&both, &ticket(&of(old.clone()))), "let in");
    assert_eq!(refused(&both, &ticket(&both)), "let in");
    assert_eq!(refused(&of(new), &ticket(&both)), "let in", "the first key signs");
    assert_eq!(refused(&of(old), &ticket(&both)), "ticket-invalid");
    assert_eq!(refused(&KeyRing::random(&[1; 32]), &ticket(&KeyRing::random(&[2; 32]))), "ticket-invalid");
}

#[test]
fn a_ticket_that_does_not_fit_into_a_url_is_not_made() {
    let mut identity = ada();
    identity.claims.insert("all".into(), json!("x".repeat(MAX_TICKET)));
    let error = mint(&of(hmac("k1", SECRET)), &minting(&identity), at(NOW), &[7; ID_BYTES]).unwrap_err();
    assert!(matches!(error, MintError::TooLong { length } if length > MAX_TICKET), "{error}");
}

#[test]
fn keys_that_are_none_are_refused_before_the_first_ticket() {
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let key = |algorithm, material: &[u8]| sign_key("k".into(), algorithm, material).map(|_| ()).unwrap_err();
    assert_eq!(key(Algorithm::HS256, &[1; 31]), BadKey::Short);
    assert_eq!(key(Algorithm::EdDSA, ec.serialize_pem().as_bytes()), BadKey::NotEd25519);
    assert_eq!(key(Algorithm::EdDSA, ed.public_key_pem().as_bytes()), BadKey::NotEd25519);
    assert_eq!(key(Algorithm::EdDSA, &[0xff; 64]), BadKey::NotEd25519);
    assert_eq!(key(Algorithm::RS256, ed.serialize_pem().as_bytes()), BadKey::Algorithm);
    // As `openssl genpkey -algorithm ed25519` writes it: without the public half (RFC 8410 section 10.3).
    let openssl = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    let ring = of(sign_key("k".into(), Algorithm::EdDSA, openssl.as_bytes()).unwrap());
    assert_eq!(refused(&ring, &ticket(&ring)), "let in");
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

#[test]
fn a_token_is_explained_without_a_key() {
    let token = ticket(&of(hmac("k1", SECRET)));
    let explained = explain(&token).unwrap();
    assert!(explained.is_ticket() && is_ticket(&token));
    assert_eq!((explained.text("sub"), explained.header["kid"].as_str()), (Some("ada"), Some("k1")));
    let bearer = encode(&Header::default(), &json!({"sub": "bob"}), &EncodingKey::from_secret(SECRET)).unwrap();
    let explained = explain(&bearer).unwrap();
    assert!(!explained.is_ticket() && !is_ticket(&bearer));
    assert_eq!(explained.text("sub"), Some("bob"));
    for text in ["", "a.b", "e30.W10.", &"e30.".repeat(40_000)] {
        assert_eq!(explain(text), Err(NoToken));
    }
}

fn text() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,40}"
}

prop_compose! {
    fn identities()(
        subject in text(),
        claims in prop::collection::btree_map(text(), text(), 0..4),
        left in prop::option::of(1..100_000_u64),
    ) -> Identity {
        Identity {
            subject: Subject::new(&subject).unwrap(),
            claims: claims.into_iter().map(|(name, value)| (name, Value::from(value))).collect(),
            expires: left.map(|left| at(NOW + left)),
            ..ada()
        }
    }
}

proptest! {
    #[test]
    fn every_ticket_is_redeemed_to_the_same_identity(
        identity in identities(), id: [u8; ID_BYTES], route in text(), origin in prop::option::of(text()),
        net in prop::option::of(any::<IpAddr>()), after in 0..4_u64,
    ) {
        let ring = of(hmac("k1", SECRET));
        let minting = Minting { identity: &identity, route: &route, origin: origin.as_deref(), net, ..minting(&identity) };
        let minted = mint(&ring, &minting, at(NOW), &id).unwrap();
        let presented =
            Presented { route: &route, origin: origin.as_deref(), net: net.unwrap_or(address("192.0.2.1")) };
        let token = minted.token.expose_secret();
        let redeemed = redeem(&ring, &RULES, token, &presented, at(NOW + after)).unwrap();
        let ticket = Some(minted.id);
        let key = Some("k1".into());
        prop_assert_eq!(redeemed.identity, Identity { issued: Some(at(NOW)), way: Way::Ticket, ticket, key, ..identity });
    }

    #[test]
    fn a_ticket_of_which_a_byte_is_another_is_refused(at: prop::sample::Index, byte in 0x20..0x7f_u8, eddsa: bool) {
        let openssl = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let (algorithm, material) =
            if eddsa { (Algorithm::EdDSA, openssl.as_bytes()) } else { (Algorithm::HS256, SECRET) };
        let ring = of(sign_key("k1".into(), algorithm, material).unwrap());
        let good = ticket(&ring);
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let token = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(refused(&ring, &token) == "let in", token == good);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}", near in "[A-Za-z0-9_=-]{0,30}(\\.[A-Za-z0-9_=-]{0,30}){0,4}") {
        let ring = of(hmac("k1", SECRET));
        for text in [text, near] {
            prop_assert!(refused(&ring, &text) != "let in");
            let _ = (explain(&text), is_ticket(&text));
        }
    }

    #[test]
    fn claims_of_any_kind_make_nothing_panic(name in "[a-z]{3,6}|origin|until|claims", value in "\\PC{0,20}", number: f64) {
        for value in [Value::from(value), Value::from(number), json!([]), json!({"a": null})] {
            with(&name, value);
        }
    }
}
