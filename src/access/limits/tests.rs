//! Limits on live connections: who is let in, who is not, and what is left of it afterwards.

use proptest::prelude::*;

use super::*;

fn limits(connections: u32, per_identity: u32, per_address: u32) -> RouteLimits {
    let [connections, per_identity, per_address] = [connections, per_identity, per_address].map(NonZeroU32::new);
    RouteLimits { connections, per_identity, per_address }
}

fn one(limits: RouteLimits) -> Limits {
    Limits::new([("chat".into(), limits)], PrefixLengths::default())
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
        .map(|route| &route.live)
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
    let limits = Limits::new([("chat".into(), limits(0, 0, 2))], PrefixLengths { v4: 24, v6: 64 });
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
    let limits = Limits::new(
        [("a".into(), limits(1, 0, 0)), ("b".into(), RouteLimits::default()), ("c".into(), limits(1, 0, 0))],
        PrefixLengths::default(),
    );
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
    let live = &limits.routes[0].live;
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
        assert_eq!(problem.headers[http::header::RETRY_AFTER], "5");
    }
}

#[test]
fn a_place_is_small() {
    assert_eq!(size_of::<Place>(), 32, "the comment at it says so");
}

#[test]
fn a_crowd_that_has_gone_leaves_no_room_taken() {
    let limits = one(limits(0, 1, 0));
    let places: Vec<_> =
        (0..20_000).map(|client| limits.admit(0, Some(&subject(&client.to_string())), address(1)).unwrap()).collect();
    drop(places);
    let shards = &limits.routes[0].live.identities.shards;
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
                    let open = limits.routes[0].live.connections.load(Relaxed);
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

#[test]
fn connections_that_are_open_count_under_limits_that_come_later() {
    let named = |name: &str, limits| (Arc::from(name), limits);
    let prefixes = PrefixLengths::default();
    let before = Limits::new([named("a", limits(0, 0, 2)), named("b", RouteLimits::default())], prefixes);
    let address = IpAddr::from([10, 0, 0, 1]);
    let first = before.admit(0, None, address).unwrap();
    let other = before.admit(1, None, address).unwrap();
    // The routes have changed places, and the second one is limited now.
    let after = Limits::new([named("b", limits(1, 0, 0)), named("a", limits(0, 0, 1))], prefixes).succeeding(&before);
    assert_eq!(after.admit(1, None, address).unwrap_err(), Refused::Address);
    assert_eq!(after.admit(0, None, address).unwrap_err(), Refused::Route);
    drop((first, other));
    assert!(after.admit(1, None, address).is_ok() && after.admit(0, None, address).is_ok());
}
