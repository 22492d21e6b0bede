//! `[auth]` in whole files.

use std::path::Path;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::access::Settings;
use crate::config::Config;
use crate::identity::Algorithm;

const REST: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n[upstream.app]\nendpoints = [\"http://127.0.0.1:9000\"]\n\
    [[route]]\npath = \"/chat\"\nauth = \"none\"\n[route.bridge]\nupstream = \"app\"\nevents = \"/e\"\nmessages = \"/m\"\n";

const SET: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"d","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// A directory with a set, a key and two secrets.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("set.json", SET);
    write("empty.json", "{\"keys\":[]}");
    write("p256.pem", &pair.public_key_pem());
    write("p256.key", &pair.serialize_pem());
    write("secret", &"x".repeat(32));
    write("short", "too short\n");
    directory
}

fn parse(base: &Path, auth: &str) -> Result<Settings, String> {
    let config = Config::parse(&format!("{auth}\n{REST}"), "tidegate.toml", base);
    config.map(|config| config.auth).map_err(|problems| problems.to_string())
}

fn bearer(lines: &str) -> Result<Settings, String> {
    parse(directory().path(), &format!("[auth]\nclaims = [\"tenant\"]\n[auth.bearer]\n{lines}"))
}

#[test]
fn without_the_section_nothing_proves_a_client() {
    let none = parse(Path::new("/nowhere"), "").unwrap();
    assert!(none.claims.is_empty() && none.bearer.is_none());
}

#[test]
fn what_everybody_may_know_is_no_secret() {
    let told = bearer("keys = [{ algorithm = \"HS256\", file = \"p256.pem\" }]").unwrap_err();
    assert!(told.contains("this is PEM, and HS256 needs a secret"), "{told}");
}

#[test]
fn keys_come_from_secrets_public_keys_and_sets() {
    let lines = "keys = [{ id = \"s\", algorithm = \"HS256\", file = \"secret\" }, { algorithm = \"ES256\", file = \"p256.pem\" }]\n\
        jwks = { file = \"set.json\" }\nissuer = \"https://id\"\naudience = [\"a\", \"b\"]\nsubject = \"uid\"\nleeway = \"0s\"";
    let settings = bearer(lines).unwrap();
    let bearer = settings.bearer.unwrap();
    let keys: Vec<_> = bearer.keys.iter().map(|key| (key.id.as_deref(), key.algorithms[0])).collect();
    let expected = [(Some("s"), Algorithm::HS256), (None, Algorithm::ES256), (Some("d"), Algorithm::EdDSA)];
    assert_eq!(keys, expected);
    assert!(bearer.jwks.is_none());
    let rules = bearer.rules;
    assert_eq!((rules.issuer.as_deref(), rules.subject.as_str()), (Some("https://id"), "uid"));
    assert_eq!((rules.audience.len(), rules.leeway, rules.claims), (2, Duration::ZERO, settings.claims));
}

#[test]
fn a_url_is_taken_apart_and_has_defaults() {
    let set = bearer("jwks = { url = \"http://127.0.0.1:9001/keys?v=1\" }\nalgorithms = [\"ES256\"]").unwrap();
    let set = set.bearer.unwrap().jwks.unwrap();
    assert_eq!(set.place.endpoints[0].authority.as_str(), "127.0.0.1:9001");
    assert_eq!((set.target.as_str(), set.algorithms), ("/keys?v=1", vec![Algorithm::ES256]));
    assert_eq!((set.rule.refresh, set.rule.cooldown), (Duration::from_mins(10), Duration::from_secs(30)));
    for sound in ["http://localhost:1/", "http://[::1]:1/k", "http://127.9.9.9"] {
        bearer(&format!("jwks = {{ url = \"{sound}\" }}")).unwrap();
    }
}

#[test]
fn what_is_wrong_is_told() {
    let told = |lines: &str| bearer(lines).unwrap_err();
    assert!(told("issuer = \"x\"").contains("[auth.bearer] has no keys"));
    assert!(told("keys = []").contains("[auth.bearer] has no keys"));
    assert!(told("keys = [{ algorithm = \"HS256\", file = \"short\" }]").contains("9 bytes, and HS256 needs 32"));
    assert!(told("keys = [{ algorithm = \"none\", file = \"secret\" }]").contains("`algorithm` cannot be `none`"));
    assert!(
        told("keys = [{ algorithm = \"ES384\", file = \"p256.pem\" }]").contains("not of the kind that ES384 needs")
    );
    assert!(told("keys = [{ algorithm = \"ES256\", file = \"p256.key\" }]").contains("it holds a private key"));
    assert!(told("keys = [{ algorithm = \"RS256\", file = \"secret\" }]").contains("neither a public key nor"));
    assert!(told("jwks = {}").contains("neither `file` nor `url`"));
    assert!(told("jwks = { file = \"set.json\", url = \"https://a/\" }").contains("both `file` and `url`"));
    assert!(told("jwks = { file = \"set.json\", refresh = \"1m\" }").contains("`refresh` has no effect on a file"));
    assert!(told("jwks = { file = \"empty.json\" }").contains("the key set is empty"));
    assert!(told("jwks = { file = \"set.json\" }\nalgorithms = [\"RS256\"]").contains("1 of an algorithm that is not"));
    assert!(
        told("jwks = { file = \"set.json\" }\nalgorithms = [\"HS256\"]").contains("`algorithms` cannot be `HS256`")
    );
    assert!(
        told("keys = [{ algorithm = \"ES256\", file = \"p256.pem\" }]\nalgorithms = [\"ES256\"]").contains("no effect")
    );
    assert!(told("jwks = { url = \"http://id.example.com/k\" }").contains("over plain HTTP"));
    assert!(told("jwks = { url = \"http://127.0.0.1.example.com/k\" }").contains("over plain HTTP"));
    for url in ["", "id.example.com/k", "ftp://a/k", "https://u:p@a/k", "https://a/k#x", "https://a?k", "https:///k"] {
        assert!(told(&format!("jwks = {{ url = \"{url}\" }}")).contains("is not a URL"), "{url}");
    }
    assert!(told("jwks = { url = \"https://a/k\", cooldown = \"10ms\" }").contains("from \"1s\" to \"1h\""));
    assert!(told("jwks = { file = \"set.json\" }\nissuer = \"\"").contains("`issuer` is empty"));
    assert!(told("jwks = { file = \"set.json\" }\naudience = \"a\"").contains("must be a list of texts"));
}
