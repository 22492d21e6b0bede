//! How many connections may be open: of a route, and on it of one identity and from one address.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::StatusCode;

use super::caller::PrefixLengths;
use super::lock;
use crate::identity::Subject;
use crate::protocol::problem::Problem;

/// When to try again: time enough for a connection to end, and for a page that was reloaded to be noticed as gone.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// So many locks share the clients of a route that two threads rarely want the same one.
const SHARDS: usize = 16;

/// How many connections one route lets be open at once; `None` is any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// Altogether.
    pub connections: Option<NonZeroU32>,
    /// Of one identity.
    pub per_identity: Option<NonZeroU32>,
    /// From one address, as far as addresses are told apart.
    pub per_address: Option<NonZeroU32>,
}

/// Who is too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The route has all the connections that it lets in.
    Route,
    /// The identity has.
    Identity,
    /// The address has.
    Address,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let problem = match refused {
            Refused::Route => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-connections-route",
                "this route has as many connections as it lets in",
            ),
            Refused::Identity => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-connections-identity",
                "you have as many connections here as one client may have",
            ),
            Refused::Address => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-connections-address",
                "there are as many connections from your address as there may be",
            ),
        };
        problem.with_retry_after(TRY_AGAIN)
    }
}

/// The live connections of all routes: how many there are, and whose as far as that is limited.
#[derive(Debug)]
pub struct Limits {
    routes: Vec<Route>,
    prefixes: PrefixLengths,
}

#[derive(Debug)]
struct Route {
    name: Arc<str>,
    limits: RouteLimits,
    live: Arc<Live>,
}

/// The live connections of one route.
#[derive(Debug, Default)]
struct Live {
    connections: AtomicU32,
    identities: Keyed,
    addresses: Keyed,
}

impl Limits {
    /// Limits for routes, which are given with their names, in their order. `prefixes` says how much of an address stands for
    /// one client.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = (Arc<str>, RouteLimits)>, prefixes: PrefixLengths) -> Self {
        let route = |(name, limits)| Route { name, limits, live: Arc::default() };
        Self { routes: routes.into_iter().map(route).collect(), prefixes }
    }

    /// The same limits, under which the connections count that are open on routes of the same names. Where identities or
    /// addresses were not limited before, those count that come from now on.
    #[must_use]
    pub fn succeeding(mut self, before: &Self) -> Self {
        let live: HashMap<_, _> = before.routes.iter().map(|route| (&route.name, &route.live)).collect();
        for route in &mut self.routes {
            if let Some(live) = live.get(&route.name) {
                route.live = Arc::clone(live);
            }
        }
        self
    }

    /// The address as far as addresses are told apart: all that counts as one client has the same.
    #[must_use]
    pub fn network(&self, address: IpAddr) -> IpAddr {
        self.prefixes.of(address)
    }

    /// A place on a route, which is named by its number in that order. Only a known `subject` is counted.
    ///
    /// # Errors
    ///
    /// [`Refused`], when there is none left.
    pub fn admit(&self, route: usize, subject: Option<&Subject>, address: IpAddr) -> Result<Place, Refused> {
        let Some(Route { limits, live, .. }) = self.routes.get(route) else { return Ok(Place::default()) };
        // Whoever is refused for itself must not have taken what others could have had meanwhile: the route comes last.
        let mut place = Place { live: Some(live.clone()), ..Place::default() };
        if let (Some(most), Some(subject)) = (limits.per_identity, subject) {
            place.identity = Some(live.identities.enter(subject, most).ok_or(Refused::Identity)?);
        }
        if let Some(most) = limits.per_address {
            place.address = Some(live.addresses.enter(&self.prefixes.of(address), most).ok_or(Refused::Address)?);
        }
        let most = limits.connections.map_or(u32::MAX, NonZeroU32::get);
        let one_more = |open: u32| (open < most).then_some(open + 1);
        live.connections.try_update(Relaxed, Relaxed, one_more).map_err(|_| Refused::Route)?;
        // Counted where there is no limit too: one may come by a reload.
        place.counted = true;
        Ok(place)
    }
}

/// The place of one connection: dropped, it is free again.
///
/// 32 bytes in each connection, whether or not its route has limits.
#[derive(Debug, Default)]
#[must_use = "a place that is dropped is free again"]
pub struct Place {
    /// `None` for a route that is not there.
    live: Option<Arc<Live>>,
    identity: Option<Key>,
    address: Option<Key>,
    /// Whether it is one of those that the route has altogether.
    counted: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(live) = &self.live else { return };
        if self.counted {
            live.connections.fetch_sub(1, Relaxed);
        }
        self.identity.into_iter().for_each(|key| live.identities.leave(key));
        self.address.into_iter().for_each(|key| live.addresses.leave(key));
    }
}

/// What stands for a client: 64 bits of a hash whose secret is drawn at the start. Eight bytes, however long a name is. That
/// two of a million clients have the same, and share their limit, has a chance of one in 30 million, and nobody can bring it
/// about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(NonZeroU64);

/// How many connections each client has. A client without any takes no room.
#[derive(Debug, Default)]
struct Keyed {
    secret: RandomState,
    shards: [Mutex<HashMap<Key, NonZeroU32>>; SHARDS],
}

impl Keyed {
    /// Counts one more, unless there are `most`.
    fn enter(&self, client: &impl Hash, most: NonZeroU32) -> Option<Key> {
        let key = Key(NonZeroU64::new(self.secret.hash_one(client)).unwrap_or(NonZeroU64::MIN));
        match self.shard(key)?.entry(key) {
            Entry::Vacant(place) => drop(place.insert(NonZeroU32::MIN)),
            Entry::Occupied(place) if *place.get() >= most => return None,
            Entry::Occupied(mut place) => drop(place.insert(place.get().saturating_add(1))),
        }
        Some(key)
    }

    /// Counts one less.
    fn leave(&self, key: Key) {
        let Some(mut shard) = self.shard(key) else { return };
        let Entry::Occupied(mut place) = shard.entry(key) else { return };
        match NonZeroU32::new(place.get().get() - 1) {
            Some(left) => drop(place.insert(left)),
            None => drop(place.remove()),
        }
        // What a crowd has taken is given back, in steps so large that each connection pays next to nothing for it.
        if shard.capacity() > 64 && shard.len() < shard.capacity() / 8 {
            let wanted = shard.len() * 2;
            shard.shrink_to(wanted);
        }
    }

    fn shard(&self, Key(key): Key) -> Option<MutexGuard<'_, HashMap<Key, NonZeroU32>>> {
        let shard = self.shards.get(usize::try_from(key.get() % SHARDS as u64).ok()?)?;
        // A thread that panicked here has left a count that is one off at worst.
        Some(lock(shard))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}
