//! What `[route.split]` takes, and what it refuses.

use crate::config::tests::{file, only, parse};
use crate::edge::split::{By, Place, Split};
use crate::telemetry::Side;

/// A file whose route has both sides, with these lines in its split.
fn both(lines: &str) -> String {
    let split = format!("[route.legacy]\nupstream = \"app\"\n[route.split]\n{lines}");
    file("", "", "", "", &format!("\n{split}"))
}

fn split(lines: &str) -> Split {
    let config = parse(&both(lines)).unwrap_or_else(|problems| panic!("{problems}"));
    Split::clone(config.routes[0].split.as_ref().unwrap())
}

#[test]
fn a_share_alone_is_enough_and_the_rest_has_defaults() {
    let split = split("bridge_percent = 30");
    assert_eq!((split.share, split.seed.as_deref(), split.falls_back), (3000, Some("/chat"), false));
    assert_eq!(split.header.unwrap(), "tidegate-side");
    assert!(split.by.is_empty() && split.rules.is_empty(), "without identities it is the address");
}

#[test]
fn shares_are_read_to_hundredths_of_a_percent() {
    for (text, share) in [("0", 0), ("100", 10_000), ("0.5", 50), ("12.25", 1225), ("100.0", 10_000), ("7.10", 710)] {
        assert_eq!(split(&format!("bridge_percent = {text}")).share, share, "{text}");
    }
    for text in ["101", "-1", "0.001", "1e1", "nan", "100.01", "99999999999"] {
        let told = only(&both(&format!("bridge_percent = {text}")));
        assert!(told.contains("is not a share in percent; write a number from 0 to 100"), "{told}");
    }
    assert!(only(&both("bridge_percent = \"30\"")).contains("must be a number"));
    assert!(only(&both("")).contains("`bridge_percent` is missing in [route.split]"));
}

#[test]
fn clients_are_told_apart_as_the_file_says() {
    let by = |text: &str| split(&format!("bridge_percent = 1\nseed = \"all\"\nby = {text}"));
    assert_eq!(by("\"cookie:sid\"").by, [By::Cookie("sid".to_owned())]);
    assert_eq!(by("[\"cookie:sid\", \"address\"]").by, [By::Cookie("sid".to_owned()), By::Address]);
    assert_eq!(by("\"address\"").seed.as_deref(), Some("all"));
    for text in ["\"cookie:\"", "\"cookie:a b\"", "\"name\"", "[\"adress\"]"] {
        let told = only(&both(&format!("bridge_percent = 1\nby = {text}")));
        assert!(told.contains("cannot stand for a client"), "{told}");
    }
    assert!(only(&both("bridge_percent = 1\nby = \"identity\"")).contains("nobody has an identity"));
}

#[test]
fn a_rule_looks_at_one_thing_and_says_where_to() {
    let rules = "[{ header = \"X-Beta\", equals = \"1\", to = \"bridge\" }, { query = \"side\", to = \"legacy\" }]";
    let split = split(&format!("bridge_percent = 1\nrules = {rules}"));
    assert_eq!(split.rules[0].place, Place::Header("x-beta".parse().unwrap()));
    assert_eq!((split.rules[0].equals.as_deref(), split.rules[0].to), (Some("1"), Side::Bridge));
    assert_eq!((split.rules[1].equals.as_deref(), split.rules[1].to), (None, Side::Legacy));
    let wrong = |rule: &str| only(&both(&format!("bridge_percent = 1\nrules = [{rule}]")));
    for rule in ["to = \"bridge\"", "header = \"a\", cookie = \"b\", to = \"bridge\"", "query = \"\", to = \"bridge\""]
    {
        let told = wrong(&format!("{{ {rule} }}"));
        assert!(told.contains("a rule looks at one of"), "{told}");
    }
    assert!(wrong("{ header = \"a b\", to = \"bridge\" }").contains("is no header"));
    assert!(wrong("{ header = \"a\" }").contains("`to` is missing"));
    assert!(wrong("{ header = \"a\", to = \"new\" }").contains("bridge"));
    assert!(wrong("{ header = \"a\", is = \"b\", to = \"bridge\" }").contains("`is` is not known"));
    assert!(wrong("{ identity = \"ada\", to = \"bridge\" }").contains("nobody has an identity"));
    let many = vec!["{ header = \"a\", to = \"bridge\" }"; 65].join(", ");
    assert!(wrong(&many).contains("65 rules, and 64 are the most"));
}

#[test]
fn both_sides_need_a_split_and_one_side_has_none() {
    let legacy = file("", "", "", "", "\n[route.legacy]\nupstream = \"app\"");
    assert!(only(&legacy).contains("`split` is missing in [[route]]"));
    let one = file("", "", "", "", "\n[route.split]\nbridge_percent = 1");
    assert!(only(&one).contains("`split` has no effect without both"));
}

#[test]
fn the_field_of_the_answer_is_one_that_means_nothing_else() {
    assert_eq!(split("bridge_percent = 1\nheader = \"\"").header, None);
    assert_eq!(split("bridge_percent = 1\nheader = \"X-Side\"").header.unwrap(), "x-side");
    for name in ["Upgrade", "Sec-WebSocket-Accept", "a b"] {
        assert!(only(&both(&format!("bridge_percent = 1\nheader = \"{name}\""))).contains("cannot say which side"));
    }
}
