//! Believing a ticket.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Number, Value};

use super::form::{Body, Form, TYPE, is_id};
use super::{Distrust, KeyRing, MAX_LIFETIME, Refusal};
use crate::identity::verify::{self, BadTime, check_times, numeric_date, verify};
use crate::identity::{Claims, Identity, Subject, Way};

/// What holds for all tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How far the clocks of gateways may differ.
    pub leeway: Duration,
}

/// What a ticket is presented with, and for.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The name of the route.
    pub route: &'a str,
    /// The web origin of the request, `scheme://host[:port]` in lower case.
    pub origin: Option<&'a str>,
    /// The address of the client, cut to the prefix that stands for one client.
    pub net: IpAddr,
}

/// A good ticket, if it was not used before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeemed {
    /// Whom it speaks for, until the identity itself ends; its `ticket` is the id, by which a store knows whether it was used.
    pub identity: Identity,
    /// Until when its use has to be remembered: from then on it is refused anyway, also by clocks that are behind.
    pub spent_until: SystemTime,
}

/// Checks a ticket at `now`: its length, form, signature and algorithm, then its times, route, origin and address, in
/// that order, and gives what it says.
///
/// A ticket without an origin is for any that the route lets in: it was issued to somebody who named none.
///
/// # Errors
///
/// The first [`Refusal`] that applies.
pub fn redeem(
    ring: &KeyRing,
    rules: &Rules,
    token: &str,
    presented: &Presented<'_>,
    now: SystemTime,
) -> Result<Redeemed, Refusal> {
    let opened = open(ring, token, TYPE)?;
    // A store should not have to remember one that holds for longer.
    let Valid { subject, until, issued, expires } = valid(&opened, rules, MAX_LIFETIME, presented, now)?;
    let Opened { body, key: name, .. } = opened;
    let identity = Identity {
        subject,
        claims: body.claims,
        issued,
        expires: until,
        way: Way::Ticket,
        ticket: Some(body.jti.into()),
        keys: std::iter::once(name).chain(body.key.map(Arc::from)).collect(),
    };
    // Once more: a gateway whose clock is behind by that much takes it for so much longer, by the clock of this one.
    let spent_until = later(later(expires, rules.leeway)?, rules.leeway)?;
    Ok(Redeemed { identity, spent_until })
}

/// A token that one of our keys has signed. What it says is not believed yet.
pub(super) struct Opened {
    pub(super) body: Body,
    /// The name of that key.
    pub(super) key: Arc<str>,
    pub(super) claims: Claims,
}

/// Checks length, form, signature and algorithm of a token whose `typ` is `kind`.
pub(super) fn open(ring: &KeyRing, token: &str, kind: &str) -> Result<Opened, Refusal> {
    let form = Form::read(token, kind)?;
    let (key, name) =
        ring.candidate(form.kid.as_deref(), form.algorithm).ok_or(Refusal::Invalid(Distrust::Algorithm))?;
    let signed = verify(token, &[key]);
    let name = name.ok_or(Refusal::Invalid(Distrust::Key))?;
    let claims = match signed {
        Ok(signed) => signed.claims,
        Err(verify::Refusal::Malformed) => return Err(Refusal::Malformed),
        Err(_) => return Err(Refusal::Invalid(Distrust::Signature)),
    };
    Ok(Opened { body: form.body()?, key: name, claims })
}

/// The claims that have a form of their own.
pub(super) struct Plain {
    subject: Subject,
    /// When the identity ends.
    until: Option<SystemTime>,
    /// When it was proven.
    proven: Option<SystemTime>,
}

/// Reads them. Looks at the id too, which a store keeps.
pub(super) fn plain(body: &Body) -> Result<Plain, Refusal> {
    if !is_id(&body.jti) {
        return Err(Refusal::Malformed);
    }
    let subject = Subject::new(&body.sub).map_err(|_| Refusal::Malformed)?;
    let is_way = |label: &String| Way::ALL.iter().any(|way| way.label() == label);
    if !body.via.as_ref().is_none_or(is_way) {
        return Err(Refusal::Malformed);
    }
    let date = |number: &Number| numeric_date(&Value::Number(number.clone())).ok_or(Refusal::Malformed);
    let date = |number: &Option<Number>| number.as_ref().map(date).transpose();
    Ok(Plain { subject, until: date(&body.until)?, proven: date(&body.auth_time)? })
}

/// What a token says that holds.
pub(super) struct Valid {
    pub(super) subject: Subject,
    /// When the identity ends.
    pub(super) until: Option<SystemTime>,
    /// When it was proven, or the token made, whichever was first.
    pub(super) issued: Option<SystemTime>,
    /// When the token ends.
    pub(super) expires: SystemTime,
}

/// Checks at `now` what a token says: its form, its times, where it belongs. None is made that holds for longer than `most`.
pub(super) fn valid(
    opened: &Opened,
    rules: &Rules,
    most: Duration,
    presented: &Presented<'_>,
    now: SystemTime,
) -> Result<Valid, Refusal> {
    let Plain { subject, until, proven } = plain(&opened.body)?;
    let times = check_times(&opened.claims, now, rules.leeway).map_err(|bad| match bad {
        BadTime::Expired => Refusal::Expired,
        BadTime::NotYetValid => Refusal::NotYetValid,
        BadTime::Malformed => Refusal::Malformed,
    })?;
    if times.expires > later(later(now, rules.leeway)?, most + Duration::from_secs(1))? {
        return Err(Refusal::Malformed);
    }
    if until.map(|until| later(until, rules.leeway)).transpose()?.is_some_and(|end| end <= now) {
        return Err(Refusal::Expired);
    }
    check_bonds(&opened.body, presented)?;
    let issued = times.issued.into_iter().chain(proven).min();
    Ok(Valid { subject, until, issued, expires: times.expires })
}

fn later(time: SystemTime, by: Duration) -> Result<SystemTime, Refusal> {
    time.checked_add(by).ok_or(Refusal::Malformed)
}

pub(super) fn check_bonds(body: &Body, presented: &Presented<'_>) -> Result<(), Refusal> {
    if body.aud != presented.route {
        return Err(Refusal::WrongRoute);
    }
    if body.origin.is_some() && body.origin.as_deref() != presented.origin {
        return Err(Refusal::WrongOrigin);
    }
    if body.net.is_some_and(|net| net.to_canonical() != presented.net.to_canonical()) {
        return Err(Refusal::WrongAddress);
    }
    Ok(())
}
