//! TLS on both sides: what clients are served with, and how upstreams are spoken to.

use std::sync::Arc;

use futures_util::future::join_all;
use http::Version;
use rcgen::CertifiedKey;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, NamedGroup, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion, version,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::gateway::{certificates, toml};
use crate::support::upstream::Open;
use crate::support::{Client, FakeUpstream, Seen, TestGateway, must};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A client's TLS settings: which certificates it trusts, and which versions it speaks.
fn settings(trusted: &[&str], versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for pem in trusted {
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A TLS handshake with the gateway for this name.
async fn handshake(
    gateway: &TestGateway,
    config: &Arc<ClientConfig>,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(gateway.address()).await.unwrap();
    let name = ServerName::try_from(name).unwrap();
    must("the TLS handshake", TlsConnector::from(config.clone()).connect(name, tcp)).await
}

/// An upstream with a certificate of its own for this name that offers these protocols; also the certificate.
async fn secure_upstream(name: &str, protocols: &[&str]) -> (FakeUpstream, String) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(signing_key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    (FakeUpstream::start_with(Some(TlsAcceptor::from(Arc::new(config))), None).await, cert.pem())
}

/// A gateway in front of an `https` upstream that trusts this certificate.
fn trusting(upstream: &FakeUpstream, certificate: &str, upstream_keys: &str) -> TestGateway {
    let files = certificates();
    std::fs::write(files.path().join("certs/backend.pem"), certificate).unwrap();
    let keys = format!("ca = \"certs/backend.pem\"\n{upstream_keys}");
    TestGateway::from_files(&toml(&format!("https://{}", upstream.address), &keys, ""), files)
}

#[tokio::test]
async fn clients_of_tls_1_2_and_1_3_are_served() {
    let mut upstream = FakeUpstream::start().await;
    let mut gateway = TestGateway::in_front_of(&upstream);
    let certificate = gateway.certificate();
    let (tls12, tls13) = (&version::TLS12, &version::TLS13);
    for (versions, expected) in [(tls12, ProtocolVersion::TLSv1_2), (tls13, ProtocolVersion::TLSv1_3)] {
        gateway.tls = settings(&[&certificate], &[versions]);
        let stream = handshake(&gateway, &gateway.tls, "localhost").await.unwrap();
        let connection = stream.get_ref().1;
        assert_eq!(connection.protocol_version(), Some(expected));
        assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
        if expected == ProtocolVersion::TLSv1_3 {
            let group = connection.negotiated_key_exchange_group().unwrap().name();
            assert_eq!(group, NamedGroup::X25519MLKEM768, "the hybrid exchange is preferred");
        }
        let (mut client, events) =
            tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
        events.send("data: tide\n\n").await;
        assert_eq!(client.next().await, Seen::text("tide"));
        client.text("rising").await;
        upstream.next_post().await.accept();
    }
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_any_other_the_first() {
    let files = certificates();
    let mut pems = Vec::new();
    for (at, names) in [&["one.example", "127.0.0.1"][..], &["two.example", "*.two.example"]].into_iter().enumerate() {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(files.path().join(format!("{at}.pem")), cert.pem()).unwrap();
        std::fs::write(files.path().join(format!("{at}.key")), signing_key.serialize_pem()).unwrap();
        pems.push(cert.pem());
    }
    let both = "[{ certificate = \"0.pem\", key = \"0.key\" }, { certificate = \"1.pem\", key = \"1.key\" }]";
    let upstream = FakeUpstream::start().await;
    let toml = toml(&format!("http://{}", upstream.address), "", "")
        .replace("{ certificate = \"certs/dev.pem\", key = \"certs/dev.key\" }", both);
    let gateway = TestGateway::from_files(&toml, files);
    for (name, expected) in [
        ("one.example", Some(0)),
        ("two.example", Some(1)),
        ("TWO.example", Some(1)),
        ("a.two.example", Some(1)),
        ("127.0.0.1", Some(0)),
        ("other.example", None),
        ("a.b.two.example", None),
    ] {
        // Each is trusted alone: it is the one that must be shown.
        for (at, pem) in pems.iter().enumerate() {
            let connected = handshake(&gateway, &settings(&[pem], rustls::DEFAULT_VERSIONS), name).await;
            assert_eq!(connected.is_ok(), expected == Some(at), "{name} with certificate {at}: {:?}", connected.err());
            if let (Err(error), None, 0) = (connected, expected, at) {
                assert!(error.to_string().contains("one.example"), "{name} is not shown the first: {error}");
            }
        }
    }
}

#[tokio::test]
async fn an_https_upstream_is_spoken_to_in_the_version_that_it_picks() {
    for (offered, keys, spoken) in [
        (&["h2", "http/1.1"][..], "", Version::HTTP_2),
        (&["http/1.1"], "", Version::HTTP_11),
        (&[], "", Version::HTTP_11),
        (&["h2", "http/1.1"], "protocol = \"http1\"", Version::HTTP_11),
        (&["h2"], "protocol = \"http2\"", Version::HTTP_2),
    ] {
        let (mut upstream, certificate) = secure_upstream("127.0.0.1", offered).await;
        let gateway = trusting(&upstream, &certificate, keys);
        let mut clients = Vec::new();
        for _ in 0..2 {
            let (mut client, events) = tokio::join!(Client::connect(&gateway), async {
                let open = upstream.next_open().await;
                assert_eq!(open.head.version, spoken, "{offered:?} {keys}");
                open.accept()
            });
            events.send("data: tide\n\n").await;
            assert_eq!(client.next().await, Seen::text("tide"));
            client.text("rising").await;
            let post = upstream.next_post().await;
            assert_eq!((post.head.version, post.text()), (spoken, "rising"));
            post.accept();
            clients.push((client, events));
        }
        if spoken == Version::HTTP_2 {
            assert_eq!(upstream.connections(), 1, "streams and POSTs share a connection");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_prove_itself_is_502_and_hears_nothing() {
    let (mut upstream, certificate) = secure_upstream("127.0.0.1", &["http/1.1"]).await;
    let (mut misnamed, its_certificate) = secure_upstream("backend.example", &["http/1.1"]).await;
    for (gateway, why) in [
        (trusting(&upstream, &its_certificate, ""), "another authority"),
        (trusting(&misnamed, &its_certificate, ""), "another name"),
        (trusting(&upstream, &certificate, "protocol = \"http2\""), "no HTTP/2"),
        (TestGateway::in_front_of(&upstream), "no TLS"),
    ] {
        let refusal = Client::ask(&gateway, "/chat", &[]).await.err().expect("a refusal");
        assert_eq!(refusal.status, 502, "{why}");
        assert!(!refusal.body.contains("ertificate"), "clients are told nothing of upstream: {}", refusal.body);
        upstream.assert_untouched();
        misnamed.assert_untouched();
    }
}

#[tokio::test]
async fn streams_that_share_connections_get_more_of_them_and_leave_room_for_posts() {
    const CLIENTS: usize = 12;
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "protocol = \"http2\"\nmax_streams_per_connection = 4", "");
    let connecting = join_all((0..CLIENTS).map(|_| Client::connect(&gateway)));
    let (mut clients, streams) = tokio::join!(connecting, async {
        let mut streams = Vec::new();
        for _ in 0..CLIENTS {
            let open: Open = upstream.next_open().await;
            assert_eq!(open.head.version, Version::HTTP_2);
            streams.push(open.accept());
        }
        streams
    });
    assert_eq!(upstream.connections(), 4, "three streams on each, and a place for POSTs");

    join_all(clients.iter_mut().map(|client| client.text("all at once"))).await;
    let mut posts = Vec::new();
    for _ in 0..CLIENTS {
        posts.push(upstream.next_post().await);
    }
    assert!(upstream.connections() <= 6, "POSTs share connections as well: {}", upstream.connections());
    for post in posts {
        assert_eq!((post.head.version, post.text()), (Version::HTTP_2, "all at once"));
        post.accept();
    }
    for events in &streams {
        events.send("data: tide\n\n").await;
    }
    for client in &mut clients {
        assert_eq!(client.next().await, Seen::text("tide"));
    }

    // Places that are free again are used again.
    let before = upstream.connections();
    for (client, events) in clients.into_iter().zip(streams) {
        client.vanish();
        events.cancelled().await;
    }
    let (mut client, events) = tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    events.send("data: again\n\n").await;
    assert_eq!(client.next().await, Seen::text("again"));
    assert_eq!(upstream.connections(), before);
}

#[tokio::test]
async fn a_burst_stays_below_the_number_of_streams_that_upstream_allows() {
    const CLIENTS: usize = 30;
    let mut upstream = FakeUpstream::start_with(None, Some(10)).await;
    // A stream above the limit would wait, and take every POST behind it along.
    let gateway = TestGateway::with(&upstream, "protocol = \"http2\"", "");
    let connecting = join_all((0..CLIENTS).map(|_| Client::connect(&gateway)));
    let (mut clients, _streams) = tokio::join!(connecting, async {
        let mut streams = Vec::new();
        for _ in 0..CLIENTS {
            streams.push(upstream.next_open().await.accept());
        }
        streams
    });
    join_all(clients.iter_mut().map(|client| client.text("all at once"))).await;
    for _ in 0..CLIENTS {
        upstream.next_post().await.accept();
    }
}
