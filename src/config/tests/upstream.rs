//! `[upstream]`.

use super::*;

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
