//! Bearer tokens: JSON Web Tokens of somebody whom we trust, in `Authorization` (RFC 6750 section 2.1, RFC 7519).

use std::str::FromStr as _;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use jsonwebtoken::Algorithm;
use memchr::memchr_iter;
use serde_json::{Map, Value};

use super::jwks::is_key_name;
use super::key::VerifyKey;
use super::verify::{self, BadTime, Refusal};
use super::who::{Claims, Identity, Subject, Way};
use crate::protocol::problem::Problem;

/// Longest token in bytes. Those of large identity providers reach some 10 KiB; what is longer is not even read.
const MAX_TOKEN: usize = 64 * 1024;

/// What a token must say to be believed, beside being signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `iss` must be this; `None`: it may be anything.
    pub issuer: Option<String>,
    /// Our names: `aud` must name one of them. If there are none, a token that is for somebody in particular is not for us.
    pub audience: Vec<String>,
    /// The claim that says who it is.
    pub subject: String,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// The claims that the identity keeps.
    pub claims: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: Vec::new(),
            subject: "sub".to_owned(),
            leeway: Duration::from_secs(5),
            claims: Vec::new(),
        }
    }
}

/// Why a bearer token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BearerRefusal {
    /// `Authorization` stands there more than once.
    Repeated,
    /// It has the form of a token and is none, or is too long.
    Malformed,
    /// It names a key that we do not have, but may get. Clients are told the same as for `Untrusted`.
    UnknownKey,
    /// It is not signed by whom it should be, or is not meant as a bearer token.
    Untrusted,
    /// It does not hold any more.
    Expired,
    /// It does not hold yet.
    NotYetValid,
    /// `iss` is another.
    WrongIssuer,
    /// `aud` names others.
    WrongAudience,
    /// It does not say who it is for.
    NoSubject,
}

impl BearerRefusal {
    /// What the client is told (RFC 6750 section 3.1). All that concerns keys is one answer.
    #[must_use]
    pub fn problem(self) -> Problem {
        let (kind, detail) = match self {
            Self::Repeated => ("authorization-repeated", "a request has one field Authorization at most"),
            Self::Malformed => ("token-malformed", "the bearer token is not a sound JSON Web Token"),
            Self::UnknownKey | Self::Untrusted => ("token-invalid", "the bearer token is not one that is trusted here"),
            Self::Expired => ("token-expired", "the bearer token has expired"),
            Self::NotYetValid => ("token-not-yet-valid", "the bearer token is not valid yet"),
            Self::WrongIssuer => ("token-wrong-issuer", "the bearer token was not issued by whom it should be"),
            Self::WrongAudience => ("token-wrong-audience", "the bearer token is meant for somebody else"),
            Self::NoSubject => ("token-no-subject", "the bearer token does not say whom it speaks for"),
        };
        let (status, challenge) = match self {
            Self::Repeated => (StatusCode::BAD_REQUEST, "Bearer error=\"invalid_request\""),
            _ => (StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\""),
        };
        Problem::new(status, kind, detail).with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }
}

/// The token that a request brings; `None` if it brings none, or something that is not of the form of a signed JSON Web
/// Token, which the application may know what to do with.
///
/// # Errors
///
/// [`BearerRefusal::Repeated`], if it is not clear what the request brings; [`BearerRefusal::Malformed`], if a token holds
/// what no token holds.
pub fn token_in(headers: &HeaderMap) -> Result<Option<&str>, BearerRefusal> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(BearerRefusal::Repeated);
    }
    // RFC 9110 section 11.1: the scheme is case-insensitive, and a space or more follow.
    let Some((scheme, rest)) = field.as_bytes().split_at_checked("Bearer ".len()) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(b"Bearer ") || memchr_iter(b'.', rest).count() != 2 {
        return Ok(None);
    }
    let token = std::str::from_utf8(rest).map_err(|_| BearerRefusal::Malformed)?;
    Ok(Some(token.trim_matches(' ')))
}

/// Believes a token, or does not.
///
/// # Errors
///
/// [`BearerRefusal`], with the first that is wrong: its form, its signature, its times, who it is from, whom it is for.
pub fn judge(token: &str, keys: &[VerifyKey], rules: &Rules, now: SystemTime) -> Result<Identity, BearerRefusal> {
    if token.len() > MAX_TOKEN {
        return Err(BearerRefusal::Malformed);
    }
    let kid = check_header(token)?;
    let verified = verify::verify(token, keys).map_err(|refusal| match refusal {
        Refusal::Malformed => BearerRefusal::Malformed,
        Refusal::UnknownKey | Refusal::Untrusted => {
            // Keys without a name fit every token and do not make its own known.
            let is_known = |kid: &str| keys.iter().any(|key| key.id.as_deref() == Some(kid));
            let may_come = kid.is_some_and(|kid| is_key_name(&kid) && !is_known(&kid));
            if may_come { BearerRefusal::UnknownKey } else { BearerRefusal::Untrusted }
        }
    })?;
    let mut claims = verified.claims;
    let times = verify::check_times(&claims, now, rules.leeway).map_err(|bad| match bad {
        BadTime::Expired => BearerRefusal::Expired,
        BadTime::NotYetValid => BearerRefusal::NotYetValid,
        BadTime::Malformed => BearerRefusal::Malformed,
    })?;
    if let Some(issuer) = &rules.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(BearerRefusal::WrongIssuer);
    }
    if !is_for(claims.get("aud"), &rules.audience) {
        return Err(BearerRefusal::WrongAudience);
    }
    // RFC 7800: whoever shows it must also show that it holds a key, which nobody asks for here.
    if claims.contains_key("cnf") {
        return Err(BearerRefusal::Untrusted);
    }
    let subject = claims.get(&rules.subject).and_then(Value::as_str);
    let subject = subject.and_then(|subject| Subject::new(subject).ok()).ok_or(BearerRefusal::NoSubject)?;
    let kept: Claims = rules.claims.iter().filter_map(|name| claims.remove_entry(name)).collect();
    Ok(Identity {
        subject,
        claims: kept,
        issued: times.issued,
        expires: Some(times.expires),
        way: Way::Bearer,
        ticket: None,
        keys: verified.key.into_iter().collect(),
    })
}

/// Reads what the header of a token says beside its algorithm; gives the name of its key.
fn check_header(token: &str) -> Result<Option<String>, BearerRefusal> {
    let header = token.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    let header = header.ok_or(BearerRefusal::Malformed)?;
    let mut header: Map<String, Value> = serde_json::from_slice(&header).map_err(|_| BearerRefusal::Malformed)?;
    let Some(Value::String(alg)) = header.get("alg") else { return Err(BearerRefusal::Malformed) };
    // `none`, or what we do not know: a token, but not one to be believed.
    Algorithm::from_str(alg).map_err(|_| BearerRefusal::Untrusted)?;
    // RFC 7515 section 4.1.11: what must be understood and is not makes a token invalid. We understand no extension.
    if header.contains_key("crit") {
        return Err(BearerRefusal::Untrusted);
    }
    // RFC 8725 section 3.11: a token of another kind, such as a ticket of ours or the news of a logout, is good for one thing
    // only and not for this.
    if header.get("typ").is_some_and(|typ| !typ.as_str().is_some_and(is_access_token)) {
        return Err(BearerRefusal::Untrusted);
    }
    match header.remove("kid") {
        None => Ok(None),
        Some(Value::String(kid)) => Ok(Some(kid)),
        Some(_) => Err(BearerRefusal::Malformed),
    }
}

/// Whether a media type is that of any token, or of an access token (RFC 9068 section 2.1); RFC 7515 section 4.1.9 lets
/// `application/` be left out.
fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

/// Whether `aud`, which is a text or a list of them (RFC 7519 section 4.1.3), names one of us. If it is there, it must; if it
/// is not, we must have no name.
fn is_for(aud: Option<&Value>, us: &[String]) -> bool {
    let is_us = |name: &Value| name.as_str().is_some_and(|name| us.iter().any(|one| one == name));
    match aud {
        None => us.is_empty(),
        Some(Value::Array(names)) => names.iter().any(is_us),
        Some(name) => is_us(name),
    }
}

#[cfg(test)]
mod tests;
