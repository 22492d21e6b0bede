use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use http::Request;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode};
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::identity::signer::PairedKey;
use crate::identity::{Algorithm, Subject, Way};

const ID: Uuid = Uuid::from_u128(0x019d_d08e_7c51_7b52_8a55_0c3b_1f6f_9b9e);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// The settings of a bridge with these lines.
fn settings(lines: &str) -> Settings {
    let text = format!(
        "[auth]\nclaims = [\"tenant\", \"roles\", \"email\"]\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n[upstream.app]\nendpoints = [\"http://127.0.0.1:1\"]\n\
         [[route]]\npath = \"/chat\"\nauth = \"none\"\n[route.bridge]\nupstream = \"app\"\nevents = \"/e\"\n\
         messages = \"/m\"\n{lines}\n"
    );
    let config = Config::parse(&text, "test.toml", Path::new("")).unwrap_or_else(|problems| panic!("{problems}"));
    Settings::clone(config.routes[0].bridge.as_ref().unwrap())
}

fn signer() -> Arc<Signer> {
    let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let key = PairedKey::new("k1".into(), Algorithm::ES256, pem.as_bytes()).unwrap();
    Arc::new(Signer::new(vec![key], "tidegate".into(), Duration::from_mins(1)).unwrap())
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_900_000_000 + seconds)
}

fn ada(claims: Value) -> Identity {
    let Value::Object(claims) = claims else { panic!("claims are an object") };
    let subject = Subject::new("Ada Löv").unwrap();
    Identity { subject, claims, issued: None, expires: None, way: Way::Ticket, ticket: None, keys: Vec::new() }
}

/// The requests of a client with these fields, on a route with these settings.
fn requests(
    target: &str,
    client: &[(&str, &str)],
    settings: &Settings,
    identity: Option<&Identity>,
    signer: Option<&Arc<Signer>>,
) -> Result<Requests, Problem> {
    let mut head = Request::get(target).body(()).unwrap().into_parts().0;
    for (name, value) in client {
        head.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let peer = SocketAddr::from(([192, 0, 2, 7], 40_000));
    let asked =
        Asked { head: &head, captures: &[], host: "a.example", peer, tls: true, offered: &[], identity, turn: None };
    Requests::new(&asked, settings, signer, ID).map(|(requests, _)| requests)
}

/// Every request that a connection makes at a time: for the stream, with a message, and the last one.
fn all(requests: &mut Requests, now: SystemTime) -> [HeaderMap; 3] {
    let message = Payload::Message(Message::Text("hello".into()));
    let leave = Payload::Leave(Bytes::from_static(b"{}"));
    [requests.events(None, || now), requests.post(1, &message, &TEXT, || now), requests.post(2, &leave, &TEXT, || now)]
        .map(|request| request.headers)
}

fn values<'a>(fields: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    fields.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn every_request_says_who_the_client_is() {
    let settings =
        settings("claim_headers = { tenant = \"X-Tenant\", roles = \"Tidegate-Roles\", email = \"X-Email\" }");
    let ada = ada(json!({"tenant": "t1", "roles": ["a", "b"], "other": "secret"}));
    let mut requests = requests("/chat", &[], &settings, Some(&ada), None).unwrap();
    for fields in all(&mut requests, at(0)) {
        assert_eq!(values(&fields, "tidegate-subject"), ["Ada%20L%C3%B6v"]);
        assert_eq!(values(&fields, "x-tenant"), ["t1"]);
        assert_eq!(values(&fields, "tidegate-roles"), ["a,b"]);
        assert_eq!((values(&fields, "x-email").len(), values(&fields, "tidegate-identity").len()), (0, 0));
        assert!(!format!("{fields:?}").contains("secret"), "a claim without a header stays here");
    }
}

#[test]
fn nothing_that_a_client_sends_passes_for_what_we_say() {
    let settings = settings("forward_headers = [\"x-request-id\"]\nclaim_headers = { tenant = \"X-Tenant\" }");
    let forged = [
        ("Tidegate-Subject", "root"),
        ("tidegate-subject", "root"),
        ("TIDEGATE_SUBJECT", "root"),
        ("tidegate-Identity", "root"),
        ("X-Tenant", "root"),
        ("x_tenant", "root"),
        ("x-request-id", "7"),
    ];
    let ada = ada(json!({"tenant": "t1"}));
    for (identity, subject) in [(Some(&ada), &["Ada%20L%C3%B6v"][..]), (None, &[])] {
        let mut requests = requests("/chat", &forged, &settings, identity, None).unwrap();
        for fields in all(&mut requests, at(0)) {
            assert_eq!(values(&fields, "tidegate-subject"), subject);
            assert_eq!(values(&fields, "x-request-id"), ["7"]);
            assert!(!fields.values().any(|value| value == "root"), "{fields:?}");
        }
    }
}

#[test]
fn a_token_is_signed_when_it_is_needed_and_not_for_each_request() {
    let (signer, settings) = (signer(), settings(""));
    let settings = Settings { identity_token: Some("app".into()), ..settings };
    let ada = ada(json!({"tenant": "t1"}));
    let mut requests = requests("/chat", &[], &settings, Some(&ada), Some(&signer)).unwrap();
    let token = |fields: &HeaderMap| {
        let value = fields.get("tidegate-identity").unwrap();
        assert!(value.is_sensitive() && fields.get_all("tidegate-identity").iter().count() == 1);
        value.to_str().unwrap().to_owned()
    };
    let first = all(&mut requests, at(0)).map(|fields| token(&fields));
    // ECDSA signs with chance: two signatures of the same differ.
    assert!(first.iter().all(|token| *token == first[0]));
    assert_eq!(all(&mut requests, at(29)).map(|fields| token(&fields)), first);
    let renewed = token(&all(&mut requests, at(30))[0]);
    assert_ne!(renewed, first[0]);

    let jwks: JwkSet = serde_json::from_str(signer.jwks()).unwrap();
    let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.set_audience(&["app"]);
    validation.set_issuer(&["tidegate"]);
    let key = DecodingKey::from_jwk(jwks.find("k1").unwrap()).unwrap();
    let claims = decode::<Value>(&renewed, &key, &validation).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["claims"]), (&json!("Ada Löv"), &json!({"tenant": "t1"})));
    assert_eq!((&claims["exp"], &claims["tidegate_connection"]), (&json!(1_900_000_090), &json!(ID.to_string())));
}

#[test]
fn without_an_identity_there_is_no_token() {
    let (signer, settings) = (signer(), settings(""));
    let settings = Settings { identity_token: Some("app".into()), ..settings };
    let mut requests = requests("/chat", &[], &settings, None, Some(&signer)).unwrap();
    for fields in all(&mut requests, at(0)) {
        assert_eq!(values(&fields, "tidegate-identity").len() + values(&fields, "tidegate-subject").len(), 0);
    }
}

#[test]
fn an_identity_that_is_too_large_is_refused_and_not_shown() {
    let settings = settings("claim_headers = { tenant = \"X-Tenant\" }");
    let ada = ada(json!({"tenant": "x".repeat(5000)}));
    let signed = Settings { identity_token: Some("app".into()), claim_headers: Vec::new(), ..settings.clone() };
    for (settings, signer) in [(settings, None), (signed, Some(signer()))] {
        let problem = requests("/chat", &[], &settings, Some(&ada), signer.as_ref()).expect_err("too large");
        assert_eq!((problem.status.as_u16(), problem.kind), (403, "identity-too-large"));
        assert!(!format!("{problem:?}").contains("xxx"), "{problem:?}");
    }
}

#[test]
fn a_ticket_never_goes_upstream_whatever_else_is_a_credential() {
    let settings = settings("credential_params = [\"key\"]");
    let mut requests = requests("/chat?a=1&ticket=s&%74icket=s&key=s", &[], &settings, None, None).unwrap();
    assert_eq!(requests.events(None, || at(0)).target, "/e?a=1");
}

#[test]
fn without_a_token_nobody_asks_the_time() {
    let settings = settings("identity_token = false");
    let mut requests = requests("/chat", &[], &settings, Some(&ada(json!({}))), Some(&signer())).unwrap();
    let clock = || -> SystemTime { panic!("a message costs no look at the clock") };
    let message = Payload::Message(Message::Text("a".into()));
    assert!(!requests.events(None, clock).headers.contains_key("tidegate-identity"));
    assert!(!requests.post(1, &message, &TEXT, clock).headers.contains_key("tidegate-identity"));
}
