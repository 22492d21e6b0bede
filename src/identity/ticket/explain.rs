//! What a token says, to people. Nothing here is checked.

use serde_json::{Map, Value};

use super::form::{TYPE, parts};

/// Longest token that is explained, in bytes: tokens of others may be longer than ours, but not without end.
const MAX_EXPLAINED: usize = 64 * 1024;

/// What a token says of itself. Whether anybody has signed it is not known.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Its header.
    pub header: Map<String, Value>,
    /// Its claims.
    pub claims: Map<String, Value>,
}

/// A text that is no JSON Web Token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no JSON Web Token: three parts of base64url with dots between them, the first two JSON objects")]
pub struct NoToken;

impl Explanation {
    /// Whether it says that it is one of our tickets.
    #[must_use]
    pub fn is_ticket(&self) -> bool {
        self.header.get("typ").and_then(Value::as_str) == Some(TYPE)
    }

    /// A claim that is a text.
    #[must_use]
    pub fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }
}

/// Reads header and claims, without a look at the signature. Any JSON Web Token will do, of whomever.
///
/// # Errors
///
/// [`NoToken`], also for more than 64 KiB.
pub fn explain(token: &str) -> Result<Explanation, NoToken> {
    let (header, claims, _) =
        Some(token).filter(|token| token.len() <= MAX_EXPLAINED).and_then(parts).ok_or(NoToken)?;
    let object = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|_| NoToken);
    Ok(Explanation { header: object(&header)?, claims: object(&claims)? })
}
