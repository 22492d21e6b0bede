//! Making a ticket.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jsonwebtoken::{Header, encode};
use secrecy::SecretString;

use super::form::{Body, ISSUER, TYPE, write_id};
use super::{ID_BYTES, KeyRing, MAX_LIFETIME, MAX_TICKET};
use crate::identity::verify::seconds;
use crate::identity::{Identity, Way};

/// What a ticket is to say.
#[derive(Clone, Copy, Debug)]
pub struct Minting<'a> {
    /// Whom it speaks for.
    pub identity: &'a Identity,
    /// The name of the route that it opens.
    pub route: &'a str,
    /// The only web origin that may use it, `scheme://host[:port]` in lower case; `None` leaves that open.
    pub origin: Option<&'a str>,
    /// The address that it must come from, cut to the prefix that stands for one client; `None` leaves that open.
    pub net: Option<IpAddr>,
    /// How long it may wait to be used, at most [`MAX_LIFETIME`] and the end of the identity.
    pub lifetime: Duration,
}

/// A new ticket.
pub struct Minted {
    /// Its text.
    pub token: SecretString,
    /// Its id, which may be logged.
    pub id: Arc<str>,
    /// From when on it is refused, but for the leeway.
    pub expires: SystemTime,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("id", &self.id).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Why there is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The claims are too much for a URL.
    #[error("the ticket would have {length} bytes, and {MAX_TICKET} is the most; keep fewer or shorter claims")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The identity does not hold any more.
    #[error("the identity has ended, or ends within a second")]
    Ended,
    /// The library does not sign with this key.
    #[error("the key cannot sign")]
    Unsigned,
}

/// Makes a ticket that begins at `now`. `random` must never be given twice: it becomes the id.
///
/// # Errors
///
/// [`MintError`].
pub fn mint(
    ring: &KeyRing,
    minting: &Minting<'_>,
    now: SystemTime,
    random: &[u8; ID_BYTES],
) -> Result<Minted, MintError> {
    let (body, expires) = body(minting, minting.lifetime.min(MAX_LIFETIME), now, write_id(random))?;
    let id = body.jti.as_str().into();
    Ok(Minted { token: sign(ring, TYPE, &body)?, id, expires })
}

/// What a token says that begins at `now` and holds for that long at most, with the time at which it ends.
pub(super) fn body(
    minting: &Minting<'_>,
    lifetime: Duration,
    now: SystemTime,
    id: String,
) -> Result<(Body, SystemTime), MintError> {
    let identity = minting.identity;
    let (issued, until) = (seconds(now), identity.expires.map(seconds));
    // Tickets hold whole seconds. Rounding up gives a client all of its time, and the end of the identity still counts.
    let expires = seconds(now.checked_add(lifetime + Duration::from_millis(999)).unwrap_or(now));
    let expires = until.map_or(expires, |until| expires.min(until));
    if expires <= issued {
        return Err(MintError::Ended);
    }
    let body = Body {
        iss: ISSUER.to_owned(),
        aud: minting.route.to_owned(),
        sub: identity.subject.as_str().to_owned(),
        jti: id,
        iat: issued.into(),
        nbf: None,
        exp: expires.into(),
        origin: minting.origin.map(str::to_owned),
        net: minting.net.map(|net| net.to_canonical()),
        until: until.map(Into::into),
        // A ticket does not make an old proof a new one.
        auth_time: identity.issued.map(seconds).filter(|proven| *proven < issued).map(Into::into),
        // A ticket proves nothing of its own: one that was made of nothing does not say how.
        via: Some(identity.way).filter(|way| *way != Way::Ticket).map(|way| way.label().to_owned()),
        key: identity.keys.first().map(ToString::to_string),
        claims: identity.claims.clone(),
    };
    Ok((body, SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(expires)).unwrap_or(now)))
}

/// Signs it, as a token of this `typ`.
pub(super) fn sign(ring: &KeyRing, kind: &str, body: &Body) -> Result<SecretString, MintError> {
    let key = ring.signer();
    let header = Header { typ: Some(kind.to_owned()), kid: Some(key.id.to_string()), ..Header::new(key.algorithm) };
    let token = encode(&header, body, &key.sign).map_err(|_| MintError::Unsigned)?;
    if token.len() > MAX_TICKET {
        return Err(MintError::TooLong { length: token.len() });
    }
    Ok(token.into())
}
