//! What holds for the whole process: `[server]`, `[log]`, `[redis]`, `[revocation]`.

use super::*;
use crate::access::caller::PrefixLengths;

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
fn log_filters_are_checked() {
    let filter = |filter: &str| problems(&file(&format!("[log]\nfilter = \"{filter}\""), "", "", "", "")).join("\n");
    assert_eq!(filter("info,tidegate::bridge=debug,hyper=off"), "");
    assert!(filter("tidegate=loud").contains("`filter` cannot be read"));
    assert!(filter("inof").contains("`inof` in `filter` is no level"));
    assert_eq!(filter("tidegate"), "");
}
