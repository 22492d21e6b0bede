//! Tickets with a clock and with chance: issuing and redeeming them by what the configuration says.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::{SecureRandom, aws_lc_rs};

use crate::identity::key::SignKey;
use crate::identity::ticket::pass::{self, Pass};
use crate::identity::ticket::{
    self, ID_BYTES, KeyRing, MintError, Minted, Minting, Presented, Redeemed, Refusal, Rules,
};
use crate::identity::{Identity, Way};

/// What holds for tickets; they are issued and redeemed only where there is such a section.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The first signs, all verify. None at all is a random one, which no other gateway has and which ends with this one.
    pub keys: Vec<SignKey>,
    /// How long a ticket may wait to be used; 1 s to 10 min.
    pub lifetime: Duration,
    /// How far the clocks of gateways may differ; up to 1 min.
    pub leeway: Duration,
    /// How a caller may prove who it is, tried in this order; `None` is every way that is configured.
    pub issue_to: Option<Vec<Way>>,
    /// Whether a ticket is for the web origin alone that it was issued to.
    pub bind_origin: bool,
    /// Whether a ticket is for the address alone that it was issued to, or those that count as the same client.
    pub bind_address: bool,
    /// The query parameter that a ticket comes in.
    pub param: Arc<str>,
    /// Where it is remembered which tickets were used.
    pub store: Store,
    /// Most used tickets that are remembered in memory.
    pub max_spent: usize,
    /// Most tickets that one identity gets in a minute.
    pub per_identity: NonZeroU32,
    /// Most tickets that one address gets in a minute, or those that count as the same client.
    pub per_address: NonZeroU32,
    /// How long whoever opened an event stream by ticket may come back with the same one; zero: not at all.
    pub pass: Duration,
}

/// Where it is remembered which tickets were used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Here: for one gateway.
    Memory,
    /// In Redis, for several gateways with the same keys.
    Redis,
}

/// The system gives no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// Why no ticket is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// What the ticket was to say.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// Its id cannot be made.
    #[error(transparent)]
    Random(#[from] NoRandomness),
}

/// Whoever is issued a ticket, beyond its identity.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// The name of the route that the ticket is to open.
    pub route: &'a str,
    /// The web origin of the request, `scheme://host[:port]` in lower case.
    pub origin: Option<&'a str>,
    /// The address of the client, cut to the prefix that stands for one client.
    pub net: IpAddr,
}

/// Issues and redeems tickets. That one is used once is not seen here: what is redeemed has yet to be spent.
#[derive(Debug)]
pub struct Tickets {
    ring: Arc<KeyRing>,
    /// Whether its key was made here, and ends with the process.
    random_key: bool,
    rules: Rules,
    lifetime: Duration,
    bind_origin: bool,
    bind_address: bool,
    pass: Duration,
    random: &'static dyn SecureRandom,
}

impl Tickets {
    /// Tickets by these settings.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`], if a key has to be made and cannot be.
    pub fn new(settings: &Settings) -> Result<Self, NoRandomness> {
        Self::succeeding(None, settings)
    }

    /// Tickets by these settings, that take what those `before` have given out as long as its key is not taken away.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`], if a key has to be made and cannot be.
    pub fn succeeding(before: Option<&Self>, settings: &Settings) -> Result<Self, NoRandomness> {
        let random = aws_lc_rs::default_provider().secure_random;
        let ring = match (settings.keys.split_first(), before.filter(|before| before.random_key)) {
            (Some((signer, others)), _) => Arc::new(KeyRing::new(signer.clone(), others.to_vec())),
            (None, Some(before)) => before.ring.clone(),
            (None, None) => Arc::new(KeyRing::random(&bytes(random)?)),
        };
        Ok(Self {
            ring,
            random_key: settings.keys.is_empty(),
            rules: Rules { leeway: settings.leeway },
            lifetime: settings.lifetime,
            bind_origin: settings.bind_origin,
            bind_address: settings.bind_address,
            pass: settings.pass,
            random,
        })
    }

    /// Issues a ticket, now, bound as the settings say.
    ///
    /// # Errors
    ///
    /// [`IssueError`].
    pub fn issue(&self, identity: &Identity, to: &Recipient<'_>) -> Result<Minted, IssueError> {
        let minting = Minting {
            identity,
            route: to.route,
            origin: to.origin.filter(|_| self.bind_origin),
            net: Some(to.net).filter(|_| self.bind_address),
            lifetime: self.lifetime,
        };
        self.mint(&minting)
    }

    /// Makes a ticket, now, of exactly this.
    ///
    /// # Errors
    ///
    /// [`IssueError`].
    pub fn mint(&self, minting: &Minting<'_>) -> Result<Minted, IssueError> {
        let id = bytes::<ID_BYTES>(self.random)?;
        Ok(ticket::mint(&self.ring, minting, SystemTime::now(), &id)?)
    }

    /// Makes a return pass, now, for whoever has just been let in by ticket; `None` for anybody else, and where there are none.
    ///
    /// # Errors
    ///
    /// [`MintError`].
    pub fn pass(&self, identity: &Identity, to: &Recipient<'_>) -> Result<Option<Pass>, MintError> {
        if self.pass.is_zero() {
            return Ok(None);
        }
        let minting = Minting {
            identity,
            route: to.route,
            origin: to.origin.filter(|_| self.bind_origin),
            net: Some(to.net).filter(|_| self.bind_address),
            lifetime: self.pass,
        };
        pass::issue(&self.ring, &minting, SystemTime::now())
    }

    /// Checks a ticket that may be spent, and the pass beside it, now.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] that applies.
    pub fn come_back(&self, token: &str, pass: &str, presented: &Presented<'_>) -> Result<Identity, Refusal> {
        if self.pass.is_zero() {
            return Err(Refusal::Spent);
        }
        pass::come_back(&self.ring, &self.rules, token, pass, presented, SystemTime::now())
    }

    /// Checks a ticket, now. It may have been used before.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] that applies.
    pub fn redeem(&self, token: &str, presented: &Presented<'_>) -> Result<Redeemed, Refusal> {
        ticket::redeem(&self.ring, &self.rules, token, presented, SystemTime::now())
    }
}

fn bytes<const N: usize>(random: &dyn SecureRandom) -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            lifetime: Duration::from_secs(30),
            leeway: Duration::from_secs(5),
            issue_to: None,
            bind_origin: true,
            bind_address: false,
            param: "ticket".into(),
            store: Store::Memory,
            max_spent: 1_000_000,
            per_identity: const { NonZeroU32::new(60).unwrap() },
            per_address: const { NonZeroU32::new(600).unwrap() },
            // A working day: a page that is open for longer than its streams hold asks for a new ticket.
            pass: Duration::from_hours(12),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::identity::{Claims, Subject};

    const NET: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn ada() -> Identity {
        let subject = Subject::new("ada").unwrap();
        let way = Way::Cookie;
        Identity { subject, claims: Claims::new(), issued: None, expires: None, way, ticket: None, keys: Vec::new() }
    }

    #[test]
    fn a_ticket_is_redeemed_here_and_at_no_gateway_with_another_key() {
        let (here, there) = (Tickets::new(&Settings::default()).unwrap(), Tickets::new(&Settings::default()).unwrap());
        let to = Recipient { route: "chat", origin: Some("https://app.example"), net: NET };
        let (first, second) = (here.issue(&ada(), &to).unwrap(), here.issue(&ada(), &to).unwrap());
        assert_ne!(first.id, second.id);
        let presented = Presented { route: "chat", origin: Some("https://app.example"), net: NET };
        let redeemed = here.redeem(first.token.expose_secret(), &presented).unwrap();
        assert_eq!((redeemed.identity.subject.as_str(), redeemed.identity.way), ("ada", Way::Ticket));
        let refusal = there.redeem(first.token.expose_secret(), &presented).unwrap_err();
        assert_eq!(refusal.kind(), "ticket-invalid");
    }

    #[test]
    fn tickets_are_bound_as_the_settings_say() {
        let outcomes = |bind_origin, bind_address| {
            let tickets = Tickets::new(&Settings { bind_origin, bind_address, ..Settings::default() }).unwrap();
            let to = Recipient { route: "chat", origin: Some("https://app.example"), net: NET };
            let minted = tickets.issue(&ada(), &to).unwrap();
            let kind = |origin, net| {
                let presented = Presented { route: "chat", origin: Some(origin), net };
                tickets.redeem(minted.token.expose_secret(), &presented).map_or_else(Refusal::kind, |_| "let in")
            };
            [kind("https://evil.example", NET), kind("https://app.example", IpAddr::from([192, 0, 2, 1]))]
        };
        assert_eq!(outcomes(true, false), ["ticket-wrong-origin", "let in"]);
        assert_eq!(outcomes(false, true), ["let in", "ticket-wrong-address"]);
    }
}
