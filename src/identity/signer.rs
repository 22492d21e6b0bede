//! Tokens that tell upstream who a client is (RFC 7519), and the set of keys that verifies them (RFC 7517).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, OctetKeyPairParameters,
    OctetKeyPairType, PublicKeyUse,
};
use jsonwebtoken::{DecodingKey, EncodingKey, Header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::key::{Algorithm, SignKey};
use super::told::TooLarge;
use super::verify::seconds;
use super::who::Identity;

/// What the keys may be: only those whose public half can be shown.
pub const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
    ("ES384", Algorithm::ES384),
    ("RS256", Algorithm::RS256),
    ("PS256", Algorithm::PS256),
];

/// Most that a token may say, in bytes of JSON: with base64 and signature that stays below the 8 KiB which common servers take
/// as one field.
pub const MOST_SAID: usize = 5 * 1024;

/// A key pair that signs for upstream.
#[derive(Clone)]
pub struct PairedKey {
    key: SignKey,
    public: Jwk,
}

impl fmt::Debug for PairedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl PairedKey {
    /// A key from a private key as PEM: PKCS #8, for RSA also PKCS #1. It is used once, so that one which cannot sign is found
    /// here.
    ///
    /// # Errors
    ///
    /// What the library says of a PEM file that is none, holds another kind of key, or one that is too short.
    pub fn new(id: Arc<str>, algorithm: Algorithm, pem: &[u8]) -> Result<Self, Error> {
        let (sign, mut public) = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => {
                let key = EncodingKey::from_ec_pem(pem)?;
                let public = Jwk::from_encoding_key(&key, algorithm)?;
                (key, public)
            }
            Algorithm::RS256 | Algorithm::PS256 => {
                let key = EncodingKey::from_rsa_pem(pem)?;
                let public = Jwk::from_encoding_key(&key, algorithm)?;
                (key, public)
            }
            Algorithm::EdDSA => (EncodingKey::from_ed_pem(pem)?, ed25519(pem)?),
            _ => return Err(ErrorKind::InvalidAlgorithm.into()),
        };
        public.common.key_id = Some(id.to_string());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let verify = DecodingKey::from_jwk(&public)?;
        jsonwebtoken::crypto::sign(b"", &sign, algorithm)?;
        Ok(Self { key: SignKey { id, algorithm, sign, verify }, public })
    }
}

/// The public half of an Ed25519 key. The library reads it of PKCS #8 version 1 alone, and others write version 2.
fn ed25519(pem: &[u8]) -> Result<Jwk, Error> {
    let pair = std::str::from_utf8(pem).ok().and_then(|pem| rcgen::KeyPair::from_pem(pem).ok());
    let pair = pair.filter(|pair| pair.is_compatible(&rcgen::PKCS_ED25519)).ok_or(ErrorKind::InvalidEddsaKey)?;
    Ok(Jwk {
        common: CommonParameters { key_algorithm: Some(KeyAlgorithm::EdDSA), ..CommonParameters::default() },
        algorithm: AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
            key_type: OctetKeyPairType::OctetKeyPair,
            curve: EllipticCurve::Ed25519,
            x: BASE64_URL_SAFE_NO_PAD.encode(pair.public_key_raw()),
        }),
    })
}

/// What makes the tokens.
#[derive(Debug)]
pub struct Signer {
    key: SignKey,
    issuer: Arc<str>,
    lifetime: Duration,
    /// The first part of every token.
    head: String,
    jwks: Arc<str>,
}

/// What stays the same in all tokens of one connection.
#[derive(Clone)]
pub struct Said {
    /// The claims as JSON, with the end left open.
    claims: Box<str>,
    /// What `jti` begins with.
    connection: Uuid,
    expires: Option<SystemTime>,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// A token.
#[derive(Clone)]
pub struct Signed {
    /// The token.
    pub token: String,
    /// How long it will do.
    pub term: Term,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("term", &self.term).finish_non_exhaustive()
    }
}

/// From when to when a token is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// When it was made, in whole seconds.
    issued: SystemTime,
    /// From when on there should be a new one; `None` where that would not hold longer.
    renew: Option<SystemTime>,
}

impl Signer {
    /// Signs with the first of `keys` and shows the public halves of all; `None` without keys. Tokens hold for `lifetime`, 10 s to
    /// 1 h.
    #[must_use]
    pub fn new(keys: Vec<PairedKey>, issuer: Arc<str>, lifetime: Duration) -> Option<Self> {
        let jwks = JwkSet { keys: keys.iter().map(|key| key.public.clone()).collect() };
        let jwks = serde_json::to_string(&jwks).ok()?.into();
        let key = keys.into_iter().next()?.key;
        let header = Header { kid: Some(key.id.to_string()), ..Header::new(key.algorithm) };
        let head = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).ok()?);
        Some(Self { key, issuer, lifetime, head, jwks })
    }

    /// The public keys, for who verifies the tokens: a JSON Web Key Set.
    #[must_use]
    pub fn jwks(&self) -> &Arc<str> {
        &self.jwks
    }

    /// Puts together what the tokens of a connection say of its client to `audience`.
    ///
    /// # Errors
    ///
    /// [`TooLarge::Token`], above [`MOST_SAID`] bytes.
    pub fn say(&self, identity: &Identity, audience: &str, connection: Uuid) -> Result<Said, TooLarge> {
        let claims = json!({
            "iss": &*self.issuer,
            "aud": audience,
            "sub": identity.subject.as_str(),
            "tidegate_connection": connection.to_string(),
            "claims": Value::Object(identity.claims.clone()),
        });
        let mut claims = claims.to_string();
        if claims.len() > MOST_SAID {
            return Err(TooLarge::Token);
        }
        // The closing brace comes behind the times.
        claims.pop();
        Ok(Said { claims: claims.into(), connection, expires: identity.expires })
    }

    /// Makes a token that begins to hold at `now` and ends no later than the identity does.
    ///
    /// # Errors
    ///
    /// What the library says; a key that could sign at the start can do so later.
    pub fn sign(&self, said: &Said, now: SystemTime) -> Result<Signed, Error> {
        let whole = now.checked_add(self.lifetime).unwrap_or(now);
        let cut = said.expires.filter(|end| *end < whole);
        let (issued, expires) = (seconds(now), seconds(cut.unwrap_or(whole)));
        let times = format!(r#","iat":{issued},"nbf":{issued},"exp":{expires},"jti":"{}-{issued}"}}"#, said.connection);
        let claims = BASE64_URL_SAFE_NO_PAD.encode(format!("{}{times}", said.claims));
        let mut token = format!("{}.{claims}", self.head);
        let signature = sign(token.as_bytes(), &self.key.sign, self.key.algorithm)?;
        token.push('.');
        token.push_str(&signature);
        let issued = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(issued)).unwrap_or(now);
        let renew = if cut.is_some() { None } else { now.checked_add(self.lifetime / 2) };
        Ok(Signed { token, term: Term { issued, renew } })
    }
}

impl Term {
    /// Whether the token will do at `now`. A clock that was set back makes it one of the future, and those are refused.
    #[must_use]
    pub fn will_do(&self, now: SystemTime) -> bool {
        self.issued <= now && self.renew.is_none_or(|renew| now < renew)
    }
}

#[cfg(test)]
mod tests {
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
        Identity { subject, claims, issued: None, expires, way: Way::Ticket, ticket: None, key: None }
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
            let signed = signer.sign(&said, at(0)).unwrap();
            let expected = json!({
                "iss": "tidegate", "aud": "app", "sub": "Ada \"Löv\"", "claims": {"tenant": "t1"},
                "tidegate_connection": ID.to_string(), "jti": format!("{ID}-1900000000"),
                "iat": 1_900_000_000, "nbf": 1_900_000_000, "exp": 1_900_000_060,
            });
            assert_eq!(believed(&signed.token, signer.jwks()), expected, "{name}");
        }
    }

    #[test]
    fn keys_are_rotated_by_their_order_and_all_are_published() {
        let (old, new) = (key("old", Algorithm::ES256), key("new", Algorithm::EdDSA));
        let before = signer(vec![old.clone()]);
        let ready = signer(vec![old.clone(), new.clone()]);
        let after = signer(vec![new, old]);
        let kid = |signer: &Signer| {
            let signed = signer.sign(&signer.say(&ada(None), "app", ID).unwrap(), at(0)).unwrap();
            believed(&signed.token, ready.jwks());
            believed(&signed.token, after.jwks());
            jsonwebtoken::decode_header(&signed.token).unwrap().kid.unwrap()
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
            let signed = signer.sign(&signer.say(&ada(expires.map(at)), "app", ID).unwrap(), at(now)).unwrap();
            let exp = believed(&signed.token, signer.jwks())["exp"].as_u64().unwrap() - 1_900_000_000;
            (signed.term, exp)
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
}
