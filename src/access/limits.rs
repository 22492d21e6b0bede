//! How many connections may be open: of a route, and on it of one identity and from one address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};

use super::caller::PrefixLengths;
use crate::identity::Subject;
use crate::protocol::problem::Problem;

/// When to try again: time enough for a connection to end, and for a page that was reloaded to be noticed as gone.
const TRY_AGAIN: HeaderValue = HeaderValue::from_static("5");

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
        problem.with_header(RETRY_AFTER, TRY_AGAIN)
    }
}

/// The live connections of all routes, counted as far as they are limited.
#[derive(Debug)]
pub struct Limits {
    routes: Vec<Option<Arc<Live>>>,
    prefixes: PrefixLengths,
}

/// The live connections of one route.
#[derive(Debug)]
struct Live {
    limits: RouteLimits,
    connections: AtomicU32,
    identities: Keyed,
    addresses: Keyed,
}

impl Limits {
    /// Limits for routes, in their order. `prefixes` says how much of an address stands for one client.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = RouteLimits>, prefixes: PrefixLengths) -> Self {
        let live = |limits: RouteLimits| {
            let (connections, identities, addresses) = Default::default();
            (limits != RouteLimits::default()).then(|| Arc::new(Live { limits, connections, identities, addresses }))
        };
        Self { routes: routes.into_iter().map(live).collect(), prefixes }
    }

    /// A place on a route, which is named by its number in that order; a route that is not there has no limits. Only a known
    /// `subject` is counted.
    ///
    /// # Errors
    ///
    /// [`Refused`], when there is none left.
    pub fn admit(&self, route: usize, subject: Option<&Subject>, address: IpAddr) -> Result<Place, Refused> {
        let Some(live) = self.routes.get(route).and_then(Option::as_ref) else { return Ok(Place::default()) };
        // Whoever is refused for itself must not have taken what others could have had meanwhile: the route comes last.
        let mut place = Place { live: Some(live.clone()), ..Place::default() };
        if let (Some(most), Some(subject)) = (live.limits.per_identity, subject) {
            place.identity = Some(live.identities.enter(subject, most).ok_or(Refused::Identity)?);
        }
        if let Some(most) = live.limits.per_address {
            place.address = Some(live.addresses.enter(&self.prefixes.of(address), most).ok_or(Refused::Address)?);
        }
        if let Some(most) = live.limits.connections {
            let one_more = |open: u32| (open < most.get()).then_some(open + 1);
            live.connections.fetch_update(Relaxed, Relaxed, one_more).map_err(|_| Refused::Route)?;
            place.counted = true;
        }
        Ok(place)
    }
}

/// The place of one connection: dropped, it is free again.
///
/// 32 bytes in each connection, whether or not its route has limits.
#[derive(Debug, Default)]
#[must_use = "a place that is dropped is free again"]
pub struct Place {
    /// `None` where nothing is limited.
    live: Option<Arc<Live>>,
    identity: Option<Key>,
    address: Option<Key>,
    /// Whether it is one of those that the route lets in altogether.
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
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(connections: u32, per_identity: u32, per_address: u32) -> RouteLimits {
        let [connections, per_identity, per_address] = [connections, per_identity, per_address].map(NonZeroU32::new);
        RouteLimits { connections, per_identity, per_address }
    }

    fn one(limits: RouteLimits) -> Limits {
        Limits::new([limits], PrefixLengths::default())
    }

    fn subject(name: &str) -> Subject {
        Subject::new(name).unwrap()
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Nobody is counted any more.
    fn is_empty(limits: &Limits) -> bool {
        limits
            .routes
            .iter()
            .flatten()
            .all(|live| live.connections.load(Relaxed) == 0 && live.identities.len() == 0 && live.addresses.len() == 0)
    }

    #[test]
    fn a_route_lets_in_so_many_and_another_once_one_has_left() {
        let limits = one(limits(2, 0, 0));
        let first = limits.admit(0, None, address(1)).unwrap();
        let _second = limits.admit(0, None, address(2)).unwrap();
        assert_eq!(limits.admit(0, None, address(3)).unwrap_err(), Refused::Route);
        drop(first);
        let _third = limits.admit(0, None, address(3)).unwrap();
        assert_eq!(limits.admit(0, None, address(4)).unwrap_err(), Refused::Route);
    }

    #[test]
    fn one_identity_has_so_many_whatever_its_address_and_leaves_others_alone() {
        let limits = one(limits(0, 1, 0));
        let ada = limits.admit(0, Some(&subject("ada")), address(1)).unwrap();
        assert_eq!(limits.admit(0, Some(&subject("ada")), address(2)).unwrap_err(), Refused::Identity);
        let _bob = limits.admit(0, Some(&subject("bob")), address(1)).unwrap();
        let _nobody = [1, 2].map(|last| limits.admit(0, None, address(last)).unwrap());
        drop(ada);
        let _ada = limits.admit(0, Some(&subject("ada")), address(2)).unwrap();
    }

    #[test]
    fn addresses_with_one_prefix_are_one() {
        let limits = Limits::new([limits(0, 0, 2)], PrefixLengths { v4: 24, v6: 64 });
        let _places = [1, 2].map(|last| limits.admit(0, None, address(last)).unwrap());
        assert_eq!(limits.admit(0, None, address(3)).unwrap_err(), Refused::Address);
        let mapped = "::ffff:192.0.2.9".parse().unwrap();
        assert_eq!(limits.admit(0, None, mapped).unwrap_err(), Refused::Address, "the same in IPv6 form");
        let _other = limits.admit(0, None, IpAddr::from([192, 0, 3, 1])).unwrap();
        let v6 = |text: &str| limits.admit(0, None, text.parse().unwrap());
        let _places = [v6("2001:db8::1").unwrap(), v6("2001:db8::2").unwrap()];
        assert_eq!(v6("2001:db8:0:0:ffff::").unwrap_err(), Refused::Address);
    }

    #[test]
    fn routes_do_not_count_for_each_other() {
        let limits = Limits::new([limits(1, 0, 0), RouteLimits::default(), limits(1, 0, 0)], PrefixLengths::default());
        let _places = [0, 1, 1, 2, 7].map(|route| limits.admit(route, None, address(1)).unwrap());
        for route in [0, 2] {
            assert_eq!(limits.admit(route, None, address(2)).unwrap_err(), Refused::Route);
        }
    }

    #[test]
    fn whoever_is_refused_has_taken_nothing() {
        let limits = one(limits(2, 2, 1));
        let place = limits.admit(0, Some(&subject("ada")), address(1)).unwrap();
        assert_eq!(limits.admit(0, Some(&subject("ada")), address(1)).unwrap_err(), Refused::Address);
        let second = limits.admit(0, Some(&subject("ada")), address(2)).unwrap();
        assert_eq!(limits.admit(0, Some(&subject("bob")), address(3)).unwrap_err(), Refused::Route);
        let live = limits.routes[0].as_ref().unwrap();
        assert_eq!((live.connections.load(Relaxed), live.identities.len(), live.addresses.len()), (2, 1, 2));
        drop((place, second));
        assert!(is_empty(&limits));
    }

    #[test]
    fn a_refusal_says_who_is_too_many_and_when_to_come_back() {
        for (refused, status, kind) in [
            (Refused::Route, 503, "too-many-connections-route"),
            (Refused::Identity, 429, "too-many-connections-identity"),
            (Refused::Address, 429, "too-many-connections-address"),
        ] {
            let problem = Problem::from(refused);
            assert_eq!((problem.status.as_u16(), problem.kind), (status, kind));
            assert_eq!(problem.headers[RETRY_AFTER], TRY_AGAIN);
        }
    }

    #[test]
    fn a_place_is_small() {
        assert_eq!(size_of::<Place>(), 32, "the comment at it says so");
    }

    #[test]
    fn a_crowd_that_has_gone_leaves_no_room_taken() {
        let limits = one(limits(0, 1, 0));
        let places: Vec<_> = (0..20_000)
            .map(|client| limits.admit(0, Some(&subject(&client.to_string())), address(1)).unwrap())
            .collect();
        drop(places);
        let shards = &limits.routes[0].as_ref().unwrap().identities.shards;
        assert!(is_empty(&limits) && shards.iter().all(|shard| shard.lock().unwrap().capacity() <= 64));
    }

    #[test]
    fn threads_that_come_and_go_never_are_more_than_the_limit_and_leave_nothing() {
        let limits = one(limits(3, 2, 2));
        let most = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let (limits, most) = (&limits, &most);
                scope.spawn(move || {
                    for round in 0..5000_u32 {
                        let name = subject(["ada", "bob"][usize::from(thread % 2)]);
                        let Ok(_place) = limits.admit(0, Some(&name), address(thread % 3)) else { continue };
                        let open = limits.routes[0].as_ref().unwrap().connections.load(Relaxed);
                        most.fetch_max(open, Relaxed);
                        if round % 7 == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        assert!(is_empty(&limits) && most.load(Relaxed) <= 3, "{most:?} were in");
    }

    proptest! {
        #[test]
        fn every_limit_holds_and_nobody_is_refused_below_it(
            most in prop::array::uniform3(0_u32..4),
            steps in prop::collection::vec((any::<bool>(), 0_u8..4, 0_u8..3), 0..120),
        ) {
            let limits = one(limits(most[0], most[1], most[2]));
            let mut inside: Vec<(u8, u8, Place)> = Vec::new();
            for (enters, who, from) in steps {
                if !enters && !inside.is_empty() {
                    drop(inside.swap_remove(usize::from(who) % inside.len()));
                    continue;
                }
                // The first of them has no name.
                let name = (who > 0).then(|| subject(&who.to_string()));
                let full = |most: u32, count: usize| most > 0 && count >= most as usize;
                let same = inside.iter().filter(|(other, ..)| *other == who).count();
                let near = inside.iter().filter(|(_, other, _)| *other == from).count();
                let expected = match () {
                    () if who > 0 && full(most[1], same) => Some(Refused::Identity),
                    () if full(most[2], near) => Some(Refused::Address),
                    () if full(most[0], inside.len()) => Some(Refused::Route),
                    () => None,
                };
                let admitted = limits.admit(0, name.as_ref(), address(from));
                prop_assert_eq!(admitted.as_ref().err().copied(), expected);
                inside.extend(admitted.ok().map(|place| (who, from, place)));
            }
            drop(inside);
            prop_assert!(is_empty(&limits));
        }
    }
}
