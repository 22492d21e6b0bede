//! Whole files: the ones we ship, the ones in the documentation, and one for each kind of mistake.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::access::caller::PrefixLengths;
use crate::access::limits::RouteLimits;
use crate::session::{OverRate, Rate};

const EVERY_KEY: &str = include_str!("../../config/tidegate.toml");
const LOCAL: &str = include_str!("../../config/local.toml");
const MANUAL: &str = include_str!("../../docs/configuration.md");

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n";
const UPSTREAM: &str = "[upstream.app]\nendpoints = [\"http://127.0.0.1:9000\"]\n";
pub(super) const BRIDGE: &str = "[route.bridge]\nupstream = \"app\"\nevents = \"/e\"\nmessages = \"/m\"\n";

/// A directory like the repository: `certs/dev.pem` and `certs/dev.key`, and an empty `config`.
pub(super) fn repository() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    for name in ["certs", "config"] {
        std::fs::create_dir(directory.path().join(name)).expect("made");
    }
    let certificate = params.self_signed(&key).expect("signed").pem();
    std::fs::write(directory.path().join("certs/dev.pem"), certificate).expect("written");
    std::fs::write(directory.path().join("certs/dev.key"), key.serialize_pem()).expect("written");
    directory
}

pub(super) fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, "tidegate.toml", Path::new("/nowhere"))
}

/// `line:column message` of every problem of a file.
pub(super) fn problems(text: &str) -> Vec<String> {
    let Err(problems) = parse(text) else { return Vec::new() };
    let show = |problem: &Problem| match problems.position(problem) {
        Some((line, column)) => format!("{line}:{column} {}", problem.message),
        None => problem.message.clone(),
    };
    problems.iter().map(show).collect()
}

/// A file that is sound but for what is added to its sections.
pub(super) fn file(server: &str, listener: &str, upstream: &str, route: &str, bridge: &str) -> String {
    let route = if route.contains("path") { route.to_owned() } else { format!("path = \"/chat\"\n{route}") };
    format!(
        "{server}\n{LISTENER}{listener}\n{UPSTREAM}{upstream}\n[[route]]\nauth = \"none\"\n{route}\n{BRIDGE}{bridge}\n"
    )
}

/// The messages for a bridge with these lines.
fn bridge(lines: &str) -> String {
    let problems: Vec<_> = parse(&file("", "", "", "", lines)).err().into_iter().collect();
    problems.iter().flat_map(Problems::iter).map(told).collect::<Vec<_>>().join("\n")
}

pub(super) fn told(problem: &Problem) -> String {
    format!("{}; {}", problem.message, problem.help.as_deref().unwrap_or_default())
}

/// The message and help of the only problem of a file.
#[track_caller]
pub(super) fn only(text: &str) -> String {
    let problems = parse(text).expect_err(text);
    assert_eq!(problems.len(), 1, "{problems}");
    problems.iter().map(told).collect()
}

/// The fenced blocks of the manual in a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    MANUAL.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_files_we_ship_are_sound_and_say_the_defaults() {
    let repository = repository();
    let base = repository.path().join("config");
    let every_key = Config::parse(EVERY_KEY, "tidegate.toml", &base).unwrap_or_else(|problems| panic!("{problems}"));
    let local = Config::parse(LOCAL, "local.toml", &base).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(format!("{every_key:#?}"), format!("{local:#?}"));
}

#[test]
fn the_smallest_file_of_the_manual_is_the_local_one() {
    let repository = repository();
    let smallest = blocks("toml").into_iter().next().expect("a block");
    let smallest = Config::parse(smallest, "manual", repository.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let local = Config::parse(LOCAL, "local.toml", &repository.path().join("config")).expect("sound");
    assert_eq!(format!("{smallest:#?}"), format!("{local:#?}"));
}

#[test]
fn a_file_is_loaded_with_paths_relative_to_it() {
    let repository = repository();
    let path = repository.path().join("config/local.toml");
    std::fs::write(&path, LOCAL).expect("written");
    let config = Config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.listeners.iter().filter_map(|listener| listener.tls.as_ref()).map(Vec::len).sum::<usize>(), 1);
    let problems = Config::load(&repository.path().join("none.toml")).expect_err("there is none").to_string();
    assert!(problems.contains("none.toml") && problems.contains("No such file") && problems.contains("help:"));
    std::fs::write(&path, [0xff]).expect("written");
    assert!(Config::load(&path).expect_err("no text").to_string().contains("save the file as UTF-8"));
}

#[test]
fn the_report_in_the_manual_is_what_its_file_gives() {
    let mistaken = blocks("toml").into_iter().next_back().expect("a block");
    let report = blocks("text").into_iter().next_back().expect("a block");
    assert_eq!(parse(mistaken).expect_err("mistaken").to_string(), report);
}

#[test]
fn six_mistakes_give_six_reports_in_one_run() {
    let mistaken = blocks("toml").into_iter().next_back().expect("a block");
    let expected = [
        "2:17 `drain_timeout` must be a duration with its unit, not a whole number",
        "5:11 `localhost:8443` is not an address to listen on",
        "9:14 `http://127.0.0.1:9000/api` is not an endpoint",
        "11:1 `auth` is missing in [[route]]",
        "15:12 there is no upstream `ap`",
        "18:1 `ping_intervall` is not known in [route.bridge]",
    ];
    assert_eq!(problems(mistaken), expected);
}

#[test]
fn every_key_is_in_the_full_file_and_in_the_manual() {
    let keys = keys();
    assert!(keys.len() > 40, "{keys:?}");
    // Lines of the file as `section.key`, the commented-out ones included.
    let (mut section, mut written) = (String::new(), String::new());
    for line in EVERY_KEY.lines() {
        // A section that is commented out is one that need not be there.
        let line = line.trim_start_matches("# ");
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).replace("upstream.app", "upstream");
            // A table may stand under its own header, and is a key all the same.
            writeln!(written, "{section}").expect("a string takes all");
        }
        if let Some((key, value)) = line.split_once(" = ") {
            writeln!(written, "{section}.{key}").expect("a string takes all");
            for inner in value.split(['{', ',']).filter_map(|part| part.trim().split_once(" = ")) {
                writeln!(written, "{section}.{key}.{}", inner.0).expect("a string takes all");
            }
        }
    }
    for key in &keys {
        assert!(written.lines().any(|line| line == key), "{key} is not in config/tidegate.toml");
        let (section, name) = key.rsplit_once('.').expect("section.key");
        let chapter = MANUAL.split("\n## `").find(|chapter| {
            let title = chapter.split('`').next().unwrap_or_default().replace(".NAME", "");
            title.trim_matches(['[', ']']) == section
        });
        let chapter = chapter.unwrap_or_else(|| panic!("[{section}] is not in docs/configuration.md"));
        assert!(chapter.contains(&format!("\n| `{name}` |")), "{key} is not in docs/configuration.md");
    }
}

#[test]
fn http2_on_a_listener_is_read_and_checked() {
    let listener = |keys: &str| file("", &format!("[listener.http2]\n{keys}\n"), "", "", "");
    let config = parse(&listener(
        "enabled = false\nprior_knowledge = true\nmax_resets = 7\nstream_window = \"2MiB\"\nconnection_window = \"3MiB\"",
    ));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let http2 = &config.listeners.first().expect("a listener").http2;
    assert_eq!(
        (http2.enabled, http2.prior_knowledge, http2.max_resets.get(), http2.max_streams),
        (false, true, 7, 100)
    );
    assert_eq!((http2.stream_window, http2.connection_window), (2 << 20, 3 << 20));
    let smaller = only(&listener("stream_window = \"3MiB\""));
    assert!(smaller.contains("`connection_window` is smaller than `stream_window`"), "{smaller}");
    assert!(only(&listener("max_streams = 0")).contains("from 1 to 10000"));
    assert!(only(&listener("pings = 1")).contains("`pings` is not known in [listener.http2]"));
    let route = file("", "", "", "websocket_over_http2 = false", "");
    let config = parse(&route).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.routes.iter().all(|route| !route.websocket_over_http2));
    let native = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n[upstream.app]\nendpoints = [\"http://127.0.0.1:1\"]\n\
                  [[route]]\npath = \"/\"\nauth = \"none\"\nwebsocket_over_http2 = false\nproxy = { upstream = \"app\" }";
    assert!(only(native).contains("`websocket_over_http2` has no effect without `bridge` or `legacy`"));
}

#[test]
fn with_tls_nobody_needs_to_know_beforehand_that_http2_is_spoken() {
    let repository = repository();
    let text =
        format!("{LOCAL}\n").replace("[upstream.app]", "[listener.http2]\nprior_knowledge = true\n[upstream.app]");
    let problems = Config::parse(&text, "local.toml", &repository.path().join("config")).expect_err("has no effect");
    assert!(problems.to_string().contains("`prior_knowledge` has no effect with TLS"), "{problems}");
}

#[test]
fn an_empty_file_is_told_what_is_needed() {
    assert_eq!(problems(""), ["there is no [[listener]]", "there is no [[route]]"]);
    assert_eq!(problems("listener = []\nroute = []\n"), ["1:12 there is no [[listener]]", "2:9 there is no [[route]]"]);
}

#[test]
fn syntax_errors_are_reported_together_with_other_mistakes() {
    let text = "[server]\nthreads\ndrain_timeout = 10s\n[log]\nformat = \"xml\"\n[log]\n";
    let expected = [
        "2:1 key with no value",
        "3:17 string values must be quoted",
        "5:10 `format` cannot be `xml`",
        "6:2 `log` is defined twice",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn a_broken_header_is_all_that_is_said_of_its_table() {
    assert_eq!(problems("[[route]\npath = \"/y\"\n"), ["1:9 unclosed array table"]);
}

#[test]
fn unknown_keys_are_told_with_the_nearest_or_all_known_ones() {
    assert!(only(&file("[server]\nthread = 1", "", "", "", "")).contains("did you mean `threads`?"));
    assert!(
        only(&file("[server]\ncolour = 1", "", "", "", ""))
            .ends_with("known here: drain_timeout, threads, max_memory, ipv4_prefix, ipv6_prefix, trusted_proxies, forwarded, forwarded_host")
    );
    assert!(
        only(&file("[listeners]", "", "", "", ""))
            .contains("`listeners` is not known in the file; did you mean `listener`?")
    );
}

#[test]
fn wrong_types_are_told() {
    assert!(only(&file("server = 1", "", "", "", "")).contains("`server` must be a table"));
    let upstream = problems(&file("upstream = 1", "", "", "", "").replace(UPSTREAM, ""));
    assert!(upstream.concat().contains("1:12 `upstream` must be a table of tables"));
    assert!(bridge("replies = \"yes\"").contains("`replies` must be true or false, not a text"));
    assert!(bridge("close_event = 1").contains("`close_event` must be a text, not a whole number"));
    assert!(bridge("forward_headers = \"a\"").contains("must be a list of texts, not a text"));
    assert!(bridge("forward_headers = [1]").contains("must be a list of texts, and this is a whole number"));
    assert!(bridge("in_flight = 1.5").contains("must be a whole number, not a number with a fraction"));
    assert!(bridge("queue = true").contains("`queue` must be a size, not true"));
    let listener = LISTENER.replace("[[", "[").replace("]]", "]");
    let text = file("", "", "", "", "").replace(LISTENER, &listener);
    assert!(only(&text).contains("write [[listener]], with two brackets"));
    let upstream = file("", "", "", "", "").replace("[upstream.app]", "[upstream]");
    assert!(problems(&upstream).concat().contains("`endpoints` in [upstream] must be a table, not a list"));
}

#[test]
fn values_out_of_range_are_told_with_the_range() {
    assert!(only(&file("[server]\nthreads = 0", "", "", "", "")).contains("from 1 to 1024"));
    assert!(only(&file("[server]\nthreads = -1", "", "", "", "")).contains("from 1 to 1024"));
    assert!(only(&file("[server]\ndrain_timeout = \"2h\"", "", "", "", "")).contains("from \"1s\" to \"1h\""));
    assert!(only(&file("", "max_header_size = \"4KiB\"", "", "", "")).contains("from \"8KiB\" to \"1MiB\""));
    assert!(bridge("in_flight = 65").contains("from 1 to 64"));
    assert!(bridge("in_flight = 99999999999999999999999").contains("from 1 to 64"));
    assert!(bridge("close_timeout = \"61s\"").contains("from \"100ms\" to \"1m\""));
    assert!(bridge("max_message_size = \"65MiB\"").contains("from \"1B\" to \"64MiB\""));
    assert_eq!(bridge("in_flight = 0x40\nqueue = \"1GiB\"\nmax_refusal_body = \"0B\""), "");
}

#[test]
fn numbers_need_their_unit() {
    assert!(bridge("ping_interval = 30").ends_with("write \"30s\""));
    assert!(bridge("ping_interval = \"30\"").ends_with("write \"30s\""));
    assert!(bridge("ping_interval = \"30 s\"").contains("`30 s` is not a duration"));
    assert!(bridge("queue = 4096").ends_with("write \"4096B\""));
    assert!(bridge("queue = \"64KB\"").contains("there is no unit `KB`"));
}

#[test]
fn words_that_are_no_choice_are_told_with_the_choices() {
    assert!(bridge("named_events = \"envelop\"").contains("did you mean \"envelope\"?"));
    assert!(bridge("named_events = \"x\"").ends_with("write \"data\", \"envelope\" or \"ignore\""));
}

#[test]
fn listeners_are_checked() {
    let listener = |lines: &str| {
        let text = file("", "", "", "", "").replace(LISTENER, &format!("[[listener]]\n{lines}\n"));
        problems(&text).join("\n")
    };
    assert!(listener("address = \"127.0.0.1:1\"").contains("2:1 `tls` is missing in [[listener]]"));
    assert!(only(&file("", "", "", "", "").replace("tls = false\n", "")).contains("or tls = false for plain HTTP"));
    assert!(listener("tls = false").contains("2:1 `address` is missing in [[listener]]"));
    assert!(listener("address = \"127.0.0.1:1\"\ntls = true").contains("4:7 `tls` must be a table"));
    assert!(listener("address = \"127.0.0.1:1\"\ntls = []").contains("`tls` names no certificate"));
    assert!(listener("address = \"127.0.0.1:1\"\ntls = [false]").contains("4:8 `tls` must be a table"));
    let one_file = listener("address = \"127.0.0.1:1\"\ntls = { certificate = \"a.pem\", kye = \"a.key\" }");
    assert!(one_file.contains("4:7 `key` is missing in `tls`"), "{one_file}");
    assert!(one_file.contains("4:32 `kye` is not known in `tls`"), "{one_file}");
    let unreadable = listener("address = \"127.0.0.1:1\"\ntls = { certificate = \"a.pem\", key = \"a.key\" }");
    assert!(unreadable.contains("4:23 cannot read `/nowhere/a.pem`"), "{unreadable}");
    assert!(unreadable.contains("4:38 cannot read `/nowhere/a.key`"), "{unreadable}");
}

#[test]
fn two_listeners_with_one_address_are_told() {
    let second = "\n[[listener]]\naddress = \"127.0.0.1:8443\"\ntls = false";
    let text = file("", second, "", "", "").replace("127.0.0.1:0", "127.0.0.1:8443");
    assert_eq!(problems(&text), ["7:11 `127.0.0.1:8443` is taken by the listener in line 3"]);
    assert_eq!(problems(&file("", "\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false", "", "", "")), [""; 0]);
}

#[test]
fn the_admin_listener_is_off_unless_asked_for_and_never_public_by_mistake() {
    let admin = |lines: &str| file(&format!("[admin]\n{lines}"), "", "", "", "");
    let read = |lines: &str| parse(&admin(lines)).unwrap_or_else(|problems| panic!("{problems}")).admin;
    assert!(parse(&file("", "", "", "", "")).expect("sound").admin.is_none());
    let defaults = read("").expect("an admin listener");
    assert_eq!((defaults.address.to_string().as_str(), defaults.expose), ("127.0.0.1:9900", false));
    assert!(defaults.token.is_none());
    assert_eq!(read("address = \"[::1]:0\"").map(|admin| admin.address.port()), Some(0));
    assert_eq!(read("address = \"10.0.0.7:9900\"\nexpose = true").map(|admin| admin.expose), Some(true));
    for address in ["0.0.0.0:9900", "[::]:9900", "10.0.0.7:9900"] {
        let told = only(&admin(&format!("address = \"{address}\"")));
        assert!(told.contains("can be reached from other machines") && told.contains("expose = true"), "{told}");
    }
    assert!(only(&admin("address = \"localhost:9900\"")).contains("is not an address to listen on"));
    assert!(only(&admin("adress = \"127.0.0.1:9900\"")).contains("did you mean `address`?"));
}

#[test]
fn an_admin_listener_in_the_place_of_a_public_one_is_told() {
    let both = |admin: &str, public: &str| problems(&file(admin, "", "", "", "").replace("127.0.0.1:0", public));
    let taken = both("[admin]\naddress = \"127.0.0.1:8443\"", "127.0.0.1:8443");
    assert_eq!(taken, ["2:11 `127.0.0.1:8443` is where the listener in line 4 serves clients"]);
    assert_eq!(
        both("[admin]", "0.0.0.0:9900"),
        ["1:1 `127.0.0.1:9900` is where the listener in line 3 serves clients"]
    );
    assert_eq!(both("[admin]", "127.0.0.1:9901"), [""; 0]);
    assert_eq!(both("[admin]\naddress = \"127.0.0.1:0\"", "127.0.0.1:0"), [""; 0]);
}

#[test]
fn redis_is_a_place_without_credentials_in_it() {
    let redis = |lines: &str| file(&format!("[redis]\n{lines}"), "", "", "", "");
    let read = |lines: &str| parse(&redis(lines)).unwrap_or_else(|problems| panic!("{problems}")).redis.expect("one");
    let told = |lines: &str| only(&redis(lines));
    assert!(parse(&file("", "", "", "", "")).expect("sound").redis.is_none());
    let one = read("url = \"redis://127.0.0.1/3\"\ntimeout = \"1s\"\nprefix = \"gate:\"");
    assert_eq!((one.nodes.len(), one.nodes[0].port, one.database), (1, 6379, 3));
    assert_eq!((one.timeout, one.prefix.as_str()), (Duration::from_secs(1), "gate:"));
    assert_eq!(read("url = [\"redis://a\", \"redis://b:7000\"]\ncluster = true").nodes.len(), 2);
    let secret = told("url = \"redis://ada:HUSH@127.0.0.1\"");
    assert!(secret.contains("`username` and `password`") && !secret.contains("HUSH"), "{secret}");
    assert!(told("cluster = true").contains("`url` is missing in [redis]"));
    assert!(told("url = [\"redis://a\", \"redis://b\"]").contains("cluster = true"));
    assert!(told("url = [\"redis://a\", \"rediss://b\"]\ncluster = true").contains("either all speak TLS or none"));
    assert!(told("url = \"redis://a/1\"\ncluster = true").contains("which has no number"));
    assert!(told("url = \"redis://a\"\nca = \"ca.pem\"").contains("`ca` has no effect"));
    assert!(told("url = \"redis://a\"\nusername = \"gate\"").contains("a user has a name and a password"));
    assert!(told("url = \"redis://a\"\npassword = \"x\"").contains("must be a table"));
    assert!(told("url = \"redis://a\"\npassword = { file = \"none\" }").contains("cannot read `/nowhere/none`"));
    assert!(told("url = \"redis://a\"\nprefix = \"a b\"").contains("cannot be a prefix"));
}

#[test]
fn a_password_of_redis_is_read_from_its_file_and_never_shown() {
    let files = tempfile::tempdir().expect("a directory");
    std::fs::write(files.path().join("password"), "HUSH\n").expect("written");
    let lines = "[redis]\nurl = \"redis://a\"\nusername = \"gate\"\npassword = { file = \"password\" }";
    let config = Config::parse(&file(lines, "", "", "", ""), "f", files.path()).unwrap_or_else(|told| panic!("{told}"));
    let password = config.redis.as_ref().and_then(|redis| redis.password.as_ref()).expect("a password");
    assert_eq!(secrecy::ExposeSecret::expose_secret(password), "HUSH");
    assert!(!format!("{config:?}").contains("HUSH"));
}

#[test]
fn revocations_are_kept_for_a_day_unless_told_otherwise() {
    let revocation = |lines: &str| file(&format!("[revocation]\n{lines}"), "", "", "", "");
    let kept = |lines: &str| parse(&revocation(lines)).expect("sound").revocation;
    assert_eq!((kept("").keep, kept("").max_entries), (Duration::from_hours(24), 100_000));
    assert_eq!(kept("keep = \"720h\"\nmax_entries = 1").max_entries, 1);
    assert!(only(&revocation("keep = \"30s\"")).contains("from \"1m\" to \"720h\""));
}

#[test]
fn a_memory_budget_is_a_size() {
    let budget = |size: &str| file(&format!("[server]\nmax_memory = {size}"), "", "", "", "");
    assert_eq!(parse(&budget("\"2GiB\"")).expect("sound").server.max_memory, Some(2 << 30));
    assert!(only(&budget("\"1MiB\"")).contains("from \"16MiB\" to \"16384GiB\""));
    assert!(only(&budget("2")).contains("must be a size with its unit"));
}

#[test]
fn prefixes_of_addresses_are_numbers_of_bits() {
    let server = |line: &str| file(&format!("[server]\n{line}"), "", "", "", "");
    let prefixes = parse(&server("ipv4_prefix = 24\nipv6_prefix = 56")).expect("sound").server.prefixes;
    assert_eq!((prefixes.v4, prefixes.v6), (24, 56));
    assert_eq!(parse(&server("")).expect("sound").server.prefixes, PrefixLengths { v4: 32, v6: 64 });
    assert!(only(&server("ipv4_prefix = 33")).contains("from 8 to 32"));
    assert!(only(&server("ipv6_prefix = 8")).contains("from 16 to 128"));
}

#[test]
fn limits_of_a_route_are_off_unless_written() {
    let limits = |lines: &str| {
        let config = parse(&file("", "", "", lines, "")).unwrap_or_else(|problems| panic!("{problems}"));
        config.routes.first().expect("one").limits
    };
    assert_eq!(limits(""), RouteLimits::default());
    let most = "limits = { connections = 3, per_identity = 2, per_address = 10000000 }";
    let cookie = "[auth.cookie]\nupstream = \"app\"\npath = \"/who\"\ncookies = [\"sid\"]";
    let text = file(cookie, "", "", most, "").replace("\"none\"", "\"cookie\"");
    let limited = parse(&text).unwrap_or_else(|problems| panic!("{problems}")).routes.first().expect("one").limits;
    let numbers = [limited.connections, limited.per_identity, limited.per_address].map(|most| most.expect("one").get());
    assert_eq!(numbers, [3, 2, 10_000_000]);
    assert!(only(&file("", "", "", most, "")).contains("`per_identity` has no effect with auth = \"none\""));
    let wrong = |lines: &str| only(&file("", "", "", lines, ""));
    assert!(wrong("limits = { connections = 0 }").contains("from 1 to 10000000"));
    assert!(wrong("limits = { per_adress = 1 }").contains("`per_adress` is not known in [route.limits]"));
    assert!(wrong("limits = 3").contains("`limits` must be a table"));
}

#[test]
fn a_rate_has_a_burst_of_one_second_unless_written() {
    let settings = |lines: &str| {
        let config = parse(&file("", "", "", "", lines)).unwrap_or_else(|problems| panic!("{problems}"));
        config.routes.first().expect("one").bridge.clone().expect("one").session.clone()
    };
    let rate = |units, burst| {
        let number = |number| std::num::NonZeroU32::new(number).expect("not zero");
        Some(Rate::per_second(number(units), number(burst)))
    };
    let free = settings("");
    assert_eq!((free.message_rate, free.byte_rate, free.over_rate), (None, None, OverRate::Pause));
    let limited = settings("message_rate = 5\nbyte_rate = \"64KiB\"\nover_rate = \"close\"");
    assert_eq!((limited.message_rate, limited.byte_rate), (rate(5, 5), rate(65_536, 65_536)));
    assert_eq!(limited.over_rate, OverRate::Close);
    let bursts = settings("message_rate = 5\nmessage_burst = 20\nbyte_rate = \"1GiB\"\nbyte_burst = \"1KiB\"");
    assert_eq!((bursts.message_rate, bursts.byte_rate), (rate(5, 20), rate(1 << 30, 1024)));
    assert!(bridge("message_rate = 0").contains("from 1 to 1000000"));
    assert!(bridge("byte_rate = 65536").ends_with("write \"65536B\""));
    assert!(bridge("byte_rate = \"1B\"").contains("from \"1KiB\" to \"1GiB\""));
    assert!(bridge("message_burst = 5").contains("`message_burst` has no effect, because there is no `message_rate`"));
    assert!(bridge("byte_burst = \"1MiB\"").contains("`byte_burst` has no effect"));
    assert!(bridge("message_rate = \"5\"\nmessage_burst = 5").contains("must be a whole number, not a text"));
    assert!(bridge("over_rate = \"drop\"").ends_with("write \"pause\" or \"close\""));
}

#[test]
fn upstreams_are_checked() {
    let endpoints =
        |list: &str| problems(&file("", "", "", "", "").replace("[\"http://127.0.0.1:9000\"]", list)).join("\n");
    assert!(endpoints("[]").contains("`endpoints` must name at least one"));
    assert!(endpoints("[\"ftp://a\"]").contains("`ftp://a` is not an endpoint"));
    assert!(endpoints("[\"http://a\", \"http://a:80\"]").contains("7:26 `http://a:80` stands in `endpoints` twice"));
    assert!(endpoints("[\"http://a\", \"http://a\"]").contains("`http://a` stands in `endpoints` twice"));
    assert!(
        only(&file("", "", "ca = \"ca.pem\"", "", "")).contains("`ca` has no effect, because no endpoint is https")
    );
    let https = file("", "", "ca = \"ca.pem\"", "", "").replace("http:", "https:");
    assert!(only(&https).contains("cannot read `/nowhere/ca.pem`"));
    assert!(endpoints("\"http://a\"").contains("`endpoints` must be a list of endpoints, not a text"));
    assert!(endpoints("[1]").contains("must be a list of texts and tables, not a whole number"));
    assert!(endpoints("[{ weight = 2 }]").contains("`url` is missing in `endpoints`"));
    assert!(endpoints("[{ url = \"http://a\", weight = 0 }]").contains("`weight` is out of range"));
    assert!(endpoints("[{ url = \"http://a/x\" }]").contains("7:22 `http://a/x` is not an endpoint"));
    assert!(endpoints("[\"http://a\", { url = \"http://a\", weight = 2 }]").contains("`http://a` stands in"));
    let lines = |lines: &str| only(&file("", "", lines, "", ""));
    assert!(lines("balance = \"round-robin\"").ends_with("\"least-streams\", \"weighted\" or \"hash\""));
    assert!(lines("reopen_rate = 0").contains("from 1 to 100000"));
    assert!(lines("breaker = { failures = 0 }").contains("from 1 to 1000"));
    assert!(lines("breaker = { open_for = \"40s\" }").contains("`max_open_for` is shorter than `open_for`"));
    assert!(lines("health = {}").contains("`path` is missing in [upstream.app.health]"));
    assert!(lines("health = { path = \"health\" }").contains("`health` cannot be a path"));
    assert!(lines("health = { path = \"/\", kind = \"tcp\" }").contains("\"http\" or \"stream\""));
    let sound = "slow_start = \"0s\"\nhealth = { path = \"/health?deep=1\", kind = \"stream\" }";
    assert_eq!(problems(&file("", "", sound, "", "")), [""; 0]);
    let named = file("", "", "\n[upstream.\"a b\"]\nendpoints = [\"http://a\"]", "", "");
    assert!(only(&named).contains("`a b` cannot be the name of an upstream"));
    let unused = file("", "", "\n[upstream.spare]\nendpoints = [\"http://a\"]", "", "");
    assert_eq!(problems(&unused), [""; 0]);
}

#[test]
fn a_bundle_of_certificates_vouches_for_https_endpoints() {
    let repository = repository();
    let text = file("", "", "ca = \"certs/dev.pem\"", "", "").replace("http:", "https:");
    let config = Config::parse(&text, "f", repository.path()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(
        config.upstreams.iter().filter_map(|upstream| upstream.roots.as_ref()).map(|roots| roots.len()).sum::<usize>(),
        1
    );
}

#[test]
fn routes_are_checked() {
    let route = |lines: &str| only(&file("", "", "", lines, ""));
    assert!(route("path = \"chat\"").contains("`chat` cannot be a path: a path begins with `/`"));
    assert!(route("path = \"/{a\"").contains("`/{a` cannot be a path"));
    assert!(route("host = \"a.io:443\"").contains("a host is written without a port"));
    assert!(route("origins = [\"app.example.com\"]").contains("`app.example.com` is no origin"));
    assert!(
        only(&file("", "", "", "", "").replace("auth = \"none\"\n", "")).contains("auth = \"none\" lets in anybody")
    );
    assert!(
        only(&file("", "", "", "", "").replace("path = \"/chat\"\n", "")).contains("`path` is missing in [[route]]")
    );
    assert!(
        only(&file("", "", "", "", "").replace(BRIDGE, ""))
            .contains("`bridge`, `legacy` or `proxy` is missing in [[route]]")
    );
    let other = only(&file("", "", "", "", "").replace("\"none\"", "\"basic\""));
    assert!(other.contains("`auth` cannot be `basic`") && other.contains("\"ticket\", \"bearer\""), "{other}");
    let auth = |written: &str| problems(&file("", "", "", "", "").replace("auth = \"none\"", written)).join("\n");
    assert!(auth("auth = []").contains("`auth` is empty"));
    assert!(auth("auth = [\"none\", \"ticket\"]").contains("\"none\" stands beside other ways"));
    for way in ["ticket", "bearer", "cookie", "mtls"] {
        assert!(auth(&format!("auth = \"{way}\"")).contains(&format!("nothing is said about `{way}`")));
        assert!(auth(&format!("auth = [\"{way}\"]")).contains(&format!("nothing is said about `{way}`")));
    }
    let mistaken = "[auth.cookie]\nupstream = \"app\"\npath = \"who\"\ncookies = [\"sid\"]";
    let cookie = |auth: &str| file(mistaken, "", "", "", "").replace("\"none\"", auth);
    for auth in ["\"cookie\"", "\"ticket\""] {
        assert!(only(&cookie(auth)).contains("`who` cannot be a path"), "a section with a mistake is one");
    }
    let twice = cookie("[\"ticket\", \"ticket\"]").replace("\"who\"", "\"/who\"");
    assert!(only(&twice).contains("`ticket` stands in `auth` twice"));
    assert!(route("name = \"a/b\"").contains("`a/b` cannot be the name of a route"));
    let twice = format!(
        "path = \"/chat\"\nname = \"chat\"\n{BRIDGE}\n[[route]]\npath = \"/other\"\nauth = \"none\"\nname = \"chat\""
    );
    assert!(problems(&file("", "", "", &twice, "")).join("\n").contains("this route is called `chat`"));
}

#[test]
fn overlapping_routes_are_told_at_the_second_with_the_line_of_the_first() {
    let inline = "bridge = { upstream = \"app\", events = \"/e\", messages = \"/m\" }";
    let second = format!("\n[[route]]\nauth = \"none\"\npath = \"/{{y}}\"\n{inline}");
    let text = file("", "", "", "path = \"/{x}\"", &second);
    assert_eq!(problems(&text), ["19:8 `/{y}` takes the same requests as `/{x}` in line 11"]);
}

#[test]
fn bridges_are_checked() {
    let bare = |text: &str| only(&file("", "", "", "", "").replace(BRIDGE, &format!("[route.bridge]\n{text}")));
    assert!(bare("events = \"/e\"\nmessages = \"/m\"").contains("`upstream` is missing in [route.bridge]"));
    assert!(bare("upstream = \"app\"\nmessages = \"/m\"").contains("`events` is missing in [route.bridge]"));
    let capture = bare("upstream = \"app\"\nmessages = \"/m\"\nevents = \"/{room}\"");
    assert!(capture.contains("`{room}` is not captured") && capture.contains("captures nothing"), "{capture}");
    assert!(bare("upstream = \"zebra\"\nevents = \"/e\"\nmessages = \"/m\"").ends_with("known upstreams: app"));
    assert!(bridge("text_type = \"text\"").contains("`text` is not a media type"));
    assert!(bridge("binary_event = \"\"").contains("a name cannot be empty"));
    assert!(bridge("close_event = \"message\"").contains("the name of ordinary events"));
    assert!(bridge("close_event = \"a\\nb\"").contains("cannot hold a line break"));
    assert!(bridge("close_event = \"tidegate.binary\"").contains("are both `tidegate.binary`"));
    assert!(
        bridge("max_event_field = \"16B\"\nclose_event = \"a.rather.long.name\"")
            .contains("longer than `max_event_field`")
    );
    assert!(bridge("forward_headers = [\"cookie\"]").contains("`forward_cookies`"));
    assert!(bridge("forward_headers = [\"a\", \"A\"]").contains("`A` stands in `forward_headers` twice"));
    assert!(bridge("forward_cookies = [\"a\", \"*\"]").contains("`*` stands beside other names"));
    assert!(bridge("forward_cookies = [\"a=b\"]").contains("`a=b` is not the name of a cookie"));
    assert!(bridge("credential_params = [\"a&b\"]").contains("`a&b` is not the name of a query parameter"));
    assert!(bridge("last_event_id_param = \"token\"").contains("both a credential and the last event id"));
    assert!(bridge("delivery_timeout = \"20s\"").contains("is shorter than `message_timeout`"));
    assert!(bridge("message_timeout = \"2m\"").contains("is shorter than `message_timeout`"));
    let sound = "last_event_id_param = \"\"\nforward_cookies = [\"*\"]\ncredential_params = []\nforward_headers = []";
    assert_eq!(bridge(sound), "");
}

#[test]
fn what_tells_upstream_of_a_client_is_checked() {
    let bridge = |lines: &str| {
        let text = file("[auth]\nclaims = [\"tenant\", \"roles\", \"a\", \"b\"]", "", "", "", lines);
        parse(&text).err().iter().flat_map(Problems::iter).map(told).collect::<Vec<_>>().join("\n")
    };
    assert!(bridge("claim_headers = { tenent = \"X-Tenant\" }").contains("did you mean `tenant`?"));
    assert_eq!(bridge("claim_headers = { tenant = \"X-Tenant\", roles = \"Tidegate-Roles\" }"), "");
    assert!(bridge("claim_headers = [\"tenant\"]").contains("`claim_headers` must be a table of texts, not a list"));
    assert!(bridge("claim_headers = { tenant = 1 }").contains("the header of `tenant` must be a text"));
    let refused = |header: &str| bridge(&format!("claim_headers = {{ tenant = \"{header}\" }}"));
    assert!(refused("Tidegate_Connection").contains("the contract with the backend has a meaning for it"));
    assert!(refused("Transfer-Encoding").contains("a meaning of its own"));
    assert!(refused("X Tenant").contains("not the name of a header"));
    assert!(refused("User_Agent").contains("is also one of `forward_headers`"));
    let twice = bridge("claim_headers = { a = \"X-A\", b = \"x_a\" }");
    assert!(twice.contains("stands in `claim_headers` twice"), "{twice}");
    assert!(bridge("forward_headers = [\"tidegate_subject\"]").contains("sets headers of this kind itself"));
    assert!(bridge("identity_token = true").contains("there is no [identity]"));
    assert!(bridge("last_event_id_param = \"ticket\"\ncredential_params = []").contains("both a credential"));
}

#[test]
fn identity_tokens_need_a_key_that_can_sign() {
    let repository = repository();
    let read = |lines: &str, bridge: &str| {
        let text = file(&format!("[identity]\n{lines}"), "", "", "", bridge);
        Config::parse(&text, "tidegate.toml", repository.path())
    };
    let told_of = |lines: &str| {
        let problems = read(lines, "identity_token = true").expect_err(lines);
        problems.iter().map(told).collect::<Vec<_>>().join("\n")
    };
    let key = "keys = [{ id = \"k1\", algorithm = \"ES256\", file = \"certs/dev.key\" }]";
    let audience = |lines: &str| {
        let config = read(lines, "identity_token = true").unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.identity.as_ref().is_some_and(|signer| signer.jwks().contains("\"kid\":\"k1\"")));
        let secret = std::fs::read_to_string(repository.path().join("certs/dev.key")).expect("a key");
        assert!(!format!("{config:#?}").contains(secret.lines().nth(1).expect("a line")));
        config.routes[0].bridge.as_ref().unwrap().identity_token.clone()
    };
    assert_eq!(audience(key).as_deref(), Some("app"), "the name of the upstream");
    assert_eq!(audience(&format!("{key}\naudience = \"all\"\nlifetime = \"10s\"")).as_deref(), Some("all"));
    let off = read(key, "").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(off.routes[0].bridge.as_ref().unwrap().identity_token, None);
    assert!(told_of("").contains("`keys` is missing in [identity]"));
    assert!(told_of("keys = []").contains("`keys` must name at least one"));
    let other = told_of(&key.replace("ES256", "EdDSA"));
    assert!(other.contains("an Ed25519 key") && other.contains("openssl genpkey -algorithm ed25519"), "{other}");
    assert!(told_of(&key.replace("dev.key", "dev.pem")).contains("not the private key that ES256 needs"));
    assert!(told_of(&key.replace("ES256", "HS256")).contains("`algorithm` cannot be `HS256`"));
    assert!(told_of(&format!("{key}\nlifetime = \"5s\"")).contains("from \"10s\" to \"1h\""));
    assert!(told_of(&format!("{key}\nissuer = \"\"")).contains("`issuer` is empty"));
}

#[test]
fn log_filters_are_checked() {
    let filter = |filter: &str| problems(&file(&format!("[log]\nfilter = \"{filter}\""), "", "", "", "")).join("\n");
    assert_eq!(filter("info,tidegate::bridge=debug,hyper=off"), "");
    assert!(filter("tidegate=loud").contains("`filter` cannot be read"));
    assert!(filter("inof").contains("`inof` in `filter` is no level"));
    assert_eq!(filter("tidegate"), "");
}

proptest! {
    #[test]
    fn a_damaged_file_is_reported_and_never_panics(
        at: usize,
        length in 0_usize..80,
        put in "[\\[\\]{}=.,#\"'\n a-c0-9_-]{0,6}",
    ) {
        let sound = EVERY_KEY.replace("{ certificate = \"../certs/dev.pem\", key = \"../certs/dev.key\" }", "false");
        let start = at % sound.len();
        let end = (start + length).min(sound.len());
        let mut damaged = sound;
        damaged.replace_range(start..end, &put);
        if let Err(problems) = parse(&damaged) {
            prop_assert!(problems.len() > 0);
            prop_assert_eq!(problems.to_string().matches("error: ").count(), problems.len());
            prop_assert!(problems.to_string().contains("tidegate.toml"));
        }
    }
}
