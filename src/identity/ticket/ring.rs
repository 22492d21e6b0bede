//! The keys that tickets are signed with.

use std::sync::Arc;

use jsonwebtoken::{DecodingKey, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519};

use crate::identity::key::{Algorithm, SignKey, VerifyKey, least_secret};

/// Why something is no key for tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// A secret that is shorter than its hash.
    #[error("the secret is too short for its algorithm")]
    Short,
    /// Not PEM, encrypted, or another kind of key.
    #[error("this is no Ed25519 private key in PEM (PKCS #8)")]
    NotEd25519,
    /// Neither HS256 nor EdDSA.
    #[error("tickets are signed with HS256 or EdDSA")]
    Algorithm,
}

/// A key from what a file holds: a secret for HS256, a private key in PEM for EdDSA, whose public half is derived.
///
/// # Errors
///
/// [`BadKey`], also for every other algorithm.
pub fn sign_key(id: Arc<str>, algorithm: Algorithm, material: &[u8]) -> Result<SignKey, BadKey> {
    let (sign, verify) = match algorithm {
        Algorithm::HS256 if material.len() < least_secret(algorithm) => return Err(BadKey::Short),
        Algorithm::HS256 => (EncodingKey::from_secret(material), DecodingKey::from_secret(material)),
        Algorithm::EdDSA => ed25519(material).ok_or(BadKey::NotEd25519)?,
        _ => return Err(BadKey::Algorithm),
    };
    Ok(SignKey { id, algorithm, sign, verify })
}

fn ed25519(pem: &[u8]) -> Option<(EncodingKey, DecodingKey)> {
    let pair = KeyPair::from_pem(std::str::from_utf8(pem).ok()?).ok()?;
    if !pair.is_compatible(&PKCS_ED25519) {
        return None;
    }
    let sign = EncodingKey::from_ed_der(pair.serialized_der());
    // Two libraries read the key; one that the second cannot sign with is found here and not at the first ticket.
    encode(&Header::new(Algorithm::EdDSA), &(), &sign).ok()?;
    Some((sign, DecodingKey::from_ed_der(pair.public_key_raw())))
}

/// The keys of a gateway, at least one: the first signs, all verify, so that keys change without a ticket being lost.
#[derive(Clone, Debug)]
pub struct KeyRing {
    signer: SignKey,
    others: Vec<SignKey>,
}

impl KeyRing {
    /// A ring whose first key signs. Their names must differ; of two with one name only the first is ever used.
    #[must_use]
    pub fn new(signer: SignKey, others: Vec<SignKey>) -> Self {
        Self { signer, others }
    }

    /// The ring of a gateway that was given no key: one secret that ends with it.
    #[must_use]
    pub fn random(secret: &[u8; 32]) -> Self {
        let (sign, verify) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Self::new(SignKey { id: "random".into(), algorithm: Algorithm::HS256, sign, verify }, Vec::new())
    }

    /// The key that signs.
    pub(super) fn signer(&self) -> &SignKey {
        &self.signer
    }

    /// The key that a token has to be signed with which names `kid` and this algorithm, and its name.
    ///
    /// Where there is none it is any key of that algorithm, without a name: the token is refused whatever that key says,
    /// and how long that takes does not tell which names there are. `None` if no key has the algorithm.
    pub(super) fn candidate(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<(VerifyKey, Option<Arc<str>>)> {
        let of_algorithm = |key: &&SignKey| key.algorithm == algorithm;
        let all = || std::iter::once(&self.signer).chain(&self.others);
        let named = all().find(|key| Some(&*key.id) == kid).filter(of_algorithm);
        let key = named.or_else(|| all().find(of_algorithm))?;
        let verify = VerifyKey { id: None, algorithms: vec![algorithm], key: key.verify.clone() };
        Some((verify, named.map(|key| Arc::clone(&key.id))))
    }
}
