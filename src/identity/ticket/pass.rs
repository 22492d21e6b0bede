//! The return pass: what lets a browser's `EventSource` come back by itself.
//!
//! It opens the same URL again, with the ticket that it was opened with, which is spent by then. The pass is a cookie beside
//! it, which no script reads and no log holds, and which says that its bearer was let in with a ticket of the same subject.
//! Both together let it in again; the URL alone is worth nothing, and the cookie alone is none of a page's doing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;

use super::mint::{body, sign};
use super::redeem::{Opened, Valid, check_bonds, open, plain, valid};
use super::{KeyRing, MintError, Minting, Presented, Refusal, Rules, form};
use crate::identity::{Identity, Way};

/// `typ` of a pass: no ticket, and no ticket is one.
const TYPE: &str = "tidegate-pass+jwt";

/// The longest that a pass may hold: it can be renewed for as long as its identity lasts.
pub const MAX_PASS: Duration = Duration::from_hours(7 * 24);

/// A new pass.
pub struct Pass {
    /// Its text.
    pub token: SecretString,
    /// From when on it is refused, but for the leeway.
    pub expires: SystemTime,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Makes a pass that begins at `now`, for whoever has just been let in by ticket; `None` for anybody else. It ends with the
/// identity at the latest.
///
/// # Errors
///
/// [`MintError`].
pub fn issue(ring: &KeyRing, minting: &Minting<'_>, now: SystemTime) -> Result<Option<Pass>, MintError> {
    let Some(ticket) = minting.identity.ticket.as_deref().filter(|_| minting.identity.way == Way::Ticket) else {
        return Ok(None);
    };
    let (mut body, expires) = body(minting, minting.lifetime.min(MAX_PASS), now, ticket.to_owned())?;
    // The key that vouched first, behind that of the ticket; that of the ticket is known from the ticket itself.
    body.key = minting.identity.keys.get(1).map(ToString::to_string);
    Ok(Some(Pass { token: sign(ring, TYPE, &body)?, expires }))
}

/// Checks a ticket and a pass that come together at `now`. The ticket may have expired and may be spent; in all else it has
/// to be good, and of the subject of the pass.
///
/// # Errors
///
/// The first [`Refusal`] that applies to the pass, or to the ticket.
pub fn come_back(
    ring: &KeyRing,
    rules: &Rules,
    ticket: &str,
    pass: &str,
    presented: &Presented<'_>,
    now: SystemTime,
) -> Result<Identity, Refusal> {
    let Opened { body: stub, key: ticket_key, .. } = open(ring, ticket, form::TYPE)?;
    plain(&stub)?;
    check_bonds(&stub, presented)?;
    let opened = open(ring, pass, TYPE)?;
    let Valid { subject, until, issued, .. } = valid(&opened, rules, MAX_PASS, presented, now)?;
    let Opened { body, key, .. } = opened;
    if stub.sub != body.sub {
        return Err(Refusal::Invalid(super::Distrust::Key));
    }
    let mut keys: Vec<Arc<str>> = vec![ticket_key];
    keys.extend(body.key.map(Arc::from));
    // A key that is taken back takes with it what it has signed, this pass among it.
    if !keys.contains(&key) {
        keys.push(key);
    }
    Ok(Identity {
        subject,
        claims: body.claims,
        issued,
        expires: until,
        way: Way::Ticket,
        ticket: Some(body.jti.into()),
        keys,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use secrecy::ExposeSecret as _;

    use super::super::mint;
    use super::*;
    use crate::identity::{Claims, Subject};

    const SECOND: Duration = Duration::from_secs(1);
    const NET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const RULES: Rules = Rules { leeway: SECOND };
    const THERE: Presented<'static> = Presented { route: "events", origin: Some("https://app.example"), net: NET };

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn identity(subject: &str, expires: Option<SystemTime>) -> Identity {
        let subject = Subject::new(subject).unwrap();
        Identity {
            subject,
            claims: Claims::new(),
            issued: None,
            expires,
            way: Way::Cookie,
            ticket: None,
            keys: Vec::new(),
        }
    }

    fn minting<'a>(identity: &'a Identity, route: &'a str, lifetime: Duration) -> Minting<'a> {
        Minting { identity, route, origin: THERE.origin, net: None, lifetime }
    }

    /// A ticket for `subject`, and a pass for whoever was let in with it.
    fn both(ring: &KeyRing, subject: &str, route: &str, expires: Option<SystemTime>) -> (String, String) {
        let caller = identity(subject, expires);
        let minted = mint(ring, &minting(&caller, route, 30 * SECOND), now(), &[7; 16]).unwrap();
        let let_in = Identity { way: Way::Ticket, ticket: Some(minted.id.clone()), ..caller };
        let pass = issue(ring, &minting(&let_in, route, 3600 * SECOND), now()).unwrap().unwrap();
        (minted.token.expose_secret().to_owned(), pass.token.expose_secret().to_owned())
    }

    fn back(
        ring: &KeyRing,
        ticket: &str,
        pass: &str,
        there: &Presented<'_>,
        after: Duration,
    ) -> Result<String, Refusal> {
        come_back(ring, &RULES, ticket, pass, there, now() + after).map(|identity| identity.subject.to_string())
    }

    #[test]
    fn a_spent_ticket_and_its_pass_let_in_again_until_the_pass_ends() {
        let ring = KeyRing::random(&[1; 32]);
        let (ticket, pass) = both(&ring, "ada", "events", None);
        assert_eq!(back(&ring, &ticket, &pass, &THERE, 600 * SECOND).unwrap(), "ada");
        assert_eq!(back(&ring, &ticket, &pass, &THERE, 3602 * SECOND), Err(Refusal::Expired));
        let (ticket, pass) = both(&ring, "ada", "events", Some(now() + 60 * SECOND));
        assert!(back(&ring, &ticket, &pass, &THERE, 59 * SECOND).is_ok());
        assert_eq!(back(&ring, &ticket, &pass, &THERE, 62 * SECOND), Err(Refusal::Expired), "with the identity");
    }

    #[test]
    fn neither_is_worth_anything_alone_and_one_is_not_the_other() {
        let ring = KeyRing::random(&[1; 32]);
        let (ticket, pass) = both(&ring, "ada", "events", None);
        for (ticket, pass) in [(&ticket, &ticket), (&pass, &pass), (&pass, &ticket), (&ticket, &String::new())] {
            assert_eq!(back(&ring, ticket, pass, &THERE, SECOND), Err(Refusal::Malformed));
        }
        let redeemed = super::super::redeem(&ring, &RULES, &pass, &THERE, now());
        assert_eq!(redeemed.map(|_| ()), Err(Refusal::Malformed), "a pass is no ticket");
    }

    #[test]
    fn another_subject_route_origin_or_key_is_refused() {
        let ring = KeyRing::random(&[1; 32]);
        let (ticket, pass) = both(&ring, "ada", "events", None);
        let (eves, _) = both(&ring, "eve", "events", None);
        assert!(matches!(back(&ring, &eves, &pass, &THERE, SECOND), Err(Refusal::Invalid(_))));
        let elsewhere = Presented { route: "other", ..THERE };
        assert_eq!(back(&ring, &ticket, &pass, &elsewhere, SECOND), Err(Refusal::WrongRoute));
        let stranger = Presented { origin: Some("https://evil.example"), ..THERE };
        assert_eq!(back(&ring, &ticket, &pass, &stranger, SECOND), Err(Refusal::WrongOrigin));
        let other = KeyRing::random(&[2; 32]);
        assert!(matches!(back(&other, &ticket, &pass, &THERE, SECOND), Err(Refusal::Invalid(_))));
        let (_, forged) = both(&other, "ada", "events", None);
        assert!(matches!(back(&ring, &ticket, &forged, &THERE, SECOND), Err(Refusal::Invalid(_))));
    }

    #[test]
    fn only_who_came_by_ticket_gets_a_pass_and_it_keeps_the_id_of_the_ticket() {
        let ring = KeyRing::random(&[1; 32]);
        let by_cookie = identity("ada", None);
        assert!(issue(&ring, &minting(&by_cookie, "events", SECOND), now()).unwrap().is_none());
        let (ticket, pass) = both(&ring, "ada", "events", None);
        let again = come_back(&ring, &RULES, &ticket, &pass, &THERE, now()).unwrap();
        let id = super::super::redeem(&ring, &RULES, &ticket, &THERE, now()).unwrap().identity.ticket;
        assert_eq!((again.way, again.ticket), (Way::Ticket, id), "so that taking the ticket back ends both");
    }
}
