//! How a ticket is written: `base64url(header).base64url(claims).base64url(signature)` (RFC 7515 section 3.1).

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;

use super::{Distrust, MAX_TICKET, Refusal};
use crate::identity::Claims;
use crate::identity::key::Algorithm;

/// `typ` of a ticket (RFC 8725 section 3.11). A token of any other kind is no ticket, even if one key signs both.
pub(super) const TYPE: &str = "tidegate-ticket+jwt";

/// `iss` of a ticket.
pub(super) const ISSUER: &str = "tidegate";

/// The claims of a ticket. An unknown one may be a condition that a newer version made, so it is not passed over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    pub(super) iss: String,
    /// The name of the route that it opens.
    pub(super) aud: String,
    pub(super) sub: String,
    pub(super) jti: String,
    pub(super) iat: Number,
    /// Left out by us: it would be `iat`.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<Number>,
    pub(super) exp: Number,
    /// The only web origin that may use it.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<String>,
    /// The address, cut to the prefix that stands for one client, that it must come from.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub(super) net: Option<IpAddr>,
    /// When the identity itself ends.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub(super) until: Option<Number>,
    /// When the identity was proven, if that was before `iat` (`auth_time` of OpenID Connect Core 1.0, section 2).
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub(super) auth_time: Option<Number>,
    /// How the identity was proven when the ticket was issued.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub(super) via: Option<String>,
    /// `kid` of the key that vouched for the identity then, so that it can be taken back.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// What else is known of the identity.
    #[serde(default, skip_serializing_if = "Claims::is_empty")]
    pub(super) claims: Claims,
}

/// A claim that is there has a value; `null` is none.
fn there<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The header of a ticket. One that asks for more (`crit`, RFC 7515 section 4.1.11, or a key of its own) is no ticket.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    typ: String,
    alg: String,
    kid: Option<String>,
}

/// A text that has the form of a ticket. Nobody has checked who signed it.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    claims: Vec<u8>,
}

impl Form {
    /// Looks at everything that needs no key; `kind` is the `typ` that it must have.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`]; [`Refusal::Invalid`] for a ticket that is unsigned or signed in a way that none of ours is.
    pub(super) fn read(token: &str, kind: &str) -> Result<Self, Refusal> {
        // First of all: whatever follows takes time in proportion.
        if token.len() > MAX_TICKET {
            return Err(Refusal::Malformed);
        }
        let (head, claims, signature) = parts(token).ok_or(Refusal::Malformed)?;
        let head: Head = serde_json::from_slice(&head).map_err(|_| Refusal::Malformed)?;
        if head.typ != kind {
            return Err(Refusal::Malformed);
        }
        let (algorithm, length) = match head.alg.as_str() {
            "HS256" => (Algorithm::HS256, 32),
            "EdDSA" => (Algorithm::EdDSA, 64),
            _ => return Err(Refusal::Invalid(Distrust::Algorithm)),
        };
        if signature.len() != length {
            return Err(Refusal::Malformed);
        }
        Ok(Self { algorithm, kid: head.kid, claims })
    }

    /// The claims, to be asked for when the signature is known to be good.
    pub(super) fn body(&self) -> Result<Body, Refusal> {
        serde_json::from_slice::<Body>(&self.claims).ok().filter(|body| body.iss == ISSUER).ok_or(Refusal::Malformed)
    }
}

/// Whether a token says that it is a ticket. No token that does is anything else: a bearer token that one of our keys
/// has signed may not be a ticket that was meant to be used once.
#[must_use]
pub fn is_ticket(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Type {
        typ: String,
    }
    let head = token.split('.').next().filter(|head| head.len() <= MAX_TICKET).and_then(decode);
    head.and_then(|head| serde_json::from_slice::<Type>(&head).ok()).is_some_and(|head| head.typ == TYPE)
}

/// The three parts of a token, decoded.
pub(super) fn parts(token: &str) -> Option<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let mut parts = token.split('.').map(decode);
    let (head, claims, signature) = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some((head, claims, signature))
}

/// Base64url without padding and with no bit set that says nothing: each value has one text.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// The id of a ticket as it is written.
pub(super) fn write_id(random: &[u8; super::ID_BYTES]) -> String {
    URL_SAFE_NO_PAD.encode(random)
}

/// Whether a text is an id that [`write_id`] may have written.
pub(super) fn is_id(text: &str) -> bool {
    decode(text).is_some_and(|id| id.len() == super::ID_BYTES)
}
