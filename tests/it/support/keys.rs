//! Somebody who signs tokens, and whose public keys are known.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _,
};
use serde_json::{Value, json};
use tidegate::identity::verify::seconds;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;

/// A key pair with a name.
pub(crate) struct Signer {
    id: String,
    algorithm: Algorithm,
    pair: KeyPair,
    key: EncodingKey,
}

impl Signer {
    /// A fresh pair of the kind that the algorithm needs.
    pub(crate) fn new(id: &str, algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        Self { id: id.to_owned(), algorithm, pair, key: key.unwrap() }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The public half as a JSON Web Key (RFC 7517).
    pub(crate) fn jwk(&self) -> Value {
        let raw = self.pair.der_bytes();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = match self.algorithm {
            Algorithm::ES256 => json!({"kty": "EC", "crv": "P-256", "x": text(&raw[1..33]), "y": text(&raw[33..])}),
            Algorithm::ES384 => json!({"kty": "EC", "crv": "P-384", "x": text(&raw[1..49]), "y": text(&raw[49..])}),
            Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "x": text(raw)}),
            _ => {
                let (_, key) = RSAPublicKey::from_der(raw).unwrap();
                // A number in DER has a zero in front where it would be negative.
                json!({"kty": "RSA", "n": text(key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus)), "e": text(key.exponent)})
            }
        };
        key["kid"] = self.id.as_str().into();
        key["use"] = "sig".into();
        key
    }

    /// A token for `ada` that holds for a minute.
    pub(crate) fn token(&self) -> String {
        self.token_named(&self.id)
    }

    /// The same, with another name for the key.
    pub(crate) fn token_named(&self, id: &str) -> String {
        self.sign(id, &json!({"sub": "ada", "exp": seconds(SystemTime::now()) + 60}))
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, id: &str, claims: &Value) -> String {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }
}
