//! Who is let in: every proof in one place, in the order in which it costs something.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use http::header::{self, HeaderValue};
use secrecy::SecretString;

use super::bearer::{self, Bearer};
use super::caller::{Caller, PrefixLengths};
use super::cookie::Cookie;
use super::mtls::Mtls;
use super::rates::{Rates, too_many_tickets};
use super::redis::Redis;
use super::revoked::Revoker;
use super::spent::{NotSpent, Spent};
use super::ticket::{IssueError, Recipient, Tickets};
use crate::identity::ticket::{MintError, Presented, Refusal};
use crate::identity::{Identity, Way};
use crate::protocol::problem::Problem;

/// Everything that proves somebody, and what was said against it.
#[derive(Debug)]
pub struct Door {
    /// Tokens of those whom the configuration trusts.
    pub bearer: Option<Bearer>,
    /// The application, which knows its cookies.
    pub cookie: Option<Arc<Cookie>>,
    /// Client certificates.
    pub mtls: Option<Mtls>,
    /// Our own tickets.
    pub tickets: Option<Counter>,
    /// Who was sent away.
    pub revoker: Arc<Revoker>,
    /// What several gateways share.
    pub redis: Option<Arc<Redis>>,
    /// How much of an address stands for one client.
    pub prefixes: PrefixLengths,
}

/// Where tickets are given out and taken.
#[derive(Debug)]
pub struct Counter {
    /// Makes and checks them.
    pub tickets: Tickets,
    /// Remembers which were used.
    pub spent: Spent,
    /// How callers prove who they are, tried in this order.
    pub issue_to: Vec<Way>,
    /// Name of the query parameter that tickets come in.
    pub param: Arc<str>,
    /// How many an identity gets.
    pub identities: Arc<Rates>,
    /// How many an address gets.
    pub addresses: Arc<Rates>,
    /// What it has done so far.
    pub done: Arc<Done>,
}

/// What a counter has done so far.
#[derive(Debug, Default)]
pub struct Done {
    /// Tickets that were given out, in the order of [`Way::ALL`], by how the caller had proven itself.
    issued: [AtomicU64; Way::ALL.len()],
    redeemed: AtomicU64,
}

/// How the door stands, for operators.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Tickets that were given out, by how the caller had proven itself.
    pub issued: Vec<(Way, u64)>,
    /// Tickets that were used up.
    pub redeemed: u64,
    /// Used tickets that are remembered in memory.
    pub remembered: usize,
    /// The keys of bearer tokens, if there are any.
    pub bearer: Option<bearer::Snapshot>,
}

/// A ticket, and whom it was given to.
#[derive(Debug)]
pub struct Issued {
    /// Its text.
    pub token: SecretString,
    /// Its id.
    pub ticket: Arc<str>,
    /// How long it holds.
    pub lifetime: Duration,
    /// Whom it speaks for, and how that was proven.
    pub identity: Identity,
}

/// A client that has proven who it is. If it was by ticket, that is not spent yet.
#[derive(Debug)]
pub struct Proven {
    /// Whom it speaks for.
    pub identity: Identity,
    /// Until when the use of its ticket has to be remembered.
    spend: Option<SystemTime>,
}

impl Door {
    /// A door at which nobody can prove anything.
    #[cfg(test)]
    pub(crate) fn without_proofs() -> Self {
        let revoker = Arc::new(Revoker::new(super::revoked::Settings::default(), None, |_| 0));
        let prefixes = PrefixLengths::default();
        Self { bearer: None, cookie: None, mtls: None, tickets: None, revoker, redis: None, prefixes }
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let counter = self.tickets.as_ref();
        let issued = |counter: &Counter| {
            let issued =
                Way::ALL.into_iter().zip(&counter.done.issued).filter(|(way, _)| counter.issue_to.contains(way));
            issued.map(|(way, count)| (way, count.load(Relaxed))).collect()
        };
        Snapshot {
            issued: counter.map(issued).unwrap_or_default(),
            redeemed: counter.map_or(0, |counter| counter.done.redeemed.load(Relaxed)),
            remembered: counter.map_or(0, |counter| counter.spent.remembered()),
            bearer: self.bearer.as_ref().map(Bearer::snapshot),
        }
    }

    /// Whether there are tickets at all.
    #[must_use]
    pub fn gives_tickets(&self) -> bool {
        self.tickets.is_some()
    }

    /// Name of the query parameter that tickets come in.
    #[must_use]
    pub fn ticket_param(&self) -> Option<&str> {
        self.tickets.as_ref().map(|counter| &*counter.param)
    }

    /// Proves a client in the first of these ways that it tries; `ticket` is the one that it brought. What it tries must
    /// hold: a bad token is not made good by a cookie.
    ///
    /// # Errors
    ///
    /// What the client is answered.
    pub async fn prove(
        &self,
        ways: &[Way],
        caller: &Caller<'_>,
        route: &str,
        ticket: Option<&str>,
    ) -> Result<Proven, Problem> {
        let began = SystemTime::now();
        for way in ways {
            let proven = match (way, ticket) {
                (Way::Ticket, None) => None,
                (Way::Ticket, Some(ticket)) => Some(self.redeem(ticket, caller, route)?),
                (way, _) => self.other(*way, caller).await?.map(|identity| Proven { identity, spend: None }),
            };
            let Some(mut proven) = proven else { continue };
            if self.revoker.refuses(&proven.identity) {
                return Err(match way {
                    Way::Ticket => Refusal::Revoked.into(),
                    _ => challenge(Problem::new(StatusCode::UNAUTHORIZED, "revoked", "this proof was revoked"), ways),
                });
            }
            // No proof was made later than it was shown here, whatever its clock says: what is taken back from then on
            // concerns it.
            proven.identity.issued = Some(proven.identity.issued.map_or(began, |issued| issued.min(began)));
            return Ok(proven);
        }
        Err(match ways {
            [Way::Ticket] => Refusal::Missing.into(),
            _ => {
                challenge(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "nothing proves who is asking"), ways)
            }
        })
    }

    fn redeem(&self, ticket: &str, caller: &Caller<'_>, route: &str) -> Result<Proven, Problem> {
        let counter = self.tickets.as_ref().ok_or(Refusal::Missing)?;
        let presented = Presented { route, origin: caller.origin, net: self.prefixes.of(caller.address) };
        let redeemed = counter.tickets.redeem(ticket, &presented)?;
        Ok(Proven { identity: redeemed.identity, spend: Some(redeemed.spent_until) })
    }

    /// Proves a client once more that an event stream was opened for by ticket, and that brings the same ticket again with a
    /// return pass: one of these, the first that is good. Nothing is left to be spent.
    ///
    /// # Errors
    ///
    /// What is wrong with the last of them; 401 where there is none.
    pub fn come_back<'a>(
        &self,
        caller: &Caller<'_>,
        route: &str,
        ticket: &str,
        passes: impl Iterator<Item = &'a str>,
    ) -> Result<Proven, Problem> {
        let began = SystemTime::now();
        let counter = self.tickets.as_ref().ok_or(Refusal::Missing)?;
        let presented = Presented { route, origin: caller.origin, net: self.prefixes.of(caller.address) };
        let mut refusal = Refusal::Spent;
        for pass in passes {
            match counter.tickets.come_back(ticket, pass, &presented) {
                Ok(mut identity) if !self.revoker.refuses(&identity) => {
                    identity.issued = Some(identity.issued.map_or(began, |issued| issued.min(began)));
                    return Ok(Proven { identity, spend: None });
                }
                Ok(_) => refusal = Refusal::Revoked,
                Err(why) => refusal = why,
            }
        }
        Err(refusal.into())
    }

    /// A return pass for a client that was let in by ticket, and how long it holds; `None` for any other, and where there are
    /// none.
    #[must_use]
    pub fn pass(&self, caller: &Caller<'_>, route: &str, identity: &Identity) -> Option<(SecretString, Duration)> {
        let net = self.prefixes.of(caller.address);
        let to = Recipient { route, origin: caller.origin, net };
        // One that cannot be made, because its identity ends or is too large, is none: its client has been let in all the same.
        let pass = self.tickets.as_ref()?.tickets.pass(identity, &to).ok()??;
        let lifetime = pass.expires.duration_since(SystemTime::now()).ok()?;
        Some((pass.token, lifetime))
    }

    async fn other(&self, way: Way, caller: &Caller<'_>) -> Result<Option<Identity>, Problem> {
        match way {
            Way::Ticket => Ok(None),
            Way::Bearer => match &self.bearer {
                Some(bearer) => bearer.prove(&caller.head.headers).await,
                None => Ok(None),
            },
            Way::Cookie => match &self.cookie {
                Some(cookie) => cookie.prove(caller).await,
                None => Ok(None),
            },
            Way::Mtls => self.mtls.as_ref().map_or(Ok(None), |mtls| mtls.prove(caller.certificate)),
        }
    }

    /// Uses up the ticket that a proof was made with: the last thing before upstream is asked.
    ///
    /// # Errors
    ///
    /// 401, if it was used before; 503, if that cannot be known.
    pub async fn spend(&self, proven: &Proven) -> Result<(), Problem> {
        let (Some(until), Some(id), Some(counter)) = (proven.spend, &proven.identity.ticket, &self.tickets) else {
            return Ok(());
        };
        counter.spent.spend(id, until).await.map_err(|error| match error {
            NotSpent::AlreadySpent => Problem::from(Refusal::Spent).with_log(format!("ticket {id}")),
            NotSpent::Full => store(format!("max_spent is reached, ticket {id}")),
            NotSpent::Unavailable(why) => store(why),
        })?;
        counter.done.redeemed.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Whether an address may ask for one more ticket.
    ///
    /// # Errors
    ///
    /// 429, if it has asked too often.
    pub fn check_rate(&self, address: IpAddr) -> Result<(), Problem> {
        let Some(counter) = &self.tickets else { return Ok(()) };
        let address = self.prefixes.of(address);
        counter.addresses.take(&address, Instant::now()).map_err(too_many_tickets)
    }

    /// Gives a caller a ticket for the route of this name.
    ///
    /// # Errors
    ///
    /// What the caller is answered.
    pub async fn issue(&self, caller: &Caller<'_>, route: &str) -> Result<Issued, Problem> {
        let counter = self.tickets.as_ref().ok_or(Refusal::Missing)?;
        let Proven { identity, .. } = self.prove(&counter.issue_to, caller, route, None).await?;
        counter.identities.take(&identity.subject, Instant::now()).map_err(too_many_tickets)?;
        let recipient = Recipient { route, origin: caller.origin, net: self.prefixes.of(caller.address) };
        let minted = counter.tickets.issue(&identity, &recipient).map_err(no_ticket)?;
        if let Some(issued) = Way::ALL.iter().position(|way| *way == identity.way) {
            counter.done.issued.get(issued).map(|issued| issued.fetch_add(1, Relaxed));
        }
        let lifetime = minted.expires.duration_since(SystemTime::now()).unwrap_or_default();
        Ok(Issued { token: minted.token, ticket: minted.id, lifetime, identity })
    }
}

fn no_ticket(error: IssueError) -> Problem {
    match error {
        IssueError::Mint(MintError::Ended) => {
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "what proves who is asking ends this second")
        }
        IssueError::Mint(MintError::TooLong { .. }) => {
            let detail = "the claims that go along are too much for a ticket";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "ticket-too-long", detail)
        }
        IssueError::Mint(MintError::Unsigned) | IssueError::Random(_) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "ticket-not-made", "no ticket could be made")
        }
    }
    .with_log(error.to_string())
}

fn store(why: String) -> Problem {
    Problem::from(Refusal::StoreUnavailable).with_log(why)
}

/// Says which proofs are taken (RFC 9110 section 11.6.1), as far as there is a scheme for them.
fn challenge(mut problem: Problem, ways: &[Way]) -> Problem {
    for way in ways {
        let scheme = match way {
            Way::Ticket => HeaderValue::from_static("Tidegate-Ticket"),
            Way::Bearer => HeaderValue::from_static("Bearer"),
            Way::Cookie | Way::Mtls => continue,
        };
        problem.headers.append(header::WWW_AUTHENTICATE, scheme);
    }
    problem
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::identity::bearer::Rules;
    use crate::identity::key::{Algorithm, VerifyKey};
    use crate::identity::{Holder, What};

    async fn prove(door: &Door, mut claims: Value) -> Result<Proven, Problem> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        claims["sub"] = json!("ada");
        claims["exp"] = json!(now + 60);
        if let Some(ahead) = claims["iat"].as_u64() {
            claims["iat"] = json!(now + ahead);
        }
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(&[7; 32])).unwrap();
        let request = http::Request::builder().header("authorization", format!("Bearer {token}"));
        let (head, ()) = request.body(()).unwrap().into_parts();
        let address = IpAddr::from([192, 0, 2, 1]);
        let caller = Caller { head: &head, host: "gw", address, tls: true, origin: None, certificate: None };
        door.prove(&[Way::Bearer], &caller, "/chat", None).await
    }

    #[tokio::test]
    async fn who_is_sent_away_goes_whatever_the_clock_of_its_token_says() {
        let key = VerifyKey::secret(None, Algorithm::HS256, &[7; 32]);
        let settings = bearer::Settings { keys: vec![key], jwks: None, rules: Rules::default() };
        let bearer = Bearer::new(settings, &TaskTracker::new(), &CancellationToken::new()).unwrap();
        let door = Door { bearer: Some(bearer), ..Door::without_proofs() };
        for claims in [json!({"iat": 3}), json!({})] {
            let proven = prove(&door, claims).await.unwrap();
            let what = What::read("subject", "ada").unwrap();
            let revocation = crate::identity::Revocation { what, at: SystemTime::now(), id: uuid::Uuid::nil() };
            let holder = Holder::of(&proven.identity, SystemTime::now());
            assert!(revocation.ends(uuid::Uuid::nil(), Some(&holder)));
        }
        door.revoker.revoke(What::read("subject", "ada").unwrap()).await.unwrap();
        assert_eq!(prove(&door, json!({})).await.unwrap_err().kind, "revoked", "it may be the same token again");
    }
}
