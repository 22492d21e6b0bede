//! Tokens that tell upstream who a client is (RFC 7519), and the set of keys that verifies them (RFC 7517).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
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
            x: URL_SAFE_NO_PAD.encode(pair.public_key_raw()),
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

impl Signed {
    /// The token as the value of a field, which is not shown.
    #[must_use]
    pub fn field(self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(self.token).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
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
        // RFC 8725 section 3.11: so that it is taken for nothing else.
        let header = Header {
            typ: Some("tidegate-identity+jwt".to_owned()),
            kid: Some(key.id.to_string()),
            ..Header::new(key.algorithm)
        };
        let head = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).ok()?);
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
        let claims = URL_SAFE_NO_PAD.encode(format!("{}{times}", said.claims));
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
mod tests;
