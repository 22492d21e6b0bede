//! Ways to prove who a client is: by the application that knows its cookies, and by a certificate of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Request, request};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tidegate::access::caller::Caller;
use tidegate::access::cookie::Cookie;
use tidegate::config::Config;
use tidegate::identity::{Identity, Way};
use tidegate::protocol::problem::Problem;
use tidegate::upstream::Upstream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::access::Desk;
use crate::support::gateway::{certificates, toml};
use crate::support::upstream::{Answer, field};
use crate::support::{Client, FakeUpstream, TestGateway, must};

type Proven = Result<Option<Identity>, Problem>;

/// Asks this application, with further keys for `[auth]`, `[auth.cookie]` and the upstream, one a line.
fn asking(upstream: &FakeUpstream, auth_keys: &str, cookie_keys: &str, upstream_keys: &str) -> Cookie {
    let plain = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false";
    let route = "[[route]]\npath = \"/chat\"\nauth = \"none\"\nbridge = { upstream = \"app\", events = \"/e\", messages = \"/m\" }";
    let asked = "upstream = \"app\"\npath = \"/session?full=1\"\ncookies = [\"sid\", \"org\"]";
    let text = format!(
        "{plain}\n[upstream.app]\nendpoints = [\"http://{}\"]\n{upstream_keys}\n{route}\n[auth]\n{auth_keys}\n[auth.cookie]\n{asked}\n{cookie_keys}\n",
        upstream.address
    );
    let config = Config::parse(&text, "test.toml", Path::new("/")).unwrap_or_else(|problems| panic!("{problems}"));
    let app = Upstream::new(&config.upstreams[0], &TaskTracker::new(), &CancellationToken::new()).unwrap();
    Cookie::new(config.auth.cookie.unwrap(), Arc::new(app), config.server.prefixes)
}

fn head(target: &str, fields: &[(&str, &str)]) -> request::Parts {
    let request = fields.iter().fold(Request::get(target), |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}

async fn prove_at(cookie: &Cookie, target: &str, fields: &[(&str, &str)]) -> Proven {
    let (head, address) = (head(target, fields), "192.0.2.7".parse().unwrap());
    let (tls, origin, certificate) = (true, Some("https://app.example"), None);
    let caller = Caller { head: &head, host: "app.example", address, tls, origin, certificate };
    must("a proof", cookie.prove(&caller)).await
}

/// Proves a client with this cookie while the application answers like this; also what the application was asked.
async fn prove(cookie: &Cookie, app: &mut FakeUpstream, sid: &str, answer: Answer) -> (Proven, HeaderMap) {
    let cookies = format!("sid={sid}");
    let fields = [("cookie", cookies.as_str())];
    tokio::join!(prove_at(cookie, "/chat", &fields), async {
        let asked = app.next_open().await;
        let fields = asked.head.headers.clone();
        asked.answer(answer);
        fields
    })
}

fn known(subject: &str) -> Answer {
    Answer::status(200).with("tidegate-subject", subject)
}

fn refusal(proven: Proven) -> (u16, &'static str, HeaderMap) {
    let problem = proven.expect_err("a refusal");
    (problem.status.as_u16(), problem.kind, problem.headers)
}

#[tokio::test]
async fn the_application_is_told_what_it_needs_and_nothing_else() {
    let mut app = FakeUpstream::start().await;
    let cookie = asking(&app, "", "", "");
    let fields = [
        ("cookie", "theme=dark; sid=s3cret"),
        ("cookie", "org=7; other=1"),
        ("authorization", "Basic dXNlcg=="),
        ("user-agent", "probe"),
        ("accept-language", "de"),
        ("origin", "https://app.example"),
        ("tidegate-subject", "root"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-uri", "/admin"),
        ("sec-websocket-key", "AAAA"),
    ];
    let (proven, asked) = tokio::join!(prove_at(&cookie, "/chat/7?ticket=t1cket&token=t0ken", &fields), async {
        let asked = app.next_open().await;
        let head = asked.head.clone();
        asked.answer(known("ada"));
        head
    });
    assert_eq!(proven.unwrap().unwrap().subject.as_str(), "ada");
    assert_eq!((asked.method.as_str(), asked.uri.to_string().as_str()), ("GET", "/session?full=1"));
    let told: Vec<_> = asked.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let mut expected = vec![
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("accept-language", "de"),
        ("authorization", "Basic dXNlcg=="),
        ("cache-control", "no-store"),
        ("cookie", "sid=s3cret; org=7"),
        ("forwarded", "for=192.0.2.7;host=app.example;proto=https"),
        ("user-agent", "probe"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-host", "app.example"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-uri", "/chat/7"),
    ];
    let host = app.address.to_string();
    expected.push(("host", &host));
    let sorted = |mut fields: Vec<(&str, &str)>| {
        fields.sort_unstable();
        fields.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    assert_eq!(sorted(told), sorted(expected));
}

#[tokio::test]
async fn without_a_cookie_of_the_application_it_is_not_asked() {
    let mut app = FakeUpstream::start().await;
    let cookie = asking(&app, "", "", "");
    for fields in [&[][..], &[("cookie", "theme=dark")], &[("cookie", "")], &[("authorization", "")]] {
        assert_eq!(prove_at(&cookie, "/chat", fields).await.unwrap(), None, "{fields:?}");
    }
    let silent = asking(&app, "", "forward_authorization = false", "");
    assert_eq!(prove_at(&silent, "/chat", &[("authorization", "Bearer x")]).await.unwrap(), None);
    let twice = [("authorization", "Bearer x"), ("authorization", "Bearer y")];
    let (status, kind, _) = refusal(prove_at(&cookie, "/chat", &twice).await);
    assert_eq!((status, kind), (400, "authorization-repeated"));
    app.assert_untouched();
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn the_answer_names_the_subject_and_its_claims() {
    let mut app = FakeUpstream::start().await;
    let keys = "subject_claim = \"user.id\"\nclaim_headers = { tenant = \"X-Tenant\" }";
    let cookie = asking(&app, "claims = [\"tenant\", \"roles\"]", keys, "");
    let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 600;
    let body = json!({"user": {"id": 42}, "roles": ["crew"], "more": true, "exp": exp}).to_string();
    let answer = Answer::status(200).with("content-type", "application/json").with("x-tenant", "sea").body(body);
    let identity = prove(&cookie, &mut app, "a", answer).await.0.unwrap().unwrap();
    assert_eq!((identity.subject.as_str(), identity.way), ("42", Way::Cookie));
    assert_eq!(json!(identity.claims), json!({"tenant": "sea", "roles": ["crew"]}));
    assert_eq!(identity.expires, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(exp)));
    let body = json!({"user": {"id": 42}, "exp": 1000}).to_string();
    let over = Answer::status(200).with("content-type", "application/json").body(body);
    let (status, kind, _) = refusal(prove(&cookie, &mut app, "a", over).await.0);
    assert_eq!((status, kind), (401, "unauthorized"), "a session that is over is none");
}

#[tokio::test]
async fn whom_the_application_does_not_vouch_for_is_refused() {
    let mut app = FakeUpstream::start().await;
    let cookie = asking(&app, "", "", "breaker = { failures = 1000 }");
    let status = Answer::status;
    let cases = [
        (status(401).with("www-authenticate", "Form"), 401, "unauthorized", "www-authenticate", "Form"),
        (status(403), 403, "forbidden", "", ""),
        (status(429).with("retry-after", "7"), 429, "auth-busy", "retry-after", "7"),
        (status(503).with("retry-after", "9"), 503, "auth-unavailable", "retry-after", "9"),
        (status(503), 503, "auth-unavailable", "retry-after", "1"),
        (status(500), 503, "auth-unavailable", "retry-after", "1"),
        (status(404), 503, "auth-unavailable", "retry-after", "1"),
        (status(204), 503, "auth-unavailable", "retry-after", "1"),
        (known(&"x".repeat(257)), 503, "auth-unavailable", "retry-after", "1"),
        // Followed, it would lead to a page that lets itself be seen by anybody.
        (status(302).with("location", "/login"), 503, "auth-unavailable", "retry-after", "1"),
        (known("ada").body(vec![b' '; 65 * 1024]), 503, "auth-unavailable", "retry-after", "1"),
    ];
    for (answer, expected, word, name, value) in cases {
        let (proven, _) = prove(&cookie, &mut app, "s3cret", answer).await;
        let told = format!("{proven:?}");
        assert!(!told.contains("s3cret"), "{told}");
        let (status, kind, headers) = refusal(proven);
        assert_eq!((status, kind), (expected, word), "{told}");
        if !name.is_empty() {
            assert_eq!(field(&headers, name), value, "{told}");
        }
    }
    app.assert_untouched();
    assert!(prove(&cookie, &mut app, "s3cret", known("ada")).await.0.is_ok(), "no refusal is for ever");
}

#[tokio::test]
async fn an_application_that_is_slow_or_gone_lets_nobody_in() {
    let mut app = FakeUpstream::start().await;
    let cookie = asking(&app, "", "timeout = \"100ms\"", "breaker = { failures = 1000 }");
    let (slow, _held) =
        tokio::join!(prove_at(&cookie, "/chat", &[("cookie", "sid=a")]), async { app.next_open().await.hold() });
    assert_eq!(refusal(slow).1, "auth-unavailable");
    app.kill().await;
    let (status, kind, headers) = refusal(prove_at(&cookie, "/chat", &[("cookie", "sid=a")]).await);
    assert_eq!((status, kind, field(&headers, "retry-after")), (503, "auth-unavailable", "1"));
}

#[tokio::test]
async fn an_application_that_keeps_failing_is_left_alone_for_a_while() {
    let mut app = FakeUpstream::start().await;
    let breaker = "breaker = { failures = 2, open_for = \"1h\", max_open_for = \"1h\" }";
    let cookie = asking(&app, "", "", breaker);
    for _ in 0..2 {
        assert_eq!(refusal(prove(&cookie, &mut app, "a", Answer::status(502)).await.0).0, 503);
    }
    let (status, kind, headers) = refusal(prove_at(&cookie, "/chat", &[("cookie", "sid=a")]).await);
    assert_eq!((status, kind), (503, "auth-unavailable"));
    let wait: u64 = field(&headers, "retry-after").parse().unwrap();
    assert!((60..=3600).contains(&wait), "{wait}");
    app.assert_untouched();
}

#[tokio::test]
async fn an_answer_holds_for_a_while_only_where_that_is_asked_for() {
    let mut app = FakeUpstream::start().await;
    let plain = asking(&app, "", "", "");
    for name in ["ada", "bob"] {
        let identity = prove(&plain, &mut app, "a", known(name)).await.0.unwrap().unwrap();
        assert_eq!(identity.subject.as_str(), name, "asked each time");
    }

    let cached = asking(&app, "", "cache = \"10m\"", "breaker = { failures = 1000 }");
    for refused in [401, 403, 503] {
        assert!(prove(&cached, &mut app, "a", Answer::status(refused)).await.0.is_err(), "no refusal is remembered");
    }
    let first = prove(&cached, &mut app, "a", known("ada")).await.0.unwrap().unwrap();
    let again = prove_at(&cached, "/chat?x=1", &[("cookie", "theme=2; sid=a")]).await.unwrap().unwrap();
    assert_eq!(again, first, "the same cookie of the application, the same answer");
    app.assert_untouched();
    let other = prove(&cached, &mut app, "b", known("bob")).await.0.unwrap().unwrap();
    assert_eq!(other.subject.as_str(), "bob");
    for (target, fields) in [
        ("/other", &[("cookie", "sid=a")][..]),
        ("/chat", &[("cookie", "sid=a"), ("authorization", "Basic eA==")]),
        ("/chat", &[("cookie", "sid=a; org=1")]),
    ] {
        let (proven, ()) = tokio::join!(prove_at(&cached, target, fields), async {
            app.next_open().await.answer(known("cyd"));
        });
        assert_eq!(proven.unwrap().unwrap().subject.as_str(), "cyd", "another question: {target} {fields:?}");
    }

    // What is too large to be kept is asked for again.
    for name in ["eve", "fay"] {
        let large = Answer::status(200).with("tidegate-subject", name).body(vec![b' '; 5000]);
        let identity = prove(&cached, &mut app, "large", large).await.0.unwrap().unwrap();
        assert_eq!(identity.subject.as_str(), name);
    }
}

/// An authority for client certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate of a client, its key and its number.
struct ClientCertificate(CertificateDer<'static>, PrivateKeyDer<'static>, SerialNumber);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str, number: u64) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(number.into());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        ClientCertificate(certificate.der().clone(), key, number.into())
    }

    /// A list of what does not hold any more. It is out of date, and counts all the same.
    fn revoke(&self, revoked: &[&ClientCertificate]) -> String {
        let entry = |revoked: &&ClientCertificate| RevokedCertParams {
            serial_number: revoked.2.clone(),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 1, 2),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

/// A gateway whose listener asks for certificates of `authority`, with further keys and this revocation list.
fn asking_for_certificates(authority: &Authority, listener_keys: &str, revoked: Option<&str>) -> TestGateway {
    guarded_by_certificates("http://127.0.0.1:9", "\"none\"", authority, listener_keys, revoked)
}

/// The same in front of an upstream, with another way to let in.
fn guarded_by_certificates(
    upstream: &str,
    auth: &str,
    authority: &Authority,
    listener_keys: &str,
    revoked: Option<&str>,
) -> TestGateway {
    let files = certificates();
    std::fs::write(files.path().join("clients.pem"), authority.0.pem()).unwrap();
    let mut keys = format!("client_ca = \"clients.pem\"\n{listener_keys}\n");
    if let Some(revoked) = revoked {
        std::fs::write(files.path().join("clients.crl"), revoked).unwrap();
        keys.push_str("client_crl = \"clients.crl\"\n");
    }
    let toml = toml(upstream, "", "")
        .replace("auth = \"none\"", &format!("auth = {auth}"))
        .replace("\n[upstream.app]", &format!("{keys}\n[upstream.app]"));
    TestGateway::from_files(&format!("{toml}\n[auth.mtls]\n"), files)
}

/// TLS settings of a client with this certificate.
fn bearing(gateway: &TestGateway, certificate: Option<&ClientCertificate>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(gateway.certificate().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    Arc::new(match certificate {
        Some(ClientCertificate(certificate, key, _)) => {
            config.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap()
        }
        None => config.with_no_client_auth(),
    })
}

/// Whether a client with this certificate gets an answer, whatever that says.
async fn is_served(gateway: &TestGateway, certificate: Option<&ClientCertificate>) -> bool {
    let config = bearing(gateway, certificate);
    let talk = async {
        let tcp = TcpStream::connect(gateway.address()).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
        stream.write_all(b"GET /nothing HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    // In TLS 1.3 a client learns only after its handshake that it was refused.
    must("an answer or the end", talk).await.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 404 "))
}

#[tokio::test]
async fn a_listener_lets_in_certificates_of_its_authority_that_were_not_revoked() {
    let (authority, stranger) = (Authority::new("clients"), Authority::new("clients"));
    let (ada, bob, eve) = (authority.issue("ada", 1), authority.issue("bob", 2), stranger.issue("ada", 1));
    let list = authority.revoke(&[&bob]);
    for (keys, revoked, none, good, out) in [
        ("", None, true, true, true),
        ("client_certificate = \"optional\"", Some(&*list), true, true, false),
        ("client_certificate = \"required\"", None, false, true, true),
        ("client_certificate = \"required\"", Some(&*list), false, true, false),
        // A list of somebody else says nothing of these, and what is not known to hold does not hold.
        ("", Some(&*stranger.revoke(&[])), true, false, false),
    ] {
        let gateway = asking_for_certificates(&authority, keys, revoked);
        let case = format!("{keys} with a list: {}", revoked.is_some());
        assert_eq!(is_served(&gateway, None).await, none, "no certificate; {case}");
        assert_eq!(is_served(&gateway, Some(&ada)).await, good, "a good one; {case}");
        assert_eq!(is_served(&gateway, Some(&bob)).await, out, "one that may be revoked; {case}");
        assert!(!is_served(&gateway, Some(&eve)).await, "one of another authority with the same name; {case}");
    }
}

#[tokio::test]
async fn a_certificate_lets_in_and_gets_a_ticket_for_others_to_use() {
    let mut upstream = FakeUpstream::start().await;
    let authority = Authority::new("clients");
    let ada = authority.issue("ada", 1);
    let url = format!("http://{}", upstream.address);
    let gateway = guarded_by_certificates(&url, "[\"mtls\", \"ticket\"]", &authority, "", None);
    let (with, without) = (bearing(&gateway, Some(&ada)), bearing(&gateway, None));
    // The second time over a session that is resumed.
    for _ in 0..2 {
        let asking = Client::ask_at(gateway.address(), &with, "/chat", &[]);
        let (client, events) = tokio::join!(asking, async {
            let open = upstream.next_open().await;
            assert_eq!(field(&open.head.headers, "tidegate-subject"), "ada");
            open.accept()
        });
        assert!(client.is_ok());
        drop(events);
    }
    let refused = Client::ask_at(gateway.address(), &without, "/chat", &[]).await.err().unwrap();
    assert!(refused.status == 401 && refused.body.contains("unauthorized"), "{}", refused.body);
    let asked = Desk { address: gateway.address(), tls: without.clone() }.ask_for_ticket(&[], "{}").await;
    assert_eq!((asked.status, asked.kind().as_str()), (401, "unauthorized"));
    let asked = Desk { address: gateway.address(), tls: with }.ask_for_ticket(&[], "{}").await;
    let target = format!("/chat?ticket={}", asked.json()["ticket"].as_str().unwrap());
    let asking = Client::ask_at(gateway.address(), &without, &target, &[]);
    let (client, open) = tokio::join!(asking, async {
        let open = upstream.next_open().await;
        assert_eq!(field(&open.head.headers, "tidegate-subject"), "ada");
        open.accept()
    });
    assert!(client.is_ok());
    drop(open);
}

#[tokio::test]
async fn the_certificate_of_a_trusted_proxy_is_none_of_its_clients() {
    let mut upstream = FakeUpstream::start().await;
    let authority = Authority::new("clients");
    let url = format!("http://{}", upstream.address);
    let trusting = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = guarded_by_certificates(&url, "\"mtls\"", &authority, trusting, None);
    let proxy = bearing(&gateway, Some(&authority.issue("proxy", 1)));
    let fields = [("x-forwarded-for", "203.0.113.9")];
    let refused = Client::ask_at(gateway.address(), &proxy, "/chat", &fields).await.err().unwrap();
    assert_eq!(refused.status, 401);
    upstream.assert_untouched();
    let itself = Client::ask_at(gateway.address(), &proxy, "/chat", &[]);
    let (itself, _events) = tokio::join!(itself, async { upstream.next_open().await.accept() });
    assert!(itself.is_ok(), "it may ask for itself");
}
