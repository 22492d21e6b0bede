//! The door, put together: what proves clients, where spent tickets are remembered, and who was sent away. Behind a reload it
//! knows all that the one before knew and that still holds.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::StartError;
use super::lasting::Lasting;
use crate::access::bearer::Bearer;
use crate::access::caller::PrefixLengths;
use crate::access::cookie::Cookie;
use crate::access::mtls::Mtls;
use crate::access::rates::Rates;
use crate::access::redis::{Redis, Unusable};
use crate::access::revoked::Revoker;
use crate::access::spent::Spent;
use crate::access::ticket::{self, Store, Tickets};
use crate::access::{self, Counter, Door};
use crate::config::Config;
use crate::identity::{Revocation, Way};
use crate::upstream::Upstream;

/// A door, and what the next one has to know of it.
pub(super) struct Built {
    pub(super) door: Arc<Door>,
    ticket: Option<ticket::Settings>,
    redis: Option<Arc<KeptRedis>>,
}

/// A connection to Redis, which ends with the last door that uses it.
struct KeptRedis {
    settings: access::redis::Settings,
    redis: Arc<Redis>,
    _life: DropGuard,
}

/// Builds the door. What it keeps going runs on the tracker for upstreams and ends with the door, or with the gateway. The one
/// `before` is not changed.
pub(super) fn build(
    config: &Config,
    upstreams: &[Arc<Upstream>],
    lasting: &Lasting,
    before: Option<&Built>,
) -> Result<Built, StartError> {
    let (proofs, prefixes) = (config.auth.clone(), config.server.prefixes);
    let callers = proofs.callers();
    let (tasks, stop) = (&lasting.upstream, &lasting.disconnect);
    let kept = config.redis.as_ref().map(|redis| connection(redis, before, tasks, stop)).transpose()?;
    let redis = kept.as_ref().map(|kept| kept.redis.clone());
    let earlier = before.and_then(|before| before.door.bearer.as_ref());
    let bearer = proofs.bearer.map(|bearer| Bearer::succeeding(earlier, bearer, tasks, stop));
    let bearer = bearer.transpose().map_err(StartError::Keys)?;
    let earlier = before.and_then(|before| before.door.cookie.as_ref());
    let cookie = proofs.cookie.and_then(|settings| {
        // The configuration names one that there is.
        let upstream = upstreams.iter().find(|upstream| **upstream.name() == *settings.upstream)?;
        Some(cookie(earlier, settings, upstream, prefixes))
    });
    let tickets = match &config.ticket {
        Some(ticket) => Some(counter(ticket, callers, kept.as_deref(), before)?),
        None => None,
    };
    let revoker = match before {
        Some(before) => before.door.revoker.clone(),
        None => revoker(config, redis.clone(), lasting),
    };
    let mtls = proofs.mtls.map(Mtls::new);
    let door = Arc::new(Door { bearer, cookie, mtls, tickets, revoker, redis, prefixes });
    Ok(Built { door, ticket: config.ticket.clone(), redis: kept })
}

impl Built {
    /// Lets what outlives every reload go on by this configuration.
    pub(super) fn take_over(&self, config: &Config) {
        self.door.revoker.reconfigure(config.revocation, self.door.redis.clone());
        if let (Some(counter), Some(ticket)) = (&self.door.tickets, &self.ticket) {
            counter.spent.set_max(ticket.max_spent);
        }
    }
}

/// The connection that there is, if it is to the same Redis in the same way.
fn connection(
    settings: &access::redis::Settings,
    before: Option<&Built>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<KeptRedis>, StartError> {
    if let Some(kept) = before.and_then(|before| before.redis.as_ref())
        && kept.settings == *settings
    {
        return Ok(kept.clone());
    }
    let stop = stop.child_token();
    let redis = Redis::start(settings.clone(), tasks, stop.clone())?;
    Ok(Arc::new(KeptRedis { settings: settings.clone(), redis, _life: stop.drop_guard() }))
}

fn cookie(
    before: Option<&Arc<Cookie>>,
    settings: access::cookie::Settings,
    upstream: &Arc<Upstream>,
    prefixes: PrefixLengths,
) -> Arc<Cookie> {
    let same = before.filter(|before| before.asks(&settings, upstream, prefixes));
    let new = || Cookie::succeeding(before.map(Arc::as_ref), settings, upstream.clone(), prefixes);
    same.cloned().unwrap_or_else(|| Arc::new(new()))
}

fn revoker(config: &Config, redis: Option<Arc<Redis>>, lasting: &Lasting) -> Arc<Revoker> {
    let (live, streams) = (lasting.registry.clone(), lasting.streams.clone());
    let end = move |revocation: &Revocation| live.revoke(revocation) + streams.revoke(revocation);
    let revoker = Arc::new(Revoker::new(config.revocation, redis, end));
    let asked = Arc::downgrade(&revoker);
    lasting.streams.ask(move |holder| asked.upgrade().is_some_and(|revoker| revoker.ends(holder)));
    revoker.follow(&lasting.upstream, lasting.disconnect.clone());
    revoker
}

fn counter(
    settings: &ticket::Settings,
    callers: Vec<Way>,
    redis: Option<&KeptRedis>,
    before: Option<&Built>,
) -> Result<Counter, StartError> {
    let now = Instant::now();
    let earlier = before.and_then(|before| before.door.tickets.as_ref());
    let rates =
        |per_minute, before: fn(&Counter) -> &Arc<Rates>| Rates::succeeding(earlier.map(before), per_minute, now);
    Ok(Counter {
        tickets: Tickets::succeeding(earlier.map(|earlier| &earlier.tickets), settings)?,
        spent: spent(settings, redis, before)?,
        issue_to: settings.issue_to.clone().unwrap_or(callers),
        param: settings.param.clone(),
        identities: rates(settings.per_identity, |counter| &counter.identities),
        addresses: rates(settings.per_address, |counter| &counter.addresses),
        done: earlier.map(|earlier| earlier.done.clone()).unwrap_or_default(),
    })
}

/// Where spent tickets are remembered. A store that takes the place of another one does not know what that one knew.
fn spent(settings: &ticket::Settings, redis: Option<&KeptRedis>, before: Option<&Built>) -> Result<Spent, StartError> {
    let earlier = before.and_then(|before| Some((before, before.ticket.as_ref()?, before.door.tickets.as_ref()?)));
    let (spent, is_same) = match (settings.store, redis) {
        (Store::Memory, _) => {
            let same = earlier.and_then(|(.., counter)| counter.spent.shared());
            let is_same = same.is_some();
            (same.unwrap_or_else(|| Spent::in_memory(settings.max_spent)), is_same)
        }
        (Store::Redis, Some(kept)) => {
            let is_same = earlier.is_some_and(|(before, ticket, _)| {
                let place = before.redis.as_ref().is_some_and(|earlier| earlier.settings.is_same_place(&kept.settings));
                ticket.store == Store::Redis && place
            });
            (Spent::in_redis(kept.redis.clone()), is_same)
        }
        // The configuration refuses it. Never in memory instead: each gateway would let a ticket in once.
        (Store::Redis, None) => {
            return Err(Unusable::Failed("there is none for the store of tickets".to_owned()).into());
        }
    };
    if before.is_none() {
        return Ok(spent);
    }
    let of = |settings: &ticket::Settings| settings.lifetime + settings.leeway;
    let holds: Duration = earlier.map_or_else(Duration::default, |(_, ticket, _)| of(ticket)).max(of(settings));
    let unknown = if is_same { None } else { SystemTime::now().checked_add(holds) };
    let known = earlier.and_then(|(.., counter)| counter.spent.unknown_until());
    Ok(spent.knowing_nothing_until(known.max(unknown)))
}
