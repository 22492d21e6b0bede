//! The sides of many clients.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn split(share: u16) -> Split {
    let by = vec![By::Identity, By::Cookie("sid".to_owned())];
    Split { share, by, seed: Some("chat".into()), rules: Vec::new(), header: None, falls_back: false }
}

fn side_of(split: &Split, subject: &str) -> Side {
    let fields = HeaderMap::new();
    split.turn(&Asking { fields: &fields, query: None, subject: Some(subject), net: NOBODY }).side
}

fn turn(split: &Split, fields: &[(&'static str, &str)], query: Option<&str>, net: IpAddr) -> Turn {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    split.turn(&Asking { fields: &map, query, subject: None, net })
}

fn on_the_bridge(split: &Split) -> Vec<String> {
    let clients = (0..1000).map(|client| format!("client-{client}"));
    clients.filter(|client| side_of(split, client) == Side::Bridge).collect()
}

#[test]
fn a_thousand_identities_land_as_the_share_says_and_nobody_moves_back_when_it_grows() {
    let (none, third, most, all) = (split(0), split(3000), split(6000), split(BUCKETS));
    let before = on_the_bridge(&third);
    assert!((270..=330).contains(&before.len()), "{} of 1000 at 30 %", before.len());
    assert_eq!(before, on_the_bridge(&third), "the same each time");
    let after = on_the_bridge(&most);
    assert!((570..=630).contains(&after.len()), "{} of 1000 at 60 %", after.len());
    assert!(before.iter().all(|client| after.contains(client)));
    assert_eq!((on_the_bridge(&none).len(), on_the_bridge(&all).len()), (0, 1000));
}

/// Computed with another program: `printf 'chat\0identity\0ada' | sha256sum`.
#[test]
fn the_draw_is_the_one_that_the_manual_describes() {
    assert_eq!(bucket("chat", "identity", "ada"), 1492);
    assert_eq!(bucket("", "address", "10.0.0.1"), 3325);
}

#[test]
fn routes_with_seeds_of_their_own_draw_apart_and_with_one_seed_alike() {
    let other = Split { seed: Some("news".into()), ..split(3000) };
    let (one, both) = (on_the_bridge(&split(3000)), on_the_bridge(&other));
    let shared = one.iter().filter(|client| both.contains(client)).count();
    assert!((50..=140).contains(&shared), "{shared} of 1000 are on the bridge of both, about 90 would be by chance");
}

#[test]
fn who_has_no_identity_is_known_by_cookie_and_then_by_address() {
    let split = split(5000);
    let address = |last: u8| IpAddr::from([10, 0, 0, last]);
    let sides = |sid: &str| {
        let field = format!("theme=dark; sid={sid}");
        let side = |last| turn(&split, &[("cookie", &field)], None, address(last)).side;
        let first = side(1);
        assert!((2..20).all(|last| side(last) == first), "the address does not matter beside a cookie");
        first
    };
    assert!((0..20).any(|sid| sides(&sid.to_string()) == Side::Bridge));
    assert!((0..20).any(|sid| sides(&sid.to_string()) == Side::Legacy));
    let by_address: Vec<_> =
        (0..20).map(|last| turn(&split, &[("cookie", "sid=")], None, address(last)).side).collect();
    assert!(by_address.contains(&Side::Bridge) && by_address.contains(&Side::Legacy), "an empty cookie is none");
}

#[test]
fn rules_come_first_and_the_first_that_is_met_decides() {
    let rule = |place, equals: Option<&str>, to| Rule { place, equals: equals.map(str::to_owned), to };
    let rules = vec![
        rule(Place::Header(HeaderName::from_static("x-beta")), Some("1"), Side::Bridge),
        rule(Place::Cookie("ws".to_owned()), Some("old"), Side::Legacy),
        rule(Place::Query("side".to_owned()), None, Side::Bridge),
        rule(Place::Identity, Some("ada"), Side::Bridge),
    ];
    let split = Split { rules, ..split(0) };
    let by_rule = |side| Turn { side, reason: Reason::Rule };
    let by_share = Turn { side: Side::Legacy, reason: Reason::Share };
    assert_eq!(turn(&split, &[("x-beta", "0"), ("x-beta", "1")], None, NOBODY), by_rule(Side::Bridge));
    assert_eq!(turn(&split, &[("x-beta", "10")], None, NOBODY), by_share);
    assert_eq!(turn(&split, &[("cookie", "a=b;ws=old")], Some("side"), NOBODY), by_rule(Side::Legacy));
    assert_eq!(turn(&split, &[], Some("a=1&s%69de=x"), NOBODY), by_rule(Side::Bridge));
    assert_eq!(turn(&split, &[], Some("aside=x&"), NOBODY), by_share);
    assert_eq!((side_of(&split, "ada"), side_of(&split, "bob")), (Side::Bridge, Side::Legacy));
}

proptest! {
    /// Whatever a client sends: it has a side, and a larger share never takes it from the bridge.
    #[test]
    fn a_larger_share_takes_nobody_back(
        cookie in "[ -~]{0,40}",
        query in "\\PC{0,20}",
        subject in prop::option::of("\\PC{0,10}"),
        shares in (0..=BUCKETS, 0..=BUCKETS),
    ) {
        let mut fields = HeaderMap::new();
        fields.insert(header::COOKIE, HeaderValue::from_str(&cookie).unwrap());
        let asking = Asking { fields: &fields, query: Some(&query), subject: subject.as_deref(), net: NOBODY };
        let (less, more) = (shares.0.min(shares.1), shares.0.max(shares.1));
        let (before, after) = (split(less).turn(&asking).side, split(more).turn(&asking).side);
        prop_assert!(before == Side::Legacy || after == Side::Bridge);
    }
}
