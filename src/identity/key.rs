//! Keys that sign and verify tokens, each pinned to its algorithms.

use std::fmt;
use std::sync::Arc;

pub use jsonwebtoken::Algorithm;
use jsonwebtoken::{DecodingKey, EncodingKey};

/// Least length of a secret in bytes: that of the hash, as RFC 7518 section 3.2 demands.
#[must_use]
pub const fn least_secret(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => 32,
    }
}

/// A key that tokens are verified with. The algorithms belong to the key: what a token says of itself only chooses among them.
#[derive(Clone)]
pub struct VerifyKey {
    /// Its name, `kid` in the header of a token.
    pub id: Option<Arc<str>>,
    /// What it verifies, all of one family.
    pub algorithms: Vec<Algorithm>,
    /// The key itself.
    pub key: DecodingKey,
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyKey").field("id", &self.id).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

impl VerifyKey {
    /// A shared secret, for one of the HS algorithms. Public keys are read by [`public`](super::public).
    #[must_use]
    pub fn secret(id: Option<Arc<str>>, algorithm: Algorithm, secret: &[u8]) -> Self {
        Self { id, algorithms: vec![algorithm], key: DecodingKey::from_secret(secret) }
    }
}

/// A key that tokens are signed with, and its other half.
#[derive(Clone)]
pub struct SignKey {
    /// Its name, `kid` in the header of a token.
    pub id: Arc<str>,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// The key itself.
    pub sign: EncodingKey,
    /// What verifies its signatures: the same secret, or the public half.
    pub verify: DecodingKey,
}

impl fmt::Debug for SignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignKey").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
