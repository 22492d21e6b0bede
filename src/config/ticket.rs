//! `[ticket]`: how tickets are signed, how long they live, and to whom they are issued.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::field::{Field, Located};
use super::names;
use super::pem::Files;
use super::problem::{line_number, quote};
use super::reader::TableReader;
use super::report::Report;
use super::secret::{self, KeyEntry, key_list};
use crate::access::ticket::{Settings, Store};
use crate::edge::settings::{Listener, Route};
use crate::identity::key::SignKey;
use crate::identity::ticket::pass::MAX_PASS;
use crate::identity::ticket::{MAX_LIFETIME, sign_key};
use crate::identity::{Algorithm, Way};

/// What tickets may be signed with: both are short, and made and checked in microseconds.
const ALGORITHMS: [(&str, Algorithm); 2] = [("HS256", Algorithm::HS256), ("EdDSA", Algorithm::EdDSA)];
const LIFETIME: RangeInclusive<Duration> = Duration::from_secs(1)..=MAX_LIFETIME;
const LEEWAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(1);
/// Each costs about 100 bytes, and what is spent must be remembered until it expires.
const SPENT: RangeInclusive<u64> = 1_000..=100_000_000;
const PER_MINUTE: RangeInclusive<u64> = 1..=1_000_000;

/// The section.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) settings: Settings,
    /// Whether there are keys that others can have as well, be they ones with problems.
    pub(super) shared: bool,
    /// Where each of `issue_to` stands.
    issue_to: Vec<Located<Way>>,
}

/// Reads the section; `has_redis` is whether there is a `[redis]`.
pub(super) fn read(mut table: TableReader<'_>, has_redis: bool, files: Files<'_>) -> Ticket {
    let defaults = Settings::default();
    let keys = table.field("keys");
    // A list with nothing but mistakes is not one that was left out.
    let shared = keys.as_ref().and_then(Field::items).is_some_and(|items| !items.is_empty());
    let keys = keys.map(|field| key_list(&table, &field, "ticket.keys", &ALGORITHMS, true, files));
    let issue_to = issue_to(&mut table);
    let settings = Settings {
        keys: keys.unwrap_or_default().iter().filter_map(key).collect(),
        lifetime: table.duration("lifetime", defaults.lifetime, LIFETIME),
        leeway: table.duration("leeway", defaults.leeway, LEEWAY),
        issue_to: issue_to.as_ref().map(|ways| ways.iter().map(|way| way.value).collect()),
        bind_origin: table.flag("bind_origin", defaults.bind_origin),
        bind_address: table.flag("bind_address", defaults.bind_address),
        param: param(&mut table).unwrap_or(defaults.param),
        store: table.one_of("store", defaults.store, &[("memory", Store::Memory), ("redis", Store::Redis)]),
        max_spent: table.integer("max_spent", defaults.max_spent, SPENT),
        per_identity: per_minute(&mut table, "per_identity", defaults.per_identity),
        per_address: per_minute(&mut table, "per_address", defaults.per_address),
        pass: table.duration("pass", defaults.pass, Duration::ZERO..=MAX_PASS),
    };
    if settings.store == Store::Redis && !shared {
        let message = "a store that several gateways share needs keys that they share";
        let help = "write keys = [{ id = \"k1\", algorithm = \"HS256\", file = \"ticket.secret\" }], the same for all";
        table.report().wrong(table.span("store"), message, help);
    }
    if settings.store == Store::Redis && !has_redis {
        let message = "nothing is said about the Redis that used tickets are to be remembered in";
        let help = "write [redis] with url = \"redis://127.0.0.1:6379\", or take `store` out";
        table.report().absent(table.span("store"), message, help);
    }
    if has_redis && shared && table.span("store").is_none() {
        let message = "with [redis] and keys of its own, [ticket] must say its `store`";
        let help = "write store = \"redis\": otherwise each gateway lets the same ticket in once; or store = \"memory\" for one alone";
        table.report().wrong(table.span("keys"), message, help);
    }
    table.finish();
    Ticket { settings, shared, issue_to: issue_to.unwrap_or_default() }
}

/// Reports ways to get a ticket that no section prepares: `known` are those that have one.
pub(super) fn check_ways(ticket: &Ticket, known: &[Way], report: &Report) {
    for way in ticket.issue_to.iter().filter(|way| !known.contains(&way.value)) {
        let name = way.value.label();
        let message = format!("nobody gets a ticket by {}: there is no [auth.{name}]", quote(name));
        report.absent(Some(way.span.clone()), message, format!("write [auth.{name}], or take it out"));
    }
}

/// Reports a route that takes tickets which no listener issues.
pub(super) fn check_issued(listeners: &[Located<Listener>], routes: &[Located<Arc<Route>>], report: &Report) {
    if listeners.is_empty() || listeners.iter().any(|listener| listener.value.ticket_path.is_some()) {
        return;
    }
    if let Some(route) = routes.iter().find(|route| route.value.auth.takes(Way::Ticket)) {
        let message = format!("{} takes tickets, and no listener issues any", quote(&route.value.path));
        let help = "give a listener a `ticket_path`, or [ticket] the keys of whoever makes them";
        report.wrong(Some(route.span.clone()), message, help);
    }
}

/// Reports routes that would never be asked, because tickets are issued at their path.
pub(super) fn check_paths(
    listeners: &[Located<Listener>],
    routes: &[Located<Arc<Route>>],
    text: &str,
    report: &Report,
) {
    for route in routes {
        let issues = |listener: &&Located<Listener>| listener.value.ticket_path.as_ref() == Some(&route.value.path);
        if let Some(listener) = listeners.iter().find(issues) {
            let (path, line) = (quote(&route.value.path), line_number(text, listener.span.start));
            let message = format!("{path} is where the listener in line {line} issues tickets");
            report.wrong(Some(route.span.clone()), message, "change the path, or `ticket_path` of the listener");
        }
    }
}

fn key(entry: &KeyEntry<'_>) -> Option<SignKey> {
    let id = entry.id.as_ref().map(secret::shared)?;
    sign_key(id, entry.algorithm, entry.material.expose_secret())
        .map_err(|error| {
            entry.field.wrong(
                format!("this is no key for tickets: {error}"),
                "make one: openssl genpkey -algorithm ed25519, or openssl rand -hex 32 for HS256",
            );
        })
        .ok()
}

fn issue_to(table: &mut TableReader<'_>) -> Option<Vec<Located<Way>>> {
    let help = "write some of \"bearer\", \"cookie\" and \"mtls\", in the order in which they are tried";
    let field = table.field("issue_to")?;
    let texts = field.texts()?;
    if texts.is_empty() {
        field.wrong("`issue_to` is empty, so nobody gets a ticket", help);
    }
    let mut ways: Vec<Located<Way>> = Vec::new();
    for text in texts {
        let way = Way::ALL.into_iter().find(|way| way.label() == text.value && *way != Way::Ticket);
        let message = match way {
            Some(value) if ways.iter().all(|way| way.value != value) => {
                ways.push(Located { value, span: text.span });
                continue;
            }
            Some(_) => format!("{} stands in `issue_to` twice", quote(text.value)),
            None => format!("{} is no way to prove who asks for a ticket", quote(text.value)),
        };
        field.report.wrong(Some(text.span), message, help);
    }
    Some(ways)
}

fn param(table: &mut TableReader<'_>) -> Option<Arc<str>> {
    let text = table.text("param")?;
    if !names::is_parameter(text.value) {
        let message = format!("{} is not the name of a query parameter", quote(text.value));
        table.report().wrong(Some(text.span), message, "write letters, digits, `-`, `.`, `_` or `~`");
        return None;
    }
    Some(text.value.into())
}

fn per_minute(table: &mut TableReader<'_>, key: &'static str, default: NonZeroU32) -> NonZeroU32 {
    let number = table.field(key).and_then(|field| field.integer(PER_MINUTE));
    number.and_then(|number| NonZeroU32::new(u32::try_from(number).ok()?)).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use crate::config::{Config, Problems};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const REST: &str = "[[route]]\npath = \"/\"\nauth = \"none\"\nbridge = { upstream = \"app\", events = \"/e\", messages = \"/m\" }\n[upstream.app]\nendpoints = [\"http://127.0.0.1:9000\"]\n";

    /// A file with these lines in its ticket section and its listener, read where the keys of the tests are.
    fn parse(ticket: &str, listener: &str) -> Result<Config, Problems> {
        let files = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).expect("written");
        write("secret", &format!("{SECRET}\n"));
        write("short", "0123456789abcdef");
        write("ed.pem", &KeyPair::generate_for(&PKCS_ED25519).expect("a key").serialize_pem());
        write("ec.pem", &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key").serialize_pem());
        let text =
            format!("[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n{listener}\n{REST}[ticket]\n{ticket}\n");
        Config::parse(&text, "tidegate.toml", files.path())
    }

    #[track_caller]
    fn only(ticket: &str, listener: &str) -> String {
        let problems = parse(ticket, listener).expect_err(ticket);
        assert_eq!(problems.len(), 1, "{problems}");
        problems.to_string()
    }

    fn key(id: &str, algorithm: &str, file: &str) -> String {
        format!("{{ id = \"{id}\", algorithm = \"{algorithm}\", file = \"{file}\" }}")
    }

    #[test]
    fn keys_are_read_in_their_order_and_never_shown() {
        let keys = format!("keys = [{}, {}]", key("b", "EdDSA", "ed.pem"), key("a", "HS256", "secret"));
        let config = parse(&keys, "").unwrap_or_else(|problems| panic!("{problems}"));
        let settings = config.ticket.as_ref().expect("a section");
        let names: Vec<_> = settings.keys.iter().map(|key| &*key.id).collect();
        assert_eq!(names, ["b", "a"]);
        let shown = format!("{config:?}");
        assert!(shown.contains("lifetime: 30s") && !shown.contains(SECRET) && !shown.contains("48, 49, 50, 51"));
        assert!(parse("", "").expect("sound").ticket.expect("a section").keys.is_empty());
    }

    #[test]
    fn keys_that_cannot_sign_are_told() {
        let keys = |list: &[String]| only(&format!("keys = [{}]", list.join(", ")), "");
        assert!(keys(&[key("a", "HS256", "short")]).contains("has 16 bytes, and HS256 needs 32 at least"));
        assert!(keys(&[key("a", "EdDSA", "ec.pem")]).contains("no Ed25519 private key"));
        assert!(keys(&[key("a", "EdDSA", "secret")]).contains("openssl genpkey -algorithm ed25519"));
        assert!(keys(&[key("a", "RS256", "secret")]).contains("`algorithm` cannot be `RS256`"));
        let twice = [key("a", "HS256", "secret"), key("a", "EdDSA", "ed.pem")];
        assert!(keys(&twice).contains("two keys are called `a`"));
        let nameless = "keys = [{ algorithm = \"HS256\", file = \"secret\" }]";
        assert!(only(nameless, "").contains("`id` is missing"));
    }

    #[test]
    fn several_gateways_need_keys_in_common() {
        let redis = "\n[redis]\nurl = \"redis://127.0.0.1\"";
        let both = format!("store = \"redis\"\nkeys = [{}]", key("a", "HS256", "secret"));
        assert!(parse(&format!("{both}{redis}"), "").is_ok());
        assert!(only(&both, "").contains("nothing is said about the Redis"));
        let unsaid = format!("keys = [{}]{redis}", key("a", "HS256", "secret"));
        assert!(only(&unsaid, "").contains("must say its `store`"));
        assert!(parse(&format!("store = \"memory\"\n{unsaid}"), "").is_ok() && parse(redis, "").is_ok());
        assert!(only(&format!("store = \"redis\"{redis}"), "").contains("needs keys that they share"));
        assert!(only(&format!("store = \"redis\"\nkeys = []{redis}"), "").contains("needs keys that they share"));
    }

    #[test]
    fn what_would_give_nobody_a_ticket_is_told() {
        let cookie = "\n[auth.cookie]\nupstream = \"app\"\npath = \"/who\"\ncookies = [\"sid\"]";
        assert!(parse(&format!("issue_to = [\"cookie\"]{cookie}"), "").is_ok());
        assert!(only("issue_to = [\"cookie\"]", "").contains("there is no [auth.cookie]"));
        let twice = format!("issue_to = [\"cookie\", \"cookie\"]{cookie}");
        assert!(only(&twice, "").contains("`cookie` stands in `issue_to` twice"));
        let taken = |path: &str, ticket: &str| {
            let open = REST.replace("\"none\"", "\"ticket\"").replace("path = \"/\"", "path = \"/chat\"");
            let listener = format!("[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\nticket_path = \"{path}\"\n");
            Config::parse(&format!("{listener}{open}{ticket}{cookie}"), "tidegate.toml", Path::new(""))
        };
        assert!(taken("/t", "").is_ok());
        let told = taken("", "").expect_err("nobody issues any").to_string();
        assert!(told.contains("`/chat` takes tickets, and no listener issues any"), "{told}");
    }

    #[test]
    fn a_ticket_does_not_outlive_its_being_taken_back() {
        assert!(only("lifetime = \"58s\"\n[revocation]\nkeep = \"1m\"", "").contains("`keep` is shorter"));
        assert!(parse("lifetime = \"55s\"\n[revocation]\nkeep = \"1m\"", "").is_ok());
    }

    #[test]
    fn settings_out_of_range_are_told() {
        assert!(only("lifetime = \"11m\"", "").contains("from \"1s\" to \"10m\""));
        assert!(only("leeway = \"2m\"", "").contains("from \"0s\" to \"1m\""));
        assert!(only("issue_to = []", "").contains("nobody gets a ticket"));
        assert!(only("issue_to = [\"ticket\"]", "").contains("`ticket` is no way to prove"));
        assert!(only("param = \"a&b\"", "").contains("`a&b` is not the name of a query parameter"));
        assert!(only("per_identity = 0", "").contains("from 1 to 1000000"));
        assert!(only("max_spent = 1", "").contains("from 1000 to"));
        assert!(only("store = \"disk\"", "").contains("\"memory\" or \"redis\""));
        for path in ["ticket", "/a?b", "/a b", "/{a}"] {
            let told = only("", &format!("ticket_path = \"{path}\""));
            assert!(told.contains("cannot be the path of a request"), "{told}");
        }
    }

    #[test]
    fn a_listener_issues_tickets_unless_told_not_to() {
        let path = |lines: &str| parse("", lines).expect("sound").listeners.remove(0).ticket_path;
        assert_eq!(path("").as_deref(), Some("/stream-ticket"));
        assert_eq!(path("ticket_path = \"/api/ticket\"").as_deref(), Some("/api/ticket"));
        assert_eq!(path("ticket_path = \"\""), None);
        let told = only("", "ticket_path = \"/\"");
        assert!(told.contains("`/` is where the listener in line 2 issues tickets"), "{told}");
        let without = Config::parse(
            &format!("[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n{REST}"),
            "tidegate.toml",
            Path::new(""),
        );
        assert!(without.expect("sound").ticket.is_none());
    }
}
