//! Key sets of others (JWK Set, RFC 7517): from bytes to keys that are pinned to algorithms.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::key::VerifyKey;
use super::public::PublicKey;

/// Largest set in bytes. A key with its chain of certificates takes up to some 10 KiB.
pub const MAX_SIZE: usize = 1024 * 1024;

/// Most keys that are kept: each may be tried for a token, and a set is looked through from its beginning.
pub const MAX_KEYS: usize = 100;

/// What is believed of a key set if nobody says which algorithms are. Signatures with a shared secret are never.
pub const USUAL_ALGORITHMS: [Algorithm; 5] =
    [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];

/// The usable keys of a set, at least one.
#[derive(Clone, Debug)]
pub struct KeySet {
    /// In the order of the set.
    pub keys: Vec<VerifyKey>,
    /// How many others there were.
    pub left_out: usize,
}

/// Why a set gives no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeySet {
    /// It has more than [`MAX_SIZE`] bytes.
    #[error("the key set is larger than {MAX_SIZE} bytes")]
    TooLarge,
    /// It is not a JSON object with a list `keys`.
    #[error("this is no key set, which is a JSON object with a list `keys`")]
    NotASet,
    /// The list is empty.
    #[error("the key set is empty")]
    Empty,
    /// There are keys, and none can be used.
    #[error("no key of the set can be used: {}", told(.0))]
    NothingUsable(Vec<LeftOut>),
}

/// Why a key of a set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// It is for something else than signatures (`use`, `key_ops`).
    OtherUse,
    /// It is a shared secret (`kty` is `oct`), which nobody may publish.
    Secret,
    /// Its `kty`, `crv` or `alg` is not known.
    UnknownKind,
    /// Its algorithm is not among those that are allowed.
    NotAllowed,
    /// It is not sound, or an RSA key that is too small or too large.
    Unfit,
    /// The set is full.
    TooMany,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherUse => "not for signatures",
            Self::Secret => "a shared secret",
            Self::UnknownKind => "of an unknown kind",
            Self::NotAllowed => "of an algorithm that is not allowed",
            Self::Unfit => "not sound, or RSA of too few bits",
            Self::TooMany => "too many",
        })
    }
}

/// `2 not for signatures, 1 a shared secret`
fn told(reasons: &[LeftOut]) -> String {
    let all = [LeftOut::OtherUse, LeftOut::Secret, LeftOut::UnknownKind, LeftOut::NotAllowed, LeftOut::Unfit];
    let count = |reason: &LeftOut| reasons.iter().filter(|one| *one == reason).count();
    let told = all.iter().map(|reason| (reason, count(reason))).filter(|(_, count)| *count > 0);
    told.map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>().join(", ")
}

impl KeySet {
    /// Reads a set. A key verifies with its own `alg`, or else with what its kind allows, and in both cases only with what
    /// `algorithms` names. What cannot be used is left out; it does not spoil the rest.
    ///
    /// # Errors
    ///
    /// [`BadKeySet`], if no key remains.
    pub fn parse(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Self, BadKeySet> {
        if bytes.len() > MAX_SIZE {
            return Err(BadKeySet::TooLarge);
        }
        let set: Map<String, Value> = serde_json::from_slice(bytes).map_err(|_| BadKeySet::NotASet)?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or(BadKeySet::NotASet)?;
        let (mut keys, mut left_out) = (Vec::new(), Vec::new());
        for jwk in listed {
            match read(jwk, algorithms) {
                Ok(_) if keys.len() == MAX_KEYS => left_out.push(LeftOut::TooMany),
                Ok(key) => keys.push(key),
                Err(reason) => left_out.push(reason),
            }
        }
        match (keys.is_empty(), left_out.is_empty()) {
            (true, true) => Err(BadKeySet::Empty),
            (true, false) => Err(BadKeySet::NothingUsable(left_out)),
            (false, _) => Ok(Self { keys, left_out: left_out.len() }),
        }
    }
}

/// Whether a text can be the name of a key: 1 to 256 bytes without control characters, so that it may stand in a log.
#[must_use]
pub fn is_key_name(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn read(jwk: &Value, algorithms: &[Algorithm]) -> Result<VerifyKey, LeftOut> {
    let jwk = jwk.as_object().ok_or(LeftOut::Unfit)?;
    let verifies = |operations: &Value| {
        operations.as_array().is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
    };
    if jwk.get("use").is_some_and(|usage| usage != "sig") || jwk.get("key_ops").is_some_and(|ops| !verifies(ops)) {
        return Err(LeftOut::OtherUse);
    }
    let id = match jwk.get("kid") {
        None => None,
        Some(Value::String(id)) if is_key_name(id) => Some(Arc::from(id.as_str())),
        Some(_) => return Err(LeftOut::Unfit),
    };
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    // RFC 7518 section 6.3.1.1: no zeros in front. Some write them, and their meaning is clear.
    let bytes = |name| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(LeftOut::Unfit);
    let key = match (text("kty").ok_or(LeftOut::UnknownKind)?, text("crv")) {
        ("RSA", _) => PublicKey::rsa(&bytes("n")?, &bytes("e")?),
        ("EC", Some("P-256")) => PublicKey::p256(&bytes("x")?, &bytes("y")?),
        ("EC", Some("P-384")) => PublicKey::p384(&bytes("x")?, &bytes("y")?),
        ("OKP", Some("Ed25519")) => PublicKey::ed25519(&bytes("x")?),
        ("oct", _) => return Err(LeftOut::Secret),
        _ => return Err(LeftOut::UnknownKind),
    };
    let key = key.map_err(|_| LeftOut::Unfit)?;
    let own = match jwk.get("alg").map(|alg| alg.as_str().unwrap_or_default()) {
        None => None,
        // The younger name of the same (RFC 9864 section 2.2).
        Some("Ed25519") => Some(Algorithm::EdDSA),
        Some(alg) => Some(Algorithm::from_str(alg).map_err(|_| LeftOut::UnknownKind)?),
    };
    if own.is_some_and(|own| !key.algorithms().contains(&own)) {
        return Err(LeftOut::Unfit);
    }
    let allowed: Vec<_> = algorithms.iter().copied().filter(|one| own.is_none_or(|own| own == *one)).collect();
    let key = key.pinned(id, &allowed);
    if key.algorithms.is_empty() { Err(LeftOut::NotAllowed) } else { Ok(key) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rsa(bytes: usize) -> Value {
        json!({"kty": "RSA", "kid": "r", "n": URL_SAFE_NO_PAD.encode(vec![0xff; bytes]), "e": "AQAB"})
    }

    fn p256() -> Value {
        json!({"kty": "EC", "crv": "P-256", "kid": "p", "x": coordinate(32), "y": coordinate(32)})
    }

    fn ed25519() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "d", "x": coordinate(32)})
    }

    fn coordinate(bytes: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![7; bytes])
    }

    /// The key with other members; `null` takes one out.
    fn with(mut key: Value, members: &Value) -> Value {
        for (name, value) in members.as_object().unwrap() {
            let object = key.as_object_mut().unwrap();
            if value.is_null() {
                object.remove(name)
            } else {
                object.insert(name.clone(), value.clone())
            };
        }
        key
    }

    fn parse(keys: &[Value]) -> Result<KeySet, BadKeySet> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), &USUAL_ALGORITHMS)
    }

    /// The algorithms of the only key, or why it is left out.
    fn only(key: Value) -> Result<Vec<Algorithm>, LeftOut> {
        match parse(&[key]) {
            Ok(set) => Ok(set.keys[0].algorithms.clone()),
            Err(BadKeySet::NothingUsable(reasons)) => Err(reasons[0]),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_key_is_pinned_by_its_alg_or_else_by_its_kind() {
        assert_eq!(only(rsa(256)), Ok(vec![Algorithm::RS256, Algorithm::PS256]));
        assert_eq!(only(with(rsa(256), &json!({"alg": "PS256"}))), Ok(vec![Algorithm::PS256]));
        assert_eq!(only(p256()), Ok(vec![Algorithm::ES256]));
        let p384 = json!({"kty": "EC", "crv": "P-384", "x": coordinate(48), "y": coordinate(48), "alg": "ES384"});
        assert_eq!(only(p384), Ok(vec![Algorithm::ES384]));
        assert_eq!(only(ed25519()), Ok(vec![Algorithm::EdDSA]));
        assert_eq!(only(with(ed25519(), &json!({"alg": "Ed25519", "use": "sig"}))), Ok(vec![Algorithm::EdDSA]));
        assert_eq!(only(with(p256(), &json!({"key_ops": ["verify"]}))), Ok(vec![Algorithm::ES256]));
    }

    #[test]
    fn what_cannot_be_used_is_left_out_with_its_reason() {
        let of = |key: Value, members: Value| only(with(key, &members)).unwrap_err();
        assert_eq!(of(p256(), json!({"use": "enc"})), LeftOut::OtherUse);
        assert_eq!(of(p256(), json!({"key_ops": ["sign"]})), LeftOut::OtherUse);
        assert_eq!(of(json!({"kty": "oct", "k": coordinate(32), "alg": "HS256"}), json!({})), LeftOut::Secret);
        assert_eq!(of(p256(), json!({"crv": "P-521"})), LeftOut::UnknownKind);
        assert_eq!(of(p256(), json!({"kty": "ML-DSA"})), LeftOut::UnknownKind);
        assert_eq!(of(p256(), json!({"kty": null})), LeftOut::UnknownKind);
        assert_eq!(of(rsa(256), json!({"alg": "RSA-OAEP"})), LeftOut::UnknownKind);
        assert_eq!(of(rsa(256), json!({"alg": "none"})), LeftOut::UnknownKind);
        assert_eq!(of(rsa(256), json!({"alg": 1})), LeftOut::UnknownKind);
        assert_eq!(of(rsa(256), json!({"alg": "RS512"})), LeftOut::NotAllowed);
        assert_eq!(of(rsa(256), json!({"alg": "HS256"})), LeftOut::Unfit, "a public key is no secret");
        assert_eq!(of(rsa(256), json!({"alg": "ES256"})), LeftOut::Unfit);
        assert_eq!(of(rsa(128), json!({})), LeftOut::Unfit, "1024 bits");
        assert_eq!(of(p256(), json!({"x": coordinate(31)})), LeftOut::Unfit);
        assert_eq!(of(p256(), json!({"x": "!"})), LeftOut::Unfit);
        assert_eq!(of(p256(), json!({"y": null})), LeftOut::Unfit);
        assert_eq!(of(p256(), json!({"kid": "a\u{1b}[2J"})), LeftOut::Unfit);
        assert_eq!(of(p256(), json!({"kid": 7})), LeftOut::Unfit);
    }

    #[test]
    fn one_bad_key_does_not_spoil_the_set() {
        let set = parse(&[rsa(128), p256(), json!(7), ed25519()]).unwrap();
        let names: Vec<_> = set.keys.iter().filter_map(|key| key.id.as_deref()).collect();
        assert_eq!((names, set.left_out), (vec!["p", "d"], 2));
        let many = parse(&vec![p256(); MAX_KEYS + 7]).unwrap();
        assert_eq!((many.keys.len(), many.left_out), (MAX_KEYS, 7));
    }

    #[test]
    fn a_set_without_a_usable_key_says_why() {
        let secret = json!({"kty": "oct", "k": "AAAA"});
        let told = parse(&[secret.clone(), rsa(128), secret]).unwrap_err().to_string();
        assert_eq!(told, "no key of the set can be used: 2 a shared secret, 1 not sound, or RSA of too few bits");
        assert_eq!(parse(&[]).unwrap_err(), BadKeySet::Empty);
        for text in ["", "{}", "[]", "null", "{\"keys\":{}}", "<html>", "{\"keys\":[]"] {
            let error = KeySet::parse(text.as_bytes(), &USUAL_ALGORITHMS).unwrap_err();
            assert_eq!(error, BadKeySet::NotASet, "{text}");
        }
        let large = format!("{{\"keys\":[]}}{}", " ".repeat(MAX_SIZE));
        assert_eq!(KeySet::parse(large.as_bytes(), &USUAL_ALGORITHMS).unwrap_err(), BadKeySet::TooLarge);
    }

    proptest! {
        #[test]
        fn nothing_in_a_set_is_too_much(
            bytes: Vec<u8>,
            kty in "RSA|EC|OKP|oct|", crv in "P-256|P-384|Ed25519|", alg in "RS256|ES256|EdDSA|x", text in "[A-Za-z0-9_-]{0,400}",
        ) {
            let _ = KeySet::parse(&bytes, &USUAL_ALGORITHMS);
            let key = json!({"kty": kty, "crv": crv, "alg": alg, "n": text, "e": "AQAB", "x": text, "y": text, "kid": text});
            if let Ok(set) = parse(&[key]) {
                prop_assert!(set.keys.iter().all(|key| !key.algorithms.is_empty()));
            }
        }
    }
}
