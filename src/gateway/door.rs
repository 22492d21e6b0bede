//! The door, put together: what proves clients, where spent tickets are remembered, and who was sent away.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::access::bearer::Bearer;
use crate::access::caller::PrefixLengths;
use crate::access::cookie::Cookie;
use crate::access::mtls::Mtls;
use crate::access::rates::{MOST_COUNTED, Rates};
use crate::access::redis::{Redis, Unusable};
use crate::access::revoked::{self, Revoker};
use crate::access::spent::Spent;
use crate::access::ticket::{self, Store, Tickets};
use crate::access::{self, Counter, Done, Door};
use crate::bridge::registry::Registry;
use crate::identity::{Revocation, Way};
use crate::proxy::stream::Streams;
use crate::upstream::Upstream;

/// What the configuration says about it.
pub(super) struct Plans {
    pub(super) proofs: access::Settings,
    pub(super) ticket: Option<ticket::Settings>,
    pub(super) redis: Option<access::redis::Settings>,
    pub(super) revocation: revoked::Settings,
    pub(super) prefixes: PrefixLengths,
}

/// Builds the door. What it keeps going runs on `tasks` and ends with `stop`.
pub(super) fn build(
    plans: Plans,
    upstreams: &[Arc<Upstream>],
    registry: &Arc<Registry>,
    streams: &Arc<Streams>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Door, StartError> {
    let Plans { proofs, ticket, redis, revocation, prefixes } = plans;
    let callers = proofs.callers();
    let redis = redis.map(|redis| Redis::start(redis, tasks, stop.clone())).transpose()?;
    let bearer = proofs.bearer.map(|bearer| Bearer::new(bearer, tasks, stop)).transpose().map_err(StartError::Keys)?;
    let cookie = proofs.cookie.and_then(|cookie| {
        // The configuration names one that there is.
        let upstream = upstreams.iter().find(|upstream| **upstream.name() == *cookie.upstream)?.clone();
        Some(Cookie::new(cookie, upstream, prefixes))
    });
    let tickets = ticket.map(|ticket| counter(&ticket, callers, redis.clone())).transpose()?;
    let (live, open) = (registry.clone(), streams.clone());
    let end = move |revocation: &Revocation| live.revoke(revocation) + open.revoke(revocation);
    let revoker = Arc::new(Revoker::new(revocation, redis.clone(), end));
    let asked = Arc::downgrade(&revoker);
    streams.ask(move |holder| asked.upgrade().is_some_and(|revoker| revoker.ends(holder)));
    revoker.follow(tasks, stop.clone());
    Ok(Door { bearer, cookie, mtls: proofs.mtls.map(Mtls::new), tickets, revoker, redis, prefixes })
}

fn counter(settings: &ticket::Settings, callers: Vec<Way>, redis: Option<Arc<Redis>>) -> Result<Counter, StartError> {
    let now = Instant::now();
    let rates = |per_minute| Rates::new(per_minute, MOST_COUNTED, now);
    let spent = match (settings.store, redis) {
        (Store::Redis, Some(redis)) => Spent::in_redis(redis),
        // The configuration refuses it. Never in memory instead: each gateway would let a ticket in once.
        (Store::Redis, None) => {
            return Err(Unusable::Failed("there is none for the store of tickets".to_owned()).into());
        }
        (Store::Memory, _) => Spent::in_memory(settings.max_spent),
    };
    Ok(Counter {
        tickets: Tickets::new(settings)?,
        spent,
        issue_to: settings.issue_to.clone().unwrap_or(callers),
        param: settings.param.clone(),
        identities: rates(settings.per_identity),
        addresses: rates(settings.per_address),
        done: Done::default(),
    })
}
