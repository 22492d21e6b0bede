//! From the text of a token to claims that somebody whom we trust has signed (RFC 7515, RFC 7519).
//!
//! The library checks signatures. What its own checks of time would need, a clock, comes as an argument here.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::key::VerifyKey;

/// Keys that are tried for a token that does not name its key.
const MOST_TRIED: usize = 8;

/// What a token says, once its signature is known to be good. Nothing was checked yet of what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// Its claims.
    pub claims: Map<String, Value>,
    /// The name of the key that has signed it.
    pub key: Option<Arc<str>>,
}

/// Why a token is not believed. The last two are told apart for our own use: outside they are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no token at all.
    Malformed,
    /// It names a key that we do not have.
    UnknownKey,
    /// It is not signed by the key it names, or not with an algorithm of that key.
    Untrusted,
}

/// Checks the signature of a token. Of keys that fit the token's `kid`, or that have no name, each is tried with its own
/// algorithms.
///
/// # Errors
///
/// [`Refusal`], if it is none or no key has signed it.
pub fn verify(token: &str, keys: &[VerifyKey]) -> Result<Verified, Refusal> {
    let header = decode_header(token).map_err(|error| match error.kind() {
        // `none`, or what we do not know: a token, but not one to be believed.
        ErrorKind::InvalidAlgorithmName => Refusal::Untrusted,
        _ => Refusal::Malformed,
    })?;
    let named: Vec<_> = match &header.kid {
        Some(kid) => keys.iter().filter(|key| key.id.as_deref().is_none_or(|id| id == kid)).collect(),
        None => keys.iter().collect(),
    };
    if named.is_empty() && header.kid.is_some() {
        return Err(Refusal::UnknownKey);
    }
    let fitting = named.into_iter().filter(|key| key.algorithms.contains(&header.alg));
    for key in fitting.take(MOST_TRIED) {
        match decode::<Map<String, Value>>(token, &key.key, &signature_alone(key)) {
            Ok(token) => return Ok(Verified { claims: token.claims, key: key.id.clone() }),
            Err(error) => match error.kind() {
                ErrorKind::Json(_) | ErrorKind::Utf8(_) => return Err(Refusal::Malformed),
                _ => {}
            },
        }
    }
    Err(Refusal::Untrusted)
}

fn signature_alone(key: &VerifyKey) -> Validation {
    let mut validation = Validation::default();
    validation.algorithms.clone_from(&key.algorithms);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// How a token's times stand to the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTime {
    /// `exp` is past, or missing.
    Expired,
    /// `nbf` or `iat` is to come.
    NotYetValid,
    /// One of them is no NumericDate.
    Malformed,
}

/// The times of a token that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// `iat`.
    pub issued: Option<SystemTime>,
    /// `exp`.
    pub expires: SystemTime,
}

/// Checks `exp`, which must be there, `nbf` and `iat` (RFC 7519 section 4.1). Clocks may differ by `leeway`.
///
/// # Errors
///
/// [`BadTime`], if the token does not hold at `now`.
pub fn check_times(claims: &Map<String, Value>, now: SystemTime, leeway: Duration) -> Result<Times, BadTime> {
    let date = |name| match claims.get(name) {
        None => Ok(None),
        Some(value) => numeric_date(value).map(Some).ok_or(BadTime::Malformed),
    };
    let (expires, not_before, issued) = (date("exp")?, date("nbf")?, date("iat")?);
    let expires = expires.ok_or(BadTime::Expired)?;
    let latest = now.checked_add(leeway).unwrap_or(now);
    if [not_before, issued].into_iter().flatten().any(|from| from > latest) {
        return Err(BadTime::NotYetValid);
    }
    // RFC 7519 section 4.1.4: on or after `exp` it is not accepted.
    if expires.checked_add(leeway).is_some_and(|end| end <= now) {
        return Err(BadTime::Expired);
    }
    Ok(Times { issued, expires })
}

/// A NumericDate (RFC 7519 section 2), cut to milliseconds; `None` if it is none or beyond what a clock can show.
#[must_use]
pub fn numeric_date(value: &Value) -> Option<SystemTime> {
    let seconds = value.as_f64().filter(|seconds| (0.0..=253_402_300_800.0).contains(seconds))?;
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    UNIX_EPOCH.checked_add(since)
}

/// Whole seconds since 1970, as tokens hold them.
#[must_use]
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn key(id: Option<&str>, algorithm: Algorithm, secret: &[u8]) -> VerifyKey {
        VerifyKey::secret(id.map(Arc::from), algorithm, secret)
    }

    fn token(kid: Option<&str>, algorithm: Algorithm, secret: &[u8]) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        encode(&header, &json!({"sub": "ada"}), &EncodingKey::from_secret(secret)).unwrap()
    }

    #[test]
    fn a_token_is_believed_if_a_fitting_key_has_signed_it() {
        let keys = [key(Some("a"), Algorithm::HS256, SECRET), key(None, Algorithm::HS384, SECRET)];
        let by = |kid, algorithm| verify(&token(kid, algorithm, SECRET), &keys).map(|verified| verified.key);
        assert_eq!(by(Some("a"), Algorithm::HS256), Ok(Some("a".into())));
        assert_eq!(by(None, Algorithm::HS256), Ok(Some("a".into())));
        assert_eq!(by(Some("z"), Algorithm::HS384), Ok(None), "a key without a name fits every kid");
        assert_eq!(by(Some("a"), Algorithm::HS512), Err(Refusal::Untrusted));
        assert_eq!(verify(&token(Some("b"), Algorithm::HS256, SECRET), &keys[..1]), Err(Refusal::UnknownKey));
        let other = token(Some("a"), Algorithm::HS256, &[7; 32]);
        assert_eq!(verify(&other, &keys), Err(Refusal::Untrusted));
    }

    #[test]
    fn what_is_no_token_is_malformed_and_an_unsigned_one_is_not_believed() {
        let keys = [key(None, Algorithm::HS256, SECRET)];
        for text in ["", ".", "..", "a.b.c", "eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9.e30"] {
            assert_eq!(verify(text, &keys), Err(Refusal::Malformed), "{text:?}");
        }
        // {"alg":"none"}.{}
        for text in ["eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJub25lIn0.e30.AAAA"] {
            assert!(matches!(verify(text, &keys), Err(Refusal::Untrusted | Refusal::Malformed)), "{text:?}");
        }
    }

    #[test]
    fn times_are_checked_with_leeway() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let of = |claims: Value, now| {
            check_times(claims.as_object().unwrap(), at(now), Duration::from_secs(5))
                .map(|times| seconds(times.expires))
        };
        assert_eq!(of(json!({"exp": 100}), 104), Ok(100));
        assert_eq!(of(json!({"exp": 100}), 105), Err(BadTime::Expired));
        assert_eq!(of(json!({"exp": 100.5}), 105), Ok(100));
        assert_eq!(of(json!({}), 0), Err(BadTime::Expired));
        assert_eq!(of(json!({"exp": 100, "nbf": 50}), 45), Ok(100));
        assert_eq!(of(json!({"exp": 100, "nbf": 50}), 44), Err(BadTime::NotYetValid));
        assert_eq!(of(json!({"exp": 100, "iat": 50}), 44), Err(BadTime::NotYetValid));
        for bad in [json!("100"), json!(-1), json!(1e300), json!(null)] {
            assert_eq!(of(json!({"exp": bad}), 0), Err(BadTime::Malformed), "{bad}");
        }
    }
}
