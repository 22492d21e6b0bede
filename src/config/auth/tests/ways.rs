//! Mistakes in what proves a client, and what is read where there are none.

use crate::access::cookie::Cookies;
use crate::config::Config;
use crate::config::tests::{file, only, parse, problems, repository, told};
use crate::identity::certificate::SubjectFrom;

/// A file with these sections below `[auth]` in front of its listener.
fn auth(lines: &str) -> String {
    file(&format!("[auth]\n{lines}"), "", "", "", "")
}

#[test]
fn an_application_that_is_asked_is_read_with_its_defaults() {
    assert!(parse(&file("", "", "", "", "")).expect("sound").auth.cookie.is_none());
    let least = "cookie = { upstream = \"app\", path = \"/who?x=1\", cookies = [\"sid\"] }";
    let read = |text: &str| {
        let config = parse(&auth(text)).unwrap_or_else(|problems| panic!("{problems}"));
        config.auth.cookie.expect("an application")
    };
    let cookie = read(least);
    assert_eq!((&*cookie.upstream, cookie.path.as_str()), ("app", "/who?x=1"));
    assert_eq!(cookie.cookies, Cookies::Named(vec!["sid".to_owned()]));
    assert_eq!((cookie.rule.subject_header.as_str(), &*cookie.rule.subject_claim), ("tidegate-subject", "sub"));
    assert!(cookie.forward_authorization && cookie.cache.is_zero());
    assert_eq!(read(&least.replace("\"sid\"", "\"*\"")).cookies, Cookies::All);
    let more =
        format!("claims = [\"tenant\"]\n{}", least.replace(" }", ", claim_headers = { tenant = \"X-Tenant\" } }"));
    let rule = read(&more).rule;
    assert_eq!(rule.claims, ["tenant"]);
    assert_eq!(rule.claim_headers, [("tenant".to_owned(), http::HeaderName::from_static("x-tenant"))]);
}

#[test]
fn mistakes_about_the_application_that_is_asked_are_told() {
    let cookie = |lines: &str| {
        let lines = format!("{lines}\nupstream = \"app\"\npath = \"/who\"\ncookies = [\"sid\"]");
        // The first line of a key counts.
        let mut seen = Vec::new();
        let kept = lines.lines().filter(|line| {
            let key = line.split(' ').next().unwrap_or_default();
            let new = !seen.contains(&key);
            seen.push(key);
            new
        });
        only(&auth(&format!("[auth.cookie]\n{}", kept.collect::<Vec<_>>().join("\n"))))
    };
    assert!(cookie("upstream = \"ap\"").contains("there is no upstream `ap`; did you mean \"app\"?"));
    assert!(cookie("path = \"who\"").contains("`who` cannot be a path"));
    assert!(cookie("cookies = []").contains("`cookies` must name at least one"));
    assert!(cookie("cookies = [\"*\", \"a\"]").contains("`*` stands beside other names"));
    assert!(cookie("cookies = [\"a=b\"]").contains("`a=b` is not the name of a cookie"));
    assert!(cookie("subject_header = \"a b\"").contains("`a b` is not the name of a header"));
    assert!(cookie("subject_claim = \"a..b\"").contains("names no member"));
    assert!(cookie("claim_headers = { tenant = \"X-Tenant\" }").contains("`tenant` is not in `claims` of [auth]"));
    assert!(cookie("claim_headers = { tenant = 1 }").contains("must be the name of a header"));
    assert!(cookie("cache = \"11m\"").contains("from \"0s\" to \"10m\""));
    assert!(cookie("cookie = \"a\"").contains("did you mean `cookies`?"));
    let missing = problems(&auth("cookie = {}")).join("\n");
    for key in ["upstream", "path", "cookies"] {
        assert!(missing.contains(&format!("`{key}` is missing in [auth.cookie]")), "{missing}");
    }
}

#[test]
fn client_certificates_need_an_authority_and_tls() {
    let repository = repository();
    std::fs::write(repository.path().join("none.crl"), "").expect("written");
    let crl = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
    std::fs::write(repository.path().join("bad.crl"), crl).expect("written");
    let tls = "tls = { certificate = \"certs/dev.pem\", key = \"certs/dev.key\" }";
    let listener = |auth: &str, lines: &str| {
        let text = file(auth, lines, "", "", "").replace("tls = false", tls);
        Config::parse(&text, "tidegate.toml", repository.path())
    };
    let told = |auth: &str, lines: &str| {
        let problems = listener(auth, lines).expect_err("mistaken");
        assert_eq!(problems.len(), 1, "{problems}");
        problems.iter().map(told).collect::<String>()
    };
    let ca = "client_ca = \"certs/dev.pem\"";
    for (lines, asked, required) in
        [("", false, false), (ca, true, false), ("client_certificate = \"required\"", true, true)]
    {
        let lines = if required { format!("{ca}\n{lines}") } else { lines.to_owned() };
        let config = listener("", &lines).unwrap_or_else(|problems| panic!("{problems}"));
        let clients = config.listeners[0].clients.as_ref();
        assert_eq!(clients.is_some(), asked);
        assert_eq!(clients.is_some_and(|clients| clients.client_auth_mandatory()), required);
    }
    let subject = listener("[auth.mtls]\nsubject = \"san-uri\"", ca).expect("sound").auth.mtls.expect("read").subject;
    assert_eq!(subject, SubjectFrom::Uri);

    assert!(told("[auth.mtls]", "").contains("no listener asks clients for a certificate"));
    assert!(told("[auth.mtls]", "client_ca = \"no.pem\"").contains("no.pem"), "and nothing of a listener that asks");
    assert!(told("", "client_certificate = \"required\"").contains("has no effect without `client_ca`"));
    assert!(told("", "client_crl = \"none.crl\"").contains("has no effect without `client_ca`"));
    assert!(told("", &format!("{ca}\nclient_crl = \"none.crl\"")).contains("there is no revocation list in"));
    assert!(told("", &format!("{ca}\nclient_crl = \"bad.crl\"")).contains("`client_crl` cannot be used"));
    assert!(told("", &format!("{ca}\nclient_certificate = \"maybe\"")).contains("\"optional\" or \"required\""));
    assert!(only(&file("", ca, "", "", "")).contains("`client_ca` has no effect without TLS"));
}
