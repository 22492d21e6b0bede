//! Public keys of others: what kind they are, and which algorithms they can verify.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::key::VerifyKey;

/// Bits of an RSA modulus: RFC 7518 section 3.3 wants 2048 or more, and above 8192 the library verifies nothing.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Every algorithm of an RSA key.
const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::PS256, Algorithm::RS384, Algorithm::PS384, Algorithm::RS512, Algorithm::PS512];

/// A public key that signatures can be verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Both as big-endian numbers without leading zeros.
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// An uncompressed point (SEC 1 section 2.3.3).
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Why something is no [`PublicKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPublicKey {
    /// No PEM section that could hold one.
    #[error("it holds neither a public key nor a certificate as PEM")]
    Nothing,
    /// The other half, which has no business here.
    #[error("it holds a private key, and only the public half is needed")]
    Private,
    /// Not what its own form demands.
    #[error("it is not sound")]
    Broken,
    /// An RSA key of this many bits.
    #[error("it is an RSA key of {0} bits, and 2048 to 8192 can be used")]
    RsaSize(usize),
    /// An RSA key whose exponent is even, below 3 or above 32 bits.
    #[error("it is an RSA key with an exponent that cannot be used")]
    RsaExponent,
    /// Another kind of key or curve.
    #[error("it is not an RSA, P-256, P-384 or Ed25519 key")]
    UnknownKind,
    /// A sound key of another kind than the algorithm needs.
    #[error("it is not of the kind that {0:?} needs")]
    OtherAlgorithm(Algorithm),
}

impl PublicKey {
    /// An RSA key of 2048 to 8192 bits, from big-endian numbers.
    ///
    /// # Errors
    ///
    /// [`BadPublicKey`], if one of the two cannot be used.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, BadPublicKey> {
        let (modulus, exponent) = (number(modulus), number(exponent));
        let leading = modulus.first().map_or(8, |byte| byte.leading_zeros() as usize);
        let bits = (modulus.len() * 8).saturating_sub(leading);
        if !RSA_BITS.contains(&bits) {
            return Err(BadPublicKey::RsaSize(bits));
        }
        let is_odd = exponent.last().is_some_and(|byte| byte & 1 == 1);
        if !is_odd || exponent.len() > 4 || exponent == [1] {
            return Err(BadPublicKey::RsaExponent);
        }
        Ok(Self(Kind::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() }))
    }

    /// A point on P-256, from its two coordinates of 32 bytes.
    ///
    /// # Errors
    ///
    /// [`BadPublicKey::Broken`], if they have another length.
    pub fn p256(x: &[u8], y: &[u8]) -> Result<Self, BadPublicKey> {
        point(x, y, 32).map(|point| Self(Kind::P256(point)))
    }

    /// A point on P-384, from its two coordinates of 48 bytes.
    ///
    /// # Errors
    ///
    /// [`BadPublicKey::Broken`], if they have another length.
    pub fn p384(x: &[u8], y: &[u8]) -> Result<Self, BadPublicKey> {
        point(x, y, 48).map(|point| Self(Kind::P384(point)))
    }

    /// An Ed25519 key of 32 bytes (RFC 8032 section 5.1.5).
    ///
    /// # Errors
    ///
    /// [`BadPublicKey::Broken`], if it has another length.
    pub fn ed25519(key: &[u8]) -> Result<Self, BadPublicKey> {
        if key.len() == 32 { Ok(Self(Kind::Ed25519(key.to_vec()))) } else { Err(BadPublicKey::Broken) }
    }

    /// The first key of a PEM file (RFC 7468): a public key, or that of a certificate. Whether the certificate still holds is
    /// not looked at: the file says that the key is trusted.
    ///
    /// # Errors
    ///
    /// [`BadPublicKey`], if there is none or it cannot be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadPublicKey> {
        for section in Pem::iter_from_buffer(pem) {
            let section = section.map_err(|_| BadPublicKey::Broken)?;
            match section.label.as_str() {
                "PUBLIC KEY" => {
                    let (_, info) =
                        SubjectPublicKeyInfo::from_der(&section.contents).map_err(|_| BadPublicKey::Broken)?;
                    return Self::from_info(&info);
                }
                "CERTIFICATE" => {
                    let certificate = section.parse_x509().map_err(|_| BadPublicKey::Broken)?;
                    return Self::from_info(certificate.public_key());
                }
                "RSA PUBLIC KEY" => {
                    let (_, key) = RSAPublicKey::from_der(&section.contents).map_err(|_| BadPublicKey::Broken)?;
                    return Self::rsa(key.modulus, key.exponent);
                }
                label if label.ends_with("PRIVATE KEY") => return Err(BadPublicKey::Private),
                // Such as `EC PARAMETERS`, which some tools write in front.
                _ => {}
            }
        }
        Err(BadPublicKey::Nothing)
    }

    /// From the form that certificates have (RFC 5280 section 4.1.2.7, RFC 5480, RFC 8410).
    fn from_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, BadPublicKey> {
        let key: &[u8] = &info.subject_public_key.data;
        match info.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => {
                let (_, key) = RSAPublicKey::from_der(key).map_err(|_| BadPublicKey::Broken)?;
                Self::rsa(key.modulus, key.exponent)
            }
            "1.2.840.10045.2.1" => {
                let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
                let Some([0x04, coordinates @ ..]) = Some(key) else { return Err(BadPublicKey::Broken) };
                let (x, y) = coordinates.split_at_checked(coordinates.len() / 2).unwrap_or_default();
                match curve.map(|curve| curve.to_id_string()).as_deref() {
                    Some("1.2.840.10045.3.1.7") => Self::p256(x, y),
                    Some("1.3.132.0.34") => Self::p384(x, y),
                    _ => Err(BadPublicKey::UnknownKind),
                }
            }
            "1.3.101.112" => Self::ed25519(key),
            _ => Err(BadPublicKey::UnknownKind),
        }
    }

    /// What it can verify.
    #[must_use]
    pub const fn algorithms(&self) -> &'static [Algorithm] {
        match self.0 {
            Kind::Rsa { .. } => RSA,
            Kind::P256(_) => &[Algorithm::ES256],
            Kind::P384(_) => &[Algorithm::ES384],
            Kind::Ed25519(_) => &[Algorithm::EdDSA],
        }
    }

    /// The same for tokens: with a name, and pinned to these algorithms, of which only those stay that it can verify.
    #[must_use]
    pub fn pinned(&self, id: Option<Arc<str>>, algorithms: &[Algorithm]) -> VerifyKey {
        let key = match &self.0 {
            Kind::Rsa { modulus, exponent } => DecodingKey::from_rsa_raw_components(modulus, exponent),
            Kind::P256(point) | Kind::P384(point) => DecodingKey::from_ec_der(point),
            Kind::Ed25519(key) => DecodingKey::from_ed_der(key),
        };
        let algorithms = algorithms.iter().copied().filter(|one| self.algorithms().contains(one)).collect();
        VerifyKey { id, algorithms, key }
    }
}

/// A key for tokens from a PEM file, pinned to one algorithm.
///
/// # Errors
///
/// [`BadPublicKey`], if there is none, or it is not one for this algorithm.
pub fn verify_key(id: Option<Arc<str>>, algorithm: Algorithm, pem: &[u8]) -> Result<VerifyKey, BadPublicKey> {
    let key = PublicKey::from_pem(pem)?;
    if !key.algorithms().contains(&algorithm) {
        return Err(BadPublicKey::OtherAlgorithm(algorithm));
    }
    Ok(key.pinned(id, &[algorithm]))
}

/// A big-endian number without leading zeros.
fn number(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn point(x: &[u8], y: &[u8], length: usize) -> Result<Vec<u8>, BadPublicKey> {
    if x.len() != length || y.len() != length {
        return Err(BadPublicKey::Broken);
    }
    Ok([&[0x04], x, y].concat())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use proptest::prelude::*;
    use rcgen::{
        CertificateParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
        PKCS_RSA_SHA256,
    };
    use serde_json::json;

    use super::*;
    use crate::identity::verify::verify;

    fn token(algorithm: Algorithm, pair: &KeyPair) -> String {
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        encode(&Header::new(algorithm), &json!({"sub": "ada"}), &key.unwrap()).unwrap()
    }

    #[test]
    fn keys_and_certificates_verify_what_their_other_half_has_signed() {
        let authority = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let kinds = [
            (Algorithm::RS256, &PKCS_RSA_SHA256),
            (Algorithm::PS512, &PKCS_RSA_SHA256),
            (Algorithm::ES256, &PKCS_ECDSA_P256_SHA256),
            (Algorithm::ES384, &PKCS_ECDSA_P384_SHA384),
            (Algorithm::EdDSA, &PKCS_ED25519),
        ];
        for (algorithm, kind) in kinds {
            let pair = KeyPair::generate_for(kind).unwrap();
            let params = || CertificateParams::new(vec!["issuer".to_owned()]).unwrap();
            // What the authority's own key is says nothing of the key in the certificate.
            let certificate = params().signed_by(&pair, &Issuer::new(params(), &authority)).unwrap().pem();
            for pem in [pair.public_key_pem(), certificate] {
                let key = verify_key(None, algorithm, pem.as_bytes()).unwrap();
                assert!(verify(&token(algorithm, &pair), &[key]).is_ok(), "{algorithm:?} {pem}");
            }
            let other = if algorithm == Algorithm::ES256 { Algorithm::ES384 } else { Algorithm::ES256 };
            let refused = verify_key(None, other, pair.public_key_pem().as_bytes()).unwrap_err();
            assert_eq!(refused, BadPublicKey::OtherAlgorithm(other));
            let private = verify_key(None, algorithm, pair.serialize_pem().as_bytes()).unwrap_err();
            assert_eq!(private, BadPublicKey::Private);
        }
        assert_eq!(PublicKey::from_pem(b""), Err(BadPublicKey::Nothing));
        assert_eq!(PublicKey::from_pem(b"secret"), Err(BadPublicKey::Nothing));
    }

    #[test]
    fn rsa_keys_are_neither_weak_nor_beyond_what_can_be_verified() {
        let rsa = |bytes: usize, exponent: &[u8]| PublicKey::rsa(&vec![0xff; bytes], exponent).map(drop);
        let usual: &[u8] = &[1, 0, 1];
        assert_eq!(rsa(256, usual), Ok(()));
        assert_eq!(rsa(1024, &[3]), Ok(()));
        assert_eq!(rsa(255, usual), Err(BadPublicKey::RsaSize(2040)));
        assert_eq!(rsa(1025, usual), Err(BadPublicKey::RsaSize(8200)));
        assert_eq!(rsa(0, usual), Err(BadPublicKey::RsaSize(0)));
        let padded = [vec![0; 200], vec![0xff; 128]].concat();
        assert_eq!(PublicKey::rsa(&padded, usual), Err(BadPublicKey::RsaSize(1024)), "zeros in front do not count");
        for exponent in [&[] as &[u8], &[0], &[1], &[0, 1], &[2], &[1, 0, 0, 0, 1]] {
            assert_eq!(rsa(256, exponent), Err(BadPublicKey::RsaExponent), "{exponent:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_in_a_file_is_too_much(bytes: Vec<u8>, body in "[A-Za-z0-9+/=\n]{0,200}", label in "(RSA )?PUBLIC KEY|CERTIFICATE") {
            let _ = PublicKey::from_pem(&bytes);
            let _ = PublicKey::from_pem(format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n").as_bytes());
        }
    }
}
