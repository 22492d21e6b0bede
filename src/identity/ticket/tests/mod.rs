mod random;
mod refused;

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::*;
use crate::identity::key::{Algorithm, SignKey};
use crate::identity::{Identity, Subject, Way};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const RULES: Rules = Rules { leeway: Duration::from_secs(5) };
/// As `openssl genpkey -algorithm ed25519` writes it: without the public half (RFC 8410 section 10.3).
const OPENSSL: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
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
        keys: vec!["idp".into()],
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
        assert!(token.len() < 540 && !format!("{minted:?}").contains(token), "{} bytes", token.len());
        let redeemed = redeem(&ring, &RULES, token, &here(), at(NOW + 1)).unwrap();
        let identity = Identity {
            way: Way::Ticket,
            ticket: Some(minted.id.clone()),
            keys: vec!["k1".into(), "idp".into()],
            ..ada()
        };
        let spent_until = at(NOW + 40);
        assert_eq!(redeemed, Redeemed { identity, spent_until });
    }
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
fn a_spent_ticket_is_remembered_until_every_gateway_refuses_it() {
    let ring = of(hmac("k1", SECRET));
    let token = ticket(&ring);
    let redeem_at = |now| redeem(&ring, &RULES, &token, &here(), at(now));
    let forgotten = redeem_at(NOW).unwrap().spent_until;
    // The other gateway's clock is behind by what the leeway allows.
    let by_the_other = forgotten - RULES.leeway;
    assert_eq!(
        redeem(&ring, &RULES, &token, &here(), by_the_other).map_err(Refusal::kind).unwrap_err(),
        "ticket-expired"
    );
}

#[test]
fn a_ticket_is_as_old_as_the_proof_that_it_was_given_for() {
    let ring = of(hmac("k1", SECRET));
    let issued = |issued: Option<u64>| {
        let identity = Identity { issued: issued.map(at), ..ada() };
        let minted = mint(&ring, &minting(&identity), at(NOW), &[7; ID_BYTES]).unwrap();
        redeem(&ring, &RULES, minted.token.expose_secret(), &here(), at(NOW + 1)).unwrap().identity.issued
    };
    assert_eq!(issued(Some(NOW - 100)), Some(at(NOW - 100)), "what is revoked after the proof concerns the ticket");
    assert_eq!((issued(Some(NOW + 3)), issued(None)), (Some(at(NOW)), Some(at(NOW))));
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
    let ring = of(sign_key("k".into(), Algorithm::EdDSA, OPENSSL.as_bytes()).unwrap());
    assert_eq!(refused(&ring, &ticket(&ring)), "let in");
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
